package provision

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/models/faultpoint"
)

// claim is the right to write the result for a row, while its fence is the
// row's.
type claim struct {
	id    api.ID
	fence int64
}

// queue claims due rows of one table and works on many at once.
type queue[T any] struct {
	db      *gorm.DB
	log     *slog.Logger
	contain func(ctx context.Context, unit string, work func(), about ...slog.Attr)
	table   string
	columns string
	lease   time.Duration
	poll    time.Duration
	slots   int
	work    func(ctx context.Context, row T)
	claimOf func(row T) claim

	wake  chan struct{}
	ended chan struct{} // a slot is free

	mu     sync.Mutex
	active map[api.ID]*run // the newest claim of each ID
	busy   int             // slots taken, by older claims too
	called [][]any         // claims whose work ended because the queue was stopping
	all    sync.WaitGroup
}

// run is one claim's work under way.
type run struct {
	claim
	cancel context.CancelFunc
}

func newQueue[T any](
	p *Provisioner, table, columns string, work func(context.Context, T), claimOf func(T) claim,
) *queue[T] {
	return &queue[T]{
		db: p.cfg.DB, log: p.cfg.Logger, contain: p.contain, table: table, columns: columns,
		lease: p.cfg.Lease, poll: p.cfg.Poll, slots: p.cfg.Slots, work: work, claimOf: claimOf,
		wake: make(chan struct{}, 1), ended: make(chan struct{}, 1), active: make(map[api.ID]*run),
	}
}

func (q *queue[T]) signal() { notify(q.wake) }

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // one is waiting already
	}
}

// run fills free slots with due rows until ctx ends.
func (q *queue[T]) run(ctx context.Context) {
	poll, beat := time.NewTicker(q.poll), time.NewTicker(max(q.lease/3, time.Millisecond))
	defer poll.Stop()
	defer beat.Stop()
	for {
		q.contain(ctx, "claim", func() { q.fill(ctx) }, slog.String("table", q.table))
		select {
		case <-ctx.Done():
			q.contain(ctx, "give_back", func() { q.stop(ctx) }, slog.String("table", q.table))
			return
		case <-q.wake:
		case <-q.ended:
		case <-poll.C:
		case <-beat.C:
			q.contain(ctx, "prolong", func() { q.prolong(ctx) }, slog.String("table", q.table))
		}
	}
}

// fill claims until there is no free slot or nothing due.
func (q *queue[T]) fill(ctx context.Context) {
	if err := q.claimAll(ctx); err != nil && ctx.Err() == nil {
		q.log.LogAttrs(ctx, slog.LevelWarn, "cannot claim", slog.String("table", q.table), slog.Any("error", err))
	}
}

func (q *queue[T]) claimAll(ctx context.Context) error {
	for ctx.Err() == nil {
		want, condition, among := q.wanted()
		rows, err := q.claim(ctx, want, condition, among)
		if err != nil {
			return err
		}
		for _, row := range rows {
			q.start(ctx, row)
		}
		if len(rows) < want {
			return nil
		}
	}
	return nil
}

// wanted says how many rows to claim, and which. Without a free slot those
// are the rows under work here: what is newly asked of them replaces it, so a
// boot that never ends cannot keep its own CVM from being deleted.
func (q *queue[T]) wanted() (want int, condition string, among []any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if free := q.slots - q.busy; free > 0 {
		return min(free, claimRows), "", nil
	}
	return claimRows, " AND id IN ?", []any{slices.Collect(maps.Keys(q.active))}
}

// claim takes due rows, oldest first, and keeps others away for a lease. It is
// not interrupted: a claim that nobody heard of would have to run out.
func (q *queue[T]) claim(ctx context.Context, limit int, condition string, args []any) ([]T, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resultTimeout)
	defer cancel()
	var rows []T
	err := faultpoint.Poll("owl.claim", func() (int, error) {
		err := q.db.WithContext(ctx).Raw(`WITH due AS MATERIALIZED (
				SELECT id FROM `+q.table+` WHERE due_at <= now()`+condition+`
				ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED)
			UPDATE `+q.table+` SET due_at = now() + make_interval(secs => ?), fence = fence + 1
			WHERE id IN (SELECT id FROM due) RETURNING `+q.columns,
			append(args, limit, q.lease.Seconds())...).Find(&rows).Error
		return len(rows), err
	})
	if err != nil {
		return nil, fmt.Errorf("claim due rows: %w", err)
	}
	return rows, nil
}

// start works on a row, and calls off older work on the same one: what it
// would find can no longer be written.
func (q *queue[T]) start(queue context.Context, row T) {
	ctx, cancel := context.WithCancel(queue)
	mine := &run{claim: q.claimOf(row), cancel: cancel}
	q.mu.Lock()
	if older := q.active[mine.id]; older != nil {
		older.cancel()
	}
	q.active[mine.id] = mine
	q.busy++
	q.mu.Unlock()
	q.all.Go(func() {
		defer q.end(queue, mine)
		q.contain(ctx, "work", func() { q.work(ctx, row) },
			slog.String("table", q.table), slog.String("id", mine.id.String()))
	})
}

func (q *queue[T]) end(queue context.Context, mine *run) {
	mine.cancel()
	q.mu.Lock()
	if q.active[mine.id] == mine {
		delete(q.active, mine.id)
	}
	if queue.Err() != nil {
		q.called = append(q.called, []any{mine.id, mine.fence})
	}
	q.busy--
	q.mu.Unlock()
	notify(q.ended)
}

func (q *queue[T]) claims() [][]any {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out [][]any
	for _, r := range q.active {
		out = append(out, []any{r.id, r.fence})
	}
	return out
}

// prolong keeps the leases of work under way. A row that something newer made
// due is due, so it is left alone.
func (q *queue[T]) prolong(ctx context.Context) {
	claims := q.claims()
	if len(claims) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, resultTimeout)
	defer cancel()
	err := faultpoint.Step("owl.prolong", func() error {
		return q.db.WithContext(ctx).Exec(`UPDATE `+q.table+` SET due_at = now() + make_interval(secs => ?)
			WHERE due_at > now() AND (id, fence) IN ?`, q.lease.Seconds(), claims).Error
	})
	if err != nil && ctx.Err() == nil {
		q.log.LogAttrs(ctx, slog.LevelWarn, "cannot prolong leases", slog.String("table", q.table), slog.Any("error", err))
	}
}

// stop waits for the work to be called off and gives back what was claimed,
// so that the next Owl need not wait for a lease. What had a result meanwhile
// is at rest, and stays so.
func (q *queue[T]) stop(ctx context.Context) {
	q.all.Wait()
	if len(q.called) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resultTimeout)
	defer cancel()
	err := faultpoint.Step("owl.give_back", func() error {
		return q.db.WithContext(ctx).Exec(`UPDATE `+q.table+` SET due_at = now()
			WHERE due_at > now() AND (id, fence) IN ?`, q.called).Error
	})
	if err != nil {
		q.log.LogAttrs(ctx, slog.LevelWarn, "cannot give claims back", slog.String("table", q.table), slog.Any("error", err))
	}
}
