package maintenance

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"roost/models/faultpoint"
)

const (
	// reapLimit is how many rows one statement removes at most.
	reapLimit = 1000
	// reapTimeout bounds one statement.
	reapTimeout = 10 * time.Second
	// minRetention is how long what was deleted or finished is kept at least.
	minRetention = 30 * 24 * time.Hour
	// keyMargin is how much longer than a key that names it.
	keyMargin = 24 * time.Hour
)

// reaper removes one kind of row that nobody needs any more.
type reaper struct {
	kind string
	// reap removes one batch. full says that there may be more.
	reap func(db *gorm.DB) (reaped int64, full bool, err error)
}

func (m *Maintenance) reapers() []reaper {
	return []reaper{
		{"keys", batch(m.reapKeys)},
		{"provisions", batch(m.reapProvisions)},
		{"cvms", batch(m.reapCVMs)},
		{"firewall_rules", batch(m.reapRules)},
		{"operations", m.reapOperations},
		{"specs", m.reapSpecs},
	}
}

// batch is for reapers whose batch is full when it has reapLimit rows.
func batch(reap func(*gorm.DB) (int64, error)) func(*gorm.DB) (int64, bool, error) {
	return func(db *gorm.DB) (int64, bool, error) {
		n, err := reap(db)
		return n, n >= reapLimit, err
	}
}

// Reap lets every reaper work until it finds nothing more. One that fails does
// not stop the others and goes on where it was the next time. One goroutine at
// a time may call it; other nodes may be reaping too.
func (m *Maintenance) Reap(ctx context.Context) {
	for _, r := range m.reapers() {
		m.contain(ctx, "reap "+r.kind, func() error { return m.exhaust(ctx, r) })
	}
}

func (m *Maintenance) exhaust(ctx context.Context, r reaper) error {
	var total int64
	defer func() {
		if total > 0 {
			m.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "reaped", slog.String("kind", r.kind), slog.Int64("rows", total))
		}
	}()
	for ctx.Err() == nil {
		n, full, err := m.reapOnce(ctx, r)
		total += n
		if err != nil || !full {
			return err
		}
	}
	return nil
}

func (m *Maintenance) reapOnce(ctx context.Context, r reaper) (n int64, full bool, err error) {
	// A statement that has begun is worth its end: it holds nobody up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reapTimeout)
	defer cancel()
	n, full, err = r.reap(m.db.WithContext(ctx))
	m.metrics.reaped.WithLabelValues(r.kind).Add(float64(n))
	if err != nil {
		return n, false, fmt.Errorf("reap %s: %w", r.kind, err)
	}
	return n, full, nil
}

// retention is how long a deleted resource and a finished operation are kept:
// longer than any key that was alive when they ended, so that its replay can
// show them.
func (m *Maintenance) retention() int64 {
	return max(minRetention, m.cfg.KeyTTL+keyMargin).Microseconds()
}

// exec runs one statement and returns how many rows it removed.
func exec(db *gorm.DB, sql string, args ...any) (int64, error) {
	res := db.Exec(sql, args...)
	return res.RowsAffected, res.Error
}

// Every reaper picks its batch in a CTE of its own: as a subquery it might be
// run more than once, and the batch would have no bound. SKIP LOCKED leaves
// alone what somebody is using at this moment, so that no reaper ever waits
// for a request while it holds rows that others want.

// reapKeys agrees with idempotency.Keys on which keys are dead: expired, and
// their operation is not under way. A retry may be taking such a key over: it
// holds the row's lock and is skipped, or it comes later and finds no row, or,
// between the two, the lock is waited for here and expires_at read again.
func (m *Maintenance) reapKeys(db *gorm.DB) (n int64, err error) {
	err = faultpoint.Poll("platform.reap_keys", func() (int, error) {
		n, err = exec(db, `
			WITH dead AS MATERIALIZED (
				SELECT k.workspace_id, k.key FROM idempotency_keys k
				WHERE k.expires_at <= now() AND NOT EXISTS (SELECT 1 FROM operations o
					WHERE o.id = k.operation_id AND o.status IN ('pending', 'running'))
				ORDER BY k.expires_at LIMIT ? FOR UPDATE OF k SKIP LOCKED
			)
			DELETE FROM idempotency_keys k USING dead
			WHERE k.workspace_id = dead.workspace_id AND k.key = dead.key`, reapLimit)
		return int(n), err
	})
	return n, err
}

// reapProvisions leaves the specs to reapSpecs: whoever renews a provision
// locks its spec first, and two orders of locking would be a deadlock.
func (m *Maintenance) reapProvisions(db *gorm.DB) (n int64, err error) {
	err = faultpoint.Poll("platform.reap_provisions", func() (int, error) {
		n, err = exec(db, `
			WITH expired AS MATERIALIZED (
				SELECT app_id, compose_hash FROM provisions WHERE expires_at <= now()
				ORDER BY expires_at LIMIT ? FOR UPDATE SKIP LOCKED
			)
			DELETE FROM provisions p USING expired
			WHERE p.app_id = expired.app_id AND p.compose_hash = expired.compose_hash`, reapLimit)
		return int(n), err
	})
	return n, err
}

// specPass is what one batch of specs came to.
type specPass struct{ Marked, Gone int64 }

// reapSpecs removes specs that nothing refers to: those that a PATCH replaced,
// and those of provisions and CVMs that are gone. Their bodies hold
// encrypted_env. It marks them first and removes them an hour later: whoever
// read the reference before it went, to read the spec next, is done by then. A
// reference is only ever copied from a row that has it, or made with the spec
// in one transaction; so what nothing refers to, nothing ever will again, and
// yet it is looked for once more.
//
// The three columns have no indexes: all references are read once, which costs
// less than to keep three indexes on the tables that every create writes.
func (m *Maintenance) reapSpecs(db *gorm.DB) (n int64, full bool, err error) {
	var pass specPass
	err = faultpoint.Poll("platform.reap_specs", func() (int, error) {
		err := db.Raw(`
			WITH loose AS MATERIALIZED (
				SELECT id FROM specs
				EXCEPT SELECT spec_id FROM cvms
				EXCEPT SELECT create_spec_id FROM cvms
				EXCEPT SELECT spec_id FROM provisions
			), fresh AS MATERIALIZED (
				SELECT s.id FROM specs s JOIN loose ON loose.id = s.id
				WHERE s.loose_at IS NULL LIMIT ? FOR UPDATE OF s SKIP LOCKED
			), old AS MATERIALIZED (
				SELECT s.id FROM specs s JOIN loose ON loose.id = s.id
				WHERE s.loose_at < now() - interval '1 hour' LIMIT ? FOR UPDATE OF s SKIP LOCKED
			), marked AS (
				UPDATE specs s SET loose_at = now() FROM fresh WHERE s.id = fresh.id RETURNING s.id
			), gone AS (
				DELETE FROM specs s USING old WHERE s.id = old.id RETURNING s.id
			)
			SELECT (SELECT count(*) FROM marked) AS marked, (SELECT count(*) FROM gone) AS gone`,
			reapLimit, reapLimit).Take(&pass).Error
		return int(pass.Marked + pass.Gone), err
	})
	return pass.Gone, max(pass.Marked, pass.Gone) >= reapLimit, err
}
