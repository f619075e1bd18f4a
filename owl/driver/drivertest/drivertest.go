// Package drivertest is the conformance suite of driver.Driver.
//
// It promises that a driver which passes it keeps the laws that Owl's
// provisioner stands on: repetition, lateness, interruption and two processes
// at once change nothing that they should not. It never looks inside a driver.
package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"roost/api"
	"roost/owl/driver"
)

// deadline is how long any one call may take, machines' boots included.
const deadline = 10 * time.Second

// Run runs the suite. newHost makes an empty host and returns how to open a
// driver on it: each call of open stands for another Owl process.
func Run(t *testing.T, newHost func(t *testing.T) (open func() driver.Driver)) {
	t.Helper()
	for name, law := range map[string]func(*testBundle){
		"EnsureMakesTheMachine":            (*testBundle).ensureMakesTheMachine,
		"EnsureIsRepeatable":               (*testBundle).ensureIsRepeatable,
		"EnsureFollowsPower":               (*testBundle).ensureFollowsPower,
		"OlderGenerationIsRefused":         (*testBundle).olderGenerationIsRefused,
		"LateStopStopsNothing":             (*testBundle).lateStopStopsNothing,
		"WaitingEnsureLearnsItIsStale":     (*testBundle).waitingEnsureLearnsItIsStale,
		"WaitingEnsureLearnsOfRemove":      (*testBundle).waitingEnsureLearnsOfRemove,
		"RemoveIsFinal":                    (*testBundle).removeIsFinal,
		"RemoveOfTheUnknownIsFinal":        (*testBundle).removeOfTheUnknownIsFinal,
		"InterruptedEnsureCanBeRepeated":   (*testBundle).interruptedEnsureCanBeRepeated,
		"ManyAtOnceMakeOne":                (*testBundle).manyAtOnceMakeOne,
		"StateOutlivesTheProcess":          (*testBundle).stateOutlivesTheProcess,
		"RulesAreFencedByTheirID":          (*testBundle).rulesAreFencedByTheirID,
		"RulesNeedTheirMachine":            (*testBundle).rulesNeedTheirMachine,
		"EqualGenerationRepairsTheMachine": (*testBundle).equalGenerationRepairs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			law(setup(t, newHost(t)))
		})
	}
}

type testBundle struct {
	t    *testing.T
	open func() driver.Driver
	driver.Driver
	ctx  context.Context //nolint:containedctx // one law's lifetime
	mint *api.Minter
}

func setup(t *testing.T, open func() driver.Driver) *testBundle {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return &testBundle{t: t, open: open, Driver: open(), ctx: ctx, mint: api.NewMinter()}
}

func desired(power api.Power) driver.Desired {
	return driver.Desired{Name: "web", Spec: json.RawMessage(`{"vcpu":1}`), Power: power}
}

func (b *testBundle) ensure(t *testing.T, id api.ID, generation int64, d driver.Desired) {
	t.Helper()
	got, err := b.Ensure(b.ctx, id, generation, d)
	if err != nil || got.Power != d.Power {
		t.Fatalf("Ensure(generation %d) = %+v, %v; want power %s", generation, got, err, d.Power)
	}
}

func (b *testBundle) refuse(t *testing.T, id api.ID, generation int64, want error) {
	t.Helper()
	for _, power := range []api.Power{api.PowerRunning, api.PowerStopped} {
		if _, err := b.Ensure(b.ctx, id, generation, desired(power)); !errors.Is(err, want) {
			t.Fatalf("Ensure(generation %d, %s) = %v, want %v", generation, power, err, want)
		}
	}
}

// machine returns what List says of id.
func (b *testBundle) machine(t *testing.T, id api.ID) (driver.Machine, bool) {
	t.Helper()
	all, err := b.List(b.ctx)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	i := slices.IndexFunc(all, func(m driver.Machine) bool { return m.ID == id })
	if i < 0 {
		return driver.Machine{}, false
	}
	return all[i], true
}

func (b *testBundle) wantListed(t *testing.T, want driver.Machine) {
	t.Helper()
	if got, ok := b.machine(t, want.ID); !ok || got != want {
		t.Fatalf("List shows %+v (%v), want %+v", got, ok, want)
	}
}

