package stack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/stack"
	"roost/platform"
	"roost/platform/modeltest"
	"roost/platform/token"
)

// modelTime bounds the property test: what is not tried in this time is tried
// in the next run, with another seed.
const modelTime = 12 * time.Second

// maxModelCVMs is a quota that random requests reach.
const maxModelCVMs = 6

// TestEveryAnswerIsOneThatTheModelAllows drives both services with random
// requests, repeats, bursts, expiring keys and a stopped Owl, each run in a
// workspace of its own, and compares what is left at rest.
func TestEveryAnswerIsOneThatTheModelAllows(t *testing.T) {
	t.Parallel()
	s := stack.Start(t, stack.Options{Platforms: 2, Boot: 20 * time.Millisecond, Platform: func(c *platform.Config) { c.MaxCVMs = maxModelCVMs }})
	start, runs := time.Now(), 0
	rapid.Check(t, func(rt *rapid.T) {
		if time.Since(start) > modelTime {
			return
		}
		runs++
		w := newModelled(t, s)
		defer w.away(false)
		for range rapid.IntRange(3, 20).Draw(rt, "steps") {
			w.step(rt)
			w.look(rt)
		}
		w.away(false)
		w.rest(rt)
	})
	t.Logf("%d runs in %s", runs, time.Since(start))
}

// modelled is one workspace and its model.
type modelled struct {
	*stack.Stack

	t         *testing.T
	token     string
	workspace api.ID
	model     modeltest.Model
	apps      map[string]string // name → ID
	sent      []modeltest.Request
	told      []string // requests and answers, for people
	down      bool     // Owl is
}

func newModelled(t *testing.T, s *stack.Stack) *modelled {
	t.Helper()
	secret := s.NewToken(api.NewMinter().RequestID(), token.ScopeWrite)
	caller, err := token.Authenticate(t.Context(), s.PlatformDB, secret)
	require.NoError(t, err)
	return &modelled{
		Stack: s, t: t, token: secret, workspace: caller.WorkspaceID,
		model: modeltest.Model{Max: maxModelCVMs}, apps: map[string]string{},
	}
}

// away stops Owl or starts it again.
func (w *modelled) away(down bool) {
	switch {
	case down && !w.down:
		w.Owls[0].Stop()
	case !down && w.down:
		w.Owls[0].Start()
	}
	w.down = down
}

