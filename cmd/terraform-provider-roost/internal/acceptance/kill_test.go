package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"roost/api"
	"roost/cmd/internal/lossy"
)

// stage is one apply of the story that every case tells.
type stage struct {
	name     string
	machines int // that there are to be afterwards
	config   string
	args     []string
}

// story is a create of four, an update of everything that can be updated, a
// scale up, a scale down, and a destroy, of an app of this name.
func story(app string) []stage {
	config := func(instanceType string, replicas, port int, state string) string {
		return fmt.Sprintf(`
terraform {
  required_providers { roost = { source = "terraform.local/roost/roost" } }
}
resource "roost_app" "web" {
  name           = %q
  instance_type  = %q
  docker_compose = "services: {web: {image: nginx}}"
  replicas       = %d
}
resource "roost_firewall_rule" "https" {
  cvm_id = roost_app.web.primary_cvm_id
  cidr   = "10.0.0.0/8"
  port   = %d
}
resource "roost_cvm_power" "web" {
  cvm_id     = roost_app.web.primary_cvm_id
  state      = %q
  depends_on = [roost_firewall_rule.https]
}
`, app, instanceType, replicas, port, state)
	}
	apply := []string{"apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"}
	updated := config("tdx.medium", 4, 8443, "stopped")
	return []stage{
		{"create 4", 4, config("tdx.small", 4, 443, "running"), apply},
		{"update", 4, updated, apply},
		{"scale to 6", 6, strings.Replace(updated, "= 4", "= 6", 1), apply},
		{"scale to 4", 4, updated, apply},
		{"destroy", 0, updated, append([]string{"destroy"}, apply[1:]...)},
	}
}

// write is one request of a stage that changes something: the n-th of its kind.
type write struct {
	stage string
	kind  string
	nth   int
}

// String is how the table names it.
func (w write) String() string {
	if w.nth == 1 {
		return w.stage + ": " + w.kind
	}
	return fmt.Sprintf("%s: %s, no. %d", w.stage, w.kind, w.nth)
}

// matches picks the requests of the write's kind.
func (w write) matches(r *lossy.Request) bool { return kindOf(r.Method, r.Path) == w.kind }

var uuidInPath = regexp.MustCompile(`/[0-9a-f]{8}-[0-9a-f-]{27}`)

// kindOf is a request without its IDs.
func kindOf(method, path string) string {
	return method + " " + uuidInPath.ReplaceAllString(strings.TrimPrefix(path, "/api/v1"), "/…")
}

// record runs the story without a fault and returns its writes by stage: no
// write can be forgotten that is made.
func record(t *testing.T) map[string][]write {
	t.Helper()
	w := newWorkdir(t)
	out := map[string][]write{}
	seen := 0
	for _, s := range story("recorded") {
		w.write("main.tf", s.config)
		w.must(s.args...)
		nth := map[string]int{}
		all := w.proxy.Exchanges()
		for _, e := range all[seen:] {
			if e.Method != http.MethodGet {
				kind := kindOf(e.Method, e.Path)
				nth[kind]++
				out[s.name] = append(out[s.name], write{s.name, kind, nth[kind]})
			}
		}
		seen = len(all)
	}
	return out
}

// mode is what happens at a write.
type mode string

const (
	lost   mode = "lost"
	killed mode = "killed"
)

func modes() []mode { return []mode{lost, killed} }

// table collects what the cases left behind.
type table struct {
	mu    sync.Mutex
	cells map[write]map[mode]string // after the failure
	after map[write]map[mode]string // after the next apply
}

func (tab *table) put(w write, m mode, failure, after string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	if tab.cells[w] == nil {
		tab.cells[w], tab.after[w] = map[mode]string{}, map[mode]string{}
	}
	tab.cells[w][m], tab.after[w][m] = failure, after
}

