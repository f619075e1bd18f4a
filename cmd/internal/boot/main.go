package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes of every binary.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
	// exitInterrupted is what a shell expects of a process that a second
	// Ctrl-C cut short.
	exitInterrupted = 130
)

// RealMain is a program without its process: no signals, no exit, no globals.
type RealMain func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// Main runs a program as this process and does not return.
func Main(name string, realMain RealMain) {
	ctx, stop := signalContext()
	code := run(ctx, name, realMain, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// signalContext ends with the first SIGINT or SIGTERM. The second one exits:
// whoever sends it no longer wants to wait.
func signalContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}

func run(ctx context.Context, name string, realMain RealMain, args []string, stdout, stderr io.Writer) int {
	err := realMain(ctx, args, stdout, stderr)
	if err == nil || interrupted(ctx, err) {
		return ExitOK
	}
	if said, ok := errors.AsType[*ExitError](err); ok {
		return said.Code
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err) // nobody is left to tell
	if usage := new(UsageError); errors.As(err, &usage) {
		_, _ = fmt.Fprintf(stderr, "Run '%s --help' for how to call it.\n", name)
		return ExitUsage
	}
	return ExitFailure
}

// interrupted says that the only failure was to be told to stop.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}

// ExitError ends a program that has said itself what is wrong, with a code of
// its own.
type ExitError struct{ Code int }

// Error is for those who print it all the same.
func (e *ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// UsageError is a call that the program does not understand. It exits with 2.
type UsageError struct{ Err error }

// Error says what was not understood.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }
