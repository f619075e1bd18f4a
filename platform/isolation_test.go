package platform_test

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/platform/token"
)

// holdings is one workspace with one of everything, and how to name it.
type holdings struct {
	*testBundle

	workspace api.ID
	names     map[string]string // {app} → its ID …
}

// unknown is names of what nobody ever had, as long as the real ones.
func unknown() map[string]string {
	mint := api.NewMinter()
	return map[string]string{
		"{app}": mint.ID().String(), "{cvm}": mint.ID().String(), "{rule}": mint.ID().String(),
		"{operation}": mint.OperationID(), "{key}": "key-nobody", "{hash}": strings.Repeat("0", 64),
	}
}

// settle gives a workspace an app, a CVM with a rule, and a key.
func (b *testBundle) settle(workspace string) *holdings {
	b.t.Helper()
	own := *b
	own.token = b.newToken(workspace, token.ScopeWrite)
	h := &holdings{testBundle: &own}
	require.NoError(b.t, b.db.Raw("SELECT id FROM workspaces WHERE name = ?", workspace).Row().Scan(&h.workspace))
	c := own.post("/cvms", b.spec("web")).Key("key-" + workspace).Expect(http.StatusAccepted).CVM()
	rule := apitest.Decode[api.FirewallRule](own.post("/cvms/"+c.VMUUID.String()+"/firewall-rules", `{"cidr":"10.0.0.0/8"}`).Expect(http.StatusCreated))
	h.names = map[string]string{
		"{app}": c.AppID.String(), "{cvm}": c.VMUUID.String(), "{rule}": rule.ID.String(),
		"{operation}": c.Operation.ID, "{key}": "key-" + workspace, "{hash}": c.ComposeHash,
	}
	return h
}

// fill names things in a path or body.
func fill(s string, names map[string]string) string {
	for placeholder, name := range names {
		s = strings.ReplaceAll(s, placeholder, name)
	}
	return s
}

// request makes a call whose body is called what its route takes.
func request(c apitest.Client, method, path, body string) *apitest.Call {
	call := c.Request(method, path, body)
	if media := textRoute(path); media != "" && body != "" {
		call.With("Content-Type", media)
	}
	return call
}

// textRoute is the media type of a route that takes text, "" for the others.
func textRoute(path string) string {
	switch {
	case strings.HasSuffix(path, "/docker-compose"):
		return "text/yaml"
	case strings.HasSuffix(path, "/pre-launch-script"):
		return "text/plain"
	}
	return ""
}

// guarded is a route as this test calls it.
type guarded struct {
	path, body string
	status     int // to its own workspace
}

