// Command withpg runs a command with one throwaway Postgres for all of it:
//
//	go run ./models/pgtest/withpg go test ./...
//
// It starts the backend that ROOST_TEST_DB asks for (see package pgtest), gives
// its URL to the command in the same variable, and exits with the command's
// status. It promises that Postgres is gone when it returns; an interrupt goes
// to the command, and Postgres follows. It never runs the command without a
// database.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"roost/models/pgtest"
)

const (
	startTimeout = 3 * time.Minute
	stopTimeout  = 30 * time.Second
	exitUsage    = 2
)

func main() {
	// Caught, not obeyed: a Ctrl-C reaches the command too, and it ends first.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := realMain(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpg:", err)
	}
	os.Exit(code)
}

// realMain returns the exit status. ctx ends when the run is interrupted.
func realMain(ctx context.Context, args []string) (code int, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return exitUsage, errors.New("usage: withpg COMMAND [ARGUMENT…]")
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	server, err := pgtest.Start(startCtx)
	if err != nil {
		return 1, err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if stopErr := server.Stop(stopCtx); stopErr != nil {
			code, err = max(code, 1), errors.Join(err, stopErr)
		}
	}()
	fmt.Fprintln(os.Stderr, "withpg:", server.Description)
	return run(ctx, server.AdminURL(), args)
}

func run(ctx context.Context, address string, args []string) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // to run it is the purpose
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), pgtest.BackendEnv+"="+address)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("run %s: %w", args[0], err)
	}
	return 0, nil
}
