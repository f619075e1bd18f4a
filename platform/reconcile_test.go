package platform_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/platform"
)

// setupWithOwl is setup over a scripted Owl.
func setupWithOwl(t *testing.T, cfg owlapitest.Config, adjust ...func(*platform.Config)) (*testBundle, *owlapitest.Fake) {
	t.Helper()
	fake, url := owlapitest.Start(t, cfg)
	return setup(t, append([]func(*platform.Config){func(c *platform.Config) {
		c.OwlURL, c.ReconcileBackoffMax = url, 100*time.Millisecond
	}}, adjust...)...), fake
}

func (b *testBundle) create(name string) api.CVM {
	b.t.Helper()
	return b.post("/cvms", b.spec(name)).Expect(http.StatusAccepted).CVM()
}

func (b *testBundle) operation(id string) api.Operation {
	b.t.Helper()
	return b.get("/operations/" + id).Expect(http.StatusOK).Operation()
}

func (b *testBundle) ended(id string) api.Operation {
	b.t.Helper()
	op := b.get("/operations/" + id + "?wait=20s").Expect(http.StatusOK).Operation()
	require.True(b.t, op.Status.Ended(), op.Status)
	return op
}

func (b *testBundle) cvm(id api.ID) api.CVM {
	b.t.Helper()
	return b.get("/cvms/" + id.String()).Expect(http.StatusOK).CVM()
}

// creates is every create that reached Owl, by ID, in the order of arrival.
func creates(fake *owlapitest.Fake) map[api.ID][]owlapi.CreateCVM {
	out := map[api.ID][]owlapi.CreateCVM{}
	for _, r := range fake.Journal() {
		var batch owlapi.Batch
		if r.Path != owlapi.PathCVMsBatch || json.Unmarshal(r.Body, &batch) != nil {
			continue
		}
		for _, item := range batch.Items {
			var c owlapi.CreateCVM
			if json.Unmarshal(item, &c) == nil {
				out[c.ID] = append(out[c.ID], c)
			}
		}
	}
	return out
}

func TestEveryUnknownOutcomeIsTheSameCreateAgain(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(*owlapitest.Fake){
		"answer lost":      func(f *owlapitest.Fake) { f.DropNext(2) },
		"answer torn":      func(f *owlapitest.Fake) { f.TearNext(2) },
		"500":              func(f *owlapitest.Fake) { f.FailNext(2, http.StatusInternalServerError) },
		"503":              func(f *owlapitest.Fake) { f.FailNext(2, http.StatusServiceUnavailable) },
		"429":              func(f *owlapitest.Fake) { f.FailNext(2, http.StatusTooManyRequests) },
		"408":              func(f *owlapitest.Fake) { f.FailNext(2, http.StatusRequestTimeout) },
		"a status unheard": func(f *owlapitest.Fake) { f.FailNext(2, 299+1) },
		"404 for the call": func(f *owlapitest.Fake) { f.FailNext(2, http.StatusNotFound) },
		"unauthorized":     func(f *owlapitest.Fake) { f.FailNext(2, http.StatusUnauthorized) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, owl := setupWithOwl(t, owlapitest.Config{})
			misbehave(owl)
			cvm := b.create("web")
			b.run(b.service)
			op := b.ended(cvm.Operation.ID)
			require.Equal(t, api.OperationSucceeded, op.Status)
			require.Equal(t, int64(3), op.Attempts)
			require.Equal(t, api.StatusRunning, b.cvm(cvm.VMUUID).Status)

			sent := creates(owl)
			require.Len(t, sent, 1, "never another ID")
			for _, again := range sent[cvm.VMUUID] {
				require.Equal(t, sent[cvm.VMUUID][0], again, "never another request")
			}
		})
	}
}