// guardedRoutes is every route of the public API that wants a token, under
// its method and pattern.
func guardedRoutes() map[string][]guarded {
	const ok, created, accepted = http.StatusOK, http.StatusCreated, http.StatusAccepted
	cvm := func(s string) string { return "/cvms/{cvm}" + s }
	return map[string][]guarded{
		"GET /apps":                             {{path: "/apps", status: ok}},
		"GET /apps/:app_id":                     {{path: "/apps/{app}", status: ok}, {path: "/apps/app_{app}", status: ok}},
		"GET /apps/:app_id/cvms":                {{path: "/apps/{app}/cvms", status: ok}},
		"GET /cvms":                             {{path: "/cvms", status: ok}},
		"GET /cvms/:vm_uuid":                    {{path: cvm(""), status: ok}},
		"GET /operations":                       {{path: "/operations", status: ok}},
		"GET /operations/:id":                   {{path: "/operations/{operation}", status: ok}, {path: "/operations/{operation}?wait=1ms", status: ok}},
		"GET /instance-types":                   {{path: "/instance-types", status: ok}},
		"GET /idempotency-keys/:key":            {{path: "/idempotency-keys/{key}", status: ok}},
		"GET /cvms/:vm_uuid/docker-compose.yml": {{path: cvm("/docker-compose.yml"), status: ok}},
		"GET /cvms/:vm_uuid/firewall-rules":     {{path: cvm("/firewall-rules"), status: ok}},
		"GET /cvms/:vm_uuid/firewall-rules/:id": {{path: cvm("/firewall-rules/{rule}"), status: ok}},
		"POST /apps":                            {{path: "/apps", body: `{"name":"shop"}`, status: created}},
		"POST /cvms/provision":                  {{path: "/cvms/provision", body: anotherApp, status: ok}},
		"POST /cvms": {
			{path: "/cvms", body: anotherApp, status: accepted},
			{path: "/cvms", body: `{"app_id":"{app}","compose_hash":"{hash}"}`, status: accepted},
		},
		"POST /apps/:app_id/cvms/:vm_uuid/replicas": {
			{path: "/apps/{app}/cvms/{cvm}/replicas", status: accepted},
			{path: "/apps/{app}/cvms/{cvm}/replicas", body: `{"count":2}`, status: accepted},
		},
		"PUT /apps/:app_id/replicas":               {{path: "/apps/{app}/replicas", body: `{"count":2}`, status: accepted}},
		"POST /cvms/:vm_uuid/start":                {{path: cvm("/start"), status: accepted}},
		"POST /cvms/:vm_uuid/stop":                 {{path: cvm("/stop"), status: accepted}},
		"POST /cvms/:vm_uuid/restart":              {{path: cvm("/restart"), status: accepted}},
		"PATCH /cvms/:vm_uuid":                     {{path: cvm(""), body: `{"vcpu":2}`, status: accepted}},
		"POST /cvms/:vm_uuid/firewall-rules":       {{path: cvm("/firewall-rules"), body: `{"cidr":"192.168.0.0/16"}`, status: created}},
		"DELETE /cvms/:vm_uuid":                    {{path: cvm(""), status: accepted}},
		"DELETE /cvms/:vm_uuid/firewall-rules/:id": {{path: cvm("/firewall-rules/{rule}"), status: http.StatusNoContent}},

		"PATCH /cvms/:vm_uuid/resources":             {{path: cvm("/resources"), body: `{"instance_type":"tdx.medium"}`, status: accepted}},
		"PATCH /cvms/:vm_uuid/os-image":              {{path: cvm("/os-image"), body: `{"os_image_name":"dstack-0.5.8"}`, status: accepted}},
		"PATCH /cvms/:vm_uuid/docker-compose":        {{path: cvm("/docker-compose"), body: "services: {a: {}}", status: accepted}},
		"PATCH /cvms/:vm_uuid/pre-launch-script":     {{path: cvm("/pre-launch-script"), body: "echo 1", status: accepted}},
		"GET /cvms/:vm_uuid/pre-launch-script":       {{path: cvm("/pre-launch-script"), status: ok}},
		"PATCH /cvms/:vm_uuid/envs":                  {{path: cvm("/envs"), body: `{"encrypted_env":"00"}`, status: accepted}},
		"POST /cvms/:vm_uuid/compose_file/provision": {{path: cvm("/compose_file/provision"), body: `{"public_logs":true}`, status: ok}},
		"PATCH /cvms/:vm_uuid/compose_file":          {{path: cvm("/compose_file"), body: `{"compose_hash":"{hash}","env_keys":["A"]}`, status: accepted}},
		"GET /auth/me":                               {{path: "/auth/me", status: ok}},
		"GET /apps/filter-options":                   {{path: "/apps/filter-options", status: ok}},
		"GET /teepods/available":                     {{path: "/teepods/available", status: ok}},
	}
}

// eachRoute runs a test for each line of the table.
func eachRoute(t *testing.T, test func(t *testing.T, method string, g guarded)) {
	t.Helper()
	for name, lines := range guardedRoutes() {
		method, _, _ := strings.Cut(name, " ")
		for _, g := range lines {
			t.Run(strings.ReplaceAll(method+" "+g.path+" "+g.body, "/", "|"), func(t *testing.T) {
				t.Parallel()
				test(t, method, g)
			})
		}
	}
}

// TestEveryRouteHasALineInTheIsolationTable: a new one without a line fails.
func TestEveryRouteHasALineInTheIsolationTable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// gin stops at httpapi, so its engine is asked without its types.
	routes := reflect.ValueOf(b.service.Handler()).MethodByName("Routes")
	require.True(t, routes.IsValid(), "the handler shows its routes")
	var served, listed []string
	for _, r := range routes.Call(nil)[0].Seq2() {
		pattern, guarded := strings.CutPrefix(r.FieldByName("Path").String(), "/api/v1")
		method := r.FieldByName("Method").String()
		if guarded && method != http.MethodHead { // HEAD has GET's handlers
			served = append(served, method+" "+pattern)
		}
	}
	for name := range guardedRoutes() {
		listed = append(listed, name)
	}
	slices.Sort(served)
	slices.Sort(listed)
	require.Equal(t, served, listed)
}

