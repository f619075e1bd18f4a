// Package bulkhead keeps a panic in one unit of background work from ending
// the process: a row that nobody can digest must not take down the others.
//
// It promises that a panic becomes an error with the stack in it, and is
// counted. It never decides what to do next: for its caller such an error is an
// unknown outcome like any other, and the row waits for its lease or backoff.
// It never logs either; who logs the error knows which row it was.
//
// It holds no more than one goroutine: what a unit of work starts on its own
// needs bulkheads of its own (errgroup and sync.WaitGroup let a panic through).
package bulkhead

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// caught is the error that a panic becomes.
type caught struct {
	value any
	stack []byte
}

// Error implements error. It holds the stack: the log line that shows the
// error is the only one there is.
func (p *caught) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// IsPanic reports whether err comes from a panic.
func IsPanic(err error) bool {
	_, ok := errors.AsType[*caught](err)
	return ok
}

// Bulkhead counts the panics of one service.
type Bulkhead struct{ panics *prometheus.CounterVec }

// New makes a Bulkhead that counts under the given name, by unit of work. Two
// of one name in one registry count together.
func New(registry prometheus.Registerer, name string) *Bulkhead {
	panics := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: name, Help: "Panics in background work that were contained, by unit of work.",
	}, []string{"unit"})
	err := registry.Register(panics)
	if before, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := before.ExistingCollector.(*prometheus.CounterVec); ok {
			return &Bulkhead{panics: same}
		}
	}
	if err != nil {
		panic(err) // as MustRegister: a name that is taken is a mistake in the program
	}
	return &Bulkhead{panics: panics}
}

// Run runs work and returns its error, or one for which IsPanic holds.
func (b *Bulkhead) Run(unit string, work func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			b.panics.WithLabelValues(unit).Inc()
			err = &caught{value: value, stack: debug.Stack()}
		}
	}()
	return work()
}

// Each runs work over all items at once. If that panics it runs work over each
// alone, so that the one to blame, which the error names, does not hold the
// others back. work must be safe to repeat.
func Each[T any](b *Bulkhead, unit string, items []T, name func(T) string, work func([]T) error) error {
	err := b.Run(unit, func() error { return work(items) })
	if !IsPanic(err) {
		return err
	}
	var all []error
	for i, item := range items {
		if err := b.Run(unit, func() error { return work(items[i : i+1]) }); err != nil {
			all = append(all, fmt.Errorf("%s: %w", name(item), err))
		}
	}
	return errors.Join(all...)
}
