package api

import (
	"net/netip"
	"slices"
)

// Protocol is what a firewall rule lets through.
type Protocol string

// The protocols of a rule.
const (
	ProtocolTCP Protocol = "tcp" // the default
	ProtocolUDP Protocol = "udp"
	ProtocolAny Protocol = "any"
)

// maxPort is the highest port of TCP and UDP.
const maxPort = 65535

// CreateFirewallRule is the body of POST /cvms/{vm_uuid}/firewall-rules.
type CreateFirewallRule struct {
	CIDR     string   `json:"cidr"`
	Protocol Protocol `json:"protocol,omitempty"`
	Port     *int64   `json:"port,omitempty"` // null is all
}

// WithDefaults fills in what may be absent.
func (r CreateFirewallRule) WithDefaults() CreateFirewallRule {
	if r.Protocol == "" {
		r.Protocol = ProtocolTCP
	}
	return r
}

// Validate names every member that is wrong.
func (r CreateFirewallRule) Validate() []FieldError {
	var v validation
	v.require(r.CIDR != "", "/cidr")
	if r.CIDR != "" {
		prefix, err := netip.ParsePrefix(r.CIDR)
		if err != nil {
			v.add("/cidr", "is not a network such as 10.0.0.0/8")
		} else if prefix.Masked() != prefix {
			v.add("/cidr", "has host bits set; the network is "+prefix.Masked().String())
		}
	}
	if r.Protocol != "" && !slices.Contains([]Protocol{ProtocolTCP, ProtocolUDP, ProtocolAny}, r.Protocol) {
		v.add("/protocol", "must be tcp, udp or any")
	}
	v.between("/port", r.Port, maxPort)
	return v
}

// FirewallStatus is how far a rule is.
type FirewallStatus string

// The statuses of a rule.
const (
	FirewallPending FirewallStatus = "pending"
	FirewallActive  FirewallStatus = "active"
	FirewallFailed  FirewallStatus = "failed"
)

// FirewallRule lets traffic from a network reach a CVM.
type FirewallRule struct {
	ID        ID             `json:"id"`
	VMUUID    ID             `json:"vm_uuid"`
	CIDR      string         `json:"cidr"`
	Protocol  Protocol       `json:"protocol"`
	Port      *int64         `json:"port"` // null is all
	Status    FirewallStatus `json:"status"`
	Error     *ResourceError `json:"error"`
	CreatedAt Time           `json:"created_at"`
}
