package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/models/faultpoint"
	"roost/models/pg"
)

const (
	// backoffBase bounds the first pause, which is anything from 0 to this;
	// each further attempt doubles the bound.
	backoffBase = 200 * time.Millisecond
	// maxDoublings keeps 2^attempts inside a double.
	maxDoublings = 30
	// settleTries bounds how often results are written that could not be kept.
	settleTries = 3
	// settleTimeout bounds whatever a loop does with the database: over a
	// connection that died in silence it would else hang for minutes.
	settleTimeout = 5 * time.Second
)

// settle keeps the results of a push: each row's only under the fence that it
// was claimed with, and what stays due computed from the row as it is now.
func (r *Reconciler) settle(ctx context.Context, results []result) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	// One order for everybody, so that two nodes never wait for each other.
	slices.SortFunc(results, func(a, b result) int { return slices.Compare(a.row.ID[:], b.row.ID[:]) })
	return r.inTx(ctx, func(tx *gorm.DB) error {
		settled := map[verdict][]api.ID{}
		for _, res := range results {
			mine, err := r.settleRow(tx, res)
			if err != nil {
				return err
			}
			if mine {
				settled[res.verdict] = append(settled[res.verdict], res.row.ID)
			}
		}
		if err := moveTargets(tx, settled[behind]); err != nil {
			return err
		}
		if err := countAttempt(tx, results); err != nil {
			return err
		}
		err := endOperations(tx, settled[refused])
		faultpoint.Hit("platform.settle.commit")
		return err
	})
}

// inTx runs a transaction, again if it could not have been committed for a
// reason that passes. Results are worth it: without them a row waits for its
// lease to end.
func (r *Reconciler) inTx(ctx context.Context, fn func(tx *gorm.DB) error) (err error) {
	for range settleTries {
		if err = pg.InTx(ctx, r.db, fn); !pg.IsTransient(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// settleRow changes no row when the fence has moved on: another worker has
// claimed it since and will write its own result.
func (r *Reconciler) settleRow(tx *gorm.DB, res result) (mine bool, err error) {
	set, args := r.assignments(res)
	out := tx.Exec(`UPDATE cvms SET `+set+`, updated_at = clock_timestamp() WHERE id = ? AND fence = ?`,
		append(args, res.row.ID, res.row.Fence)...)
	if out.Error != nil {
		return false, fmt.Errorf("settle %s: %w", res.row.ID, out.Error)
	}
	if out.RowsAffected == 0 {
		r.metrics.stale.Inc()
	}
	return out.RowsAffected > 0, nil
}

// assignments is what a result changes. In all of them the columns on the
// right are the row's present ones, not the claimed copy's.
func (r *Reconciler) assignments(res result) (set string, args []any) {
	lease := r.cfg.Lease.Microseconds()
	switch res.verdict {
	case confirmed, pushed:
		sent := max(res.sent, 1)
		return `confirmed = true, attempts = 0, pushed_generation = GREATEST(pushed_generation, ?),
			reconcile_after = CASE WHEN deleting_at IS NOT NULL OR generation > GREATEST(pushed_generation, ?) THEN now()
				ELSE now() + ?::bigint * interval '1 microsecond' END`,
			[]any{sent, sent, lease}
	case behind:
		// Soon, but not at once: an Owl that never holds what it was sent would
		// be asked, and generations be counted up, as fast as it answers.
		set, args := r.backoff(0)
		return `generation = GREATEST(generation, ?) + 1, ` + set, append([]any{res.theirs}, args...)
	case lost:
		return forgotten, nil
	case deletionConfirmed:
		return `delete_confirmed = true, attempts = 0, reconcile_after = now() + ?::bigint * interval '1 microsecond'`,
			[]any{lease}
	case refused:
		// What was accepted since is refused too if the CVM is, but for a
		// deletion, and otherwise still to be pushed.
		return `error_code = ?, error_message = ?, owl_status = ?, attempts = 0,
			observed_generation = CASE WHEN ? AND deleting_at IS NULL THEN generation ELSE GREATEST(observed_generation, ?) END,
			reconcile_after = CASE WHEN deleting_at IS NOT NULL OR (NOT ? AND generation > ?) THEN now() END`,
			[]any{
				res.failure.Code, res.failure.Message, api.StatusFailed,
				res.final, res.row.Generation, res.final, res.row.Generation,
			}
	case unknown, alarmed:
	}
	return r.backoff(res.after)
}

// backoff makes a row due after a pause: exponential with full jitter, by
// Postgres' clock and dice, but at least as long as Owl has asked for.
func (r *Reconciler) backoff(asked time.Duration) (set string, args []any) {
	return `reconcile_after = now() + GREATEST(?::bigint, random() * LEAST(?::bigint,
			?::bigint * power(2, LEAST(attempts, ?) - 1))) * interval '1 microsecond'`,
		[]any{
			min(asked, r.cfg.BackoffMax).Microseconds(), r.cfg.BackoffMax.Microseconds(),
			backoffBase.Microseconds(), maxDoublings,
		}
}

// forgotten makes a row as if Owl had never heard of it: it is created again,
// from the stored request on, or its deletion is sent again.
const forgotten = `confirmed = false, delete_confirmed = false, pushed_generation = 0,
	observed_generation = CASE WHEN deleted_at IS NULL THEN 0 ELSE observed_generation END,
	owl_status = NULL, error_code = NULL, error_message = NULL, attempts = 0, reconcile_after = now()`

// moveTargets lets the open operations of rows that were behind wait for the
// generation that the row has moved on to: the one they asked for is Owl's name
// for something else.
func moveTargets(tx *gorm.DB, cvms []api.ID) error {
	if len(cvms) == 0 {
		return nil
	}
	err := tx.Exec(`UPDATE operation_targets t SET generation = c.generation FROM cvms c
		WHERE c.id IN ? AND t.cvm_id = c.id AND t.ended_at IS NULL`, cvms).Error
	if err != nil {
		return fmt.Errorf("move targets of operations: %w", err)
	}
	return nil
}

// countAttempt counts the push on the open operations of its CVMs, and shows
// those as running whose CVM Owl has confirmed.
func countAttempt(tx *gorm.DB, results []result) error {
	values, args := make([]string, len(results)), make([]any, 0, 2*len(results))
	for i, res := range results {
		values[i] = "(?::uuid, ?::boolean)"
		heard := res.verdict == confirmed || res.verdict == pushed || res.verdict == deletionConfirmed
		args = append(args, res.row.ID, heard)
	}
	err := tx.Exec(`
		WITH p AS (
			SELECT t.operation_id, bool_or(v.heard) AS heard
			FROM (VALUES `+strings.Join(values, ", ")+`) v (id, heard)
			JOIN operation_targets t ON t.cvm_id = v.id AND t.ended_at IS NULL
			GROUP BY t.operation_id
		), locked AS MATERIALIZED (
			SELECT o.id FROM operations o JOIN p ON p.operation_id = o.id ORDER BY o.id FOR UPDATE OF o
		)
		UPDATE operations o SET attempts = o.attempts + 1, updated_at = clock_timestamp(),
			status = CASE WHEN p.heard THEN 'running' ELSE o.status END
		FROM p JOIN locked ON locked.id = p.operation_id
		WHERE o.id = p.operation_id AND o.status IN ('pending', 'running')`, args...).Error
	if err != nil {
		return fmt.Errorf("count attempt: %w", err)
	}
	return nil
}