// TestEveryWrite loses the answer to every write of the story, for good, and
// kills Terraform and the provider right after it. The README has the table.
func TestEveryWrite(t *testing.T) {
	t.Parallel()
	writes := record(t)
	longest := 0
	for _, ws := range writes {
		longest = max(longest, len(ws))
	}
	tab := &table{cells: map[write]map[mode]string{}, after: map[write]map[mode]string{}}
	t.Cleanup(func() { // when all cases have ended
		if t.Failed() {
			return
		}
		rows := tab.rows(writes, story(""))
		t.Log("\n" + strings.Join(rows, "\n"))
		checkREADME(t, rows)
	})
	for _, m := range modes() {
		for i := range longest {
			t.Run(fmt.Sprintf("%s %d", m, i+1), func(t *testing.T) {
				t.Parallel()
				c := &chain{workdir: newWorkdir(t), mode: m, app: fmt.Sprintf("%s-%d", m, i+1)}
				c.tell(writes, i, tab)
			})
		}
	}
}

// TestEveryAnswerIsLostOnce leaves the provider its retries: then no apply
// fails although no first answer to any write arrives.
func TestEveryAnswerIsLostOnce(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	c := &chain{workdir: w, app: "lossy"}
	var mu sync.Mutex
	answered := map[string]bool{}
	w.proxy.SetPolicy(func(r *lossy.Request) lossy.Fate {
		mu.Lock()
		defer mu.Unlock()
		request := r.Method + r.Path + r.Header.Get(api.HeaderIdempotencyKey)
		if !lossy.Writes(r) || answered[request] {
			return lossy.Pass()
		}
		answered[request] = true
		return lossy.DropAnswer()
	})
	for _, s := range story(c.app) {
		before := w.proxy.Count("drop answer")
		w.write("main.tf", s.config)
		w.must(s.args...)
		if w.proxy.Count("drop answer") == before {
			t.Errorf("%s: no answer was lost", s.name)
		}
		c.check(s, write{stage: s.name, kind: "every write", nth: 1})
	}
}

// chain is the story of one app, with a fault at the i-th write of each stage.
type chain struct {
	*workdir

	mode mode
	app  string
}

func (c *chain) tell(writes map[string][]write, i int, tab *table) {
	c.t.Helper()
	for _, s := range story(c.app) {
		c.write("main.tf", s.config)
		if i >= len(writes[s.name]) {
			c.must(s.args...)
			continue
		}
		w := writes[s.name][i]
		failure := c.fail(s, w)
		if c.t.Failed() {
			return
		}
		c.must(s.args...)
		tab.put(w, c.mode, failure, c.check(s, w))
	}
}

// fail runs the stage with its fault and says what is there afterwards.
func (c *chain) fail(s stage, w write) string {
	c.t.Helper()
	defer c.proxy.SetPolicy(nil)
	once := []string{"ROOST_MAX_ATTEMPTS=1"}
	switch c.mode {
	case lost:
		c.proxy.SetPolicy(lossy.Nth(w.nth, w.matches, lossy.DropAnswer()))
		if out := c.run(once, s.args...); out.exit != 1 {
			c.t.Errorf("%s: the answer was lost, and the apply ended with %d:\n%s", w, out.exit, out.output)
		}
	case killed:
		c.killAt(s, w)
	}
	return c.leftBehind()
}

// killAt kills Terraform and the provider when the write has been done and its
// answer is on its way.
func (c *chain) killAt(s stage, w write) {
	c.t.Helper()
	hold := lossy.NewHold()
	defer hold.Release()
	c.proxy.SetPolicy(lossy.Nth(w.nth, w.matches, hold.Answer()))
	ctx, cancel := context.WithTimeout(c.t.Context(), runTimeout)
	defer cancel()
	cmd, wait := c.start(ctx, nil, s.args...)
	select {
	case <-hold.Held():
		c.kill(cmd, wait)
	case <-ctx.Done():
		c.t.Errorf("%s: it never came:\n%s", w, wait().output)
	}
}

// leftBehind says how many machines there are and how many Terraform knows.
func (c *chain) leftBehind() string {
	c.t.Helper()
	there := len(listed(c.t, appNamed(c.t, c.app)))
	return fmt.Sprintf("%d there, %s", there, c.known())
}