// step sends one request, one to three times at once, lets a key expire, or
// takes Owl away for a while.
func (w *modelled) step(rt *rapid.T) {
	if rapid.IntRange(0, 7).Draw(rt, "owl") == 0 {
		w.away(!w.down)
		return
	}
	if len(w.sent) > 0 && rapid.IntRange(0, 9).Draw(rt, "expire") == 0 {
		key := rapid.SampledFrom(w.sent).Draw(rt, "key").Key
		require.NoError(rt, w.PlatformDB.Exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'
			WHERE key = ? AND workspace_id = ?`, key, w.workspace).Error)
		w.model.Expire(key)
		w.told = append(w.told, "expire "+key)
		return
	}
	r := w.draw(rt)
	w.sent = append(w.sent, r)
	times := 1
	if (r.Key != "" || r.Do == "delete") && !w.model.Doubtful(r.Key) {
		times = rapid.IntRange(1, 3).Draw(rt, "times")
	}
	replies := apitest.Together(w.t, times, func(i int) *apitest.Call { return w.call(r).At(w.Platforms[i%2].URL) })
	// Of requests that were sent together, the one that was done comes first,
	// and of deletions the one that came too late last.
	slices.SortStableFunc(replies, func(a, b *apitest.Reply) int { return rank(a) - rank(b) })
	for _, reply := range replies {
		w.take(rt, r, reply)
	}
}

func rank(r *apitest.Reply) int {
	if r.Status >= http.StatusBadRequest {
		return 2
	}
	if r.Replayed() {
		return 1
	}
	return 0
}

func (w *modelled) draw(rt *rapid.T) modeltest.Request {
	if len(w.sent) > 0 && rapid.IntRange(0, 3).Draw(rt, "repeat") == 0 {
		return rapid.SampledFrom(w.sent).Draw(rt, "again")
	}
	r := modeltest.Request{
		Do:  rapid.SampledFrom([]string{"create", "replicate", "scale", "start", "stop", "restart", "patch", "delete"}).Draw(rt, "do"),
		Key: rapid.SampledFrom([]string{"", "a", "b", "c", "d"}).Draw(rt, "key"),
	}
	if len(w.model.CVMs) == 0 {
		r.Do = "create"
	}
	switch r.Do {
	case "create":
		r.App = rapid.SampledFrom([]string{"web", "api"}).Draw(rt, "app")
		r.VCPU = rapid.IntRange(1, 2).Draw(rt, "vcpu")
		return r
	case "scale":
		r.App = rapid.SampledFrom(w.model.CVMs).Draw(rt, "of").App
		r.Count = rapid.IntRange(1, 4).Draw(rt, "count")
		return r
	case "replicate":
		r.Count = rapid.IntRange(0, 2).Draw(rt, "count")
	case "patch":
		r.VCPU = rapid.IntRange(1, 3).Draw(rt, "vcpu")
	}
	r.CVM = rapid.SampledFrom(w.model.CVMs).Draw(rt, "cvm").ID
	return r
}

func (w *modelled) client() apitest.Client {
	c := w.Client()
	c.T, c.Token = w.t, w.token
	return c
}

// call is the request on the wire.
func (w *modelled) call(r modeltest.Request) *apitest.Call {
	method, path, body := http.MethodPost, "/cvms/"+r.CVM+"/"+r.Do, ""
	switch r.Do {
	case "create":
		path, body = "/cvms", strings.Replace(apitest.Spec(r.App, "services: {}"), "{", fmt.Sprintf(`{"vcpu":%d,`, r.VCPU), 1)
	case "replicate":
		path = "/apps/" + w.appOf(r.CVM) + "/cvms/" + r.CVM + "/replicas"
		if r.Count > 0 {
			body = fmt.Sprintf(`{"count":%d}`, r.Count)
		}
	case "scale":
		method, path, body = http.MethodPut, "/apps/"+w.apps[r.App]+"/replicas", fmt.Sprintf(`{"count":%d}`, r.Count)
	case "patch":
		method, path, body = http.MethodPatch, "/cvms/"+r.CVM, fmt.Sprintf(`{"vcpu":%d}`, r.VCPU)
	case "delete":
		method, path = http.MethodDelete, "/cvms/"+r.CVM
	}
	c := w.client().Request(method, path, body)
	if r.Key != "" {
		c.Key(r.Key)
	}
	return c
}

func (w *modelled) appOf(cvm string) string {
	for _, c := range w.model.CVMs {
		if c.ID == cvm {
			return w.apps[c.App]
		}
	}
	return ""
}

// take holds one answer against the model.
func (w *modelled) take(rt *rapid.T, r modeltest.Request, reply *apitest.Reply) {
	body := apitest.Decode[struct {
		Code      string `json:"error_code"`
		VMUUID    string `json:"vm_uuid"`
		AppID     string `json:"app_id"`
		Operation struct{ ID string }
		Items     []struct {
			VMUUID string `json:"vm_uuid"`
		}
	}](reply)
	a := modeltest.Answer{Status: reply.Status, Code: body.Code, Replayed: reply.Replayed(), Operation: body.Operation.ID}
	if body.VMUUID != "" && reply.Status < http.StatusBadRequest {
		a.CVMs = []string{body.VMUUID}
	}
	for _, item := range body.Items {
		a.CVMs = append(a.CVMs, item.VMUUID)
	}
	if r.Do == "create" && body.AppID != "" {
		w.apps[r.App] = body.AppID
	}
	w.told = append(w.told, fmt.Sprintf("%+v → %+v", r, a))
	if err := w.model.Take(r, a); err != nil {
		// rapid shows only what it can reproduce, and machines have a will of their own.
		w.t.Logf("%s\n%v", strings.Join(w.told, "\n"), err)
		rt.FailNow()
	}
}

// look holds the operations, as they are now, against the model.
func (w *modelled) look(rt *rapid.T) {
	page := apitest.Decode[api.Page[api.Operation]](w.client().Get("/operations?limit=200").Expect(http.StatusOK))
	for _, op := range page.Items {
		seen := modeltest.Seen{ID: op.ID, Status: string(op.Status)}
		if op.Error != nil {
			seen.SupersededBy = op.Error.SupersededBy
		}
		require.NoError(rt, w.model.See(seen))
	}
	require.Len(rt, page.Items, len(w.model.Operations))
}

// rest waits until nothing is under way, and compares.
func (w *modelled) rest(rt *rapid.T) {
	require.Eventually(rt, func() bool {
		var busy int
		err := w.PlatformDB.Raw(`SELECT count(*) FROM cvms WHERE deleted_at IS NULL AND
			(deleting_at IS NOT NULL OR observed_generation < generation) AND workspace_id = ?`, w.workspace).Scan(&busy).Error
		return err == nil && busy == 0
	}, 30*time.Second, 5*time.Millisecond, "nothing stays unfinished")
	w.look(rt)
	var machines []modeltest.Machine
	byApp := map[string]modeltest.Machine{}
	for _, c := range apitest.Decode[api.Page[api.CVM]](w.client().Get("/cvms?limit=200").Expect(http.StatusOK)).Items {
		require.False(rt, c.InProgress)
		require.Equal(rt, c.Generation, c.ObservedGeneration)
		byApp[c.VMUUID.String()] = modeltest.Machine{ID: c.VMUUID.String(), Status: string(c.Status), VCPU: int(c.VCPU), Generation: int(c.Generation)}
	}
	for _, c := range w.model.CVMs { // in order of acceptance, which IDs do not promise
		if machine, there := byApp[c.ID]; there {
			machines = append(machines, machine)
			delete(byApp, c.ID)
		}
	}
	require.Empty(rt, byApp, "CVMs that nobody was told of")
	var quota int
	require.NoError(rt, w.PlatformDB.Raw("SELECT cvms FROM workspaces WHERE id = ?", w.workspace).Scan(&quota).Error)
	require.NoError(rt, w.model.Rest(machines, quota))
	require.NoError(rt, w.model.Effects(w.effects(rt)))
}

// effects is what the driver did to the CVMs of this workspace.
func (w *modelled) effects(rt *rapid.T) (out []modeltest.Effect) {
	data, err := os.ReadFile(filepath.Join(w.SimDir, "effects.jsonl"))
	require.NoError(rt, err)
	var ids []string
	require.NoError(rt, w.PlatformDB.Raw("SELECT id::text FROM cvms WHERE workspace_id = ?", w.workspace).Scan(&ids).Error)
	mine := map[string]bool{}
	for _, id := range ids {
		mine[id] = true
	}
	for line := range bytes.Lines(data) {
		var e modeltest.Effect
		require.NoError(rt, json.Unmarshal(line, &e))
		if mine[e.ID] {
			out = append(out, e)
		}
	}
	return out
}

// TestAnOwlWhoseTablesAreAwayLosesNothing: whatever Owl cannot do it answers
// with 5xx, which says nothing, and Platform goes on asking.
func TestAnOwlWhoseTablesAreAwayLosesNothing(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"cvms", "firewall_rules"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			b := setup(t, stack.Options{})
			changed, removed, kept := b.running("changed"), b.running("removed"), b.running("kept")
			rules := "/cvms/" + kept.VMUUID.String() + "/firewall-rules"
			old := apitest.Decode[api.FirewallRule](b.c.Post(rules, `{"cidr":"10.0.0.0/8"}`).Expect(http.StatusCreated))
			active := func(n int) func() bool {
				return func() bool {
					page := apitest.Decode[api.Page[api.FirewallRule]](b.c.Get(rules).Expect(http.StatusOK))
					return len(page.Items) == n && !slices.ContainsFunc(page.Items, func(r api.FirewallRule) bool { return r.Status != api.FirewallActive })
				}
			}
			require.Eventually(t, active(1), 30*time.Second, 10*time.Millisecond)
			require.NoError(t, b.OwlDB.Exec("ALTER TABLE "+table+" RENAME TO gone").Error)
			ops := []string{
				b.c.Post("/cvms", apitest.Spec("created", "services: {}")).Expect(http.StatusAccepted).CVM().Operation.ID,
				b.ask(changed.VMUUID, "stop").Expect(http.StatusAccepted).CVM().Operation.ID,
				b.del("/cvms/" + removed.VMUUID.String()).Expect(http.StatusAccepted).CVM().Operation.ID,
			}
			b.c.Post(rules, `{"cidr":"192.168.0.0/16"}`).Expect(http.StatusCreated)
			b.del(rules + "/" + old.ID.String()).Expect(http.StatusNoContent)
			b.refusesAll(table)
			require.NoError(t, b.OwlDB.Exec("ALTER TABLE gone RENAME TO "+table).Error)
			for _, op := range ops {
				require.Equal(t, api.OperationSucceeded, b.Wait(op).Status)
			}
			require.Eventually(t, active(1), 30*time.Second, 10*time.Millisecond)
			for id, times := range effects(t, b.Stack)["create"] {
				require.Equal(t, 1, times, id)
			}
		})
	}
}

// refusesAll calls Owl itself while its table is away: 5xx, and nothing of
// the inside in it.
func (b *bundle) refusesAll(table string) {
	b.t.Helper()
	id, mint := api.NewMinter().ID().String(), api.NewMinter()
	owl := apitest.Client{T: b.t, URL: b.Owls[0].URL}
	refused := 0
	for _, c := range []struct{ method, path, body string }{
		{http.MethodPost, "/v1/cvms", fmt.Sprintf(`{"id":%q,"app_id":%q,"name":"web","spec":{}}`, id, mint.ID())},
		{http.MethodPut, "/v1/cvms/" + id, `{"generation":2,"power":"running","spec":{}}`},
		{http.MethodGet, "/v1/cvms/" + id, ""},
		{http.MethodGet, "/v1/cvms?ids=" + id, ""},
		{http.MethodGet, "/v1/cvms", ""},
		{http.MethodDelete, "/v1/cvms/" + id, ""},
		{http.MethodPost, "/v1/firewall-rules", fmt.Sprintf(`{"id":%q,"cvm_id":%q,"cidr":"10.0.0.0/8","protocol":"tcp"}`, mint.ID(), id)},
		{http.MethodGet, "/v1/firewall-rules/" + id, ""},
		{http.MethodGet, "/v1/firewall-rules?ids=" + id, ""},
		{http.MethodDelete, "/v1/firewall-rules/" + id, ""},
	} {
		r := owl.Request(c.method, "", c.body).With("Authorization", "Bearer stack").To(c.path).Send()
		if r.Status >= http.StatusInternalServerError {
			refused++
			require.NotContains(b.t, string(r.Body), "gone")
			require.NotContains(b.t, string(r.Body), `"`+table+`"`)
		}
	}
	require.GreaterOrEqual(b.t, refused, 4)
}
