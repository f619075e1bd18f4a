package stack_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
	"roost/api/openapitest"
	"roost/cmd/internal/lossy"
	"roost/cmd/internal/stack"
	"roost/platform"
	"roost/platform/token"
)

// sdk is the Go SDK through a lossy proxy, every exchange held against the
// OpenAPI document. Its transport keeps no connection and so repeats nothing
// silently: a test counts what the SDK does.
func sdk(t *testing.T, s *stack.Stack, policy lossy.Policy) (*client.Client, *lossy.Proxy) {
	t.Helper()
	proxy := lossy.Start(t, s.Platforms[0].URL, policy)
	return sdkAt(t, proxy.URL(), s.Token), proxy
}

func sdkAt(t *testing.T, endpoint, secret string) *client.Client {
	t.Helper()
	document, err := openapitest.Platform()
	require.NoError(t, err)
	checked := document.Transport(&http.Transport{DisableKeepAlives: true}, func(err error) { t.Errorf("%v", err) })
	c, err := client.New(client.Config{
		Endpoint: endpoint, Token: secret, HTTPClient: &http.Client{Transport: checked},
		Retry: client.Retry{MinBackoff: time.Millisecond, MaxBackoff: 100 * time.Millisecond, BudgetBurst: 10_000},
	})
	require.NoError(t, err)
	return c
}

func hello(name string) api.Spec {
	return api.Spec{Name: name, InstanceType: "tdx.small", ComposeFile: &api.ComposeFile{DockerComposeFile: "services: {}"}}
}

// firstAttempts lets a fate befall the first attempt of every write.
func firstAttempts(fate lossy.Fate) lossy.Policy {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(r *lossy.Request) lossy.Fate {
		mu.Lock()
		defer mu.Unlock()
		name := r.Method + r.Path + r.Header.Get(api.HeaderIdempotencyKey)
		if !lossy.Writes(r) || seen[name] {
			return lossy.Pass()
		}
		seen[name] = true
		return fate
	}
}

// TestEveryWriteOfTheSDKIsDoneOnce goes through the lives of three apps, and
// does to the first attempt of each write what a network can.
func TestEveryWriteOfTheSDKIsDoneOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fate     lossy.Fate
		attempts int
	}{
		{lossy.DropAnswer(), 2}, {lossy.TearAnswer(15), 2}, {lossy.Refuse(), 2}, {lossy.Duplicate(), 1}, {lossy.DuplicateAtOnce(), 1},
	} {
		t.Run(c.fate.String(), func(t *testing.T) {
			t.Parallel()
			s := stack.Start(t, stack.Options{Boot: 10 * time.Millisecond})
			c1, proxy := sdk(t, s, firstAttempts(c.fate))
			l := life{t: t, c: c1}
			web := l.live()
			require.Equal(t, l.writes, proxy.Count(c.fate.String()), "each write met its fate")
			require.Equal(t, l.writes*c.attempts, l.attempts)
			requireOneLife(t, s, c1, web)
		})
	}
}

// life is a user who waits for each thing before the next.
type life struct {
	t                *testing.T
	c                *client.Client
	writes, attempts int
}

// note takes a result apart, and looks its key up.
func note[T any](l *life, r client.Result[T], err error) T {
	l.t.Helper()
	require.NoError(l.t, err)
	l.writes++
	l.attempts += r.Attempts
	if r.IdempotencyKey != "" {
		k, err := l.c.LookupKey(l.t.Context(), r.IdempotencyKey)
		require.NoError(l.t, err)
		require.Equal(l.t, "bound", k.State)
		require.Equal(l.t, k.ExpiresAt.Time, r.KeyExpiresAt.UTC())
	}
	return r.Value
}

