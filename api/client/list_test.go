package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
)

// cvms is a page of n CVMs whose names count on from first.
func cvms(first, n int, next string) answer {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"vm_uuid":%q,"name":"m-%d"}`, vmID, first+i)
	}
	return with(http.StatusOK, `{"items":[`+strings.Join(items, ",")+`],"next_cursor":`+next+`}`)
}

func TestAnIteratorReadsPageAfterPageInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{}, cvms(0, 2, `"a/b"`), lost, cvms(2, 0, `"c"`), refusal(api.CodeRateLimited), cvms(2, 3, "null"))
		var names []string
		for cvm, err := range b.CVMs(t.Context(), nil, client.WithPageSize(2)) {
			require.NoError(t, err)
			names = append(names, cvm.Name)
		}
		require.Equal(t, []string{"m-0", "m-1", "m-2", "m-3", "m-4"}, names)
		var asked []string
		for _, s := range b.requests() {
			asked = append(asked, s.uri)
		}
		const first, second, third = "/api/v1/cvms?limit=2", "/api/v1/cvms?cursor=a%2Fb&limit=2", "/api/v1/cvms?cursor=c&limit=2"
		require.Equal(t, []string{first, second, second, third, third}, asked)
	})
}

func TestAnIteratorAsksForNoMoreThanItsCallerTakes(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{}, cvms(0, 3, `"next"`))
	all := b.CVMs(t.Context())
	require.Empty(t, b.requests(), "nothing is asked before the loop begins")
	for range all {
		break
	}
	require.Len(t, b.requests(), 1)
}

func TestAFailureIsTheLastThingThatAnIteratorYields(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{}, cvms(0, 2, `"next"`), refusal(api.CodeUnauthenticated))
	n, failures := 0, 0
	for _, err := range b.CVMs(t.Context()) {
		if err != nil {
			require.True(t, client.IsAuth(err))
			failures++
			continue
		}
		require.Zero(t, failures)
		n++
	}
	require.Equal(t, 2, n)
	require.Equal(t, 1, failures)
}

func TestAListWithoutAnEndEnds(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{}, cvms(0, 0, `"again"`))
	for _, err := range b.CVMs(t.Context()) {
		require.ErrorIs(t, err, client.ErrAnswer)
	}
}

// TestReads is every call that changes nothing: where it goes and what it
// makes of the answer.
func TestReads(t *testing.T) {
	t.Parallel()
	vm := "/api/v1/cvms/" + vmID.String()
	app := "/api/v1/apps/" + appID.String()
	for _, c := range []struct {
		uri    string
		answer string
		call   func(b *bundle) (any, error)
		want   any
	}{
		{app, appBody, func(b *bundle) (any, error) { v, err := b.App(t.Context(), appID); return v.Name, err }, "web"},
		{app + "/cvms", "[" + cvmBody + "]", func(b *bundle) (any, error) { v, err := b.AppCVMs(t.Context(), appID); return len(v), err }, 1},
		{vm, cvmBody, func(b *bundle) (any, error) { v, err := b.CVM(t.Context(), vmID); return v.VMUUID, err }, vmID},
		{vm + "/docker-compose.yml", "services: {}\n", func(b *bundle) (any, error) { return b.DockerCompose(t.Context(), vmID) }, "services: {}\n"},
		{"/api/v1/operations/op_1", operationBody, func(b *bundle) (any, error) { v, err := b.Operation(t.Context(), "op_1"); return v.ID, err }, "op_1"},
		{vm + "/firewall-rules/" + ruleI.String(), ruleBody, func(b *bundle) (any, error) {
			v, err := b.FirewallRule(t.Context(), vmID, ruleI)
			return v.CIDR, err
		}, "10.0.0.0/8"},
		{"/api/v1/instance-types", `{"items":[{"id":"tdx.small"}]}`, func(b *bundle) (any, error) {
			v, err := b.InstanceTypes(t.Context())
			return v[0].ID, err
		}, "tdx.small"},
		{"/api/v1/auth/me", `{"user":{"username":"tok_1","role":"read"},"workspace":{"id":"` + appID.String() + `","name":"acme"}}`, func(b *bundle) (any, error) {
			return b.WhoAmI(t.Context())
		}, client.Identity{Workspace: client.Workspace{ID: appID, Name: "acme"}, TokenID: "tok_1", Scope: "read"}},
		{"/api/v1/apps?limit=200", `{"items":[` + appBody + `],"next_cursor":null}`, func(b *bundle) (any, error) { return count(b.Apps(t.Context())) }, 1},
		{"/api/v1/operations?limit=200", `{"items":[` + operationBody + `]}`, func(b *bundle) (any, error) { return count(b.Operations(t.Context())) }, 1},
		{vm + "/firewall-rules?limit=200", `{"items":[],"next_cursor":null}`, func(b *bundle) (any, error) {
			return count(b.FirewallRules(t.Context(), vmID))
		}, 0},
	} {
		b := setup(t, client.Retry{}, with(http.StatusOK, c.answer))
		got, err := c.call(b)
		require.NoError(t, err, c.uri)
		require.Equal(t, c.want, got, c.uri)
		require.Equal(t, c.uri, b.requests()[0].uri)
		require.Equal(t, http.MethodGet, b.requests()[0].method)
		require.Empty(t, b.requests()[0].header.Values(api.HeaderIdempotencyKey))
	}
}

func count[T any](all func(yield func(T, error) bool)) (n int, err error) {
	for _, e := range all {
		if err = e; e == nil {
			n++
		}
	}
	return n, err
}

// TestAnAnswerThatNamesNothingIsNoEmptyList: whoever takes a stranger's {} for
// one takes every machine for lost, and makes them again.
func TestAnAnswerThatNamesNothingIsNoEmptyList(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{}`, `null`, `{"items":null}`, `{"items":[{}]}`, `[{}]`, `{"operation":{"id":"op_1"}}`, `<html>`} {
		b := setup(t, client.Retry{MaxAttempts: 1}, with(http.StatusOK, body))
		for name, call := range map[string]func() error{
			"Apps":          func() error { _, err := count(b.Apps(t.Context())); return err },
			"CVMs":          func() error { _, err := count(b.CVMs(t.Context())); return err },
			"Operations":    func() error { _, err := count(b.Operations(t.Context())); return err },
			"FirewallRules": func() error { _, err := count(b.FirewallRules(t.Context(), vmID)); return err },
			"InstanceTypes": func() error { _, err := b.InstanceTypes(t.Context()); return err },
			"AppCVMs":       func() error { _, err := b.AppCVMs(t.Context(), appID); return err },
			"ScaleApp":      func() error { _, err := b.ScaleApp(t.Context(), appID, 4); return err },
			"DeleteFirewallRule": func() error {
				_, err := b.DeleteFirewallRule(t.Context(), vmID, ruleI)
				return err
			},
		} {
			require.ErrorIs(t, call(), client.ErrAnswer, "%s, answered %s", name, body)
		}
	}
}

// TestAKeyIsLookedUpUnderItsOwnName whatever is in it: no proxy on the way may
// take a part of it for a path.
func TestAKeyIsLookedUpUnderItsOwnName(t *testing.T) {
	t.Parallel()
	const bound = `{"state":"bound","request_id":"01J","operation_id":"op_1","resource_id":null}`
	for key, uri := range map[string]string{
		"abc":     "/abc",
		"a/b":     "/a%2Fb",
		"..":      "/%2E%2E",
		"50%":     "/50%25",
		"a?b#c":   "/a%3Fb%23c",
		`q"q`:     `/%22q%5C%22q%22`,
		"a+b;c=d": "/a+b%3Bc=d",
	} {
		b := setup(t, client.Retry{}, with(http.StatusOK, bound))
		k, err := b.LookupKey(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "op_1", *k.OperationID)
		require.Equal(t, "/api/v1/idempotency-keys"+uri, b.requests()[0].uri, key)
	}
}
