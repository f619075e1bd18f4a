package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"roost/api"
)

// converge is P6 for these tests' leases: nothing stays unfinished longer once
// the faults have ended. The longest backoff is Owl's, which nobody configures.
const converge = Lease + owlBackoffMax + 5*time.Second

// owlBackoffMax is owl/provision's backoffMax.
const owlBackoffMax = 15 * time.Second

// idleStartup is longer than a stack takes to start on a machine that is not
// starved. On one that is, converge is longer in the same proportion.
const idleStartup = 2 * time.Second

// Limit is converge on this machine, as it is.
func (s *Stack) Limit() time.Duration {
	return time.Duration(float64(converge) * max(1, s.startup.Seconds()/idleStartup.Seconds()))
}

// AtRest waits until nothing is unfinished on either side and holds the state
// against everything that was promised (FAULTS.md, "Checks at rest"). It
// returns how long that took since FaultsEnded, and logs it.
func (s *Stack) AtRest() time.Duration {
	s.T.Helper()
	took := s.AwaitRest()
	s.T.Logf("converged: %s %.3fs", s.T.Name(), took.Seconds())
	if took > s.Limit() {
		s.T.Errorf("it took %s to converge, longer than %s", took, s.Limit())
	}
	s.Check()
	return took
}

// AwaitAgreement waits until nothing is unfinished and both sides and the
// machines agree, for faults after which rows that are at rest differ. It is
// followed by AtRest. It returns how long it took since FaultsEnded.
func (s *Stack) AwaitAgreement() time.Duration {
	s.T.Helper()
	var faults []string
	err := poll(s.T.Context(), func(ctx context.Context) (bool, error) {
		left, err := s.unfinished(ctx)
		if err != nil || len(left) > 0 {
			return false, nil //nolint:nilerr // a database may just have been away
		}
		faults = s.state().faults() //nolint:contextcheck // its queries have the patience of their own
		return len(faults) == 0, nil
	})
	if err != nil {
		s.T.Fatalf("no agreement: %v:\n%s", err, strings.Join(faults, "\n"))
	}
	return time.Since(s.ended)
}

// AwaitRest is the waiting of AtRest without its checks.
func (s *Stack) AwaitRest() time.Duration {
	s.T.Helper()
	var left []string
	err := poll(s.T.Context(), func(ctx context.Context) (bool, error) {
		var err error
		left, err = s.unfinished(ctx)
		return err == nil && len(left) == 0, nil // a database may just have been away
	})
	if err != nil {
		s.T.Fatalf("still unfinished: %v:\n%s", err, strings.Join(left, "\n"))
	}
	return time.Since(s.ended)
}

// Check holds the state at rest against what was promised, without waiting.
func (s *Stack) Check() {
	s.T.Helper()
	r := s.state()
	faults := append(r.faults(), s.broken(r)...)
	if !s.KeysExpire {
		faults = append(faults, s.Journal.contradictions()...)
	}
	s.Each(func(n *Node) { faults = append(faults, n.misbehaviour()...) })
	for _, fault := range faults {
		s.T.Errorf("at rest: %s", fault)
	}
}

// unfinished names what is still to be done.
func (s *Stack) unfinished(ctx context.Context) ([]string, error) {
	var left, below []string
	err := s.PlatformDB.WithContext(ctx).Raw(`
		SELECT 'platform: cvm ' || id || ' ' || COALESCE(owl_status, '-') FROM cvms WHERE reconcile_after IS NOT NULL
		UNION ALL SELECT 'platform: rule ' || id FROM firewall_rules WHERE reconcile_after IS NOT NULL
		UNION ALL SELECT 'platform: operation ' || id || ' ' || kind FROM operations WHERE status IN ('pending', 'running')`).
		Find(&left).Error
	if err != nil {
		return nil, fmt.Errorf("ask Platform's database what is unfinished: %w", err)
	}
	err = s.OwlDB.WithContext(ctx).Raw(`
		SELECT 'owl: cvm ' || id || ' ' || status FROM cvms WHERE due_at IS NOT NULL
		UNION ALL SELECT 'owl: rule ' || id FROM firewall_rules WHERE due_at IS NOT NULL`).
		Find(&below).Error
	if err != nil {
		return nil, fmt.Errorf("ask Owl's database what is unfinished: %w", err)
	}
	return append(left, below...), nil
}

// rest is both sides' state and the driver's.
type rest struct {
	platform map[api.ID]platformRow
	owl      map[api.ID]owlRow
	orphans  map[api.ID]bool
	effects  []Effect
}

