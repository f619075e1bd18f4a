// Command roost is for people and their scripts: it changes and shows what runs
// on Roost (cmd/internal/cli), runs everything on one machine (dev), and says
// what it was built from (version).
//
// But for dev it promises to see the public API and nothing else.
package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"roost/cmd/internal/boot"
	"roost/cmd/internal/cli"
)

func main() { boot.Main("roost", realMain) }

// realMain says itself what is wrong: the CLI has exit codes of its own.
func realMain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if code := cli.Run(ctx, cli.Process(stdout, stderr), args, ownCommands()...); code != boot.ExitOK { //nolint:contextcheck // cobra hands ctx to the command that runs
		return &boot.ExitError{Code: code}
	}
	return nil
}

func ownCommands() []*cobra.Command { return append(newDevCommands(), newVersionCommand()) }
