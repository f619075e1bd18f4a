package platform_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/platform"
	"roost/platform/token"
)

func TestTokensOpenTheirOwnWorkspaceAndNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted).CVM()
	b.post("/apps", `{"name":"shop"}`).Key("e").Expect(http.StatusCreated)
	foreign := b.newToken("other", token.ScopeWrite)
	for _, path := range []string{
		"/apps/" + cvm.AppID.String(), "/apps/" + cvm.AppID.String() + "/cvms", "/cvms/" + cvm.VMUUID.String(),
		"/cvms/" + cvm.VMUUID.String() + "/docker-compose.yml", "/operations/" + cvm.Operation.ID, "/idempotency-keys/k",
	} {
		b.client().Request(http.MethodGet, path, "").As(foreign).Send().Refuse(api.CodeNotFound)
		b.get(path).Expect(http.StatusOK)
	}
	for _, path := range []string{"/apps", "/cvms", "/operations"} {
		list := apitest.Decode[api.Page[map[string]any]](b.client().Request(http.MethodGet, path, "").As(foreign).Expect(http.StatusOK))
		require.Empty(t, list.Items)
	}
}

func TestTheTokenIsCheckedBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted)
	b.post("/cvms", `not JSON`).As("").Key("a b").Send().Refuse(api.CodeUnauthenticated)
	b.post("/cvms", b.spec("web")).As("wrong").Key("k").Send().Refuse(api.CodeUnauthenticated)

	bearer := b.post("/cvms", b.spec("web")).Key("k").With("Authorization", "bearer "+b.token)
	bearer.Without(api.HeaderAPIKey)
	require.True(t, bearer.Expect(http.StatusAccepted).Replayed())

	// A stored result is no way around a permission that is gone.
	reader := b.newToken("acme", token.ScopeRead)
	b.post("/cvms", b.spec("web")).As(reader).Key("k").Send().Refuse(api.CodeForbidden)
	b.client().Request(http.MethodGet, "/cvms", "").As(reader).Expect(http.StatusOK)
	require.NoError(t, b.db.Exec("UPDATE tokens SET revoked_at = now() WHERE scope = 'write'").Error)
	b.post("/cvms", b.spec("web")).Key("k").Send().Refuse(api.CodeUnauthenticated)
	require.NoError(t, b.db.Exec("UPDATE tokens SET revoked_at = NULL, expires_at = now()").Error)
	b.post("/cvms", b.spec("web")).Key("k").Send().Refuse(api.CodeUnauthenticated)
}

func TestBadInputIsNamedAndChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.post("/cvms", b.spec("web")).Key("k").Expect(http.StatusAccepted)
	before := b.rows()
	whole := `"instance_type":"tdx.small","compose_file":{"docker_compose_file":"services: {}"}`
	for name, tc := range map[string]struct{ path, body, field string }{
		"no body":                {"/cvms", ``, "/name"},
		"an id":                  {"/cvms", `{"id":"0198c0de-0000-7000-8000-000000000000"}`, "/id"},
		"unknown member":         {"/cvms", `{"name":"a",` + whole + `,"colour":"red"}`, "/colour"},
		"duplicate member":       {"/cvms", `{"name":"a","name":"b"}`, "/name"},
		"name with a space":      {"/cvms", `{"name":"a b",` + whole + `}`, "/name"},
		"name of 64":             {"/cvms", `{"name":"` + strings.Repeat("a", 64) + `",` + whole + `}`, "/name"},
		"no such instance type":  {"/cvms", `{"name":"a","instance_type":"m5","compose_file":{"docker_compose_file":"x"}}`, "/instance_type"},
		"no compose file":        {"/cvms", `{"name":"a","instance_type":"tdx.small"}`, "/compose_file/docker_compose_file"},
		"app_id in a spec":       {"/cvms", `{"name":"a",` + whole + `,"app_id":"x"}`, "/app_id"},
		"nonce in a spec":        {"/cvms", `{"name":"a",` + whole + `,"nonce":1}`, "/nonce"},
		"vcpu 0":                 {"/cvms", `{"name":"a",` + whole + `,"vcpu":0}`, "/vcpu"},
		"commit with a name":     {"/cvms", `{"app_id":"0198c0de-0000-7000-8000-000000000000","compose_hash":"x","name":"a"}`, "/name"},
		"commit without app":     {"/cvms", `{"compose_hash":"x"}`, "/app_id"},
		"commit with bad app":    {"/cvms", `{"app_id":"x","compose_hash":"x"}`, "/app_id"},
		"commit with no hash":    {"/cvms", `{"app_id":"0198c0de-0000-7000-8000-000000000000","compose_hash":"\u0000"}`, "/compose_hash"},
		"provision with app_id":  {"/cvms/provision", `{"name":"a",` + whole + `,"app_id":"x"}`, "/app_id"},
		"provision with a hash":  {"/cvms/provision", `{"name":"a",` + whole + `,"compose_hash":"x"}`, "/compose_hash"},
		"app without a name":     {"/apps", `{}`, "/name"},
		"app with unknown":       {"/apps", `{"name":"a","x":1}`, "/x"},
		"NUL in a name":          {"/apps", `{"name":"a\u0000"}`, "/name"},
		"trailing data":          {"/apps", `{"name":"a"} x`, "body"},
		"depth":                  {"/cvms", `{"ports":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "/ports"},
		"half a surrogate pair":  {"/apps", `{"name":"\ud800"}`, "/name"},
		"wrong type, nested":     {"/cvms", `{"compose_file":{"docker_compose_file":7}}`, "/compose_file/docker_compose_file"},
		"string where an object": {"/cvms", `{"compose_file":"x"}`, "/compose_file"},
	} {
		for _, key := range []string{"new-" + strings.ReplaceAll(name, " ", "-"), "k"} {
			p := b.post(tc.path, tc.body).Key(key).Send().Refuse(api.CodeInvalidRequest)
			require.NotEmpty(t, p.Errors, name)
			require.True(t, strings.HasPrefix(p.Errors[0].Field, tc.field), "%s: %v", name, p.Errors)
			require.False(t, p.Retryable)
		}
	}
	b.post("/apps", `{"name":"`+strings.Repeat("a", 1<<20)+`"}`).Send().Refuse(api.CodeBodyTooLarge)
	b.post("/apps", `{"name":"a"}`).With("Content-Type", "text/yaml").Send().Refuse(api.CodeUnsupportedMediaType)
	require.Equal(t, before, b.rows())
}

func TestQueryParametersAreChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, field := range map[string]string{
		"/cvms?limit=0": "limit", "/cvms?limit=201": "limit", "/apps?limit=x": "limit",
		"/operations?cursor=%21": "cursor", "/cvms?cursor=bm9uZQ": "cursor",
		"/operations?cursor=_w": "cursor", "/operations?cursor=AAAA": "cursor", "/operations?cursor=bm9uZQ": "cursor",
		"/operations/op_x?wait=61s": "wait", "/operations/op_x?wait=soon": "wait", "/operations/op_x?wait=-1s": "wait",
	} {
		require.Equal(t, []string{field}, apitest.Fields(b.get(path).Refuse(api.CodeInvalidRequest)), path)
	}
}

func TestListsPageThroughEverythingOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = 7
	for i := range n {
		b.post("/cvms", b.spec(fmt.Sprint("app-", i))).Expect(http.StatusAccepted)
	}
	for _, path := range []string{"/cvms", "/apps", "/operations"} {
		seen, pages, cursor := map[any]bool{}, 0, ""
		for {
			page := apitest.Decode[api.Page[map[string]any]](b.get(path + "?limit=3" + cursor).Expect(http.StatusOK))
			for _, item := range page.Items {
				seen[item["id"]] = true
			}
			pages++
			if page.NextCursor == nil {
				break
			}
			cursor = "&cursor=" + *page.NextCursor
		}
		require.Len(t, seen, n, path)
		require.Equal(t, 3, pages)
	}
	require.JSONEq(t, `{"items":[],"next_cursor":null}`,
		string(b.client().Request(http.MethodGet, "/cvms", "").As(b.newToken("empty", token.ScopeRead)).Expect(http.StatusOK).Body))
}

func TestTheRateIsLimitedPerToken(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.RateLimit = 1 })
	second := b.newToken("acme", token.ScopeWrite)
	b.get("/cvms").Expect(http.StatusOK)
	var limited *apitest.Reply
	eventually(t, "the bucket is empty", func() bool {
		limited = b.get("/cvms")
		return limited.Status != http.StatusOK
	})
	require.True(t, limited.Refuse(api.CodeRateLimited).Retryable)
	require.NotEmpty(t, limited.Header.Get("Retry-After"))
	b.client().Request(http.MethodGet, "/cvms", "").As(second).Expect(http.StatusOK)
}

func TestWaitingForAnOperationHoldsUntilItEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.post("/cvms", b.spec("web")).Expect(http.StatusAccepted).CVM().Operation
	start := time.Now()
	require.Equal(t, api.OperationPending, b.get("/operations/"+op.ID+"?wait=300ms").Expect(http.StatusOK).Operation().Status)
	require.GreaterOrEqual(t, time.Since(start), 300*time.Millisecond)

	ended := make(chan api.Operation, 1)
	go func() {
		if r, err := b.client().Request(http.MethodGet, "/operations/"+op.ID+"?wait=30s", "").Try(); err == nil {
			ended <- apitest.Decode[api.Operation](r)
		}
	}()
	require.NoError(t, b.db.Exec("UPDATE operations SET status = 'failed', error_code = 'X'").Error)
	require.Equal(t, "X", (<-ended).Error.Code)
}

func TestTheOperatorSeesEveryRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := `"encrypted_env":"cafebabe00canary"`
	body := strings.Replace(b.spec("web"), `{`, `{`+secret+`,`, 1)
	first := b.post("/cvms", body).Key("k").Expect(http.StatusAccepted)
	b.post("/cvms", body).Key("k").Expect(http.StatusAccepted)
	b.post("/cvms", b.spec("other")).Key("k").Send().Refuse(api.CodeIdempotencyKeyReused)
	b.post("/cvms", `{}`).Send().Refuse(api.CodeInvalidRequest)

	metrics := b.client().Raw("/metrics").Expect(http.StatusOK)
	for _, outcome := range []string{
		`outcome="executed",route="/api/v1/cvms",status="202"} 1`, `outcome="replayed",route="/api/v1/cvms",status="202"} 1`,
		`outcome="mismatch",route="/api/v1/cvms",status="409"} 1`, `roost_reconcile_backlog 1`, `roost_reconcile_oldest_seconds`,
	} {
		require.Contains(t, string(metrics.Body), outcome)
	}
	lines := strings.Count(b.log.String(), first.Header.Get(api.HeaderRequestID))
	require.GreaterOrEqual(t, lines, 2, "its own line, and the replay's names it")
	require.Contains(t, b.log.String(), `route=/api/v1/cvms status=202`)

	// The ciphertext is in the spec column and nowhere else; tokens nowhere.
	for _, where := range []string{b.log.String(), string(metrics.Body), string(first.Body), b.dump("cvms", "operations", "idempotency_keys", "apps")} {
		require.NotContains(t, where, "canary")
		require.NotContains(t, where, b.token)
	}
	require.Equal(t, 1, b.count("specs", "body::text LIKE '%canary%'"))
	require.Zero(t, b.count("specs", "summary::text LIKE '%canary%'"))
	require.NotContains(t, b.dump("tokens"), b.token)

	require.Equal(t, "ok\n", string(b.client().Raw("/healthz").Expect(http.StatusOK).Body))
	require.Equal(t, "ready\n", string(b.client().Raw("/readyz").Expect(http.StatusOK).Body), "ready while Owl is down")
}

// TestADatabaseThatIsAwayIsA503: for tokens and reads too, and it can be
// repeated.
func TestADatabaseThatIsAwayIsA503(t *testing.T) {
	t.Parallel()
	b, proxy := setupBehindProxy(t)
	pool, err := b.cfg.DB.DB()
	require.NoError(t, err)
	pool.SetMaxIdleConns(0) // each statement connects anew
	for _, c := range []*apitest.Call{
		b.client().Request(http.MethodGet, "/cvms", ""),
		b.post("/cvms", b.spec("web")),
	} {
		proxy.Refuse(100)
		r := c.Send()
		require.True(t, r.Refuse(api.CodeUnavailable).Retryable)
		require.NotEmpty(t, r.Header.Get("Retry-After"))
		proxy.Refuse(0)
		require.Equal(t, 2, c.Send().Status/100)
	}
	proxy.Refuse(100)
	metrics := string(b.client().Raw("/metrics").Expect(http.StatusOK).Body)
	proxy.Refuse(0)
	require.Contains(t, metrics, "roost_http_requests_total")
	require.NotContains(t, metrics, "roost_reconcile_backlog", "what only the database knows")
	holder := b.cfg.DB.Begin()
	defer holder.Rollback()
	require.NoError(t, holder.Exec("LOCK TABLE cvms IN ACCESS EXCLUSIVE MODE").Error)
	require.True(t, b.get("/cvms").Refuse(api.CodeUnavailable).Retryable, "a read that waits too long")
}

func TestPathsAndMethodsThatNobodyCanMean(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/operations/%00", "/operations/op_%00", "/operations/%ff", "/cvms/%00"} {
		b.get(path).Refuse(api.CodeNotFound)
	}
	for _, key := range []string{"%00", "a%20b", "%ff", strings.Repeat("x", 256), "%22open"} {
		b.get("/idempotency-keys/" + key).Refuse(api.CodeInvalidIdempotencyKey)
	}
	b.post("/cvms", b.spec("web")).Key("abc").Expect(http.StatusAccepted)
	b.get("/idempotency-keys/%22abc%22").Expect(http.StatusOK)
	b.post("/apps", `{"name":"percent"}`).Key("a%2Fb").Expect(http.StatusCreated)
	b.get("/idempotency-keys/a%252Fb").Expect(http.StatusOK)
	b.get("/idempotency-keys/a%2Fb").Refuse(api.CodeNotFound) // the key a/b is another one

	for i := range 10 {
		b.client().Request(fmt.Sprint("EVIL", i), "/cvms", "").Send().Refuse(api.CodeMethodNotAllowed)
	}
	require.NotContains(t, string(b.client().Raw("/metrics").Body), "EVIL", "callers do not choose the labels")
}

// TestHeadAnswersAsGetDoes: a reader's token is enough, and what only POST
// takes stays a 405.
func TestHeadAnswersAsGetDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cvm := b.post("/cvms", b.spec("web")).Expect(http.StatusAccepted).CVM()
	reader := b.newToken("acme", token.ScopeRead)
	for path, status := range map[string]int{
		"/healthz": http.StatusOK, "/docs": http.StatusOK, "/nowhere": http.StatusNotFound,
		"/api/v1/cvms": http.StatusOK, "/api/v1/cvms/" + cvm.VMUUID.String(): http.StatusOK,
		"/api/v1/cvms/x": http.StatusNotFound, "/api/v1/cvms/" + cvm.VMUUID.String() + "/stop": http.StatusMethodNotAllowed,
	} {
		got := b.client().Raw(path)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, b.url+path, nil)
		require.NoError(t, err)
		req.Header.Set(api.HeaderAPIKey, reader)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, path)
		require.Equal(t, got.Header.Get("Content-Type"), resp.Header.Get("Content-Type"), path)
	}
}

func TestEveryProblemTypeHasItsPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.post("/cvms", `{}`).Send().Refuse(api.CodeInvalidRequest)
	require.Contains(t, string(b.client().Raw(p.Type).Expect(http.StatusOK).Body), p.Title)
	for _, code := range api.Codes() {
		page := string(b.client().Raw("/problems/" + code.Slug()).Expect(http.StatusOK).Body)
		require.Contains(t, page, strconv.Itoa(code.Status()), code)
	}
	b.client().Raw("/problems/nothing").Expect(http.StatusNotFound)
}

// dump is every row of the tables as text.
func (b *testBundle) dump(tables ...string) string {
	b.t.Helper()
	var all strings.Builder
	for _, table := range tables {
		var rows []string
		require.NoError(b.t, b.db.Raw("SELECT t::text FROM "+table+" t").Scan(&rows).Error)
		all.WriteString(strings.Join(rows, "\n"))
	}
	return all.String()
}
