package dev

import (
	"github.com/spf13/cobra"

	"roost/cmd/internal/boot"
)

// Commands are "dev" and the hidden command that it runs itself under.
func Commands() []*cobra.Command {
	dev := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: Postgres, Owl and Platform",
		Long: "Runs Postgres, Owl and Platform, each a process of its own, until Ctrl-C. One that dies is started\n" +
			"again after 5 s. Each flag is also an environment variable.",
	}
	settings := boot.Bind(dev, Variables())
	dev.RunE = func(command *cobra.Command, _ []string) error {
		return Run(command.Context(), settings(), command.OutOrStdout())
	}
	process := &cobra.Command{
		Use:    ProcessCommand + " NAME",
		Short:  "One of the processes of dev",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return RunProcess(command.Context(), args[0], command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	return []*cobra.Command{dev, process}
}
