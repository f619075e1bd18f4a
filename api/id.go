package api

import (
	"crypto/rand"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ID names a resource (an app, a CVM, a firewall rule) as a UUID. Nothing may
// read order or time out of it, although both are in there.
//
// It is a type of its own because a raw ulid.ULID writes itself into a uuid
// column and cannot be read back from one.
type ID [16]byte

// errNotUUID says too little on purpose: the caller knows which field it read.
var errNotUUID = errors.New("not a UUID")

// ParseID reads the 36-character form of a UUID, of any version and in either
// case. It accepts neither braces nor a urn: prefix nor the bare hex form.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, errNotUUID
	}
	packed := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(packed)); err != nil {
		return ID{}, errNotUUID
	}
	return id, nil
}

// ParseAppID is ParseID for an app's ID in a path, where the spelling
// app_<uuid> names the same app.
func ParseAppID(s string) (ID, error) { return ParseID(strings.TrimPrefix(s, "app_")) }

// String is the lower-case 36-character form.
func (id ID) String() string {
	var out [36]byte
	hex.Encode(out[0:8], id[0:4])
	hex.Encode(out[9:13], id[4:6])
	hex.Encode(out[14:18], id[6:8])
	hex.Encode(out[19:23], id[8:10])
	hex.Encode(out[24:36], id[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// IsZero reports whether id is the nil UUID, which names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements encoding.TextMarshaler, and with it JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler, and with it JSON.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// Value implements driver.Valuer.
func (id ID) Value() (driver.Value, error) { return id.String(), nil }

// Scan implements sql.Scanner for uuid columns.
func (id *ID) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return id.UnmarshalText([]byte(v))
	case []byte:
		if len(v) == len(id) {
			copy(id[:], v)
			return nil
		}
		return id.UnmarshalText(v)
	case [16]byte:
		*id = v
		return nil
	default:
		return fmt.Errorf("scan %T into an ID", src)
	}
}

// Minter makes identifiers. It is safe for concurrent use; a process needs
// one. Within one Minter the IDs of one millisecond still ascend.
type Minter struct {
	mu      sync.Mutex
	entropy io.Reader
	now     func() time.Time
}

// NewMinter makes a Minter over crypto/rand. The ulid package's own default
// source is math/rand seeded with the start time, which two nodes can share.
func NewMinter() *Minter {
	return &Minter{entropy: ulid.Monotonic(rand.Reader, 0), now: time.Now}
}

// ID mints a version 7 UUID from a ULID's time (48 bits of milliseconds) and
// the low 74 of its 80 bits of entropy, around the version and the variant of
// RFC 9562. Setting those over the entropy instead would lose the carry out of
// the 62 bits below the variant, and with it the order.
func (m *Minter) ID() ID {
	u := m.ulid()
	id := ID(u)
	id[6] = 0x70 | u[6]&0x03<<2 | u[7]>>6
	id[7] = u[7]<<2 | u[8]>>6
	id[8] = 0x80 | u[8]&0x3f
	return id
}

// OperationID mints the ID of an operation: op_ and a ULID.
func (m *Minter) OperationID() string { return "op_" + m.ulid().String() }

// RequestID mints the ID of a request: a bare ULID.
func (m *Minter) RequestID() string { return m.ulid().String() }

func (m *Minter) ulid() ulid.ULID {
	m.mu.Lock()
	defer m.mu.Unlock()
	// The only errors are a clock past the year 10889 and 2^80 IDs in one
	// millisecond; crypto/rand itself ends the process rather than fail.
	return ulid.MustNew(ulid.Timestamp(m.now()), m.entropy)
}

// ValidOperationID reports whether s is op_ and a ULID.
func ValidOperationID(s string) bool {
	id, prefixed := strings.CutPrefix(s, "op_")
	return prefixed && ValidRequestID(id)
}

// ValidRequestID reports whether s is a ULID, the only form in which a
// request ID is taken over from another service.
func ValidRequestID(s string) bool {
	_, err := ulid.ParseStrict(s)
	return err == nil
}
