// Package owlapi is the private contract between Platform and Owl, and a
// one-shot client of it.
//
// It promises that the ID in a create request is its idempotency key: sending
// the same create again is always safe, whatever became of the first. The
// client never retries; that is the business of whoever knows what an unknown
// outcome means, which is platform/reconcile.
package owlapi

import (
	"encoding/json"

	"roost/api"
)

// Limits of the private API.
const (
	// MaxBodyBytes leaves room for the IDs around a public body of the
	// largest size (api.MaxBodyBytes).
	MaxBodyBytes = api.MaxBodyBytes + 64<<10
	// MaxJSONDepth leaves room for a public spec of the largest depth inside a
	// create; a batch adds two levels and leaves the limit to its items.
	MaxJSONDepth      = api.MaxJSONDepth + 1
	MaxBatchJSONDepth = 1000
	// MaxBatchBytes bounds a batch; senders cut theirs to it.
	MaxBatchBytes = 8 << 20
	// MaxBatchItems bounds a batch and a list of ids.
	MaxBatchItems = 200
)

// Paths of the private API, in net/http's pattern syntax.
const (
	PathCVMs          = "/v1/cvms"
	PathCVMsBatch     = "/v1/cvms/batch"
	PathCVM           = "/v1/cvms/{id}"
	PathFirewallRules = "/v1/firewall-rules"
	PathFirewallRule  = "/v1/firewall-rules/{id}"
)

// CreateCVM is the body of POST /v1/cvms. Platform stores it when it accepts
// a create and sends exactly it every time; Owl compares a repeat with the
// request that created the record, never with the record's present state.
type CreateCVM struct {
	ID         api.ID          `json:"id"`
	AppID      api.ID          `json:"app_id"`
	ReplicaOf  *api.ID         `json:"replica_of,omitempty"` // recorded, not checked
	Name       string          `json:"name"`
	Generation int64           `json:"generation,omitempty"` // default 1
	Power      api.Power       `json:"power,omitempty"`      // default running
	Restart    *string         `json:"restart,omitempty"`
	Spec       json.RawMessage `json:"spec"`
}

// WithDefaults fills in what may be absent.
func (r CreateCVM) WithDefaults() CreateCVM {
	if r.Generation == 0 {
		r.Generation = 1
	}
	if r.Power == "" {
		r.Power = api.PowerRunning
	}
	return r
}

// PutCVM is the body of PUT /v1/cvms/{id}: the whole desired state, applied
// only when its generation is newer than the stored one.
type PutCVM struct {
	Generation int64           `json:"generation"`
	Power      api.Power       `json:"power"`
	Restart    *string         `json:"restart,omitempty"`
	Spec       json.RawMessage `json:"spec"`
}

// CVM is Owl's record of a CVM.
type CVM struct {
	ID                 api.ID             `json:"id"`
	AppID              api.ID             `json:"app_id"`
	ReplicaOf          *api.ID            `json:"replica_of"`
	Name               string             `json:"name"`
	Generation         int64              `json:"generation"`
	ObservedGeneration int64              `json:"observed_generation"`
	Power              api.Power          `json:"power"`
	Restart            *string            `json:"restart"`
	Status             api.Status         `json:"status"`
	Error              *api.ResourceError `json:"error"`
	Spec               json.RawMessage    `json:"spec"`
	CreatedAt          api.Time           `json:"created_at"`
	UpdatedAt          api.Time           `json:"updated_at"`
	DeletedAt          *api.Time          `json:"deleted_at"`
}

// Deleted reports whether the record is a tombstone: its deletion was asked
// for, whether or not the machine is gone.
func (c CVM) Deleted() bool {
	return c.DeletedAt != nil || c.Status == api.StatusDeleting || c.Status == api.StatusDeleted
}

// CreateFirewallRule is the body of POST /v1/firewall-rules.
type CreateFirewallRule struct {
	ID       api.ID `json:"id"`
	CVMID    api.ID `json:"cvm_id"`
	CIDR     string `json:"cidr"`
	Protocol string `json:"protocol,omitempty"` // tcp (default), udp or any
	Port     *int64 `json:"port,omitempty"`     // null is all
}

// WithDefaults fills in what may be absent.
func (r CreateFirewallRule) WithDefaults() CreateFirewallRule {
	if r.Protocol == "" {
		r.Protocol = ProtocolTCP
	}
	return r
}

// FirewallRule is Owl's record of a firewall rule.
type FirewallRule struct {
	ID        api.ID             `json:"id"`
	CVMID     api.ID             `json:"cvm_id"`
	CIDR      string             `json:"cidr"`
	Protocol  string             `json:"protocol"`
	Port      *int64             `json:"port"`
	Status    string             `json:"status"` // RulePending and so on; "" of a tombstone for an ID never seen
	Error     *api.ResourceError `json:"error"`
	CreatedAt api.Time           `json:"created_at"`
	UpdatedAt api.Time           `json:"updated_at"`
	DeletedAt *api.Time          `json:"deleted_at"`
}

// Deleted reports whether the record is a tombstone: its deletion was asked
// for, whether or not the rule is still in force.
func (r FirewallRule) Deleted() bool { return r.DeletedAt != nil || r.Status == RuleDeleting }

// The statuses of a firewall rule.
const (
	RulePending  = "pending"
	RuleActive   = "active"
	RuleFailed   = "failed"
	RuleDeleting = "deleting" // a tombstone whose rule may still be in force
)

// The protocols that a firewall rule can name.
const (
	ProtocolTCP = "tcp"
	ProtocolUDP = "udp"
	ProtocolAny = "any"
)

// Batch is the body of POST /v1/cvms/batch. Each item stands on its own: one
// that is refused, even as malformed, does not stop the others.
type Batch struct {
	Items []json.RawMessage `json:"items"`
}

// BatchResult answers a Batch, item by item, in order.
type BatchResult struct {
	Items []BatchItem `json:"items"`
}

// BatchItem is what POST /v1/cvms would have answered to the item alone.
type BatchItem struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// Items is a list by ascending ID, tombstones included. Where it is a page
// (?after=&limit=), the next one starts after its last ID, and an empty page is
// the end. With ?spec=false, which is for those who only want to know how far
// things are, every record's spec is null.
type Items[T any] struct {
	Items []T `json:"items"`
}
