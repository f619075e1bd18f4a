package idempotency_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

func TestLookupTellsWhatABoundKeyIsBoundTo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bound := b.bind(t, b.request("k"))
	version := b.rowVersion(t, "k")
	got, err := b.keys.Lookup(b.db, b.workspace, "k")
	require.NoError(t, err)
	requireSameBound(t, bound, got)
	require.Equal(t, version, b.rowVersion(t, "k"))
}

func TestLookupOfWhatIsNotBoundIsNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind(t, b.request("k"))
	b.bind(t, b.request("expired"))
	b.expire(t, "expired")
	b.hold(t, b.request("open")) // rolled back after the subtests
	for name, tc := range map[string]struct {
		workspace api.ID
		key       string
	}{
		"an unknown key":               {b.workspace, "unknown"},
		"a key in another case":        {b.workspace, "K"},
		"another workspace's key":      {b.mint.ID(), "k"},
		"an expired key":               {b.workspace, "expired"},
		"a key that is not bound yet":  {b.workspace, "open"},
		"the empty key, which is none": {b.workspace, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := b.keys.Lookup(b.db, tc.workspace, tc.key)
			requireCode(t, err, api.CodeNotFound)
			require.Empty(t, got)
		})
	}
}

func TestLookupFindsAnExpiredKeyWhoseOperationRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bound := b.bind(t, b.request("k"))
	b.expire(t, "k")
	b.keys.Running = always(true)
	got, err := b.keys.Lookup(b.db, b.workspace, "k")
	require.NoError(t, err)
	require.True(t, bound.Equal(got.Result))
	b.keys.Running = always(false)
	_, err = b.keys.Lookup(b.db, b.workspace, "k")
	requireCode(t, err, api.CodeNotFound)
}
