package modeltest

import (
	"errors"
	"fmt"
	"slices"
)

// Seen is an operation as the system shows it.
type Seen struct {
	ID, Status, SupersededBy string
}

// See holds an operation against what is allowed at any time: nothing is
// canceled by what did not reverse it, and what has ended stays as it ended.
func (m *Model) See(s Seen) error {
	op, known := m.Operations[s.ID]
	switch {
	case !known:
		return fmt.Errorf("operation %s was never named to anybody", s.ID)
	case op.Ended != "" && op.Ended != s.Status:
		return fmt.Errorf("operation %s had ended %s and is %s", s.ID, op.Ended, s.Status)
	}
	switch s.Status {
	case "pending", "running":
		return nil
	case "succeeded":
		op.Ended = s.Status
		return nil
	case "canceled":
		op.Ended = s.Status
		if slices.Contains(op.By, s.SupersededBy) {
			return nil
		}
		return fmt.Errorf("operation %s was canceled by %q; it could only be by %q", s.ID, s.SupersededBy, op.By)
	default:
		return fmt.Errorf("operation %s is %s, and no machine fails here", s.ID, s.Status)
	}
}

// Machine is a CVM at rest, as the system shows it.
type Machine struct {
	ID         string
	Status     string // running or stopped
	VCPU       int
	Generation int // asked for and observed: they are equal at rest
}

// Rest holds what is there once nothing is under way against the model: the
// machines that are not deleted in order of acceptance, and the quota used.
func (m *Model) Rest(machines []Machine, quota int) error {
	var errs []error
	for id, op := range m.Operations {
		if op.Ended == "" {
			errs = append(errs, fmt.Errorf("operation %s has not ended", id))
		}
	}
	if quota != m.Quota() {
		errs = append(errs, fmt.Errorf("the quota used is %d, and %d CVMs are not deleted", quota, m.Quota()))
	}
	var want []Machine
	for _, c := range m.live("") {
		status := "running"
		if c.Stopped {
			status = "stopped"
		}
		want = append(want, Machine{ID: c.ID, Status: status, VCPU: c.VCPU, Generation: c.Generation})
	}
	if !slices.Equal(want, machines) {
		errs = append(errs, fmt.Errorf("at rest there is %+v; want %+v", machines, want))
	}
	return errors.Join(errs...)
}

// Effect is one thing that the driver did.
type Effect struct{ ID, Effect string }

// Effects holds what the driver did against the model: no CVM of another
// name, one create and one remove each, nothing after the remove, and no more
// restarts than were asked for.
func (m *Model) Effects(effects []Effect) error {
	type count struct{ create, remove, restart int }
	done := map[string]*count{}
	for _, e := range effects {
		c := m.find(e.ID)
		if c == nil {
			return fmt.Errorf("the driver did %s to %s, which nobody was told of", e.Effect, e.ID)
		}
		if done[e.ID] == nil {
			done[e.ID] = &count{}
		}
		n := done[e.ID]
		if n.remove > 0 {
			return fmt.Errorf("the driver did %s to %s after its remove", e.Effect, e.ID)
		}
		switch e.Effect {
		case "create":
			n.create++
		case "remove":
			n.remove++
		case "restart":
			n.restart++
		}
	}
	for _, c := range m.CVMs {
		n := done[c.ID]
		if n == nil {
			n = &count{}
		}
		if n.create > 1 || n.create == 0 && !c.Deleting || n.remove != n.create && c.Deleting || n.remove > 0 && !c.Deleting || n.restart > m.restarts(c.ID) {
			return fmt.Errorf("the driver did %+v to %+v", *n, *c)
		}
	}
	return nil
}

func (m *Model) restarts(id string) (n int) {
	for _, op := range m.Operations {
		if op.does == "restart" && op.of == id {
			n++
		}
	}
	return n
}
