package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/apitest"
	"roost/api/openapitest"
	"roost/cmd/internal/phalatest"
	"roost/cmd/internal/stack"
	"roost/platform/token"
)

// phalaPace makes the provider's seconds tens of milliseconds.
const phalaPace = 0.01

// phalaUser is somebody with a workspace of their own and an existing client.
type phalaUser struct {
	*bundle

	ctx       context.Context //nolint:containedctx // the test's
	client    *phalatest.Client
	tf        *phalatest.Terraform
	workspace string
	token     string
}

// phalaStack is a stack whose machines are quick.
func phalaStack(t *testing.T) *bundle {
	t.Helper()
	return setup(t, stack.Options{Boot: 30 * time.Millisecond})
}

func (b *bundle) phalaUser(workspace string) *phalaUser {
	b.t.Helper()
	u := &phalaUser{bundle: b, ctx: b.t.Context(), workspace: workspace, token: b.NewToken(workspace, token.ScopeWrite)}
	u.client = u.at(b.Platforms[0].URL)
	u.tf = &phalatest.Terraform{Client: u.client}
	return u
}

// at is another client of this user, who goes by another way. What it sends
// and reads is held against the OpenAPI document.
func (u *phalaUser) at(url string) *phalatest.Client {
	document, err := openapitest.Platform()
	require.NoError(u.t, err)
	c := phalatest.New(phalatest.Config{
		Prefix: url + "/api/v1", Key: u.token, Pace: phalaPace,
		Watch: func(wire http.RoundTripper) http.RoundTripper {
			return document.Transport(wire, func(err error) { u.t.Errorf("%v", err) })
		},
	})
	u.t.Cleanup(c.Close)
	return c
}

// everything is a configuration that sets all that can be set.
func everything(name string, replicas int) phalatest.App {
	return phalatest.App{
		Name: name, Size: "tdx.small", Image: new("dstack-0.5.7"), Region: new("local-1"), DiskSize: new(int64(20)), Replicas: replicas,
		StorageFS: new("zfs"), DockerCompose: "services: {web: {image: \"nginx:1\"}}\n", PreLaunchScript: new("echo ready\n"),
		PublicLogs: new(true), PublicSysinfo: new(false), PublicTCBInfo: new(true), GatewayEnabled: new(true), SecureTime: new(false),
		Env: map[string]string{"A": "1", "B": "2"}, SSHAuthorizedKeys: []string{"ssh-ed25519 AAAA"},
	}
}

// settled requires that the state is what is there and that a plan is empty.
func (u *phalaUser) settled(want phalatest.App) {
	u.t.Helper()
	changed, err := u.tf.Plan(u.ctx, &want)
	require.NoError(u.t, err)
	require.Empty(u.t, changed)
	require.Equal(u.t, u.list(), u.tf.State.CVMIDs)
	require.Len(u.t, u.tf.State.CVMIDs, want.Replicas)
	for i, instance := range u.tf.State.Instances {
		require.Equal(u.t, u.tf.State.CVMIDs[i], instance.VMUUID, "created_at, as text, is the order of the list")
	}
}

func (u *phalaUser) apply(want phalatest.App) {
	u.t.Helper()
	require.NoError(u.t, u.tf.Apply(u.ctx, &want))
	u.settled(want)
}

// list is the app's CVMs, in the order in which they were accepted.
func (u *phalaUser) list() (ids []string) {
	u.t.Helper()
	c := u.c
	c.Token = u.token
	for _, cvm := range apitest.Decode[[]api.CVM](c.Get("/apps/" + u.tf.State.AppID + "/cvms").Expect(http.StatusOK)) {
		ids = append(ids, cvm.VMUUID.String())
	}
	return ids
}

