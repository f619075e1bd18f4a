package maintenance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
	"roost/models/faultpoint"
	"roost/platform/reconcile"
)

// findOrphanCVMs goes through Owl's records. Owl's page is read before
// Platform is asked: a row commits before it is pushed, so a miss is real.
func (m *Maintenance) findOrphanCVMs(ctx context.Context) (fresh int64, err error) {
	read := func(ctx context.Context, after api.ID) ([]owlapi.CVM, error) {
		return m.owlCVMs(ctx, owlapi.List{After: &after, Limit: pageSize})
	}
	id := func(c owlapi.CVM) api.ID { return c.ID }
	return pages(ctx, read, id, func(ctx context.Context, records []owlapi.CVM) (int64, error) {
		var alive []models.Orphan
		for _, c := range records {
			if !c.Deleted() {
				alive = append(alive, models.Orphan{
					ID: c.ID, Kind: models.OrphanCVM, Name: c.Name, AppID: &c.AppID, Generation: c.Generation,
				})
			}
		}
		return m.recordOrphans(ctx, alive)
	})
}

// findOrphanRules is findOrphanCVMs for firewall rules.
func (m *Maintenance) findOrphanRules(ctx context.Context) (fresh int64, err error) {
	read := func(ctx context.Context, after api.ID) ([]owlapi.FirewallRule, error) {
		return m.owlRules(ctx, owlapi.List{After: &after, Limit: pageSize})
	}
	id := func(r owlapi.FirewallRule) api.ID { return r.ID }
	return pages(ctx, read, id, func(ctx context.Context, records []owlapi.FirewallRule) (int64, error) {
		var alive []models.Orphan
		for _, r := range records {
			if !r.Deleted() {
				alive = append(alive, models.Orphan{
					ID: r.ID, Kind: models.OrphanFirewallRule, Name: ruleName(r), CVMID: &r.CVMID,
				})
			}
		}
		return m.recordOrphans(ctx, alive)
	})
}

// ruleName is what a rule lets through: "10.0.0.0/8 tcp 443".
func ruleName(r owlapi.FirewallRule) string {
	port := "all"
	if r.Port != nil {
		port = strconv.FormatInt(*r.Port, 10)
	}
	return r.CIDR + " " + r.Protocol + " " + port
}

// known says that Platform has a row v.id, and that this row speaks for what
// Owl has: one that was deleted so long ago that its deletion is compared no
// more does not.
const known = `EXISTS (SELECT 1 FROM cvms k WHERE k.id = v.id
		AND (k.reconcile_after IS NOT NULL OR k.deleted_at IS NULL OR k.deleted_at > now() - ` + comparedAfterDeletion + `))
	OR EXISTS (SELECT 1 FROM firewall_rules k WHERE k.id = v.id
		AND (k.reconcile_after IS NOT NULL OR k.deleted_at IS NULL OR k.deleted_at > now() - ` + comparedAfterDeletion + `))`

// recordOrphans keeps those of Owl's living records that Platform does not
// know, and does nothing to them. They come by ascending ID, so that two
// sweeps at once take the rows in one order; and one that waited for the other
// does not set back when an orphan was last seen, or the other would forget it.
func (m *Maintenance) recordOrphans(ctx context.Context, alive []models.Orphan) (fresh int64, err error) {
	if len(alive) == 0 {
		return 0, nil
	}
	args := make([]any, 0, 6*len(alive))
	for _, o := range alive {
		args = append(args, o.ID, o.Kind, o.Name, o.AppID, o.CVMID, o.Generation)
	}
	var rows []models.Orphan
	err = faultpoint.Poll("platform.sweep_orphan", func() (int, error) {
		rows, err = query[models.Orphan](ctx, m, `
			WITH v (id, kind, name, app_id, cvm_id, generation) AS (VALUES `+
			tuples("(?::uuid, ?::text, ?::text, ?::uuid, ?::uuid, ?::bigint)", len(alive))+`)
			INSERT INTO orphans (id, kind, name, app_id, cvm_id, generation)
			SELECT * FROM v WHERE NOT (`+known+`) ORDER BY id
			ON CONFLICT (id) DO UPDATE SET last_seen_at = GREATEST(orphans.last_seen_at, clock_timestamp()),
				generation = excluded.generation
			RETURNING *`, args...)
		return len(rows), err
	})
	if err != nil {
		return 0, fmt.Errorf("record orphans: %w", err)
	}
	for _, o := range rows {
		if o.FirstSeenAt.Equal(o.LastSeenAt) {
			fresh++
			m.logOrphan(ctx, o)
		}
	}
	return fresh, nil
}

func (m *Maintenance) logOrphan(ctx context.Context, o models.Orphan) {
	attrs := []slog.Attr{
		slog.String("id", o.ID.String()), slog.String("kind", string(o.Kind)), slog.String("name", o.Name),
		slog.Int64("generation", o.Generation),
	}
	if o.AppID != nil {
		attrs = append(attrs, slog.String("app_id", o.AppID.String()))
	}
	if o.CVMID != nil {
		attrs = append(attrs, slog.String("cvm_id", o.CVMID.String()))
	}
	m.cfg.Logger.LogAttrs(ctx, slog.LevelError,
		"Owl has what Platform has never heard of; it is left alone: platform orphan adopt or delete it", attrs...)
}

