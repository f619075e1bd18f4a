package platform_test

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/api/owlapi/owlapitest"
	"roost/models/pgtest/pgproxy"
	"roost/platform"
)

// The calls that only clients of the Phala API make, beyond what the matrices
// of keys, bodies and states say of them.

// update patches a sub-route of a CVM.
func (l *lifecycle) update(id api.ID, route, body string) api.CVMs {
	l.t.Helper()
	return apitest.Decode[api.CVMs](request(l.client(), http.MethodPatch, path(id)+"/"+route, body).Expect(http.StatusAccepted))
}

// provisioned reserves compose settings and returns their hash.
func (l *lifecycle) provisioned(id api.ID, body string) string {
	l.t.Helper()
	p := apitest.Decode[api.Provision](l.post(path(id)+"/compose_file/provision", body).Expect(http.StatusOK))
	return p.ComposeHash
}

func (l *lifecycle) commit(id api.ID, hash string) *apitest.Call {
	return request(l.client(), http.MethodPatch, path(id)+"/compose_file", `{"compose_hash":"`+hash+`"}`)
}

// appCVMs is the app's list.
func (l *lifecycle) appCVMs(app api.ID) []api.CVM {
	l.t.Helper()
	return apitest.Decode[[]api.CVM](l.get("/apps/" + app.String() + "/cvms").Expect(http.StatusOK))
}

func ids(cvms []api.CVM) (out []string) {
	for _, c := range cvms {
		out = append(out, c.VMUUID.String())
	}
	slices.Sort(out)
	return out
}

// TestASubRouteActsOnAllCVMsOfTheAppThatAreNotBeingDeleted, under one
// operation, whichever of them the path names.
func TestASubRouteActsOnAllCVMsOfTheAppThatAreNotBeingDeleted(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	first := l.running("web")
	require.Equal(t, api.OperationSucceeded, l.ended(l.scale(first.AppID, 4).Operation.ID).Status)
	other := l.create("other")
	l.succeeds(other)
	all := l.appCVMs(first.AppID)
	gone := all[3]
	l.owl.PauseMachines(true)
	l.remove(gone.VMUUID)
	specs := l.count("specs")

	made := l.update(all[2].VMUUID, "resources", `{"allow_restart":1,"instance_type":"tdx.medium","disk_size":null,"memory":null,"vcpu":null}`)
	require.Equal(t, ids(all[:3]), ids(made.Items))
	require.Equal(t, api.KindCVMUpdate, made.Operation.Kind)
	require.Nil(t, made.Operation.VMUUID)
	require.Equal(t, first.AppID, made.Operation.ResourceID)
	require.Equal(t, specs+1, l.count("specs"), "copies share the new spec as they shared the old one")

	now := l.appCVMs(first.AppID)
	require.Len(t, now, 4)
	for i, c := range now[:3] {
		require.True(t, c.InProgress, "the very next list shows it")
		require.Equal(t, api.StatusUpdating, c.Status)
		require.Equal(t, api.StatusRunning, *c.Progress.Target)
		require.Equal(t, []any{"tdx.medium", int64(2), int64(4096), int64(20)}, []any{c.InstanceType, c.VCPU, c.Memory, c.DiskSize}, "null keeps the disk")
		require.NotEqual(t, all[i].ComposeHash, c.ComposeHash, "it follows")
		require.Equal(t, now[0].ComposeHash, c.ComposeHash)
		require.Equal(t, made.Operation.ID, c.Operation.ID)
	}
	require.Equal(t, api.StatusDeleting, now[3].Status)
	require.Equal(t, "tdx.small", now[3].InstanceType)
	require.Equal(t, other.Generation, l.cvm(other.VMUUID).Generation, "another app is another app")

	l.owl.PauseMachines(false)
	require.Equal(t, api.OperationSucceeded, l.ended(made.Operation.ID).Status)
	for _, c := range l.appCVMs(first.AppID)[:3] {
		require.Equal(t, api.StatusRunning, c.Status)
		require.JSONEq(t, `"tdx.medium"`, string(member(t, l.record(c.VMUUID).Spec, "instance_type")))
	}
}

