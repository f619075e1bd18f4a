package maintenance

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"roost/api"
	"roost/api/owlapi"
)

const (
	// pageSize is how many rows are compared at a time, one page after the other.
	pageSize = owlapi.MaxBatchItems
	// callTimeout bounds one call to Owl.
	callTimeout = 10 * time.Second
	// statementTimeout bounds one statement of a sweep.
	statementTimeout = 5 * time.Second
	// comparedAfterDeletion is for how long a deletion is compared, as an
	// interval of Postgres.
	comparedAfterDeletion = `interval '7 days'`
)

// Findings is what a sweep came to.
type Findings struct {
	Due     int64 // rows at rest that differed and were made due
	Orphans int64 // seen for the first time
	Ended   int64 // orphans that are none any more
}

// Sweep compares every row with Owl's, in both directions. It stops at the
// first failure; what it did until then is right by itself.
func (m *Maintenance) Sweep(ctx context.Context) (found Findings, err error) {
	began, err := m.now(ctx)
	if err != nil {
		return found, err
	}
	for _, part := range []func(context.Context) (int64, error){m.sweepCVMs, m.sweepRules} {
		n, err := part(ctx)
		found.Due += n
		if err != nil {
			return found, err
		}
	}
	for _, part := range []func(context.Context) (int64, error){m.findOrphanCVMs, m.findOrphanRules} {
		n, err := part(ctx)
		found.Orphans += n
		if err != nil {
			return found, err
		}
	}
	if err := m.finishDeletions(ctx); err != nil {
		return found, err
	}
	found.Ended, err = m.forgetOrphans(ctx, began)
	return found, err
}

// now is Postgres' clock.
func (m *Maintenance) now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var clock struct{ Now time.Time }
	if err := m.db.WithContext(ctx).Raw(`SELECT now() AS now`).Take(&clock).Error; err != nil {
		return time.Time{}, fmt.Errorf("read the database's clock: %w", err)
	}
	return clock.Now, nil
}

// pages reads page after page by ascending ID until one is empty.
func pages[T any](
	ctx context.Context, read func(ctx context.Context, after api.ID) ([]T, error), id func(T) api.ID,
	each func(ctx context.Context, page []T) (int64, error),
) (total int64, err error) {
	var after api.ID
	for {
		page, err := read(ctx, after)
		if err != nil || len(page) == 0 {
			return total, err
		}
		last := id(page[len(page)-1])
		if bytes.Compare(last[:], after[:]) <= 0 {
			return total, fmt.Errorf("the page after %s ends with %s: it does not ascend", after, last)
		}
		n, err := each(ctx, page)
		total += n
		if err != nil {
			return total, err
		}
		after = last
	}
}

// call is the context of one call to Owl.
func (m *Maintenance) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(owlapi.WithRequestID(ctx, m.cfg.Minter.RequestID()), callTimeout)
}

func (m *Maintenance) owlCVMs(ctx context.Context, list owlapi.List) ([]owlapi.CVM, error) {
	ctx, cancel := m.call(ctx)
	defer cancel()
	list.OmitSpec = true
	records, err := m.cfg.Owl.CVMs(ctx, list)
	if err != nil {
		return nil, fmt.Errorf("read Owl's CVMs: %w", err)
	}
	return records, nil
}

func (m *Maintenance) owlRules(ctx context.Context, list owlapi.List) ([]owlapi.FirewallRule, error) {
	ctx, cancel := m.call(ctx)
	defer cancel()
	records, err := m.cfg.Owl.FirewallRules(ctx, list)
	if err != nil {
		return nil, fmt.Errorf("read Owl's firewall rules: %w", err)
	}
	return records, nil
}

// query reads rows within the time of one statement.
func query[T any](ctx context.Context, m *Maintenance, sql string, args ...any) (rows []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	return rows, m.db.WithContext(ctx).Raw(sql, args...).Find(&rows).Error
}

// update runs one statement of a sweep.
func (m *Maintenance) update(ctx context.Context, sql string, args ...any) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	return exec(m.db.WithContext(ctx), sql, args...)
}

// madeDue tells of rows that were made due.
func (m *Maintenance) madeDue(ctx context.Context, kind string, n int64, first api.ID) {
	if n == 0 {
		return
	}
	m.metrics.due.WithLabelValues(kind).Add(float64(n))
	m.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "Owl does not have what it had confirmed: reconciling again",
		slog.String("kind", kind), slog.Int64("rows", n), slog.String("first_id", first.String()))
	m.cfg.Due()
}

// ids is the IDs of some rows, in their order.
func ids[T any](rows []T, id func(T) api.ID) []api.ID {
	out := make([]api.ID, len(rows))
	for i, row := range rows {
		out[i] = id(row)
	}
	return out
}

func byID[T any](rows []T, id func(T) api.ID) map[api.ID]T {
	out := make(map[api.ID]T, len(rows))
	for _, row := range rows {
		out[id(row)] = row
	}
	return out
}

// tuples is the rows of a VALUES list.
func tuples(row string, n int) string { return strings.TrimSuffix(strings.Repeat(row+", ", n), ", ") }
