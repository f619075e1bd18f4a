package client_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/client"
)

// held is an answer that the server holds for as long as it is asked to, or
// until the operation ends.
func held(ends time.Duration, before, after answer) answer {
	return func(req *http.Request) (*http.Response, error) {
		wait, _ := time.ParseDuration(req.URL.Query().Get("wait"))
		left := time.Until(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(ends)) // bubbles begin at 2000
		select {
		case <-req.Context().Done():
			return nil, req.Context().Err()
		case <-time.After(min(wait, max(0, left))):
		}
		if left <= wait {
			return after(req)
		}
		return before(req)
	}
}

func operation(status api.OperationStatus, more string) answer {
	return with(http.StatusOK, fmt.Sprintf(`{"id":"op_1","kind":"cvm.create","status":%q,"updated_at":"2026-11-21T17:00:00Z"%s}`, status, more))
}

func machine(status api.Status, inProgress bool, operation string) answer {
	return with(http.StatusOK, fmt.Sprintf(`{"vm_uuid":%q,"status":%q,"in_progress":%t,"operation":{"id":"op_1","kind":"cvm.create","status":%q},
		"error":{"code":"SIM_FAILED","message":"it would not boot"}}`, vmID, status, inProgress, operation))
}

func TestAWaiterReturnsWhenTheOperationEndsAndAsksSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{AttemptTimeout: 2 * time.Second}, held(10*time.Minute, operation("running", ""), operation("succeeded", "")))
		start := time.Now()
		var seen []api.OperationStatus
		op, err := b.WaitOperation(t.Context(), "op_1", func(op api.Operation) { seen = append(seen, op.Status) })
		require.NoError(t, err)
		require.Equal(t, api.OperationSucceeded, op.Status)
		require.Equal(t, []api.OperationStatus{"running", "succeeded"}, seen, "what does not differ is not told again")
		require.Equal(t, 10*time.Minute, time.Since(start), "at once when it ends")
		require.Less(t, len(b.requests()), 32)
		require.Equal(t, "/api/v1/operations/op_1", b.requests()[0].uri, "first how it is now")
		for _, s := range b.requests() {
			require.NotContains(t, s.uri, "wait=30s", "at which many a gateway gives an answer up")
		}
	})
}

func TestAWaiterDoesNotAskInACircle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := setup(t, client.Retry{}, func(req *http.Request) (*http.Response, error) {
			if n++; n < 30 {
				return operation("running", "")(req) // at once: it knows no ?wait=
			}
			return operation("succeeded", "")(req)
		})
		start := time.Now()
		_, err := b.WaitOperation(t.Context(), "op_1", nil)
		require.NoError(t, err)
		require.Greater(t, time.Since(start), 25*time.Second)
	})
}

// TestAWaiterSurvivesWhateverEnds goes on for longer than any policy of a call.
func TestAWaiterSurvivesWhateverEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(time.Hour)
		b := setup(t, client.Retry{MaxAttempts: 2, Deadline: time.Second}, func(req *http.Request) (*http.Response, error) {
			if time.Now().Before(up) {
				return []answer{lost, refusal(api.CodeUnavailable), silent, with(502, "", "Content-Type: text/html")}[time.Now().Nanosecond()%4](req)
			}
			return operation("succeeded", "")(req)
		})
		op, err := b.WaitOperation(t.Context(), "op_1", nil)
		require.NoError(t, err)
		require.Equal(t, api.OperationSucceeded, op.Status)
	})
}

func TestAWaiterEndsWithItsContextAndShowsWhatItSaw(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{}, operation("running", ""), silent)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		op, err := b.WaitOperation(ctx, "op_1", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.LessOrEqual(t, time.Since(start), time.Minute)
		require.Equal(t, api.OperationRunning, op.Status)
		require.False(t, client.IsUnknown(err), "waiting changes nothing")

		machines := setup(t, client.Retry{}, machine("starting", true, "running"), silent)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cvm, err := machines.WaitCVM(ctx, vmID, nil, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, api.StatusStarting, cvm.Status)
	})
}

func TestAnOperationThatEndsBadlyIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t, client.Retry{}, operation("failed", `,"error":{"code":"SIM_FAILED","message":"it would not boot"}`))
	op, err := b.WaitOperation(t.Context(), "op_1", nil)
	var failed *client.OperationError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, op, failed.Operation)
	require.EqualError(t, err, "operation op_1 (cvm.create) failed: SIM_FAILED: it would not boot")

	b = setup(t, client.Retry{}, operation("canceled", `,"error":{"code":"SUPERSEDED","message":"a later stop","superseded_by":"op_2"}`))
	_, err = b.WaitOperation(t.Context(), "op_1", nil)
	require.EqualError(t, err, "operation op_1 (cvm.create) canceled: SUPERSEDED by op_2: a later stop")

	b = setup(t, client.Retry{}, refusal(api.CodeNotFound))
	_, err = b.WaitOperation(t.Context(), "op_1", nil)
	require.True(t, client.IsNotFound(err), "a refusal is final for a waiter, too")
	require.Len(t, b.requests(), 1)
}

func TestAPollIsShorterThanTheHTTPClientsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setupWith(t, client.Config{HTTPClient: &http.Client{Timeout: 4 * time.Second}},
			held(time.Minute, operation("running", ""), operation("succeeded", "")))
		_, err := b.WaitOperation(t.Context(), "op_1", nil)
		require.NoError(t, err)
		for _, s := range b.requests() {
			require.NotContains(t, s.uri, "wait=4s")
		}
		require.Contains(t, b.requests()[len(b.requests())-1].uri, "wait=2s")
	})
}

// TestWaitCVM is what each goal makes of each end.
func TestWaitCVM(t *testing.T) {
	t.Parallel()
	at := api.NewTime(time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC))
	gone := problem(&api.Error{Code: api.CodeResourceDeleted, DeletedAt: &at})
	anything := func(api.CVM) bool { return true }
	for _, c := range []struct {
		name  string
		until func(api.CVM) bool
		ends  answer
		want  api.Status
		bad   bool
	}{
		{"settled, running", nil, machine("running", false, "succeeded"), api.StatusRunning, false},
		{"settled, failed", client.Settled, machine("failed", false, "failed"), api.StatusFailed, true},
		{"settled, gone", nil, gone, api.StatusDeleted, false},
		{"running, gone", client.Reached(api.StatusRunning), gone, api.StatusDeleted, true},
		{"running, failed", client.Reached(api.StatusRunning), machine("failed", false, "failed"), api.StatusFailed, true},
		{"failed, failed", client.Reached(api.StatusFailed), machine("failed", false, "failed"), api.StatusFailed, false},
		{"deleted, gone", client.Reached(api.StatusDeleted), gone, api.StatusDeleted, false},
		{"one's own", anything, machine("starting", true, "running"), api.StatusStarting, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, client.Retry{}, c.ends)
				cvm, err := b.WaitCVM(t.Context(), vmID, c.until, nil)
				require.Equal(t, c.want, cvm.Status)
				require.Equal(t, vmID, cvm.VMUUID)
				var bad *client.CVMError
				if c.bad {
					require.ErrorAs(t, err, &bad)
					require.Equal(t, cvm, bad.CVM)
				} else {
					require.NoError(t, err)
				}
			})
		})
	}
}

func TestWaitCVMFollowsTheOperationsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, client.Retry{},
			machine("starting", true, "running"), operation("succeeded", ""), // another one has begun meanwhile
			lost, machine("restarting", true, "pending"), operation("running", ""), operation("succeeded", ""),
			machine("restarting", true, "succeeded"), // it is not quite there
			machine("running", false, "succeeded"))
		var seen []api.Status
		cvm, err := b.WaitCVM(t.Context(), vmID, client.Reached(api.StatusRunning), func(c api.CVM) { seen = append(seen, c.Status) })
		require.NoError(t, err)
		require.Equal(t, api.StatusRunning, cvm.Status)
		require.Equal(t, []api.Status{"starting", "restarting", "running"}, seen)
	})
}
