package idempotency

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/jsondiff"
	"roost/models"
	"roost/models/pg"
)

// claimRounds bounds how often Claim begins again when the key it met is
// reaped or taken over under its eyes. Two would do; more is a bug.
const claimRounds = 5

// Request is what a key is bound to. Two requests under one key are the same
// when Method, Route, Path and Members are.
type Request struct {
	Workspace api.ID
	Key       string
	Method    string
	Route     string            // the pattern, with the IDs in Path
	Path      map[string]string // name → canonical value
	Members   map[string]string // see Members
	RequestID string
}

// Result is what came of the request that bound a key.
type Result struct {
	Status      int
	OperationID string // "" for calls that have none
	ResourceID  api.ID // zero for calls that have none
	Body        []byte // of an echo call, byte for byte; nil for a live one
}

// Equal reports whether two results are the same.
func (r Result) Equal(other Result) bool {
	return r.Status == other.Status && r.OperationID == other.OperationID &&
		r.ResourceID == other.ResourceID && bytes.Equal(r.Body, other.Body)
}

// Bound is a key that is bound.
type Bound struct {
	Result

	RequestID string // the request that bound it
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Keys claims and reads keys.
type Keys struct {
	// TTL is how long a key is kept.
	TTL time.Duration
	// Running reports whether an operation has not ended: a key is kept at
	// least until then. It sees the claiming transaction.
	Running func(tx *gorm.DB, operationID string) (bool, error)
}

// Claim binds the key to the request and the expected result, or finds what
// it is bound to. mine says which. It waits at most wait for another
// transaction that is binding the key at this moment.
//
// Errors: CodeKeyInProgress when the wait was too short, and
// CodeIdempotencyKeyReused when the key is bound to another request, with the
// members that differ. A key that is found bound is neither written nor
// locked.
func (k Keys) Claim(tx *gorm.DB, req Request, expected Result, wait time.Duration) (bound Bound, mine bool, err error) {
	for range claimRounds {
		bound, mine, err = k.insert(tx, req, expected, wait)
		if err != nil || mine {
			return bound, mine, err
		}
		row, err := read(tx, req.Workspace, req.Key)
		if errors.Is(err, gorm.ErrRecordNotFound) {
			continue // reaped since the INSERT met it
		}
		if err != nil {
			return Bound{}, false, err
		}
		alive, err := k.alive(tx, row)
		if err != nil {
			return Bound{}, false, err
		}
		if alive {
			return row.bound(), false, compare(row, req)
		}
		bound, mine, err = k.takeOver(tx, req, expected)
		if err != nil || mine {
			return bound, mine, err
		}
	}
	return Bound{}, false, fmt.Errorf("claim key: not settled after %d rounds", claimRounds)
}

// Rebind stores the result of a key that this transaction has claimed, where
// it turned out other than expected.
func (k Keys) Rebind(tx *gorm.DB, req Request, result Result) error {
	res := tx.Exec(`UPDATE idempotency_keys SET status = ?, operation_id = ?, resource_id = ?, body = ?
		WHERE workspace_id = ? AND key = ?`,
		result.Status, nullString(result.OperationID), nullID(result.ResourceID), result.Body,
		req.Workspace, req.Key)
	if res.Error != nil {
		return fmt.Errorf("rebind key: %w", res.Error)
	}
	if res.RowsAffected != 1 {
		return errors.New("rebind key: this transaction has not claimed it")
	}
	return nil
}

// Lookup says what a key is bound to, or returns an *api.Error with
// CodeNotFound when it is not bound so far, or no longer.
func (k Keys) Lookup(db *gorm.DB, workspace api.ID, key string) (Bound, error) {
	row, err := read(db, workspace, key)
	notBound := api.Errorf(api.CodeNotFound, "this key is not bound: no request under it was accepted in this "+
		"workspace, or it has expired. A request that is on its way may still bind it.")
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Bound{}, notBound
	}
	if err != nil {
		return Bound{}, err
	}
	alive, err := k.alive(db, row)
	if err != nil {
		return Bound{}, err
	}
	if !alive {
		return Bound{}, notBound
	}
	return row.bound(), nil
}

// insert is one statement: the wait for the key's row is set before it and
// the session's own lock_timeout is back after it, without a round trip.
func (k Keys) insert(tx *gorm.DB, req Request, res Result, wait time.Duration) (Bound, bool, error) {
	path, members, err := encode(req)
	if err != nil {
		return Bound{}, false, err
	}
	var rows []claimed
	err = tx.Raw(`
		WITH wait AS MATERIALIZED (SELECT set_config('lock_timeout', ?, true))
		INSERT INTO idempotency_keys (workspace_id, key, method, route, path_params, members, request_id,
			status, operation_id, resource_id, body, expires_at)
		SELECT ?::uuid, ?::text, ?::text, ?::text, ?::json, ?::json, ?::text, ?::integer, ?::text, ?::uuid, ?::bytea,
			clock_timestamp() + ?::bigint * interval '1 microsecond' FROM wait
		ON CONFLICT (workspace_id, key) DO NOTHING
		RETURNING created_at, expires_at, set_config('lock_timeout', ?, true) AS lock_timeout`,
		milliseconds(wait), req.Workspace, req.Key, req.Method, req.Route, path, members, req.RequestID,
		res.Status, nullString(res.OperationID), nullID(res.ResourceID), res.Body,
		k.TTL.Microseconds(), milliseconds(pg.LockTimeout)).Find(&rows).Error
	return settle(rows, req, res, err, "claim key")
}