type platformRow struct {
	ID         api.ID
	Generation int64
	Power      string
	Deleted    bool
	Known      bool // to Owl, as far as Platform heard
	ErrorCode  string
}

type owlRow struct {
	ID         api.ID
	Generation int64
	Power      string
	Status     string
	Deleted    bool
}

func (s *Stack) state() *rest {
	s.T.Helper()
	r := &rest{platform: map[api.ID]platformRow{}, owl: map[api.ID]owlRow{}, effects: s.Effects()}
	for _, row := range rows[platformRow](s.T, s.PlatformDB, `SELECT id, generation, power, deleting_at IS NOT NULL AS deleted,
		confirmed OR delete_confirmed AS known, COALESCE(error_code, '') AS error_code FROM cvms`) {
		r.platform[row.ID] = row
	}
	for _, row := range rows[owlRow](s.T, s.OwlDB, `SELECT id, generation, power, status,
		delete_requested_at IS NOT NULL AS deleted FROM cvms`) {
		r.owl[row.ID] = row
	}
	r.orphans = s.Orphans()
	return r
}

// Orphans are the IDs that Platform has recorded as Owl's alone.
func (s *Stack) Orphans() map[api.ID]bool {
	s.T.Helper()
	out := map[api.ID]bool{}
	if rows[bool](s.T, s.PlatformDB, `SELECT to_regclass('orphans') IS NOT NULL`)[0] {
		for _, id := range rows[api.ID](s.T, s.PlatformDB, `SELECT id FROM orphans`) {
			out[id] = true
		}
	}
	return out
}

// rows asks again when its connection has gone: databases are killed and
// swapped in these tests.
func rows[T any](tb testing.TB, db *gorm.DB, query string, args ...any) []T {
	tb.Helper()
	var out []T
	err := poll(tb.Context(), func(ctx context.Context) (bool, error) {
		out = nil
		err := db.WithContext(ctx).Raw(query, args...).Find(&out).Error
		if code := new(pgconn.PgError); errors.As(err, &code) && !strings.HasPrefix(code.Code, "57P") {
			return false, err // the query's own fault
		}
		return err == nil, nil
	})
	if err != nil {
		tb.Fatalf("query: %v: %s", err, query)
	}
	return out
}

// Rows runs a query on one of the stack's databases.
func Rows[T any](s *Stack, db *gorm.DB, query string, args ...any) []T {
	s.T.Helper()
	return rows[T](s.T, db, query, args...)
}

// faults are where the two databases and the machines disagree.
func (r *rest) faults() (out []string) {
	for id, mine := range r.platform {
		out = append(out, r.compare(id, mine)...)
	}
	for id, theirs := range r.owl {
		if _, ok := r.platform[id]; !ok && !theirs.Deleted && !r.orphans[id] {
			out = append(out, fmt.Sprintf("%s is Owl's alone and no recorded orphan", id))
		}
	}
	return append(out, r.machineFaults()...)
}

func (r *rest) compare(id api.ID, mine platformRow) (out []string) {
	theirs, ok := r.owl[id]
	report := func(format string, args ...any) { out = append(out, id.String()+" "+fmt.Sprintf(format, args...)) }
	switch {
	case !ok && mine.Known:
		report("is missing at Owl")
	case !ok && mine.ErrorCode == "":
		report("never reached Owl and has no error")
	case !ok:
	case mine.Deleted != theirs.Deleted && mine.ErrorCode != string(api.CodeResourceDeleted):
		report("is deleted: %t here, %t at Owl", mine.Deleted, theirs.Deleted)
	case mine.Deleted || theirs.Deleted:
	case mine.Generation != theirs.Generation || mine.Power != theirs.Power:
		report("is generation %d %s here, %d %s at Owl", mine.Generation, mine.Power, theirs.Generation, theirs.Power)
	}
	return out
}

// Effect is one line of the driver's log.
type Effect struct {
	ID         api.ID `json:"id"`
	Generation int64  `json:"generation"`
	Effect     string `json:"effect"` // create start stop restart update remove
}

