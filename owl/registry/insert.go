package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/jsondiff"
	"roost/models"
	"roost/models/faultpoint"
	"roost/models/pg"
)

// Outcome is what became of one insert. Its values are metrics labels.
type Outcome string

// The four outcomes.
const (
	Created  Outcome = "created"  // 201
	Existing Outcome = "existing" // 200
	Conflict Outcome = "conflict" // 409
	Gone     Outcome = "gone"     // 410
)

const (
	// insertRounds bounds how often an insert begins again because the row it
	// lost to went away before it could be read.
	insertRounds = 3
	// maxConflictFields bounds how many differing members an error names.
	maxConflictFields = 100
)

// Insertion is what became of one row. Row is the record as it is now, not
// the one proposed, unless Err is set.
type Insertion[T any] struct {
	Outcome Outcome
	Row     T
	Err     error // *api.Error for Conflict, Gone and a parent that is not there
}

// Kind is what InsertIfAbsent must know of a kind of resource.
type Kind[T any] struct {
	// Name is the resource's word in sentences.
	Name string
	// Insert runs one INSERT … ON CONFLICT (id) DO NOTHING and returns the
	// rows that it made.
	Insert func(tx *gorm.DB, rows []T) ([]T, error)
	// Read returns those of the rows that exist, tombstones included.
	Read func(tx *gorm.DB, ids []api.ID) ([]T, error)
	// Head returns what the kinds have in common.
	Head func(row *T) Head
	// Gone makes the 410 for a tombstone.
	Gone func(row *T) error
	// Parent says why a row could be neither inserted nor read: the 404 or 410
	// of what it lives under, or nil if that is alive.
	Parent func(tx *gorm.DB, row *T) error
}

// Head is what the kinds have in common.
type Head struct {
	ID      api.ID
	Digests models.JSON
	Dead    bool // a tombstone
}

// InsertIfAbsent inserts the rows whose IDs are free and says of each what
// became of it. Rows of one ID behave as if they came one after the other.
// The error is of the database and concerns them all; whatever became of them,
// the same call again is safe.
func InsertIfAbsent[T any](ctx context.Context, db *gorm.DB, kind Kind[T], rows []T) ([]Insertion[T], error) {
	out := make([]Insertion[T], len(rows))
	open := make([]int, len(rows)) // indexes of rows without an outcome
	for i := range rows {
		open[i] = i
	}
	for range insertRounds {
		batch := &batch[T]{tx: db.WithContext(ctx), kind: kind, rows: rows, out: out}
		var err error
		if open, err = batch.run(open); err != nil {
			return nil, fmt.Errorf("insert %s: %w", kind.Name, err)
		}
		if len(open) == 0 {
			return out, nil
		}
	}
	return nil, &api.Error{
		Code: api.CodeUnavailable, RetryAfter: retryAfter,
		Detail: "the ID's tombstone expired at this very moment. Sending the same request again is safe.",
	}
}

// batch is one round of InsertIfAbsent.
type batch[T any] struct {
	tx   *gorm.DB
	kind Kind[T]
	rows []T
	out  []Insertion[T]
}

// run inserts, then reads what was there before, and returns the indexes of
// rows that were neither.
func (b *batch[T]) run(open []int) ([]int, error) {
	firsts := b.firstOfEachID(open)
	made, err := b.insert(firsts)
	if err != nil {
		return nil, err
	}
	var rest []int
	for _, i := range open {
		id := b.kind.Head(&b.rows[i]).ID
		if row, ok := made[id]; ok && slices.Contains(firsts, i) {
			b.out[i] = Insertion[T]{Outcome: Created, Row: row}
			continue
		}
		rest = append(rest, i)
	}
	return b.judge(rest)
}

// firstOfEachID returns the first index of each ID, by ascending ID: two
// batches that overlap then wait for each other in one order.
func (b *batch[T]) firstOfEachID(open []int) []int {
	seen := make(map[api.ID]bool, len(open))
	var firsts []int
	for _, i := range open {
		if id := b.kind.Head(&b.rows[i]).ID; !seen[id] {
			seen[id] = true
			firsts = append(firsts, i)
		}
	}
	slices.SortFunc(firsts, func(x, y int) int {
		a, c := b.kind.Head(&b.rows[x]).ID, b.kind.Head(&b.rows[y]).ID
		return bytes.Compare(a[:], c[:])
	})
	return firsts
}

