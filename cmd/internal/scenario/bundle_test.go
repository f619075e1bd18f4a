package scenario_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
	"roost/cmd/internal/lossy"
)

// bundle is a stack of processes and what scenarios do again and again.
type bundle struct {
	*harness.Stack

	t *testing.T
}

func setup(t *testing.T, o harness.Options) *bundle {
	t.Helper()
	return &bundle{Stack: harness.Start(t, o), t: t}
}

// back is the proxy between the first Platform and its Owl.
func (b *bundle) back() *lossy.Proxy { return b.Platforms[0].Back }

// create makes a CVM of this name; its key is the name.
func (b *bundle) create(name string) *apitest.Call { return createOn(b.Client(), name) }

func createOn(c apitest.Client, name string) *apitest.Call {
	return c.Post("/cvms", apitest.Spec(name, "services: {}")).Key(name)
}

// ask posts an action to a CVM, under a key of its own.
func (b *bundle) ask(id api.ID, action string) *apitest.Call { return askOn(b.Client(), id, action) }

func askOn(c apitest.Client, id api.ID, action string) *apitest.Call {
	return c.Post("/cvms/"+id.String()+"/"+action, "").Key(action + "-" + id.String())
}

func (b *bundle) del(id api.ID) *apitest.Call { return delOn(b.Client(), id) }

func delOn(c apitest.Client, id api.ID) *apitest.Call {
	return c.Request(http.MethodDelete, "/cvms/"+id.String(), "")
}

// running makes a CVM and waits until it runs.
func (b *bundle) running(name string) api.CVM {
	b.t.Helper()
	cvm := b.Insist(b.create(name)).Expect(http.StatusAccepted).CVM()
	require.Equal(b.t, api.OperationSucceeded, b.Wait(cvm.Operation.ID).Status)
	return b.get(cvm.VMUUID)
}

func (b *bundle) get(id api.ID) api.CVM {
	b.t.Helper()
	return b.Insist(b.Client().Request(http.MethodGet, "/cvms/"+id.String(), "")).Expect(http.StatusOK).CVM()
}

// owlStatus is the status of Owl's row: "deleted" for a tombstone, "" for none.
func (b *bundle) owlStatus(id api.ID) string {
	b.t.Helper()
	found := harness.Rows[string](b.Stack, b.OwlDB, `SELECT CASE WHEN deleted_at IS NOT NULL THEN 'deleted' ELSE status END
		FROM cvms WHERE id = ?`, id)
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

// inTurn lets each request meet the fates one after the other, by its method,
// path, key and body; further repetitions pass.
func inTurn(match lossy.Match, fates ...lossy.Fate) lossy.Policy {
	var mu sync.Mutex
	tries := map[string]int{}
	return func(r *lossy.Request) lossy.Fate {
		if !match(r) {
			return lossy.Pass()
		}
		mu.Lock()
		defer mu.Unlock()
		same := r.Method + " " + r.Path + " " + r.Header.Get(api.HeaderIdempotencyKey) + " " + string(r.Body)
		tries[same]++
		if n := tries[same]; n <= len(fates) {
			return fates[n-1]
		}
		return lossy.Pass()
	}
}

// ended is a context that ends when done is closed.
func ended(t *testing.T, done <-chan struct{}) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx
}