// TestForeignIDsAnswerAsUnknownOnes, byte for byte but for the request's ID
// and the ID itself, one name after the other; and they change nothing.
func TestForeignIDsAnswerAsUnknownOnes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs := b.settle("theirs")
	eachRoute(t, func(t *testing.T, method string, g guarded) {
		t.Helper()
		own := *b
		own.t = t
		mine := own.settle("mine-" + api.NewMinter().RequestID())
		nobody := unknown()
		watched := &matrix{testBundle: &own, workspace: theirs.workspace}
		for placeholder := range nobody {
			if !strings.Contains(g.path+g.body, placeholder) || placeholder == "{hash}" {
				continue
			}
			ask := func(given map[string]string, all bool) *apitest.Reply {
				names := maps.Clone(mine.names)
				if all {
					names = maps.Clone(given)
				}
				names[placeholder] = given[placeholder]
				c := request(mine.client(), method, fill(g.path, names), fill(g.body, names))
				if method != http.MethodGet {
					c.Key("fresh")
				}
				return watched.changesNothing(c)
			}
			for _, all := range []bool{false, true} { // one of theirs among mine, and nothing but theirs
				foreign, missing := ask(theirs.names, all), ask(nobody, all)
				foreign.Refuse(absent(placeholder, g))
				require.Equal(t, anonymous(missing, nobody), anonymous(foreign, theirs.names))
			}
		}
		require.Zero(t, own.count("idempotency_keys", "key = 'fresh'"), "nothing refused uses the key up")
	})
}

// absent is what is missing where a placeholder names nothing: the app of a
// commit is half of a provision's name.
func absent(placeholder string, g guarded) api.Code {
	if placeholder == "{app}" && strings.Contains(g.body, "{hash}") {
		return api.CodeProvisionNotFound
	}
	return api.CodeNotFound
}

// anonymous is an answer without its request's ID and the IDs that were asked for.
func anonymous(r *apitest.Reply, names map[string]string) string {
	body := strings.ReplaceAll(string(r.Body), r.Header.Get(api.HeaderRequestID), "REQUEST")
	for placeholder, name := range names {
		body = strings.ReplaceAll(body, name, placeholder)
	}
	lines := []string{body}
	for name, values := range r.Header {
		if name != "Date" && name != api.HeaderRequestID {
			lines = append(lines, name+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestKeysAndListsOfTwoWorkspacesAreIndependent: the same request under the
// same key is done once for each, and neither names what is the other's.
func TestKeysAndListsOfTwoWorkspacesAreIndependent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	eachRoute(t, func(t *testing.T, method string, g guarded) {
		t.Helper()
		own := *b
		own.t = t
		run := api.NewMinter().RequestID()
		first, second := own.settle("a-"+run), own.settle("b-"+run)
		for i, h := range []*holdings{first, second} {
			other := []*holdings{second, first}[i]
			c := request(h.client(), method, fill(g.path, h.names), fill(g.body, h.names))
			if method != http.MethodGet && g.body != `{"app_id":"{app}","compose_hash":"{hash}"}` {
				c.Key("shared")
			}
			r := c.Expect(g.status)
			require.Equal(t, g.body == `{"app_id":"{app}","compose_hash":"{hash}"}`, r.Replayed())
			for placeholder, name := range other.names {
				if placeholder != "{hash}" { // the same spec has the same hash everywhere
					require.NotContains(t, string(r.Body), name, placeholder)
				}
			}
		}
	})
}

// TestATokenThatMayNotIsRefusedOnReplaysToo: a stored result is no way around
// a permission that is gone.
func TestATokenThatMayNotIsRefusedOnReplaysToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	eachRoute(t, func(t *testing.T, method string, g guarded) {
		t.Helper()
		own := *b
		own.t = t
		workspace := "tokens-" + api.NewMinter().RequestID()
		h := own.settle(workspace)
		call := func() *apitest.Call {
			c := request(h.client(), method, fill(g.path, h.names), fill(g.body, h.names))
			if method != http.MethodGet && method != http.MethodDelete {
				c.Key("k")
			}
			return c
		}
		mint := func() (secret, id string) {
			secret, id, err := token.Create(t.Context(), own.db, api.NewMinter(), token.Params{Workspace: workspace, Scope: token.ScopeWrite})
			require.NoError(t, err)
			return secret, id
		}
		reader := own.newToken(workspace, token.ScopeRead)
		revoked, revokedID := mint()
		require.NoError(t, token.Revoke(t.Context(), own.db, revokedID))
		expired, expiredID := mint()
		require.NoError(t, own.db.Exec("UPDATE tokens SET expires_at = now() WHERE id = ?", expiredID).Error)
		refuse := func() {
			for _, secret := range []string{"", "nobody", revoked, expired, h.token + "x"} {
				call().As(secret).Send().Refuse(api.CodeUnauthenticated)
			}
			if method == http.MethodGet {
				call().As(reader).Expect(g.status)
			} else {
				call().As(reader).Send().Refuse(api.CodeForbidden)
			}
		}
		refuse()
		call().Expect(g.status)
		refuse()
		if method == http.MethodGet || method == http.MethodDelete {
			return
		}
		require.True(t, call().As(own.newToken(workspace, token.ScopeWrite)).Expect(g.status).Replayed(), "a key is the workspace's, not the token's")
	})
}
