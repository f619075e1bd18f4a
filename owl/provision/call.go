package provision

import (
	"context"
	"log/slog"

	"roost/api"
	"roost/models/bulkhead"
	"roost/models/faultpoint"
	"roost/owl/driver"
)

// calls is the driver with a bulkhead, a deadline and a count around each call,
// and a fault point around each that changes something. A panic over one machine is an error like any
// other: its call is repeated after a backoff, those of others go on.
type calls struct {
	driver.Driver

	filter  driver.Filter // nil: it filters no packets
	hold    *bulkhead.Bulkhead
	metrics *metrics
}

func newCalls(d driver.Driver, hold *bulkhead.Bulkhead, m *metrics) calls {
	filter, _ := d.(driver.Filter)
	return calls{Driver: d, filter: filter, hold: hold, metrics: m}
}

// Ensure implements driver.Driver.
func (c calls) Ensure(
	ctx context.Context, id api.ID, generation int64, desired driver.Desired,
) (observed driver.Observed, err error) {
	err = c.make(ctx, "ensure", func(ctx context.Context) error {
		return faultpoint.Step("owl.ensure", func() (err error) {
			observed, err = c.Driver.Ensure(ctx, id, generation, desired)
			return err
		})
	})
	return observed, err
}

// Remove implements driver.Driver.
func (c calls) Remove(ctx context.Context, id api.ID) error {
	return c.make(ctx, "remove", func(ctx context.Context) error {
		return faultpoint.Step("owl.remove", func() error { return c.Driver.Remove(ctx, id) })
	})
}

// List implements driver.Driver.
func (c calls) List(ctx context.Context) (machines []driver.Machine, err error) {
	err = c.make(ctx, "list", func(ctx context.Context) (err error) { machines, err = c.Driver.List(ctx); return err })
	return machines, err
}

// EnsureRule implements driver.Filter.
func (c calls) EnsureRule(ctx context.Context, rule driver.Rule) error {
	return c.make(ctx, "ensure_rule", func(ctx context.Context) error {
		return faultpoint.Step("owl.ensure_rule", func() error { return c.filter.EnsureRule(ctx, rule) })
	})
}

// RemoveRule implements driver.Filter.
func (c calls) RemoveRule(ctx context.Context, machine, id api.ID) error {
	return c.make(ctx, "remove_rule", func(ctx context.Context) error {
		return faultpoint.Step("owl.remove_rule", func() error { return c.filter.RemoveRule(ctx, machine, id) })
	})
}

// make makes one call and counts it by its outcome.
func (c calls) make(ctx context.Context, name string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, driverTimeout)
	defer cancel()
	err := c.hold.Run("driver", func() error { return call(ctx) })
	c.metrics.calls.WithLabelValues(name, outcomeOf(err)).Inc()
	return err
}

// contain runs one piece of background work that returns nothing. A panic in
// it is told here: what it leaves undone waits for its lease, or for the next
// turn.
func (p *Provisioner) contain(ctx context.Context, unit string, work func(), about ...slog.Attr) {
	if err := p.hold.Run(unit, func() error { work(); return nil }); err != nil {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelError, "panic in background work",
			append(about, slog.String("unit", unit), slog.Any("error", err))...)
	}
}
