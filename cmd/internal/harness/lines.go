package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// lines is what a process writes, kept line by line.
type lines struct {
	mu      sync.Mutex
	partial []byte
	all     []string
	changed chan struct{} // closed and made anew with every line
	each    func(line string)
}

func newLines(each func(line string)) *lines {
	return &lines{changed: make(chan struct{}), each: each}
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.partial = append(l.partial, b...)
	var fresh []string
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			break
		}
		fresh, l.partial = append(fresh, string(line)), rest
	}
	l.all = append(l.all, fresh...)
	if len(fresh) > 0 {
		close(l.changed)
		l.changed = make(chan struct{})
	}
	l.mu.Unlock()
	for _, line := range fresh {
		l.each(line)
	}
	return len(b), nil
}

func (l *lines) snapshot() (all []string, outdated <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.all), l.changed
}

// await returns the first line that is as wanted. ended stops the waiting: what
// was written until then counts.
func (l *lines) await(ctx context.Context, ended <-chan struct{}, wanted func(string) bool) (string, error) {
	seen := 0
	for {
		all, outdated := l.snapshot()
		for ; seen < len(all); seen++ {
			if wanted(all[seen]) {
				return all[seen], nil
			}
		}
		select {
		case <-outdated:
		case <-ctx.Done():
			return "", fmt.Errorf("wait for a line: %w", context.Cause(ctx))
		case <-ended:
			if now, _ := l.snapshot(); len(now) == seen {
				return "", errors.New("wait for a line: the process has ended")
			}
			ended = nil // look once more, then only at the clock
		}
	}
}

// tail is the end of it, for people, without the reads that were answered.
func (l *lines) tail(n int) string {
	all, _ := l.snapshot()
	var told []string
	for _, line := range all {
		if !strings.Contains(line, `"method":"GET"`) || !strings.Contains(line, `"status":200`) {
			told = append(told, line)
		}
	}
	return strings.Join(told[max(0, len(told)-n):], "\n")
}
