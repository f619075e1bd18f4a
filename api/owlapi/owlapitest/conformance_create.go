package owlapitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
)

func createLaws() map[string]func(*testBundle) {
	return map[string]func(*testBundle){
		"POST/201 inserted": (*testBundle).postInserts,
		"POST/200 the ID exists with the same create request":          (*testBundle).postAgainIsTheRecordAsItIsNow,
		"POST/409 with the differing fields":                           (*testBundle).postOfAnotherNamesWhatDiffers,
		"POST/comparison is with the create, never the present state":  (*testBundle).postIsComparedWithTheCreate,
		"POST/410 the ID is a tombstone":                               (*testBundle).postToATombstone,
		"POST/400 names every member":                                  (*testBundle).postNamesWhatIsWrong,
		"POST/power and generation have defaults":                      (*testBundle).postHasDefaults,
		"POST/the record has these members":                            (*testBundle).recordHasItsMembers,
		"POST/a hundred at once give one 201 and 99 times 200":         (*testBundle).aHundredAtOnce,
		"POST/a hundred at once, all different: one 201, 99 times 409": (*testBundle).aHundredDifferentAtOnce,
		"POST batch/in order, each on its own":                         (*testBundle).batchAnswersEach,
		"POST batch/one ID twice is two POSTs":                         (*testBundle).batchWithOneIDTwice,
		"POST batch/at most 200 items of bounded size":                 (*testBundle).batchIsBounded,
		"POST batch/again":                                             (*testBundle).batchAgain,
		"POST/a large spec":                                            (*testBundle).largeSpec,
	}
}

func (b *testBundle) postInserts() {
	r := b.request()
	got, created, err := b.CreateCVM(b.ctx, r)
	require.NoError(b.t, err)
	require.True(b.t, created)
	require.Equal(b.t, r.ID, got.ID)
	require.Equal(b.t, r.AppID, got.AppID)
	require.Equal(b.t, r.Name, got.Name)
	require.JSONEq(b.t, string(r.Spec), string(got.Spec))
	require.Equal(b.t, int64(0), got.ObservedGeneration)
	require.Equal(b.t, api.StatusProvisioning, got.Status)
	require.False(b.t, got.CreatedAt.IsZero())
	require.Nil(b.t, got.DeletedAt)
	b.await(r.ID, at(1, api.StatusRunning))
}

func (b *testBundle) postAgainIsTheRecordAsItIsNow() {
	r := b.created()
	applied, err := b.PutCVM(b.ctx, r.ID, put(3, api.PowerStopped))
	require.NoError(b.t, err)
	b.await(r.ID, at(3, api.StatusStopped))
	got, created, err := b.CreateCVM(b.ctx, r)
	require.NoError(b.t, err)
	require.False(b.t, created, "want 200")
	require.Equal(b.t, int64(3), got.Generation)
	require.Equal(b.t, api.StatusStopped, got.Status)
	require.Equal(b.t, applied.CreatedAt, got.CreatedAt)
	require.JSONEq(b.t, `{"instance_type":"tdx.large"}`, string(got.Spec))
}

