package platform_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
	"roost/api/apitest"
	"roost/platform/token"
)

// keyed is one request that the property test may send, under one key, any
// number of times, on any node.
type keyed struct {
	key, path, body string
}

// TestAtMostOneResourcePerKeyAndEvery2xxNamesIt drives two nodes with random
// requests under few keys, some of them at once, and holds every answer
// against what the first answer to its key said.
func TestAtMostOneResourcePerKeyAndEvery2xxNamesIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, second := b.node()
	workspaces := 0
	rapid.Check(t, func(rt *rapid.T) {
		workspaces++
		w := b.workspace(fmt.Sprint("w", workspaces), b.url, second)
		for range rapid.IntRange(1, 6).Draw(rt, "rounds") {
			burst := rapid.SliceOfN(rapid.Custom(w.draw), 1, 6).Draw(rt, "burst")
			w.send(burst)
		}
		w.check()
	})
}

// world is one workspace and what its keys were told.
type world struct {
	b      *testBundle
	token  string
	nodes  []string
	source api.CVM

	first map[string]string // key → IDs of the first 2xx
	told  map[string]keyed  // key → the request that got it

	executed map[string]int // key → answers that were no replay
}

func (b *testBundle) workspace(name string, nodes ...string) *world {
	w := &world{
		b: b, token: b.newToken(name, token.ScopeWrite), nodes: nodes,
		first: map[string]string{}, told: map[string]keyed{}, executed: map[string]int{},
	}
	w.source = b.post("/cvms", b.spec("source")).As(w.token).Expect(http.StatusAccepted).CVM()
	return w
}

func (w *world) draw(rt *rapid.T) keyed {
	replicas := "/apps/" + w.source.AppID.String() + "/cvms/" + w.source.VMUUID.String() + "/replicas"
	k := rapid.SampledFrom([]keyed{
		{path: "/cvms", body: w.b.spec("one")},
		{path: "/cvms", body: w.b.spec("two")},
		{path: replicas, body: `{}`},
		{path: replicas, body: `{"name":"blue"}`},
		{path: replicas, body: `{"count":2}`},
		{path: "/apps", body: `{"name":"shop"}`},
	}).Draw(rt, "request")
	k.key = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
	return k
}

func (w *world) send(burst []keyed) {
	replies := apitest.Together(w.b.t, len(burst), func(i int) *apitest.Call {
		return w.b.post(burst[i].path, burst[i].body).Key(burst[i].key).As(w.token).At(w.nodes[i%len(w.nodes)])
	})
	for i, r := range replies {
		w.hold(burst[i], r)
	}
}

// hold checks one answer against what its key was told before.
func (w *world) hold(k keyed, r *apitest.Reply) {
	t := w.b.t
	if r.Status == http.StatusConflict {
		// Either another request has the key, or another app the name.
		p := apitest.Decode[api.Problem](r)
		require.Contains(t, []api.Code{api.CodeIdempotencyKeyReused, api.CodeAppExists}, p.ErrorCode)
		require.False(t, p.Retryable)
		return
	}
	require.Equal(t, 2, r.Status/100, string(r.Body))
	ids := named(r)
	if !r.Replayed() {
		w.executed[k.key]++
		require.Equal(t, 1, w.executed[k.key], "a key is executed once")
	}
	if seen, ok := w.first[k.key]; ok {
		require.Equal(t, seen, ids, "every 2xx to a key names the same IDs")
		require.Equal(t, w.told[k.key], k, "only the request that bound the key is answered with 2xx")
		return
	}
	w.first[k.key], w.told[k.key] = ids, k
}

// named is the IDs that an answer names, in order.
func named(r *apitest.Reply) string {
	if many := apitest.Decode[api.CVMs](r); len(many.Items) > 0 {
		ids := []string{many.Operation.ID}
		for _, c := range many.Items {
			ids = append(ids, c.VMUUID.String())
		}
		return strings.Join(ids, " ")
	}
	return apitest.Decode[struct{ ID api.ID }](r).ID.String()
}

// check compares the database with what was told: nothing more, nothing less.
func (w *world) check() {
	t, named := w.b.t, map[string]bool{w.source.VMUUID.String(): true}
	apps := 1
	for key, ids := range w.first {
		if w.told[key].path == "/apps" {
			apps++
			continue
		}
		for id := range strings.FieldsSeq(ids) {
			if !strings.HasPrefix(id, "op_") {
				named[id] = true
			}
		}
	}
	where := "workspace_id = '" + w.workspaceID() + "'"
	require.Equal(t, len(named), w.b.count("cvms", where), "every CVM is named by an answer")
	require.LessOrEqual(t, apps, w.b.count("apps", where))
	require.Equal(t, len(w.first), w.b.count("idempotency_keys", where), "only accepted requests bind keys")
}

func (w *world) workspaceID() string {
	var app struct{ WorkspaceID api.ID }
	require.NoError(w.b.t, w.b.db.Raw("SELECT workspace_id FROM apps WHERE id = ?", w.source.AppID).Scan(&app).Error)
	return app.WorkspaceID.String()
}
