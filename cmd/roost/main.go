// Command roost is for people: it runs everything on one machine (dev) and
// says what it was built from (version).
//
// But for dev it promises to see the public API and nothing else.
package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"roost/cmd/internal/boot"
)

func main() { boot.Main("roost", realMain) }

func realMain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return boot.Execute(ctx, newCommand(), args, stdout, stderr) //nolint:contextcheck // cobra hands ctx to the command that runs
}

func newCommand() *cobra.Command {
	root := boot.Group("roost", "Confidential VMs that are safe to create twice")
	root.AddCommand(newVersionCommand())
	root.AddCommand(newDevCommands()...)
	return root
}
