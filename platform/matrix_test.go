package platform_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/api/owlapi/owlapitest"
	"roost/platform"
	"roost/platform/token"
)

// The answer matrix: each case has a workspace of its own, and its name is
// the contract's own words. A first answer changes exactly the rows that its
// delta says; a refusal and a replay change none, to the last column.

// delta is by how much each table of a workspace grew.
type delta map[string]int

// matrix is one case.
type matrix struct {
	*testBundle

	secret    string
	workspace api.ID
	app, cvm  api.ID // of the case's first CVM
	hash      string // and its compose_hash
}

// matrixCase makes a case in a workspace of its own.
func (b *testBundle) matrixCase(t *testing.T) *matrix {
	t.Helper()
	own := *b
	own.t = t
	m := &matrix{testBundle: &own}
	name := api.NewMinter().RequestID()
	m.secret = own.newToken(name, token.ScopeWrite)
	own.token = m.secret
	require.NoError(t, b.db.Raw("SELECT id FROM workspaces WHERE name = ?", name).Row().Scan(&m.workspace))
	return m
}

// tables is every table with a workspace's rows, and which those are.
func tables() map[string]string {
	const own = "workspace_id = ?"
	return map[string]string{
		"apps": own, "specs": own, "cvms": own, "operations": own, "idempotency_keys": own, "firewall_rules": own,
		"provisions":        "app_id IN (SELECT id FROM apps WHERE workspace_id = ?)",
		"operation_targets": "operation_id IN (SELECT id FROM operations WHERE workspace_id = ?)",
	}
}

// sizes counts the workspace's rows; "quota" is what it has used.
func (m *matrix) sizes() delta {
	m.t.Helper()
	out := delta{}
	for table, own := range tables() {
		var n int
		require.NoError(m.t, m.db.Raw("SELECT count(*) FROM "+table+" WHERE "+own, m.workspace).Scan(&n).Error)
		out[table] = n
	}
	var used int
	require.NoError(m.t, m.db.Raw("SELECT cvms FROM workspaces WHERE id = ?", m.workspace).Scan(&used).Error)
	out["quota"] = used
	return out
}

// contents is the workspace's rows, to the last column.
func (m *matrix) contents() map[string]string {
	m.t.Helper()
	out := map[string]string{}
	for table, own := range tables() {
		var text string
		require.NoError(m.t, m.db.Raw("SELECT COALESCE(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM "+table+" t WHERE "+own,
			m.workspace).Scan(&text).Error)
		out[table] = text
	}
	return out
}

// grows sends the call and requires exactly this delta.
func (m *matrix) grows(c *apitest.Call, want delta) *apitest.Reply {
	m.t.Helper()
	before := m.sizes()
	r := c.Send()
	got := delta{}
	for table, n := range m.sizes() {
		if n != before[table] {
			got[table] = n - before[table]
		}
	}
	if want == nil {
		want = delta{}
	}
	require.Equal(m.t, want, got, string(r.Body))
	return r
}

// changesNothing sends the call and requires that no row changed.
func (m *matrix) changesNothing(c *apitest.Call) *apitest.Reply {
	m.t.Helper()
	before := m.contents()
	r := c.Send()
	require.Equal(m.t, before, m.contents(), string(r.Body))
	return r
}

// refused is changesNothing for a refusal.
func (m *matrix) refused(c *apitest.Call, code api.Code) api.Problem {
	m.t.Helper()
	r := m.changesNothing(c)
	p := r.Refuse(code)
	require.Equal(m.t, code.Retryable(), p.Retryable)
	require.Equal(m.t, code.Retryable(), r.Header.Get("Retry-After") != "")
	require.Empty(m.t, r.Header.Get(api.HeaderIdempotentReplay))
	return p
}

// first gives the case an app with a CVM.
func (m *matrix) first(name string) api.CVM {
	m.t.Helper()
	c := m.create(name)
	m.app, m.cvm, m.hash = c.AppID, c.VMUUID, c.ComposeHash
	return c
}

// to fills in {app}, {cvm} and {hash}.
func (m *matrix) to(s string) string {
	return strings.NewReplacer("{app}", m.app.String(), "{cvm}", m.cvm.String(), "{hash}", m.hash).Replace(s)
}

// keyedCall is a call that takes a key, and what it does to an app "web" with
// one CVM that Owl has not confirmed.
type keyedCall struct {
	method, path, body string
	other              string   // another valid body, "" where there is none
	differs            []string // what a mismatch names then
	status             int
	echo               bool
	does               delta
	again              again
}

// again is what the call does the second time, without a key or under a new one.
type again struct {
	does     delta
	code     api.Code // of a refusal
	replayed bool     // recognised without a key
}

const anotherApp = `{"name":"another","instance_type":"tdx.small","compose_file":{"docker_compose_file":"x"}}`

