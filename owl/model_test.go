package owl_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
	"roost/api/openapitest"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/owl"
	"roost/owl/driver/sim"
)

// The fake is the model: whatever is sent, in whatever order, both answer the
// same. Neither has machines here, so that only the promises are compared.
func TestAnySequenceIsAnsweredAsByTheFake(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d, err := sim.New(b.sim)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	service, err := owl.New(owl.Config{
		DB: b.db, Driver: d, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	server := httptest.NewServer(service.Handler())
	t.Cleanup(server.Close)
	fake, url := owlapitest.Start(t, owlapitest.Config{})
	fake.PauseMachines(true)
	model := owlapi.New(owlapi.Config{BaseURL: url})
	subject := owlapi.New(owlapi.Config{BaseURL: server.URL, HTTP: openapitest.OwlClient(t)})

	rapid.Check(t, func(rt *rapid.T) {
		ids := []api.ID{b.mint.ID(), b.mint.ID(), b.mint.ID()}
		app := b.mint.ID()
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			step := drawStep(rt, ids, app)
			want, got := step(t, model), step(t, subject)
			require.Equal(rt, want, got)
		}
	})
}

// step sends one request and returns what of its answer must be the same.
type step func(t *testing.T, c *owlapi.Client) told

type told struct {
	Status     int
	Code       api.Code
	Fields     []api.FieldError
	ID         api.ID
	Name       string
	Generation int64
	Power      api.Power
	Going      api.Status
	Spec       string
}

func drawStep(rt *rapid.T, ids []api.ID, app api.ID) step {
	id := rapid.SampledFrom(ids).Draw(rt, "id")
	spec := json.RawMessage(rapid.SampledFrom([]string{
		`{"n":1}`, `{"n":1.0}`, `{"n":9007199254740993}`, `{"n":9007199254740992}`, `{"n": 1 ,"z":null}`, `{"a":[1,{"b":null}]}`,
	}).Draw(rt, "spec"))
	power := rapid.SampledFrom([]api.Power{api.PowerRunning, api.PowerStopped}).Draw(rt, "power")
	generation := rapid.Int64Range(1, 5).Draw(rt, "generation")
	switch rapid.SampledFrom([]string{"post", "post", "batch", "put", "put", "delete", "get"}).Draw(rt, "call") {
	case "post":
		return post(owlapi.CreateCVM{ID: id, AppID: app, Name: "web", Power: power, Spec: spec})
	case "batch":
		return batch(owlapi.CreateCVM{ID: id, AppID: app, Name: "web", Power: power, Spec: spec})
	case "put":
		return func(t *testing.T, c *owlapi.Client) told {
			t.Helper()
			record, err := c.PutCVM(t.Context(), id, owlapi.PutCVM{Generation: generation, Power: power, Spec: spec})
			return tell(t, record, false, err)
		}
	case "delete":
		return func(t *testing.T, c *owlapi.Client) told {
			t.Helper()
			return tell(t, owlapi.CVM{}, false, c.DeleteCVM(t.Context(), id))
		}
	}
	return func(t *testing.T, c *owlapi.Client) told {
		t.Helper()
		record, err := c.GetCVM(t.Context(), id)
		return tell(t, record, false, err)
	}
}

func post(r owlapi.CreateCVM) step {
	return func(t *testing.T, c *owlapi.Client) told {
		t.Helper()
		record, created, err := c.CreateCVM(t.Context(), r)
		return tell(t, record, created, err)
	}
}

// batch sends the request twice in one batch and tells of the second.
func batch(r owlapi.CreateCVM) step {
	return func(t *testing.T, c *owlapi.Client) told {
		t.Helper()
		item, err := json.Marshal(r)
		require.NoError(t, err)
		answers, err := c.CreateCVMs(t.Context(), []json.RawMessage{item, item})
		require.NoError(t, err)
		record, created, err := answers[1].Decode()
		return tell(t, record, created, err)
	}
}

func tell(t *testing.T, record owlapi.CVM, created bool, err error) told {
	t.Helper()
	out := told{
		Status: http.StatusOK, ID: record.ID, Name: record.Name, Generation: record.Generation,
		Power: record.Power, Going: record.Status, Spec: string(record.Spec),
	}
	if created {
		out.Status = http.StatusCreated
	}
	if err == nil {
		return out
	}
	var answer *owlapi.StatusError
	require.ErrorAs(t, err, &answer)
	out.Status, out.Code, out.Fields = answer.Status, answer.Problem.ErrorCode, answer.Problem.Errors
	return out
}
