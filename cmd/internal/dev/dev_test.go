package dev

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"roost/api"
	"roost/cmd/internal/boot"
)

func openTestDir(t *testing.T) *dataDir {
	t.Helper()
	dir, err := openDataDir(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.close() })
	return dir
}

func TestSecretsAreKeptAcrossRuns(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var secrets []string
	for range 2 {
		dir, err := openDataDir(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := dir.sharedSecret("owl-token")
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
		if err := dir.close(); err != nil {
			t.Fatal(err)
		}
	}
	if secrets[0] == "" || secrets[0] != secrets[1] {
		t.Errorf("secrets %q, want the same one twice", secrets)
	}
}

func TestKeepSecretTightensTheMode(t *testing.T) {
	t.Parallel()
	dir := openTestDir(t)
	// A file that a careless hand has left open to others.
	if err := os.WriteFile(dir.path("dev-token.new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := dir.keepSecret("dev-token", "secret"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir.path("dev-token"))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o, want 600", mode)
	}
}

// TestNextRunWaitsForLeftovers holds the lock as a process of a killed run
// does: through a descriptor of its own.
func TestNextRunWaitsForLeftovers(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	leftover, err := openLock(filepath.Join(root, "processes.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if !tryLock(leftover) {
		t.Fatal("cannot lock")
	}
	impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if dir, err := openDataDir(impatient, root); err == nil {
		t.Errorf("took the data away from a process that is still there: %v", dir.close())
	}
	if err := leftover.Close(); err != nil {
		t.Fatal(err)
	}
	dir, err := openDataDir(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.close(); err != nil {
		t.Fatal(err)
	}
}

func TestReserveAddresses(t *testing.T) {
	t.Parallel()
	settings := boot.ReadSettings(Variables(), nil, pflag.NewFlagSet("dev", pflag.ContinueOnError))
	err := reserveAddresses(t.Context(), settings, map[string]string{"PLATFORM_ADDR": "127.0.0.1:0", "OWL_ADDR": "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	platform, owl := settings.Given("PLATFORM_ADDR"), settings.Given("OWL_ADDR")
	if platform == owl || strings.HasSuffix(platform, ":0") || strings.HasSuffix(owl, ":0") {
		t.Errorf("addresses %s and %s, want two ports", platform, owl)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	err = reserveAddresses(t.Context(), settings, map[string]string{"OWL_ADDR": taken.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "set OWL_ADDR to another address") {
		t.Errorf("error %v, want one that says what to do", err)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", ":80": "127.0.0.1:80", "0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", "localhost:80": "localhost:80",
	} {
		if got := reachable(addr); got != want {
			t.Errorf("reachable(%q) = %q, want %q", addr, got, want)
		}
	}
}

// TestBothSidesShareASecret checks every way in which it can be given.
func TestBothSidesShareASecret(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]map[string]string{
		"none": {}, "Owl's": {"OWL_AUTH_TOKEN": "x"}, "Platform's": {"PLATFORM_OWL_TOKEN": "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := boot.ReadSettings(Variables(), nil, pflag.NewFlagSet("dev", pflag.ContinueOnError))
			for name, value := range given {
				settings.Set(name, value)
			}
			cfg, err := checkSettings(settings)
			if err != nil {
				t.Fatal(err)
			}
			s := &stack{dir: openTestDir(t), screen: newScreen(io.Discard, ""), settings: settings}
			if err := s.completeSecrets(cfg); err != nil {
				t.Fatal(err)
			}
			owl, platform := settings.Given("OWL_AUTH_TOKEN"), settings.Given("PLATFORM_OWL_TOKEN")
			if owl == "" || owl != platform || (len(given) > 0 && owl != "x") {
				t.Errorf("Owl expects %q, Platform presents %q", owl, platform)
			}
		})
	}
}

func TestPastedCommandsAreFreshAndValid(t *testing.T) {
	t.Parallel()
	sum := summary{platform: "http://127.0.0.1:8080", token: "secret"}
	first, second := sum.createCommand(), sum.createCommand()
	if first == second {
		t.Error("two runs would print the same key")
	}
	_, key, _ := strings.Cut(first, "Idempotency-Key: ")
	key, _, _ = strings.Cut(key, "'")
	if _, err := api.ParseIdempotencyKey([]string{key}); err != nil {
		t.Errorf("key %q: %v", key, err)
	}
}

func TestLogTailIsShort(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte("of the run before\n"+strings.Repeat("line\n", 5000)+"last"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{logPath: path, logFrom: int64(len("of the run before\n"))}
	tail := p.logTail()
	if strings.Count(tail, "\n") != logTailLines || !strings.HasSuffix(tail, "last") {
		t.Errorf("tail %q", tail)
	}
	p.logFrom = int64(len("of the run before\n")) + 5*5000 + 4
	if tail := p.logTail(); tail != "" {
		t.Errorf("tail of a run that wrote nothing: %q", tail)
	}
}