func member(t *testing.T, doc []byte, name string) json.RawMessage {
	t.Helper()
	var all map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(doc, &all))
	return all[name]
}

// TestWhatIsSoAlreadyMakesNoNewGeneration: a repeat names the operation under
// way, and a new one that has succeeded once there is none.
func TestWhatIsSoAlreadyMakesNoNewGeneration(t *testing.T) {
	t.Parallel()
	for route, body := range map[string]string{
		"resources":         `{"allow_restart":true,"instance_type":"tdx.large","disk_size":100}`,
		"os-image":          `{"os_image_name":"dstack-0.5.8"}`,
		"docker-compose":    "services: {a: {image: b}}\n",
		"pre-launch-script": "#!/bin/sh\necho ready\n",
		"envs":              `{"encrypted_env":"00ff","env_keys":["A","B"]}`,
	} {
		t.Run(route, func(t *testing.T) {
			t.Parallel()
			l := setupLifecycle(t, owlapitest.Config{})
			first := l.running("web")
			require.Equal(t, api.OperationSucceeded, l.ended(l.scale(first.AppID, 2).Operation.ID).Status)
			l.owl.PauseMachines(true)
			made := l.update(first.VMUUID, route, body)
			require.Len(t, made.Items, 2)
			again := l.update(first.VMUUID, route, body)
			require.Equal(t, made.Operation.ID, again.Operation.ID)
			require.Equal(t, ids(made.Items), ids(again.Items))
			l.owl.PauseMachines(false)
			require.Equal(t, api.OperationSucceeded, l.ended(made.Operation.ID).Status)
			late := l.update(first.VMUUID, route, body)
			require.NotEqual(t, made.Operation.ID, late.Operation.ID)
			require.Equal(t, api.OperationSucceeded, late.Operation.Status)
			require.Empty(t, late.Items)
			for _, c := range l.appCVMs(first.AppID) {
				require.Equal(t, int64(2), c.Generation)
				require.False(t, c.InProgress)
			}
		})
	}
}

// TestASubRouteChangesAllOrNothing: one disk that would shrink stops all.
func TestASubRouteChangesAllOrNothing(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	first := l.running("web")
	require.Equal(t, api.OperationSucceeded, l.ended(l.scale(first.AppID, 3).Operation.ID).Status)
	all := l.appCVMs(first.AppID)
	l.succeeds(l.patch(all[2].VMUUID, `{"disk_size":60}`))
	before := l.rows()
	p := request(l.client(), http.MethodPatch, path(first.VMUUID)+"/resources", `{"disk_size":40}`).Send().Refuse(api.CodeInvalidRequest)
	require.Equal(t, []string{"/disk_size"}, apitest.Fields(p))
	require.Equal(t, before, l.rows())
	made := l.update(first.VMUUID, "resources", `{"disk_size":60}`)
	require.Equal(t, ids(all[:2]), ids(made.Items), "the third is so already")
	require.Equal(t, first.AppID, made.Operation.ResourceID)
}

// TestASubRouteLeavesOutWhatNeverHadAMachine: such a CVM takes only a DELETE,
// and stops no change of the others.
func TestASubRouteLeavesOutWhatNeverHadAMachine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.matrixCase(t)
	first := m.first("web")
	l := &lifecycle{testBundle: m.testBundle}
	broken := l.scale(first.AppID, 2).Items[0]
	require.NoError(t, m.db.Exec(`UPDATE cvms SET error_code = 'INVALID_REQUEST', observed_generation = 1, reconcile_after = NULL WHERE id = ?`, broken.VMUUID).Error)
	made := l.update(first.VMUUID, "os-image", `{"os_image_name":"dstack-0.5.8"}`)
	require.Equal(t, []string{first.VMUUID.String()}, ids(made.Items))
	require.Equal(t, first.VMUUID, made.Operation.ResourceID, "an operation over one is that one's")
	require.Equal(t, int64(1), l.cvm(broken.VMUUID).Generation)
}

