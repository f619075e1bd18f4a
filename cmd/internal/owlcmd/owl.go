// Package owlcmd is the command line of the owl binary.
//
// It promises that serve runs on a checked configuration and on a schema that
// is not older than the binary, and that Owl is never reachable from another
// machine without a token and TLS. It never decides what a request means: that
// is package owl.
package owlcmd

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"roost/cmd/internal/boot"
)

// Run is the owl binary without its process.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return boot.Execute(ctx, newCommand(), args, stdout, stderr) //nolint:contextcheck // cobra hands ctx to the command that runs
}

func newCommand() *cobra.Command {
	root := boot.Group("owl", "Roost's internal service, which owns the machines")
	root.Long = "Owl is the internal service of Roost: it owns the machines and hears of them only under IDs\n" +
		"that Platform chose. Each flag is also an environment variable."
	settings := boot.Bind(root, Variables())
	root.AddCommand(
		newServeCommand(settings),
		boot.MigrateCommand(settings, migrate),
		boot.ConfigCommand(settings, &Config{}),
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
