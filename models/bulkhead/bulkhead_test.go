package bulkhead_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"roost/models/bulkhead"
)

func TestAPanicIsAnErrorWithItsStack(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := bulkhead.New(registry, "panics_total")
	err := b.Run("unit", poisonous)
	require.True(t, bulkhead.IsPanic(err))
	require.ErrorContains(t, err, "panic: runtime error: index out of range")
	require.ErrorContains(t, err, "bulkhead_test.poisonous", "the stack shows where it was")
	require.InDelta(t, 1, count(t, registry), 0)
}

func TestWhatDoesNotPanicPassesAsItIs(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := bulkhead.New(registry, "panics_total")
	require.NoError(t, b.Run("unit", func() error { return nil }))
	failed := errors.New("failed")
	require.Equal(t, failed, b.Run("unit", func() error { return failed }))
	require.False(t, bulkhead.IsPanic(failed))
	require.Zero(t, count(t, registry))
}

func TestOnePoisonousItemHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := bulkhead.New(prometheus.NewRegistry(), "panics_total")
	done := map[int]bool{}
	err := bulkhead.Each(b, "unit", []int{1, 2, 3}, strconv.Itoa, func(items []int) error {
		for _, item := range items {
			if item == 2 {
				return poisonous()
			}
			done[item] = true
		}
		return nil
	})
	require.True(t, bulkhead.IsPanic(err))
	require.ErrorContains(t, err, "2: panic: ")
	require.Equal(t, map[int]bool{1: true, 3: true}, done)
}

func TestEachRepeatsNothingThatOnlyFails(t *testing.T) {
	t.Parallel()
	b := bulkhead.New(prometheus.NewRegistry(), "panics_total")
	calls := 0
	err := bulkhead.Each(b, "unit", []int{1, 2}, strconv.Itoa, func([]int) error { calls++; return errors.New("failed") })
	require.EqualError(t, err, "failed")
	require.Equal(t, 1, calls)
}

func TestTwoOfOneNameCountTogether(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	for range 2 {
		require.Error(t, bulkhead.New(registry, "panics_total").Run("unit", poisonous))
	}
	require.InDelta(t, 2, count(t, registry), 0)
}

func poisonous() error {
	return errs()[1]
}

func count(t *testing.T, registry *prometheus.Registry) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

func errs() []error { return nil }
