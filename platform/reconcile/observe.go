package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
	"roost/models/bulkhead"
	"roost/models/faultpoint"
)

// observeLoop reads the status of the watched CVMs and writes what changed.
func (r *Reconciler) observeLoop(ctx context.Context) {
	for rest(ctx, r.lookEvery(watchEvery)) {
		for looks := range slices.Chunk(r.watch.due(time.Now()), owlapi.MaxBatchItems) {
			if err := r.observe(ctx, looks); err != nil && ctx.Err() == nil {
				r.cfg.Logger.WarnContext(ctx, "cannot read status: looking again later",
					slog.Int("cvms", len(looks)), slog.Any("error", err))
				break
			}
		}
	}
}

// lookEvery is the pause between two looks: longer while Owl is silent.
func (r *Reconciler) lookEvery(pause time.Duration) time.Duration {
	if r.silence.holds() {
		return probeEvery
	}
	return pause
}

// observe looks at some CVMs once. One that nobody can digest concerns no other:
// it is told here, and an error is of them all.
func (r *Reconciler) observe(ctx context.Context, looks []*watched) error {
	err := bulkhead.Each(r.hold, "observe", looks, func(look *watched) string { return look.id.String() },
		func(part []*watched) error { return r.look(ctx, part) })
	if bulkhead.IsPanic(err) {
		r.cfg.Logger.ErrorContext(ctx, "cannot read status", slog.Int("cvms", len(looks)),
			slog.String("first_cvm_id", looks[0].id.String()), slog.Any("error", err))
		return nil
	}
	return err
}

func (r *Reconciler) look(ctx context.Context, looks []*watched) error {
	byID := make(map[api.ID]*watched, len(looks))
	for _, look := range looks {
		byID[look.id] = look
	}
	found, err := r.readStatus(ctx, slices.Collect(maps.Keys(byID)))
	if err != nil {
		return err
	}
	// Time of its own: what Owl was slow to show is worth being written too.
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var news []owlapi.CVM
	absent := maps.Clone(byID)
	for _, c := range found {
		delete(absent, c.ID)
		if look, ok := byID[c.ID]; ok && look.seen != sightingOf(c) {
			news = append(news, c)
		}
	}
	if err := r.lost(ctx, absent); err != nil || len(news) == 0 {
		return err
	}
	var unsettled []api.ID
	err = faultpoint.Step("platform.observe", func() (err error) {
		unsettled, err = r.record(ctx, news)
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range news {
		byID[c.ID].seen = sightingOf(c)
		// One at rest needs no watching, nor one whose row takes no sighting
		// any more: whatever it waits for, it is due in its row.
		if !slices.Contains(unsettled, c.ID) {
			r.watch.drop(byID[c.ID])
		}
	}
	return nil
}

func (r *Reconciler) readStatus(ctx context.Context, ids []api.ID) ([]owlapi.CVM, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout())
	defer cancel()
	found, err := r.cfg.Owl.CVMsByID(ctx, ids)
	r.silence.heard(err)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return found, nil
}

// lost makes CVMs due again that Owl had confirmed and no longer knows: it
// was restored from an older state. They are posted again, as at first; of
// those that are deleted the deletion is sent again.
func (r *Reconciler) lost(ctx context.Context, absent map[api.ID]*watched) error {
	if len(absent) == 0 {
		return nil
	}
	ids := slices.Collect(maps.Keys(absent))
	err := faultpoint.Step("platform.lost", func() error {
		return r.db.WithContext(ctx).Exec(`UPDATE cvms SET `+forgotten+`, updated_at = clock_timestamp()
			WHERE id IN ? AND (deleted_at IS NULL OR reconcile_after IS NOT NULL) AND (confirmed OR delete_confirmed)`, ids).Error
	})
	if err != nil {
		return fmt.Errorf("make lost CVMs due: %w", err)
	}
	r.cfg.Logger.ErrorContext(ctx, "Owl has lost CVMs that it had confirmed: creating them again", slog.Int("cvms", len(ids)))
	r.metrics.lost.Add(float64(len(ids)))
	r.watch.drop(slices.Collect(maps.Values(absent))...)
	r.Wake()
	return nil
}

// record keeps what Owl shows, ends operations, and returns the CVMs that it
// wrote and whose present generation is still to be observed. A generation that
// was not pushed, as far as the row knows, may be something else at Owl (after a
// restore); the answer to its push will tell.
func (r *Reconciler) record(ctx context.Context, records []owlapi.CVM) (unsettled []api.ID, err error) {
	slices.SortFunc(records, func(a, b owlapi.CVM) int { return slices.Compare(a.ID[:], b.ID[:]) })
	err = r.inTx(ctx, func(tx *gorm.DB) error {
		unsettled = nil
		var rows []sighted
		values, args := sightings(records)
		// Locked in one order first: an UPDATE takes rows as its plan likes.
		err := tx.Raw(`
			WITH locked AS MATERIALIZED (SELECT id FROM cvms WHERE id IN ? ORDER BY id FOR UPDATE)
			UPDATE cvms c SET owl_status = v.status, error_code = v.error_code, error_message = v.error_message,
				observed_generation = CASE WHEN v.gone THEN c.generation ELSE v.generation END,
				reconcile_after = CASE WHEN v.gone OR v.generation >= c.generation THEN NULL ELSE c.reconcile_after END,
				updated_at = clock_timestamp()
			FROM locked, (VALUES `+values+`) v (id, generation, has, gone, status, error_code, error_message)
			WHERE c.id = locked.id AND v.id = c.id AND c.confirmed AND c.deleting_at IS NULL
				AND (v.gone OR v.generation >= c.observed_generation AND v.has <= c.pushed_generation)
			RETURNING c.id, v.gone OR v.generation >= c.generation AS rest`,
			append([]any{idsOf(records)}, args...)...).Find(&rows).Error
		if err != nil {
			return fmt.Errorf("record status: %w", err)
		}
		for _, row := range rows {
			if !row.Rest {
				unsettled = append(unsettled, row.ID)
			}
		}
		removing, err := recordRemovals(tx, records)
		if err != nil {
			return err
		}
		unsettled = append(unsettled, removing...)
		restored, err := recordRestores(tx, values, args)
		if err != nil {
			return err
		}
		unsettled = append(unsettled, restored...)
		err = endOperations(tx, idsOf(records))
		faultpoint.Hit("platform.observe.commit")
		return err
	})
	return unsettled, err
}

// recordRestores makes the CVMs due of which one side has forgotten a
// generation or a deletion, and returns them: that side comes from an older
// backup. What is asked for now is pushed again; if it is ours that is behind,
// Owl's answer to that will say so. (An answer that was long on its way can
// look like an older Owl. It costs a PUT, or a DELETE.)
func recordRestores(tx *gorm.DB, values string, args []any) (restored []api.ID, err error) {
	var rows []sighted
	err = tx.Raw(`
		UPDATE cvms c SET pushed_generation = LEAST(v.has, c.generation - 1), delete_confirmed = false,
			reconcile_after = now(), updated_at = clock_timestamp()
		FROM (VALUES `+values+`) v (id, generation, has, gone, status, error_code, error_message)
		WHERE c.id = v.id AND NOT v.gone AND (c.delete_confirmed
			OR c.confirmed AND c.deleting_at IS NULL AND (v.has < c.pushed_generation OR v.has > c.generation))
		RETURNING c.id`, args...).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("record restores: %w", err)
	}
	for _, row := range rows {
		restored = append(restored, row.ID)
	}
	return restored, nil
}

