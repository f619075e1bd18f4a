package sim

import (
	"fmt"
	"slices"
	"time"

	"roost/api"
	"roost/owl/driver"
)

// phase is where a machine stands between stopped and running.
type phase string

const (
	phaseStopped    phase = "stopped"
	phaseBooting    phase = "booting"
	phaseRunning    phase = "running"
	phaseRestarting phase = "restarting"
	phaseStopping   phase = "stopping"
)

// The effects that the log names.
const (
	effectCreate  = "create"
	effectStart   = "start"
	effectStop    = "stop"
	effectRestart = "restart"
	effectUpdate  = "update"
	effectRemove  = "remove"
)

// state is a machine's file.
type state struct {
	Exists     bool            `json:"exists"`
	Removed    bool            `json:"removed"`
	Generation int64           `json:"generation"`
	Phase      phase           `json:"phase"`
	ReadyAt    time.Time       `json:"ready_at"`  // when booting, restarting or stopping ends
	Spec       string          `json:"spec"`      // digest
	Restarts   []string        `json:"restarts"`  // every value applied, oldest first
	FailedAt   int64           `json:"failed_at"` // the generation that cannot boot
	Rules      map[api.ID]bool `json:"rules"`     // in force; false is a removed rule's tombstone
	Pending    *pending        `json:"pending"`
}

// pending is an effect's line on its way into the log.
type pending struct {
	Line   string `json:"line"`
	Offset int64  `json:"offset"` // the log's length before the line could be in it
}

// target is what one Ensure asks for.
type target struct {
	driver.Desired
	generation int64
	spec       string // digest
}

// move is one step of a machine. The zero move is "nothing to do".
type move struct {
	changed bool
	effect  string        // what the world saw of it, if anything
	wait    time.Duration // nothing can be done before
	failed  *driver.Failure
}

func (m move) settled() bool { return !m.changed }

// next changes s by one move towards t, or says that there is none.
func (s *state) next(cfg Config, t target) (move, error) {
	switch {
	case s.Removed:
		return move{}, driver.ErrRemoved
	case t.generation < s.Generation:
		return move{}, driver.ErrStale
	case !s.Exists:
		s.Exists, s.Generation, s.Spec, s.Phase = true, t.generation, t.spec, phaseStopped
		return move{changed: true, effect: effectCreate}, nil
	case t.generation > s.Generation:
		return s.accept(t), nil
	case s.FailedAt == t.generation:
		return move{}, failure(t)
	case t.Power == api.PowerStopped:
		return s.down(cfg, t), nil
	}
	return s.up(cfg, t), nil
}

// accept takes a newer generation over before any of its work is done.
func (s *state) accept(t target) move {
	m := move{changed: true}
	if s.Spec != t.spec {
		m.effect = effectUpdate
	}
	s.Generation, s.Spec = t.generation, t.spec
	return m
}

// up moves towards running.
func (s *state) up(cfg Config, t target) move {
	switch s.Phase {
	case phaseStopped:
		return s.begin(phaseBooting, cfg.Now().Add(cfg.Boot))
	case phaseStopping:
		return s.finish(cfg, cfg.Stop, phaseStopped, effectStop)
	case phaseRunning:
		if t.Restart == nil || slices.Contains(s.Restarts, *t.Restart) {
			return move{}
		}
		return s.begin(phaseRestarting, cfg.Now().Add(cfg.Boot))
	case phaseBooting, phaseRestarting:
	}
	return s.boot(cfg, t)
}

// boot ends a boot or a restart. Either applies the restart asked for.
func (s *state) boot(cfg Config, t target) move {
	effect := effectStart
	if s.Phase == phaseRestarting {
		effect = effectRestart
	}
	m := s.finish(cfg, cfg.Boot, phaseRunning, effect)
	if m.wait > 0 {
		return m
	}
	if cfg.Fail != nil && cfg.Fail.MatchString(t.Name) {
		s.Phase, s.FailedAt = phaseStopped, t.generation
		return move{changed: true, failed: failure(t)}
	}
	s.applyRestart(t.Restart)
	return m
}

// applyRestart remembers a restart for good: a value that was applied before
// another one must not be applied again after it.
func (s *state) applyRestart(value *string) (changed bool) {
	if value == nil || slices.Contains(s.Restarts, *value) {
		return false
	}
	s.Restarts = append(s.Restarts, *value)
	return true
}

// down moves towards stopped. A machine that is down has nothing to restart.
func (s *state) down(cfg Config, t target) move {
	switch s.Phase {
	case phaseStopped:
		return move{changed: s.applyRestart(t.Restart)}
	case phaseStopping:
		return s.finish(cfg, cfg.Stop, phaseStopped, effectStop)
	case phaseRunning, phaseBooting, phaseRestarting:
	}
	return s.begin(phaseStopping, cfg.Now().Add(cfg.Stop))
}

func (s *state) begin(p phase, readyAt time.Time) move {
	s.Phase, s.ReadyAt = p, readyAt
	return move{changed: true}
}

// finish ends a phase that takes the given time, or says how long is left. A
// moment further away than that was written under another clock: begin again.
func (s *state) finish(cfg Config, takes time.Duration, to phase, effect string) move {
	left := s.ReadyAt.Sub(cfg.Now())
	if left > takes {
		return s.begin(s.Phase, cfg.Now().Add(takes))
	}
	if left > 0 {
		return move{wait: left}
	}
	s.Phase = to
	return move{changed: true, effect: effect}
}

// power is what the machine is, or is on its way to.
func (s *state) power() api.Power {
	switch s.Phase {
	case phaseRunning, phaseBooting, phaseRestarting:
		return api.PowerRunning
	case phaseStopped, phaseStopping:
	}
	return api.PowerStopped
}

func failure(t target) *driver.Failure {
	return &driver.Failure{
		Code:    CodeFailed,
		Message: fmt.Sprintf("the sim was told that a machine named %q cannot boot", t.Name),
	}
}
