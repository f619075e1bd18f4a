package maintenance

import (
	"context"
	"fmt"
	"time"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/faultpoint"
)

// ownCVM is a CVM's row at rest, as far as it is compared.
type ownCVM struct {
	ID               api.ID
	Generation       int64
	PushedGeneration int64
	ErrorCode        *string
	DeletedAt        *time.Time
}

func (c ownCVM) id() api.ID { return c.ID }

const (
	ownCVMColumns = `id, generation, pushed_generation, error_code, deleted_at`
	// cvmAtRest picks the rows to compare: those that wait for nothing and that
	// Owl has confirmed, deletions for a while.
	cvmAtRest = `reconcile_after IS NULL
		AND (deleted_at IS NULL AND confirmed OR deleted_at > now() - ` + comparedAfterDeletion + `)`
)

// sweepCVMs goes through Platform's rows.
func (m *Maintenance) sweepCVMs(ctx context.Context) (due int64, err error) {
	read := func(ctx context.Context, after api.ID) ([]ownCVM, error) {
		rows, err := query[ownCVM](ctx, m, `SELECT `+ownCVMColumns+` FROM cvms
			WHERE id > ? AND `+cvmAtRest+` ORDER BY id LIMIT ?`, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("read CVMs at rest: %w", err)
		}
		return rows, nil
	}
	return pages(ctx, read, ownCVM.id, m.compareCVMs)
}

// compareCVMs makes those rows due that Owl has otherwise. They were read
// before Owl is asked: what is at rest has reached Owl, so whatever happens
// meanwhile shows in the row's generation.
func (m *Maintenance) compareCVMs(ctx context.Context, rows []ownCVM) (due int64, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	records, err := m.owlCVMs(ctx, owlapi.List{IDs: ids(rows, ownCVM.id)})
	if err != nil {
		return 0, err
	}
	theirs := byID(records, func(c owlapi.CVM) api.ID { return c.ID })
	var differing []ownCVM
	for _, row := range rows {
		if record, has := theirs[row.ID]; !row.agrees(record, has) {
			differing = append(differing, row)
		}
	}
	return m.makeCVMsDue(ctx, differing)
}

// agrees reports whether Owl has what the row says.
func (c ownCVM) agrees(record owlapi.CVM, has bool) bool {
	alive := has && !record.Deleted()
	switch {
	case c.DeletedAt != nil:
		return has && !alive // a tombstone, which stops what may still be on its way
	case c.ErrorCode != nil && *c.ErrorCode == string(api.CodeResourceDeleted):
		return !alive // it was deleted below us, and that has been said
	case !alive:
		return false
	case record.Generation == c.Generation:
		return true
	}
	// A change that Owl refused has failed and is at rest, never pushed.
	return c.ErrorCode != nil && record.Generation == c.PushedGeneration
}

// makeCVMsDue makes those rows due that are as they were compared; what to do
// about them is for reconcile to find out. A deletion is sent again, and the
// row stays deleted for everybody who asks.
func (m *Maintenance) makeCVMsDue(ctx context.Context, rows []ownCVM) (n int64, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	args := make([]any, 0, 2*len(rows))
	for _, row := range rows {
		args = append(args, row.ID, row.Generation)
	}
	err = faultpoint.Step("platform.sweep_due", func() (err error) {
		// Locked in one order first: an UPDATE takes rows as its plan likes.
		n, err = m.update(ctx, `
			WITH v (id, generation) AS (VALUES `+tuples("(?::uuid, ?::bigint)", len(rows))+`),
			locked AS MATERIALIZED (SELECT c.id FROM cvms c JOIN v ON v.id = c.id ORDER BY c.id FOR UPDATE OF c)
			UPDATE cvms c SET reconcile_after = now(), attempts = 0, updated_at = clock_timestamp(),
				delete_confirmed = c.delete_confirmed AND c.deleted_at IS NULL
			FROM v JOIN locked ON locked.id = v.id
			WHERE c.id = v.id AND c.generation = v.generation AND c.reconcile_after IS NULL`, args...)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("make CVMs due: %w", err)
	}
	m.madeDue(ctx, "cvm", n, rows[0].ID)
	return n, nil
}
