package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// The locker tries every lockPeriod seconds and gives up after lockAttempts.
const (
	lockPeriod   = 1
	lockAttempts = 120
)

// ErrOutdated says that the database lacks migrations that this binary needs.
var ErrOutdated = errors.New("schema is older than this binary")

//go:embed platform/*.sql owl/*.sql
var files embed.FS

// Set is the migrations of one service.
type Set struct{ name string }

// Platform is the schema of the public service.
func Platform() Set { return Set{name: "platform"} }

// Owl is the schema of the internal service.
func Owl() Set { return Set{name: "owl"} }

// Name is "platform" or "owl".
func (s Set) Name() string { return s.name }

// VersionTable is where the database keeps the versions it has.
func (s Set) VersionTable() string { return s.name + "_schema_versions" }

// Hash is a digest over names and contents: equal schemas have equal hashes.
func (s Set) Hash() (string, error) {
	digest := sha256.New()
	names, err := fs.Glob(files, path.Join(s.name, "*.sql"))
	if err != nil {
		return "", fmt.Errorf("hash migrations: %w", err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return "", fmt.Errorf("hash migrations: %w", err)
		}
		_, _ = fmt.Fprintf(digest, "%s %d\n%s", name, len(content), content)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// Up applies what is missing. It waits for another process that does the same,
// and does nothing on a newer schema.
func Up(ctx context.Context, db *sql.DB, set Set, log *slog.Logger) error {
	provider, err := set.provider(db)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", set.name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	applied, err := provider.Up(ctx)
	for _, result := range applied {
		log.LogAttrs(ctx, slog.LevelInfo, "migration applied", slog.String("set", set.name),
			slog.String("file", path.Base(result.Source.Path)), slog.Int64("took_ms", result.Duration.Milliseconds()))
	}
	if err != nil {
		return fmt.Errorf("migrate %s: %w", set.name, err)
	}
	return nil
}

// Check returns an ErrOutdated that names both versions and the command to run,
// unless the database has every migration of this binary. It writes nothing.
func Check(ctx context.Context, db *sql.DB, set Set) error {
	needed, err := set.versions(db)
	if err != nil {
		return fmt.Errorf("check schema of %s: %w", set.name, err)
	}
	applied, err := set.applied(ctx, db)
	if err != nil {
		return fmt.Errorf("check schema of %s: %w", set.name, err)
	}
	for _, version := range needed {
		if !applied.has(version) {
			return fmt.Errorf("%w: the %s database is at version %d and lacks %d, this binary needs %d: run \"%s migrate up\"",
				ErrOutdated, set.name, applied.newest(), version, needed[len(needed)-1], set.name)
		}
	}
	return nil
}

func (s Set) provider(db *sql.DB) (*goose.Provider, error) {
	folder, err := fs.Sub(files, s.name)
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPeriod, lockAttempts))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, folder,
		goose.WithTableName(s.VersionTable()),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
}

// versions are those of the embedded files, ascending.
func (s Set) versions(db *sql.DB) ([]int64, error) {
	provider, err := s.provider(db)
	if err != nil {
		return nil, err
	}
	var versions []int64
	for _, source := range provider.ListSources() {
		versions = append(versions, source.Version)
	}
	if len(versions) == 0 {
		return nil, errors.New("no migrations are embedded")
	}
	return versions, nil
}

type appliedVersions map[int64]bool

func (a appliedVersions) has(version int64) bool { return a[version] }

// newest is 0 on an empty database.
func (a appliedVersions) newest() int64 {
	var newest int64
	for version := range a {
		newest = max(newest, version)
	}
	return newest
}

// applied reads the version table itself: goose would create it.
func (s Set) applied(ctx context.Context, db *sql.DB) (appliedVersions, error) {
	versions := appliedVersions{}
	var exists bool
	if err := db.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", s.VersionTable()).Scan(&exists); err != nil {
		return nil, fmt.Errorf("look for the version table: %w", err)
	}
	if !exists {
		return versions, nil
	}
	rows, err := db.QueryContext(ctx, "SELECT version_id FROM "+pgx.Identifier{s.VersionTable()}.Sanitize()+" WHERE is_applied") //nolint:gosec // a constant name, quoted
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var version int64
		if err := rows.Scan(&version); err != nil {
			return nil, fmt.Errorf("read versions: %w", err)
		}
		versions[version] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return versions, nil
}