func keyedCalls() map[string]keyedCall {
	made := func(n int) delta {
		return delta{"cvms": n, "operations": 1, "operation_targets": n, "quota": n}
	}
	created := delta{"apps": 1, "specs": 1, "cvms": 1, "operations": 1, "operation_targets": 1, "quota": 1}
	changed := delta{"operations": 1, "operation_targets": 1}
	configured := delta{"specs": 1, "operations": 1, "operation_targets": 1}
	rule := delta{"firewall_rules": 1}
	one := func(s string) string { return "/cvms/{cvm}" + s }
	replicas := "/apps/{app}/cvms/{cvm}/replicas"
	return map[string]keyedCall{
		"POST /apps {name}": {
			method: http.MethodPost, path: "/apps", body: `{"name":"shop"}`, other: `{"name":"other"}`, differs: []string{"/name"},
			status: http.StatusCreated, echo: true, does: delta{"apps": 1}, again: again{code: api.CodeAppExists},
		},
		"POST /cvms/provision Spec": {
			method: http.MethodPost, path: "/cvms/provision", body: anotherApp,
			other: strings.Replace(anotherApp, "tdx.small", "tdx.large", 1), differs: []string{"/instance_type"},
			status: http.StatusOK, echo: true, does: delta{"apps": 1, "specs": 1, "provisions": 1},
		},
		"POST /cvms, a whole Spec in one call": {
			method: http.MethodPost, path: "/cvms", body: anotherApp,
			other: strings.Replace(anotherApp, `"x"`, `"y"`, 1), differs: []string{"/compose_file/docker_compose_file"},
			status: http.StatusAccepted, does: created, again: again{replayed: true},
		},
		"POST …/replicas {}": {
			method: http.MethodPost, path: replicas, body: `{}`, other: `{"count":1}`, differs: []string{"/count"},
			status: http.StatusAccepted, does: made(1), again: again{does: made(1)},
		},
		"POST …/replicas {name}": {
			method: http.MethodPost, path: replicas, body: `{"name":"blue"}`, other: `{"name":"green"}`, differs: []string{"/name"},
			status: http.StatusAccepted, does: made(1), again: again{does: made(1)},
		},
		"POST …/replicas {count}": {
			method: http.MethodPost, path: replicas, body: `{"count":3}`, other: `{"count":2}`, differs: []string{"/count"},
			status: http.StatusAccepted, does: made(3), again: again{does: made(3)},
		},
		"PUT /apps/{app_id}/replicas {count}": {
			method: http.MethodPut, path: "/apps/{app}/replicas", body: `{"count":3}`, other: `{"count":2}`, differs: []string{"/count"},
			status: http.StatusAccepted, does: made(2), again: again{does: delta{"operations": 1}},
		},
		"POST …/start": {method: http.MethodPost, path: one("/start"), status: http.StatusAccepted},
		"POST …/stop":  {method: http.MethodPost, path: one("/stop"), status: http.StatusAccepted, does: changed},
		"POST …/restart": {
			method: http.MethodPost, path: one("/restart"), body: `{}`, status: http.StatusAccepted, does: changed, again: again{does: changed},
		},
		"PATCH /cvms/{vm_uuid}": {
			method: http.MethodPatch, path: one(""), body: `{"vcpu":2,"compose_file":{"public_logs":true}}`,
			other: `{"vcpu":3,"compose_file":{"public_logs":true}}`, differs: []string{"/vcpu"},
			status: http.StatusAccepted, does: delta{"specs": 1, "operations": 1, "operation_targets": 1},
		},
		"POST …/firewall-rules": {
			method: http.MethodPost, path: one("/firewall-rules"), body: `{"cidr":"10.0.0.0/8"}`,
			other: `{"cidr":"10.0.0.0/8","protocol":"udp","port":53}`, differs: []string{"/port", "/protocol"},
			status: http.StatusCreated, echo: true, does: rule, again: again{does: rule},
		},
		"PATCH …/resources": {
			method: http.MethodPatch, path: one("/resources"), body: `{"allow_restart":1,"instance_type":"tdx.medium","disk_size":null}`,
			other: `{"allow_restart":1,"instance_type":"tdx.large"}`, differs: []string{"/instance_type"},
			status: http.StatusAccepted, does: configured,
		},
		"PATCH …/os-image": {
			method: http.MethodPatch, path: one("/os-image"), body: `{"os_image_name":"dstack-0.5.8"}`,
			other: `{"os_image_name":"dstack-0.5.7"}`, differs: []string{"/os_image_name"}, status: http.StatusAccepted, does: configured,
		},
		"PATCH …/docker-compose": {
			method: http.MethodPatch, path: one("/docker-compose"), body: "services: {a: {}}",
			other: "services: {b: {}}", differs: []string{"/body"}, status: http.StatusAccepted, does: configured,
		},
		"PATCH …/pre-launch-script": {
			method: http.MethodPatch, path: one("/pre-launch-script"), body: "echo 1",
			other: "echo 2", differs: []string{"/body"}, status: http.StatusAccepted, does: configured,
		},
		"PATCH …/envs": {
			method: http.MethodPatch, path: one("/envs"), body: `{"encrypted_env":"00ff","env_keys":["A"]}`,
			other: `{"encrypted_env":"00ff","env_keys":["A","B"]}`, differs: []string{"/env_keys"}, status: http.StatusAccepted, does: configured,
		},
		"POST …/compose_file/provision": {
			method: http.MethodPost, path: one("/compose_file/provision"), body: `{"public_logs":true}`,
			other: `{"public_logs":false}`, differs: []string{"/public_logs"},
			status: http.StatusOK, echo: true, does: delta{"specs": 1, "provisions": 1},
		},
		"PATCH …/compose_file": {
			method: http.MethodPatch, path: one("/compose_file"), body: `{"compose_hash":"{hash}","env_keys":["A"]}`,
			other: `{"compose_hash":"{hash}"}`, differs: []string{"/env_keys"}, status: http.StatusAccepted, does: configured,
			again: again{code: api.CodeProvisionNotFound}, // env_keys are in the hash, so no CVM has this one any more
		},
	}
}

// send makes the call in the case; a body of its own may be given.
func (k keyedCall) send(m *matrix, body ...string) *apitest.Call {
	given := k.body
	if len(body) > 0 {
		given = body[0]
	}
	return request(m.client(), k.method, m.to(k.path), m.to(given))
}

// named is the IDs that an answer to the call names: its resource, its
// operation, and the items in their order.
func (keyedCall) named(r *apitest.Reply) string {
	v := apitest.Decode[struct {
		ID        string
		AppID     string `json:"app_id"`
		Operation *struct{ ID string }
		Items     []struct{ ID string }
	}](r)
	operation := ""
	if v.Operation != nil {
		operation = v.Operation.ID
	}
	return fmt.Sprint(v.ID, v.AppID, operation, v.Items)
}

func with(d delta, table string, n int) delta {
	out := delta{}
	maps.Copy(out, d)
	out[table] += n
	return out
}

// TestMatrixOfKeys is the table of §3.2, each row for each call that takes a key.
func TestMatrixOfKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.KeyWait = 0
	_, impatient := b.node()
	rows := map[string]func(m *matrix, k keyedCall){
		"no key":         keyNone,
		"the key is new": keyNew,
		"is known, same": keySame,
		"same after defaults, in other words, quoted":  keyOtherWords,
		"is known, other body":                         keyOtherBody,
		"is known, other path":                         keyOtherPath,
		"is known, other method":                       keyOtherMethod,
		"expired":                                      keyExpired,
		"kept at least until its operation has ended":  keyKept,
		"malformed, empty, or the header given twice":  keyMalformed,
		"belongs to another workspace":                 keyForeign,
		"nothing refused uses the key up":              keyNotUsedUp,
		"is being bound by another request right now":  func(m *matrix, k keyedCall) { keyBeingBound(m, k, impatient) },
		"GET /idempotency-keys/{key}":                  keyLookup,
		"retries of the key when its IDs were deleted": keyDeleted,
	}
	for contract, row := range rows {
		for name, call := range keyedCalls() {
			t.Run(name+"/"+contract, func(t *testing.T) {
				t.Parallel()
				m := b.matrixCase(t)
				m.first("web")
				row(m, call)
			})
		}
	}
}