func TestADefiniteRefusalFailsTheOperation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		code   api.Code
	}{
		"ID conflict": {http.StatusConflict, api.CodeIDConflict},
		"gone":        {http.StatusGone, api.CodeResourceDeleted},
		"invalid":     {http.StatusBadRequest, api.CodeInvalidRequest},
		"too large":   {http.StatusRequestEntityTooLarge, api.CodeBodyTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posts sync.Map
			owl := httptest.NewServer(answerItems(&posts, tc.status, tc.code))
			t.Cleanup(owl.Close)
			b := setup(t, func(c *platform.Config) { c.OwlURL = owl.URL })
			cvm := b.create("web")
			b.run(b.service)
			op := b.ended(cvm.Operation.ID)
			require.Equal(t, api.OperationFailed, op.Status)
			require.Equal(t, string(tc.code), op.Error.Code)
			shown := b.cvm(cvm.VMUUID)
			require.Equal(t, api.StatusFailed, shown.Status)
			require.False(t, shown.InProgress)
			require.Equal(t, string(tc.code), shown.Error.Code)
			require.Zero(t, b.count("cvms", "reconcile_after IS NOT NULL"), "nothing is left to do")

			// What never had a machine cannot be copied.
			path := "/apps/" + cvm.AppID.String() + "/cvms/" + cvm.VMUUID.String() + "/replicas"
			b.post(path, ``).Send().Refuse(api.CodeInvalidState)
		})
	}
}

func TestAnItemWithoutADefiniteAnswerStaysPending(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 408, 418, 425, 429, 500, 502, 503, 504, 401, 403, 0} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			var posts sync.Map
			owl := httptest.NewServer(answerItems(&posts, status, ""))
			t.Cleanup(owl.Close)
			b := setup(t, func(c *platform.Config) { c.OwlURL, c.ReconcileBackoffMax = owl.URL, 50*time.Millisecond })
			cvm := b.create("web")
			b.run(b.service)
			eventually(t, "it is tried again", func() bool { return b.operation(cvm.Operation.ID).Attempts >= 3 })
			require.Equal(t, api.OperationPending, b.operation(cvm.Operation.ID).Status)
			require.Equal(t, api.StatusProvisioning, b.cvm(cvm.VMUUID).Status)
		})
	}
}

// answerItems is an Owl that answers every item of a batch with one status.
func answerItems(posts *sync.Map, status int, code api.Code) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch owlapi.Batch
		_ = json.NewDecoder(r.Body).Decode(&batch)
		posts.Store(r.Header.Get(api.HeaderRequestID), true)
		var result owlapi.BatchResult
		for range batch.Items {
			result.Items = append(result.Items, owlapi.BatchItem{
				Status: status, Body: json.RawMessage(fmt.Sprintf(`{"error_code":%q,"detail":"because"}`, code)),
			})
		}
		_ = json.NewEncoder(w).Encode(result)
	})
}

func TestAMachineThatFailsFailsItsOperationAndNoOther(t *testing.T) {
	t.Parallel()
	b, _ := setupWithOwl(t, owlapitest.Config{Fail: func(name string) bool { return name == "doomed" }})
	b.run(b.service)
	good := b.create("web")
	path := "/apps/" + good.AppID.String() + "/cvms/" + good.VMUUID.String() + "/replicas"
	doomed := b.post(path, `{"name":"doomed"}`).Expect(http.StatusAccepted).CVM()
	require.Equal(t, api.OperationFailed, b.ended(doomed.Operation.ID).Status)
	require.Equal(t, owlapitest.CodeFailed, b.cvm(doomed.VMUUID).Error.Code)
	require.Equal(t, api.OperationSucceeded, b.ended(good.Operation.ID).Status)
}

func TestAnOperationOverSeveralEndsWithTheLast(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{})
	source := b.create("web")
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	release := owl.Hold()
	b.run(b.service)
	many := apitest.Decode[api.CVMs](b.post(path, `{"count":100}`).Expect(http.StatusAccepted))
	require.Equal(t, api.OperationPending, b.operation(many.Operation.ID).Status)
	release()
	require.Equal(t, api.OperationSucceeded, b.ended(many.Operation.ID).Status)
	for _, cvm := range many.Items {
		require.Equal(t, api.StatusRunning, b.cvm(cvm.VMUUID).Status)
	}
	require.Zero(t, b.count("operations", "open_targets <> 0"))
	require.Len(t, creates(owl), 101)
}

