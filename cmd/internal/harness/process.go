package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// Patience bounds every wait for a state. It is for machines with other
	// work to do; what is promised in less is asserted by itself.
	Patience = 2 * time.Minute
	// pollInterval is how often a state is looked at that nobody announces.
	pollInterval = 20 * time.Millisecond
	// shownLines is how much of a log a failed test shows.
	shownLines = 150
	// nowhere refuses connections: a port that was left may be somebody
	// else's by now.
	nowhere = "http://127.0.0.1:1"
)

// Node is one place for a process, which may be started in it again and again.
type Node struct {
	Name string // such as "platform 1"

	tb      testing.TB
	path    string
	environ []string
	moved   func(url string) // hears of each new address, and of none
	orders  string           // the file that ROOST_FAULT names; see Arm

	mu         sync.Mutex
	runs       []*run
	supervised bool
	fired      []firing
}

// run is one process.
type run struct {
	cmd   *exec.Cmd
	log   *lines
	fault string // what it was told to suffer
	url   atomic.Pointer[string]
	asked atomic.Bool   // to end
	done  chan struct{} // closed once it was waited for
}

// newNode makes a place for a process; its last one ends with the test.
func newNode(tb testing.TB, name, path string, environ []string) *Node {
	tb.Helper()
	n := &Node{
		Name: name, tb: tb, path: path, moved: func(string) {},
		orders: filepath.Join(tb.TempDir(), "fault"),
	}
	n.environ = append([]string{"ROOST_FAULT=@" + n.orders}, environ...)
	tb.Cleanup(n.close)
	return n
}

// Start starts a process and waits until it is ready. env is "NAME=value".
func (n *Node) Start(env ...string) {
	n.tb.Helper()
	n.Launch(env...)
	n.AwaitReady()
}

// Restart kills the process if there is one, and starts another.
func (n *Node) Restart(env ...string) {
	n.tb.Helper()
	n.Kill()
	n.Start(env...)
}

// Launch starts a process and does not wait for it.
func (n *Node) Launch(env ...string) {
	n.tb.Helper()
	if n.Running() {
		n.tb.Fatalf("%s runs already", n.Name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.launch(env); err != nil {
		n.tb.Fatalf("start %s: %v", n.Name, err)
	}
}

// launch is called with n.mu held.
func (n *Node) launch(env []string) error {
	r := &run{done: make(chan struct{})}
	r.log = newLines(func(line string) { n.listen(r, line) })
	for _, variable := range env {
		if fault, ok := strings.CutPrefix(variable, "ROOST_FAULT="); ok {
			r.fault = fault
		}
	}
	r.fault += n.ordered()
	r.cmd = exec.Command(n.path, "serve") //nolint:gosec,noctx // ours; it ends by signals
	r.cmd.Env = append(append(cleanEnviron(), n.environ...), env...)
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killWithParent(r.cmd.SysProcAttr)
	if err := r.cmd.Start(); err != nil {
		return err
	}
	n.runs = append(n.runs, r)
	go func() {
		_ = r.cmd.Wait() // how it ended is in ProcessState
		n.moved(nowhere)
		n.replace(r, env)
		close(r.done)
	}()
	return nil
}

// cleanEnviron is ours without anything that configures a service.
func cleanEnviron() []string {
	var out []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PLATFORM_") && !strings.HasPrefix(variable, "OWL_") && !strings.HasPrefix(variable, "ROOST_") {
			out = append(out, variable)
		}
	}
	return out
}

// listen waits for the line that names the address, and for faults.
func (n *Node) listen(r *run, line string) {
	if what, ok := strings.CutPrefix(line, "fault point "); ok {
		n.mu.Lock()
		n.fired = append(n.fired, firing{what: what, at: time.Now(), run: r})
		n.mu.Unlock()
	}
	var entry struct{ Msg, Addr string }
	if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "serving" {
		return
	}
	url := "http://" + entry.Addr
	r.url.Store(&url)
	n.moved(url)
}

func (n *Node) run() *run {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.runs) == 0 {
		n.tb.Fatalf("%s was never started", n.Name)
	}
	return n.runs[len(n.runs)-1]
}

// Running reports whether the process has not ended.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.runs) == 0 {
		return false
	}
	select {
	case <-n.runs[len(n.runs)-1].done:
		return false
	default:
		return true
	}
}

// URL is the process's own address, past every proxy.
func (n *Node) URL() string {
	n.tb.Helper()
	url := n.run().url.Load()
	if url == nil {
		n.tb.Fatalf("%s has no address yet", n.Name)
	}
	return *url
}

// Log is what the present process, or the last one, has written.
func (n *Node) Log() string {
	n.tb.Helper()
	all, _ := n.run().log.snapshot()
	return strings.Join(all, "\n")
}

// AwaitReady waits until /readyz answers 200.
func (n *Node) AwaitReady() {
	n.tb.Helper()
	r := n.run()
	n.await("be ready", func(ctx context.Context) (bool, error) {
		select {
		case <-r.done:
			return false, fmt.Errorf("it has ended: %s", r.cmd.ProcessState)
		default:
		}
		url := r.url.Load()
		return url != nil && statusOf(ctx, *url+"/readyz") == http.StatusOK, nil
	})
}

// statusOf is 0 without an answer.
func statusOf(ctx context.Context, url string) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close() // its status is all that counts
	return resp.StatusCode
}

