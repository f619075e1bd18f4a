package models

import (
	"time"

	"roost/api"
)

// PlatformTables lists a value of each of Platform's tables.
func PlatformTables() []any {
	return []any{
		&Workspace{}, &Token{}, &App{}, &Spec{}, &Provision{}, &CVM{},
		&Operation{}, &OperationTarget{}, &IdempotencyKey{}, &FirewallRule{},
		&Orphan{}, &Chore{},
	}
}

// Workspace is a tenant. CVMs counts those that are not being deleted: the
// quota is a condition on this column, not a count under a lock.
type Workspace struct {
	ID        api.ID `gorm:"primaryKey"`
	Name      string
	CVMs      int64     `gorm:"column:cvms"`
	CreatedAt time.Time `gorm:"->;autoCreateTime:false"`
}

// Token is an API token. Only the SHA-256 of its secret is kept.
type Token struct {
	ID          string `gorm:"primaryKey"`
	WorkspaceID api.ID
	SecretHash  []byte
	Scope       string
	CreatedAt   time.Time `gorm:"->;autoCreateTime:false"`
	ExpiresAt   *time.Time
	RevokedAt   *time.Time
}

// App is a name in a workspace, for ever. Explicit is true when POST /apps
// made it: such an app shows even without CVMs.
type App struct {
	ID          api.ID `gorm:"primaryKey"`
	WorkspaceID api.ID
	Name        string
	Explicit    bool
	LastOrdinal int64     // of the app's CVMs; moves under the row's lock
	EnvPubkey   string    // X25519, hex
	CreatedAt   time.Time `gorm:"->;autoCreateTime:false"`
	UpdatedAt   time.Time `gorm:"->;autoCreateTime:false;autoUpdateTime:false"`
}

// Spec is one spec as it was asked for, never changed. Body is the only
// column of this database that holds encrypted_env; Summary is the same spec
// without the secrets and the long texts, for views. LooseAt is when the reaper
// found that nothing refers to it.
type Spec struct {
	ID          api.ID `gorm:"primaryKey"`
	WorkspaceID api.ID
	Body        JSON
	Summary     JSON
	CreatedAt   time.Time  `gorm:"->;autoCreateTime:false"`
	LooseAt     *time.Time `gorm:"->"`
}

// Provision reserves a spec under its hash until it is committed or expires.
type Provision struct {
	AppID       api.ID `gorm:"primaryKey"`
	ComposeHash string `gorm:"primaryKey"`
	SpecID      api.ID
	CreatedAt   time.Time `gorm:"->;autoCreateTime:false"`
	ExpiresAt   time.Time `gorm:"->"`
}

// CVM is what was asked for (generation and all above it), what Owl is known
// to have (confirmed and below), and when to look again.
//
// The stored create request that goes to Owl is made of columns that never
// change: ID, AppID, ReplicaOf, Name, CreateSpecID.
type CVM struct {
	ID           api.ID `gorm:"primaryKey"`
	WorkspaceID  api.ID
	AppID        api.ID
	Ordinal      int64 // order of acceptance in the app
	ReplicaOf    *api.ID
	Name         string
	CreateSpecID api.ID

	SpecID      api.ID
	ComposeHash string
	Power       api.Power
	RestartID   *string // the newest restart operation
	OperationID string  // the newest operation
	// OperationKind is that operation's, for the status while it is under way.
	OperationKind api.OperationKind
	// CreateOperationID is the operation that made the CVM.
	CreateOperationID string
	Generation        int64
	DeletingAt        *time.Time // when deletion was asked for

	Confirmed          bool // Owl has, or had, this ID from us
	PushedGeneration   int64
	ObservedGeneration int64
	OwlStatus          *api.Status
	ErrorCode          *string
	ErrorMessage       *string
	DeleteConfirmed    bool       // Owl has heard of the deletion
	DeletedAt          *time.Time // when the machine was gone

	ReconcileAfter *time.Time `gorm:"->"` // when the row is due; null: at rest. A new row is due at once
	Fence          int64      // counts claims; a result counts only under its own
	Attempts       int64      // pushes since the last one that Owl answered

	CreatedAt time.Time `gorm:"->;autoCreateTime:false"`
	UpdatedAt time.Time `gorm:"->;autoCreateTime:false;autoUpdateTime:false"`
}

