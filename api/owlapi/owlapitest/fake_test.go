package owlapitest_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
)

func TestFakeConforms(t *testing.T) {
	t.Parallel()
	_, url := owlapitest.Start(t, owlapitest.Config{Token: "secret", Boot: 20 * time.Millisecond})
	owlapitest.Run(t, owlapitest.Server{URL: url, Token: "secret"})
}

type testBundle struct {
	*owlapitest.Fake
	client *owlapi.Client
	create owlapi.CreateCVM
}

func setup(t *testing.T, cfg owlapitest.Config) *testBundle {
	t.Helper()
	fake, url := owlapitest.Start(t, cfg)
	mint := api.NewMinter()
	return &testBundle{
		Fake: fake, client: owlapi.New(owlapi.Config{BaseURL: url, Token: cfg.Token}),
		create: owlapi.CreateCVM{ID: mint.ID(), AppID: mint.ID(), Name: "web", Spec: json.RawMessage(`{}`)},
	}
}

func (b *testBundle) post(t *testing.T) (created bool, err error) {
	t.Helper()
	_, created, err = b.client.CreateCVM(t.Context(), b.create)
	return created, err
}

func TestFailNextDoesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, owlapitest.Config{})
	b.FailNext(2, http.StatusServiceUnavailable)
	for range 2 {
		_, err := b.post(t)
		var answer *owlapi.StatusError
		require.ErrorAs(t, err, &answer)
		require.Equal(t, http.StatusServiceUnavailable, answer.Status)
		require.Positive(t, answer.RetryAfter)
	}
	require.Zero(t, b.Records())
	created, err := b.post(t)
	require.NoError(t, err)
	require.True(t, created)
}

func TestLostAnswersAreOfWorkThatWasDone(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*owlapitest.Fake, int){
		"DropNext": (*owlapitest.Fake).DropNext, "TearNext": (*owlapitest.Fake).TearNext,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, owlapitest.Config{})
			lose(b.Fake, 1)
			_, err := b.post(t)
			require.ErrorIs(t, err, owlapi.ErrUnknown)
			require.Equal(t, 1, b.Records())
			created, err := b.post(t)
			require.NoError(t, err)
			require.False(t, created)
			require.Len(t, b.Journal(), 2)
			require.Equal(t, http.StatusOK, b.Journal()[1].Status)
		})
	}
}

// F19: a create that is held on its way arrives after the deletion.
func TestHoldDeliversLate(t *testing.T) {
	t.Parallel()
	b := setup(t, owlapitest.Config{})
	release := b.Hold()
	answered := make(chan error, 1)
	go func() {
		_, err := b.post(t)
		answered <- err
	}()
	require.Eventually(t, func() bool { return len(b.Journal()) == 1 }, 5*time.Second, time.Millisecond)
	require.Zero(t, b.Records())
	release()
	release()
	require.NoError(t, <-answered)
	require.Equal(t, 1, b.Records())
}

func TestMachinesCanBeScripted(t *testing.T) {
	t.Parallel()
	b := setup(t, owlapitest.Config{Fail: func(name string) bool { return name == "bad" }})
	b.PauseMachines(true)
	_, err := b.post(t)
	require.NoError(t, err)
	record, ok := b.Record(b.create.ID)
	require.True(t, ok)
	require.Equal(t, api.StatusProvisioning, record.Status)
	b.Observe(b.create.ID, api.StatusFailed, &api.ResourceError{Code: "X", Message: "x"})
	record, _ = b.Record(b.create.ID)
	require.Equal(t, "X", record.Error.Code)
	require.Equal(t, int64(1), record.ObservedGeneration)

	b.PauseMachines(false)
	b.create.ID, b.create.Name = api.NewMinter().ID(), "bad"
	_, err = b.post(t)
	require.NoError(t, err)
	record, _ = b.Record(b.create.ID)
	require.Equal(t, owlapitest.CodeFailed, record.Error.Code)
}

func TestARestoreCanBeScripted(t *testing.T) {
	t.Parallel()
	b := setup(t, owlapitest.Config{})
	_, err := b.post(t)
	require.NoError(t, err)
	_, err = b.client.PutCVM(t.Context(), b.create.ID, owlapi.PutCVM{
		Generation: 5, Power: api.PowerRunning, Spec: json.RawMessage(`{}`),
	})
	require.NoError(t, err)
	b.Rewind(b.create.ID, 2)
	record, err := b.client.GetCVM(t.Context(), b.create.ID)
	require.NoError(t, err)
	require.Equal(t, int64(2), record.Generation)
	b.Forget(b.create.ID)
	created, err := b.post(t)
	require.NoError(t, err)
	require.True(t, created)
}

func TestDelayWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, owlapitest.Config{})
	b.Delay(30 * time.Millisecond)
	began := time.Now()
	_, err := b.post(t)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
}