func (b *testBundle) postOfAnotherNamesWhatDiffers() {
	r := b.request()
	r.Spec = json.RawMessage(`{"instance_type":"s","n":9007199254740993,"f":1.0,"a":[1,2],"o":{"x":1,"y":null}}`)
	_, _, err := b.CreateCVM(b.ctx, r)
	require.NoError(b.t, err)
	other, restart := b.mint.ID(), "op_1"
	spec := func(s string) func(*owlapi.CreateCVM) {
		return func(r *owlapi.CreateCVM) { r.Spec = json.RawMessage(s) }
	}
	for _, tc := range []struct {
		change func(*owlapi.CreateCVM)
		want   []string // nil: the same request
	}{
		{func(r *owlapi.CreateCVM) { r.AppID = other }, []string{"/app_id"}},
		{func(r *owlapi.CreateCVM) { r.ReplicaOf = &other }, []string{"/replica_of"}},
		{func(r *owlapi.CreateCVM) { r.Name, r.Power = "other", api.PowerStopped }, []string{"/name", "/power"}},
		{func(r *owlapi.CreateCVM) { r.Generation = 2 }, []string{"/generation"}},
		{func(r *owlapi.CreateCVM) { r.Restart = &restart }, []string{"/restart"}},
		{spec(`{"instance_type":"l","n":9007199254740993,"f":1.0,"a":[1,2],"o":{"x":1,"y":null}}`), []string{"/spec/instance_type"}},
		{spec(`{"instance_type":"s","n":9007199254740992,"f":1.0,"a":[1,2],"o":{"x":1,"y":null}}`), []string{"/spec/n"}},
		{spec(`{"instance_type":"s","n":9007199254740993,"f":1,"a":[1,2],"o":{"x":1,"y":null}}`), []string{"/spec/f"}},
		{spec(`{"instance_type":"s","n":9007199254740993,"f":1.0,"a":[2,1],"o":{"x":2,"y":null}}`), []string{"/spec/a", "/spec/o/x"}},
		{spec(`{"instance_type":"s","n":9007199254740993,"f":1.0,"a":[1,2],"o":{"x":1}}`), []string{"/spec/o/y"}},
		{spec(`{"o":{"y":null,"x":1}, "a":[1, 2],"f":1.0,` + "\n" + `"n":9007199254740993,"instance_type":"s"}`), nil},
		{func(r *owlapi.CreateCVM) { r.Generation, r.Power = 1, api.PowerRunning }, nil},
	} {
		again := r
		tc.change(&again)
		_, created, err := b.CreateCVM(b.ctx, again)
		if tc.want == nil {
			require.NoError(b.t, err)
			require.False(b.t, created)
			continue
		}
		p := b.problem(err, http.StatusConflict)
		require.Equal(b.t, api.CodeIDConflict, p.ErrorCode)
		require.Equal(b.t, tc.want, fields(p))
		require.False(b.t, p.Retryable)
	}
}

func (b *testBundle) postIsComparedWithTheCreate() {
	r := b.created()
	now := put(2, api.PowerStopped)
	_, err := b.PutCVM(b.ctx, r.ID, now)
	require.NoError(b.t, err)
	likeTheRecord := r
	likeTheRecord.Generation, likeTheRecord.Power, likeTheRecord.Spec = now.Generation, now.Power, now.Spec
	_, _, err = b.CreateCVM(b.ctx, likeTheRecord)
	require.Equal(b.t, []string{"/generation", "/power", "/spec/instance_type"}, fields(b.problem(err, http.StatusConflict)))
}

func (b *testBundle) postToATombstone() {
	r := b.created()
	require.NoError(b.t, b.DeleteCVM(b.ctx, r.ID))
	other := r
	other.Name = "other"
	for _, late := range []owlapi.CreateCVM{r, other} {
		_, _, err := b.CreateCVM(b.ctx, late)
		b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
	}
	b.await(r.ID, func(c owlapi.CVM) bool { return c.DeletedAt != nil })
	_, _, err := b.CreateCVM(b.ctx, r)
	require.NotNil(b.t, b.problem(err, http.StatusGone).DeletedAt)
}