// TableName overrides gorm's plural, which would be cv_ms.
func (CVM) TableName() string { return "cvms" }

// FirewallRule is a rule of a CVM. It never changes; DeletedAt is when its
// deletion was accepted, and the row is due until Owl has confirmed that.
type FirewallRule struct {
	ID          api.ID `gorm:"primaryKey"`
	WorkspaceID api.ID
	CVMID       api.ID `gorm:"column:cvm_id"`
	CIDR        string `gorm:"column:cidr"`
	Protocol    api.Protocol
	Port        *int64 // null: all

	Status       api.FirewallStatus
	Confirmed    bool // Owl has, or had, this ID from us
	ErrorCode    *string
	ErrorMessage *string
	DeletedAt    *time.Time

	ReconcileAfter *time.Time `gorm:"->"` // as in CVM
	Fence          int64
	Attempts       int64

	CreatedAt time.Time `gorm:"->;autoCreateTime:false"`
	UpdatedAt time.Time `gorm:"->;autoCreateTime:false;autoUpdateTime:false"`
}

// Operation is one accepted change. It ends with the last of its targets.
type Operation struct {
	ID           string `gorm:"primaryKey"`
	WorkspaceID  api.ID
	Kind         api.OperationKind
	Status       api.OperationStatus
	AppID        api.ID
	VMUUID       *api.ID `gorm:"column:vm_uuid"` // null when it is over several CVMs
	Generation   int64
	RequestID    string
	Attempts     int64
	OpenTargets  int64 // targets that have not ended
	ErrorCode    *string
	ErrorMessage *string
	SupersededBy *string
	CreatedAt    time.Time  `gorm:"->;autoCreateTime:false"`
	UpdatedAt    time.Time  `gorm:"->;autoCreateTime:false;autoUpdateTime:false"`
	FinishedAt   *time.Time `gorm:"->"`
}

// OperationTarget is one CVM of an operation and the generation that the
// operation asked it for.
type OperationTarget struct {
	OperationID string `gorm:"primaryKey"`
	CVMID       api.ID `gorm:"column:cvm_id;primaryKey"`
	Generation  int64
	EndedAt     *time.Time
}

// IdempotencyKey is what a workspace's key is bound to. It holds digests of
// the request's members, never their values.
type IdempotencyKey struct {
	WorkspaceID api.ID `gorm:"primaryKey"`
	Key         string `gorm:"primaryKey"`
	Method      string
	Route       string
	PathParams  JSON // name -> value
	Members     JSON // JSON pointer -> digest
	RequestID   string
	Status      int
	OperationID *string
	ResourceID  *api.ID
	Body        []byte    // of an echo call, byte for byte
	CreatedAt   time.Time `gorm:"->;autoCreateTime:false"`
	ExpiresAt   time.Time `gorm:"->"`
}

// OrphanKind says what an orphan is.
type OrphanKind string

// The kinds of orphans.
const (
	OrphanCVM          OrphanKind = "cvm"
	OrphanFirewallRule OrphanKind = "firewall_rule"
)

// OrphanDecision is what somebody decided about an orphan and is not done yet.
type OrphanDecision string

// OrphanDelete is the decision to delete it at Owl. It is never taken back.
const OrphanDelete OrphanDecision = "delete"

// Orphan is what Owl has and Platform has never heard of. It never holds a
// spec.
type Orphan struct {
	ID          api.ID `gorm:"primaryKey"`
	Kind        OrphanKind
	Name        string          // of a rule: what it lets through
	AppID       *api.ID         // of a CVM
	CVMID       *api.ID         `gorm:"column:cvm_id"` // of a rule
	Generation  int64           // of a CVM
	Decision    *OrphanDecision // null: none so far
	FirstSeenAt time.Time       `gorm:"->;autoCreateTime:false"`
	LastSeenAt  time.Time       `gorm:"->;autoCreateTime:false"`
}

// Chore is background work that nodes share. Rounds only grows; DueAt is when
// a node is to do it next.
type Chore struct {
	Name   string `gorm:"primaryKey"`
	Rounds int64
	DueAt  time.Time `gorm:"->"`
}
