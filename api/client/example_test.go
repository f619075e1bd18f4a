package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"roost/api"
	"roost/api/client"
)

// toy answers as Platform does, as far as the examples go: a create is kept
// under its key, an answer is lost now and then, a name can be taken.
type toy struct {
	mu    sync.Mutex
	made  []api.CVM
	byKey map[string]int
}

func newToy() *httptest.Server {
	t := &toy{byKey: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/cvms", t.create)
	mux.HandleFunc("GET /api/v1/cvms", func(w http.ResponseWriter, _ *http.Request) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.answer(w, http.StatusOK, api.Page[api.CVM]{Items: t.made})
	})
	mux.HandleFunc("GET /api/v1/operations/{id}", func(w http.ResponseWriter, r *http.Request) {
		t.answer(w, http.StatusOK, api.Operation{ID: r.PathValue("id"), Kind: api.KindCVMCreate, Status: api.OperationSucceeded})
	})
	mux.HandleFunc("GET /api/v1/idempotency-keys/{key}", t.key)
	return httptest.NewServer(mux)
}

func (t *toy) create(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var spec api.Spec
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &spec)
	n, known := t.byKey[r.Header.Get(api.HeaderIdempotencyKey)]
	if known {
		w.Header().Set(api.HeaderIdempotentReplay, "true")
		t.answer(w, http.StatusAccepted, t.made[n])
		return
	}
	for _, old := range t.made {
		if old.Name == spec.Name {
			e := api.Errorf(api.CodeAppExists, "the name %s is taken.", spec.Name)
			e.VMUUID = &old.VMUUID
			w.Header().Set("Content-Type", api.ProblemContentType)
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(e.Problem("01J"))
			return
		}
	}
	t.byKey[r.Header.Get(api.HeaderIdempotencyKey)] = len(t.made)
	id := api.ID{15: byte(len(t.made) + 1)}
	t.made = append(t.made, api.CVM{
		VMUUID: id, ID: id, Name: spec.Name, Status: api.StatusProvisioning, InProgress: true,
		Operation: &api.OperationRef{ID: "op_1", Kind: api.KindCVMCreate, Status: api.OperationPending},
	})
	if spec.Name == "unlucky" {
		panic(http.ErrAbortHandler) // it is made; who asked does not hear of it
	}
	t.answer(w, http.StatusAccepted, t.made[len(t.made)-1])
}

func (t *toy) key(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, known := t.byKey[r.PathValue("key")]
	if !known {
		w.Header().Set("Content-Type", api.ProblemContentType)
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(api.Errorf(api.CodeNotFound, "the key is not bound so far.").Problem("01J"))
		return
	}
	t.answer(w, http.StatusOK, api.Key{State: "bound", RequestID: "01J", ResourceID: &t.made[n].VMUUID})
}

func (*toy) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// web is what the examples ask for.
func web(name string) api.Spec {
	return api.Spec{
		Name: name, InstanceType: "tdx.small",
		ComposeFile: &api.ComposeFile{DockerComposeFile: "services: {web: {image: nginx}}"},
	}
}

// Create a machine and wait until it runs. That its answer is lost on the way
// shows nowhere but in Attempts and Replayed.
func Example() {
	server := newToy()
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()

	c, err := client.New(client.Config{Endpoint: server.URL, Token: "from-roost-dev"})
	if err != nil {
		fmt.Println(err)
		return
	}
	made, err := c.CreateCVM(ctx, web("unlucky"))
	if err != nil {
		fmt.Println(err) // with the key, if the outcome is unknown
		return
	}
	fmt.Println(made.Value.VMUUID, "after", made.Attempts, "attempts, replayed:", made.Replayed)

	op, err := c.WaitOperation(ctx, made.Value.Operation.ID, func(op api.Operation) {
		fmt.Println("…", op.Status)
	})
	fmt.Println(op.Kind, op.Status, err)
	// Output:
	// 00000000-0000-0000-0000-000000000001 after 2 attempts, replayed: true
	// … succeeded
	// cvm.create succeeded <nil>
}

// A program that may die in the middle writes its key down first. What is
// unknown is made certain by the same call under the same key, here or in any
// other process.
func ExampleWithIdempotencyKey() {
	server := newToy()
	defer server.Close()
	c, _ := client.New(client.Config{Endpoint: server.URL, Token: "t"})
	ctx := context.Background()

	const key = "deploy-2026-11-21/web" // or c.NewIdempotencyKey()
	_, err := c.CreateCVM(ctx, web("unlucky"), client.WithIdempotencyKey(key), client.WithoutRetry())
	fmt.Println("unknown:", client.IsUnknown(err))

	again, err := c.CreateCVM(ctx, web("unlucky"), client.WithIdempotencyKey(key))
	fmt.Println(again.Value.VMUUID, "replayed:", again.Replayed, err)
	// Output:
	// unknown: true
	// 00000000-0000-0000-0000-000000000001 replayed: true <nil>
}

// Did my lost create happen?
func ExampleClient_LookupKey() {
	server := newToy()
	defer server.Close()
	c, _ := client.New(client.Config{Endpoint: server.URL, Token: "t"})
	ctx := context.Background()

	_, err := c.CreateCVM(ctx, web("unlucky"), client.WithoutRetry())
	var lost *client.Error
	if errors.As(err, &lost) && lost.Outcome == client.OutcomeUnknown {
		k, err := c.LookupKey(ctx, lost.IdempotencyKey)
		fmt.Println(k.State, k.ResourceID, err)
	}
	_, err = c.LookupKey(ctx, "never-used")
	fmt.Println("not so far:", client.IsNotFound(err))
	// Output:
	// bound 00000000-0000-0000-0000-000000000001 <nil>
	// not so far: true
}

// Pages are read as the loop goes on; leave it when you have seen enough.
func ExampleClient_CVMs() {
	server := newToy()
	defer server.Close()
	c, _ := client.New(client.Config{Endpoint: server.URL, Token: "t"})
	ctx := context.Background()
	for _, name := range []string{"web", "api", "db"} {
		if _, err := c.CreateCVM(ctx, web(name)); err != nil {
			fmt.Println(err)
		}
	}
	for cvm, err := range c.CVMs(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(cvm.Name, cvm.Status)
	}
	// Output:
	// web provisioning
	// api provisioning
	// db provisioning
}

// What to do about an error is a question of its kind, not of its words.
func ExampleError() {
	server := newToy()
	defer server.Close()
	c, _ := client.New(client.Config{Endpoint: server.URL, Token: "t"})
	ctx := context.Background()
	_, _ = c.CreateCVM(ctx, web("web"))

	_, err := c.CreateCVM(ctx, web("web"))
	var e *client.Error
	switch {
	case err == nil:
		fmt.Println("made")
	case client.IsUnknown(err):
		fmt.Println("repeat it under its key")
	case client.HasCode(err, api.CodeAppExists) && errors.As(err, &e):
		fmt.Println("adopt", e.VMUUID)
	case client.IsAuth(err), client.IsInvalid(err):
		fmt.Println("correct the token or the request")
	default:
		fmt.Println(err)
	}
	// Output:
	// adopt 00000000-0000-0000-0000-000000000001
}
