package driver

import (
	"context"
	"encoding/json"
	"errors"

	"roost/api"
)

// Errors with which a driver refuses a call for good. Neither changes
// anything.
var (
	// ErrStale answers an Ensure whose generation is older than one that the
	// driver has accepted.
	ErrStale = errors.New("a newer generation was applied")
	// ErrRemoved answers any Ensure after Remove.
	ErrRemoved = errors.New("the machine was removed")
)

// Driver brings machines about. Every method is safe for concurrent use by
// several processes, and safe to repeat.
type Driver interface {
	// Ensure makes the machine what desired says and returns when it is so.
	// It answers ErrStale, ErrRemoved, a *Failure that is final for this
	// generation, or an error after which the same call is to be repeated.
	// When ctx ends it returns early; the machine may still get there.
	Ensure(ctx context.Context, id api.ID, generation int64, desired Desired) (Observed, error)
	// Remove destroys the machine, if there is one, and refuses any Ensure of
	// that ID from then on, also for an ID it never heard of.
	Remove(ctx context.Context, id api.ID) error
	// List returns every machine that exists, in no order.
	List(ctx context.Context) ([]Machine, error)
}

// Filter is implemented by drivers that also filter packets. Rules never
// change, so the ID alone is their fence. Removing a machine removes its
// rules.
type Filter interface {
	// EnsureRule puts the rule in force. It answers ErrRemoved once the rule
	// or its machine was removed, or a *Failure.
	EnsureRule(ctx context.Context, rule Rule) error
	// RemoveRule takes the rule out of force, if it is, and refuses any
	// EnsureRule of that ID from then on.
	RemoveRule(ctx context.Context, machine, id api.ID) error
}

// Desired is what a machine is asked to be.
type Desired struct {
	Name  string
	Spec  json.RawMessage // a JSON object; holds secrets, never to be logged
	Power api.Power
	// Restart names the newest restart that was asked for. The driver
	// restarts once for each value that it has not applied; bringing up a
	// machine that was down applies it too.
	Restart *string
}

// Observed is what Ensure left behind.
type Observed struct {
	Power api.Power
}

// Machine is one entry of List.
type Machine struct {
	ID         api.ID
	Generation int64 // the newest accepted
	Power      api.Power
}

// Rule is a packet filter's entry on one machine.
type Rule struct {
	ID       api.ID
	Machine  api.ID
	CIDR     string
	Protocol string
	Port     *int64 // nil is all
}

// Failure says that a machine cannot be what a generation asks for.
type Failure struct { //nolint:errname // it is an outcome to record; errors happen to carry it
	Code    string // for programs: upper case, a constant of the driver
	Message string // for people: no secrets
}

// Error implements error.
func (f *Failure) Error() string { return f.Code + ": " + f.Message }
