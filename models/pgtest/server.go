package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"roost/models/pglocal"
)

const (
	// BackendEnv chooses the backend.
	BackendEnv = "ROOST_TEST_DB"
	// ImageEnv names the image that the containers backend runs.
	ImageEnv = "ROOST_TEST_IMAGE"

	backendLocal      = "pglocal"
	backendContainers = "containers"
	defaultImage      = "postgres:17-alpine"
)

// Server is a Postgres for tests.
type Server struct {
	// Description says what it is, for a human.
	Description string
	admin       *url.URL
	stop        func(context.Context) error
	templates   sync.Map // names of templates known to be ready
}

// Start starts the backend that BackendEnv asks for.
func Start(ctx context.Context) (*Server, error) {
	backend := os.Getenv(BackendEnv)
	switch {
	case backend == "" || backend == backendLocal:
		return startLocal(ctx)
	case backend == backendContainers:
		return startContainer(ctx)
	case strings.HasPrefix(backend, "postgres://"), strings.HasPrefix(backend, "postgresql://"):
		return newServer("PostgreSQL given by "+BackendEnv, backend, func(context.Context) error { return nil })
	default:
		return nil, fmt.Errorf("%s must be %s, %s or a postgres:// URL", BackendEnv, backendLocal, backendContainers)
	}
}

func startLocal(ctx context.Context) (*Server, error) {
	local, err := pglocal.Start(ctx, pglocal.Config{Throwaway: true})
	if err != nil {
		return nil, err
	}
	description := fmt.Sprintf("PostgreSQL %s from this machine's binaries, process %d", local.Version(), local.PID())
	return newServer(description, local.URL("postgres"), local.Stop)
}

func newServer(description, address string, stop func(context.Context) error) (*Server, error) {
	admin, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the server's URL cannot be parsed") // it holds a password
	}
	return &Server{Description: description, admin: admin, stop: stop}, nil
}

// AdminURL connects to the maintenance database.
func (s *Server) AdminURL() string { return s.admin.String() }

// URL connects to a database of the server.
func (s *Server) URL(database string) string {
	u := *s.admin
	u.Path = "/" + database
	return u.String()
}

// Stop ends what Start has started; a server that ran already stays.
func (s *Server) Stop(ctx context.Context) error { return s.stop(ctx) }

// process is the server of this test process. It has no owner that could stop
// it: the process' end does (see Failure in the package comment).
//
//nolint:gochecknoglobals // tests of one process share a server, and testing has no other scope of that size
var process struct {
	once   sync.Once
	server *Server
	err    error
}

func shared(ctx context.Context) (*Server, error) {
	process.once.Do(func() {
		// The first test's end must not be the server's.
		process.server, process.err = Start(context.WithoutCancel(ctx))
	})
	return process.server, process.err
}
