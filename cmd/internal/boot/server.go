package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Limits of a server. WriteTimeout is longer than the longest answer, which is
// GET /operations/{id}?wait=60s.
const (
	ReadHeaderTimeout = 5 * time.Second
	ReadTimeout       = 30 * time.Second
	WriteTimeout      = 75 * time.Second
	IdleTimeout       = 120 * time.Second
	DrainTimeout      = 15 * time.Second // for requests under way when told to stop
	MaxHeaderBytes    = 64 << 10
	MaxConnections    = 4096 // open at once; further ones wait in the backlog
)

// Service is what Serve runs until it is told to stop.
type Service struct {
	Listener net.Listener
	TLS      *tls.Config // nil: plain HTTP
	Handler  http.Handler
	Logger   *slog.Logger

	// Run is the service's own work. It returns when its context ends, and has
	// stopped by then; an earlier return ends the process.
	Run func(ctx context.Context) error
}

// Listen opens the address that a variable names. It is called before anything
// slow, so that a port in use is said at once and early clients wait instead
// of being refused.
func Listen(ctx context.Context, variable, addr string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return netutil.LimitListener(listener, MaxConnections), nil
}

// newServer is an http.Server with every limit set.
func newServer(s Service) *http.Server {
	return &http.Server{
		Handler:           s.Handler,
		TLSConfig:         s.TLS,
		ReadHeaderTimeout: ReadHeaderTimeout,
		ReadTimeout:       ReadTimeout,
		WriteTimeout:      WriteTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
	}
}

// Serve answers requests and runs the service's loops until ctx ends, then
// stops accepting, lets requests under way finish, and stops the loops last:
// what was accepted to the end is still handed to them.
func Serve(ctx context.Context, s Service) error {
	server := newServer(s)
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	looped, served := make(chan error, 1), make(chan error, 1)
	go func() { looped <- s.Run(loops) }()
	go func() { served <- serveOn(server, s) }()
	s.Logger.LogAttrs(ctx, slog.LevelInfo, "serving", slog.String("addr", s.Listener.Addr().String()), slog.Bool("tls", s.TLS != nil))

	var err error
	select {
	case <-ctx.Done():
		s.Logger.LogAttrs(ctx, slog.LevelInfo, "stopping")
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	case err = <-looped:
		looped <- nil // it is asked again below
		err = fmt.Errorf("loops ended early: %w", orUnexpected(err))
	}
	drain(ctx, server, s.Logger)
	stopLoops()
	return errors.Join(err, loopError(<-looped))
}

func serveOn(server *http.Server, s Service) error {
	if s.TLS != nil {
		return server.ServeTLS(s.Listener, "", "")
	}
	return server.Serve(s.Listener)
}

// drain lets requests finish, and cuts those off that take too long: their
// callers repeat them.
func drain(ctx context.Context, server *http.Server, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), DrainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "cut off requests under way", slog.String("error", err.Error()))
		_ = server.Close() // nothing is left to say about connections that we cut
	}
}

func orUnexpected(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

// loopError is what loops report besides having been told to stop.
func loopError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("stop loops: %w", err)
}
