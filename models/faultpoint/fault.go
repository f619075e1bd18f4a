//go:build faults

package faultpoint

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// fault is what ROOST_FAULT asks for. The zero value is nothing.
type fault struct {
	point  string // a point, or a step that is to be repeated
	action string
	pause  time.Duration
	nth    int64
}

func parse(text string) (fault, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return fault{}, nil
	}
	point, rest, ok := strings.Cut(text, ":")
	if !ok || point == "" {
		return fault{}, fmt.Errorf("%q is not POINT:ACTION", text)
	}
	f := fault{point: point, nth: 1}
	action, nth, counted := strings.Cut(rest, "@")
	if counted {
		n, err := strconv.ParseInt(nth, 10, 64)
		if err != nil || n < 1 {
			return fault{}, fmt.Errorf("%q does not count", nth)
		}
		f.nth = n
	}
	f.action = action
	if length, ok := strings.CutPrefix(action, "sleep="); ok {
		pause, err := time.ParseDuration(length)
		if err != nil {
			return fault{}, fmt.Errorf("parse sleep: %w", err)
		}
		f.action, f.pause = "sleep", pause
	}
	switch f.action {
	case "kill", "panic", "stop", "sleep", "repeat":
		return f, nil
	}
	return fault{}, fmt.Errorf("there is no action %q", action)
}