// takeOver makes an expired key this request's. Of several that try, one
// changes the row; the others see that it is no longer expired.
func (k Keys) takeOver(tx *gorm.DB, req Request, res Result) (Bound, bool, error) {
	path, members, err := encode(req)
	if err != nil {
		return Bound{}, false, err
	}
	var rows []claimed
	err = tx.Raw(`
		UPDATE idempotency_keys SET method = ?, route = ?, path_params = ?::json, members = ?::json, request_id = ?,
			status = ?, operation_id = ?, resource_id = ?, body = ?, created_at = clock_timestamp(),
			expires_at = clock_timestamp() + ?::bigint * interval '1 microsecond'
		WHERE workspace_id = ? AND key = ? AND expires_at <= now()
		RETURNING created_at, expires_at, set_config('lock_timeout', ?, true) AS lock_timeout`,
		req.Method, req.Route, path, members, req.RequestID,
		res.Status, nullString(res.OperationID), nullID(res.ResourceID), res.Body, k.TTL.Microseconds(),
		req.Workspace, req.Key, milliseconds(pg.LockTimeout)).Find(&rows).Error
	return settle(rows, req, res, err, "take over key")
}

// claimed is what both claiming statements return when they changed a row.
type claimed struct {
	CreatedAt   time.Time
	ExpiresAt   time.Time
	LockTimeout string
}

func settle(rows []claimed, req Request, res Result, err error, doing string) (Bound, bool, error) {
	if pg.IsLockTimeout(err) {
		return Bound{}, false, errInProgress()
	}
	if err != nil {
		return Bound{}, false, fmt.Errorf("%s: %w", doing, err)
	}
	if len(rows) == 0 {
		return Bound{}, false, nil
	}
	return Bound{Result: res, RequestID: req.RequestID, CreatedAt: rows[0].CreatedAt, ExpiresAt: rows[0].ExpiresAt}, true, nil
}

// row is a key as it was read, with Postgres' word on its age.
type row struct {
	models.IdempotencyKey

	Expired bool
}

func read(tx *gorm.DB, workspace api.ID, key string) (row, error) {
	var r row
	err := tx.Raw(`SELECT *, expires_at <= now() AS expired FROM idempotency_keys
		WHERE workspace_id = ? AND key = ?`, workspace, key).Take(&r).Error
	if err != nil {
		return row{}, fmt.Errorf("read key: %w", err)
	}
	return r, nil
}

func (k Keys) alive(tx *gorm.DB, r row) (bool, error) {
	if !r.Expired {
		return true, nil
	}
	if r.OperationID == nil || k.Running == nil {
		return false, nil
	}
	return k.Running(tx, *r.OperationID)
}

func (r row) bound() Bound {
	b := Bound{
		Result:    Result{Status: r.Status, Body: r.Body},
		RequestID: r.RequestID, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
	}
	if r.OperationID != nil {
		b.OperationID = *r.OperationID
	}
	if r.ResourceID != nil {
		b.ResourceID = *r.ResourceID
	}
	return b
}

// compare returns an *api.Error that names what differs, or nil.
func compare(r row, req Request) error {
	var path, members map[string]string
	if err := errors.Join(json.Unmarshal(r.PathParams, &path), json.Unmarshal(r.Members, &members)); err != nil {
		return fmt.Errorf("decode key: %w", err)
	}
	const differs = "differs from the first request"
	var fields []api.FieldError
	if r.Method != req.Method {
		fields = append(fields, api.FieldError{Field: "method", Message: differs})
	}
	if r.Route != req.Route || !maps.Equal(path, req.Path) {
		fields = append(fields, api.FieldError{Field: "path", Message: differs})
	}
	for _, pointer := range jsondiff.Diff(members, req.Members) {
		fields = append(fields, api.FieldError{Field: pointer, Message: differs})
	}
	if fields == nil {
		return nil
	}
	expires := api.NewTime(r.ExpiresAt)
	return &api.Error{
		Code:         api.CodeIdempotencyKeyReused,
		Fields:       fields,
		KeyExpiresAt: &expires,
		Detail: "this key was bound to another request (" + r.RequestID + "). Nothing was done: send the first request " +
			"unchanged to learn its outcome, or use a new key for a new request.",
	}
}

func encode(req Request) (path, members models.JSON, err error) {
	if path, err = json.Marshal(req.Path); err != nil {
		return nil, nil, fmt.Errorf("encode path: %w", err)
	}
	if members, err = json.Marshal(req.Members); err != nil {
		return nil, nil, fmt.Errorf("encode members: %w", err)
	}
	return path, members, nil
}

// milliseconds is a value for lock_timeout, where 0 would wait for ever.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10) + "ms"
}

func nullString(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func nullID(id api.ID) *api.ID {
	if id.IsZero() {
		return nil
	}
	return &id
}

func errInProgress() error {
	return &api.Error{
		Code:       api.CodeKeyInProgress,
		RetryAfter: time.Second,
		Detail: "another request with this key is being accepted at this moment. Nothing was done by this one: " +
			"send it again, unchanged, to get that one's result.",
	}
}