// forgetOrphans drops those that a whole sweep has not seen: deleted at Owl,
// or known here since.
func (m *Maintenance) forgetOrphans(ctx context.Context, began time.Time) (n int64, err error) {
	err = faultpoint.Poll("platform.sweep_forget", func() (int, error) {
		n, err = m.update(ctx, `DELETE FROM orphans WHERE last_seen_at < ?`, began)
		return int(n), err
	})
	if err != nil {
		return n, fmt.Errorf("forget orphans: %w", err)
	}
	return n, nil
}

// finishDeletions deletes at Owl what somebody decided to delete and did not
// get to the end of.
func (m *Maintenance) finishDeletions(ctx context.Context) error {
	doomed, err := query[models.Orphan](ctx, m, `SELECT * FROM orphans v WHERE decision = 'delete' AND NOT (`+known+`)
		ORDER BY id LIMIT ?`, pageSize)
	if err != nil {
		return fmt.Errorf("read orphans to delete: %w", err)
	}
	for _, o := range doomed {
		if err := m.deleteAtOwl(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// deleteAtOwl deletes a marked orphan's machine, then the orphan. Between the
// two it is found again, and the second time Owl answers 410.
func (m *Maintenance) deleteAtOwl(ctx context.Context, o models.Orphan) error {
	call, cancel := m.call(ctx)
	defer cancel()
	remove := m.cfg.Owl.DeleteCVM
	if o.Kind == models.OrphanFirewallRule {
		remove = m.cfg.Owl.DeleteFirewallRule
	}
	err := faultpoint.Step("platform.sweep_delete", func() error { return remove(call, o.ID) })
	if err != nil && !reconcile.DeletionConfirmed(err) {
		return fmt.Errorf("delete orphan %s at Owl: %w", o.ID, err)
	}
	err = faultpoint.Step("platform.sweep_deleted", func() error {
		_, err := m.update(ctx, `DELETE FROM orphans WHERE id = ? AND decision = 'delete'`, o.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget deleted orphan %s: %w", o.ID, err)
	}
	m.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "deleted an orphan, as was decided",
		slog.String("id", o.ID.String()), slog.String("kind", string(o.Kind)))
	return nil
}

// Orphans lists what Owl has and Platform has never heard of, longest first.
func (m *Maintenance) Orphans(ctx context.Context) ([]models.Orphan, error) {
	orphans, err := query[models.Orphan](ctx, m, `SELECT * FROM orphans ORDER BY first_seen_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list orphans: %w", err)
	}
	return orphans, nil
}

// Orphan reads one: CodeNotFound.
func (m *Maintenance) Orphan(ctx context.Context, id api.ID) (models.Orphan, error) {
	orphans, err := query[models.Orphan](ctx, m, `SELECT * FROM orphans WHERE id = ?`, id)
	if err != nil {
		return models.Orphan{}, fmt.Errorf("read orphan: %w", err)
	}
	if len(orphans) == 0 {
		return models.Orphan{}, noOrphan(id)
	}
	return orphans[0], nil
}

// DeleteOrphan decides that an orphan is to go, and deletes it at Owl. The
// decision is committed first: whatever becomes of the rest, the next sweep or
// a repetition of this finishes it. already says that it is deleted: Platform
// does not know the ID, and Owl has its tombstone. CodeNotFound for an ID that
// is no orphan; CodeInvalidState when Platform knows it, so that it is none.
func (m *Maintenance) DeleteOrphan(ctx context.Context, id api.ID) (already bool, err error) {
	marked, err := query[models.Orphan](ctx, m, `UPDATE orphans v SET decision = 'delete'
		WHERE id = ? AND NOT (`+known+`) RETURNING *`, id)
	if err != nil {
		return false, fmt.Errorf("mark orphan for deletion: %w", err)
	}
	if len(marked) > 0 {
		if err := m.deleteAtOwl(ctx, marked[0]); err != nil {
			return false, fmt.Errorf("it is decided that %s is deleted, and a sweep will do it, or a repetition of this: %w", id, err)
		}
		return false, nil
	}
	if err := m.refuseKnown(ctx, id); err != nil {
		return false, err
	}
	already, err = m.hasTombstone(ctx, id)
	switch {
	case err != nil:
		return false, fmt.Errorf("there is no orphan %s, and Owl does not say whether it was deleted. Nothing was done; it is safe to repeat: %w", id, err)
	case !already:
		return false, noOrphan(id)
	}
	return true, nil
}

func noOrphan(id api.ID) error {
	return api.Errorf(api.CodeNotFound, "there is no orphan %s. Nothing was done: orphan list shows those that the last sweep saw.", id)
}

func (m *Maintenance) refuseKnown(ctx context.Context, id api.ID) error {
	var row models.Orphan
	err := m.db.WithContext(ctx).Raw(`SELECT v.id FROM (VALUES (?::uuid)) v (id) WHERE `+known, id).Take(&row).Error
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s: %w", id, err)
	}
	return api.Errorf(api.CodeInvalidState, "%s is no orphan, for Platform knows it: it is deleted through the API, if it is not yet. Nothing was done.", id)
}

// hasTombstone reports whether Owl knows the ID as deleted, of whichever kind.
func (m *Maintenance) hasTombstone(ctx context.Context, id api.ID) (bool, error) {
	one := owlapi.List{IDs: []api.ID{id}}
	cvms, err := m.owlCVMs(ctx, one)
	if err != nil {
		return false, err
	}
	rules, err := m.owlRules(ctx, one)
	return slices.ContainsFunc(cvms, owlapi.CVM.Deleted) || slices.ContainsFunc(rules, owlapi.FirewallRule.Deleted), err
}
