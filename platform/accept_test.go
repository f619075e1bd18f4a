package platform_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/platform"
	"roost/platform/token"
)

func TestTheSamePostTwiceNamesOneCVM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms", b.spec("web")).key("k1").expect(http.StatusAccepted)
	require.False(t, first.replayed())
	again := b.post("/cvms", b.spec("web")).key(`"k1"`).expect(http.StatusAccepted)

	require.True(t, again.replayed())
	require.Equal(t, first.Header.Get(api.HeaderRequestID), again.Header.Get(api.HeaderOriginalRequestID))
	require.Equal(t, first.cvm().VMUUID, again.cvm().VMUUID)
	require.Equal(t, first.cvm().Operation, again.cvm().Operation)
	require.Equal(t, 1, b.count("cvms"))
	require.Equal(t, 1, b.count("operations"))

	for _, r := range []*reply{first, again} {
		expires, err := time.Parse(time.RFC3339, r.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(24*time.Hour), expires, time.Hour)
	}
}

func TestAnAcceptedCVMLooksAsTheContractSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.post("/cvms", b.spec("web-app")).key("k").expect(http.StatusAccepted)

	var raw map[string]any
	require.NoError(t, json.Unmarshal(cvm.Body, &raw))
	for member, want := range map[string]any{
		"name": "web-app", "replica_of": nil, "status": "provisioning", "in_progress": true,
		"progress": map[string]any{"target": "running"}, "instance_type": "tdx.small",
		"vcpu": 1.0, "memory": 2048.0, "disk_size": 20.0, "base_image": "dstack-0.5.7", "storage_fs": "zfs",
		"listed": false, "region": "local-1", "generation": 1.0, "observed_generation": 0.0,
		"error": nil, "deleted_at": nil, "id": raw["vm_uuid"],
	} {
		require.Contains(t, raw, member)
		require.Equal(t, want, raw[member], member)
	}
	require.Regexp(t, `^[0-9a-f]{64}$`, raw["compose_hash"])
	require.Regexp(t, `^[0-9a-f]{64}$`, raw["encrypted_env_pubkey"])
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`, raw["created_at"])
	op, _ := raw["operation"].(map[string]any)
	require.Regexp(t, `^op_[0-9A-HJKMNP-TV-Z]{26}$`, op["id"])
	require.Equal(t, "cvm.create", op["kind"])
	require.Equal(t, "pending", op["status"])

	detail := b.get("/operations/" + cvm.cvm().Operation.ID).expect(http.StatusOK).operation()
	require.Equal(t, cvm.cvm().VMUUID, detail.ResourceID)
	require.Equal(t, cvm.Header.Get(api.HeaderRequestID), detail.RequestID)
	require.Equal(t, int64(1), detail.Generation)
}

func TestAnotherBodyUnderTheKeyIsAConflictThatNamesIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("/cvms", b.spec("web")).key("k").expect(http.StatusAccepted)
	before := b.rows()

	other := strings.Replace(specBody("web", "services: {api: {}}"), "tdx.small", "tdx.large", 1)
	p := b.post("/cvms", other).key("k").send().refuse(api.CodeIdempotencyKeyReused)
	require.False(t, p.Retryable)
	require.Equal(t, []string{"/compose_file/docker_compose_file", "/instance_type"}, fields(p))
	require.NotContains(t, p.Detail+fmt.Sprint(p.Errors), "tdx.large")

	p = b.post("/apps", `{"name":"web"}`).key("k").send().refuse(api.CodeIdempotencyKeyReused)
	require.Contains(t, fields(p), "path")
	require.Equal(t, before, b.rows(), "a mismatch must do nothing")
}

func TestTheSameRequestInOtherWordsIsTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms", b.spec("web")).key("k").expect(http.StatusAccepted).cvm()
	spelled := ` { "listed": false, "compose_file": {"storage_fs":"zfs", "docker_compose_file":"services: {web: {image: nginx}}"},
		"vcpu": 1, "region": null, "image": "dstack-0.5.7", "instance_type":"tdx.small", "name":"web", "encrypted_env":"00ff" } `
	again := b.post("/cvms", spelled).key("k").expect(http.StatusAccepted)
	require.True(t, again.replayed())
	require.Equal(t, first.VMUUID, again.cvm().VMUUID)
}

func TestOneKeyAHundredTimesAtOnceMakesOneCVM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, second := b.node()
	replies := b.together(100, func(i int) *call {
		return b.post("/cvms", b.spec("web")).key("k").at([]string{b.url, second}[i%2])
	})
	ids, executed := map[api.ID]bool{}, 0
	for _, r := range replies {
		r.expect(http.StatusAccepted)
		ids[r.cvm().VMUUID] = true
		if !r.replayed() {
			executed++
		}
	}
	require.Len(t, ids, 1)
	require.Equal(t, 1, executed)
	require.Equal(t, 1, b.count("cvms"))
	require.Equal(t, 1, b.count("operations"))
	require.Equal(t, 1, b.rows()["quota"])
}

func TestAHundredBodiesUnderOneKeyExecuteOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	replies := b.together(100, func(i int) *call { return b.post("/cvms", b.spec(fmt.Sprint("app-", i))).key("k") })
	statuses := map[int]int{}
	for _, r := range replies {
		statuses[r.Status]++
		if r.Status != http.StatusAccepted {
			require.Equal(t, []string{"/name"}, fields(r.refuse(api.CodeIdempotencyKeyReused)))
		}
	}
	require.Equal(t, map[int]int{http.StatusAccepted: 1, http.StatusConflict: 99}, statuses)
	require.Equal(t, 1, b.count("cvms"))
	require.Equal(t, 1, b.count("apps"))
}

func TestAHundredWorkspacesMayUseOneKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = b.newToken(fmt.Sprint("workspace-", i), token.ScopeWrite)
	}
	for _, r := range b.together(len(tokens), func(i int) *call { return b.post("/cvms", b.spec("web")).key("k").as(tokens[i]) }) {
		r.expect(http.StatusAccepted)
		require.False(t, r.replayed())
	}
	require.Equal(t, len(tokens), b.count("cvms"))
}

func TestACreateWithoutAKeyIsRecognisedByItsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms", b.spec("web")).expect(http.StatusAccepted)
	require.Empty(t, first.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
	again := b.post("/cvms", b.spec("web")).expect(http.StatusAccepted)
	require.True(t, again.replayed())
	require.Equal(t, first.Header.Get(api.HeaderRequestID), again.Header.Get(api.HeaderOriginalRequestID))
	require.Equal(t, first.cvm().VMUUID, again.cvm().VMUUID)

	keyed := b.post("/cvms", b.spec("web")).key("new").expect(http.StatusAccepted)
	require.True(t, keyed.replayed())
	key := decode[api.Key](b.get("/idempotency-keys/new").expect(http.StatusOK))
	require.Equal(t, first.cvm().Operation.ID, *key.OperationID)
	require.Equal(t, first.cvm().VMUUID, *key.ResourceID)

	before := b.rows()
	p := b.post("/cvms", specBody("web", "services: {other: {}}")).key("other").send().refuse(api.CodeAppExists)
	require.Equal(t, first.cvm().AppID, *p.AppID)
	require.Equal(t, first.cvm().VMUUID, *p.VMUUID)
	require.Equal(t, before, b.rows())
	b.get("/idempotency-keys/other").refuse(api.CodeNotFound)
}

func TestTwoCreatesOfOneNameAtOnceNameOneCVM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := map[api.ID]bool{}
	for _, r := range b.together(20, func(i int) *call { return b.post("/cvms", b.spec("web")).key(fmt.Sprint("k", i)) }) {
		ids[r.expect(http.StatusAccepted).cvm().VMUUID] = true
	}
	require.Len(t, ids, 1)
	require.Equal(t, 1, b.count("cvms"))
}

func TestProvisionThenCommitKeepsTheSpec(t *testing.T) {
	t.Parallel()
	b := setup(t)
	compose := "services:\n  web: {image: \"nginx:1.27\"}\n  # ünïcode & <html> \u2028\n"
	provision := decode[api.Provision](b.post("/cvms/provision", specBody("web", compose)).expect(http.StatusOK))
	b.get("/apps/" + provision.AppID.String()).refuse(api.CodeNotFound)
	require.Zero(t, b.count("cvms"), "a provision starts nothing")

	renewed := decode[api.Provision](b.post("/cvms/provision", specBody("web", compose)).expect(http.StatusOK))
	require.Equal(t, provision.AppID, renewed.AppID)
	require.Equal(t, provision.ComposeHash, renewed.ComposeHash)
	require.Equal(t, 1, b.count("specs"), "a renewed provision leaves no spec behind")

	commit := fmt.Sprintf(`{"app_id":"app_%s","compose_hash":%q,"encrypted_env":"c0ffee","env_keys":["A"]}`, provision.AppID, provision.ComposeHash)
	cvm := b.post("/cvms", commit).key("c").expect(http.StatusAccepted).cvm()
	require.Equal(t, provision.AppID, cvm.AppID)
	require.Equal(t, provision.ComposeHash, cvm.ComposeHash)
	require.Equal(t, "web", cvm.Name)
	require.Zero(t, b.count("provisions"), "a commit uses its provision up")
	require.Equal(t, 1, b.count("specs"))

	again := b.post("/cvms", strings.Replace(commit, "c0ffee", "decaf0", 1)).key("c").expect(http.StatusAccepted)
	require.True(t, again.replayed(), "the ciphertext is made anew each time and is not compared")
	p := b.post("/cvms", strings.Replace(commit, `["A"]`, `["B"]`, 1)).key("c").send().refuse(api.CodeIdempotencyKeyReused)
	require.Equal(t, []string{"/env_keys"}, fields(p))

	file := b.get("/cvms/" + cvm.VMUUID.String() + "/docker-compose.yml").expect(http.StatusOK)
	require.Equal(t, compose, string(file.Body))
	app := decode[api.App](b.get("/apps/app_" + provision.AppID.String()).expect(http.StatusOK))
	require.Len(t, app.CVMs, 1)
}

func TestCommitWithoutAProvisionIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.ProvisionTTL = time.Microsecond })
	provision := decode[api.Provision](b.post("/cvms/provision", b.spec("web")).expect(http.StatusOK))
	commit := func(app, hash string) *reply {
		return b.post("/cvms", fmt.Sprintf(`{"app_id":%q,"compose_hash":%q}`, app, hash)).key("k").send()
	}
	commit(provision.AppID.String(), provision.ComposeHash).refuse(api.CodeProvisionNotFound) // expired
	commit(provision.AppID.String(), strings.Repeat("0", 64)).refuse(api.CodeProvisionNotFound)
	commit(api.NewMinter().ID().String(), provision.ComposeHash).refuse(api.CodeNotFound)
	require.Zero(t, b.count("idempotency_keys"), "nothing refused uses the key up")
}

func TestReplicasByCountAreOneOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	source := b.post("/cvms", b.spec("web")).expect(http.StatusAccepted).cvm()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"

	first := b.post(path, `{"count":3}`).key("r").expect(http.StatusAccepted)
	made := decode[api.CVMs](first)
	require.Len(t, made.Items, 3)
	require.Equal(t, source.AppID, made.Operation.ResourceID)
	require.Nil(t, made.Operation.VMUUID)
	require.Equal(t, api.KindCVMReplicate, made.Operation.Kind)
	for _, r := range made.Items {
		require.Equal(t, source.VMUUID, *r.ReplicaOf)
		require.Equal(t, source.Name, r.Name)
		require.Equal(t, source.ComposeHash, r.ComposeHash)
		require.Equal(t, made.Operation.ID, r.Operation.ID)
	}
	again := b.post(path, `{"count":3}`).key("r").expect(http.StatusAccepted)
	require.True(t, again.replayed())
	require.Equal(t, made, decode[api.CVMs](again))

	one := b.post(path, `{"name":"blue"}`).key("one").expect(http.StatusAccepted).cvm()
	require.Equal(t, "blue", one.Name)
	b.post(path, ``).expect(http.StatusAccepted) // without a key: another one
	b.post(path, ``).expect(http.StatusAccepted)

	list := decode[[]api.CVM](b.get("/apps/" + source.AppID.String() + "/cvms").expect(http.StatusOK))
	require.Len(t, list, 7)
	require.Equal(t, source.VMUUID, list[0].VMUUID)
	require.Equal(t, made.Items[0].VMUUID, list[1].VMUUID, "in order of acceptance")
	require.Equal(t, one.VMUUID, list[4].VMUUID)
	require.Equal(t, 1, b.count("specs"), "replicas share their source's spec")
	require.Equal(t, 7, b.rows()["quota"])
}

func TestReplicasAreRefusedWithoutATrace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.post("/cvms", b.spec("web")).expect(http.StatusAccepted).cvm()
	foreign := b.newToken("other", token.ScopeWrite)
	app, id, nobody := cvm.AppID.String(), cvm.VMUUID.String(), api.NewMinter().ID().String()
	before := b.rows()
	for name, tc := range map[string]struct {
		call  *call
		code  api.Code
		field string
	}{
		"unknown app":       {call: b.post("/apps/"+nobody+"/cvms/"+id+"/replicas", ``), code: api.CodeNotFound},
		"unknown source":    {call: b.post("/apps/"+app+"/cvms/"+nobody+"/replicas", ``), code: api.CodeNotFound},
		"no UUID":           {call: b.post("/apps/"+app+"/cvms/x/replicas", ``), code: api.CodeNotFound},
		"foreign workspace": {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", ``).as(foreign), code: api.CodeNotFound},
		"count 0":           {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"count":0}`), code: api.CodeInvalidRequest, field: "/count"},
		"count 101":         {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"count":101}`), code: api.CodeInvalidRequest, field: "/count"},
		"name and count":    {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"count":2,"name":"x"}`), code: api.CodeInvalidRequest, field: "/name"},
		"id":                {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"id":"`+nobody+`"}`), code: api.CodeInvalidRequest, field: "/id"},
	} {
		p := tc.call.key("k").send().refuse(tc.code)
		if tc.field != "" {
			require.Equal(t, []string{tc.field}, fields(p), name)
		}
	}
	require.Equal(t, before, b.rows())
}

func TestQuotaIsNeverExceeded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.MaxCVMs = 5 })
	source := b.post("/cvms", b.spec("web")).key("first").expect(http.StatusAccepted).cvm()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	b.post(path, `{"count":5}`).key("many").send().refuse(api.CodeQuotaExceeded)
	accepted := 0
	for _, r := range b.together(20, func(i int) *call { return b.post(path, ``).key(fmt.Sprint("r", i)) }) {
		if r.Status == http.StatusAccepted {
			accepted++
		} else {
			r.refuse(api.CodeQuotaExceeded)
		}
	}
	require.Equal(t, 4, accepted)
	require.Equal(t, 5, b.count("cvms"))
	// A repeat of what succeeded says what happened, not that there is no room.
	require.True(t, b.post("/cvms", b.spec("web")).key("first").expect(http.StatusAccepted).replayed())
}

func TestAppsEchoByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/apps", `{"name":"shop"}`).key("k").expect(http.StatusCreated)
	again := b.post("/apps", `{"name":"shop"}`).key("k").expect(http.StatusCreated)
	require.True(t, again.replayed())
	require.Equal(t, string(first.Body), string(again.Body))

	app := decode[api.App](first)
	p := b.post("/apps", `{"name":"shop"}`).key("k2").send().refuse(api.CodeAppExists)
	require.Equal(t, app.ID, *p.AppID)
	shown := decode[api.App](b.get("/apps/" + app.ID.String()).expect(http.StatusOK))
	require.Equal(t, app, shown, "an app that POST /apps made shows without CVMs")
	require.JSONEq(t, `[]`, string(b.get("/apps/"+app.ID.String()+"/cvms").expect(http.StatusOK).Body))

	cvm := b.post("/cvms", b.spec("shop")).expect(http.StatusAccepted).cvm()
	require.Equal(t, app.ID, cvm.AppID, "a name has one app, for ever")
}

func TestProvisionEchoesUnderItsKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms/provision", b.spec("web")).key("k").expect(http.StatusOK)
	again := b.post("/cvms/provision", b.spec("web")).key("k").expect(http.StatusOK)
	require.True(t, again.replayed())
	require.Equal(t, string(first.Body), string(again.Body))
}

func TestBadKeysAreRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"", `""`, "a b", `"open`, `"a" ` + `b`, strings.Repeat("x", 256), "schlüssel"} {
		p := b.post("/cvms", `not JSON`).key(key).send().refuse(api.CodeInvalidIdempotencyKey)
		require.Equal(t, []string{api.HeaderIdempotencyKey}, fields(p))
	}
	b.post("/cvms", b.spec("web")).key("a").add(api.HeaderIdempotencyKey, "a").send().refuse(api.CodeInvalidIdempotencyKey)
	require.Zero(t, b.count("idempotency_keys"))
	b.post("/cvms", b.spec("web")).key(strings.Repeat("x", 255)).expect(http.StatusAccepted)
}

