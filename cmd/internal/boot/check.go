package boot

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Faults collects what a Check finds.
type Faults []Fault

// Add records a fault unless ok.
func (f *Faults) Add(ok bool, name, reason string) {
	if !ok {
		*f = append(*f, Fault{Name: name, Reason: reason})
	}
}

// Address checks a host and port to listen on.
func (f *Faults) Address(name, value string) {
	_, port, err := net.SplitHostPort(value)
	number, portErr := strconv.ParseUint(port, 10, 16)
	f.Add(err == nil && portErr == nil && number <= 65535, name, "must be HOST:PORT, such as 127.0.0.1:8080")
}

// DatabaseURL checks a Postgres URL. The reason repeats nothing of the value:
// it holds a password.
func (f *Faults) DatabaseURL(name, value string) {
	if value == "" {
		return // required says so
	}
	u, err := url.Parse(value)
	ok := err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
	f.Add(ok, name, "must be a URL such as postgres://user:password@host:5432/database (not shown: it may hold a password)")
}

// BaseURL checks an http or https URL that paths are added to.
func (f *Faults) BaseURL(name, value string) {
	u, err := url.Parse(value)
	ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == ""
	f.Add(ok, name, "must be http://HOST:PORT or https://HOST:PORT, without credentials")
}

// Positive checks a duration that must pass.
func (f *Faults) Positive(name string, value time.Duration) {
	f.Add(value > 0, name, "must be longer than 0")
}

// NotNegative checks a duration that may be 0.
func (f *Faults) NotNegative(name string, value time.Duration) {
	f.Add(value >= 0, name, "must not be negative")
}

// IsLoopback reports whether an address to listen on is reachable from this
// machine alone. A name that is not localhost is not believed.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
