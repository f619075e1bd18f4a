package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
)

func TestTimeAlwaysShowsSixDigitsInUTC(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("east", 5*3600+1800)
	for _, tc := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC), "2026-11-21T17:00:00.000000Z"},
		{time.Date(2026, 11, 21, 17, 0, 0, 120_000_000, time.UTC), "2026-11-21T17:00:00.120000Z"},
		{time.Date(2026, 11, 21, 17, 0, 0, 1_999, time.UTC), "2026-11-21T17:00:00.000001Z"},
		{time.Date(2026, 11, 21, 17, 0, 0, 999_999_999, time.UTC), "2026-11-21T17:00:00.999999Z"},
		{time.Date(2026, 11, 21, 17, 0, 0, 0, east), "2026-11-21T11:30:00.000000Z"},
	} {
		require.Equal(t, tc.want, api.NewTime(tc.at).String())
		require.Equal(t, tc.want, api.Time{Time: tc.at}.String(), "also when it was not made by NewTime")
	}
}

func TestTimeRoundTripsToTheMicrosecond(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 253_402_300_799).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).
			In(time.FixedZone("zone", rapid.IntRange(-50_000, 50_000).Draw(t, "offset")))
		want := api.NewTime(at)
		require.Equal(t, at.UTC().Truncate(time.Microsecond), want.Time)
		doc, err := json.Marshal(want)
		require.NoError(t, err)
		require.Len(t, doc, len(`"2026-11-21T17:00:00.000000Z"`))
		var got api.Time
		require.NoError(t, json.Unmarshal(doc, &got))
		require.Equal(t, want, got)
		require.Equal(t, want, *api.NewTimePtr(&at))
	})
}

func TestTimeReadsAnyRFC3339InstantAndNothingElse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"2026-11-21T17:00:00Z"`:                "2026-11-21T17:00:00.000000Z",
		`"2026-11-21T17:00:00.5+02:00"`:         "2026-11-21T15:00:00.500000Z",
		`"2026-11-21T17:00:00.123456789-01:00"`: "2026-11-21T18:00:00.123456Z",
	} {
		var got api.Time
		require.NoError(t, json.Unmarshal([]byte(in), &got), in)
		require.Equal(t, want, got.String())
	}
	for _, bad := range []string{`""`, `"2026-11-21"`, `"2026-11-21 17:00:00Z"`, `"2026-11-21T17:00:00"`, `1`, `{}`, `"2026-13-01T00:00:00Z"`} {
		require.Error(t, json.Unmarshal([]byte(bad), &api.Time{}), bad)
	}
}

func TestNoTimeIsNoTime(t *testing.T) {
	t.Parallel()
	require.Nil(t, api.NewTimePtr(nil))
}
