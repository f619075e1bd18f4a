package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
	"roost/api/client"
)

// change is a mutation, with what a server that did it says.
type change struct {
	name string
	call func(ctx context.Context, c *client.Client, opts ...client.Option) (any, meta, error)
	yes  answer
	sent string // method, URI and body
}

// meta is what a Result has beside its Value.
type meta struct {
	Status                                       int
	Replayed                                     bool
	RequestID, OriginalRequestID, IdempotencyKey string
	KeyExpiresAt                                 *time.Time
	Attempts                                     int
}

func metaOf[T any](r client.Result[T], err error) (any, meta, error) {
	return r.Value, meta{r.Status, r.Replayed, r.RequestID, r.OriginalRequestID, r.IdempotencyKey, r.KeyExpiresAt, r.Attempts}, err
}

// changes is every mutation that the SDK has.
func changes() []change {
	medium, cipher := "tdx.medium", env
	app, vm := "/api/v1/apps/"+appID.String(), "/api/v1/cvms/"+vmID.String()
	const whole = `{"name":"web","instance_type":"tdx.small",` +
		`"compose_file":{"docker_compose_file":"services: {web: {command: a < b && c}}"},"encrypted_env":"` + env + `"}`
	type ctx = context.Context
	type C = *client.Client
	type O = client.Option
	return []change{
		{"CreateApp", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.CreateApp(x, api.CreateApp{Name: "web"}, o...))
		}, with(http.StatusCreated, appBody), `POST /api/v1/apps {"name":"web"}`},
		{"ScaleApp", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.ScaleApp(x, appID, 4, o...))
		}, with(http.StatusAccepted, manyBody), "PUT " + app + `/replicas {"count":4}`},
		{"Provision", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.Provision(x, spec(), o...))
		}, with(http.StatusOK, provisionBody), "POST /api/v1/cvms/provision " + whole},
		{"CreateCVM", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.CreateCVM(x, spec(), o...))
		}, accepted, "POST /api/v1/cvms " + whole},
		{"CommitCVM", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.CommitCVM(x, client.Commit{AppID: appID, ComposeHash: "f9b3"}, o...))
		}, accepted, `POST /api/v1/cvms {"app_id":"` + appID.String() + `","compose_hash":"f9b3"}`},
		{"Replicate", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.Replicate(x, appID, vmID, "", o...))
		}, accepted, "POST " + app + "/cvms/" + vmID.String() + "/replicas {}"},
		{"Replicate by name", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.Replicate(x, appID, vmID, "copy", o...))
		}, accepted, "POST " + app + "/cvms/" + vmID.String() + `/replicas {"name":"copy"}`},
		{"ReplicateMany", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.ReplicateMany(x, appID, vmID, 3, o...))
		}, with(http.StatusAccepted, manyBody), "POST " + app + "/cvms/" + vmID.String() + `/replicas {"count":3}`},
		{"StartCVM", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.StartCVM(x, vmID, o...))
		}, accepted, "POST " + vm + "/start "},
		{"StopCVM", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.StopCVM(x, vmID, o...))
		}, accepted, "POST " + vm + "/stop "},
		{"RestartCVM", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.RestartCVM(x, vmID, o...))
		}, accepted, "POST " + vm + "/restart "},
		{"UpdateCVM", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.UpdateCVM(x, vmID, api.PatchCVM{InstanceType: &medium}, o...))
		}, accepted, "PATCH " + vm + ` {"instance_type":"tdx.medium"}`},
		{"UpdateEnvs", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.UpdateEnvs(x, vmID, api.ChangeEnvs{EncryptedEnv: &cipher, EnvKeys: []string{"A"}}, o...))
		}, with(http.StatusAccepted, manyBody), "PATCH " + vm + `/envs {"encrypted_env":"` + env + `","env_keys":["A"]}`},
		{"CreateFirewallRule", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.CreateFirewallRule(x, vmID, api.CreateFirewallRule{CIDR: "10.0.0.0/8"}, o...))
		}, with(http.StatusCreated, ruleBody), "POST " + vm + `/firewall-rules {"cidr":"10.0.0.0/8"}`},
		{"DeleteCVM", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.DeleteCVM(x, vmID, o...))
		}, accepted, "DELETE " + vm + " "},
		{"DeleteFirewallRule", func(x ctx, c C, o ...O) (any, meta, error) {
			return metaOf(c.DeleteFirewallRule(x, vmID, ruleI, o...))
		}, with(http.StatusNoContent, ""), "DELETE " + vm + "/firewall-rules/" + ruleI.String() + " "},
	}
}

