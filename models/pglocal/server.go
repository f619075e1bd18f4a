package pglocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// StartTimeout bounds a Start, crash recovery included and initdb excluded.
	StartTimeout = 60 * time.Second
	// StopTimeout bounds each step of a Stop: fast shutdown, immediate shutdown.
	StopTimeout = 10 * time.Second

	superuser     = "roost"
	maintenanceDB = "postgres"
	loopback      = "127.0.0.1"
	pollInterval  = 20 * time.Millisecond
)

// ErrInUse says that another live process has a server on the directory.
var ErrInUse = errors.New("data directory is in use by another process")

// Config says where and how to run Postgres.
type Config struct {
	// DataDir is made if missing, mode 0700. It is ignored with Throwaway.
	DataDir string
	// BinDir holds postgres and initdb; empty: $ROOST_PG_BIN, then a search.
	BinDir string
	// Log receives what Postgres writes; nil drops it.
	Log io.Writer
	// Throwaway is for tests: the data lie in a temporary directory, nothing
	// is flushed to disk, and the directory goes away with the server or with
	// the calling process, whichever ends first.
	Throwaway bool
	// Settings are further server settings, such as max_connections.
	Settings map[string]string
}

// Server is a running Postgres. Stop it even after Done is closed: that
// releases the directory.
type Server struct {
	bins       Binaries
	dir        *directory
	postmaster *postmaster
	watchdog   *watchdog
	port       int
	password   string
}

// Start makes the cluster if there is none, and runs Postgres on it. It returns
// when Postgres accepts connections. ctx bounds the start only; the server
// lives until Stop.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	dir, err := openDirectory(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("start postgres: %w", err), s.release())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, cfg Config) error {
	var err error
	if s.bins, err = FindBinaries(ctx, cfg.BinDir, s.dir.clusterMajor()); err != nil {
		return err
	}
	if err := s.dir.stopLeftover(ctx); err != nil {
		return err
	}
	if s.watchdog, err = startWatchdog(ctx, s.dir, cfg.Throwaway); err != nil {
		return err
	}
	if s.password, err = s.dir.ensureCluster(ctx, s.bins, cfg.Throwaway); err != nil {
		return err
	}
	return s.launch(ctx, cfg)
}

// launch repeats what may pass: a port that was taken between choosing and
// binding it, and backends of a killed postmaster that still hold its shared
// memory.
func (s *Server) launch(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	for {
		err := s.launchOnce(ctx, cfg)
		var early *exitError
		if err == nil || !errors.As(err, &early) || !early.mayPass() {
			return err
		}
		if waitErr := pause(ctx, 5*pollInterval); waitErr != nil {
			return err
		}
	}
}

func (s *Server) launchOnce(ctx context.Context, cfg Config) error {
	var err error
	if s.port, err = s.dir.choosePort(ctx); err != nil {
		return err
	}
	if s.postmaster, err = startPostmaster(ctx, s.dir, s.bins, serverArgs(cfg, s.port), cfg.Log); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		return errors.Join(err, s.postmaster.stop(context.WithoutCancel(ctx)))
	}
	return s.dir.recordPort(s.port)
}

// awaitReady polls with the password: another server that happens to listen on
// the port would not take it.
func (s *Server) awaitReady(ctx context.Context) error {
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == "28P01" {
			return fmt.Errorf("%s does not match the cluster; put the right one back or remove %s: %w", s.dir.passwordFile(), s.dir.root, err)
		}
		select {
		case <-s.postmaster.done:
			return s.postmaster.exit()
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (last: %w)", context.Cause(ctx), err)
		case <-time.After(pollInterval):
		}
	}
}

func (s *Server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL(maintenanceDB))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// URL is what a client connects to database with. It holds the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort(loopback, strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// CreateDatabase makes a database unless it exists.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.URL(maintenanceDB))
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if exists := new(pgconn.PgError); errors.As(err, &exists) && exists.Code == "42P04" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// PID is the process ID of the postmaster.
func (s *Server) PID() int { return s.postmaster.cmd.Process.Pid }

// Version is what "postgres --version" says, such as "15.18".
func (s *Server) Version() string { return s.bins.Version }

// Done is closed when Postgres has ended, asked to or not.
func (s *Server) Done() <-chan struct{} { return s.postmaster.done }

// Stop ends Postgres, sessions included, and gives the directory back. It takes
// at most a few StopTimeouts; an end of ctx makes it harder, not incomplete. It
// may be called again, but not by two at once.
func (s *Server) Stop(ctx context.Context) error {
	if err := errors.Join(s.postmaster.stop(ctx), s.release()); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return nil
}

// release may be called again.
func (s *Server) release() error {
	if s.watchdog != nil {
		s.watchdog.dismiss()
		s.watchdog = nil
	}
	return s.dir.close()
}

// pause waits, or returns early with the reason that ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
