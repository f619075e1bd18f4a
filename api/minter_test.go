package api

import (
	"bytes"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

// steps is an entropy source that starts at a given value and ascends by one.
type steps struct{ next [10]byte }

func (s *steps) Read(p []byte) (int, error) {
	n := copy(p, s.next[:])
	for i := len(s.next) - 1; i >= 0; i-- {
		if s.next[i]++; s.next[i] != 0 {
			break
		}
	}
	return n, nil
}

// The entropy of one millisecond ascends by up to 2^32 each time, and so
// crosses a boundary of 2^62 now and then. That is where bits set over the
// entropy, rather than between its parts, swallow the carry.
func TestIDsOfOneMillisecondAscendAcrossTheVariantBits(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_800_000_000, 0)
	for _, start := range [][10]byte{
		{0, 0, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe},       // below 2^62
		{0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe},       // below 2^64
		{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe},    // below 2^72
		{0, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe},    // below 2^68
		{0xf8, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, // below 2^70, other bits above
	} {
		m := &Minter{entropy: &steps{next: start}, now: func() time.Time { return at }}
		previous := m.ID()
		for range 4 {
			id := m.ID()
			require.Positive(t, bytes.Compare(id[:], previous[:]), "%s then %s", previous, id)
			previous = id
		}
	}
}

func TestIDCarriesItsTimeWhereUUIDv7HasIt(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(0x0123456789ab)
	m := NewMinter()
	m.now = func() time.Time { return at }
	id := m.ID()
	require.Equal(t, []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab}, id[:6])
	require.Equal(t, uint64(at.UnixMilli()), ulid.MustParse(m.RequestID()).Time())
}
