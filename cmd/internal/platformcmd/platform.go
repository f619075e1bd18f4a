// Package platformcmd is the command line of the platform binary.
//
// It promises that serve runs on a checked configuration and on a schema that
// is not older than the binary, that a token's secret is written once, alone,
// to standard output, and that no other command shows one. It never decides
// what a request means: that is package platform.
package platformcmd

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"roost/cmd/internal/boot"
)

// Run is the platform binary without its process.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return boot.Execute(ctx, newCommand(), args, stdout, stderr) //nolint:contextcheck // cobra hands ctx to the command that runs
}

func newCommand() *cobra.Command {
	root := boot.Group("platform", "Roost's public API")
	root.Long = "Platform is the public API of Roost: it owns workspaces, apps and the public view of CVMs,\n" +
		"and keeps every promise made under an Idempotency-Key. Each flag is also an environment variable."
	settings := boot.Bind(root, Variables())
	root.AddCommand(
		newServeCommand(settings),
		boot.MigrateCommand(settings, migrate),
		boot.ConfigCommand(settings, &Config{}),
		newTokenCommand(settings),
		newOrphanCommand(settings),
	)
	return root
}

func migrate(command *cobra.Command, s boot.Settings) error {
	var cfg Config
	if err := s.Decode(&cfg); err != nil {
		return err
	}
	return cfg.Database().Migrate(command.Context(), newLogger(command))
}
