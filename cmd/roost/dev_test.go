package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/api"
	"roost/models/pglocal"
)

const (
	// devDeadline bounds each test; a process that died stays dead for 5 s.
	devDeadline  = 2 * time.Minute
	pollInterval = 20 * time.Millisecond
)

// testBundle is one roost dev, as a person at a terminal sees it.
type testBundle struct {
	t       *testing.T
	dataDir string
	cmd     *exec.Cmd
	stderr  *bytes.Buffer
	done    chan struct{}

	mu     sync.Mutex
	screen []string
}

// setup starts roost dev on free ports and waits until it says that it is
// ready.
func setup(t *testing.T, dataDir string, environ ...string) *testBundle {
	t.Helper()
	b := launch(t, dataDir, environ...)
	b.await("Ctrl-C stops everything.")
	return b
}

func launch(t *testing.T, dataDir string, environ ...string) *testBundle {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &testBundle{t: t, dataDir: dataDir, stderr: &bytes.Buffer{}, done: make(chan struct{})}
	b.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), self, "dev")
	b.cmd.Env = append(os.Environ(), runMainEnv+"=1", "ROOST_DATA_DIR="+dataDir, "PLATFORM_ADDR=127.0.0.1:0", "OWL_ADDR=127.0.0.1:0")
	b.cmd.Env = append(b.cmd.Env, environ...)
	b.cmd.Stderr = b.stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go b.watch(stdout)
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		<-b.done
		if t.Failed() {
			t.Logf("screen:\n%s\n%s", strings.Join(b.lines(), "\n"), b.stderr)
		}
	})
	return b
}

func (b *testBundle) watch(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		b.mu.Lock()
		b.screen = append(b.screen, lines.Text())
		b.mu.Unlock()
	}
	_ = b.cmd.Wait() // the tests read ProcessState
	close(b.done)
}

func (b *testBundle) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.screen...)
}

// await returns the first line that holds text, once it is there.
func (b *testBundle) await(text string) string {
	b.t.Helper()
	var found string
	b.eventually("the screen says "+text, func() bool {
		for _, line := range b.lines() {
			if strings.Contains(line, text) {
				found = line
				return true
			}
		}
		select {
		case <-b.done:
			b.t.Fatalf("roost dev ended (%s) before it said %q", b.cmd.ProcessState, text)
		default:
		}
		return false
	})
	return found
}

func (b *testBundle) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(devDeadline)
	for !ok() {
		select {
		case <-deadline:
			b.t.Fatalf("waited %s in vain: %s", devDeadline, what)
		case <-time.After(pollInterval):
		}
	}
}

// end sends a signal and waits until roost dev is gone.
func (b *testBundle) end(signal syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(signal); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-b.done:
	case <-time.After(devDeadline):
		b.t.Fatalf("still there %s after %s", devDeadline, signal)
	}
}

// part reads a line of the table: title, address, "PID", number.
func (b *testBundle) part(title string) (where string, pid int) {
	b.t.Helper()
	for _, line := range b.lines() {
		fields := strings.Fields(line)
		if len(fields) == 4 && fields[0] == title && fields[2] == "PID" {
			pid, err := strconv.Atoi(fields[3])
			if err != nil {
				b.t.Fatal(err)
			}
			return fields[1], pid
		}
	}
	b.t.Fatalf("the screen does not show where %s is", title)
	return "", 0
}

func (b *testBundle) pids() []int {
	var pids []int
	for _, title := range []string{"Postgres", "Owl", "Platform"} {
		_, pid := b.part(title)
		pids = append(pids, pid)
	}
	return append(pids, b.children()...)
}

