package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"roost/cmd/internal/dev"
)

// newDevCommands is the one place of this command that reaches the services.
func newDevCommands() []*cobra.Command {
	commands := dev.Commands()
	for _, command := range commands {
		run := command.RunE
		command.RunE = func(command *cobra.Command, args []string) error { return unlessStopped(command, run(command, args)) }
	}
	return commands
}

// unlessStopped takes a Ctrl-C for the end that everybody wants.
func unlessStopped(command *cobra.Command, err error) error {
	if command.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
