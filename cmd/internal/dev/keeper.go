package dev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// restartDelay is how long one that died stays dead: long enough to see
	// what happens meanwhile, short enough to wait for.
	restartDelay = 5 * time.Second
	// readyTimeout bounds a start; Postgres may have a log to replay.
	readyTimeout = 90 * time.Second
)

// keeper starts one process and, after that, keeps it alive.
type keeper struct {
	title  string        // as people call it
	where  func() string // where it is to be reached
	pid    func() int    // of what people want to kill; nil: of the process
	launch func(ctx context.Context) (*process, error)
	// ready returns once the process does its work. Its context ends when the
	// process does.
	ready func(ctx context.Context) error
	say   func(format string, args ...any)

	mu      sync.Mutex
	running *process
}

// start launches the process and waits until it is ready. It leaves nothing
// behind when it fails.
func (k *keeper) start(ctx context.Context) error {
	p, err := k.launch(ctx)
	if err != nil {
		return err
	}
	if err := k.awaitReady(ctx, p); err != nil {
		p.stop()
		return fmt.Errorf("%s did not start: %w", k.title, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = p
	return nil
}

func (k *keeper) awaitReady(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := k.ready(ctx)
	select {
	case <-p.done:
		return errors.New(p.exit())
	default:
	}
	return err
}

func (k *keeper) current() *process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running
}

// watch starts the process again whenever it dies, until ctx ends. It leaves
// the process running: the owner stops all of them in order. Call it after
// start.
func (k *keeper) watch(ctx context.Context) {
	for {
		p := k.current()
		select {
		case <-ctx.Done():
			return
		case <-p.done:
		}
		if ctx.Err() != nil {
			return
		}
		k.say("%s (PID %d) ended: %s", k.title, k.shownPID(), p.exit())
		if !k.revive(ctx) {
			return
		}
	}
}

// revive tries until the process is ready again; false if ctx ended first.
func (k *keeper) revive(ctx context.Context) bool {
	for {
		k.say("%s is started again in %s", k.title, restartDelay)
		if pause(ctx, restartDelay) != nil {
			return false
		}
		err := k.start(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			k.say("%s is back, PID %d", k.title, k.shownPID())
			return true
		}
		k.say("%v", err)
	}
}

func (k *keeper) shownPID() int {
	if k.pid != nil {
		return k.pid()
	}
	return k.current().pid()
}