// specBelow reads what Owl was told of a CVM.
func (u *phalaUser) specBelow(id string) (spec api.Spec) {
	u.t.Helper()
	var raw string
	assert.NoError(u.t, u.OwlDB.Raw(`SELECT spec FROM cvms WHERE id = ?`, id).Row().Scan(&raw))
	assert.NoError(u.t, json.Unmarshal([]byte(raw), &spec))
	return spec
}

// TestAnExistingClientLivesAWholeLife: create of four, every update in place,
// scaling both ways, replacement, destruction, and again from the start.
func TestAnExistingClientLivesAWholeLife(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	want := everything("web", 4)
	u.apply(want)
	before := *u.tf.State
	require.Equal(t, "running", before.Status)

	for _, step := range []struct {
		name   string
		edit   func(a *phalatest.App)
		writes []string
	}{
		{"size", func(a *phalatest.App) { a.Size = "tdx.medium" }, []string{"PATCH /cvms/{}/resources"}},
		{"disk_size", func(a *phalatest.App) { a.DiskSize = new(int64(50)) }, []string{"PATCH /cvms/{}/resources"}},
		{
			"public_logs", func(a *phalatest.App) { a.PublicLogs, a.SecureTime = new(false), new(true) },
			[]string{"POST /cvms/{}/compose_file/provision", "PATCH /cvms/{}/compose_file"},
		},
		{"image", func(a *phalatest.App) { a.Image = new("dstack-0.5.8") }, []string{"PATCH /cvms/{}/os-image"}},
		{"docker_compose", func(a *phalatest.App) { a.DockerCompose = "services: {web: {image: \"nginx:2\"}}\n" }, []string{"PATCH /cvms/{}/docker-compose"}},
		{"pre_launch_script", func(a *phalatest.App) { a.PreLaunchScript = new("echo steady\n") }, []string{"PATCH /cvms/{}/pre-launch-script"}},
		{"no pre_launch_script", func(a *phalatest.App) { a.PreLaunchScript = nil }, []string{"PATCH /cvms/{}/pre-launch-script"}},
		{"env", func(a *phalatest.App) { a.Env = map[string]string{"A": "3", "C": "4"} }, []string{"PATCH /cvms/{}/envs"}},
		{"replicas up", func(a *phalatest.App) { a.Replicas = 6 }, []string{"POST /apps/{}/cvms/{}/replicas", "POST /apps/{}/cvms/{}/replicas"}},
		{"replicas down", func(a *phalatest.App) { a.Replicas = 3 }, []string{"DELETE /cvms/{}", "DELETE /cvms/{}", "DELETE /cvms/{}"}},
	} {
		step.edit(&want)
		sent := len(u.client.Writes())
		require.NoError(t, u.tf.Apply(u.ctx, &want), step.name)
		require.Equal(t, step.writes, u.client.Writes()[sent:], step.name)
		u.settled(want)
		require.Equal(t, []string{before.AppID, before.PrimaryCVMID, before.Endpoint},
			[]string{u.tf.State.AppID, u.tf.State.PrimaryCVMID, u.tf.State.Endpoint}, step.name)
		u.machinesAre(want)
	}

	want.Name = "web-2"
	u.apply(want)
	require.NotEqual(t, before.AppID, u.tf.State.AppID, "a name is another app")
	require.NoError(t, u.tf.Apply(u.ctx, nil))
	require.Nil(t, u.tf.State)
	u.apply(everything("web", 1))
	require.Equal(t, before.AppID, u.tf.State.AppID, "a name has its app for ever")
}

