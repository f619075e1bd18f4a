package boot

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// Group is a command that only holds others. Calling it by itself, or with a
// name that it does not hold, is a usage error.
func Group(use, short string, commands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return &UsageError{Err: errors.New("name one of its commands")}
		},
	}
	group.AddCommand(commands...)
	return group
}

// Execute runs a command tree with these arguments and streams.
func Execute(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) error {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &UsageError{Err: err} })
	markUsage(root)
	return root.ExecuteContext(ctx)
}

// markUsage makes a wrong number of arguments a usage error everywhere.
func markUsage(command *cobra.Command) {
	if command.Args == nil {
		command.Args = cobra.NoArgs
	}
	command.Args = usage(command.Args)
	for _, child := range command.Commands() {
		markUsage(child)
	}
}

func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if err := check(command, args); err != nil {
			return &UsageError{Err: err}
		}
		return nil
	}
}