func (c *chain) known() string {
	state := c.state("roost_app.web")
	if state == nil {
		return "none known"
	}
	ids, _ := state["cvm_ids"].([]any)
	return fmt.Sprintf("%d known", len(ids))
}

// check holds everything against what was wanted and says so.
func (c *chain) check(s stage, w write) string {
	c.t.Helper()
	app := appNamed(c.t, c.app)
	if known := c.state("roost_app.web"); known != nil && app.IsZero() {
		c.t.Errorf("%s: Terraform knows an app that is not there", w)
	} else if known != nil && known["app_id"] != app.String() {
		c.t.Errorf("%s: Terraform knows the app %v, and %s is there", w, known["app_id"], app)
	}
	var m machines
	eventually(c.t, w.String()+": all levels have the same machines", func() bool {
		m = machinesOf(c.t, app)
		return m.agree()
	})
	if len(m.driver) != s.machines {
		c.t.Errorf("%s: there are %d machines and should be %d", w, len(m.driver), s.machines)
	}
	c.checkState(s, w, app)
	if s.machines > 0 {
		c.planIsEmpty()
	} else {
		c.planIsEmpty("-destroy")
	}
	return fmt.Sprintf("%d there, %s, plan empty", len(m.driver), c.known())
}

// checkState holds the state against what Platform shows.
func (c *chain) checkState(s stage, w write, app api.ID) {
	c.t.Helper()
	state := c.state("roost_app.web")
	if s.machines == 0 {
		if state != nil || c.state("roost_firewall_rule.https") != nil {
			c.t.Errorf("%s: something is left in the state", w)
		}
		return
	}
	var known, there []string
	ids, _ := state["cvm_ids"].([]any)
	for _, id := range ids {
		known = append(known, fmt.Sprint(id))
	}
	for _, cvm := range listedCVMs(c.t, app) {
		there = append(there, cvm.VMUUID.String())
		if cvm.InstanceType != state["instance_type"] {
			c.t.Errorf("%s: the CVM %s is a %s, the state says %v", w, cvm.VMUUID, cvm.InstanceType, state["instance_type"])
		}
	}
	if !slices.Equal(known, there) {
		c.t.Errorf("%s: Terraform knows %v, and there are %v", w, known, there)
	}
	c.checkRules(w, there[0])
}

// checkRules: one rule, the one that Terraform knows.
func (c *chain) checkRules(w write, cvm string) {
	c.t.Helper()
	id, err := api.ParseID(cvm)
	if err != nil {
		c.t.Fatal(err)
	}
	rules := rulesOf(c.t, id)
	known := c.state("roost_firewall_rule.https")
	if known == nil || len(rules) != 1 || rules[0].ID.String() != known["id"] {
		c.t.Errorf("%s: the CVM has the rules %v, and Terraform knows %v", w, rules, known["id"])
	}
}

// rows are the table as the README has it.
func (tab *table) rows(writes map[string][]write, stages []stage) []string {
	out := []string{
		"| case: at this write | its answer is lost: afterwards | Terraform and provider are killed: afterwards | after the next apply |",
		"|---|---|---|---|",
	}
	for _, s := range stages {
		for _, w := range writes[s.name] {
			after := tab.after[w][lost]
			for _, m := range modes() {
				if tab.after[w][m] != after {
					after += " / " + tab.after[w][m]
				}
			}
			out = append(out, fmt.Sprintf("| %s | %s | %s | %s |", w, tab.cells[w][lost], tab.cells[w][killed], after))
		}
	}
	return out
}

// checkREADME: the README's table has exactly these rows.
func checkREADME(t *testing.T, rows []string) {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "README.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), rows[0]+"\n")
	if !found {
		t.Fatalf("the README has no table %q; it should be:\n%s", rows[0], strings.Join(rows, "\n"))
	}
	have, _, _ := strings.Cut(rest, "\n\n")
	if want := strings.Join(rows[1:], "\n"); strings.TrimSpace(have) != want {
		t.Errorf("the README's table is out of date; it should be:\n%s\n%s", rows[0], want)
	}
}
