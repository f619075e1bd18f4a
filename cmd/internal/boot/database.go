package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"gorm.io/gorm"

	"roost/models/migrations"
	"roost/models/pg"
)

// Database is one service's database and the schema that it needs.
type Database struct {
	Variable string // names the URL in errors
	URL      string
	App      string // shows in pg_stat_activity
	Schema   migrations.Set
}

// Open opens the database and makes sure of its schema: with migrate it brings
// it up to date first, else an older one is an error that names the command.
func (d Database) Open(ctx context.Context, migrate bool, log *slog.Logger) (*gorm.DB, error) {
	db, err := pg.Open(ctx, pg.Config{URL: d.URL, AppName: d.App}, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Variable, err)
	}
	if err := d.prepare(ctx, db, migrate, log); err != nil {
		return nil, errors.Join(err, pg.Close(db))
	}
	return db, nil
}

func (d Database) prepare(ctx context.Context, db *gorm.DB, migrate bool, log *slog.Logger) error {
	pool, err := db.DB()
	if err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	if migrate {
		if err := migrations.Up(ctx, pool, d.Schema, log); err != nil {
			return err
		}
	}
	return migrations.Check(ctx, pool, d.Schema)
}

// Migrate brings the schema up to date and leaves the database closed.
func (d Database) Migrate(ctx context.Context, log *slog.Logger) error {
	db, err := d.Open(ctx, true, log)
	if err != nil {
		return err
	}
	return pg.Close(db)
}