func keyNone(m *matrix, k keyedCall) {
	r := m.grows(k.send(m), k.does).Expect(k.status)
	require.False(m.t, r.Replayed())
	require.Empty(m.t, r.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
	require.Empty(m.t, r.Header.Get(api.HeaderOriginalRequestID))
	k.repeat(m, k.send(m), nil, r)
}

// repeat sends the call once more as one that no key recognises.
func (k keyedCall) repeat(m *matrix, c *apitest.Call, keys delta, first *apitest.Reply) {
	m.t.Helper()
	if k.again.code != "" {
		m.refused(c, k.again.code)
		return
	}
	want := delta{}
	maps.Copy(want, k.again.does)
	maps.Copy(want, keys)
	r := m.grows(c, want).Expect(k.status)
	require.Equal(m.t, k.again.replayed, r.Replayed())
	if k.again.replayed {
		require.Equal(m.t, k.named(first), k.named(r))
	}
}

func keyNew(m *matrix, k keyedCall) {
	r := m.grows(k.send(m).Key("k"), with(k.does, "idempotency_keys", 1)).Expect(k.status)
	require.False(m.t, r.Replayed())
	m.expiresIn(r, 24*time.Hour)
}

func (m *matrix) expiresIn(r *apitest.Reply, ttl time.Duration) {
	m.t.Helper()
	at, err := time.Parse(time.RFC3339, r.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
	require.NoError(m.t, err, "every answer to a key that is bound carries Idempotency-Key-Expires-At")
	require.WithinDuration(m.t, time.Now().Add(ttl), at, time.Minute)
}

func keySame(m *matrix, k keyedCall) {
	first := k.send(m).Key("k").Expect(k.status)
	m.replays(k, first, k.send(m).Key("k"))
	m.replays(k, first, k.send(m).Key("k"))
}

// replays requires the answer to a repeat of first: no row changes.
func (m *matrix) replays(k keyedCall, first *apitest.Reply, c *apitest.Call) {
	m.t.Helper()
	r := m.changesNothing(c).Expect(k.status)
	require.True(m.t, r.Replayed())
	require.Equal(m.t, first.Header.Get(api.HeaderRequestID), r.Header.Get(api.HeaderOriginalRequestID))
	require.NotEqual(m.t, first.Header.Get(api.HeaderRequestID), r.Header.Get(api.HeaderRequestID))
	require.Equal(m.t, first.Header.Get(api.HeaderIdempotencyKeyExpiresAt), r.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
	require.Equal(m.t, k.named(first), k.named(r))
	if k.echo {
		require.Equal(m.t, string(first.Body), string(r.Body), "byte for byte")
	}
}

func keyOtherWords(m *matrix, k keyedCall) {
	first := k.send(m).Key("k-1!~").Expect(k.status)
	if textRoute(k.path) != "" { // text has no other words
		m.replays(k, first, k.send(m).Key(`"k-1!~"`))
		return
	}
	spaced := strings.NewReplacer(`{"`, "\n { \"", `":`, "\" :\t", `}`, " } ").Replace(m.to(k.body))
	m.replays(k, first, k.send(m, spaced).Key(`"k-1!~"`))
	if strings.HasPrefix(k.path, "/apps/{app}") {
		prefixed := k
		prefixed.path = strings.Replace(k.path, "{app}", "app_{app}", 1)
		m.replays(k, first, prefixed.send(m).Key("k-1!~"))
	}
	switch {
	case k.body == anotherApp:
		m.replays(k, first, k.send(m, `{"compose_file":{"storage_fs":"zfs","docker_compose_file":"x"},"vcpu":1,"memory":2048,
			"listed":false,"region":null,"encrypted_env":"00ff","instance_type":"tdx.small","name":"another"}`).Key("k-1!~"))
	case strings.Contains(k.body, "cidr"):
		m.replays(k, first, k.send(m, `{"port":null,"protocol":"tcp","cidr":"10.0.0.0/8"}`).Key("k-1!~"))
	case k.body == `{}` || k.body == "":
		m.replays(k, first, k.send(m, ``).Key("k-1!~"))
		m.replays(k, first, k.send(m, ` {} `).Key("k-1!~"))
	}
}

func keyOtherBody(m *matrix, k keyedCall) {
	first := k.send(m).Key("k").Expect(k.status)
	if k.other == "" { // a body that says nothing: whatever it holds is the same request
		m.replays(k, first, k.send(m, `{"polling":"v1"}`).Key("k"))
		return
	}
	r := m.changesNothing(k.send(m, k.other).Key("k"))
	p := r.Refuse(api.CodeIdempotencyKeyReused)
	require.Equal(m.t, k.differs, apitest.Fields(p))
	require.False(m.t, p.Retryable)
	m.expiresIn(r, 24*time.Hour)
	require.Empty(m.t, r.Header.Get(api.HeaderIdempotentReplay))
	m.replays(k, first, k.send(m).Key("k"))
}

// keyOtherPath: the same body under another route, and under other IDs.
func keyOtherPath(m *matrix, k keyedCall) {
	k.send(m).Key("k").Expect(k.status)
	elsewhere := "/cvms/{cvm}/restart"
	if k.path == elsewhere {
		elsewhere = "/cvms/{cvm}/start"
	}
	other := keyedCall{method: http.MethodPost, path: elsewhere}
	fields := apitest.Fields(m.refused(other.send(m).Key("k"), api.CodeIdempotencyKeyReused))
	require.Contains(m.t, fields, "path")
	if strings.Contains(k.path, "{") {
		m.app, m.cvm = api.NewMinter().ID(), api.NewMinter().ID() // look-up of the key comes before the parents'
		require.Equal(m.t, []string{"path"}, apitest.Fields(m.refused(k.send(m).Key("k"), api.CodeIdempotencyKeyReused)))
	}
}

func keyOtherMethod(m *matrix, k keyedCall) {
	k.send(m).Key("k").Expect(k.status)
	other := keyedCall{method: http.MethodPatch, path: "/cvms/{cvm}", body: `{}`}
	if k.method == http.MethodPatch {
		other = keyedCall{method: http.MethodPost, path: "/cvms/{cvm}/start"}
	}
	fields := apitest.Fields(m.refused(other.send(m).Key("k"), api.CodeIdempotencyKeyReused))
	require.Contains(m.t, fields, "method")
}

// expire makes all keys of the workspace old, and ends its operations.
func (m *matrix) expire(ended bool) {
	m.t.Helper()
	require.NoError(m.t, m.db.Exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE workspace_id = ?`, m.workspace).Error)
	if ended {
		m.endAll()
	}
}

// endAll shows the workspace's CVMs as observed and its operations as ended.
func (m *matrix) endAll() {
	m.t.Helper()
	for _, statement := range []string{
		`UPDATE cvms SET confirmed = true, pushed_generation = generation, observed_generation = generation, reconcile_after = NULL
			WHERE workspace_id = ?`,
		`UPDATE operation_targets SET ended_at = now() WHERE operation_id IN (SELECT id FROM operations WHERE workspace_id = ?)`,
		`UPDATE operations SET status = 'succeeded', open_targets = 0, finished_at = now() WHERE workspace_id = ?`,
	} {
		require.NoError(m.t, m.db.Exec(statement, m.workspace).Error)
	}
}

func keyExpired(m *matrix, k keyedCall) {
	first := k.send(m).Key("k").Expect(k.status)
	m.expire(true)
	m.get("/idempotency-keys/k").Refuse(api.CodeNotFound)
	if k.path == "/cvms/{cvm}/start" || k.path == "/cvms/{cvm}/stop" || k.method == http.MethodPatch {
		k.again.does = delta{"operations": 1} // nothing is under way now: a new one, already succeeded
	}
	k.repeat(m, k.send(m).Key("k"), nil, first) // the same row of the key, bound anew
	if k.again.code == "" {
		r := k.send(m).Key("k").Expect(k.status)
		require.True(m.t, r.Replayed())
		m.expiresIn(r, 24*time.Hour)
	}
}

func keyKept(m *matrix, k keyedCall) {
	first := k.send(m).Key("k").Expect(k.status)
	m.expire(false)
	if k.echo { // it has no operation, and is new
		require.NotEqual(m.t, first.Header.Get(api.HeaderRequestID), k.send(m).Key("k").Send().Header.Get(api.HeaderOriginalRequestID))
		return
	}
	r := m.changesNothing(k.send(m).Key("k")).Expect(k.status)
	require.True(m.t, r.Replayed())
	require.Equal(m.t, k.named(first), k.named(r))
}

func keyMalformed(m *matrix, k keyedCall) {
	for _, bad := range []string{"", "a b", `"a`, `a"b`, `"a" b`, "ü", strings.Repeat("a", 256), `"` + strings.Repeat("a", 256) + `"`, `"\n"`} {
		m.refused(k.send(m).Key(bad), api.CodeInvalidIdempotencyKey)
	}
	m.refused(k.send(m).Key("a").Add(api.HeaderIdempotencyKey, "a"), api.CodeInvalidIdempotencyKey)
	k.send(m).Key(strings.Repeat("a", 255)).Expect(k.status)
}

func keyForeign(m *matrix, k keyedCall) {
	k.send(m).Key("k").Expect(k.status)
	other := m.matrixCase(m.t)
	other.first("web")
	r := other.grows(k.send(other).Key("k"), with(k.does, "idempotency_keys", 1)).Expect(k.status)
	require.False(m.t, r.Replayed())
}

func keyNotUsedUp(m *matrix, k keyedCall) {
	m.refused(k.send(m, k.invalid()["unknown members"].text).Key("k"), api.CodeInvalidRequest)
	m.refused(k.send(m, `{"a":`+strings.Repeat(" ", api.MaxBodyBytes)+`1}`).Key("k"), api.CodeBodyTooLarge)
	if strings.Contains(k.path, "{") {
		nobody := *m
		nobody.app, nobody.cvm = api.NewMinter().ID(), api.NewMinter().ID()
		m.refused(k.send(&nobody).Key("k"), api.CodeNotFound)
	}
	m.get("/idempotency-keys/k").Refuse(api.CodeNotFound)
	require.False(m.t, k.send(m).Key("k").Expect(k.status).Replayed())
}

// keyBeingBound: a node with PLATFORM_KEY_WAIT=0 answers at once; one that
// waits answers by the other rows.
func keyBeingBound(m *matrix, k keyedCall, impatient string) {
	tx := m.db.Begin()
	defer tx.Rollback()
	require.NoError(m.t, tx.Exec(`INSERT INTO idempotency_keys (workspace_id, key, method, route, path_params, members, request_id, status, expires_at)
		VALUES (?, 'k', 'POST', '/x', '{}', '{}', 'r', 200, now() + interval '1 hour')`, m.workspace).Error)
	r := m.changesNothing(k.send(m).Key("k").At(impatient))
	p := r.Refuse(api.CodeKeyInProgress)
	require.True(m.t, p.Retryable)
	require.Equal(m.t, "1", r.Header.Get("Retry-After"))
	require.NotContains(m.t, string(r.Body), "error_code")
	require.Empty(m.t, r.Header.Get(api.HeaderIdempotencyKeyExpiresAt), "it is not bound")
	require.NoError(m.t, tx.Rollback().Error)
	require.False(m.t, k.send(m).Key("k").At(impatient).Expect(k.status).Replayed())
}

func keyLookup(m *matrix, k keyedCall) {
	const escaped = `a%2Fb+c%25%5C`
	m.get("/idempotency-keys/" + escaped).Refuse(api.CodeNotFound)
	r := k.send(m).Key(`a/b+c%\`).Expect(k.status)
	bound := apitest.Decode[api.Key](m.get("/idempotency-keys/" + escaped).Expect(http.StatusOK))
	require.Equal(m.t, "bound", bound.State)
	require.Equal(m.t, r.Header.Get(api.HeaderRequestID), bound.RequestID)
	require.Equal(m.t, r.Header.Get(api.HeaderIdempotencyKeyExpiresAt), bound.ExpiresAt.String())
	require.NotNil(m.t, bound.ResourceID)
	require.Equal(m.t, k.echo, bound.OperationID == nil)
	require.Contains(m.t, string(r.Body), bound.ResourceID.String())
	if bound.OperationID != nil {
		require.Contains(m.t, string(r.Body), *bound.OperationID)
	}
}

// keyDeleted: the same operation and resource IDs as they are now, even deleted.
func keyDeleted(m *matrix, k keyedCall) {
	first := k.send(m).Key("k").Expect(k.status)
	require.NoError(m.t, m.db.Exec(`UPDATE cvms SET deleting_at = now(), deleted_at = now(), reconcile_after = NULL WHERE workspace_id = ?`, m.workspace).Error)
	m.replays(k, first, k.send(m).Key("k"))
	r := k.send(m).Key("k").Send()
	if !k.echo {
		require.Contains(m.t, string(r.Body), `"status":"deleted"`)
	}
}

// TestMatrixOfBodies is §3.3: invalid input is 400 (413, 415), it names the
// member, and nothing is done, under a new key and under a known one.
func TestMatrixOfBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, call := range keyedCalls() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := b.matrixCase(t)
			m.first("web")
			call.send(m).Key("known").Expect(call.status)
			for class, body := range call.invalid() {
				for _, key := range []string{"new", "known"} {
					r := m.changesNothing(call.send(m, body.text).Key(key))
					p := r.Refuse(api.CodeInvalidRequest)
					require.Equal(t, []string{body.field}, apitest.Fields(p), class)
					require.Contains(t, p.Detail, body.field)
				}
			}
			for _, key := range []string{"new", "known"} {
				m.refused(call.send(m, `{"x":"`+strings.Repeat("a", api.MaxBodyBytes)+`"}`).Key(key), api.CodeBodyTooLarge)
				m.refused(call.send(m, `{}`).Key(key).With("Content-Type", "text/html"), api.CodeUnsupportedMediaType)
				m.refused(call.send(m, `{}`).Key(key).Without("Content-Type"), api.CodeUnsupportedMediaType)
			}
		})
	}
}

type invalidBody struct{ text, field string }

// invalid is the bodies that the call does not take.
func (k keyedCall) invalid() map[string]invalidBody {
	if textRoute(k.path) == "" {
		return invalidBodies()
	}
	return map[string]invalidBody{
		"unknown members": {"\xff\xfe", "body"}, // no text at all, which is what stands for them
		"NUL":             {"a\x00b", "body"},
	}
}

func invalidBodies() map[string]invalidBody {
	return map[string]invalidBody{
		"unknown members":                       {`{"colour":1}`, "/colour"},
		"unknown members, nothing but null":     {`{"colour":null}`, "/colour"},
		"duplicate members":                     {`{"name":"a","name":"b"}`, "/name"},
		"trailing data":                         {`{} {}`, "body"},
		"wrong types":                           {`[]`, "body"},
		"wrong types, null":                     {`null`, "body"},
		"not JSON":                              {`name=web`, "body"},
		"nesting over 32":                       {strings.Repeat(`{"a":`, 33) + `1` + strings.Repeat(`}`, 33), strings.Repeat("/a", 32)},
		"a public request that carries an id":   {`{"id":"0198c0de-0000-7000-8000-000000000000"}`, "/id"},
		"a name in another spelling is unknown": {`{"Name":"a"}`, "/Name"},
	}
}

// TestMatrixOfMembers is what each member may hold.
func TestMatrixOfMembers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := strings.Repeat("a", 64)
	for call, bodies := range map[string]map[string][]string{
		"POST /apps":                           {`{}`: {"/name"}, `{"name":""}`: {"/name"}, `{"name":"a/b"}`: {"/name"}, `{"name":"` + long + `"}`: {"/name"}, `{"name":7}`: {"/name"}},
		"POST /apps/{app}/cvms/{cvm}/replicas": {`{"count":0}`: {"/count"}, `{"count":101}`: {"/count"}, `{"count":1.5}`: {"/count"}, `{"name":"a b"}`: {"/name"}, `{"name":""}`: {"/name"}, `{"name":"a","count":2}`: {"/name"}},
		"PUT /apps/{app}/replicas":             {`{}`: {"/count"}, `{"count":null}`: {"/count"}, `{"count":0}`: {"/count"}, `{"count":101}`: {"/count"}, `{"count":-1}`: {"/count"}, `{"count":"3"}`: {"/count"}, ``: {"/count"}},
		"PATCH /cvms/{cvm}": {
			`{"instance_type":"m5"}`: {"/instance_type"}, `{"vcpu":0}`: {"/vcpu"}, `{"memory":-1}`: {"/memory"}, `{"disk_size":"1"}`: {"/disk_size"},
			`{"compose_file":{"x":1}}`: {"/compose_file/x"}, `{"compose_file":{"allowed_envs":[""]}}`: {"/compose_file/allowed_envs/0"},
			`{"base_image":"dstack-0.5.6"}`: {"/base_image"},
			`{"name":"other"}`:              {"/name"}, `{"vcpu":0,"memory":0}`: {"/vcpu", "/memory"}, `{"disk_size":10}`: {"/disk_size"},
		},
		"POST /cvms/{cvm}/firewall-rules": {
			`{}`: {"/cidr"}, `{"cidr":"10.0.0.1/8"}`: {"/cidr"}, `{"cidr":"10.0.0.1"}`: {"/cidr"}, `{"cidr":"fe80::1/10"}`: {"/cidr"},
			`{"cidr":"10.0.0.0/8","protocol":"icmp"}`: {"/protocol"}, `{"cidr":"10.0.0.0/8","protocol":"TCP"}`: {"/protocol"},
			`{"cidr":"10.0.0.0/8","port":0}`: {"/port"}, `{"cidr":"10.0.0.0/8","port":65536}`: {"/port"}, `{"cidr":"10.0.0.0/33"}`: {"/cidr"},
		},
		"POST /cvms/{cvm}/start": {`{"force":true}`: {"/force"}},
		"PATCH /cvms/{cvm}/resources": {
			`{"instance_type":"m5"}`: {"/instance_type"}, `{"vcpu":0,"memory":0}`: {"/vcpu", "/memory"}, `{"disk_size":"1"}`: {"/disk_size"},
			`{"disk_size":10}`: {"/disk_size"}, `{"allow_restart":"yes"}`: {"/allow_restart"}, `{"allow_restart":{}}`: {"/allow_restart"},
			`{"base_image":"dstack-0.5.8"}`: {"/base_image"},
		},
		"PATCH /cvms/{cvm}/os-image": {
			``: {"/os_image_name"}, `{"os_image_name":null}`: {"/os_image_name"}, `{"os_image_name":"dstack-0.5.6"}`: {"/os_image_name"},
			`{"os_image_name":""}`: {"/os_image_name"},
		},
		"PATCH /cvms/{cvm}/docker-compose": {``: {"body"}},
		"PATCH /cvms/{cvm}/envs": {
			`{"encrypted_env":7}`: {"/encrypted_env"}, `{"env_keys":"A"}`: {"/env_keys"}, `{"env":{}}`: {"/env"},
			`{"env_keys":["A",null]}`: {"/env_keys/1"},
		},
		"POST /cvms/{cvm}/compose_file/provision": {
			`{"public_logs":1}`: {"/public_logs"}, `{"x":1}`: {"/x"}, `{"docker_compose_file":{}}`: {"/docker_compose_file"},
			`{"allowed_envs":[null]}`: {"/allowed_envs/0"},
		},
		"PATCH /cvms/{cvm}/compose_file": {
			``: {"/compose_hash"}, `{"compose_hash":""}`: {"/compose_hash"}, `{"compose_hash":7}`: {"/compose_hash"},
			`{"compose_hash":"\u0000"}`: {"/compose_hash"}, `{"compose_hash":"` + strings.Repeat("A", 64) + `"}`: {"/compose_hash"},
			`{"compose_hash":"` + strings.Repeat("0", 64) + `","env_keys":[null]}`: {"/env_keys/0"},
		},
		"POST /cvms": {
			strings.Replace(anotherApp, "{", `{"image":"dstack-0.5.6",`, 1):          {"/image"},
			strings.Replace(anotherApp, "{", `{"region":"local-2",`, 1):              {"/region"},
			strings.Replace(anotherApp, "{", `{"image":"","region":"","vcpu":0,`, 1): {"/image", "/region", "/vcpu"},
			strings.Replace(anotherApp, "tdx.small", "tdx.tiny", 1):                  {"/instance_type"},
		},
		"POST /cvms/provision": {strings.Replace(anotherApp, "{", `{"image":"dstack-0.5.6",`, 1): {"/image"}},
	} {
		t.Run(strings.ReplaceAll(call, "/", "|"), func(t *testing.T) {
			t.Parallel()
			m := b.matrixCase(t)
			m.first("web")
			method, path, _ := strings.Cut(call, " ")
			for body, fields := range bodies {
				p := m.refused(m.client().Request(method, m.to(path), body), api.CodeInvalidRequest)
				require.Equal(t, fields, apitest.Fields(p), body)
			}
		})
	}
}

// stage is how far a case's CVM is when it is asked for something.
type stage struct {
	live  bool // reached with Owl at work
	reach func(m *matrix)
}

func stages() map[string]stage {
	ended := func(m *matrix, c api.CVM) { m.ended(c.Operation.ID) }
	return map[string]stage{
		"never was":   {reach: func(m *matrix) { m.first("web"); m.app, m.cvm = api.NewMinter().ID(), api.NewMinter().ID() }},
		"no UUID":     {reach: func(m *matrix) { m.first("web") }},
		"foreign":     {reach: func(m *matrix) { o := m.matrixCase(m.t); o.first("web"); m.app, m.cvm, m.hash = o.app, o.cvm, o.hash }},
		"unconfirmed": {reach: func(m *matrix) { m.first("web") }},
		"running":     {live: true, reach: func(m *matrix) { ended(m, m.first("web")) }},
		"stopped": {live: true, reach: func(m *matrix) {
			ended(m, m.first("web"))
			ended(m, m.post(m.to("/cvms/{cvm}/stop"), "").Expect(http.StatusAccepted).CVM())
		}},
		"failed":                   {live: true, reach: func(m *matrix) { ended(m, m.first("doomed")) }},
		"failed before Owl had it": {reach: func(m *matrix) { m.first("web"); m.refuseByOwl() }},
		"deleting":                 {reach: func(m *matrix) { m.first("web"); m.del("/cvms/{cvm}").Expect(http.StatusAccepted) }},
		"deleted": {live: true, reach: func(m *matrix) {
			ended(m, m.first("web"))
			ended(m, m.del("/cvms/{cvm}").Expect(http.StatusAccepted).CVM())
		}},
	}
}

func (m *matrix) del(path string) *apitest.Call {
	return m.client().Request(http.MethodDelete, m.to(path), "")
}

// refuseByOwl leaves the CVM as reconcile does when Owl refuses its create.
func (m *matrix) refuseByOwl() {
	m.t.Helper()
	m.endAll()
	require.NoError(m.t, m.db.Exec(`UPDATE cvms SET confirmed = false, pushed_generation = 0, owl_status = 'failed', error_code = 'INVALID_REQUEST'
		WHERE workspace_id = ?`, m.workspace).Error)
	require.NoError(m.t, m.db.Exec(`UPDATE operations SET status = 'failed', error_code = 'INVALID_REQUEST' WHERE workspace_id = ?`, m.workspace).Error)
}

// told is what a call on a CVM answers at each stage. The order: never was and
// the like · alive, at any status · failed before Owl had it · deleting · deleted.
type told struct {
	alive    int
	refused  api.Code // failed before Owl had it; "": as alive
	deleting api.Code // "": as alive
	deleted  api.Code
	does     delta // alive, at rest and running
}

func actionsOnCVMs() map[string]told {
	action := func(status int, does delta) told {
		return told{alive: status, refused: api.CodeInvalidState, deleting: api.CodeGone, deleted: api.CodeGone, does: does}
	}
	read := told{alive: http.StatusOK, deleted: api.CodeResourceDeleted}
	change := delta{"operations": 1, "operation_targets": 1}
	return map[string]told{
		"POST /cvms/{cvm}/start":                                                    action(http.StatusAccepted, nil),
		"POST /cvms/{cvm}/stop":                                                     action(http.StatusAccepted, nil),
		"POST /cvms/{cvm}/restart":                                                  action(http.StatusAccepted, change),
		`PATCH /cvms/{cvm} {"vcpu":2}`:                                              action(http.StatusAccepted, with(change, "specs", 1)),
		"POST /apps/{app}/cvms/{cvm}/replicas":                                      action(http.StatusAccepted, delta{"cvms": 1, "operations": 1, "operation_targets": 1, "quota": 1}),
		`POST /cvms/{cvm}/firewall-rules {"cidr":"10.0.0.0/8"}`:                     action(http.StatusCreated, delta{"firewall_rules": 1}),
		"DELETE /cvms/{cvm}":                                                        {alive: http.StatusAccepted, deleted: api.CodeGone, does: with(change, "quota", -1)},
		"GET /cvms/{cvm}":                                                           read,
		"GET /cvms/{cvm}/pre-launch-script":                                         read,
		`PATCH /cvms/{cvm}/resources {"instance_type":"tdx.medium"}`:                action(http.StatusAccepted, with(change, "specs", 1)),
		`PATCH /cvms/{cvm}/os-image {"os_image_name":"dstack-0.5.8"}`:               action(http.StatusAccepted, with(change, "specs", 1)),
		`PATCH /cvms/{cvm}/docker-compose services: {a: {}}`:                        action(http.StatusAccepted, with(change, "specs", 1)),
		`PATCH /cvms/{cvm}/pre-launch-script echo 1`:                                action(http.StatusAccepted, with(change, "specs", 1)),
		`PATCH /cvms/{cvm}/envs {"encrypted_env":"00"}`:                             action(http.StatusAccepted, with(change, "specs", 1)),
		`PATCH /cvms/{cvm}/compose_file {"compose_hash":"{hash}","env_keys":["A"]}`: action(http.StatusAccepted, with(change, "specs", 1)),
		`POST /cvms/{cvm}/compose_file/provision {"public_logs":true}`:              action(http.StatusOK, delta{"specs": 1, "provisions": 1}),
		"GET /cvms/{cvm}/docker-compose.yml":                                        read,
		"GET /cvms/{cvm}/firewall-rules":                                            read,
	}
}

// TestMatrixOfStates is "State and action", and the last rows of §3's table.
func TestMatrixOfStates(t *testing.T) {
	t.Parallel()
	idle := setup(t)
	live, _ := setupWithOwl(t, owlapitest.Config{Fail: func(name string) bool { return name == "doomed" }})
	live.run(live.service)
	for name, s := range stages() {
		for action, want := range actionsOnCVMs() {
			t.Run(name+"/"+strings.ReplaceAll(action, "/", "|"), func(t *testing.T) {
				t.Parallel()
				b := idle
				if s.live {
					b = live
				}
				m := b.matrixCase(t)
				s.reach(m)
				m.holds(action, name, want)
			})
		}
	}
}

func (m *matrix) holds(action, stage string, want told) {
	m.t.Helper()
	parts := strings.SplitN(action, " ", 3)
	path, body := m.to(parts[1]), ""
	if len(parts) == 3 {
		body = m.to(parts[2])
	}
	if stage == "no UUID" {
		path = strings.ReplaceAll(path, m.cvm.String(), "7")
	}
	c := request(m.client(), parts[0], path, body)
	code := map[string]api.Code{
		"never was": api.CodeNotFound, "foreign": api.CodeNotFound, "no UUID": api.CodeNotFound,
		"failed before Owl had it": want.refused, "deleting": want.deleting, "deleted": want.deleted,
	}[stage]
	if code != "" {
		p := m.refused(c, code)
		require.Equal(m.t, stage == "deleted", p.DeletedAt != nil)
		return
	}
	if stage == "deleting" || parts[0] == http.MethodGet {
		m.changesNothing(c).Expect(want.alive)
		return
	}
	does := want.does
	if power := parts[1][len("/cvms/{cvm}"):]; power == "/start" || power == "/stop" {
		does = delta{"operations": 1, "operation_targets": 1}
		if asked := map[string]string{"stopped": "/stop", "running": "/start", "failed": "/start", "unconfirmed": "/start"}[stage]; asked == power {
			does = delta{"operations": 1} // asked for already: an operation that has succeeded …
			if stage == "unconfirmed" {
				does = nil // … or the one under way
			}
		}
	}
	m.grows(c, does).Expect(want.alive)
}

// TestMatrixOfApps is the stages of an app and the calls that name one.
func TestMatrixOfApps(t *testing.T) {
	t.Parallel()
	idle := setup(t)
	live, _ := setupWithOwl(t, owlapitest.Config{})
	live.run(live.service)
	const missing, invalid, gone = api.CodeNotFound, api.CodeInvalidState, api.CodeResourceDeleted
	for name, tc := range map[string]struct {
		b     *testBundle
		reach func(m *matrix)
		read  api.Code // GET of it and of its CVMs; "": 200
		scale api.Code // PUT …/replicas; "": 202
	}{
		"never was": {idle, func(m *matrix) { m.app = api.NewMinter().ID() }, missing, missing},
		"foreign":   {idle, func(m *matrix) { o := m.matrixCase(m.t); o.first("web"); m.app = o.app }, missing, missing},
		"reserved by a provision": {idle, func(m *matrix) {
			m.app = apitest.Decode[api.Provision](m.post("/cvms/provision", m.spec("web")).Expect(http.StatusOK)).AppID
		}, missing, missing},
		"POST /apps made it": {idle, func(m *matrix) {
			m.app = apitest.Decode[api.App](m.post("/apps", `{"name":"web"}`).Expect(http.StatusCreated)).ID
		}, "", invalid},
		"with a CVM":        {idle, func(m *matrix) { m.first("web") }, "", ""},
		"CVMs all deleting": {idle, func(m *matrix) { m.first("web"); m.del("/cvms/{cvm}").Expect(http.StatusAccepted) }, "", invalid},
		"CVMs all deleted": {live, func(m *matrix) {
			m.ended(m.first("web").Operation.ID)
			m.ended(m.del("/cvms/{cvm}").Expect(http.StatusAccepted).CVM().Operation.ID)
		}, gone, gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := tc.b.matrixCase(t)
			tc.reach(m)
			for _, path := range []string{"/apps/{app}", "/apps/app_{app}", "/apps/{app}/cvms"} {
				c := m.client().Request(http.MethodGet, m.to(path), "")
				if tc.read != "" {
					require.Equal(t, tc.read == gone, m.refused(c, tc.read).DeletedAt != nil)
				} else {
					m.changesNothing(c).Expect(http.StatusOK)
				}
			}
			c := m.client().Request(http.MethodPut, m.to("/apps/{app}/replicas"), `{"count":1}`).Key("k")
			if tc.scale != "" {
				m.refused(c, tc.scale)
			} else {
				m.grows(c, delta{"operations": 1, "idempotency_keys": 1}).Expect(http.StatusAccepted)
			}
		})
	}
}

// TestMatrixOfTheOrderOfChecks sends requests with two faults: the earlier
// check answers. One after the other, each fault is mended.
func TestMatrixOfTheOrderOfChecks(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.MaxCVMs = 1 })
	m := b.matrixCase(t)
	m.first("web")
	m.post("/apps", `{"name":"shop"}`).Key("used").Expect(http.StatusCreated)
	reader := b.newToken("reader", token.ScopeRead)
	b.cfg.RateLimit = 1e-9
	_, limited := b.node()
	nobody := "/apps/" + api.NewMinter().ID().String() + "/cvms/" + api.NewMinter().ID().String() + "/replicas"
	replicas := m.to("/apps/{app}/cvms/{cvm}/replicas")

	m.post(nobody, `{"x":1}`).At(limited).As(m.secret).Key("a b").Send() // empties the bucket of this token
	for _, step := range []struct {
		name string
		call *apitest.Call
		code api.Code
	}{
		{"authentication before scope, rate, key, body", m.post(nobody, `{"x":1}`).At(limited).As("nobody").Key("a b"), api.CodeUnauthenticated},
		{"scope before rate, key, body", m.post(nobody, `{"x":1}`).At(limited).As(reader).Key("a b"), api.CodeForbidden},
		{"rate before key, body", m.post(nobody, `{"x":1}`).At(limited).Key("a b"), api.CodeRateLimited},
		{"key syntax before body", m.post(nobody, `{"x":1}`).Key("a b"), api.CodeInvalidIdempotencyKey},
		{"body before key look-up", m.post(nobody, `{"x":1}`).Key("used"), api.CodeInvalidRequest},
		{"body size before key look-up", m.post(nobody, strings.Repeat(" ", api.MaxBodyBytes)+`{}`).Key("used"), api.CodeBodyTooLarge},
		{"content type before key look-up", m.post(nobody, `{}`).Key("used").With("Content-Type", "text/yaml"), api.CodeUnsupportedMediaType},
		{"key look-up before parents", m.post(nobody, `{}`).Key("used"), api.CodeIdempotencyKeyReused},
		{"parents before quota", m.post(nobody, `{}`).Key("free"), api.CodeNotFound},
		{"quota last", m.post(replicas, `{}`).Key("free"), api.CodeQuotaExceeded},
		{"quota by count", m.client().Request(http.MethodPut, m.to("/apps/{app}/replicas"), `{"count":2}`).Key("free"), api.CodeQuotaExceeded},
		{"quota on a create", m.post("/cvms", anotherApp).Key("free"), api.CodeQuotaExceeded},
	} {
		t.Log(step.name)
		m.refused(step.call, step.code)
	}
	m.refused(m.client().Request(http.MethodGet, "/cvms", "").At(limited), api.CodeRateLimited)
	m.get("/idempotency-keys/free").Refuse(api.CodeNotFound)
	require.True(t, m.post("/apps", `{"name":"shop"}`).Key("used").Expect(http.StatusCreated).Replayed())
}

// TestMatrixOfFailures: 5xx are never stored as a key's result, nothing is half
// done, and the same request is done once the fault is over. A table that is
// away fails whatever touches it, in the middle of the transaction too.
func TestMatrixOfFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for table := range tables() {
		for name, call := range keyedCalls() {
			t.Log(table, name)
			m := b.matrixCase(t)
			m.first("web")
			m.fails(table, call.status, func() *apitest.Call { return call.send(m).Key("k") })
		}
		m := b.matrixCase(t)
		m.first("web")
		rule := apitest.Decode[api.FirewallRule](m.post(m.to("/cvms/{cvm}/firewall-rules"), `{"cidr":"10.0.0.0/8"}`).Expect(http.StatusCreated))
		m.fails(table, http.StatusNoContent, func() *apitest.Call { return m.del("/cvms/{cvm}/firewall-rules/" + rule.ID.String()) })
		m.fails(table, http.StatusAccepted, func() *apitest.Call { return m.del("/cvms/{cvm}") })
		for _, read := range []string{
			"/apps", "/apps/{app}", "/apps/{app}/cvms", "/cvms", "/cvms/{cvm}", "/cvms/{cvm}/docker-compose.yml",
			"/cvms/{cvm}/firewall-rules", "/operations", "/idempotency-keys/k",
		} {
			m.away(table, func() {
				if r := m.get(m.to(read)); r.Status >= http.StatusInternalServerError {
					r.Refuse(api.CodeInternal)
				}
			})
		}
	}
}

// fails sends a call while a table is away, and again when it is back.
func (m *matrix) fails(table string, status int, call func() *apitest.Call) {
	m.t.Helper()
	before := m.contents()
	failed := false
	m.away(table, func() {
		r := call().Send()
		if failed = r.Status != status; failed { // otherwise it needs none of this table
			require.NotContains(m.t, r.Refuse(api.CodeInternal).Detail, table, "500 shows nothing of the inside")
		}
	})
	if !failed {
		return
	}
	require.Equal(m.t, before, m.contents())
	m.get("/idempotency-keys/k").Refuse(api.CodeNotFound)
	require.False(m.t, call().Expect(status).Replayed())
}

// away runs f while a table cannot be found.
func (m *matrix) away(table string, f func()) {
	m.t.Helper()
	require.NoError(m.t, m.db.Exec("ALTER TABLE "+table+" RENAME TO gone").Error)
	f()
	require.NoError(m.t, m.db.Exec("ALTER TABLE gone RENAME TO "+table).Error)
}
