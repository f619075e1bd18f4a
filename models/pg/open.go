package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// Every session has these limits; a transaction may narrow them for itself.
const (
	// LockTimeout ends a wait for a row with SQLSTATE 55P03.
	LockTimeout = 4 * time.Second
	// StatementTimeout ends a statement with SQLSTATE 57014.
	StatementTimeout = 10 * time.Second
	// IdleInTxTimeout ends a session that holds locks and does nothing: a
	// process that was frozen, or cut off, inside a transaction.
	IdleInTxTimeout = 5 * time.Second
)

// Limits of the pool.
const (
	DefaultMaxConns = 10
	connectTimeout  = 5 * time.Second
	keepAlive       = 15 * time.Second
	maxConnIdle     = 5 * time.Minute
	maxConnLifetime = 30 * time.Minute
)

// Config names a database.
type Config struct {
	// URL is a postgres:// URL or a keyword/value string. It holds a password
	// and must not be logged.
	URL string
	// MaxConns bounds the pool; 0 is DefaultMaxConns.
	MaxConns int32
	// AppName shows in pg_stat_activity; empty leaves what the URL says.
	AppName string
}

// Open opens a pool and checks that the database answers. log hears of slow
// statements and of gorm's own complaints, never of a value. Errors carry
// neither the URL nor the password.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*gorm.DB, error) {
	conn, err := sessionConfig(cfg)
	if err != nil {
		return nil, err
	}
	pool := openPool(conn, cfg.MaxConns)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), pool.Close())
	}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{
		SkipDefaultTransaction: true,
		TranslateError:         true,
		DisableAutomaticPing:   true,
		Logger:                 newQuietLogger(log),
		NowFunc:                func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), pool.Close())
	}
	return db, nil
}

// Close closes the pool; transactions under way fail.
func Close(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	if err := pool.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

func sessionConfig(cfg Config) (*pgx.ConnConfig, error) {
	conn, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		// pgx quotes the string, with the password cut out as far as it could
		// be parsed; do not depend on that.
		return nil, errors.New("open database: the URL is not one of a Postgres database")
	}
	// pgx's own default is two minutes, longer than anybody waits.
	if !strings.Contains(cfg.URL, "connect_timeout") {
		conn.ConnectTimeout = connectTimeout
	}
	conn.DialFunc = (&net.Dialer{KeepAlive: keepAlive}).DialContext
	if cfg.AppName != "" {
		conn.RuntimeParams["application_name"] = cfg.AppName
	}
	conn.RuntimeParams["timezone"] = "UTC"
	conn.RuntimeParams["default_transaction_isolation"] = "read committed"
	conn.RuntimeParams["lock_timeout"] = milliseconds(LockTimeout)
	conn.RuntimeParams["statement_timeout"] = milliseconds(StatementTimeout)
	conn.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(IdleInTxTimeout)
	return conn, nil
}

func openPool(conn *pgx.ConnConfig, maxConns int32) *sql.DB {
	if maxConns <= 0 {
		maxConns = DefaultMaxConns
	}
	pool := stdlib.OpenDB(*conn, stdlib.OptionAfterConnect(scanUTC))
	pool.SetMaxOpenConns(int(maxConns))
	pool.SetMaxIdleConns(int(maxConns))
	pool.SetConnMaxIdleTime(maxConnIdle)
	pool.SetConnMaxLifetime(maxConnLifetime)
	return pool
}

// scanUTC makes times come back in UTC instead of this machine's zone.
func scanUTC(_ context.Context, conn *pgx.Conn) error {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
	return nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10)
}