// Metric is a series' present value, such as `owl_inserts_total{outcome="gone"}`
// with its labels as /metrics writes them; 0 if it is not there.
func (n *Node) Metric(series string) float64 {
	n.tb.Helper()
	value, err := metric(n.tb.Context(), n.URL(), series)
	if err != nil {
		n.tb.Fatalf("%s: %v", n.Name, err)
	}
	return value
}

// AwaitMetric waits until a series is at least this.
func (n *Node) AwaitMetric(series string, least float64) {
	n.tb.Helper()
	n.await(fmt.Sprintf("show %s of %v", series, least), func(ctx context.Context) (bool, error) {
		value, err := metric(ctx, n.URL(), series)
		return value >= least, err
	})
}

func metric(ctx context.Context, url, series string) (float64, error) {
	body, err := get(ctx, url+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, nil
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("send request: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	return string(body), nil
}

// AwaitLog waits until the process has written a line with this in it.
func (n *Node) AwaitLog(part string) string {
	n.tb.Helper()
	ctx, cancel := context.WithTimeout(n.tb.Context(), Patience)
	defer cancel()
	r := n.run()
	line, err := r.log.await(ctx, r.done, func(line string) bool { return strings.Contains(line, part) })
	if err != nil {
		n.tb.Fatalf("%s does not say %q: %v", n.Name, part, err)
	}
	return line
}

// AwaitFault waits until the fault has befallen the point. A process that the
// fault freezes is frozen then.
func (n *Node) AwaitFault(point string) {
	n.tb.Helper()
	if line := n.AwaitLog("fault point " + point + ": "); strings.HasSuffix(line, ": stop") {
		n.awaitStopped()
	}
}

// AwaitExit waits until the process has ended and says how, such as
// "signal: killed" or "exit status 2". Its end is then no failure.
func (n *Node) AwaitExit() string {
	n.tb.Helper()
	r := n.run()
	r.asked.Store(true)
	select {
	case <-r.done:
	case <-time.After(Patience):
		n.tb.Fatalf("%s does not end", n.Name)
	}
	return r.cmd.ProcessState.String()
}

// Kill ends the process at once, if there is one, and waits until it is gone.
func (n *Node) Kill() {
	n.tb.Helper()
	if n.Running() {
		n.signal(syscall.SIGKILL)
		n.AwaitExit()
	}
}

// Stop asks the process to end in order, and waits until it has.
func (n *Node) Stop() {
	n.tb.Helper()
	n.signal(syscall.SIGTERM)
	if how := n.AwaitExit(); how != "exit status 0" {
		n.tb.Errorf("%s did not stop in order: %s", n.Name, how)
	}
}

// Terminate asks the process to end in order, and does not wait.
func (n *Node) Terminate() { n.tb.Helper(); n.signal(syscall.SIGTERM) }

// Freeze stops the process's clock: it keeps its connections and its locks,
// and does nothing until Thaw.
func (n *Node) Freeze() {
	n.tb.Helper()
	n.signal(syscall.SIGSTOP)
	n.awaitStopped()
}

// Thaw lets a frozen process go on as if nothing had been.
func (n *Node) Thaw() { n.tb.Helper(); n.signal(syscall.SIGCONT) }

func (n *Node) awaitStopped() {
	n.tb.Helper()
	pid := n.run().cmd.Process.Pid
	n.await("be frozen", func(context.Context) (bool, error) { return stopped(pid), nil })
}

func (n *Node) signal(signal syscall.Signal) {
	n.tb.Helper()
	r := n.run()
	if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		r.asked.Store(true)
	}
	if err := r.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.tb.Fatalf("signal %s: %v", n.Name, err)
	}
}

// await polls until a state is reached.
func (n *Node) await(what string, reached func(ctx context.Context) (bool, error)) {
	n.tb.Helper()
	if err := poll(n.tb.Context(), reached); err != nil {
		n.tb.Fatalf("%s should %s: %v", n.Name, what, err)
	}
}

// poll returns when the state is reached, cannot be, or patience ends.
func poll(ctx context.Context, reached func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := reached(ctx)
		if ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// close ends the last process and tells of every one that misbehaved.
func (n *Node) close() {
	n.mu.Lock()
	n.supervised = false
	runs := n.runs
	n.mu.Unlock()
	for _, fault := range n.misbehaviour() {
		n.tb.Errorf("%s", fault)
	}
	if n.Running() {
		_ = runs[len(runs)-1].cmd.Process.Kill() // fails only for one that has ended
		<-runs[len(runs)-1].done
	}
	if !n.tb.Failed() {
		return
	}
	for i, r := range runs {
		n.tb.Logf("─── %s, process %d of %d: %s\n%s", n.Name, i+1, len(runs), r.cmd.ProcessState, r.log.tail(shownLines))
	}
}

// misbehaviour names the processes that ended unasked, panicked or raced.
func (n *Node) misbehaviour() (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, r := range n.runs {
		for _, fault := range r.misbehaviour() {
			out = append(out, fmt.Sprintf("%s, process %d: %s", n.Name, i+1, fault))
		}
	}
	return out
}

func (r *run) misbehaviour() (out []string) {
	panicsAsked := strings.Contains(r.fault, ":panic")
	select {
	case <-r.done:
		if !r.asked.Load() && !panicsAsked && !strings.Contains(r.fault, ":kill") {
			out = append(out, "ended unasked: "+r.cmd.ProcessState.String())
		}
	default:
	}
	all, _ := r.log.snapshot()
	for _, line := range all {
		if strings.Contains(line, "DATA RACE") || !panicsAsked && strings.Contains(line, "panic") {
			out = append(out, line)
		}
	}
	return out
}
