//go:build faults

package faultpoint

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Variable is the environment variable that names the fault.
const Variable = "ROOST_FAULT"

// asked is the source of faults; a typo must not pass for a fault survived.
var asked = sync.OnceValue(func() *source { //nolint:gochecknoglobals // the environment is global
	text := os.Getenv(Variable)
	if file, ok := strings.CutPrefix(text, "@"); ok {
		return &source{file: file}
	}
	s := &source{}
	s.take(text)
	return s
})

// source is where a process learns what is to befall it.
type source struct {
	file string // "": the text stands

	mu    sync.Mutex
	text  string
	fault fault
	hits  int64 // of the fault's point
}

// fires returns the fault if this is the one time that it befalls the point.
// A point that is a step's name is asked for its repetition.
func (s *source) fires(point string, repetition bool) (fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != "" {
		text, _ := os.ReadFile(s.file) // no file, no fault
		if string(text) != s.text {
			s.take(string(text))
		}
	}
	if s.fault.point != point || (s.fault.action == "repeat") != repetition {
		return fault{}, false
	}
	if s.hits++; s.hits != s.fault.nth {
		return fault{}, false
	}
	f := s.fault
	if s.file != "" {
		if os.Remove(s.file) != nil {
			return fault{}, false // another process was faster
		}
		s.take("") // the same text may come again
	}
	fmt.Fprintf(os.Stderr, "fault point %s: %s\n", point, f.action)
	return f, true
}

func (s *source) take(text string) {
	f, err := parse(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Variable, err)
		os.Exit(2)
	}
	s.text, s.fault, s.hits = text, f, 0
}

// Hit is a point that a fault can befall.
func Hit(point string) {
	f, ok := asked().fires(point, false)
	if !ok {
		return
	}
	switch f.action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing runs after a kill, not even until it arrives
	case "stop":
		freeze()
	case "panic":
		panic("fault point " + point)
	case "sleep":
		time.Sleep(f.pause) //nolint:forbidigo // as it was told
	}
}

// Poll runs an effect that returns how much it found to do.
func Poll(name string, effect func() (found int, err error)) error {
	found, err := effect()
	if found == 0 {
		return err
	}
	if _, ok := asked().fires(name, true); ok {
		_, err = effect()
	}
	Hit(name + ".after")
	return err
}

// Step runs one durable effect.
func Step(name string, effect func() error) error {
	Hit(name + ".before")
	err := effect()
	if _, ok := asked().fires(name, true); ok {
		err = effect()
	}
	Hit(name + ".after")
	return err
}