// TestAnOperationOverSeveralWaitsForItsLast: they are seen one after the
// other, and one of them fails.
func TestAnOperationOverSeveralWaitsForItsLast(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{})
	owl.PauseMachines(true)
	b.run(b.service)
	source := b.create("web")
	path := "/apps/" + source.AppID.String() + "/cvms/" + source.VMUUID.String() + "/replicas"
	many := apitest.Decode[api.CVMs](b.post(path, `{"count":3}`).Expect(http.StatusAccepted))
	eventually(t, "Owl has them", func() bool { return b.count("cvms", "confirmed") == 4 })
	require.Equal(t, api.OperationRunning, b.operation(many.Operation.ID).Status)

	owl.Observe(many.Items[0].VMUUID, api.StatusRunning, nil)
	owl.Observe(many.Items[1].VMUUID, api.StatusFailed, &api.ResourceError{Code: "X", Message: "because"})
	eventually(t, "two have ended", func() bool { return b.count("operation_targets", "ended_at IS NOT NULL") == 2 })
	require.Equal(t, api.OperationRunning, b.operation(many.Operation.ID).Status)
	require.Nil(t, b.operation(many.Operation.ID).FinishedAt)

	owl.Observe(many.Items[2].VMUUID, api.StatusRunning, nil)
	op := b.ended(many.Operation.ID)
	require.Equal(t, api.OperationFailed, op.Status, "failed if one failed")
	require.Equal(t, "X", op.Error.Code)
}

func TestManyCreatesGoInFewCallsOldestFirst(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{})
	var order []api.ID
	for i := range 30 {
		order = append(order, b.create(fmt.Sprint("app-", i)).VMUUID)
	}
	b.run(b.service)
	eventually(t, "all are running", func() bool { return b.count("operations", "status <> 'succeeded'") == 0 })
	var got []api.ID
	batches := 0
	for _, r := range owl.Journal() {
		if r.Path != owlapi.PathCVMsBatch {
			continue
		}
		batches++
		var batch struct{ Items []owlapi.CreateCVM }
		require.NoError(t, json.Unmarshal(r.Body, &batch))
		for _, item := range batch.Items {
			got = append(got, item.ID)
		}
	}
	require.Equal(t, order, got)
	require.LessOrEqual(t, batches, 2)
}

// TestSpecsThatFillABatchAreSentInSeveral: a batch has a limit in bytes too.
func TestSpecsThatFillABatchAreSentInSeveral(t *testing.T) {
	t.Parallel()
	// The lease bounds the call, and 8 MiB under the race detector take time.
	b, owl := setupWithOwl(t, owlapitest.Config{}, func(c *platform.Config) { c.ReconcileLease = time.Minute })
	const n, size = owlapi.MaxBatchBytes/api.MaxBodyBytes + 1, api.MaxBodyBytes - 1<<10
	for i := range n {
		// < is as long on the second hop as on the first.
		body := apitest.Spec(fmt.Sprint("app-", i), "x")
		body = strings.Replace(body, `"x"`, `"`+strings.Repeat("<\u2028>", size/5)+`"`, 1)
		b.post("/cvms", body).Expect(http.StatusAccepted)
	}
	b.run(b.service)
	eventually(t, "all are running", func() bool { return b.count("operations", "status = 'succeeded'") == n })
	for _, r := range owl.Journal() {
		require.LessOrEqual(t, len(r.Body), owlapi.MaxBatchBytes)
	}
}

func TestWhatOwlHasLostIsCreatedAgain(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{Boot: time.Hour})
	b.run(b.service)
	cvm := b.create("web")
	eventually(t, "Owl has it", func() bool { return b.count("cvms", "confirmed") == 1 })
	owl.Forget(cvm.VMUUID)
	eventually(t, "it is created again", func() bool { return len(creates(owl)[cvm.VMUUID]) >= 2 })
}

func TestWhatWasDeletedBelowUsFailsAndIsNotCreatedAgain(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{Boot: time.Hour})
	b.run(b.service)
	cvm := b.create("web")
	eventually(t, "Owl has it", func() bool { return b.count("cvms", "confirmed") == 1 })
	client := owlapi.New(owlapi.Config{BaseURL: b.cfg.OwlURL})
	require.NoError(t, client.DeleteCVM(t.Context(), cvm.VMUUID))
	op := b.ended(cvm.Operation.ID)
	require.Equal(t, api.OperationFailed, op.Status)
	require.Equal(t, string(api.CodeResourceDeleted), op.Error.Code)
	require.Len(t, creates(owl)[cvm.VMUUID], 1)
}