func (c change) deletes() bool { return c.sent[:6] == "DELETE" }

// each runs a law for every mutation.
func each(t *testing.T, law func(t *testing.T, c change)) {
	t.Helper()
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { law(t, c) })
		})
	}
}

func TestACallKeepsItsKeyAndItsBytesOverEveryAttempt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c change) {
		t.Helper()
		body := torn(c.yes)
		if c.name == "DeleteFirewallRule" {
			body = lost // it has no body to tear
		}
		inProgress := refusal(api.CodeKeyInProgress)
		b := setup(t, client.Retry{}, lost, body, inProgress, refusal(api.CodeRateLimited), refusal(api.CodeUnavailable), silent, c.yes)
		_, m, err := c.call(t.Context(), b.Client)
		require.NoError(t, err)
		require.Equal(t, 7, m.Attempts)
		require.Len(t, b.requests(), 7)
		require.Equal(t, !c.deletes(), m.IdempotencyKey != "")
		for _, s := range b.requests() {
			require.Equal(t, c.sent, s.method+" "+s.uri+" "+s.body)
			require.Equal(t, m.IdempotencyKey, s.header.Get(api.HeaderIdempotencyKey))
			require.Equal(t, "Bearer "+secret, s.header.Get("Authorization"))
		}
	})
}

func TestTwoCallsHaveTwoKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{}, accepted)
		seen := map[string]bool{}
		for range 1000 {
			r, err := b.RestartCVM(t.Context(), vmID)
			require.NoError(t, err)
			require.False(t, seen[r.IdempotencyKey])
			seen[r.IdempotencyKey] = true
		}
	})
}

func TestACallersKeyIsUsedOnEveryAttempt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c change) {
		t.Helper()
		for _, key := range []string{"mine", `quote"d`, "a/b%2F..", `back\slash`} {
			b := setup(t, client.Retry{}, lost, c.yes)
			_, m, err := c.call(t.Context(), b.Client, client.WithIdempotencyKey(key))
			require.NoError(t, err)
			for _, s := range b.requests() {
				if c.deletes() {
					require.Empty(t, s.header.Values(api.HeaderIdempotencyKey))
					continue
				}
				got, err := api.ParseIdempotencyKey(s.header.Values(api.HeaderIdempotencyKey))
				require.NoError(t, err)
				require.Equal(t, key, got)
				require.Equal(t, key, m.IdempotencyKey)
			}
		}
	})
}

func TestAKeyThatNoServerTakesIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{}, accepted)
	for _, key := range []string{"", "two words", "new\nline", "é", "\x00", string(make([]byte, 256))} {
		_, change := b.RestartCVM(t.Context(), vmID, client.WithIdempotencyKey(key))
		_, lookup := b.LookupKey(t.Context(), key)
		for _, err := range []error{change, lookup} {
			e := fail(t, err)
			require.Equal(t, api.CodeInvalidIdempotencyKey, e.Code)
			require.Equal(t, client.OutcomeNotDone, e.Outcome)
			require.True(t, client.IsInvalid(err))
			require.False(t, e.Retryable)
		}
	}
	require.Empty(t, b.requests())
}