func (b *testBundle) postNamesWhatIsWrong() {
	id, app := b.mint.ID().String(), b.mint.ID().String()
	head := `"id":"` + id + `","app_id":"` + app + `",`
	for body, want := range map[string][]string{
		`{}`: {"/app_id", "/id", "/name", "/spec"},
		`{"app_id":"` + app + `","name":"web","spec":{}}`:                        {"/id"},
		`{` + head + `"name":"` + strings.Repeat("a", 64) + `","spec":{}}`:       {"/name"},
		`{` + head + `"name":"a b","spec":{}}`:                                   {"/name"},
		`{` + head + `"name":"web","spec":{},"generation":0}`:                    {"/generation"},
		`{` + head + `"name":"web","spec":{},"generation":-1,"power":"on"}`:      {"/generation", "/power"},
		`{` + head + `"name":"web","spec":{},"power":""}`:                        {"/power"},
		`{` + head + `"name":"web","spec":{},"restart":""}`:                      {"/restart"},
		`{` + head + `"name":"web","spec":{},"restart":"a\u0000"}`:               {"/restart"},
		`{` + head + `"name":"web","spec":[]}`:                                   {"/spec"},
		`{` + head + `"name":"web","spec":null}`:                                 {"/spec"},
		`{"id":"7","app_id":"` + app + `","name":"web","spec":{}}`:               {"/id"},
		`{` + head + `"name":"web","spec":{},"colour":1}`:                        {"/colour"},
		`{` + head + `"name":"web","name":"web","spec":{}}`:                      {"/name"},
		`{` + head + `"name":"web","spec":{"a":{"b":1,"b":2}}}`:                  {"/spec/a/b"},
		`{` + head + `"name":"web","Name":"web","spec":{}}`:                      {"/Name"},
		`{` + head + `"name":7,"spec":{}}`:                                       {"/name"},
		`{` + head + `"name":"web","spec":{}}{}`:                                 {"body"},
		`[]`:                                                                     {"body"},
		`{` + head + `"name":"web","spec":{},"generation":99999999999999999999}`: {"/generation"},
	} {
		p := b.rawProblem(http.MethodPost, owlapi.PathCVMs, body, http.StatusBadRequest)
		require.Equal(b.t, api.CodeInvalidRequest, p.ErrorCode)
		require.Equal(b.t, want, fields(p), body)
	}
	parsed, err := api.ParseID(id)
	require.NoError(b.t, err)
	_, err = b.GetCVM(b.ctx, parsed)
	b.requireStatus(err, http.StatusNotFound, api.CodeNotFound) // nothing was done
}

func (b *testBundle) postHasDefaults() {
	r := b.request()
	body := `{"id":"` + r.ID.String() + `","app_id":"` + r.AppID.String() + `","name":"web","spec":{},"power":null,"generation":null,"restart":null,"replica_of":null}`
	answered := b.raw(http.MethodPost, owlapi.PathCVMs, body, nil)
	require.Equal(b.t, http.StatusCreated, answered.status, string(answered.body))
	var got owlapi.CVM
	require.NoError(b.t, json.Unmarshal(answered.body, &got))
	require.Equal(b.t, api.PowerRunning, got.Power)
	require.Equal(b.t, int64(1), got.Generation)
	require.Nil(b.t, got.Restart)
}

func (b *testBundle) recordHasItsMembers() {
	r, restart, source := b.request(), "op_1", b.mint.ID()
	r.Restart, r.ReplicaOf, r.Power = &restart, &source, api.PowerStopped
	answered := b.raw(http.MethodPost, owlapi.PathCVMs, string(encoded(b.t, r)), nil)
	var got map[string]any
	require.NoError(b.t, json.Unmarshal(answered.body, &got))
	require.Equal(b.t, []string{
		"app_id", "created_at", "deleted_at", "error", "generation", "id", "name", "observed_generation",
		"power", "replica_of", "restart", "spec", "status", "updated_at",
	}, slices.Sorted(maps.Keys(got)))
	require.Equal(b.t, restart, got["restart"])
	require.Equal(b.t, source.String(), got["replica_of"])
	b.await(r.ID, at(1, api.StatusStopped))
}

// race sends create(i) a hundred times at once and counts the answers. All
// that succeed must see one record.
func (b *testBundle) race(create func(i int) owlapi.CreateCVM) (created, existing, conflicts int64) {
	b.t.Helper()
	var counts [3]atomic.Int64
	records := make([]*owlapi.CVM, 100)
	together(100, func(i int) {
		got, isNew, err := b.CreateCVM(b.ctx, create(i))
		switch {
		case err == nil && isNew:
			counts[0].Add(1)
		case err == nil:
			counts[1].Add(1)
		default:
			if p := new(owlapi.StatusError); !asStatus(err, p) || p.Status != http.StatusConflict {
				b.t.Errorf("create: %v", err)
			}
			counts[2].Add(1)
			return
		}
		records[i] = &got
	})
	var first *owlapi.CVM
	for _, r := range records {
		if r != nil && first == nil {
			first = r
		}
		if r != nil {
			require.Equal(b.t, first.CreatedAt, r.CreatedAt)
			require.Equal(b.t, first.Name, r.Name)
		}
	}
	return counts[0].Load(), counts[1].Load(), counts[2].Load()
}

func (b *testBundle) aHundredAtOnce() {
	r := b.request()
	created, existing, conflicts := b.race(func(int) owlapi.CreateCVM { return r })
	require.Equal(b.t, [3]int64{1, 99, 0}, [3]int64{created, existing, conflicts})
}