// TestComposeSettingsAreProvisionedAndCommitted is the two steps by which
// those clients change flags, and each step repeated.
func TestComposeSettingsAreProvisionedAndCommitted(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	first := l.running("web")
	require.Equal(t, api.OperationSucceeded, l.ended(l.scale(first.AppID, 2).Operation.ID).Status)
	settings := `{"name":"web","docker_compose_file":"services: {web: {image: nginx}}","storage_fs":"zfs","public_logs":true,
		"secure_time":false,"pre_launch_script":null,"allowed_envs":["A"],"update_env_vars":true}`
	hash := l.provisioned(first.VMUUID, settings)
	require.Equal(t, hash, l.provisioned(first.VMUUID, settings), "the same settings have the same hash")
	require.NotEqual(t, first.ComposeHash, hash)
	for _, c := range l.appCVMs(first.AppID) {
		require.Equal(t, int64(1), c.Generation, "a provision changes no CVM")
	}

	l.owl.PauseMachines(true)
	made := apitest.Decode[api.CVMs](l.commit(first.VMUUID, hash).Expect(http.StatusAccepted))
	require.Len(t, made.Items, 2)
	require.Equal(t, first.AppID, made.Operation.ResourceID)
	require.Zero(t, l.count("provisions"), "a commit uses it up")
	require.Equal(t, made.Operation.ID, apitest.Decode[api.CVMs](l.commit(first.VMUUID, hash).Expect(http.StatusAccepted)).Operation.ID,
		"the answer was lost: the hash is there already")
	l.owl.PauseMachines(false)
	require.Equal(t, api.OperationSucceeded, l.ended(made.Operation.ID).Status)
	for _, c := range l.appCVMs(first.AppID) {
		require.Equal(t, hash, c.ComposeHash)
		require.Equal(t, int64(2), c.Generation)
		require.True(t, *c.PublicLogs)
		require.False(t, *c.SecureTime)
		require.Nil(t, c.PublicSysinfo, "what nobody configured is null")
	}
	require.Empty(t, apitest.Decode[api.CVMs](l.commit(first.VMUUID, hash).Expect(http.StatusAccepted)).Items)
	l.commit(first.VMUUID, strings.Repeat("0", 64)).Send().Refuse(api.CodeProvisionNotFound)
	require.Equal(t, hash, l.provisioned(first.VMUUID, `{"public_logs":true}`), "settings that change nothing have the present hash")
	require.Empty(t, apitest.Decode[api.CVMs](l.commit(first.VMUUID, hash).Expect(http.StatusAccepted)).Items)
}

// TestAnExpiredProvisionOfSettingsIsNone: nor does it change anything.
func TestAnExpiredProvisionOfSettingsIsNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	l := &lifecycle{testBundle: b}
	first := l.create("web")
	hash := l.provisioned(first.VMUUID, `{"public_logs":true}`)
	require.NoError(t, b.db.Exec(`UPDATE provisions SET expires_at = now()`).Error)
	before := b.rows()
	l.commit(first.VMUUID, hash).Send().Refuse(api.CodeProvisionNotFound)
	require.Equal(t, before, b.rows())
}