func TestAResultSaysAllThatTheAnswerSaid(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{}, with(http.StatusAccepted, cvmBody, "Request-Id: 01JB", "Idempotent-Replay: true",
		"Original-Request-Id: 01JA", "Idempotency-Key-Expires-At: 2026-11-22T17:00:00.123456Z"))
	r, err := b.CreateCVM(t.Context(), spec())
	require.NoError(t, err)
	require.True(t, r.Replayed)
	require.Equal(t, "01JB", r.RequestID)
	require.Equal(t, "01JA", r.OriginalRequestID)
	require.Equal(t, http.StatusAccepted, r.Status)
	require.Equal(t, 1, r.Attempts)
	require.Equal(t, "2026-11-22T17:00:00.123456Z", r.KeyExpiresAt.Format(time.RFC3339Nano))
	require.Equal(t, vmID, r.Value.VMUUID)
	require.Equal(t, api.StatusRunning, *r.Value.Progress.Target)
}

// refusals is every answer after which the request is not made again.
func refusals() []api.Code {
	var codes []api.Code
	for _, code := range api.Codes() {
		if !code.Retryable() && code != api.CodeInternal {
			codes = append(codes, code)
		}
	}
	return codes
}

func TestADefiniteRefusalIsNeverRepeated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c change) {
		t.Helper()
		for _, code := range refusals() {
			if c.deletes() && code == api.CodeGone {
				continue // that is a success
			}
			b := setup(t, client.Retry{}, refusal(code))
			_, m, err := c.call(t.Context(), b.Client)
			e := fail(t, err)
			require.Len(t, b.requests(), 1, code)
			require.Equal(t, code.Status(), e.Status)
			require.Equal(t, (&api.Error{Code: code}).Problem("").ErrorCode, e.Code)
			require.False(t, e.Retryable, code)
			require.Equal(t, client.OutcomeNotDone, e.Outcome, code)
			require.Equal(t, m.IdempotencyKey, e.IdempotencyKey)
			require.Equal(t, "01J0000000000000000PROBLEM", e.RequestID)
			require.NoError(t, e.Err)
		}
	})
}

// TestAServerThatForbidsToRepeatIsObeyed also where the status alone says
// otherwise: it knows that a repeat could do the work twice.
func TestAServerThatForbidsToRepeatIsObeyed(t *testing.T) {
	t.Parallel()
	for _, code := range []api.Code{api.CodeUnavailable, api.CodeInternal, api.CodeKeyInProgress, api.CodeRateLimited} {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, client.Retry{}, problem(&api.Error{Code: code, NotRetryable: true}, "Retry-After: 1"))
			_, err := b.RestartCVM(t.Context(), vmID)
			require.False(t, fail(t, err).Retryable)
			require.Len(t, b.requests(), 1, code)
			unknown := code == api.CodeUnavailable || code == api.CodeInternal
			require.Equal(t, unknown, client.IsUnknown(err), code)
		})
	}
}

// TestWhatAnAnswerMeans is about answers of others than Roost: all that there
// is to go by is the status.
func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	html := "Content-Type: text/html"
	for _, c := range []struct {
		name      string
		answer    answer
		repeated  bool
		outcome   client.Outcome
		retryable bool
	}{
		{"a gateway's 502", with(502, "<html>", html), true, client.OutcomeUnknown, true},
		{"a gateway's 504", with(504, "", html), true, client.OutcomeUnknown, true},
		{"a status unheard of", with(599, "", html), true, client.OutcomeUnknown, true},
		{"a proxy's 408", with(408, "", html), true, client.OutcomeUnknown, true},
		{"a proxy's 425", with(425, "", html), true, client.OutcomeUnknown, true},
		{"a proxy's 429", with(429, "", html), true, client.OutcomeNotDone, true},
		{"a proxy's 403", with(403, "no", html), false, client.OutcomeNotDone, false},
		{"a proxy's 409", with(409, "no", html), false, client.OutcomeNotDone, false},
		{"a 5xx that says nothing about repeating", with(500, `{"title":"x"}`), true, client.OutcomeUnknown, true},
		{"a problem that is none", with(503, `{"title":`), true, client.OutcomeUnknown, true},
		{"a redirect", with(307, "", html, "Location: http://elsewhere.test/"), false, client.OutcomeUnknown, false},
		{"a page of a hotel's network", with(200, "<html>welcome", html), true, client.OutcomeUnknown, true},
		{"an answer that names nothing", with(202, `{}`), true, client.OutcomeUnknown, true},
		{"null", with(202, `null`), true, client.OutcomeUnknown, true},
		{"half an answer", torn(accepted), true, client.OutcomeUnknown, true},
		{"half a refusal", torn(refusal(api.CodeAppExists)), true, client.OutcomeUnknown, true},
		{"no answer", lost, true, client.OutcomeUnknown, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, client.Retry{MaxAttempts: 3}, c.answer)
				r, err := b.Replicate(t.Context(), appID, vmID, "")
				e := fail(t, err)
				want := 1
				if c.repeated {
					want = 3
				}
				require.Len(t, b.requests(), want)
				require.Equal(t, want, e.Attempts)
				require.Equal(t, c.outcome, e.Outcome)
				require.Equal(t, c.retryable, e.Retryable)
				require.Equal(t, c.repeated, errors.Is(err, client.ErrAttempts))
				require.NotEmpty(t, e.IdempotencyKey)
				require.Equal(t, r.IdempotencyKey, e.IdempotencyKey)
			})
		})
	}
}