func TestKeysAreLookedUpByTheirEscapedName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.post("/cvms", b.spec("web")).key(`"a/b+c%2F\"d"`).expect(http.StatusAccepted).cvm()
	key := decode[api.Key](b.get("/idempotency-keys/a%2Fb+c%252F%22d").expect(http.StatusOK))
	require.Equal(t, "bound", key.State)
	require.Equal(t, cvm.Operation.ID, *key.OperationID)
	b.get("/idempotency-keys/unknown").refuse(api.CodeNotFound)
	foreign := b.newToken("other", token.ScopeWrite)
	b.request(http.MethodGet, "/idempotency-keys/a%2Fb+c%252F%22d", "").as(foreign).send().refuse(api.CodeNotFound)
}

func TestAKeyThatIsBeingBoundIsWaitedForAndThenInProgress(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.KeyWait = 100 * time.Millisecond })
	b.post("/cvms", b.spec("other")).key("warm").expect(http.StatusAccepted)
	// A node whose accept is stuck, as Postgres sees it.
	tx := b.db.Begin()
	defer tx.Rollback()
	require.NoError(t, tx.Exec(`INSERT INTO idempotency_keys
		SELECT workspace_id, 'k', method, route, path_params, members, request_id, status, operation_id, resource_id, body,
			created_at, expires_at FROM idempotency_keys`).Error)

	r := b.post("/cvms", b.spec("web")).key("k").send()
	p := r.refuse(api.CodeKeyInProgress)
	require.True(t, p.Retryable)
	require.Equal(t, "1", r.Header.Get("Retry-After"))
	require.NotContains(t, string(r.Body), "error_code")

	require.NoError(t, tx.Rollback().Error)
	require.False(t, b.post("/cvms", b.spec("web")).key("k").expect(http.StatusAccepted).replayed())
}