// TestSettingsOfACommitWithEnvKeysKeepTheirHash: a CVM's hash is its
// provision's, without the env_keys that came with the commit; settings that
// change nothing must still be known by it.
func TestSettingsOfACommitWithEnvKeysKeepTheirHash(t *testing.T) {
	t.Parallel()
	l := &lifecycle{testBundle: setup(t)}
	p := apitest.Decode[api.Provision](l.post("/cvms/provision", l.spec("web")).Expect(http.StatusOK))
	c := l.post("/cvms", `{"app_id":"`+p.AppID.String()+`","compose_hash":"`+p.ComposeHash+`","encrypted_env":"00","env_keys":["A"]}`).
		Expect(http.StatusAccepted).CVM()
	require.Equal(t, p.ComposeHash, c.ComposeHash)
	require.Equal(t, c.ComposeHash, l.provisioned(c.VMUUID, `{}`))
	for range 2 {
		require.Equal(t, c.Operation.ID, apitest.Decode[api.CVMs](l.commit(c.VMUUID, c.ComposeHash).Expect(http.StatusAccepted)).Operation.ID)
	}
	hash := l.provisioned(c.VMUUID, `{"public_logs":false}`)
	l.commit(c.VMUUID, hash).Expect(http.StatusAccepted)
	require.Equal(t, hash, l.cvm(c.VMUUID).ComposeHash)
	l.commit(c.VMUUID, hash).Expect(http.StatusAccepted)
}

// TestAnotherCiphertextIsAnotherEnvironment: values cannot be compared, so a
// new ciphertext is a new generation; the hash and a key do not see it.
func TestAnotherCiphertextIsAnotherEnvironment(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	first := l.running("web")
	l.ended(l.update(first.VMUUID, "envs", `{"encrypted_env":"00","env_keys":["A"]}`).Operation.ID)
	before := l.cvm(first.VMUUID)
	made := l.update(first.VMUUID, "envs", `{"encrypted_env":"01"}`)
	require.Len(t, made.Items, 1)
	require.Equal(t, before.Generation+1, made.Items[0].Generation)
	require.Equal(t, before.ComposeHash, made.Items[0].ComposeHash)
	l.ended(made.Operation.ID)
	require.JSONEq(t, `"01"`, string(member(t, l.record(first.VMUUID).Spec, "encrypted_env")))
	require.JSONEq(t, `["A"]`, string(member(t, l.record(first.VMUUID).Spec, "env_keys")), "what is absent stays")

	keyed := func(ciphertext string) *apitest.Reply {
		return request(l.client(), http.MethodPatch, path(first.VMUUID)+"/envs", `{"encrypted_env":"`+ciphertext+`"}`).Key("k").Expect(http.StatusAccepted)
	}
	require.False(t, keyed("02").Replayed())
	require.True(t, keyed("03").Replayed())
	require.Equal(t, before.Generation+2, l.cvm(first.VMUUID).Generation)
}

// TestTextsComeBackByteForByte, and an empty script takes the script away.
func TestTextsComeBackByteForByte(t *testing.T) {
	t.Parallel()
	l := &lifecycle{testBundle: setup(t)}
	c := l.create("web")
	script, compose := "#!/bin/sh\r\necho \"ready\" \\ é 𝄞\t\n\n", "services:\n  web: {image: \"a:1\"}  # <b>&amp;\n"
	require.Empty(t, l.get(path(c.VMUUID)+"/pre-launch-script").Expect(http.StatusOK).Body)
	l.update(c.VMUUID, "docker-compose", compose)
	without := l.cvm(c.VMUUID).ComposeHash
	l.update(c.VMUUID, "pre-launch-script", script)
	got := l.get(path(c.VMUUID) + "/pre-launch-script").Expect(http.StatusOK)
	require.Equal(t, script, string(got.Body))
	require.Equal(t, "text/plain; charset=utf-8", got.Header.Get("Content-Type"))
	require.Equal(t, compose, string(l.get(path(c.VMUUID)+"/docker-compose.yml").Expect(http.StatusOK).Body))
	require.NotEqual(t, without, l.cvm(c.VMUUID).ComposeHash)
	request(l.client(), http.MethodPatch, path(c.VMUUID)+"/pre-launch-script", "").Expect(http.StatusAccepted)
	require.Empty(t, l.get(path(c.VMUUID)+"/pre-launch-script").Expect(http.StatusOK).Body)
	require.Equal(t, without, l.cvm(c.VMUUID).ComposeHash, "as if there had never been one")
}