// Effects is what the driver did, oldest first.
func (s *Stack) Effects() []Effect {
	s.T.Helper()
	data, err := os.ReadFile(filepath.Join(s.SimDir, "effects.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		s.T.Fatalf("read the effect log: %v", err)
	}
	var out []Effect
	for line := range bytes.Lines(data) {
		var e Effect
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := json.Unmarshal(line, &e); err != nil {
			s.T.Fatalf("read the effect log: %v", err)
		}
		out = append(out, e)
	}
	return out
}

// Machine is what the driver did to one machine, such as "create start".
func (s *Stack) Machine(id api.ID) string {
	s.T.Helper()
	var done []string
	for _, e := range s.Effects() {
		if e.ID == id {
			done = append(done, e.Effect)
		}
	}
	return strings.Join(done, " ")
}

// machineFaults: one create per ID, nothing after remove, and every machine as
// Owl's row says.
func (r *rest) machineFaults() (out []string) {
	report := func(id api.ID, what string) { out = append(out, "the machine "+id.String()+" "+what) }
	creates, removed, on := map[api.ID]int{}, map[api.ID]bool{}, map[api.ID]bool{}
	for _, e := range r.effects {
		if removed[e.ID] {
			report(e.ID, "was removed, then: "+e.Effect)
		}
		switch e.Effect {
		case "create":
			creates[e.ID]++
		case "remove":
			removed[e.ID] = true
		case "start", "restart":
			on[e.ID] = true
		case "stop":
			on[e.ID] = false
		}
	}
	for id, n := range creates {
		theirs, ok := r.owl[id]
		switch {
		case n != 1:
			report(id, fmt.Sprintf("was created %d times", n))
		case !ok && removed[id]: // and its tombstone has had its time
		case !ok:
			report(id, "is unknown to Owl")
		case theirs.Deleted != removed[id]:
			report(id, fmt.Sprintf("was removed: %t; deleted at Owl: %t", removed[id], theirs.Deleted))
		case !theirs.Deleted && theirs.Status != "failed" && on[id] != (theirs.Power == "running"):
			report(id, fmt.Sprintf("runs: %t; Owl wants it %s", on[id], theirs.Power))
		}
	}
	for id, theirs := range r.owl {
		if creates[id] == 0 && !theirs.Deleted {
			report(id, "was never made, and Owl has it")
		}
	}
	return out
}

// broken are the promises that the databases do not keep: what was
// acknowledged and is not there, and what is there and nobody asked for.
func (s *Stack) broken(r *rest) (out []string) {
	s.T.Helper()
	operations := map[string]bool{}
	for _, id := range rows[string](s.T, s.PlatformDB, `SELECT id FROM operations`) {
		operations[id] = true
	}
	promised := map[string]bool{}
	for _, a := range s.Journal.Acknowledged() {
		n, err := a.named()
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		promised[n.Operation.ID] = true
		if n.Operation.ID != "" && !operations[n.Operation.ID] {
			out = append(out, "the operation "+n.Operation.ID+" was acknowledged and is gone")
		}
		for _, text := range n.cvms() {
			if id, err := api.ParseID(text); err != nil || r.platform[id].ID != id {
				out = append(out, "the CVM "+text+" was acknowledged and is gone")
			}
		}
	}
	return append(out, s.unasked(promised)...)
}

// unasked are CVMs that no key and no acknowledged operation accounts for, and
// more of them than an operation was for.
func (s *Stack) unasked(promised map[string]bool) (out []string) {
	s.T.Helper()
	type made struct {
		Operation string
		Made      int
		Targets   int
		Keyed     bool
	}
	for _, m := range rows[made](s.T, s.PlatformDB, `
		SELECT c.create_operation_id AS operation, count(*) AS made,
			(SELECT count(*) FROM operation_targets t WHERE t.operation_id = c.create_operation_id) AS targets,
			EXISTS (SELECT FROM idempotency_keys k WHERE k.operation_id = c.create_operation_id) AS keyed
		FROM cvms c GROUP BY c.create_operation_id`) {
		if m.Made > m.Targets {
			out = append(out, fmt.Sprintf("the operation %s was for %d CVMs and made %d", m.Operation, m.Targets, m.Made))
		}
		if !m.Keyed && !promised[m.Operation] && !s.KeysExpire {
			out = append(out, fmt.Sprintf("the operation %s made %d CVMs, and no key and no answer names it", m.Operation, m.Made))
		}
	}
	for _, drift := range rows[int](s.T, s.PlatformDB, `SELECT w.cvms - (SELECT count(*) FROM cvms c
		WHERE c.workspace_id = w.id AND c.deleting_at IS NULL) FROM workspaces w`) {
		if drift != 0 {
			out = append(out, fmt.Sprintf("a workspace's counter is off by %d", drift))
		}
	}
	return out
}
