package platform_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pgtest"
	"roost/models/pgtest/pgproxy"
	"roost/platform"
)

// setupBehindProxy is setup with a node that reaches Postgres through a proxy.
func setupBehindProxy(t *testing.T, adjust ...func(*platform.Config)) (*testBundle, *pgproxy.Proxy) {
	t.Helper()
	direct := pgtest.URL(t, migrations.Platform())
	proxy := pgproxy.Start(t, direct)
	b := setup(t, append(adjust, func(c *platform.Config) {
		db, err := pg.Open(t.Context(), pg.Config{URL: proxy.URL}, c.Logger)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, pg.Close(db)) })
		c.DB = db
	})...)
	b.db = b.cfg.DB
	b.token = b.newToken("acme", "write")
	return b, proxy
}

// TestACommitWhoseReplyIsLostIsDoneOnce: the same transaction runs again with
// the same IDs and finds its own work, with a key and without one.
func TestACommitWhoseReplyIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	for name, fates := range map[string][]pgproxy.Fate{
		"reply lost":         {pgproxy.LoseReply},
		"reply lost twice":   {pgproxy.LoseReply, pgproxy.LoseReply},
		"request lost":       {pgproxy.LoseRequest},
		"request then reply": {pgproxy.LoseRequest, pgproxy.LoseReply},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, proxy := setupBehindProxy(t)
			made := 0
			for _, key := range []string{"k1", ""} {
				app := "web" + key
				calls := []*apitest.Call{
					b.post("/apps", `{"name":"`+app+`"}`),
					b.post("/cvms/provision", b.spec(app)),
					b.post("/cvms", b.spec(app)),
				}
				statuses := []int{http.StatusCreated, http.StatusOK, http.StatusAccepted}
				for i, c := range calls {
					if key != "" {
						c.Key(fmt.Sprint(key, i))
					}
					proxy.Next(fates...)
					r := c.Expect(statuses[i])
					require.False(t, r.Replayed(), "a first answer is no replay, however often the commit was tried")
				}
				made++
				cvm := apitest.Decode[[]api.CVM](b.get("/apps/" + b.appID(app) + "/cvms").Expect(http.StatusOK))[0]
				replicas := b.post("/apps/"+b.appID(app)+"/cvms/"+cvm.VMUUID.String()+"/replicas", `{"count":2}`)
				if key != "" {
					replicas.Key(key + "r")
				}
				proxy.Next(fates...)
				require.Len(t, apitest.Decode[api.CVMs](replicas.Expect(http.StatusAccepted)).Items, 2)
				made += 2
				require.Equal(t, made, b.count("cvms"))
				require.Equal(t, made, b.rows()["quota"])
			}
		})
	}
}

func (b *testBundle) appID(name string) string {
	b.t.Helper()
	var app struct{ ID api.ID }
	require.NoError(b.t, b.db.Raw("SELECT id FROM apps WHERE name = ?", name).Scan(&app).Error)
	return app.ID.String()
}

// TestADatabaseThatIsAwayDoesNotEndTheDoubt: after a lost acknowledgement, a
// connection that cannot be made proves nothing.
func TestADatabaseThatIsAwayDoesNotEndTheDoubt(t *testing.T) {
	t.Parallel()
	b, proxy := setupBehindProxy(t)
	source := b.create("web")
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	away := func(connections int) pgproxy.Fate {
		return func() (deliver, reply bool) {
			proxy.Refuse(connections)
			return pgproxy.LoseReply()
		}
	}
	proxy.Next(away(3))
	require.False(t, b.post(path, ``).Expect(http.StatusAccepted).Replayed(), "it comes back: the first answer")
	require.Equal(t, 2, b.count("cvms"))

	proxy.Next(away(1000))
	p := b.post(path, ``).Send().Refuse(api.CodeUnavailable)
	require.False(t, p.Retryable, "it may have been done: %s", p.Detail)
	proxy.Refuse(0)
	require.Equal(t, 3, b.count("cvms"), "and it was")
}