func (b *testBundle) ensureMakesTheMachine() {
	t := b.t
	id := b.mint.ID()
	if _, ok := b.machine(t, id); ok {
		t.Fatal("an empty host has the machine")
	}
	b.ensure(t, id, 1, desired(api.PowerRunning))
	b.wantListed(t, driver.Machine{ID: id, Generation: 1, Power: api.PowerRunning})
}

func (b *testBundle) ensureIsRepeatable() {
	t := b.t
	id := b.mint.ID()
	for range 3 {
		b.ensure(t, id, 1, desired(api.PowerRunning))
	}
	b.wantListed(t, driver.Machine{ID: id, Generation: 1, Power: api.PowerRunning})
}

func (b *testBundle) ensureFollowsPower() {
	t := b.t
	id := b.mint.ID()
	for g, power := range []api.Power{api.PowerStopped, api.PowerRunning, api.PowerStopped, api.PowerRunning} {
		b.ensure(t, id, int64(g+1), desired(power))
		b.wantListed(t, driver.Machine{ID: id, Generation: int64(g + 1), Power: power})
	}
}

func (b *testBundle) olderGenerationIsRefused() {
	t := b.t
	id := b.mint.ID()
	b.ensure(t, id, 5, desired(api.PowerRunning))
	b.refuse(t, id, 4, driver.ErrStale)
	b.wantListed(t, driver.Machine{ID: id, Generation: 5, Power: api.PowerRunning})
}

func (b *testBundle) lateStopStopsNothing() {
	t := b.t
	id := b.mint.ID()
	b.ensure(t, id, 2, desired(api.PowerRunning))
	b.ensure(t, id, 4, desired(api.PowerRunning)) // the start that overtook
	if _, err := b.Ensure(b.ctx, id, 3, desired(api.PowerStopped)); !errors.Is(err, driver.ErrStale) {
		t.Fatalf("late stop = %v, want ErrStale", err)
	}
	b.wantListed(t, driver.Machine{ID: id, Generation: 4, Power: api.PowerRunning})
}

// inBackground starts an Ensure and returns when the driver has accepted its
// generation.
func (b *testBundle) inBackground(t *testing.T, id api.ID, generation int64) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := b.Ensure(b.ctx, id, generation, desired(api.PowerRunning))
		done <- err
	}()
	for {
		if m, ok := b.machine(t, id); ok && m.Generation == generation {
			return done
		}
		if b.ctx.Err() != nil {
			t.Fatal("the driver never accepted the generation")
		}
	}
}

func (b *testBundle) waitingEnsureLearnsItIsStale() {
	t := b.t
	id := b.mint.ID()
	first := b.inBackground(t, id, 1)
	b.ensure(t, id, 2, desired(api.PowerStopped))
	// It may have finished before generation 2 came; it may not fail otherwise.
	if err := <-first; err != nil && !errors.Is(err, driver.ErrStale) {
		t.Fatalf("the older Ensure = %v, want nil or ErrStale", err)
	}
	b.wantListed(t, driver.Machine{ID: id, Generation: 2, Power: api.PowerStopped})
}

func (b *testBundle) waitingEnsureLearnsOfRemove() {
	t := b.t
	id := b.mint.ID()
	first := b.inBackground(t, id, 1)
	if err := b.Remove(b.ctx, id); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	if err := <-first; err != nil && !errors.Is(err, driver.ErrRemoved) {
		t.Fatalf("the Ensure under way = %v, want nil or ErrRemoved", err)
	}
	if m, ok := b.machine(t, id); ok {
		t.Fatalf("List shows %+v after Remove", m)
	}
}

func (b *testBundle) removeIsFinal() {
	t := b.t
	id := b.mint.ID()
	b.ensure(t, id, 1, desired(api.PowerRunning))
	for range 2 {
		if err := b.Remove(b.ctx, id); err != nil {
			t.Fatalf("Remove: %v", err)
		}
		b.refuse(t, id, 1, driver.ErrRemoved)
		b.refuse(t, id, 99, driver.ErrRemoved)
	}
	if m, ok := b.machine(t, id); ok {
		t.Fatalf("List shows %+v after Remove", m)
	}
}

func (b *testBundle) removeOfTheUnknownIsFinal() {
	t := b.t
	id := b.mint.ID()
	if err := b.Remove(b.ctx, id); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	b.refuse(t, id, 1, driver.ErrRemoved)
	if m, ok := b.machine(t, id); ok {
		t.Fatalf("List shows %+v, which was removed before it was made", m)
	}
}

