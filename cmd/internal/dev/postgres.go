package dev

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5"

	"roost/models/pglocal"
)

// Names of the databases on whichever server is used.
const (
	platformDatabase = "roost_platform"
	owlDatabase      = "roost_owl"
)

// Variables that pass from roost dev to its Postgres process.
const (
	dataDirVariable = "ROOST_DATA_DIR"
	pgBinVariable   = "ROOST_PG_BIN"
)

// postgresReady is the one line that the Postgres process writes to its
// standard output, a pipe to roost dev: the URL holds the password.
type postgresReady struct {
	URL string `json:"url"`
	PID int    `json:"pid"` // of the postmaster
}

// address is the host and port, without the password.
func (r postgresReady) address() string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// runPostgres runs the embedded Postgres until ctx or Postgres ends.
func runPostgres(ctx context.Context, stdout, stderr io.Writer) error {
	server, err := pglocal.Start(ctx, pglocal.Config{
		DataDir: os.Getenv(dataDirVariable), BinDir: os.Getenv(pgBinVariable), Log: stderr,
	})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(postgresReady{URL: server.URL("postgres"), PID: server.PID()}); err != nil {
		return errors.Join(fmt.Errorf("report the address: %w", err), server.Stop(ctx))
	}
	select {
	case <-ctx.Done():
		return server.Stop(context.WithoutCancel(ctx))
	case <-server.Done():
		return errors.Join(errors.New("postgres ended; its log is above"), server.Stop(ctx))
	}
}

// readPostgresReady waits for that line, or for the end of the process.
func readPostgresReady(ctx context.Context, pipe io.Reader) (postgresReady, error) {
	type result struct {
		ready postgresReady
		err   error
	}
	results := make(chan result, 1)
	go func() {
		var r result
		line, err := bufio.NewReader(pipe).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &r.ready)
		}
		r.err = err
		results <- r
	}()
	select {
	case r := <-results:
		return r.ready, r.err
	case <-ctx.Done():
		return postgresReady{}, context.Cause(ctx)
	}
}

// databaseURL is the URL of another database on the same server.
func databaseURL(server, database string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", errors.New("ROOST_DATABASE_URL is no URL") // its text may hold a password
	}
	u.Path = "/" + database
	return u.String(), nil
}

// createDatabases makes the databases that the server lacks.
func createDatabases(ctx context.Context, server string, names ...string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, name := range names {
		var exists bool
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
		if err != nil {
			return fmt.Errorf("look for database %s: %w", name, err)
		}
		if exists {
			continue
		}
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	return nil
}

// startPostgres settles where the databases are: where the user says, on the
// user's server, or on an embedded one.
func (s *stack) startPostgres(ctx context.Context, cfg configs) error {
	for name, database := range map[string]string{
		"PLATFORM_DATABASE_URL": platformDatabase, "OWL_DATABASE_URL": owlDatabase,
	} {
		if s.settings.Given(name) == "" {
			s.databases[name] = database
		}
	}
	if len(s.databases) == 0 {
		return nil
	}
	server := cfg.dev.DatabaseURL
	if server == "" {
		s.screen.step("starting Postgres")
		if err := s.startKeeper(ctx, s.postgresKeeper()); err != nil {
			return err
		}
		server = s.postgres.URL
	} else if err := s.useServer(server); err != nil {
		return err
	}
	return createDatabases(ctx, server, slices.Sorted(maps.Values(s.databases))...)
}

// useServer points the services to their databases on a server.
func (s *stack) useServer(server string) error {
	for name, database := range s.databases {
		u, err := databaseURL(server, database)
		if err != nil {
			return err
		}
		s.settings.Set(name, u)
	}
	return nil
}

// setPostgres takes over where Postgres is. Should that have changed, whoever
// was started with the old place is ended, to be started again with the new.
func (s *stack) setPostgres(ready postgresReady) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	moved := s.postgres.URL != "" && s.postgres.URL != ready.URL
	s.postgres = ready
	if err := s.useServer(ready.URL); err != nil {
		return err
	}
	if moved {
		s.screen.say("Postgres has moved to another port; Owl and Platform follow")
		for _, k := range s.keepers[1:] {
			_ = k.current().cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
		}
	}
	return nil
}

func (s *stack) postgresNow() postgresReady {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.postgres
}

func (s *stack) postgresKeeper() *keeper {
	var pipe io.ReadCloser
	return &keeper{
		title: "Postgres",
		where: func() string { return s.postgresNow().address() },
		pid:   func() int { return s.postgresNow().PID },
		say:   s.screen.say,
		launch: func(ctx context.Context) (*process, error) {
			read, write, err := os.Pipe()
			if err != nil {
				return nil, fmt.Errorf("start Postgres: %w", err)
			}
			defer func() { _ = write.Close() }()
			pipe = read
			environ := append(s.environ(), dataDirVariable+"="+s.dir.path(postgresName))
			return launch(ctx, s.dir, s.lifeline, program{name: postgresName, environ: environ, stdout: write})
		},
		ready: func(ctx context.Context) error {
			defer func() { _ = pipe.Close() }()
			ready, err := readPostgresReady(ctx, pipe)
			if err != nil {
				<-ctx.Done() // a pipe that ends is a process that does
				return err
			}
			return s.setPostgres(ready)
		},
	}
}
