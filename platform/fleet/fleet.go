package fleet

import (
	"log/slog"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/platform/idempotency"
)

// Config is what a Fleet stands on.
type Config struct {
	DB     *gorm.DB
	Minter *api.Minter
	Logger *slog.Logger

	KeyTTL       time.Duration // how long a key is kept
	KeyWait      time.Duration // how long a request waits for its key; 0: not at all
	ProvisionTTL time.Duration // how long a provision may be committed
	MaxCVMs      int64         // of one workspace, those being deleted left out

	// Accepted is called after a commit that left something to reconcile. It
	// must not block, and losing a call must be harmless.
	Accepted func()
}

// Fleet accepts and reads. It is safe for concurrent use.
type Fleet struct {
	cfg  Config
	db   *gorm.DB
	keys idempotency.Keys
	gate *idempotency.Gate
}

// New makes a Fleet.
func New(cfg Config) *Fleet {
	return &Fleet{
		cfg:  cfg,
		db:   cfg.DB,
		keys: idempotency.Keys{TTL: cfg.KeyTTL, Running: operationRunning},
		gate: idempotency.NewGate(),
	}
}

// Call is what every mutation knows of the request that asks for it.
type Call struct {
	Workspace api.ID
	RequestID string
	Key       string // "" without one

	Method string
	Route  string
	Path   map[string]string // IDs in the path, canonical
}

// Answer is what a mutation answers: a Value to encode, or the Body of an
// echo call, byte for byte.
type Answer struct {
	Status int
	Value  any
	Body   []byte

	Replayed          bool
	OriginalRequestID string     // of a replay
	KeyExpiresAt      *time.Time // when a key is bound
}
