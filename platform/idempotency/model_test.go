package idempotency_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"roost/api"
	"roost/platform/idempotency"
)

// modelKey is what a key should be: bound by a committed transaction, or
// being bound by one that is open, or both when an expired key is taken over.
type modelKey struct {
	committed *modelBinding
	expired   bool

	open    *gorm.DB
	pending *modelBinding
}

type modelBinding struct {
	body      string
	requestID string
	result    idempotency.Result
}

// model runs the same steps on Keys and on a few lines of obvious code.
type model struct {
	b       *testBundle
	keys    [3]modelKey
	running map[string]bool // operations that have not ended
	seen    map[string]int  // answers of claim, over all runs
}

func (m *model) alive(k *modelKey) bool {
	return k.committed != nil && (!k.expired || m.running[k.committed.result.OperationID])
}

func (m *model) request(i int, body string) idempotency.Request {
	req := m.b.request(keyName(i))
	req.Members = map[string]string{"/body": body}
	return req
}

// claim opens a transaction for a claim; it stays open when the key is its.
func (m *model) claim(t *rapid.T) {
	i, body := m.draw(t), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "body")
	k, req, res := &m.keys[i], m.request(i, body), m.b.result()
	tx := m.b.db.Begin()
	require.NoError(t, tx.Error)
	bound, mine, err := m.b.keys.Claim(tx, req, res, 0)
	switch {
	case k.open != nil:
		m.seen["in progress"]++
		requireCode(t, err, api.CodeKeyInProgress)
	case m.alive(k) && k.committed.body != body:
		m.seen["mismatch"]++
		requireCode(t, err, api.CodeIdempotencyKeyReused)
	case m.alive(k):
		m.seen["replay"]++
		require.NoError(t, err)
		require.False(t, mine)
		k.committed.check(t, bound)
	default:
		if k.committed == nil {
			m.seen["new"]++
		} else {
			m.seen["taken over"]++
		}
		require.NoError(t, err)
		require.True(t, mine)
		k.open, k.pending = tx, &modelBinding{body: body, requestID: req.RequestID, result: res}
		k.pending.check(t, bound)
		return
	}
	require.False(t, mine)
	require.NoError(t, tx.Rollback().Error)
}

func (b *modelBinding) check(t *rapid.T, got idempotency.Bound) {
	require.True(t, b.result.Equal(got.Result))
	require.Equal(t, b.requestID, got.RequestID)
}

func (m *model) draw(t *rapid.T) int { return rapid.IntRange(0, len(m.keys)-1).Draw(t, "key") }

// opened are the keys that an open transaction is binding.
func (k *modelKey) opened() bool { return k.open != nil }

// resting are the keys that are bound and that no open transaction changes.
func (k *modelKey) resting() bool { return k.open == nil && k.committed != nil }

// each makes a step of fn: it runs for one of the keys that are fit for it. A
// step that nothing is fit for is a claim, so that every step does something.
func (m *model) each(fit func(*modelKey) bool, fn func(*rapid.T, int, *modelKey)) func(*rapid.T) {
	return func(t *rapid.T) {
		var which []int
		for i := range m.keys {
			if fit(&m.keys[i]) {
				which = append(which, i)
			}
		}
		if which == nil {
			m.claim(t)
			return
		}
		i := rapid.SampledFrom(which).Draw(t, "fit key")
		fn(t, i, &m.keys[i])
	}
}

func (m *model) rebind(t *rapid.T, i int, k *modelKey) {
	k.pending.result = m.b.result()
	require.NoError(t, m.b.keys.Rebind(k.open, m.request(i, k.pending.body), k.pending.result))
}

func (m *model) commit(t *rapid.T, _ int, k *modelKey) {
	require.NoError(t, k.open.Commit().Error)
	*k = modelKey{committed: k.pending}
}

func (m *model) rollback(t *rapid.T, _ int, k *modelKey) {
	require.NoError(t, k.open.Rollback().Error)
	k.open, k.pending = nil, nil
}

func (m *model) expire(t *rapid.T, i int, k *modelKey) {
	m.exec(t, `UPDATE idempotency_keys SET expires_at = now() - interval '1 hour' WHERE workspace_id = ? AND key = ?`, i)
	k.expired = true
}

func (m *model) reap(t *rapid.T, i int, k *modelKey) {
	if !m.alive(k) { // as the reaper's WHERE says
		m.exec(t, `DELETE FROM idempotency_keys WHERE workspace_id = ? AND key = ?`, i)
		*k = modelKey{}
	}
}

func (m *model) exec(t *rapid.T, sql string, i int) {
	res := m.b.db.Exec(sql, m.b.workspace, keyName(i))
	require.NoError(t, res.Error)
	require.EqualValues(t, 1, res.RowsAffected)
}

// toggle starts or ends the key's operation.
func (m *model) toggle(_ *rapid.T, _ int, k *modelKey) {
	id := k.committed.result.OperationID
	m.running[id] = !m.running[id]
}

// check looks at every key after every step, as GET /idempotency-keys does.
func (m *model) check(t *rapid.T) {
	for i := range m.keys {
		k := &m.keys[i]
		got, err := m.b.keys.Lookup(m.b.db, m.b.workspace, keyName(i))
		if !m.alive(k) {
			requireCode(t, err, api.CodeNotFound)
			continue
		}
		require.NoError(t, err)
		k.committed.check(t, got)
	}
}

func (m *model) close() {
	for i := range m.keys {
		if m.keys[i].open != nil {
			m.keys[i].open.Rollback()
		}
	}
}

func TestKeysBehaveAsTheModelDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		own := *b
		own.workspace = b.mint.ID() // nothing of the last run is seen
		m := &model{b: &own, running: map[string]bool{}, seen: seen}
		own.keys.Running = func(_ *gorm.DB, id string) (bool, error) { return m.running[id], nil }
		defer m.close()
		t.Repeat(map[string]func(*rapid.T){
			"claim": m.claim, "claim again": m.claim, "commit": m.each((*modelKey).opened, m.commit),
			"rebind": m.each((*modelKey).opened, m.rebind), "rollback": m.each((*modelKey).opened, m.rollback),
			"expire": m.each((*modelKey).resting, m.expire), "reap": m.each((*modelKey).resting, m.reap),
			"toggle": m.each((*modelKey).resting, m.toggle), "": m.check,
		})
	})
	t.Log(seen)
	for _, answer := range []string{"new", "replay", "mismatch", "in progress", "taken over"} {
		require.Positive(t, seen[answer], "no run has exercised %q", answer)
	}
}