func (b *batch[T]) insert(firsts []int) (map[api.ID]T, error) {
	rows := make([]T, len(firsts))
	for n, i := range firsts {
		rows[n] = b.rows[i]
	}
	var inserted []T
	err := faultpoint.Step("owl.insert", func() (err error) {
		inserted, err = b.kind.Insert(b.tx, rows)
		return err
	})
	if err != nil && len(rows) > 1 && !pg.IsTransient(err) {
		inserted, err = b.insertOneByOne(firsts)
	}
	if err != nil {
		return nil, err
	}
	return b.byID(inserted), nil
}

// insertOneByOne keeps one row that Postgres refuses from stopping the others.
func (b *batch[T]) insertOneByOne(firsts []int) ([]T, error) {
	var inserted []T
	for _, i := range firsts {
		made, err := b.kind.Insert(b.tx, b.rows[i:i+1])
		if pg.IsTransient(err) {
			return nil, err
		}
		b.out[i].Err = err
		inserted = append(inserted, made...)
	}
	return inserted, nil
}

// judge compares rows that were not inserted with what is there instead.
func (b *batch[T]) judge(rest []int) (open []int, err error) {
	ids := make([]api.ID, 0, len(rest))
	for _, i := range rest {
		ids = append(ids, b.kind.Head(&b.rows[i]).ID)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := b.kind.Read(b.tx, ids)
	if err != nil {
		return nil, err
	}
	existing := b.byID(found)
	for n, i := range rest {
		row, ok := existing[ids[n]]
		if ok {
			b.out[i] = b.compare(&b.rows[i], row)
			continue
		}
		if b.out[i].Err == nil {
			b.out[i].Err = b.kind.Parent(b.tx, &b.rows[i])
		}
		if b.out[i].Err == nil {
			open = append(open, i)
		}
	}
	return open, nil
}

func (b *batch[T]) compare(proposed *T, row T) Insertion[T] {
	head := b.kind.Head(&row)
	if head.Dead {
		return Insertion[T]{Outcome: Gone, Row: row, Err: b.kind.Gone(&row)}
	}
	fields, err := differ(head.Digests, b.kind.Head(proposed).Digests)
	if err != nil {
		return Insertion[T]{Err: err}
	}
	if len(fields) > 0 {
		return Insertion[T]{Outcome: Conflict, Row: row, Err: conflict(b.kind.Name, head.ID, fields)}
	}
	return Insertion[T]{Outcome: Existing, Row: row}
}

func (b *batch[T]) byID(rows []T) map[api.ID]T {
	out := make(map[api.ID]T, len(rows))
	for i := range rows {
		out[b.kind.Head(&rows[i]).ID] = rows[i]
	}
	return out
}

// digests flattens a create request for comparison.
func digests(request any) (models.JSON, error) {
	doc, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the create request: %w", err)
	}
	flat, err := jsondiff.Digests(doc)
	if err != nil {
		return nil, fmt.Errorf("flatten the create request: %w", err)
	}
	out, err := json.Marshal(flat)
	if err != nil {
		return nil, fmt.Errorf("encode the create request's digests: %w", err)
	}
	return out, nil
}

func differ(stored, proposed models.JSON) ([]string, error) {
	var a, b map[string]string
	if err := errors.Join(json.Unmarshal(stored, &a), json.Unmarshal(proposed, &b)); err != nil {
		return nil, fmt.Errorf("decode the create request's digests: %w", err)
	}
	return jsondiff.Diff(a, b), nil
}

func conflict(what string, id api.ID, pointers []string) error {
	e := api.Errorf(api.CodeIDConflict,
		"%s %s was created by a request with other members. Nothing was done; an ID names one request for ever.", what, id)
	for _, p := range pointers[:min(len(pointers), maxConflictFields)] {
		e.Fields = append(e.Fields, api.FieldError{Field: p, Message: "differs from the request that created it"})
	}
	return e
}