// machinesAre checks that Owl was told of all that was configured.
func (u *phalaUser) machinesAre(want phalatest.App) {
	u.t.Helper()
	for _, id := range u.tf.State.CVMIDs {
		spec := u.specBelow(id)
		assert.Equal(u.t, []any{want.Size, *want.Image, *want.DiskSize, want.DockerCompose},
			[]any{spec.InstanceType, *spec.Image, *spec.DiskSize, spec.ComposeFile.DockerComposeFile})
		assert.Equal(u.t, want.PreLaunchScript, spec.ComposeFile.PreLaunchScript)
		assert.Equal(u.t, []*bool{want.PublicLogs, want.PublicSysinfo, want.PublicTCBInfo, want.GatewayEnabled, want.SecureTime},
			[]*bool{spec.ComposeFile.PublicLogs, spec.ComposeFile.PublicSysinfo, spec.ComposeFile.PublicTCBInfo, spec.ComposeFile.GatewayEnabled, spec.ComposeFile.SecureTime})
		assert.Len(u.t, spec.EnvKeys, len(want.Env))
		assert.NotEmpty(u.t, *spec.EncryptedEnv)
	}
}

// TestTheLeastThatCanBeConfiguredIsEnough: nothing optional is set, and
// nothing that is computed shows as a difference, now or after changes.
func TestTheLeastThatCanBeConfiguredIsEnough(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	want := phalatest.App{Name: "web", Size: "tdx.small", DockerCompose: "services: {}", Replicas: 1, Listed: true}
	u.apply(want)
	require.Equal(t, "dstack-0.5.7", *u.tf.State.Image)
	want.Replicas, want.Size = 2, "tdx.large"
	u.apply(want)
	require.Equal(t, int64(20), *u.tf.State.DiskSize, "a resize with disk_size null keeps the disk")
}

// TestPowerOfAnExistingClient is phala_cvm_power.
func TestPowerOfAnExistingClient(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	u.apply(everything("web", 1))
	id := u.tf.State.PrimaryCVMID
	for _, state := range []string{"stopped", "stopped", "running", "running"} {
		require.NoError(t, u.client.Power(u.ctx, id, state))
		now, err := u.client.PowerState(u.ctx, id)
		require.NoError(t, err)
		require.Equal(t, state, now)
	}
	require.Equal(t, []string{"POST /cvms/{}/stop", "POST /cvms/{}/start"}, u.client.Writes()[2:], "what is so is not asked for")
	require.NoError(t, u.tf.Apply(u.ctx, nil))
	now, err := u.client.PowerState(u.ctx, id)
	require.NoError(t, err)
	require.Empty(t, now, "gone")
}

// TestDriftIsSeenByAnExistingClient: what others remove is planned again.
func TestDriftIsSeenByAnExistingClient(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	want := everything("web", 3)
	u.apply(want)
	c := u.c
	c.Token = u.token
	remove := func(id string) {
		op := c.Request(http.MethodDelete, "/cvms/"+id, "").Expect(http.StatusAccepted).CVM().Operation
		require.Equal(t, api.OperationSucceeded, c.Get("/operations/"+op.ID+"?wait=30s").Expect(http.StatusOK).Operation().Status)
	}
	remove(u.tf.State.CVMIDs[1])
	changed, err := u.tf.Plan(u.ctx, &want)
	require.NoError(t, err)
	require.Equal(t, []string{"replicas"}, changed)
	u.apply(want)
	for _, id := range u.tf.State.CVMIDs {
		remove(id)
	}
	changed, err = u.tf.Plan(u.ctx, &want)
	require.NoError(t, err)
	require.Equal(t, []string{"create"}, changed, "404 on both reads once no CVM is left")
	u.apply(want)
}

// TestTwoWhoApplyTheSameShareOneApp: adoption by workspace and name. A second
// state over the same configuration finds what is there.
func TestTwoWhoApplyTheSameShareOneApp(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	want := everything("web", 2)
	u.apply(want)
	first := *u.tf.State
	u.tf = &phalatest.Terraform{Client: u.client}
	u.apply(want)
	require.Equal(t, first.CVMIDs, u.tf.State.CVMIDs)
	other := u.phalaUser("other")
	other.apply(want)
	require.NotEqual(t, first.AppID, other.tf.State.AppID)

	// Another configuration under the name is refused at once, with the reason.
	u.tf = &phalatest.Terraform{Client: u.client}
	want.Size = "tdx.large"
	err := u.tf.Apply(u.ctx, &want)
	require.ErrorContains(t, err, "409 Conflict: the app web runs another configuration (vm_uuid "+first.PrimaryCVMID)
	require.Nil(t, u.tf.State)
}

