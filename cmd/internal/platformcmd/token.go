package platformcmd

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"gorm.io/gorm"

	"roost/api"
	"roost/cmd/internal/boot"
	"roost/models/pg"
	"roost/platform/token"
)

func newTokenCommand(settings func() boot.Settings) *cobra.Command {
	return boot.Group("token", "Make, list and revoke API tokens",
		newTokenCreateCommand(settings),
		&cobra.Command{
			Use:   "revoke ID",
			Short: "Refuse a token from the next request on",
			Args:  cobra.ExactArgs(1),
			RunE: withDatabase(settings, func(command *cobra.Command, db *gorm.DB, args []string) error {
				return token.Revoke(command.Context(), db, args[0])
			}),
		},
		&cobra.Command{
			Use:   "list",
			Short: "List the tokens, without their secrets",
			RunE:  withDatabase(settings, listTokens),
		},
	)
}

func newTokenCreateCommand(settings func() boot.Settings) *cobra.Command {
	var params token.Params
	create := &cobra.Command{
		Use:   "create --workspace NAME",
		Short: "Make a token, and its workspace if that is new; the secret is shown this once",
		PreRunE: func(*cobra.Command, []string) error {
			return checkParams(params)
		},
		RunE: withDatabase(settings, func(command *cobra.Command, db *gorm.DB, _ []string) error {
			secret, _, err := token.Create(command.Context(), db, api.NewMinter(), params)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(command.OutOrStdout(), secret)
			return err
		}),
	}
	flags := create.Flags()
	flags.StringVar(&params.Workspace, "workspace", "", "workspace that the token belongs to")
	flags.StringVar(&params.Scope, "scope", token.ScopeWrite, "read (may only GET) or write")
	flags.DurationVar(&params.TTL, "expires", 0, "how long the token is good for, such as 720h; 0: until it is revoked")
	return create
}

func checkParams(params token.Params) error {
	switch {
	case params.Workspace == "":
		return &boot.UsageError{Err: errors.New("--workspace is required")}
	case params.Scope != token.ScopeRead && params.Scope != token.ScopeWrite:
		return &boot.UsageError{Err: fmt.Errorf("--scope must be %s or %s", token.ScopeRead, token.ScopeWrite)}
	case params.TTL < 0:
		return &boot.UsageError{Err: errors.New("--expires must not be negative")}
	}
	return nil
}

func listTokens(command *cobra.Command, db *gorm.DB, _ []string) error {
	infos, err := token.List(command.Context(), db)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(command.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ID\tWORKSPACE\tSCOPE\tCREATED\tEXPIRES\tREVOKED") // Flush reports
	for _, info := range infos {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", info.ID, info.Workspace, info.Scope,
			info.CreatedAt.UTC().Format(time.RFC3339), instant(info.ExpiresAt), instant(info.RevokedAt))
	}
	return table.Flush()
}

func instant(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// withDatabase runs a command on Platform's database.
func withDatabase(settings func() boot.Settings, run func(*cobra.Command, *gorm.DB, []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		var cfg Config
		if err := settings().Decode(&cfg); err != nil {
			return err
		}
		db, err := cfg.Database().Open(command.Context(), false, newLogger(command))
		if err != nil {
			return err
		}
		return errors.Join(run(command, db, args), pg.Close(db))
	}
}

// Token makes sure that a workspace has a token with this secret, or with a
// new one if secret is empty, and returns the secret.
func Token(ctx context.Context, db *gorm.DB, workspace, secret string) (string, error) {
	secret, _, err := token.Create(ctx, db, api.NewMinter(), token.Params{
		Workspace: workspace, Scope: token.ScopeWrite, Secret: secret,
	})
	return secret, err
}