// TestAFrozenWorkerChangesNothing: its claim has passed to another, and then
// its answer arrives.
func TestAFrozenWorkerChangesNothing(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{}, func(c *platform.Config) { c.ReconcileLease = 10 * time.Second })
	release := owl.Hold()
	defer release()
	b.run(b.service)
	cvm := b.create("web")
	eventually(t, "the push is under way", func() bool { return len(owl.Journal()) > 0 })
	// Somebody else claims the row, as if the lease had run out.
	require.NoError(t, b.db.Exec(`UPDATE cvms SET fence = fence + 1, reconcile_after = now() + interval '1 hour'`).Error)
	release()
	eventually(t, "the result is refused", func() bool {
		return strings.Contains(string(b.client().Raw("/metrics").Body), "roost_reconcile_stale_results_total 1")
	})
	require.Equal(t, 1, b.count("cvms", "NOT confirmed AND reconcile_after > now()"))
	require.Equal(t, api.StatusProvisioning, b.cvm(cvm.VMUUID).Status)

	// And when the other has gone, what was seen meanwhile stands in no way.
	require.NoError(t, b.db.Exec(`UPDATE cvms SET reconcile_after = now()`).Error)
	require.Equal(t, api.OperationSucceeded, b.ended(cvm.Operation.ID).Status)
}

func TestStopLetsAPushFinishAndStartGoesOn(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{})
	release := owl.Hold()
	stop := b.run(b.service)
	cvm := b.create("web")
	eventually(t, "the push is under way", func() bool { return len(owl.Journal()) > 0 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	release()
	<-stopped
	require.Equal(t, 1, b.count("cvms", "confirmed"), "the answer was not thrown away")

	next, _ := b.node()
	require.NoError(t, b.db.Exec(`UPDATE cvms SET reconcile_after = now()`).Error) // the lease has run out
	b.run(next)
	require.Equal(t, api.OperationSucceeded, b.ended(cvm.Operation.ID).Status)
	require.Len(t, creates(owl)[cvm.VMUUID], 1, "what is confirmed is not posted again")
}

// TestNothingIsPushedWithoutItsSpec: the row was claimed, and then its spec
// could not be read. Owl would refuse a create without one for good.
func TestNothingIsPushedWithoutItsSpec(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{})
	cvm := b.create("web")
	require.NoError(t, b.db.Exec(`ALTER TABLE specs RENAME TO specs_away`).Error)
	b.run(b.service)
	eventually(t, "the spec could not be read", func() bool { return strings.Contains(b.log.String(), "read specs of due rows") })
	require.NoError(t, b.db.Exec(`ALTER TABLE specs_away RENAME TO specs`).Error)
	require.NoError(t, b.db.Exec(`UPDATE cvms SET reconcile_after = now()`).Error) // the lease has run out
	require.Equal(t, api.OperationSucceeded, b.ended(cvm.Operation.ID).Status)
	require.Len(t, creates(owl)[cvm.VMUUID], 1)
}

// TestOneItemThatSpoilsItsBatchFailsAlone: Owl refuses every batch with it.
func TestOneItemThatSpoilsItsBatchFailsAlone(t *testing.T) {
	t.Parallel()
	fake := owlapitest.New(owlapitest.Config{})
	owl := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "poison") {
			w.Header().Set("Content-Type", api.ProblemContentType)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error_code":"INVALID_REQUEST","detail":"because"}`)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(owl.Close)
	b := setup(t, func(c *platform.Config) { c.OwlURL = owl.URL })
	first, poison, last := b.create("first"), b.create("poison"), b.create("last")
	b.run(b.service)
	require.Equal(t, api.OperationFailed, b.ended(poison.Operation.ID).Status)
	require.Equal(t, "because", b.cvm(poison.VMUUID).Error.Message)
	require.Equal(t, api.OperationSucceeded, b.ended(first.Operation.ID).Status)
	require.Equal(t, api.OperationSucceeded, b.ended(last.Operation.ID).Status)
}

// TestRequestIDsGoThroughBothHops: the push has one, and Platform's log ties
// it to the operation.
func TestRequestIDsGoThroughBothHops(t *testing.T) {
	t.Parallel()
	b, owl := setupWithOwl(t, owlapitest.Config{})
	b.run(b.service)
	cvm := b.create("web")
	b.ended(cvm.Operation.ID)
	pushed := ""
	for _, r := range owl.Journal() {
		if r.Path == owlapi.PathCVMsBatch {
			pushed = r.RequestID
		}
	}
	require.True(t, api.ValidRequestID(pushed))
	found := false
	for line := range strings.Lines(b.log.String()) {
		found = found || strings.Contains(line, pushed) && strings.Contains(line, cvm.Operation.ID)
	}
	require.True(t, found, "no log line ties the push to the operation")
}