// TestImportAndPreflight: reads that no state precedes, and provisions that
// leave nothing.
func TestImportAndPreflight(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	want := everything("web", 2)
	app, hash, err := u.client.Preflight(u.ctx, want)
	require.NoError(t, err)
	_, err = u.client.Import(u.ctx, app)
	require.NoError(t, err)
	u.apply(want)
	again, sameHash, err := u.client.Preflight(u.ctx, want)
	require.NoError(t, err)
	require.Equal(t, []string{app, hash}, []string{again, sameHash})
	u.settled(want)
	for _, spelling := range []string{app, "app_" + app} {
		s, err := u.client.Import(u.ctx, spelling)
		require.NoError(t, err)
		require.Equal(t, u.tf.State.CVMIDs, s.CVMIDs)
		require.Equal(t, want.DockerCompose, s.DockerCompose)
		require.Equal(t, u.tf.State.Instances, s.Instances)
	}
}

// TestDataSourcesOfAnExistingClient reads each with its types.
func TestDataSourcesOfAnExistingClient(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	me, err := u.client.Account(u.ctx)
	require.NoError(t, err)
	require.Equal(t, "acme", me.Workspace.Name)
	require.NotEmpty(t, me.User.Username)
	sizes, err := u.client.Sizes(u.ctx)
	require.NoError(t, err)
	require.Len(t, sizes, 3)
	require.Equal(t, []any{"tdx.small", 1.0, 2048.0, 20.0}, []any{sizes[0].ID, sizes[0].VCPU, sizes[0].MemoryMB, sizes[0].DefaultDiskSizeGB})
	regions, err := u.client.Regions(u.ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"local-1": true}, regions)
	nodes, err := u.client.Nodes(u.ctx)
	require.NoError(t, err)
	require.Len(t, nodes, 1)
	require.Equal(t, "dstack-0.5.8", nodes[0].Images[1].Name)
	require.Equal(t, []any{0.0, 5.0, 8.0}, nodes[0].Images[1].Version)
}

// TestErrorsReachTheUserOfAnExistingClient in words.
func TestErrorsReachTheUserOfAnExistingClient(t *testing.T) {
	t.Parallel()
	u := phalaStack(t).phalaUser("acme")
	for want, edit := range map[string]func(a *phalatest.App){
		"400 Bad Request: /image is not one of dstack-0.5.7, dstack-0.5.8":               func(a *phalatest.App) { a.Image = new("dstack-0.5.6") },
		"400 Bad Request: /region is not one of local-1":                                 func(a *phalatest.App) { a.Region = new("us-west-1") },
		"400 Bad Request: /instance_type is not one of tdx.small, tdx.medium, tdx.large": func(a *phalatest.App) { a.Size = "tdx.tiny" },
		"400 Bad Request: /name must be 1 to 63 of A-Z a-z 0-9 . _ -":                    func(a *phalatest.App) { a.Name = "no spaces" },
		"400 Bad Request: /compose_file/docker_compose_file is required":                 func(a *phalatest.App) { a.DockerCompose = "" },
	} {
		app := everything("web", 1)
		edit(&app)
		require.ErrorContains(t, u.tf.Apply(u.ctx, &app), want)
		require.Nil(t, u.tf.State)
	}
	u.token = "nobody's"
	_, err := u.at(u.Platforms[0].URL).Account(u.ctx)
	require.ErrorContains(t, err, "401 Unauthorized: ")
}

