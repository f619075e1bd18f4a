package cli

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What completion may cost: a person is waiting with a finger on Tab.
const (
	completeTimeout = 2 * time.Second
	completeMax     = 200 // names
)

func (t *tool) completionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command, io.Writer) error{
		"bash":       func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":        (*cobra.Command).GenZshCompletion,
		"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
	}
	how := map[string]string{
		"bash":       "  source <(roost completion bash)          # in ~/.bashrc",
		"zsh":        "  source <(roost completion zsh)           # in ~/.zshrc, after compinit",
		"fish":       "  roost completion fish | source           # in ~/.config/fish/config.fish",
		"powershell": "  roost completion powershell | Out-String | Invoke-Expression   # in $PROFILE",
	}
	cmd := group("completion", "Shell completion, with the names that your workspace has")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		cmd.AddCommand(&cobra.Command{
			Use: shell, Short: "Print the script for " + shell, Example: how[shell], Args: takes(),
			RunE: func(cmd *cobra.Command, _ []string) error { return shells[shell](cmd.Root(), t.env.Out) },
		})
	}
	return cmd
}

// plainFlags takes the marks out of what flags say of themselves: help makes
// the name of a value of them, and a shell would show them as they are.
func plainFlags(cmd *cobra.Command) {
	unmark := func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") }
	cmd.PersistentFlags().VisitAll(unmark)
	cmd.Flags().VisitAll(unmark)
	for _, child := range cmd.Commands() {
		plainFlags(child)
	}
}

// names lists what an argument can be. It is called with little time.
type names func(*session) []string

// completeArgs completes the first argument from the server. It says nothing
// when that fails: a shell would print it into the middle of a line.
func (t *tool) completeArgs(cmd *cobra.Command, list names) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return t.ask(cmd, list), cobra.ShellCompDirectiveNoFileComp
	}
}

func (t *tool) completeFlag(cmd *cobra.Command, flag string, list names) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return t.ask(cmd, list), cobra.ShellCompDirectiveNoFileComp
	}) // fails for a flag that does not exist: the help's golden file shows it
}

// ask makes one quick attempt.
func (t *tool) ask(cmd *cobra.Command, list names) []string {
	quick := &tool{env: t.env, flags: t.flags}
	quick.flags.noRetry, quick.flags.trace = true, false
	quick.env.Err = io.Discard
	where, err := quick.target()
	if err != nil {
		return nil
	}
	c, err := quick.connect(where)
	if err != nil {
		return nil
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background() // cobra gives none to what completes
	}
	ctx, cancel := context.WithTimeout(parent, completeTimeout)
	defer cancel()
	return list(&session{tool: quick, ctx: ctx, cmd: cmd, client: c, target: where})
}

func appNames(s *session) []string {
	var found []string
	for app, err := range s.client.Apps(s.ctx) {
		if err != nil || len(found) == completeMax {
			break
		}
		found = append(found, app.Name+"\t"+app.AppID.String())
	}
	return found
}

// cvmIDs offers IDs, with the name beside: several CVMs may have one name.
func cvmIDs(s *session) []string {
	var found []string
	for cvm, err := range s.client.CVMs(s.ctx) {
		if err != nil || len(found) == completeMax {
			break
		}
		found = append(found, cvm.VMUUID.String()+"\t"+cvm.Name+", "+string(cvm.Status))
	}
	return found
}

func operationIDs(s *session) []string {
	var found []string
	for op, err := range s.client.Operations(s.ctx) {
		if err != nil || len(found) == completeMax {
			break
		}
		found = append(found, op.ID+"\t"+string(op.Kind)+", "+string(op.Status))
	}
	return found
}

// contextNames needs no server.
func (t *tool) contextNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := t.env.readConfig()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cfg.names(), cobra.ShellCompDirectiveNoFileComp
}
