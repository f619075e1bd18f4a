package owlapitest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
)

func changeLaws() map[string]func(*testBundle) {
	return map[string]func(*testBundle){
		"PUT/200 applied": (*testBundle).putApplies,
		"PUT/200 unchanged when the generation is not newer": (*testBundle).putOfTheOldChangesNothing,
		"PUT/404 410 400": (*testBundle).putRefuses,
		"PUT/a stop behind the start stops nothing":       (*testBundle).lateStop,
		"PUT/a restart ends at its generation":            (*testBundle).restart,
		"DELETE/204, then 410":                            (*testBundle).deleteThenGone,
		"DELETE/204 and a tombstone for an ID never seen": (*testBundle).deleteOfTheUnknown,
		"DELETE/a hundred at once: one 204, 99 times 410": (*testBundle).aHundredDeletes,
		"GET/200 404 410 with the record":                 (*testBundle).getOne,
		"GET/ids, tombstones included":                    (*testBundle).getByIDs,
		"GET/after and limit, tombstones included":        (*testBundle).getPages,
		"GET/400":                         (*testBundle).getRefuses,
		"GET/spec=false leaves specs out": (*testBundle).getWithoutSpecs,
	}
}

func asStatus(err error, into *owlapi.StatusError) bool {
	var answer *owlapi.StatusError
	if !errors.As(err, &answer) {
		return false
	}
	*into = *answer
	return true
}

func (b *testBundle) putApplies() {
	r := b.created()
	b.await(r.ID, at(1, api.StatusRunning))
	got, err := b.PutCVM(b.ctx, r.ID, put(2, api.PowerStopped))
	require.NoError(b.t, err)
	require.Equal(b.t, int64(2), got.Generation)
	require.Equal(b.t, api.PowerStopped, got.Power)
	require.Equal(b.t, api.StatusStopping, got.Status)
	require.JSONEq(b.t, `{"instance_type":"tdx.large"}`, string(got.Spec))
	b.await(r.ID, at(2, api.StatusStopped))
	got, err = b.PutCVM(b.ctx, r.ID, put(7, api.PowerRunning))
	require.NoError(b.t, err)
	require.Equal(b.t, api.StatusStarting, got.Status)
	b.await(r.ID, at(7, api.StatusRunning))
}

func (b *testBundle) putOfTheOldChangesNothing() {
	r := b.created()
	_, err := b.PutCVM(b.ctx, r.ID, put(5, api.PowerRunning))
	require.NoError(b.t, err)
	settled := b.await(r.ID, at(5, api.StatusRunning))
	for _, generation := range []int64{1, 4, 5} {
		old := put(generation, api.PowerStopped)
		old.Spec = json.RawMessage(`{"instance_type":"other"}`)
		got, err := b.PutCVM(b.ctx, r.ID, old)
		require.NoError(b.t, err)
		require.Equal(b.t, settled, got)
	}
}

func (b *testBundle) putRefuses() {
	_, err := b.PutCVM(b.ctx, b.mint.ID(), put(2, api.PowerRunning))
	b.requireStatus(err, http.StatusNotFound, api.CodeNotFound)
	r := b.created()
	path := strings.Replace(owlapi.PathCVM, "{id}", r.ID.String(), 1)
	for body, want := range map[string][]string{
		`{}`: {"/generation", "/power", "/spec"},
		`{"generation":2,"power":"running","spec":{},"name":"x"}`:    {"/name"},
		`{"generation":2,"power":"up","spec":{}}`:                    {"/power"},
		`{"generation":2,"power":"running","spec":{},"restart":" "}`: {"/restart"},
		`{"generation":2,"power":"running","spec":"x"}`:              {"/spec"},
	} {
		require.Equal(b.t, want, fields(b.rawProblem(http.MethodPut, path, body, http.StatusBadRequest)), body)
	}
	require.NoError(b.t, b.DeleteCVM(b.ctx, r.ID))
	_, err = b.PutCVM(b.ctx, r.ID, put(9, api.PowerRunning))
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
}

func (b *testBundle) lateStop() {
	r := b.created()
	_, err := b.PutCVM(b.ctx, r.ID, put(4, api.PowerRunning))
	require.NoError(b.t, err)
	got, err := b.PutCVM(b.ctx, r.ID, put(3, api.PowerStopped))
	require.NoError(b.t, err)
	require.Equal(b.t, int64(4), got.Generation)
	require.Equal(b.t, api.PowerRunning, got.Power)
	b.await(r.ID, at(4, api.StatusRunning))
}

func (b *testBundle) restart() {
	r := b.created()
	b.await(r.ID, at(1, api.StatusRunning))
	again, id := put(2, api.PowerRunning), "op_01J0000000000000000000000A"
	again.Restart = &id
	got, err := b.PutCVM(b.ctx, r.ID, again)
	require.NoError(b.t, err)
	require.Equal(b.t, api.StatusRestarting, got.Status)
	require.Equal(b.t, id, *b.await(r.ID, at(2, api.StatusRunning)).Restart)
}

func (b *testBundle) deleteThenGone() {
	r := b.created()
	require.NoError(b.t, b.DeleteCVM(b.ctx, r.ID))
	b.requireStatus(b.DeleteCVM(b.ctx, r.ID), http.StatusGone, api.CodeResourceDeleted) // deleting
	b.await(r.ID, func(c owlapi.CVM) bool { return c.Status == api.StatusDeleted && c.DeletedAt != nil })
	b.requireStatus(b.DeleteCVM(b.ctx, r.ID), http.StatusGone, api.CodeResourceDeleted) // deleted
	b.rawProblem(http.MethodDelete, "/v1/cvms/7", "", http.StatusNotFound)
}