// ended waits for what a CVM is doing.
func (l *life) ended(cvm api.CVM) api.CVM {
	l.t.Helper()
	_, err := l.c.WaitOperation(l.t.Context(), cvm.Operation.ID, nil)
	require.NoError(l.t, err)
	now, err := l.c.WaitCVM(l.t.Context(), cvm.VMUUID, nil, nil)
	require.NoError(l.t, err)
	return now
}

// live makes every write of the SDK once, and returns an app of five CVMs.
func (l *life) live() api.ID {
	ctx, c, t := l.t.Context(), l.c, l.t
	t.Helper()
	r1, err := c.CreateApp(ctx, api.CreateApp{Name: "empty"})
	require.Equal(t, "empty", note(l, r1, err).Name)
	r2, err := c.Provision(ctx, hello("web"))
	p := note(l, r2, err)
	r3, err := c.CommitCVM(ctx, client.Commit{AppID: p.AppID, ComposeHash: p.ComposeHash})
	first := l.ended(note(l, r3, err))
	r4, err := c.Replicate(ctx, first.AppID, first.VMUUID, "second")
	require.Equal(t, "second", l.ended(note(l, r4, err)).Name)
	r5, err := c.ReplicateMany(ctx, first.AppID, first.VMUUID, 2)
	many := note(l, r5, err)
	require.Len(t, many.Items, 2)
	r6, err := c.ScaleApp(ctx, first.AppID, 5)
	require.Len(t, note(l, r6, err).Items, 1)
	for _, id := range []string{many.Operation.ID, r6.Value.Operation.ID} {
		_, err = c.WaitOperation(ctx, id, nil)
		require.NoError(t, err)
	}
	l.changes()
	return first.AppID
}

// changes makes another app, changes all about it and deletes it.
func (l *life) changes() {
	ctx, c, t := l.t.Context(), l.c, l.t
	t.Helper()
	medium, cipher := "tdx.medium", "00ff"
	r, err := c.CreateCVM(ctx, hello("other"))
	id := l.ended(note(l, r, err)).VMUUID
	r, err = c.StopCVM(ctx, id)
	require.Equal(t, api.StatusStopped, l.ended(note(l, r, err)).Status)
	r, err = c.StartCVM(ctx, id)
	require.Equal(t, api.StatusRunning, l.ended(note(l, r, err)).Status)
	r, err = c.RestartCVM(ctx, id)
	l.ended(note(l, r, err))
	r, err = c.UpdateCVM(ctx, id, api.PatchCVM{InstanceType: &medium})
	require.Equal(t, medium, l.ended(note(l, r, err)).InstanceType)
	env, err := c.UpdateEnvs(ctx, id, api.ChangeEnvs{EncryptedEnv: &cipher, EnvKeys: []string{"A"}})
	l.ended(note(l, env, err).Items[0])
	made, err := c.CreateFirewallRule(ctx, id, api.CreateFirewallRule{CIDR: "10.0.0.0/8"})
	rule := note(l, made, err)
	read, err := c.FirewallRule(ctx, id, rule.ID)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.0/8", read.CIDR)
	require.Len(t, collect(t, c.FirewallRules(ctx, id)), 1)
	deleted, err := c.DeleteFirewallRule(ctx, id, rule.ID)
	note(l, deleted, err)
	require.Empty(t, collect(t, c.FirewallRules(ctx, id)))
	r, err = c.DeleteCVM(ctx, id)
	note(l, r, err)
	gone, err := c.WaitCVM(ctx, id, client.Reached(api.StatusDeleted), nil)
	require.NoError(t, err)
	require.NotNil(t, gone.DeletedAt)
}

func collect[T any](t *testing.T, all func(func(T, error) bool)) []T {
	t.Helper()
	var items []T
	for item, err := range all {
		require.NoError(t, err)
		items = append(items, item)
	}
	return items
}

