package reconcile

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
)

// TestAFullWatchHasAPlaceForWhoeverComes: those that never come to rest keep
// nobody else from being looked at.
func TestAFullWatchHasAPlaceForWhoeverComes(t *testing.T) {
	t.Parallel()
	w, mint := newWatch(), api.NewMinter()
	for range maxWatched {
		w.add(mint.ID())
	}
	comes := mint.ID()
	w.add(comes)
	w.add(comes)
	looks := w.due(time.Now())
	require.Len(t, looks, maxWatched)
	require.Equal(t, comes, looks[maxWatched-1].id)
}
