package owlcmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/cmd/internal/boot"
	"roost/cmd/internal/platformcmd"
	"roost/cmd/internal/tlstest"
	"roost/models/migrations"
	"roost/models/pgtest"
)

// testDeadline bounds every wait of these tests.
const testDeadline = 30 * time.Second

func settings(values map[string]string) boot.Settings {
	s := boot.ReadSettings(Variables(), nil, newCommand().PersistentFlags())
	s.Set("OWL_DATABASE_URL", "postgres://127.0.0.1/roost")
	for name, value := range values {
		s.Set(name, value)
	}
	return s
}

// TestDefaults holds the table of the contract.
func TestDefaults(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := settings(nil).Print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `OWL_ADDR=127.0.0.1:8081
OWL_DATABASE_URL=postgres://127.0.0.1/roost
OWL_AUTH_TOKEN=
OWL_TLS_CERT=
OWL_TLS_KEY=
OWL_TLS_CLIENT_CA=
OWL_DRIVER=sim
OWL_SIM_BOOT=300ms
OWL_SIM_STOP=100ms
OWL_SIM_FAIL=
OWL_SIM_DIR=.roost/sim
OWL_TOMBSTONE_TTL=720h
OWL_LEASE=10s
`
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
	var cfg Config
	if err := settings(nil).Decode(&cfg); err != nil {
		t.Error(err)
	}
}

func TestInvalidValuesNameTheirVariable(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "owl")
	for name, c := range map[string]struct {
		values map[string]string
		faulty []string
	}{
		"no port":                {map[string]string{"OWL_ADDR": "127.0.0.1"}, []string{"OWL_ADDR", "OWL_AUTH_TOKEN", "OWL_TLS_CERT"}},
		"no database":            {map[string]string{"OWL_DATABASE_URL": ""}, []string{"OWL_DATABASE_URL"}},
		"unknown driver":         {map[string]string{"OWL_DRIVER": "magic"}, []string{"OWL_DRIVER"}},
		"negative boot":          {map[string]string{"OWL_SIM_BOOT": "-1s"}, []string{"OWL_SIM_BOOT"}},
		"negative stop":          {map[string]string{"OWL_SIM_STOP": "-1s"}, []string{"OWL_SIM_STOP"}},
		"broken regexp":          {map[string]string{"OWL_SIM_FAIL": "("}, []string{"OWL_SIM_FAIL"}},
		"no tombstones":          {map[string]string{"OWL_TOMBSTONE_TTL": "0s"}, []string{"OWL_TOMBSTONE_TTL"}},
		"no lease":               {map[string]string{"OWL_LEASE": "0s"}, []string{"OWL_LEASE"}},
		"several":                {map[string]string{"OWL_LEASE": "soon", "OWL_DRIVER": "magic"}, []string{"OWL_LEASE", "OWL_DRIVER"}},
		"open to all":            {map[string]string{"OWL_ADDR": ":8081"}, []string{"OWL_AUTH_TOKEN", "OWL_TLS_CERT"}},
		"open without TLS":       {map[string]string{"OWL_ADDR": "0.0.0.0:8081", "OWL_AUTH_TOKEN": "secret"}, []string{"OWL_TLS_CERT"}},
		"open without a token":   {map[string]string{"OWL_ADDR": "0.0.0.0:8081", "OWL_TLS_CERT": cert, "OWL_TLS_KEY": key}, []string{"OWL_AUTH_TOKEN"}},
		"certificate alone":      {map[string]string{"OWL_TLS_CERT": cert}, []string{"OWL_TLS_KEY"}},
		"key alone":              {map[string]string{"OWL_TLS_KEY": key}, []string{"OWL_TLS_CERT"}},
		"client authority alone": {map[string]string{"OWL_TLS_CLIENT_CA": a.CA()}, []string{"OWL_TLS_CERT"}},
		"no such file":           {map[string]string{"OWL_TLS_CERT": filepath.Join(t.TempDir(), "none"), "OWL_TLS_KEY": key}, []string{"OWL_TLS_CERT"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cfg Config
			var invalid *boot.InvalidError
			if err := settings(c.values).Decode(&cfg); !errors.As(err, &invalid) {
				t.Fatalf("error %v, want an InvalidError", err)
			}
			found := map[string]bool{}
			for _, fault := range invalid.Faults {
				found[fault.Name] = true
			}
			for _, name := range c.faulty {
				if !found[name] {
					t.Errorf("%s is not at fault in %v", name, invalid.Faults)
				}
			}
			if len(found) != len(c.faulty) {
				t.Errorf("faults %v, want those of %v alone", invalid.Faults, c.faulty)
			}
		})
	}
}

// TestServeOffLoopback is the configuration that the contract asks for there.
func TestServeOffLoopback(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "owl")
	var cfg Config
	err := settings(map[string]string{
		"OWL_ADDR": "0.0.0.0:8081", "OWL_AUTH_TOKEN": "secret", "OWL_TLS_CERT": cert, "OWL_TLS_KEY": key, "OWL_TLS_CLIENT_CA": a.CA(),
	}).Decode(&cfg)
	if err != nil {
		t.Error(err)
	}
}

func TestServeRefusesAnOlderSchema(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), []string{
		"serve", "--owl-addr", "127.0.0.1:0", "--owl-database-url", pgtest.Empty(t), "--owl-sim-dir", t.TempDir(),
	}, io.Discard, io.Discard)
	if !errors.Is(err, migrations.ErrOutdated) || !strings.Contains(err.Error(), "owl migrate up") {
		t.Errorf("error %v, want one that names the command", err)
	}
}

// TestMutualTLSBetweenPlatformAndOwl runs Owl with certificates and reaches it
// with the client that Platform would use.
func TestMutualTLSBetweenPlatformAndOwl(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	owlCert, owlKey := a.Issue(t, "owl")
	platformCert, platformKey := a.Issue(t, "platform")
	base := "https://" + startOwl(t, "--owl-tls-cert", owlCert, "--owl-tls-key", owlKey, "--owl-tls-client-ca", a.CA())

	known := platformcmd.Config{OwlTLSCA: a.CA(), OwlTLSCert: platformCert, OwlTLSKey: platformKey}
	if err := reach(t, known, base); err != nil {
		t.Errorf("Platform with a certificate: %v", err)
	}
	unknown := platformcmd.Config{OwlTLSCA: a.CA()}
	if err := reach(t, unknown, base); err == nil {
		t.Error("Owl answers a caller without a certificate")
	}
}

// startOwl serves until the test ends and returns the address.
func startOwl(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{
		"serve", "--owl-addr", "127.0.0.1:0", "--owl-database-url", pgtest.URL(t, migrations.Owl()), "--owl-sim-dir", t.TempDir(),
	}, args...)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testDeadline)
	log, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, args, io.Discard, write)
		_ = write.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve ended with %v", err)
		}
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("log line %q: %v", lines.Text(), err)
		}
		if line.Msg == "serving" {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return line.Addr
		}
	}
	t.Fatal("it ended before it served")
	return ""
}

func reach(t *testing.T, cfg platformcmd.Config, base string) error {
	t.Helper()
	client, err := cfg.OwlClient()
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		t.Errorf("readyz answers %d", response.StatusCode)
	}
	return nil
}