// TestAnUnclearCommitIsOnlyRetryableWhereRepeatingIsSafe: Postgres never says.
func TestAnUnclearCommitIsOnlyRetryableWhereRepeatingIsSafe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		call      func(b *testBundle, replicas string) *apitest.Call
		retryable bool
	}{
		"replica with a key":    {func(b *testBundle, replicas string) *apitest.Call { return b.post(replicas, ``).Key("k") }, true},
		"replica without one":   {func(b *testBundle, replicas string) *apitest.Call { return b.post(replicas, ``) }, false},
		"provision without one": {func(b *testBundle, _ string) *apitest.Call { return b.post("/cvms/provision", b.spec("new")) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, proxy := setupBehindProxy(t)
			source := b.create("web")
			request := tc.call(b, "/apps/"+source.AppID.String()+"/cvms/"+source.VMUUID.String()+"/replicas")
			proxy.Next(slices.Repeat([]pgproxy.Fate{pgproxy.LoseRequest}, 100)...)
			r := request.Send()
			p := r.Refuse(api.CodeUnavailable)
			require.Equal(t, tc.retryable, p.Retryable)
			require.NotEmpty(t, r.Header.Get("Retry-After"))
			require.Equal(t, !tc.retryable, strings.Contains(p.Detail, "list"))
			proxy.Next()
			if tc.retryable {
				require.False(t, request.Send().Replayed(), "nothing had happened")
			}
		})
	}
}

// TestAClientThatLeavesCancelsNothing: once it has begun, the work has its
// own context.
func TestAClientThatLeavesCancelsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	holder := b.db.Begin()
	defer holder.Rollback()
	require.NoError(t, holder.Exec("UPDATE workspaces SET cvms = cvms").Error)
	waiting := func() bool {
		return b.count("pg_stat_activity", "wait_event_type = 'Lock' AND datname = current_database()") == 1
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer leave()
		assert.Eventually(t, waiting, time.Minute, 5*time.Millisecond, "the work has begun")
	}()
	_, err := b.post("/cvms", b.spec("web")).Key("k").Until(ctx)
	require.ErrorIs(t, err, context.Canceled)
	eventually(t, "the work goes on waiting", waiting)
	require.NoError(t, holder.Rollback().Error)
	eventually(t, "the create is accepted", func() bool { return b.count("cvms") == 1 })
	require.True(t, b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted).Replayed())
}

// TestTheAcceptPathIsOneTransactionAndNoNetworkCall counts COMMITs on the wire
// and connections at Owl's address.
func TestTheAcceptPathIsOneTransactionAndNoNetworkCall(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	owl := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer owl.Close()
	b, proxy := setupBehindProxy(t, func(c *platform.Config) { c.OwlURL = owl.URL })
	for _, c := range []*apitest.Call{
		b.post("/cvms", b.spec("web")).Key("create"),
		b.post("/cvms", b.spec("web")).Key("create"),
		b.post("/cvms", b.spec("web")),
		b.post("/apps", `{"name":"shop"}`).Key("app"),
		b.post("/cvms/provision", b.spec("api")).Key("provision"),
	} {
		before := proxy.Commits()
		require.Equal(t, 2, c.Send().Status/100)
		require.Equal(t, 1, proxy.Commits()-before, c.Path())
	}
	require.Zero(t, calls.Load())
}

// TestAReplayWritesAndLocksNoRow: every row that the key leads to is locked by
// somebody else, and the replay neither waits nor changes one.
func TestAReplayWritesAndLocksNoRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	create := b.post("/cvms", b.spec("web")).Key("k")
	create.Expect(http.StatusAccepted)
	versions := func() (all []string) {
		for _, table := range []string{"idempotency_keys", "apps", "workspaces", "cvms", "operations", "operation_targets", "specs"} {
			var rows []string
			require.NoError(t, b.db.Raw("SELECT t.ctid::text || t.xmin::text || t.xmax::text FROM "+table+" t").Scan(&rows).Error)
			all = append(all, rows...)
		}
		return all
	}
	before := versions()
	require.True(t, create.Expect(http.StatusAccepted).Replayed())
	require.Equal(t, before, versions(), "a row that was written or locked has another xmin or xmax")

	holder := b.db.Begin()
	defer holder.Rollback()
	for _, table := range []string{"idempotency_keys", "apps", "workspaces", "cvms", "operations"} {
		var ids []string
		require.NoError(t, holder.Raw("SELECT '' FROM "+table+" FOR UPDATE").Scan(&ids).Error)
	}
	start := time.Now()
	require.True(t, create.Expect(http.StatusAccepted).Replayed())
	require.Less(t, time.Since(start), 2*time.Second, "a replay that waits for a lock takes 4 s or more")
}
