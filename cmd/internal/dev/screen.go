package dev

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// screen is what the person at the terminal sees: the steps of the start, what
// is ready, and what dies and comes back. Everything else is in the logs.
type screen struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
}

func newScreen(w io.Writer, dataDir string) *screen {
	s := &screen{w: w, start: time.Now()}
	_, _ = fmt.Fprintf(w, "roost dev: data and logs are in %s\n", dataDir) // a screen that is gone stops nothing
	return s
}

// step says what begins now, and how long everything has taken so far.
func (s *screen) step(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = fmt.Fprintf(s.w, "%6.1f s  %s\n", time.Since(s.start).Seconds(), what)
}

// say tells what happened on its own.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = fmt.Fprintf(s.w, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// part is one running process.
type part struct {
	title, where string
	pid          int
}

// summary is what is shown when everything is ready.
type summary struct {
	parts     []part
	dataDir   string
	token     string
	platform  string // base URL
	owlPID    int
	tokenFile string
}

func (s *screen) ready(sum summary) error {
	s.step("ready")
	var text strings.Builder
	text.WriteString("\n")
	for _, p := range sum.parts {
		fmt.Fprintf(&text, "  %-10s %-30s PID %d\n", p.title, p.where, p.pid)
	}
	fmt.Fprintf(&text, "  %-10s %s\n", "Token", sum.token)
	fmt.Fprintf(&text, "  %-10s %s, logs in %s/log\n\n", "", "also in "+sum.tokenFile, sum.dataDir)
	text.WriteString("Paste this twice: one machine, and the second answer says Idempotent-Replay: true.\n\n")
	text.WriteString(sum.createCommand())
	text.WriteString("\nKill Owl and create at once: 202 all the same. Owl is back after 5 s, and then the machine runs.\n\n")
	fmt.Fprintf(&text, "kill -9 %d\n%s", sum.owlPID, sum.createCommand())
	fmt.Fprintf(&text, "curl -sw '\\n' %s/api/v1/cvms -H 'X-API-Key: %s'\n", sum.platform, sum.token)
	text.WriteString("\nCtrl-C stops everything.\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.WriteString(s.w, text.String()); err != nil {
		return fmt.Errorf("say what is ready: %w", err)
	}
	return nil
}

// createCommand makes a CVM of a name and under a key that no run before has
// used, so that the first paste is always the one that does the work.
func (sum summary) createCommand() string {
	fresh := freshSuffix()
	return fmt.Sprintf(`curl -iw '\n' %s/api/v1/cvms -H 'X-API-Key: %s' \
  -H 'Content-Type: application/json' -H 'Idempotency-Key: create-hello-%s' \
  -d '{"name":"hello-%s","instance_type":"tdx.small","compose_file":{"docker_compose_file":"services: {web: {image: nginx}}"}}'
`, sum.platform, sum.token, fresh, fresh)
}

func freshSuffix() string {
	raw := make([]byte, 3)
	_, _ = rand.Read(raw) // never fails: it ends the process instead
	return hex.EncodeToString(raw)
}