// TestCiphertextLiesInTheSpecRowsAndNowhereElse: a canary as encrypted_env, by
// every way in, searched for in every column of both databases, the driver's
// files, the answers, the logs and the metrics.
func TestCiphertextLiesInTheSpecRowsAndNowhereElse(t *testing.T) {
	t.Parallel()
	log := &lockedLog{}
	b := setup(t, stack.Options{Boot: 30 * time.Millisecond, Log: log})
	u := b.phalaUser("acme")
	canaries := []string{"ca9a41ca9a41", "ca9a42ca9a42", "ca9a43ca9a43"}
	want := everything("web", 2)
	want.Env, want.EncryptedEnv, want.EnvKeys = nil, &canaries[0], []string{"A"}
	u.apply(want)
	c := b.c
	c.Token = u.token
	path := "/cvms/" + u.tf.State.PrimaryCVMID
	answers := []string{}
	send := func(method, path, body string) {
		r := c.Request(method, path, body).Key(fmt.Sprint("k-", len(answers))).Send()
		answers = append(answers, string(r.Body))
		answers = append(answers, string(c.Request(method, path, body).Key(fmt.Sprint("k-", len(answers)-1)).Send().Body))
	}
	want.EncryptedEnv = &canaries[1]
	u.apply(want)
	send(http.MethodPatch, path+"/envs", `{"encrypted_env":"`+canaries[1]+`","env_keys":["B"]}`)
	send(http.MethodPatch, path+"/envs", `{"encrypted_env":"`+canaries[1]+`","env_keys":7}`)
	send(http.MethodPost, path+"/compose_file/provision", `{"public_logs":false}`)
	hash := apitest.Decode[api.Provision](c.Post(path+"/compose_file/provision", `{"public_logs":false}`).Expect(http.StatusOK)).ComposeHash
	send(http.MethodPatch, path+"/compose_file", `{"compose_hash":"`+hash+`","encrypted_env":"`+canaries[2]+`"}`)
	send(http.MethodPost, "/cvms/provision", strings.Replace(apitest.Spec("other", "x"), "{", `{"encrypted_env":"`+canaries[2]+`",`, 1))
	require.Eventually(t, func() bool { return *u.specBelow(u.tf.State.PrimaryCVMID).EncryptedEnv == canaries[2] }, 30*time.Second, 20*time.Millisecond)

	where := map[string]bool{}
	for _, canary := range canaries {
		for service, db := range map[string]*gorm.DB{"platform": b.PlatformDB, "owl": b.OwlDB} {
			for _, column := range holding(t, db, canary) {
				where[service+" "+column] = true
			}
		}
		for _, text := range append(answers, log.String(), string(c.Raw("/metrics").Body), string(c.Get("/cvms").Body), string(c.Get("/operations").Body)) {
			require.NotContains(t, text, canary)
		}
		require.NoError(t, filepath.WalkDir(b.SimDir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			require.NotContains(t, string(data), canary, path)
			return err
		}))
	}
	require.Equal(t, map[string]bool{"platform specs.body": true, "owl cvms.spec": true}, where)
	require.NotEmpty(t, log.String(), "there is a log to search")
}

// holding is the columns of a database in which a text is.
func holding(t *testing.T, db *gorm.DB, text string) (columns []string) {
	t.Helper()
	var all []struct{ TableName, ColumnName string }
	require.NoError(t, db.Raw(`SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'`).Scan(&all).Error)
	require.NotEmpty(t, all)
	for _, c := range all {
		var n int
		// bytea as text is hex: an echo's body is looked at as it was written too.
		require.NoError(t, db.Raw(fmt.Sprintf(`SELECT count(*) FROM %[1]q t WHERE t.%[2]q::text LIKE '%%' || ? || '%%'
			OR t.%[2]q::text LIKE '%%' || encode(convert_to(?, 'UTF8'), 'hex') || '%%'`, c.TableName, c.ColumnName), text, text).Scan(&n).Error)
		if n > 0 {
			columns = append(columns, c.TableName+"."+c.ColumnName)
		}
	}
	return columns
}

type lockedLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