// TestTheErrorOfAKeyOfAnotherRequestNamesWhatDiffers: the members of one call,
// and where it was another call, that one.
func TestTheErrorOfAKeyOfAnotherRequestNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	for want, fields := range map[string][]string{
		": that one differs in /name, /vcpu (": {"/name", "/vcpu"},
		": that one was no POST /apps (":       {"method", "path", "/name"},
	} {
		reused := &api.Error{Code: api.CodeIdempotencyKeyReused, Detail: "Nothing was done."}
		for _, field := range fields {
			reused.Fields = append(reused.Fields, api.FieldError{Field: field, Message: "differs from the first request"})
		}
		b := setup(t, client.Retry{}, problem(reused, "Idempotency-Key-Expires-At: 2026-11-22T17:00:00.123456Z"))
		_, err := b.CreateApp(t.Context(), api.CreateApp{Name: "web"})
		require.ErrorContains(t, err, "409 IDEMPOTENCY_KEY_REUSED: Nothing was done"+want)
		require.Equal(t, "2026-11-22T17:00:00.123456Z", fail(t, err).KeyExpiresAt.Format(time.RFC3339Nano))
	}
}

// TestAnOutcomeIsKnownOnlyIfNoAttemptWasLeftUnanswered draws histories of
// attempts and compares with the rule, spelled out.
func TestAnOutcomeIsKnownOnlyIfNoAttemptWasLeftUnanswered(t *testing.T) {
	t.Parallel()
	type event struct {
		answer answer
		open   bool // it may have been done
		ends   bool // no further attempt
		proves bool // no attempt of this key was or will be done
	}
	events := map[string]event{
		"lost":           {answer: lost, open: true},
		"torn":           {answer: torn(accepted), open: true},
		"503":            {answer: refusal(api.CodeUnavailable), open: true},
		"in progress":    {answer: refusal(api.CodeKeyInProgress), open: true},
		"rate limited":   {answer: refusal(api.CodeRateLimited)},
		"app exists":     {answer: refusal(api.CodeAppExists), ends: true},
		"not found":      {answer: refusal(api.CodeNotFound), ends: true},
		"unauthorised":   {answer: refusal(api.CodeUnauthenticated), ends: true},
		"quota":          {answer: refusal(api.CodeQuotaExceeded), ends: true},
		"key reused":     {answer: refusal(api.CodeIdempotencyKeyReused), ends: true, proves: true},
		"gone":           {answer: refusal(api.CodeGone), ends: true, proves: true},
		"503, no repeat": {answer: problem(&api.Error{Code: api.CodeUnavailable, NotRetryable: true}), open: true, ends: true},
	}
	var names []string
	for name := range events {
		names = append(names, name)
	}
	rapid.Check(t, func(rt *rapid.T) {
		history := rapid.SliceOfN(rapid.SampledFrom(names), 1, 6).Draw(rt, "history")
		var answers []answer
		open, proven, attempts := false, false, 0
		for _, name := range history {
			e := events[name]
			answers = append(answers, e.answer)
			attempts++
			open, proven = open || e.open, e.proves
			if e.ends {
				break
			}
		}
		want := client.OutcomeNotDone
		if open && !proven {
			want = client.OutcomeUnknown
		}
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, client.Retry{MaxAttempts: attempts}, answers...)
			_, err := b.Replicate(t.Context(), appID, vmID, "")
			e := fail(t, err)
			require.Equal(t, attempts, e.Attempts, "%v", history)
			require.Equal(t, want, e.Outcome, "%v", history)
		})
	})
}

