package api

import (
	"fmt"
	"time"
)

// timeLayout always shows six digits of a second, so that bodies which were
// stored and bodies which were computed again are the same bytes.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// Time is an instant in UTC to the microsecond, which is what a Postgres
// timestamptz holds. Its JSON form is RFC 3339 with six digits of a second.
type Time struct{ time.Time }

// NewTime drops what the database would drop.
func NewTime(t time.Time) Time { return Time{t.UTC().Truncate(time.Microsecond)} }

// NewTimePtr is NewTime for columns that may be null.
func NewTimePtr(t *time.Time) *Time {
	if t == nil {
		return nil
	}
	at := NewTime(*t)
	return &at
}

// String is the JSON form without its quotes, as headers carry it.
func (t Time) String() string { return t.UTC().Format(timeLayout) }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON implements json.Unmarshaler; it accepts any RFC 3339 instant.
func (t *Time) UnmarshalJSON(data []byte) error {
	parsed, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(data))
	if err != nil {
		return fmt.Errorf("parse time: %w", err)
	}
	*t = NewTime(parsed)
	return nil
}
