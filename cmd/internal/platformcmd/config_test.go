package platformcmd

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"roost/cmd/internal/boot"
	"roost/cmd/internal/tlstest"
)

func settings(values map[string]string) boot.Settings {
	command := newCommand()
	s := boot.ReadSettings(Variables(), nil, command.PersistentFlags())
	s.Set("PLATFORM_DATABASE_URL", "postgres://127.0.0.1/roost")
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
	const want = `PLATFORM_ADDR=127.0.0.1:8080
PLATFORM_DATABASE_URL=postgres://127.0.0.1/roost
PLATFORM_OWL_URL=http://127.0.0.1:8081
PLATFORM_OWL_TOKEN=
PLATFORM_OWL_TLS_CA=
PLATFORM_OWL_TLS_CERT=
PLATFORM_OWL_TLS_KEY=
PLATFORM_IDEMPOTENCY_TTL=24h
PLATFORM_KEY_WAIT=5s
PLATFORM_PROVISION_TTL=168h
PLATFORM_RATE_LIMIT=500/s
PLATFORM_MAX_CVMS=1000
PLATFORM_RECONCILE_LEASE=10s
PLATFORM_RECONCILE_BACKOFF_MAX=15s
PLATFORM_SWEEP_INTERVAL=5m
`
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
	var cfg Config
	if err := settings(nil).Decode(&cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.RateLimit != 500 {
		t.Errorf("rate limit %v, want 500", cfg.RateLimit)
	}
}

func TestInvalidValuesNameTheirVariable(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "platform")
	for _, c := range []struct {
		name, value, faulty string
		also                map[string]string
	}{
		{"PLATFORM_ADDR", "8080", "PLATFORM_ADDR", nil},
		{"PLATFORM_ADDR", "127.0.0.1:http", "PLATFORM_ADDR", nil},
		{"PLATFORM_DATABASE_URL", "mysql://h/d", "PLATFORM_DATABASE_URL", nil},
		{"PLATFORM_DATABASE_URL", "", "PLATFORM_DATABASE_URL", nil},
		{"PLATFORM_OWL_URL", "127.0.0.1:8081", "PLATFORM_OWL_URL", nil},
		{"PLATFORM_OWL_URL", "http://user:pass@h", "PLATFORM_OWL_URL", nil},
		{"PLATFORM_IDEMPOTENCY_TTL", "0", "PLATFORM_IDEMPOTENCY_TTL", nil},
		{"PLATFORM_IDEMPOTENCY_TTL", "24", "PLATFORM_IDEMPOTENCY_TTL", nil},
		{"PLATFORM_KEY_WAIT", "-1s", "PLATFORM_KEY_WAIT", nil},
		{"PLATFORM_KEY_WAIT", "1h", "PLATFORM_KEY_WAIT", nil},
		{"PLATFORM_PROVISION_TTL", "-1h", "PLATFORM_PROVISION_TTL", nil},
		{"PLATFORM_RATE_LIMIT", "500", "PLATFORM_RATE_LIMIT", nil},
		{"PLATFORM_RATE_LIMIT", "-1/s", "PLATFORM_RATE_LIMIT", nil},
		{"PLATFORM_RATE_LIMIT", "inf/s", "PLATFORM_RATE_LIMIT", nil},
		{"PLATFORM_MAX_CVMS", "0", "PLATFORM_MAX_CVMS", nil},
		{"PLATFORM_MAX_CVMS", "many", "PLATFORM_MAX_CVMS", nil},
		{"PLATFORM_RECONCILE_LEASE", "0s", "PLATFORM_RECONCILE_LEASE", nil},
		{"PLATFORM_RECONCILE_BACKOFF_MAX", "0s", "PLATFORM_RECONCILE_BACKOFF_MAX", nil},
		{"PLATFORM_SWEEP_INTERVAL", "0s", "PLATFORM_SWEEP_INTERVAL", nil},
		{"PLATFORM_OWL_TLS_CERT", cert, "PLATFORM_OWL_TLS_KEY", map[string]string{"PLATFORM_OWL_URL": "https://h"}},
		{"PLATFORM_OWL_TLS_KEY", key, "PLATFORM_OWL_TLS_CERT", map[string]string{"PLATFORM_OWL_URL": "https://h"}},
		{"PLATFORM_OWL_TLS_CA", a.CA(), "PLATFORM_OWL_URL", nil},
		{"PLATFORM_OWL_TLS_CA", filepath.Join(t.TempDir(), "none"), "PLATFORM_OWL_TLS_CA", map[string]string{"PLATFORM_OWL_URL": "https://h"}},
	} {
		t.Run(c.name+"="+filepath.Base(c.value), func(t *testing.T) {
			t.Parallel()
			s := settings(c.also)
			s.Set(c.name, c.value)
			var cfg Config
			var invalid *boot.InvalidError
			if err := s.Decode(&cfg); !errors.As(err, &invalid) {
				t.Fatalf("error %v, want an InvalidError", err)
			}
			if len(invalid.Faults) != 1 || invalid.Faults[0].Name != c.faulty {
				t.Errorf("faults %v, want one of %s", invalid.Faults, c.faulty)
			}
		})
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rate{"500/s": 500, "0.5/s": 0.5, "0": 0, "0/s": 0} {
		var got Rate
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestConfigCommandListsEveryFault(t *testing.T) {
	t.Parallel()
	var stdout, stderr strings.Builder
	err := Run(t.Context(), []string{
		"config", "--platform-key-wait", "soon", "--platform-max-cvms", "0", "--platform-database-url", "postgres://u:hunter2@h/d",
		"--platform-owl-token", "hunter2",
	}, &stdout, &stderr)
	if err == nil || !strings.Contains(err.Error(), "PLATFORM_KEY_WAIT") || !strings.Contains(err.Error(), "PLATFORM_MAX_CVMS") {
		t.Errorf("error %v, want one that names both variables", err)
	}
	if !strings.Contains(stdout.String(), "PLATFORM_KEY_WAIT=soon\n") {
		t.Errorf("does not show the value at fault:\n%s", stdout.String())
	}
	if strings.Contains(stdout.String()+stderr.String()+err.Error(), "hunter2") {
		t.Error("shows a secret")
	}
}