func TestAnExpiredKeyIsNew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	source := b.post("/cvms", b.spec("web")).key("k").expect(http.StatusAccepted).cvm()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	first := b.post(path, ``).key("r").expect(http.StatusAccepted).cvm()
	require.NoError(t, b.db.Exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`).Error)
	require.True(t, b.post(path, ``).key("r").expect(http.StatusAccepted).replayed(), "kept until its operation has ended")

	require.NoError(t, b.db.Exec(`UPDATE operations SET status = 'succeeded'`).Error)
	b.get("/idempotency-keys/r").refuse(api.CodeNotFound)
	second := b.post(path, `{"name":"other"}`).key("r").expect(http.StatusAccepted)
	require.False(t, second.replayed())
	require.NotEqual(t, first.VMUUID, second.cvm().VMUUID)
}

// together sends n requests at once.
func (b *testBundle) together(n int, request func(i int) *call) []*reply {
	b.t.Helper()
	calls, replies, errs := make([]*call, n), make([]*reply, n), make([]error, n)
	for i := range n {
		calls[i] = request(i)
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { <-start; replies[i], errs[i] = calls[i].try() })
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		require.NoError(b.t, err)
	}
	return replies
}

func fields(p api.Problem) []string {
	var out []string
	for _, f := range p.Errors {
		out = append(out, f.Field)
	}
	return out
}
