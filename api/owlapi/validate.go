package owlapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"roost/api"
)

// MaxRestartBytes is the longest restart ID; an operation's has 29.
const MaxRestartBytes = 64

const maxPort = 65535

// CreateCVMBody is CreateCVM as it arrives: it tells a member that is 0 or
// empty, which is wrong, from one that is absent, which has a default.
type CreateCVMBody struct {
	CreateCVM

	Generation *int64     `json:"generation"`
	Power      *api.Power `json:"power"`
}

// Request is the body with its defaults filled in.
func (b CreateCVMBody) Request() CreateCVM {
	r := b.CreateCVM
	if b.Generation != nil {
		r.Generation = *b.Generation
	}
	if b.Power != nil {
		r.Power = *b.Power
	}
	return r.WithDefaults()
}

// Validate names every member that is wrong.
func (b CreateCVMBody) Validate() []api.FieldError {
	var v validation
	v.id("/id", b.ID, "is required: without it the request could not be repeated")
	v.id("/app_id", b.AppID, "is required")
	v.name("/name", b.Name)
	r := b.Request()
	v.check(b.Generation == nil || *b.Generation >= 1, "/generation", "must be at least 1")
	if b.Power != nil {
		v.power("/power", *b.Power)
	}
	v.restart(r.Restart)
	v.spec(r.Spec)
	return v
}

// Validate names every member that is wrong.
func (p PutCVM) Validate() []api.FieldError {
	var v validation
	v.check(p.Generation >= 1, "/generation", "is required and must be at least 1")
	v.power("/power", p.Power)
	v.restart(p.Restart)
	v.spec(p.Spec)
	return v
}

// CreateFirewallRuleBody is CreateFirewallRule as it arrives.
type CreateFirewallRuleBody struct {
	CreateFirewallRule

	Protocol *string `json:"protocol"`
}

// Request is the body with its defaults filled in.
func (b CreateFirewallRuleBody) Request() CreateFirewallRule {
	r := b.CreateFirewallRule
	if b.Protocol != nil {
		r.Protocol = *b.Protocol
	}
	return r.WithDefaults()
}

// Validate names every member that is wrong.
func (b CreateFirewallRuleBody) Validate() []api.FieldError {
	var v validation
	v.id("/id", b.ID, "is required: without it the request could not be repeated")
	v.id("/cvm_id", b.CVMID, "is required")
	v.cidr("/cidr", b.CIDR)
	if b.Protocol != nil {
		v.check(ValidProtocol(*b.Protocol), "/protocol", "must be tcp, udp or any")
	}
	v.check(b.Port == nil || *b.Port >= 1 && *b.Port <= maxPort, "/port", "must be from 1 to 65535, or null for all")
	return v
}

// ValidProtocol reports whether a firewall rule can name p.
func ValidProtocol(p string) bool {
	return p == ProtocolTCP || p == ProtocolUDP || p == ProtocolAny
}

// validation collects what is wrong with a request, member by member.
type validation []api.FieldError

func (v *validation) check(ok bool, field, message string) {
	if !ok {
		*v = append(*v, api.FieldError{Field: field, Message: message})
	}
}

func (v *validation) id(field string, id api.ID, message string) {
	v.check(!id.IsZero(), field, message)
}

func (v *validation) name(field, name string) {
	ok := name != "" && len(name) <= api.MaxNameBytes && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
	v.check(ok, field, fmt.Sprintf("must be 1 to %d of A-Z a-z 0-9 . _ -", api.MaxNameBytes))
}

func (v *validation) power(field string, p api.Power) {
	v.check(p == api.PowerRunning || p == api.PowerStopped, field, "must be running or stopped")
}

func (v *validation) restart(r *string) {
	ok := r == nil || *r != "" && len(*r) <= MaxRestartBytes &&
		!strings.ContainsFunc(*r, func(r rune) bool { return r < '!' || r > '~' })
	v.check(ok, "/restart", fmt.Sprintf("must be 1 to %d visible ASCII characters, or null", MaxRestartBytes))
}

func (v *validation) spec(spec json.RawMessage) {
	v.check(bytes.HasPrefix(bytes.TrimLeft(spec, " \t\r\n"), []byte("{")), "/spec", "is required and must be an object")
}

func (v *validation) cidr(field, cidr string) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		v.check(false, field, "must be a network like 10.0.0.0/8 or 2001:db8::/32")
		return
	}
	v.check(prefix == prefix.Masked(), field, "has host bits set; the network is "+prefix.Masked().String())
}