// TestNothingThatClientsRepeatForNineMinutesIsRefusedForGoodThatWay: PATCH,
// DELETE, start, stop and provision never answer 409, 429 or 503 to what will
// not become better by itself, at any stage of a CVM, nor with the quota used
// up, nor while the name has another configuration.
func TestNothingThatClientsRepeatForNineMinutesIsRefusedForGoodThatWay(t *testing.T) {
	t.Parallel()
	idle := setup(t, func(c *platform.Config) { c.MaxCVMs = 1 })
	live, _ := setupWithOwl(t, owlapitest.Config{Fail: func(name string) bool { return name == "doomed" }})
	live.run(live.service)
	other := strings.Replace(live.spec("web"), "tdx.small", "tdx.large", 1)
	calls := []string{
		"DELETE /cvms/{cvm}", "POST /cvms/{cvm}/start", "POST /cvms/{cvm}/stop", "POST /cvms/provision " + other,
		"POST /cvms/provision " + live.spec("doomed"), `PATCH /cvms/{cvm}/resources {"disk_size":1}`, "PATCH /cvms/{cvm}/os-image {}",
		`PATCH /cvms/{cvm}/compose_file {"compose_hash":"` + strings.Repeat("0", 64) + `"}`,
	}
	for action := range actionsOnCVMs() {
		if strings.HasPrefix(action, "PATCH") || strings.Contains(action, "/provision") {
			calls = append(calls, action)
		}
	}
	for name, s := range stages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := idle
			if s.live {
				b = live
			}
			for _, call := range calls {
				m := b.matrixCase(t)
				s.reach(m)
				parts := strings.SplitN(call+" ", " ", 3)
				for range 2 {
					r := request(m.client(), parts[0], m.to(parts[1]), strings.TrimSpace(m.to(parts[2]))).With(api.HeaderPhalaVersion, "2026-01-21").Send()
					require.NotContains(t, []int{http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable}, r.Status, call)
					require.Less(t, r.Status, http.StatusInternalServerError, call)
				}
			}
		})
	}
}

// TestTheCatalogueIsWhatIsTaken: every word that a data source shows is
// accepted, and shown by the CVM as it was asked for.
func TestTheCatalogueIsWhatIsTaken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nodes := apitest.Decode[api.AvailableNodes](b.get("/teepods/available").Expect(http.StatusOK))
	options := apitest.Decode[api.FilterOptions](b.get("/apps/filter-options").Expect(http.StatusOK))
	sizes := apitest.Decode[api.InstanceTypeList](b.get("/instance-types").Expect(http.StatusOK))
	images := map[string]bool{}
	n := 0
	for _, node := range nodes.Nodes {
		require.Contains(t, options.Regions, node.RegionIdentifier)
		for _, image := range node.Images {
			images[image.Name] = true
			for _, size := range sizes.Result[0].Items {
				n++
				body, err := json.Marshal(map[string]any{
					"name": "web-" + size.ID + "-" + image.Name, "instance_type": size.ID, "image": image.Name, "region": node.RegionIdentifier,
					"teepod_id": node.TeepodID, "compose_file": map[string]any{"docker_compose_file": "x"},
				})
				require.NoError(t, err)
				c := b.post("/cvms", string(body)).Expect(http.StatusAccepted).CVM()
				require.Equal(t, []any{size.ID, image.Name, node.RegionIdentifier}, []any{c.Resource.InstanceType, c.OS.Name, c.NodeInfo.Region})
				require.Equal(t, []any{size.VCPU, size.MemoryMB, size.DefaultDiskSizeGB}, []any{c.VCPU, c.Memory, c.DiskSize})
			}
		}
	}
	require.Equal(t, map[string]bool{"dstack-0.5.7": true, "dstack-0.5.8": true}, images)
	after := apitest.Decode[api.AvailableNodes](b.get("/teepods/available").Expect(http.StatusOK))
	require.InDelta(t, nodes.Nodes[0].RemainingCVMSlots-float64(n), after.Nodes[0].RemainingCVMSlots, 0)
}