func (b *testBundle) aHundredDifferentAtOnce() {
	r := b.request()
	created, existing, conflicts := b.race(func(i int) owlapi.CreateCVM {
		mine := r
		mine.Name = fmt.Sprintf("web-%d", i)
		return mine
	})
	require.Equal(b.t, [3]int64{1, 0, 99}, [3]int64{created, existing, conflicts})
}

// batch sends the items and returns the statuses.
func (b *testBundle) batch(items ...any) []owlapi.BatchItem {
	b.t.Helper()
	raw := make([]json.RawMessage, len(items))
	for i, item := range items {
		raw[i] = encoded(b.t, item)
	}
	answers, err := b.CreateCVMs(b.ctx, raw)
	require.NoError(b.t, err)
	return answers
}

func statuses(items []owlapi.BatchItem) []int {
	var out []int
	for _, i := range items {
		out = append(out, i.Status)
	}
	return out
}

func (b *testBundle) batchAnswersEach() {
	existing, dead, fresh := b.created(), b.created(), b.request()
	require.NoError(b.t, b.DeleteCVM(b.ctx, dead.ID))
	conflicting := existing
	conflicting.Name = "other"
	answers := b.batch(fresh, existing, conflicting, dead, map[string]any{"colour": 1}, "no object")
	require.Equal(b.t, []int{201, 200, 409, 410, 400, 400}, statuses(answers))
	for i, r := range []owlapi.CreateCVM{fresh, existing} {
		record, created, err := answers[i].Decode()
		require.NoError(b.t, err)
		require.Equal(b.t, i == 0, created)
		require.Equal(b.t, r.ID, record.ID)
	}
	_, _, err := answers[2].Decode()
	require.Equal(b.t, []string{"/name"}, fields(b.problem(err, http.StatusConflict)))
	_, _, err = answers[4].Decode()
	require.Equal(b.t, []string{"/colour"}, fields(b.problem(err, http.StatusBadRequest)))
	b.await(fresh.ID, at(1, api.StatusRunning))
}

func (b *testBundle) batchWithOneIDTwice() {
	r := b.request()
	other := r
	other.Name = "other"
	require.Equal(b.t, []int{201, 200, 409}, statuses(b.batch(r, r, other)))
}

func (b *testBundle) batchIsBounded() {
	small, large := b.request(), b.request()
	large.Spec = json.RawMessage(`{"a":"` + strings.Repeat("a", owlapi.MaxBodyBytes) + `"}`)
	require.Equal(b.t, []int{413, 201}, statuses(b.batch(large, small)))
	require.Empty(b.t, statuses(b.batch()))

	items := strings.TrimSuffix(strings.Repeat(`{},`, owlapi.MaxBatchItems+1), ",")
	b.rawProblem(http.MethodPost, owlapi.PathCVMsBatch, `{"items":[`+items+`]}`, http.StatusBadRequest)
	b.rawProblem(http.MethodPost, owlapi.PathCVMsBatch, `{}`, http.StatusBadRequest)
	huge := `{"items":["` + strings.Repeat("a", owlapi.MaxBatchBytes) + `"]}`
	b.rawProblem(http.MethodPost, owlapi.PathCVMsBatch, huge, http.StatusRequestEntityTooLarge)
}

func (b *testBundle) batchAgain() {
	items := make([]any, owlapi.MaxBatchItems)
	for i := range items {
		r := b.request()
		r.Power = api.PowerStopped
		items[i] = r
	}
	for _, status := range []int{201, 200} {
		answers := b.batch(items...)
		require.Len(b.t, answers, len(items))
		for _, a := range answers {
			require.Equal(b.t, status, a.Status, string(a.Body))
		}
	}
}

func (b *testBundle) largeSpec() {
	r := b.request()
	r.Spec = json.RawMessage(`{"compose":"` + strings.Repeat("é<&", api.MaxBodyBytes/5) + `","n":12345678901234567890.10}`)
	for _, want := range []bool{true, false} {
		got, created, err := b.CreateCVM(b.ctx, r)
		require.NoError(b.t, err)
		require.Equal(b.t, want, created)
		require.Equal(b.t, string(r.Spec), string(got.Spec))
	}
}
