//go:build faults

package faultpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Variable is the environment variable that names the fault.
const Variable = "ROOST_FAULT"

// fault is what ROOST_FAULT asks for.
type fault struct {
	point  string // a point, or a step that is to be repeated
	action string
	pause  time.Duration
	nth    int64
	hits   atomic.Int64
}

// asked parses ROOST_FAULT once; a typo must not pass for a fault survived.
var asked = sync.OnceValue(func() *fault { //nolint:gochecknoglobals // the environment is global
	f, err := parse(os.Getenv(Variable))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Variable, err)
		os.Exit(2) //nolint:revive // of a test build
	}
	return f
})

func parse(text string) (*fault, error) {
	if text == "" {
		return &fault{}, nil
	}
	point, rest, ok := strings.Cut(text, ":")
	if !ok || point == "" {
		return nil, fmt.Errorf("%q is not POINT:ACTION", text)
	}
	f := &fault{point: point, nth: 1}
	action, nth, counted := strings.Cut(rest, "@")
	if counted {
		n, err := strconv.ParseInt(nth, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q does not count", nth)
		}
		f.nth = n
	}
	f.action = action
	if length, ok := strings.CutPrefix(action, "sleep="); ok {
		pause, err := time.ParseDuration(length)
		if err != nil {
			return nil, fmt.Errorf("parse sleep: %w", err)
		}
		f.action, f.pause = "sleep", pause
	}
	switch f.action {
	case "kill", "panic", "stop", "sleep", "repeat":
		return f, nil
	}
	return nil, fmt.Errorf("there is no action %q", action)
}

// fires reports whether this is the one time that the fault befalls the point.
func (f *fault) fires(point string) bool {
	if f.point != point || f.hits.Add(1) != f.nth {
		return false
	}
	fmt.Fprintf(os.Stderr, "fault point %s: %s\n", point, f.action)
	return true
}

// Hit is a point that a fault can befall.
func Hit(point string) {
	f := asked()
	if f.action == "repeat" || !f.fires(point) {
		return
	}
	switch f.action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing runs after a kill, not even until it arrives
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "panic":
		panic("fault point " + point)
	case "sleep":
		time.Sleep(f.pause)
	}
}

// Step runs one durable effect.
func Step(name string, effect func() error) error {
	Hit(name + ".before")
	err := effect()
	if f := asked(); f.action == "repeat" && f.fires(name) {
		err = effect()
	}
	Hit(name + ".after")
	return err
}