// TestTheAccountIsTheTokens: each token is told of its own workspace and scope.
func TestTheAccountIsTheTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seen := map[string]bool{}
	for _, workspace := range []string{"acme", "other"} {
		for _, scope := range []string{"read", "write"} {
			me := apitest.Decode[api.Account](b.client().Request(http.MethodGet, "/auth/me", "").As(b.newToken(workspace, scope)).Expect(http.StatusOK))
			require.Equal(t, []string{workspace, workspace, scope, scope}, []string{me.Workspace.Name, me.Workspace.Slug, me.User.Role, me.Workspace.Role})
			seen[me.Workspace.ID.String()], seen[me.User.Username] = true, true
		}
	}
	require.Len(t, seen, 2+4, "two workspaces, four tokens")
}

// TestTheEnvKeyIsTheAppsAndStable, wherever it is shown.
func TestTheEnvKeyIsTheAppsAndStable(t *testing.T) {
	t.Parallel()
	l := setupLifecycle(t, owlapitest.Config{})
	reserved := apitest.Decode[api.Provision](l.post("/cvms/provision", l.spec("web")).Expect(http.StatusOK)).AppEnvEncryptPubkey
	key, err := hex.DecodeString(reserved)
	require.NoError(t, err)
	require.Len(t, key, 32)
	first := l.running("web")
	l.scale(first.AppID, 2)
	l.update(first.VMUUID, "os-image", `{"os_image_name":"dstack-0.5.8"}`)
	for _, c := range l.appCVMs(first.AppID) {
		require.Equal(t, reserved, c.EncryptedEnvPubkey)
		l.succeeds(l.remove(c.VMUUID))
	}
	require.Equal(t, reserved, l.create("web").EncryptedEnvPubkey, "the name has its app for ever")
	require.NotEqual(t, reserved, l.create("other").EncryptedEnvPubkey)
}

// TestAnUpdateOfSeveralWhoseCommitReplyIsLostIsDoneOnce: all of them, under
// the one operation.
func TestAnUpdateOfSeveralWhoseCommitReplyIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	b, proxy := setupBehindProxy(t)
	l := &lifecycle{testBundle: b}
	first := l.create("web")
	l.scale(first.AppID, 3)
	hash := l.provisioned(first.VMUUID, `{"public_logs":true}`)
	for _, call := range []*apitest.Call{
		l.commit(first.VMUUID, hash).Key("k"), l.commit(first.VMUUID, l.provisioned(first.VMUUID, `{"public_logs":false}`)),
		request(l.client(), http.MethodPatch, path(first.VMUUID)+"/docker-compose", "services: {}"),
	} {
		generation := l.cvm(first.VMUUID).Generation
		proxy.Next(pgproxy.LoseReply)
		r := call.Expect(http.StatusAccepted)
		require.False(t, r.Replayed())
		made := apitest.Decode[api.CVMs](r)
		require.Len(t, made.Items, 3)
		require.Equal(t, first.AppID, made.Operation.ResourceID)
		for _, c := range l.appCVMs(first.AppID) {
			require.Equal(t, generation+1, c.Generation)
		}
	}
	require.True(t, l.commit(first.VMUUID, hash).Key("k").Expect(http.StatusAccepted).Replayed())
	bound := apitest.Decode[api.Key](l.get("/idempotency-keys/k").Expect(http.StatusOK))
	require.Equal(t, first.AppID, *bound.ResourceID, "an operation over several is the app's, for its key too")
}
