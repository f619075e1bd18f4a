package platformcmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"roost/cmd/internal/boot"
	"roost/models/migrations"
	"roost/models/pgtest"
)

// testDeadline bounds every wait of these tests.
const testDeadline = 30 * time.Second

type testBundle struct{ databaseURL string }

func setup(t *testing.T) *testBundle {
	t.Helper()
	return &testBundle{databaseURL: pgtest.URL(t, migrations.Platform())}
}

// run is the binary with these arguments; it returns what stdout got.
func (b *testBundle) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var stdout strings.Builder
	err := Run(t.Context(), append(args, "--platform-database-url", b.databaseURL), &stdout, io.Discard)
	return stdout.String(), err
}

func (b *testBundle) mustRun(t *testing.T, args ...string) string {
	t.Helper()
	stdout, err := b.run(t, args...)
	if err != nil {
		t.Fatalf("platform %s: %v", strings.Join(args, " "), err)
	}
	return stdout
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := b.mustRun(t, "token", "create", "--workspace", "acme", "--scope", "read", "--expires", "720h")
	if strings.Count(secret, "\n") != 1 || strings.ContainsAny(strings.TrimSuffix(secret, "\n"), " \t\n") {
		t.Errorf("printed %q, want the token alone", secret)
	}
	b.mustRun(t, "token", "create", "--workspace", "acme")

	list := b.mustRun(t, "token", "list")
	if strings.Contains(list, strings.TrimSpace(secret)) {
		t.Error("the list shows a secret")
	}
	rows := strings.Split(strings.TrimSpace(list), "\n")
	if len(rows) != 3 {
		t.Fatalf("%d lines, want a header and two tokens:\n%s", len(rows), list)
	}
	fields := strings.Fields(rows[1])
	if fields[1] != "acme" || fields[2] != "read" || fields[4] == "-" || fields[5] != "-" {
		t.Errorf("listed %v", fields)
	}
	b.mustRun(t, "token", "revoke", fields[0])
	b.mustRun(t, "token", "revoke", fields[0])
	if fields = strings.Fields(strings.Split(b.mustRun(t, "token", "list"), "\n")[1]); fields[5] == "-" {
		t.Errorf("not revoked: %v", fields)
	}
	if _, err := b.run(t, "token", "revoke", "nonsense"); err == nil {
		t.Error("revoked a token that never was")
	}
}

func TestTokenCreateChecksItsFlags(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"no workspace":  {},
		"unknown scope": {"--workspace", "acme", "--scope", "admin"},
		"expired":       {"--workspace", "acme", "--expires", "-1h"},
		"no duration":   {"--workspace", "acme", "--expires", "soon"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Run(t.Context(), append([]string{"token", "create", "--platform-database-url", "postgres://127.0.0.1:1/none"}, args...), io.Discard, io.Discard)
			if usage := new(boot.UsageError); !errors.As(err, &usage) {
				t.Errorf("error %v, want a usage error", err)
			}
		})
	}
}

func TestServeRefusesAnOlderSchema(t *testing.T) {
	t.Parallel()
	b := &testBundle{databaseURL: pgtest.Empty(t)}
	_, err := b.run(t, "serve", "--platform-addr", "127.0.0.1:0")
	if !errors.Is(err, migrations.ErrOutdated) || !strings.Contains(err.Error(), "platform migrate up") {
		t.Errorf("error %v, want one that names the command", err)
	}
	if _, err := b.run(t, "token", "list"); !errors.Is(err, migrations.ErrOutdated) {
		t.Errorf("token list: %v, want the schema refused", err)
	}
	b.mustRun(t, "migrate", "up")
	b.mustRun(t, "migrate", "up")
	b.mustRun(t, "token", "list")
}

func TestServeMigrates(t *testing.T) {
	t.Parallel()
	b := &testBundle{databaseURL: pgtest.Empty(t)}
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, []string{"serve", "--migrate", "--platform-addr", "127.0.0.1:0", "--platform-database-url", b.databaseURL}, io.Discard, write)
		_ = write.Close()
	}()
	addr := servingAddr(t, read)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("readyz answers %d", response.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve ended with %v", err)
	}
}

// servingAddr reads the log until the server says where it is, and keeps
// reading it afterwards.
func servingAddr(t *testing.T, log io.Reader) string {
	t.Helper()
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
