package models

import (
	"time"

	"roost/api"
)

// OwlTables lists a value of each of Owl's tables.
func OwlTables() []any {
	return []any{&OwlCVM{}, &OwlFirewallRule{}}
}

// OwlCVM is a machine as Owl was asked to have it, and how far that is. A row
// whose DeleteRequestedAt is set is a tombstone, and is never anything else
// again; one with generation 0 was planted for an ID that Owl never had, and
// its other columns say nothing.
//
// Spec is the only column of this database that holds encrypted_env.
// CreateDigests is the create request, for comparison, as digests.
type OwlCVM struct {
	ID            api.ID `gorm:"primaryKey"`
	AppID         api.ID
	ReplicaOf     *api.ID
	Name          string
	CreateDigests JSON

	Generation int64
	Power      api.Power
	Restart    *string // the newest restart operation
	Spec       JSON

	ObservedGeneration int64
	Status             api.Status
	ErrorCode          *string
	ErrorMessage       *string

	DueAt    *time.Time // when the provisioner is to look; null: at rest
	Fence    int64      // counts claims; a result counts only under its own
	Attempts int64      // of the driver, since something was last asked for

	CreatedAt         time.Time `gorm:"->;autoCreateTime:false"`
	UpdatedAt         time.Time `gorm:"->;autoCreateTime:false;autoUpdateTime:false"`
	DeleteRequestedAt *time.Time
	DeletedAt         *time.Time // when the machine was gone
}

// TableName overrides gorm's plural, which would be owl_cv_ms.
func (OwlCVM) TableName() string { return "cvms" }

// OwlFirewallRule is a packet filter's entry on one machine. It never changes;
// its tombstone works like a CVM's.
type OwlFirewallRule struct {
	ID            api.ID `gorm:"primaryKey"`
	CVMID         api.ID `gorm:"column:cvm_id"`
	CIDR          string `gorm:"column:cidr"`
	Protocol      string
	Port          *int64 // null: all
	CreateDigests JSON

	Status       string
	ErrorCode    *string
	ErrorMessage *string

	DueAt    *time.Time // null: at rest, or its machine does not exist yet
	Fence    int64
	Attempts int64

	CreatedAt         time.Time `gorm:"->;autoCreateTime:false"`
	UpdatedAt         time.Time `gorm:"->;autoCreateTime:false;autoUpdateTime:false"`
	DeleteRequestedAt *time.Time
	DeletedAt         *time.Time
}

// TableName is the contract's word.
func (OwlFirewallRule) TableName() string { return "firewall_rules" }
