//go:build !faults

package faultpoint_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/models/faultpoint"
)

func TestAReleaseDoesEverythingOnce(t *testing.T) {
	t.Setenv("ROOST_FAULT", "owl.step:repeat")
	calls, failed := 0, errors.New("failed")
	faultpoint.Hit("owl.hit")
	require.Equal(t, failed, faultpoint.Step("owl.step", func() error { calls++; return failed }))
	require.Equal(t, failed, faultpoint.Poll("owl.poll", func() (int, error) { calls++; return 1, failed }))
	require.Equal(t, 2, calls)
}