// children are all processes whose environment or command line this run gave
// them; only Linux tells.
func (b *testBundle) children() []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, stat := range stats {
		content, err := os.ReadFile(stat)
		if err != nil {
			continue // it has just ended
		}
		_, rest, _ := strings.Cut(string(content), ") ")
		fields := strings.Fields(rest)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(b.cmd.Process.Pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (b *testBundle) awaitGone(pids []int) {
	b.t.Helper()
	for _, pid := range pids {
		b.eventually(fmt.Sprintf("process %d is gone", pid), func() bool { return !alive(pid) })
	}
}

// alive counts a zombie as dead: whoever should reap it is not under test.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || !onLinux()
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func onLinux() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

func (b *testBundle) token() string {
	b.t.Helper()
	content, err := os.ReadFile(filepath.Join(b.dataDir, "dev-token"))
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// answer is what of an HTTP response the tests look at.
type answer struct {
	status int
	replay bool
	body   []byte
}

func (b *testBundle) call(method, path, key, body string) (answer, error) {
	b.t.Helper()
	base, _ := b.part("Platform")
	request, err := http.NewRequestWithContext(b.t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set(api.HeaderAPIKey, b.token())
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header.Get("Idempotent-Replay") == "true", content}, err
}

// create makes a CVM under a key and returns it with whether it is a replay.
func (b *testBundle) create(name string) (cvm api.CVM, replay bool) {
	b.t.Helper()
	body := fmt.Sprintf(`{"name":%q,"instance_type":"tdx.small","compose_file":{"docker_compose_file":"services: {web: {image: nginx}}"}}`, name)
	got, err := b.call(http.MethodPost, "/api/v1/cvms", "key-"+name, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if got.status != http.StatusAccepted {
		b.t.Fatalf("create %s: %d: %s", name, got.status, got.body)
	}
	if err := json.Unmarshal(got.body, &cvm); err != nil {
		b.t.Fatal(err)
	}
	return cvm, got.replay
}

func (b *testBundle) awaitRunning(cvm api.CVM) {
	b.t.Helper()
	b.eventually(cvm.Name+" runs", func() bool {
		got, err := b.call(http.MethodGet, "/api/v1/cvms/"+cvm.ID.String(), "", "")
		if err != nil || got.status != http.StatusOK {
			return false
		}
		var now api.CVM
		if err := json.Unmarshal(got.body, &now); err != nil {
			b.t.Fatal(err)
		}
		return string(now.Status) == "running"
	})
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestDevOneKeyOneMachineAndOwlKilled(t *testing.T) {
	t.Parallel()
	b := setup(t, t.TempDir())
	first, replay := b.create("twice")
	if replay {
		t.Error("the first answer says that it is a replay")
	}
	second, replay := b.create("twice")
	if !replay || second.ID != first.ID || second.Operation.ID != first.Operation.ID {
		t.Errorf("the second answer (replay: %v) names %s %s, the first %s %s",
			replay, second.ID, second.Operation.ID, first.ID, first.Operation.ID)
	}
	b.awaitRunning(first)

	_, owl := b.part("Owl")
	kill(t, owl)
	b.await("Owl (PID " + strconv.Itoa(owl) + ") ended")
	orphan, _ := b.create("while-owl-is-dead")
	b.await("Owl is back")
	b.awaitRunning(orphan)

	pids := b.pids()
	b.end(syscall.SIGINT)
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
	b.awaitGone(pids)
}

func TestDevKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	dataDir := t.TempDir()
	b := setup(t, dataDir)
	token := b.token()
	cvm, _ := b.create("survivor")
	pids := b.pids()
	kill(t, b.cmd.Process.Pid)

	// Straight away: what is left of the run before is still ending.
	again := setup(t, dataDir)
	b.awaitGone(pids)
	if got := again.token(); got != token {
		t.Error("the token has changed")
	}
	again.awaitRunning(cvm)

	_, postgres := again.part("Postgres")
	kill(t, postgres)
	again.await("Postgres is back")
	later, _ := again.create("later")
	again.awaitRunning(later)
	pids = again.pids()
	again.end(syscall.SIGTERM)
	again.awaitGone(pids)
}

// TestDevSecondSignal stops Owl with SIGSTOP, which no request to end reaches.
func TestDevSecondSignal(t *testing.T) {
	t.Parallel()
	b := setup(t, t.TempDir())
	pids := b.pids()
	_, owl := b.part("Owl")
	_, platform := b.part("Platform")
	if err := syscall.Kill(owl, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(owl, syscall.SIGKILL) })
	if err := b.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	b.awaitGone([]int{platform})
	begin := time.Now()
	b.end(syscall.SIGINT)
	if code := b.cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d after two signals, want 130", code)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s to obey the second signal", took)
	}
	if onLinux() {
		b.awaitGone(pids)
	}
}

// TestDevFollowsPostgresToAnotherPort takes Postgres' port while it is dead.
func TestDevFollowsPostgresToAnotherPort(t *testing.T) {
	t.Parallel()
	b := setup(t, t.TempDir())
	cvm, _ := b.create("before")
	addr, postgres := b.part("Postgres")
	kill(t, postgres)
	b.eventually("the port is free", func() bool {
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			t.Cleanup(func() { _ = listener.Close() })
		}
		return err == nil
	})
	b.await("Postgres has moved")
	b.await("Owl is back")
	b.await("Platform is back")
	b.awaitRunning(cvm)
	after, _ := b.create("after")
	b.awaitRunning(after)
}

func TestDevOnAServerOfOnesOwn(t *testing.T) {
	t.Parallel()
	server, err := pglocal.Start(t.Context(), pglocal.Config{Throwaway: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
	const token = "a-token-of-ones-own"
	b := setup(t, t.TempDir(), "ROOST_DATABASE_URL="+server.URL("postgres"), "ROOST_DEV_TOKEN="+token, "PLATFORM_KEY_WAIT=0s")
	if b.token() != token {
		t.Errorf("dev-token holds %q", b.token())
	}
	cvm, _ := b.create("elsewhere")
	b.awaitRunning(cvm)
	for _, line := range b.lines() {
		if strings.HasPrefix(strings.TrimSpace(line), "Postgres ") {
			t.Errorf("it runs a Postgres all the same: %s", line)
		}
	}
}

func TestDevSecretsAreForTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, t.TempDir())
	for _, name := range []string{"dev-token", "owl-token"} {
		info, err := os.Stat(filepath.Join(b.dataDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", name, mode)
		}
	}
	owl, _ := b.part("Owl")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, owl+"/v1/cvms", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("Owl answers %d to a stranger", response.StatusCode)
	}
	second := launch(t, b.dataDir)
	<-second.done
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(second.stderr.String(), "PID "+strconv.Itoa(b.cmd.Process.Pid)) {
		t.Errorf("a second roost dev on the same data: exit code %d, %s", code, second.stderr)
	}
}

func TestDevSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for name, c := range map[string]struct{ environ, want string }{
		"port in use":       {"PLATFORM_ADDR=" + taken.Addr().String(), "PLATFORM_ADDR"},
		"invalid value":     {"OWL_LEASE=soon", "OWL_LEASE"},
		"no such database":  {"ROOST_DATABASE_URL=postgres://127.0.0.1:1/none", "connect"},
		"no such directory": {"ROOST_DATA_DIR=/dev/null/x", "ROOST_DATA_DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := launch(t, t.TempDir(), c.environ)
			select {
			case <-b.done:
			case <-time.After(devDeadline):
				t.Fatal("it does not end")
			}
			if code := b.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if !strings.Contains(b.stderr.String(), c.want) {
				t.Errorf("stderr %q, want it to name %s", b.stderr, c.want)
			}
		})
	}
}
