package platformcmd

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"roost/cmd/internal/boot"
	"roost/models/migrations"
	"roost/platform"
)

// Config is Platform's configuration, as the contract names and defaults it.
type Config struct {
	Addr                string        `env:"PLATFORM_ADDR" envDefault:"127.0.0.1:8080" help:"address to serve on"`
	DatabaseURL         string        `env:"PLATFORM_DATABASE_URL,required" redact:"url" help:"Platform's Postgres database"`
	OwlURL              string        `env:"PLATFORM_OWL_URL" envDefault:"http://127.0.0.1:8081" redact:"url" help:"where Owl is"`
	OwlToken            string        `env:"PLATFORM_OWL_TOKEN" redact:"all" help:"what to present to Owl"`
	OwlTLSCA            string        `env:"PLATFORM_OWL_TLS_CA" redact:"path" help:"PEM file: who signs Owl's certificate; unset: the system's authorities"`
	OwlTLSCert          string        `env:"PLATFORM_OWL_TLS_CERT" redact:"path" help:"PEM file: the certificate to show to Owl"`
	OwlTLSKey           string        `env:"PLATFORM_OWL_TLS_KEY" redact:"path" help:"PEM file: its key"`
	IdempotencyTTL      time.Duration `env:"PLATFORM_IDEMPOTENCY_TTL" envDefault:"24h" help:"how long an Idempotency-Key is kept"`
	KeyWait             time.Duration `env:"PLATFORM_KEY_WAIT" envDefault:"5s" help:"how long a request waits for another with its key; 0: not at all"`
	ProvisionTTL        time.Duration `env:"PLATFORM_PROVISION_TTL" envDefault:"168h" help:"how long a provision can be committed"`
	RateLimit           Rate          `env:"PLATFORM_RATE_LIMIT" envDefault:"500/s" help:"requests per token and process; 0: off"`
	MaxCVMs             int64         `env:"PLATFORM_MAX_CVMS" envDefault:"1000" help:"CVMs that a workspace may have"`
	ReconcileLease      time.Duration `env:"PLATFORM_RECONCILE_LEASE" envDefault:"10s" help:"how long one Platform works on a resource before another may"`
	ReconcileBackoffMax time.Duration `env:"PLATFORM_RECONCILE_BACKOFF_MAX" envDefault:"15s" help:"longest pause between two tries at Owl"`
	SweepInterval       time.Duration `env:"PLATFORM_SWEEP_INTERVAL" envDefault:"5m" help:"how often to compare with Owl and to clean up"`
}

// Variables lists the environment variables of Platform.
func Variables() []boot.Variable { return boot.Variables(Config{}) }

// Check names what the types do not show.
func (c *Config) Check() []boot.Fault {
	var faults boot.Faults
	faults.Address("PLATFORM_ADDR", c.Addr)
	faults.DatabaseURL("PLATFORM_DATABASE_URL", c.DatabaseURL)
	faults.BaseURL("PLATFORM_OWL_URL", c.OwlURL)
	faults.Positive("PLATFORM_IDEMPOTENCY_TTL", c.IdempotencyTTL)
	faults.NotNegative("PLATFORM_KEY_WAIT", c.KeyWait)
	faults.Add(c.KeyWait <= platform.MaxKeyWait, "PLATFORM_KEY_WAIT", "must be at most "+platform.MaxKeyWait.String())
	faults.Positive("PLATFORM_PROVISION_TTL", c.ProvisionTTL)
	faults.Add(c.MaxCVMs > 0, "PLATFORM_MAX_CVMS", "must be at least 1")
	faults.Positive("PLATFORM_RECONCILE_LEASE", c.ReconcileLease)
	faults.Positive("PLATFORM_RECONCILE_BACKOFF_MAX", c.ReconcileBackoffMax)
	faults.Positive("PLATFORM_SWEEP_INTERVAL", c.SweepInterval)
	c.checkTLS(&faults)
	return faults
}

func (c *Config) checkTLS(faults *boot.Faults) {
	files := c.owlTLS()
	if files.None() {
		return
	}
	faults.Add(c.OwlTLSKey != "" || c.OwlTLSCert == "", "PLATFORM_OWL_TLS_KEY", "is required with PLATFORM_OWL_TLS_CERT")
	faults.Add(c.OwlTLSCert != "" || c.OwlTLSKey == "", "PLATFORM_OWL_TLS_CERT", "is required with PLATFORM_OWL_TLS_KEY")
	faults.Add(strings.HasPrefix(c.OwlURL, "https://"), "PLATFORM_OWL_URL", "must be https:// with PLATFORM_OWL_TLS_*")
	if (c.OwlTLSCert == "") != (c.OwlTLSKey == "") {
		return
	}
	if _, err := files.Client(); err != nil {
		faults.Add(false, "PLATFORM_OWL_TLS_CA", "with PLATFORM_OWL_TLS_CERT and PLATFORM_OWL_TLS_KEY: "+err.Error())
	}
}

func (c *Config) owlTLS() boot.TLSFiles {
	return boot.TLSFiles{Cert: c.OwlTLSCert, Key: c.OwlTLSKey, CA: c.OwlTLSCA}
}

// Limits of the connection to Owl. Whoever calls has tighter ones of its own.
const (
	owlTimeout        = time.Minute
	owlIdleConns      = 64 // kept open, so that a burst does not open each anew
	owlIdleTimeout    = 90 * time.Second
	owlHeaderTimeout  = 30 * time.Second
	owlMaxHeaderBytes = 64 << 10
)

// OwlClient makes the HTTP client that speaks to Owl. It asks no proxy: Owl is
// where the configuration says.
func (c *Config) OwlClient() (*http.Client, error) {
	transport := &http.Transport{
		MaxIdleConnsPerHost:    owlIdleConns,
		IdleConnTimeout:        owlIdleTimeout,
		ResponseHeaderTimeout:  owlHeaderTimeout,
		MaxResponseHeaderBytes: owlMaxHeaderBytes,
		ForceAttemptHTTP2:      true,
	}
	if files := c.owlTLS(); !files.None() {
		config, err := files.Client()
		if err != nil {
			return nil, fmt.Errorf("PLATFORM_OWL_TLS_*: %w", err)
		}
		transport.TLSClientConfig = config
	}
	return &http.Client{Transport: transport, Timeout: owlTimeout}, nil
}

// Database is where Platform keeps its rows.
func (c *Config) Database() boot.Database {
	return boot.Database{Variable: "PLATFORM_DATABASE_URL", URL: c.DatabaseURL, App: "roost-platform", Schema: migrations.Platform()}
}

// Rate is a number of requests per second; 0 is no limit.
type Rate float64

// UnmarshalText reads "500/s", or "0" for no limit.
func (r *Rate) UnmarshalText(text []byte) error {
	number, perSecond := strings.CutSuffix(string(text), "/s")
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || value < 0 || math.IsInf(value, 0) || math.IsNaN(value) || (!perSecond && value != 0) {
		return fmt.Errorf("%q is not a rate such as 500/s, or 0 for none", text)
	}
	*r = Rate(value)
	return nil
}
