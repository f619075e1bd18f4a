package owlcmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"

	"github.com/spf13/cobra"

	"roost/cmd/internal/boot"
	"roost/models/pg"
	"roost/owl"
	"roost/owl/driver/sim"
)

func newLogger(command *cobra.Command) *slog.Logger {
	return boot.NewLogger(command.ErrOrStderr(), "owl")
}

func newServeCommand(settings func() boot.Settings) *cobra.Command {
	var migrate bool
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Serve the internal API until told to stop",
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
	tlsConfig, err := cfg.serverTLS()
	if err != nil {
		return fmt.Errorf("OWL_TLS_*: %w", err)
	}
	listener, err := boot.Listen(ctx, "OWL_ADDR", cfg.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // Serve has closed it, unless it was not reached
	db, err := cfg.Database().Open(ctx, migrate, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Close(db)) }()
	driver, err := cfg.newDriver()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	service, err := owl.New(owl.Config{ //nolint:contextcheck // it starts nothing; handlers have their requests' contexts
		DB:           db,
		Driver:       driver,
		Token:        cfg.AuthToken,
		Logger:       log,
		Registry:     boot.NewRegistry(),
		Lease:        cfg.Lease,
		TombstoneTTL: cfg.TombstoneTTL,
	})
	if err != nil {
		return err
	}
	return boot.Serve(ctx, boot.Service{
		Listener: listener, TLS: tlsConfig, Handler: service.Handler(), Logger: log, Run: service.Run,
	})
}

func (c *Config) newDriver() (*sim.Driver, error) {
	var fail *regexp.Regexp
	if c.SimFail != "" {
		var err error
		if fail, err = regexp.Compile(c.SimFail); err != nil {
			return nil, fmt.Errorf("OWL_SIM_FAIL: %w", err)
		}
	}
	driver, err := sim.New(sim.Config{Dir: c.SimDir, Boot: c.SimBoot, Stop: c.SimStop, Fail: fail})
	if err != nil {
		return nil, fmt.Errorf("OWL_SIM_DIR: %w", err)
	}
	return driver, nil
}
