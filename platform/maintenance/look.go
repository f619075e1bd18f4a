package maintenance

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"time"

	"roost/models/faultpoint"
)

// lookEvery is how often a node looks whether there is cause for a sweep, if
// SweepInterval is not shorter.
const lookEvery = 10 * time.Second

// look is what a node remembers from one look to the next. Losing it costs a
// sweep.
type look struct {
	begun  bool
	failed bool      // the last one did not get to its end, nor did its sweep
	rounds int64     // of the chore
	server time.Time // when the database server started
	finds  uint      // looks in a row that found a difference
}

// cause says why everything is compared.
type cause string

const (
	noCause         cause = ""
	causeStart      cause = "start"      // nobody knows what was missed
	causeRecovery   cause = "recovery"   // the database or Owl did not answer, and does again
	causeRestore    cause = "restore"    // the database is older, or another, than the one before
	causeDifference cause = "difference" // the look found one
	causeInterval   cause = "interval"
)

// Look compares what changed last with Owl, and everything if there is cause.
// One goroutine at a time may call it.
func (m *Maintenance) Look(ctx context.Context) {
	m.contain(ctx, "sweep", func() error {
		failed := m.look.failed
		m.look.failed = true // until the end is reached, whatever stops it
		why, err := m.findCause(ctx, failed)
		if err != nil {
			return err
		}
		if why != noCause {
			if err := m.sweepFor(ctx, why); err != nil {
				return err
			}
		}
		m.look.failed, m.look.begun = false, true
		return nil
	})
}

func (m *Maintenance) findCause(ctx context.Context, failed bool) (cause, error) {
	r, err := m.countRound(ctx)
	if err != nil {
		return noCause, err
	}
	older := r.Rounds <= m.look.rounds || !r.Server.Equal(m.look.server)
	m.look.rounds, m.look.server = r.Rounds, r.Server
	differing, err := m.compareLatest(ctx)
	if err != nil {
		return noCause, err
	}
	switch {
	case !m.look.begun:
		return causeStart, nil
	case failed:
		return causeRecovery, nil
	case older:
		return causeRestore, nil
	case m.persists(differing):
		return causeDifference, nil
	case r.Due:
		return causeInterval, nil
	}
	return noCause, nil
}

// persists reports whether to sweep for a difference: at once, and then ever
// more rarely while looks go on finding one. Such a one cannot be repaired by
// repeating it.
func (m *Maintenance) persists(differing int64) bool {
	if differing == 0 {
		m.look.finds = 0
		return false
	}
	m.look.finds++
	return bits.OnesCount(m.look.finds) == 1
}

// round is one look as the database counts them, over all nodes.
type round struct {
	Rounds int64
	Server time.Time
	Due    bool
}

// countRound counts this look. The count only grows, so a node that finds it
// no higher than before is talking to an older database, whose connections
// may never have broken. A server that was started since may be another one,
// which lacks the last moments.
func (m *Maintenance) countRound(ctx context.Context) (r round, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = m.db.WithContext(ctx).Raw(`INSERT INTO chores (name) VALUES ('sweep')
		ON CONFLICT (name) DO UPDATE SET rounds = chores.rounds + 1
		RETURNING rounds, pg_postmaster_start_time() AS server, due_at <= now() AS due`).Take(&r).Error
	if err != nil {
		return round{}, fmt.Errorf("count look: %w", err)
	}
	return r, nil
}

// takeTurn reports whether this node is to sweep. Of several that come for
// the interval one does; this saves work and nothing else, for two sweeps at
// once are harmless.
func (m *Maintenance) takeTurn(ctx context.Context, why cause) (mine bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = faultpoint.Step("platform.sweep_turn", func() error {
		res := m.db.WithContext(ctx).Exec(`UPDATE chores SET due_at = now() + ?::bigint * interval '1 microsecond'
			WHERE name = 'sweep' AND (due_at <= now() OR ?)`, m.cfg.SweepInterval.Microseconds(), why != causeInterval)
		mine = res.RowsAffected == 1
		return res.Error
	})
	if err != nil {
		return false, fmt.Errorf("take turn to sweep: %w", err)
	}
	return mine, nil
}

func (m *Maintenance) sweepFor(ctx context.Context, why cause) error {
	mine, err := m.takeTurn(ctx, why)
	if err != nil || !mine {
		return err
	}
	start := time.Now()
	found, err := m.Sweep(ctx)
	if err != nil {
		return err
	}
	m.metrics.sweeps.WithLabelValues(string(why)).Inc()
	m.metrics.swept.SetToCurrentTime()
	level := slog.LevelDebug
	if found != (Findings{}) || why != causeInterval {
		level = slog.LevelInfo
	}
	m.cfg.Logger.LogAttrs(ctx, level, "compared with Owl", slog.String("cause", string(why)),
		slog.Int64("made_due", found.Due), slog.Int64("new_orphans", found.Orphans), slog.Int64("ended_orphans", found.Ended),
		slog.Int64("took_ms", time.Since(start).Milliseconds()))
	return nil
}
