package platform_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/platform"
	"roost/platform/token"
)

func TestTheSamePostTwiceNamesOneCVM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms", b.spec("web")).Key("k1").Expect(http.StatusAccepted)
	require.False(t, first.Replayed())
	again := b.post("/cvms", b.spec("web")).Key(`"k1"`).Expect(http.StatusAccepted)

	require.True(t, again.Replayed())
	require.Equal(t, first.Header.Get(api.HeaderRequestID), again.Header.Get(api.HeaderOriginalRequestID))
	require.Equal(t, first.CVM().VMUUID, again.CVM().VMUUID)
	require.Equal(t, first.CVM().Operation, again.CVM().Operation)
	require.Equal(t, 1, b.count("cvms"))
	require.Equal(t, 1, b.count("operations"))

	for _, r := range []*apitest.Reply{first, again} {
		expires, err := time.Parse(time.RFC3339, r.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(24*time.Hour), expires, time.Hour)
	}
}

func TestAnAcceptedCVMLooksAsTheContractSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.post("/cvms", b.spec("web-app")).Key("k").Expect(http.StatusAccepted)

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

	detail := b.get("/operations/" + cvm.CVM().Operation.ID).Expect(http.StatusOK).Operation()
	require.Equal(t, cvm.CVM().VMUUID, detail.ResourceID)
	require.Equal(t, cvm.Header.Get(api.HeaderRequestID), detail.RequestID)
	require.Equal(t, int64(1), detail.Generation)
}

func TestAnotherBodyUnderTheKeyIsAConflictThatNamesIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted)
	before := b.rows()

	other := strings.Replace(apitest.Spec("web", "services: {api: {}}"), "tdx.small", "tdx.large", 1)
	mismatch := b.post("/cvms", other).Key("k").Send()
	p := mismatch.Refuse(api.CodeIdempotencyKeyReused)
	require.NotEmpty(t, mismatch.Header.Get(api.HeaderIdempotencyKeyExpiresAt), "every answer to a bound key says how long it is")
	require.False(t, p.Retryable)
	require.Equal(t, []string{"/compose_file/docker_compose_file", "/instance_type"}, apitest.Fields(p))
	require.NotContains(t, p.Detail+fmt.Sprint(p.Errors), "tdx.large")

	p = b.post("/apps", `{"name":"web"}`).Key("k").Send().Refuse(api.CodeIdempotencyKeyReused)
	require.Contains(t, apitest.Fields(p), "path")
	require.Equal(t, before, b.rows(), "a mismatch must do nothing")
}

func TestTheSameRequestInOtherWordsIsTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted).CVM()
	spelled := ` { "listed": false, "compose_file": {"storage_fs":"zfs", "docker_compose_file":"services: {web: {image: nginx}}"},
		"vcpu": 1, "region": null, "image": "dstack-0.5.7", "instance_type":"tdx.small", "name":"web", "encrypted_env":"00ff" } `
	again := b.post("/cvms", spelled).Key("k").Expect(http.StatusAccepted)
	require.True(t, again.Replayed())
	require.Equal(t, first.VMUUID, again.CVM().VMUUID)
}

