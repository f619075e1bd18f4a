package main

import (
	"github.com/spf13/cobra"

	"roost/cmd/internal/dev"
)

// newDevCommands is the one place of this command that reaches the services.
func newDevCommands() []*cobra.Command { return dev.Commands() }