// TestADeleteThatFindsItGoneHasSucceeded also at the first attempt: the network
// may have doubled it.
func TestADeleteThatFindsItGoneHasSucceeded(t *testing.T) {
	t.Parallel()
	at := api.NewTime(time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC))
	gone := problem(&api.Error{Code: api.CodeGone, DeletedAt: &at})
	quick := client.Retry{MinBackoff: time.Nanosecond}
	for _, before := range [][]answer{{}, {lost}, {torn(accepted), refusal(api.CodeRateLimited)}} {
		b := setup(t, quick, slices.Concat(before, []answer{gone})...)
		r, err := b.DeleteCVM(t.Context(), vmID)
		require.NoError(t, err)
		require.Equal(t, http.StatusGone, r.Status)
		require.Equal(t, len(before)+1, r.Attempts)
		require.Equal(t, api.CVM{VMUUID: vmID, ID: vmID, Status: api.StatusDeleted, DeletedAt: &at}, r.Value)

		b = setup(t, quick, slices.Concat(before, []answer{gone})...)
		rule, err := b.DeleteFirewallRule(t.Context(), vmID, ruleI)
		require.NoError(t, err)
		require.Equal(t, http.StatusGone, rule.Status)
	}
}

func TestNothingElseTakesGoneForASuccess(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{MinBackoff: time.Nanosecond}, lost, refusal(api.CodeGone))
	_, err := b.StopCVM(t.Context(), vmID)
	require.True(t, client.IsGone(err))
	require.True(t, client.IsNotFound(err))
	require.False(t, client.IsUnknown(err), "what is gone takes no stop, early or late")

	b = setup(t, client.Retry{}, with(http.StatusGone, "the page has moved", "Content-Type: text/html"))
	_, err = b.DeleteCVM(t.Context(), vmID)
	require.Equal(t, http.StatusGone, fail(t, err).Status, "a stranger's 410 says nothing of the CVM")
	b = setup(t, client.Retry{}, refusal(api.CodeNotFound))
	_, err = b.DeleteCVM(t.Context(), vmID)
	require.True(t, client.IsNotFound(err))
}

func TestWithoutRetryMakesOneAttempt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c change) {
		t.Helper()
		b := setup(t, client.Retry{}, lost, c.yes)
		_, _, err := c.call(t.Context(), b.Client, nil, client.WithoutRetry()) // nil: whoever has an option only sometimes
		require.ErrorIs(t, err, client.ErrAttempts)
		require.ErrorIs(t, err, errNetwork)
		require.True(t, client.IsUnknown(err))
		require.Len(t, b.requests(), 1)
	})
}

func TestReadsCarryNoKeyAndLeaveNothingUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{MaxAttempts: 2}, lost)
		_, err := b.CVM(t.Context(), vmID)
		e := fail(t, err)
		require.Equal(t, client.OutcomeNotDone, e.Outcome)
		require.True(t, e.Retryable)
		require.Empty(t, e.IdempotencyKey)
		require.Equal(t, []string{"", ""}, b.keys())
	})
}

func TestAnswersMayHoldWhatThisVersionDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{}, with(202, fmt.Sprintf(
		`{"vm_uuid":%q,"status":"hibernating","colour":"blue","progress":{"target":"frozen","eta":3},"operation":{"id":"op_1","kind":"cvm.freeze","status":"paused"}}`, vmID)))
	r, err := b.StopCVM(t.Context(), vmID)
	require.NoError(t, err)
	require.Equal(t, api.Status("hibernating"), r.Value.Status)
	require.Equal(t, api.OperationStatus("paused"), r.Value.Operation.Status)
}