func (b *testBundle) deleteOfTheUnknown() {
	r := b.request()
	require.NoError(b.t, b.DeleteCVM(b.ctx, r.ID))
	b.requireStatus(b.DeleteCVM(b.ctx, r.ID), http.StatusGone, api.CodeResourceDeleted)
	_, _, err := b.CreateCVM(b.ctx, r) // the late create
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
	require.Equal(b.t, int64(0), b.await(r.ID, func(c owlapi.CVM) bool { return c.DeletedAt != nil }).Generation)
	_, err = b.GetCVM(b.ctx, r.ID)
	b.requireStatus(err, http.StatusGone, api.CodeResourceDeleted)
}

func (b *testBundle) aHundredDeletes() {
	r := b.created()
	var first, gone atomic.Int64
	together(100, func(int) {
		var answer owlapi.StatusError
		switch err := b.DeleteCVM(b.ctx, r.ID); {
		case err == nil:
			first.Add(1)
		case asStatus(err, &answer) && answer.Status == http.StatusGone:
			gone.Add(1)
		default:
			b.t.Errorf("delete: %v", err)
		}
	})
	require.Equal(b.t, [2]int64{1, 99}, [2]int64{first.Load(), gone.Load()})
}

func (b *testBundle) getOne() {
	r := b.created()
	got, err := b.GetCVM(b.ctx, r.ID)
	require.NoError(b.t, err)
	require.Equal(b.t, r.ID, got.ID)
	_, err = b.GetCVM(b.ctx, b.mint.ID())
	b.requireStatus(err, http.StatusNotFound, api.CodeNotFound)
	b.rawProblem(http.MethodGet, "/v1/cvms/7", "", http.StatusNotFound)

	require.NoError(b.t, b.DeleteCVM(b.ctx, r.ID))
	b.await(r.ID, func(c owlapi.CVM) bool { return c.DeletedAt != nil })
	_, err = b.GetCVM(b.ctx, r.ID)
	p := b.problem(err, http.StatusGone)
	require.Equal(b.t, api.CodeResourceDeleted, p.ErrorCode)
	require.NotNil(b.t, p.DeletedAt)
	var record owlapi.CVM
	require.NoError(b.t, json.Unmarshal(p.Record, &record))
	require.Equal(b.t, r.ID, record.ID)
	require.Equal(b.t, r.Name, record.Name)
	require.Equal(b.t, api.StatusDeleted, record.Status)
	require.Equal(b.t, p.DeletedAt, record.DeletedAt)
	require.JSONEq(b.t, string(r.Spec), string(record.Spec))
}

func (b *testBundle) getByIDs() {
	kept, dead, unknown := b.created(), b.created(), b.mint.ID()
	require.NoError(b.t, b.DeleteCVM(b.ctx, dead.ID))
	got, err := b.CVMs(b.ctx, owlapi.List{IDs: []api.ID{unknown, dead.ID, kept.ID, kept.ID}})
	require.NoError(b.t, err)
	require.Len(b.t, got, 2)
	require.Equal(b.t, []api.ID{kept.ID, dead.ID}, []api.ID{got[0].ID, got[1].ID})
	require.Contains(b.t, []api.Status{api.StatusDeleting, api.StatusDeleted}, got[1].Status)
	none, err := b.CVMs(b.ctx, owlapi.List{IDs: []api.ID{}})
	require.NoError(b.t, err)
	require.Empty(b.t, none)
}

func (b *testBundle) getPages() {
	mine := map[api.ID]int{}
	var before, last api.ID
	for i := range 5 {
		r := b.created()
		if i == 0 {
			before = r.ID
			continue
		}
		mine[r.ID], last = 0, r.ID
		if i == 2 {
			require.NoError(b.t, b.DeleteCVM(b.ctx, r.ID))
		}
	}
	after := before // other laws create too: go on until ours are through
	for after.String() < last.String() {
		page, err := b.CVMs(b.ctx, owlapi.List{After: &after, Limit: 2})
		require.NoError(b.t, err)
		require.NotEmpty(b.t, page)
		require.LessOrEqual(b.t, len(page), 2)
		for _, c := range page {
			require.Less(b.t, after.String(), c.ID.String(), "ascending, each once")
			after = c.ID
			if _, ok := mine[c.ID]; ok {
				mine[c.ID]++
			}
		}
	}
	for id, n := range mine {
		require.Equal(b.t, 1, n, id.String())
	}
	end, err := api.ParseID("ffffffff-ffff-ffff-ffff-ffffffffffff")
	require.NoError(b.t, err)
	page, err := b.CVMs(b.ctx, owlapi.List{After: &end})
	require.NoError(b.t, err)
	require.Empty(b.t, page, "an empty page is the end")
}

func (b *testBundle) getRefuses() {
	ids := strings.TrimSuffix(strings.Repeat(b.mint.ID().String()+",", owlapi.MaxBatchItems+1), ",")
	for query, field := range map[string]string{
		"ids=" + ids: "ids", "ids=7": "ids", "ids=a,,b": "ids", "after=7": "after",
		"limit=0": "limit", "limit=201": "limit", "limit=x": "limit", "spec=maybe": "spec",
	} {
		p := b.rawProblem(http.MethodGet, owlapi.PathCVMs+"?"+query, "", http.StatusBadRequest)
		require.Equal(b.t, []string{field}, fields(p), query)
	}
}

func (b *testBundle) getWithoutSpecs() {
	r := b.created()
	got, err := b.CVMsByID(b.ctx, []api.ID{r.ID})
	require.NoError(b.t, err)
	require.Len(b.t, got, 1)
	require.Contains(b.t, []string{"", "null"}, string(got[0].Spec))
}