// requireOneLife requires that each write of live left what one leaves.
func requireOneLife(t *testing.T, s *stack.Stack, c *client.Client, web api.ID) {
	t.Helper()
	kinds := map[api.OperationKind]int{}
	for _, op := range collect(t, c.Operations(t.Context(), client.WithPageSize(3))) {
		kinds[op.Kind]++
		require.Equal(t, api.OperationSucceeded, op.Status, op.Kind)
	}
	require.Equal(t, map[api.OperationKind]int{
		api.KindCVMCreate: 2, api.KindCVMReplicate: 2, api.KindAppScale: 1, api.KindCVMStart: 1, api.KindCVMStop: 1,
		api.KindCVMRestart: 1, api.KindCVMUpdate: 2, api.KindCVMDelete: 1,
	}, kinds)
	cvms, err := c.AppCVMs(t.Context(), web)
	require.NoError(t, err)
	require.Len(t, cvms, 5)
	require.Len(t, collect(t, c.CVMs(t.Context(), client.WithPageSize(2))), 5)
	require.Len(t, collect(t, c.Apps(t.Context(), client.WithPageSize(1))), 2, "one that is empty, one with CVMs; one is gone")
	onlyOnce(t, s, 6)
}

// TestTheSDKsErrorsAreTyped is each refusal as its caller meets it.
func TestTheSDKsErrorsAreTyped(t *testing.T) {
	t.Parallel()
	s := stack.Start(t, stack.Options{Platform: func(c *platform.Config) { c.MaxCVMs = 1 }})
	c, ctx := sdkAt(t, s.Platforms[0].URL, s.Token), t.Context()
	made, err := c.CreateCVM(ctx, hello("web"), client.WithIdempotencyKey("a/b"))
	require.NoError(t, err)
	other := hello("web")
	other.ComposeFile = &api.ComposeFile{DockerComposeFile: "services: {other: {}}"}
	unknown := api.NewMinter().ID()

	refused := func(err error, status int, code api.Code) client.Error {
		t.Helper()
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, status, e.Status)
		require.Equal(t, code, e.Code)
		require.Equal(t, client.OutcomeNotDone, e.Outcome)
		require.Equal(t, 1, e.Attempts)
		require.NotEmpty(t, e.RequestID)
		require.NotEmpty(t, e.Detail)
		return *e
	}
	_, err = c.CreateCVM(ctx, other)
	e := refused(err, http.StatusConflict, api.CodeAppExists)
	require.Equal(t, made.Value.AppID, *e.AppID)
	require.Equal(t, made.Value.VMUUID, *e.VMUUID)
	require.True(t, client.IsConflict(err))

	_, err = c.CreateCVM(ctx, other, client.WithIdempotencyKey("a/b"))
	e = refused(err, http.StatusConflict, api.CodeIdempotencyKeyReused)
	require.Equal(t, "/compose_file/docker_compose_file", e.Fields[0].Field)
	require.Equal(t, "a/b", e.IdempotencyKey)
	key, err := c.LookupKey(ctx, "a/b")
	require.NoError(t, err)
	require.Equal(t, made.Value.VMUUID, *key.ResourceID)

	_, err = c.CreateCVM(ctx, hello("another"))
	refused(err, http.StatusForbidden, api.CodeQuotaExceeded)
	require.False(t, client.IsAuth(err))
	_, err = c.CreateCVM(ctx, api.Spec{Name: "two words"})
	e = refused(err, http.StatusBadRequest, api.CodeInvalidRequest)
	require.Len(t, e.Fields, 3)
	_, err = c.StopCVM(ctx, unknown)
	refused(err, http.StatusNotFound, api.CodeNotFound)
	_, err = c.LookupKey(ctx, "..")
	refused(err, http.StatusNotFound, api.CodeNotFound)
	_, err = c.CommitCVM(ctx, client.Commit{AppID: made.Value.AppID, ComposeHash: "00"})
	require.Error(t, err)

	_, err = sdkAt(t, s.Platforms[0].URL, s.NewToken("acme", token.ScopeRead)).StopCVM(ctx, made.Value.VMUUID)
	refused(err, http.StatusForbidden, api.CodeForbidden)
	require.True(t, client.IsAuth(err))
	_, err = sdkAt(t, s.Platforms[0].URL, "nobodys").WhoAmI(ctx)
	refused(err, http.StatusUnauthorized, api.CodeUnauthenticated)
	me, err := c.WhoAmI(ctx)
	require.NoError(t, err)
	require.Equal(t, "acme", me.Workspace.Name)
	require.Equal(t, token.ScopeWrite, me.Scope)

	_, err = c.DeleteCVM(ctx, made.Value.VMUUID)
	require.NoError(t, err)
	_, err = c.WaitCVM(ctx, made.Value.VMUUID, client.Reached(api.StatusDeleted), nil)
	require.NoError(t, err)
	again, err := c.DeleteCVM(ctx, made.Value.VMUUID)
	require.NoError(t, err)
	require.Equal(t, http.StatusGone, again.Status)
	_, err = c.StartCVM(ctx, made.Value.VMUUID)
	e = refused(err, http.StatusGone, api.CodeResourceDeleted)
	require.NotNil(t, e.DeletedAt)
	require.True(t, client.IsGone(err))
}

