package owlcmd

import (
	"crypto/tls"
	"regexp"
	"time"

	"roost/cmd/internal/boot"
	"roost/models/migrations"
)

// driverSim is the only driver so far.
const driverSim = "sim"

// Config is Owl's configuration, as the contract names and defaults it.
type Config struct {
	Addr         string        `env:"OWL_ADDR" envDefault:"127.0.0.1:8081" help:"address to serve on"`
	DatabaseURL  string        `env:"OWL_DATABASE_URL,required" redact:"url" help:"Owl's Postgres database"`
	AuthToken    string        `env:"OWL_AUTH_TOKEN" redact:"all" help:"what Platform must present; required off loopback"`
	TLSCert      string        `env:"OWL_TLS_CERT" redact:"path" help:"PEM file: the certificate to show; unset: plain HTTP, loopback only"`
	TLSKey       string        `env:"OWL_TLS_KEY" redact:"path" help:"PEM file: its key"`
	TLSClientCA  string        `env:"OWL_TLS_CLIENT_CA" redact:"path" help:"PEM file: callers must show a certificate that it signed"`
	Driver       string        `env:"OWL_DRIVER" envDefault:"sim" help:"what runs the machines"`
	SimBoot      time.Duration `env:"OWL_SIM_BOOT" envDefault:"300ms" help:"sim: how long a boot takes"`
	SimStop      time.Duration `env:"OWL_SIM_STOP" envDefault:"100ms" help:"sim: how long a stop takes"`
	SimFail      string        `env:"OWL_SIM_FAIL" help:"sim: regexp of the names whose boot fails for good"`
	SimDir       string        `env:"OWL_SIM_DIR" envDefault:".roost/sim" help:"sim: where its machines lie; shared by all Owls"`
	TombstoneTTL time.Duration `env:"OWL_TOMBSTONE_TTL" envDefault:"720h" help:"how long a deleted ID is remembered"`
	Lease        time.Duration `env:"OWL_LEASE" envDefault:"10s" help:"how long one Owl works on a machine before another may"`
}

// Variables lists the environment variables of Owl.
func Variables() []boot.Variable { return boot.Variables(Config{}) }

// Check names what the types do not show.
func (c *Config) Check() []boot.Fault {
	var faults boot.Faults
	faults.Address("OWL_ADDR", c.Addr)
	faults.DatabaseURL("OWL_DATABASE_URL", c.DatabaseURL)
	faults.Add(c.Driver == driverSim, "OWL_DRIVER", "must be sim")
	faults.NotNegative("OWL_SIM_BOOT", c.SimBoot)
	faults.NotNegative("OWL_SIM_STOP", c.SimStop)
	_, err := regexp.Compile(c.SimFail)
	faults.Add(err == nil, "OWL_SIM_FAIL", "is no regular expression")
	faults.Positive("OWL_TOMBSTONE_TTL", c.TombstoneTTL)
	faults.Positive("OWL_LEASE", c.Lease)
	c.checkTLS(&faults)
	return faults
}

// checkTLS lets nobody but this machine talk to Owl in the clear or unnamed.
func (c *Config) checkTLS(faults *boot.Faults) {
	faults.Add(c.TLSKey != "" || c.TLSCert == "", "OWL_TLS_KEY", "is required with OWL_TLS_CERT")
	faults.Add(c.TLSCert != "" || c.TLSKey == "", "OWL_TLS_CERT", "is required with OWL_TLS_KEY")
	faults.Add(c.TLSCert != "" || c.TLSClientCA == "", "OWL_TLS_CERT", "is required with OWL_TLS_CLIENT_CA")
	if !boot.IsLoopback(c.Addr) {
		faults.Add(c.AuthToken != "", "OWL_AUTH_TOKEN", "is required because OWL_ADDR is not a loopback address")
		faults.Add(c.TLSCert != "", "OWL_TLS_CERT", "is required because OWL_ADDR is not a loopback address")
	}
	if c.TLSCert != "" && c.TLSKey != "" {
		_, err := c.serverTLS()
		faults.Add(err == nil, "OWL_TLS_CERT", "with OWL_TLS_KEY and OWL_TLS_CLIENT_CA: "+reason(err))
	}
}

// serverTLS is nil without a certificate.
func (c *Config) serverTLS() (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil //nolint:nilnil // no configuration is what plain HTTP is
	}
	return boot.TLSFiles{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSClientCA}.Server()
}

// Database is where Owl keeps its rows.
func (c *Config) Database() boot.Database {
	return boot.Database{Variable: "OWL_DATABASE_URL", URL: c.DatabaseURL, App: "roost-owl", Schema: migrations.Owl()}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