func TestOneKeyAHundredTimesAtOnceMakesOneCVM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, second := b.node()
	replies := apitest.Together(t, 100, func(i int) *apitest.Call {
		return b.post("/cvms", b.spec("web")).Key("k").At([]string{b.url, second}[i%2])
	})
	ids, executed := map[api.ID]bool{}, 0
	for _, r := range replies {
		r.Expect(http.StatusAccepted)
		ids[r.CVM().VMUUID] = true
		if !r.Replayed() {
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
	replies := apitest.Together(t, 100, func(i int) *apitest.Call { return b.post("/cvms", b.spec(fmt.Sprint("app-", i))).Key("k") })
	statuses := map[int]int{}
	for _, r := range replies {
		statuses[r.Status]++
		if r.Status != http.StatusAccepted {
			require.Equal(t, []string{"/name"}, apitest.Fields(r.Refuse(api.CodeIdempotencyKeyReused)))
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
	for _, r := range apitest.Together(t, len(tokens), func(i int) *apitest.Call { return b.post("/cvms", b.spec("web")).Key("k").As(tokens[i]) }) {
		r.Expect(http.StatusAccepted)
		require.False(t, r.Replayed())
	}
	require.Equal(t, len(tokens), b.count("cvms"))
}

func TestACreateWithoutAKeyIsRecognisedByItsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms", b.spec("web")).Expect(http.StatusAccepted)
	require.Empty(t, first.Header.Get(api.HeaderIdempotencyKeyExpiresAt))
	again := b.post("/cvms", b.spec("web")).Expect(http.StatusAccepted)
	require.True(t, again.Replayed())
	require.Equal(t, first.Header.Get(api.HeaderRequestID), again.Header.Get(api.HeaderOriginalRequestID))
	require.Equal(t, first.CVM().VMUUID, again.CVM().VMUUID)

	keyed := b.post("/cvms", b.spec("web")).Key("new").Expect(http.StatusAccepted)
	require.True(t, keyed.Replayed())
	key := apitest.Decode[api.Key](b.get("/idempotency-keys/new").Expect(http.StatusOK))
	require.Equal(t, first.CVM().Operation.ID, *key.OperationID)
	require.Equal(t, first.CVM().VMUUID, *key.ResourceID)

	before := b.rows()
	p := b.post("/cvms", apitest.Spec("web", "services: {other: {}}")).Key("other").Send().Refuse(api.CodeAppExists)
	require.Equal(t, first.CVM().AppID, *p.AppID)
	require.Equal(t, first.CVM().VMUUID, *p.VMUUID)
	require.Equal(t, before, b.rows())
	b.get("/idempotency-keys/other").Refuse(api.CodeNotFound)
}

func TestTwoCreatesOfOneNameAtOnceNameOneCVM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := map[api.ID]bool{}
	for _, r := range apitest.Together(t, 20, func(i int) *apitest.Call { return b.post("/cvms", b.spec("web")).Key(fmt.Sprint("k", i)) }) {
		ids[r.Expect(http.StatusAccepted).CVM().VMUUID] = true
	}
	require.Len(t, ids, 1)
	require.Equal(t, 1, b.count("cvms"))
}

func TestProvisionThenCommitKeepsTheSpec(t *testing.T) {
	t.Parallel()
	b := setup(t)
	compose := "services:\n  web: {image: \"nginx:1.27\"}\n  # ünïcode & <html> \u2028\n"
	provision := apitest.Decode[api.Provision](b.post("/cvms/provision", apitest.Spec("web", compose)).Expect(http.StatusOK))
	b.get("/apps/" + provision.AppID.String()).Refuse(api.CodeNotFound)
	require.Zero(t, b.count("cvms"), "a provision starts nothing")

	renewed := apitest.Decode[api.Provision](b.post("/cvms/provision", apitest.Spec("web", compose)).Expect(http.StatusOK))
	require.Equal(t, provision.AppID, renewed.AppID)
	require.Equal(t, provision.ComposeHash, renewed.ComposeHash)
	require.Equal(t, 1, b.count("specs"), "a renewed provision leaves no spec behind")

	commit := fmt.Sprintf(`{"app_id":"app_%s","compose_hash":%q,"encrypted_env":"c0ffee","env_keys":["A"]}`, provision.AppID, provision.ComposeHash)
	cvm := b.post("/cvms", commit).Key("c").Expect(http.StatusAccepted).CVM()
	require.Equal(t, provision.AppID, cvm.AppID)
	require.Equal(t, provision.ComposeHash, cvm.ComposeHash)
	require.Equal(t, "web", cvm.Name)
	require.Zero(t, b.count("provisions"), "a commit uses its provision up")
	require.Equal(t, 1, b.count("specs"))

	again := b.post("/cvms", strings.Replace(commit, "c0ffee", "decaf0", 1)).Key("c").Expect(http.StatusAccepted)
	require.True(t, again.Replayed(), "the ciphertext is made anew each time and is not compared")
	p := b.post("/cvms", strings.Replace(commit, `["A"]`, `["B"]`, 1)).Key("c").Send().Refuse(api.CodeIdempotencyKeyReused)
	require.Equal(t, []string{"/env_keys"}, apitest.Fields(p))

	file := b.get("/cvms/" + cvm.VMUUID.String() + "/docker-compose.yml").Expect(http.StatusOK)
	require.Equal(t, compose, string(file.Body))
	app := apitest.Decode[api.App](b.get("/apps/app_" + provision.AppID.String()).Expect(http.StatusOK))
	require.Len(t, app.CVMs, 1)
}

func TestCommitWithoutAProvisionIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.ProvisionTTL = time.Microsecond })
	provision := apitest.Decode[api.Provision](b.post("/cvms/provision", b.spec("web")).Expect(http.StatusOK))
	commit := func(app, hash string) *apitest.Reply {
		return b.post("/cvms", fmt.Sprintf(`{"app_id":%q,"compose_hash":%q}`, app, hash)).Key("k").Send()
	}
	commit(provision.AppID.String(), provision.ComposeHash).Refuse(api.CodeProvisionNotFound) // expired
	commit(provision.AppID.String(), strings.Repeat("0", 64)).Refuse(api.CodeProvisionNotFound)
	commit(api.NewMinter().ID().String(), provision.ComposeHash).Refuse(api.CodeProvisionNotFound)
	require.Zero(t, b.count("idempotency_keys"), "nothing refused uses the key up")
}

func TestReplicasByCountAreOneOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	source := b.post("/cvms", b.spec("web")).Expect(http.StatusAccepted).CVM()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"

	first := b.post(path, `{"count":3}`).Key("r").Expect(http.StatusAccepted)
	made := apitest.Decode[api.CVMs](first)
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
	again := b.post(path, `{"count":3}`).Key("r").Expect(http.StatusAccepted)
	require.True(t, again.Replayed())
	require.Equal(t, made, apitest.Decode[api.CVMs](again))

	one := b.post(path, `{"name":"blue"}`).Key("one").Expect(http.StatusAccepted).CVM()
	require.Equal(t, "blue", one.Name)
	b.post(path, ``).Expect(http.StatusAccepted) // without a key: another one
	b.post(path, ``).Expect(http.StatusAccepted)

	list := apitest.Decode[[]api.CVM](b.get("/apps/" + source.AppID.String() + "/cvms").Expect(http.StatusOK))
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
	cvm := b.post("/cvms", b.spec("web")).Expect(http.StatusAccepted).CVM()
	foreign := b.newToken("other", token.ScopeWrite)
	app, id, nobody := cvm.AppID.String(), cvm.VMUUID.String(), api.NewMinter().ID().String()
	before := b.rows()
	for name, tc := range map[string]struct {
		call  *apitest.Call
		code  api.Code
		field string
	}{
		"unknown app":       {call: b.post("/apps/"+nobody+"/cvms/"+id+"/replicas", ``), code: api.CodeNotFound},
		"unknown source":    {call: b.post("/apps/"+app+"/cvms/"+nobody+"/replicas", ``), code: api.CodeNotFound},
		"no UUID":           {call: b.post("/apps/"+app+"/cvms/x/replicas", ``), code: api.CodeNotFound},
		"foreign workspace": {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", ``).As(foreign), code: api.CodeNotFound},
		"count 0":           {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"count":0}`), code: api.CodeInvalidRequest, field: "/count"},
		"count 101":         {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"count":101}`), code: api.CodeInvalidRequest, field: "/count"},
		"name and count":    {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"count":2,"name":"x"}`), code: api.CodeInvalidRequest, field: "/name"},
		"id":                {call: b.post("/apps/"+app+"/cvms/"+id+"/replicas", `{"id":"`+nobody+`"}`), code: api.CodeInvalidRequest, field: "/id"},
	} {
		p := tc.call.Key("k").Send().Refuse(tc.code)
		if tc.field != "" {
			require.Equal(t, []string{tc.field}, apitest.Fields(p), name)
		}
	}
	require.Equal(t, before, b.rows())
}

func TestQuotaIsNeverExceeded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.MaxCVMs = 5 })
	source := b.post("/cvms", b.spec("web")).Key("first").Expect(http.StatusAccepted).CVM()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	b.post(path, `{"count":5}`).Key("many").Send().Refuse(api.CodeQuotaExceeded)
	accepted := 0
	for _, r := range apitest.Together(t, 20, func(i int) *apitest.Call { return b.post(path, ``).Key(fmt.Sprint("r", i)) }) {
		if r.Status == http.StatusAccepted {
			accepted++
		} else {
			r.Refuse(api.CodeQuotaExceeded)
		}
	}
	require.Equal(t, 4, accepted)
	require.Equal(t, 5, b.count("cvms"))
	// A repeat of what succeeded says what happened, not that there is no room.
	require.True(t, b.post("/cvms", b.spec("web")).Key("first").Expect(http.StatusAccepted).Replayed())
}

func TestAppsEchoByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/apps", `{"name":"shop"}`).Key("k").Expect(http.StatusCreated)
	again := b.post("/apps", `{"name":"shop"}`).Key("k").Expect(http.StatusCreated)
	require.True(t, again.Replayed())
	require.Equal(t, string(first.Body), string(again.Body))

	app := apitest.Decode[api.App](first)
	p := b.post("/apps", `{"name":"shop"}`).Key("k2").Send().Refuse(api.CodeAppExists)
	require.Equal(t, app.ID, *p.AppID)
	shown := apitest.Decode[api.App](b.get("/apps/" + app.ID.String()).Expect(http.StatusOK))
	app.CVMs = []api.CVM{} // [], not absent
	require.Equal(t, app, shown, "an app that POST /apps made shows without CVMs")
	require.JSONEq(t, `[]`, string(b.get("/apps/"+app.ID.String()+"/cvms").Expect(http.StatusOK).Body))

	cvm := b.post("/cvms", b.spec("shop")).Expect(http.StatusAccepted).CVM()
	require.Equal(t, app.ID, cvm.AppID, "a name has one app, for ever")
}

func TestProvisionEchoesUnderItsKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("/cvms/provision", b.spec("web")).Key("k").Expect(http.StatusOK)
	again := b.post("/cvms/provision", b.spec("web")).Key("k").Expect(http.StatusOK)
	require.True(t, again.Replayed())
	require.Equal(t, string(first.Body), string(again.Body))
}

func TestBadKeysAreRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"", `""`, "a b", `"open`, `"a" ` + `b`, strings.Repeat("x", 256), "schlüssel"} {
		p := b.post("/cvms", `not JSON`).Key(key).Send().Refuse(api.CodeInvalidIdempotencyKey)
		require.Equal(t, []string{api.HeaderIdempotencyKey}, apitest.Fields(p))
	}
	b.post("/cvms", b.spec("web")).Key("a").Add(api.HeaderIdempotencyKey, "a").Send().Refuse(api.CodeInvalidIdempotencyKey)
	require.Zero(t, b.count("idempotency_keys"))
	b.post("/cvms", b.spec("web")).Key(strings.Repeat("x", 255)).Expect(http.StatusAccepted)
}

