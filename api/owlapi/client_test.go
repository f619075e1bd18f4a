package owlapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roost/api"
	"roost/api/owlapi"
)

// serve answers every request with fn and counts them.
func serve(t *testing.T, fn http.HandlerFunc) (client *owlapi.Client, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		fn(w, r)
	}))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return owlapi.New(owlapi.Config{
		BaseURL: server.URL + "/", Token: "secret", HTTP: &http.Client{Transport: transport, Timeout: 10 * time.Second},
	}), requests
}

func request() owlapi.CreateCVM {
	mint := api.NewMinter()
	return owlapi.CreateCVM{ID: mint.ID(), AppID: mint.ID(), Name: "web", Spec: json.RawMessage(`{"a":"<&>"}`)}
}

// Each way in which an answer can fail to say what became of the request.
func TestUnknownOutcomesAreSaidToBeUnknownAndNotRepeated(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"connection cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"torn body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"id":`))
			panic(http.ErrAbortHandler)
		},
		"torn at a boundary": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{}`))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
		"no body":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, requests := serve(t, answer)
			_, _, err := client.CreateCVM(t.Context(), request())
			if !errors.Is(err, owlapi.ErrUnknown) {
				t.Errorf("CreateCVM = %v, want ErrUnknown", err)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests were sent, want 1", n)
			}
		})
	}
}

// Somebody else answers in Owl's place: nothing is lost for that.
func TestAnAnswerWithoutItemsIsNoEmptyList(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{}`, `{"items":null}`, `null`} {
		client, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
		if _, err := client.CVMsByID(t.Context(), []api.ID{request().ID}); !errors.Is(err, owlapi.ErrUnknown) {
			t.Errorf("CVMsByID of %s = %v, want ErrUnknown", body, err)
		}
		if _, err := client.FirewallRules(t.Context(), owlapi.List{}); !errors.Is(err, owlapi.ErrUnknown) {
			t.Errorf("FirewallRules of %s = %v, want ErrUnknown", body, err)
		}
	}
}

// Go's transport repeats requests on reused connections that were dropped, if
// it can send the body again. Here it cannot.
func TestADroppedReusedConnectionIsNotRetried(t *testing.T) {
	t.Parallel()
	var drop atomic.Bool
	client, requests := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if drop.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte(`{}`))
	})
	if _, _, err := client.CreateCVM(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	drop.Store(true)
	if _, _, err := client.CreateCVM(t.Context(), request()); !errors.Is(err, owlapi.ErrUnknown) {
		t.Errorf("CreateCVM = %v, want ErrUnknown", err)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests were sent, want 2", n)
	}
}

func TestErrorsCarryTheProblem(t *testing.T) {
	t.Parallel()
	client, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", api.ProblemContentType+"; charset=utf-8")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error_code":"UNAVAILABLE","detail":"busy","retryable":true,"added_later":1}`))
	})
	_, err := client.GetCVM(t.Context(), request().ID)
	var answer *owlapi.StatusError
	if !errors.As(err, &answer) {
		t.Fatalf("GetCVM = %v, want a StatusError", err)
	}
	if answer.Status != 503 || answer.RetryAfter != 7*time.Second || answer.Problem.ErrorCode != api.CodeUnavailable {
		t.Errorf("StatusError = %+v", answer)
	}
	if errors.Is(err, owlapi.ErrUnknown) {
		t.Error("an answer is not unknown")
	}
}

// What stands between the services may answer in its own words.
func TestErrorsThatAreNoProblem(t *testing.T) {
	t.Parallel()
	client, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("<html>bad gateway</html>"))
	})
	var answer *owlapi.StatusError
	if err := client.DeleteCVM(t.Context(), request().ID); !errors.As(err, &answer) || answer.Status != 502 {
		t.Errorf("DeleteCVM = %v, want a 502", err)
	}
	if _, err := client.GetCVM(t.Context(), request().ID); !errors.As(err, &answer) || answer.Status != 307 {
		t.Errorf("GetCVM = %v, want the redirect itself", err)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests were sent, want 2", n)
	}
}

func TestRequestsAreWhatTheContractSays(t *testing.T) {
	t.Parallel()
	create := request()
	id := api.NewMinter().RequestID()
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var body owlapi.CreateCVM
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || string(body.Spec) != string(create.Spec) {
			t.Errorf("body = %+v, %v", body, err)
		}
		for name, want := range map[string]string{
			"Authorization": "Bearer secret", "Content-Type": "application/json", api.HeaderRequestID: id,
			api.HeaderIdempotencyKey: "", // it would make the transport repeat
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if r.Method+r.URL.Path != "POST/v1/cvms" {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{}`))
	})
	if _, created, err := client.CreateCVM(owlapi.WithRequestID(t.Context(), id), create); err != nil || !created {
		t.Errorf("CreateCVM = %v, %v", created, err)
	}
}

func TestABatchWithTooFewAnswersIsUnknown(t *testing.T) {
	t.Parallel()
	client, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"items":[{"status":201,"body":{}}]}`))
	})
	_, err := client.CreateCVMs(t.Context(), []json.RawMessage{[]byte(`{}`), []byte(`{}`)})
	if !errors.Is(err, owlapi.ErrUnknown) {
		t.Errorf("CreateCVMs = %v, want ErrUnknown", err)
	}
}

func TestBatchItemsDecode(t *testing.T) {
	t.Parallel()
	var answer *owlapi.StatusError
	item := owlapi.BatchItem{Status: 409, Body: []byte(`{"status":409,"error_code":"ID_CONFLICT"}`)}
	if _, _, err := item.Decode(); !errors.As(err, &answer) || answer.Problem.ErrorCode != api.CodeIDConflict {
		t.Errorf("Decode = %v", err)
	}
	item = owlapi.BatchItem{Status: 200, Body: []byte(`[]`)}
	if _, _, err := item.Decode(); !errors.Is(err, owlapi.ErrUnknown) {
		t.Errorf("Decode = %v, want ErrUnknown", err)
	}
}

// Whoever talks to Owl links neither a web framework nor an ORM.
func TestImportClosure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if path != "roost/api" && path != "roost/api/owlapi" && path != "github.com/oklog/ulid/v2" {
			t.Errorf("imports %s", path)
		}
	}
}