// sighted is a row that took a sighting.
type sighted struct {
	ID   api.ID
	Rest bool // its present generation was seen
}

// recordRemovals ends the CVMs whose machine is gone, of those that are being
// deleted, and returns the others: their removal is still to be seen. One that
// is deleted and not at rest is being deleted again, for an Owl that forgot.
func recordRemovals(tx *gorm.DB, records []owlapi.CVM) (removing []api.ID, err error) {
	var gone []api.ID
	for _, c := range records {
		if c.DeletedAt != nil {
			gone = append(gone, c.ID)
		}
	}
	if len(gone) > 0 {
		err := tx.Exec(`UPDATE cvms SET deleted_at = COALESCE(deleted_at, clock_timestamp()), observed_generation = generation,
			owl_status = ?, reconcile_after = NULL, updated_at = clock_timestamp()
			WHERE id IN ? AND delete_confirmed AND reconcile_after IS NOT NULL`, api.StatusDeleted, gone).Error
		if err != nil {
			return nil, fmt.Errorf("record removals: %w", err)
		}
	}
	var rows []models.CVM
	err = tx.Raw(`SELECT id FROM cvms WHERE id IN ? AND deleting_at IS NOT NULL AND reconcile_after IS NOT NULL`, idsOf(records)).
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read CVMs being deleted: %w", err)
	}
	for _, row := range rows {
		removing = append(removing, row.ID)
	}
	return removing, nil
}

func sightings(records []owlapi.CVM) (values string, args []any) {
	rows := make([]string, len(records))
	for i, c := range records {
		s := sightingOf(c)
		rows[i] = "(?::uuid, ?::bigint, ?::bigint, ?::boolean, ?::text, NULLIF(?::text, ''), NULLIF(?::text, ''))"
		args = append(args, c.ID, s.generation, s.has, s.gone, s.status, s.failure.Code, s.failure.Message)
	}
	return strings.Join(rows, ", "), args
}

func idsOf(records []owlapi.CVM) []api.ID {
	out := make([]api.ID, len(records))
	for i, c := range records {
		out[i] = c.ID
	}
	return out
}