func TestKeysAreLookedUpByTheirEscapedName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.post("/cvms", b.spec("web")).Key(`"a/b+c%2F\"d"`).Expect(http.StatusAccepted).CVM()
	key := apitest.Decode[api.Key](b.get("/idempotency-keys/a%2Fb+c%252F%22d").Expect(http.StatusOK))
	require.Equal(t, "bound", key.State)
	require.Equal(t, cvm.Operation.ID, *key.OperationID)
	b.get("/idempotency-keys/unknown").Refuse(api.CodeNotFound)
	foreign := b.newToken("other", token.ScopeWrite)
	b.client().Request(http.MethodGet, "/idempotency-keys/a%2Fb+c%252F%22d", "").As(foreign).Send().Refuse(api.CodeNotFound)
}

func TestAKeyThatIsBeingBoundIsWaitedForAndThenInProgress(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.KeyWait = 100 * time.Millisecond })
	b.post("/cvms", b.spec("other")).Key("warm").Expect(http.StatusAccepted)
	// A node whose accept is stuck, as Postgres sees it.
	tx := b.db.Begin()
	defer tx.Rollback()
	require.NoError(t, tx.Exec(`INSERT INTO idempotency_keys
		SELECT workspace_id, 'k', method, route, path_params, members, request_id, status, operation_id, resource_id, body,
			created_at, expires_at FROM idempotency_keys`).Error)

	r := b.post("/cvms", b.spec("web")).Key("k").Send()
	p := r.Refuse(api.CodeKeyInProgress)
	require.True(t, p.Retryable)
	require.Equal(t, "1", r.Header.Get("Retry-After"))
	require.NotContains(t, string(r.Body), "error_code")

	require.NoError(t, tx.Rollback().Error)
	require.False(t, b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted).Replayed())
}

func TestAnExpiredKeyIsNew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	source := b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted).CVM()
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	first := b.post(path, ``).Key("r").Expect(http.StatusAccepted).CVM()
	require.NoError(t, b.db.Exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`).Error)
	require.True(t, b.post(path, ``).Key("r").Expect(http.StatusAccepted).Replayed(), "kept until its operation has ended")

	require.NoError(t, b.db.Exec(`UPDATE operations SET status = 'succeeded'`).Error)
	b.get("/idempotency-keys/r").Refuse(api.CodeNotFound)
	second := b.post(path, `{"name":"other"}`).Key("r").Expect(http.StatusAccepted)
	require.False(t, second.Replayed())
	require.NotEqual(t, first.VMUUID, second.CVM().VMUUID)
}
