package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"roost/api"
	"roost/models/faultpoint"
	"roost/owl/driver"
)

// CodeFailed is the code of the failure that Config.Fail asks for.
const CodeFailed = "SIM_FAILED"

// Config says how machines behave. Boot and Stop may be zero.
type Config struct {
	Dir  string           // shared by all Owls; made if it is not there
	Boot time.Duration    // from power on to running
	Stop time.Duration    // from power off to stopped
	Fail *regexp.Regexp   // CVMs of such a name never boot; nil: all do
	Now  func() time.Time // nil: time.Now
}

// Driver implements driver.Driver and driver.Filter.
type Driver struct {
	cfg   Config
	store store
}

// New opens or makes the directory. Close the driver when it is done with.
func New(cfg Config) (*Driver, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for _, dir := range []string{cfg.Dir, filepath.Join(cfg.Dir, "machines"), filepath.Join(cfg.Dir, "locks")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the sim's directory: %w", err)
		}
	}
	log, err := openEffects(filepath.Join(cfg.Dir, "effects.jsonl"))
	if err != nil {
		return nil, err
	}
	return &Driver{cfg: cfg, store: store{dir: cfg.Dir, log: log}}, nil
}

// Close releases the effect log.
func (d *Driver) Close() error { return d.store.log.close() }

// Ensure implements driver.Driver.
func (d *Driver) Ensure(
	ctx context.Context, id api.ID, generation int64, desired driver.Desired,
) (driver.Observed, error) {
	t := target{Desired: desired, generation: generation, spec: digest(desired.Spec)}
	for {
		m, err := d.advance(ctx, id, t)
		if err != nil {
			return driver.Observed{}, err
		}
		if m.wait == 0 {
			return driver.Observed{Power: desired.Power}, nil
		}
		if err := pause(ctx, m.wait); err != nil {
			return driver.Observed{}, fmt.Errorf("wait for the machine: %w", err)
		}
	}
}

// advance makes every move that needs no waiting, under the machine's lock.
func (d *Driver) advance(ctx context.Context, id api.ID, t target) (m move, err error) {
	err = d.store.locked(ctx, id, func(s *state) error {
		for {
			m, err = s.next(d.cfg, t)
			if err != nil || m.settled() {
				return err
			}
			if err := d.commit(ctx, id, s, m); err != nil {
				return err
			}
			if m.failed != nil {
				return m.failed
			}
		}
	})
	return m, err
}

// commit makes a move durable and, if the world saw something of it, logs it.
func (d *Driver) commit(ctx context.Context, id api.ID, s *state, m move) error {
	if m.effect == "" {
		return faultpoint.Step("sim.move", func() error { return d.store.save(id, s) })
	}
	return d.store.saveWithEffect(ctx, id, s, effectLine(d.cfg.Now(), id, s.Generation, m.effect))
}

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, id api.ID) error {
	return d.store.locked(ctx, id, func(s *state) error {
		if s.Removed {
			return nil
		}
		m := move{}
		if s.Exists {
			m.effect = effectRemove
		}
		*s = state{Removed: true, Generation: s.Generation}
		return d.commit(ctx, id, s, m)
	})
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Machine, error) {
	ids, err := d.store.ids()
	if err != nil {
		return nil, err
	}
	var out []driver.Machine
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list machines: %w", err)
		}
		s, err := d.store.load(id)
		if err != nil {
			return nil, err
		}
		if s.Exists {
			out = append(out, driver.Machine{ID: id, Generation: s.Generation, Power: s.power()})
		}
	}
	return out, nil
}

// EnsureRule implements driver.Filter. The sim has no packets to filter: it
// remembers which rules are in force and logs nothing.
func (d *Driver) EnsureRule(ctx context.Context, rule driver.Rule) error {
	return d.store.locked(ctx, rule.Machine, func(s *state) error {
		inForce, known := s.Rules[rule.ID]
		switch {
		case s.Removed, known && !inForce:
			return driver.ErrRemoved
		case !s.Exists:
			return errors.New("the rule's machine does not exist yet")
		case inForce:
			return nil
		}
		return d.setRule(rule.Machine, s, rule.ID, true)
	})
}

// RemoveRule implements driver.Filter.
func (d *Driver) RemoveRule(ctx context.Context, machine, id api.ID) error {
	return d.store.locked(ctx, machine, func(s *state) error {
		if inForce, known := s.Rules[id]; s.Removed || known && !inForce {
			return nil
		}
		return d.setRule(machine, s, id, false)
	})
}

func (d *Driver) setRule(machine api.ID, s *state, id api.ID, inForce bool) error {
	if s.Rules == nil {
		s.Rules = make(map[api.ID]bool)
	}
	s.Rules[id] = inForce
	return faultpoint.Step("sim.rule", func() error { return d.store.save(machine, s) })
}

// PowerCut stops a machine the way a failing host does: at once, and without
// telling anyone. It is here for the tests of what notices.
func (d *Driver) PowerCut(ctx context.Context, id api.ID) error {
	return d.store.locked(ctx, id, func(s *state) error {
		s.Phase = phaseStopped
		return d.store.save(id, s)
	})
}

func digest(spec []byte) string {
	sum := sha256.Sum256(spec)
	return hex.EncodeToString(sum[:16])
}

// pause waits without holding anything.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
