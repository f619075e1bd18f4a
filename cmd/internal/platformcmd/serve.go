package platformcmd

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"roost/cmd/internal/boot"
	"roost/models/pg"
	"roost/platform"
)

func newLogger(command *cobra.Command) *slog.Logger {
	return boot.NewLogger(command.ErrOrStderr(), "platform")
}

func newServeCommand(settings func() boot.Settings) *cobra.Command {
	var migrate bool
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Serve the public API until told to stop",
		RunE: func(command *cobra.Command, _ []string) error {
			var cfg Config
			if err := settings().Decode(&cfg); err != nil {
				return err
			}
			return serve(command.Context(), cfg, migrate, newLogger(command))
		},
	}
	serve.Flags().BoolVar(&migrate, "migrate", false, "apply the migrations that the database lacks first")
	return serve
}

func serve(ctx context.Context, cfg Config, migrate bool, log *slog.Logger) (err error) {
	listener, err := boot.Listen(ctx, "PLATFORM_ADDR", cfg.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // Serve has closed it, unless it was not reached
	db, err := cfg.Database().Open(ctx, migrate, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Close(db)) }()
	owl, err := cfg.OwlClient()
	if err != nil {
		return err
	}
	service, err := platform.New(platform.Config{ //nolint:contextcheck // it starts nothing; handlers have their requests' contexts
		DB:                  db,
		Logger:              log,
		Registry:            boot.NewRegistry(),
		OwlURL:              cfg.OwlURL,
		OwlToken:            cfg.OwlToken,
		OwlHTTP:             owl,
		KeyTTL:              cfg.IdempotencyTTL,
		KeyWait:             cfg.KeyWait,
		ProvisionTTL:        cfg.ProvisionTTL,
		ReconcileLease:      cfg.ReconcileLease,
		ReconcileBackoffMax: cfg.ReconcileBackoffMax,
		SweepInterval:       cfg.SweepInterval,
		MaxCVMs:             cfg.MaxCVMs,
		RateLimit:           float64(cfg.RateLimit),
	})
	if err != nil {
		return err
	}
	return boot.Serve(ctx, boot.Service{Listener: listener, Handler: service.Handler(), Logger: log, Run: service.Run})
}