func (b *testBundle) interruptedEnsureCanBeRepeated() {
	t := b.t
	id := b.mint.ID()
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.Ensure(ctx, id, 1, desired(api.PowerRunning)); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("Ensure under an ended context = %v, want nil or context.Canceled", err)
	}
	b.ensure(t, id, 1, desired(api.PowerRunning))
	b.wantListed(t, driver.Machine{ID: id, Generation: 1, Power: api.PowerRunning})
}

func (b *testBundle) manyAtOnceMakeOne() {
	t := b.t
	id := b.mint.ID()
	var all sync.WaitGroup
	for i := range 16 {
		d := b.Driver
		if i%2 == 1 {
			d = b.open()
		}
		all.Go(func() {
			if _, err := d.Ensure(b.ctx, id, 1, desired(api.PowerRunning)); err != nil {
				t.Errorf("Ensure: %v", err)
			}
		})
	}
	all.Wait()
	b.wantListed(t, driver.Machine{ID: id, Generation: 1, Power: api.PowerRunning})
}

func (b *testBundle) stateOutlivesTheProcess() {
	t := b.t
	kept, removed := b.mint.ID(), b.mint.ID()
	b.ensure(t, kept, 7, desired(api.PowerRunning))
	if err := b.Remove(b.ctx, removed); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	b.Driver = b.open()
	b.refuse(t, kept, 6, driver.ErrStale)
	b.refuse(t, removed, 1, driver.ErrRemoved)
	b.ensure(t, kept, 7, desired(api.PowerRunning))
}

func (b *testBundle) equalGenerationRepairs() {
	t := b.t
	cutter, ok := b.Driver.(interface {
		PowerCut(ctx context.Context, id api.ID) error
	})
	if !ok {
		t.Skip("the driver cannot cut a machine's power")
	}
	id := b.mint.ID()
	b.ensure(t, id, 1, desired(api.PowerRunning))
	if err := cutter.PowerCut(b.ctx, id); err != nil {
		t.Fatalf("PowerCut: %v", err)
	}
	b.wantListed(t, driver.Machine{ID: id, Generation: 1, Power: api.PowerStopped})
	b.ensure(t, id, 1, desired(api.PowerRunning))
	b.wantListed(t, driver.Machine{ID: id, Generation: 1, Power: api.PowerRunning})
}

func (b *testBundle) filter(t *testing.T) driver.Filter {
	t.Helper()
	f, ok := b.Driver.(driver.Filter)
	if !ok {
		t.Skip("the driver filters no packets")
	}
	return f
}

func (b *testBundle) rulesAreFencedByTheirID() {
	t := b.t
	f := b.filter(t)
	rule := driver.Rule{ID: b.mint.ID(), Machine: b.mint.ID(), CIDR: "10.0.0.0/8", Protocol: "tcp"}
	b.ensure(t, rule.Machine, 1, desired(api.PowerRunning))
	for range 2 {
		if err := f.EnsureRule(b.ctx, rule); err != nil {
			t.Fatalf("EnsureRule: %v", err)
		}
	}
	for range 2 {
		if err := f.RemoveRule(b.ctx, rule.Machine, rule.ID); err != nil {
			t.Fatalf("RemoveRule: %v", err)
		}
		if err := f.EnsureRule(b.ctx, rule); !errors.Is(err, driver.ErrRemoved) {
			t.Fatalf("EnsureRule after RemoveRule = %v, want ErrRemoved", err)
		}
	}
}

func (b *testBundle) rulesNeedTheirMachine() {
	t := b.t
	f := b.filter(t)
	rule := driver.Rule{ID: b.mint.ID(), Machine: b.mint.ID(), CIDR: "10.0.0.0/8", Protocol: "tcp"}
	if err := f.EnsureRule(b.ctx, rule); err == nil || errors.Is(err, driver.ErrRemoved) {
		t.Fatalf("EnsureRule before its machine = %v, want an error that is not final", err)
	}
	if err := b.Remove(b.ctx, rule.Machine); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	if err := f.EnsureRule(b.ctx, rule); !errors.Is(err, driver.ErrRemoved) {
		t.Fatalf("EnsureRule after its machine's Remove = %v, want ErrRemoved", err)
	}
	if err := f.RemoveRule(b.ctx, rule.Machine, rule.ID); err != nil {
		t.Fatalf("RemoveRule after its machine's Remove: %v", err)
	}
}