// TestACallAndItsWaiterOutliveARestartOfPlatform: the create is sent to nobody
// at first, and its waiter is cut off in the middle.
func TestACallAndItsWaiterOutliveARestartOfPlatform(t *testing.T) {
	t.Parallel()
	s := stack.Start(t, stack.Options{Boot: 500 * time.Millisecond})
	c := sdkAt(t, s.Platforms[0].URL, s.Token)
	s.Platforms[0].Stop()
	back := make(chan struct{})
	time.AfterFunc(300*time.Millisecond, func() { defer close(back); s.Platforms[0].Start() })
	r, err := c.CreateCVM(t.Context(), hello("web"))
	<-back
	require.NoError(t, err)
	require.Greater(t, r.Attempts, 1)

	var once sync.Once
	op, err := c.WaitOperation(t.Context(), r.Value.Operation.ID, func(api.Operation) {
		once.Do(func() { s.Platforms[0].Stop(); s.Platforms[0].Start() })
	})
	require.NoError(t, err)
	require.Equal(t, api.OperationSucceeded, op.Status)
	onlyOnce(t, s, 1)
}

// TestACallThatWasLeftIsTakenUpByAnotherProcess: the first one is ended while
// its request is held on the way; all that is left of it is the key.
func TestACallThatWasLeftIsTakenUpByAnotherProcess(t *testing.T) {
	t.Parallel()
	s := stack.Start(t, stack.Options{})
	hold := lossy.NewHold()
	c, proxy := sdk(t, s, lossy.Nth(2, lossy.Writes, hold.Fate()))
	source, err := c.CreateCVM(t.Context(), hello("web"))
	require.NoError(t, err)

	ctx, leave := context.WithCancel(t.Context())
	go func() { <-hold.Held(); leave() }()
	_, err = c.Replicate(ctx, source.Value.AppID, source.Value.VMUUID, "")
	require.True(t, client.IsUnknown(err))
	var left *client.Error
	require.ErrorAs(t, err, &left)

	again, err := sdkAt(t, proxy.URL(), s.Token).Replicate(t.Context(), source.Value.AppID, source.Value.VMUUID, "",
		client.WithIdempotencyKey(left.IdempotencyKey))
	require.NoError(t, err)
	hold.Release() // the late one arrives after all
	_, err = proxy.Await(t.Context(), func(x lossy.Exchange) bool { return x.Fate == "hold" && x.Done })
	require.NoError(t, err)
	cvms, err := c.AppCVMs(t.Context(), source.Value.AppID)
	require.NoError(t, err)
	require.Len(t, cvms, 2)
	require.Equal(t, again.Value.VMUUID, cvms[1].VMUUID)
}
