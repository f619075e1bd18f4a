package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// tool is the command line of one process.
type tool struct {
	env   Env
	flags globals

	endpoint string // where requests went, for errors
}

// Run runs one command line and returns the exit code, everything said. extra
// are commands that the program has beside those of this package.
func Run(ctx context.Context, env Env, args []string, extra ...*cobra.Command) int {
	t := &tool{env: env}
	root := t.root(extra) //nolint:contextcheck // cobra hands ctx to the command that runs
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		plainFlags(root)
	}
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	cmd, err := root.ExecuteContextC(ctx)
	return t.report(cmd, err)
}

const rootLong = `Roost runs confidential VMs (CVMs), and every change is safe to repeat: it is made under an idempotency key, and
whenever its outcome is unclear, stderr shows the exact command that does it once, or shows what was done.

Data goes to stdout, everything else to stderr. An endpoint and a token come from --endpoint and --token, or
--context, or ROOST_ENDPOINT and ROOST_TOKEN, or the current context (roost login), in this order. A process that
is killed shows nothing: scripts that must survive that pass --idempotency-key themselves.

Exit codes:
`

func (t *tool) root(extra []*cobra.Command) *cobra.Command {
	root := group("roost", "Confidential VMs that are safe to create twice",
		t.appCommand(), t.cvmCommand(), t.replicaCommand(), t.firewallCommand(), t.operationCommand(), t.keyCommand(),
		t.loginCommand(), t.contextCommand(), t.whoAmICommand(), t.completionCommand())
	for _, cmd := range extra {
		cmd.Args = usageOf(cmd.Args)
	}
	root.AddCommand(extra...)
	root.Long = rootLong + strings.TrimRight(exitTable(), "\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(helpCommand())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%s", flagWords(err)) })
	root.SetUsageTemplate(usageTemplate)
	t.bindGlobals(root)
	return root
}

// usageOf makes wrong arguments of a command from elsewhere a usage error.
func usageOf(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		check = takes()
	}
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil || is[*usageError](err) {
			return err
		}
		return usagef("%s", err)
	}
}

// usageTemplate is cobra's, but for the flags of every command, which are
// explained once.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasParent}}

The flags that every command has: roost --help
{{else}}
{{end}}`

func (t *tool) bindGlobals(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVarP(&t.flags.output, "output", "o", outputTable, "`FORM` of the data: "+strings.Join(outputs(), ", "))
	flags.BoolVarP(&t.flags.quiet, "quiet", "q", false, "IDs alone on stdout, no notes on stderr")
	flags.DurationVar(&t.flags.timeout, "timeout", 0, "give up after this `TIME` (default 2m, with --wait 10m)")
	flags.BoolVar(&t.flags.noRetry, "no-retry", false, "make one attempt and no more")
	flags.BoolVar(&t.flags.trace, "trace", false, "show each HTTP exchange on stderr, secrets redacted")
	flags.StringVar(&t.flags.context, "context", "", "the `CONTEXT` to use instead of the current one")
	flags.StringVar(&t.flags.endpoint, "endpoint", "", "`URL` of Platform, such as https://roost.example.com")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputs(), cobra.ShellCompDirectiveNoFileComp)) // both flags exist
	_ = root.RegisterFlagCompletionFunc("context", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return t.contextNames(cmd, nil, "")
	})
	flags.StringVar(&t.flags.token, "token", "", "the `TOKEN`; the list of processes shows it to others: better set ROOST_TOKEN")
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			meant := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				meant = "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("there is no command %q%s", strings.TrimPrefix(use+" "+args[0], "roost "), meant)
		},
		SuggestionsMinimumDistance: 2, // typing errors
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("name one of the commands of %s: %s", cmd.CommandPath(), strings.Join(commandNames(cmd), ", "))
		},
	}
	g.AddCommand(commands...)
	g.DisableFlagsInUseLine = true
	return g
}

func commandNames(of *cobra.Command) (names []string) {
	for _, cmd := range of.Commands() {
		if cmd.IsAvailableCommand() {
			names = append(names, cmd.Name())
		}
	}
	return names
}

// helpCommand is "help COMMAND", hidden beside --help.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show help", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, _, err := cmd.Root().Find(args)
			if err != nil {
				return usagef("there is no command %q", strings.Join(args, " "))
			}
			return about.Help()
		},
	}
}

// takes checks that there is one argument for each name, and names the one that
// is missing.
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		for i, name := range names {
			if i >= len(args) {
				return usagef("%s is missing", name)
			}
			if args[i] == "" {
				return usagef("%s is empty", name)
			}
		}
		if len(args) > len(names) {
			return usagef("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}
