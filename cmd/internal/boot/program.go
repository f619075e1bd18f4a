package boot

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Bind declares the flags of a configuration on a command and all below it,
// and returns how to read the settings once the flags were parsed.
func Bind(command *cobra.Command, variables []Variable) func() Settings {
	flags := command.PersistentFlags()
	BindFlags(flags, variables)
	return func() Settings { return ReadSettings(variables, os.Environ(), flags) }
}

// ConfigCommand prints the effective configuration, also of one that is not
// valid, and fails if it is not. config is a fresh struct to decode into.
func ConfigCommand(settings func() Settings, config Checker) *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Check the configuration and print it, secrets redacted",
		RunE: func(command *cobra.Command, _ []string) error {
			s := settings()
			if err := s.Print(command.OutOrStdout()); err != nil {
				return err
			}
			return s.Decode(config)
		},
	}
}

// MigrateCommand is the group with "up" in it.
func MigrateCommand(settings func() Settings, up func(command *cobra.Command, s Settings) error) *cobra.Command {
	return Group("migrate", "Change the schema of the database", &cobra.Command{
		Use:   "up",
		Short: "Apply the migrations that the database lacks",
		RunE: func(command *cobra.Command, _ []string) error {
			if err := up(command, settings()); err != nil {
				return err
			}
			_, err := fmt.Fprintln(command.OutOrStdout(), "The schema is up to date.")
			return err
		},
	})
}
