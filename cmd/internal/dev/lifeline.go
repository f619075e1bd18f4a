package dev

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"roost/cmd/internal/boot"
	"roost/cmd/internal/owlcmd"
	"roost/cmd/internal/platformcmd"
)

// ProcessCommand is the hidden command under which roost dev runs this binary
// again for each of its processes.
const ProcessCommand = "dev-process"

// The processes, and the names of their logs.
const (
	postgresName = "postgres"
	owlName      = "owl"
	platformName = "platform"
)

// Descriptors that a process inherits.
const (
	lifelineFD  = 3
	processesFD = 4
)

const (
	// orphanGrace is what a service gets to stop once its parent is gone.
	orphanGrace = 2 * time.Second
	// orphanGracePostgres covers every degree of a Postgres shutdown.
	orphanGracePostgres = 40 * time.Second
)

// RunProcess is the body of one of our processes.
func RunProcess(ctx context.Context, name string, stdout, stderr io.Writer) error {
	switch name {
	case postgresName:
		return runPostgres(endWithParent(ctx, orphanGracePostgres), stdout, stderr)
	case owlName:
		return owlcmd.Run(endWithParent(ctx, orphanGrace), []string{"serve"}, stdout, stderr)
	case platformName:
		return platformcmd.Run(endWithParent(ctx, orphanGrace), []string{"serve"}, stdout, stderr)
	}
	return &boot.UsageError{Err: fmt.Errorf("there is no process %q", name)}
}

// endWithParent returns a context that ends with the parent, and sees to it
// that this process follows. Nothing is ever written to the lifeline: reading
// from it ends when the last process that could write is gone.
func endWithParent(ctx context.Context, grace time.Duration) context.Context {
	// What this process starts in turn must hold neither.
	syscall.CloseOnExec(lifelineFD)
	syscall.CloseOnExec(processesFD)
	lifeline := os.NewFile(lifelineFD, "lifeline")
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, lifeline)
		cancel()
		time.AfterFunc(grace, func() { os.Exit(boot.ExitFailure) })
	}()
	return ctx
}
