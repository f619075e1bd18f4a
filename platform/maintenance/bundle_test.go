package maintenance_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/models"
	"roost/models/pgtest"
	"roost/platform/maintenance"
)

const (
	keyTTL   = 24 * time.Hour
	month    = "interval '30 days 1 minute'"        // longer than anything is kept
	almost   = "interval '29 days 23 hours'"        // and not quite as long
	canary   = "c0ffee-canary"                      // stands for encrypted_env
	patience = 20 * time.Second                     // after which a state is not reached any more
	tick     = 5 * time.Millisecond                 // between two looks at a state
	someSpec = `{"encrypted_env":"` + canary + `"}` // what Platform's and Owl's rows hold
)

// testBundle is one node's maintenance over a database of its own and a
// scripted Owl.
type testBundle struct {
	t    *testing.T
	db   *gorm.DB
	owl  *owlapitest.Fake
	url  string
	mint *api.Minter
	log  *lockedBuffer
	due  atomic.Int64 // how often rows were told to be due

	m         *maintenance.Maintenance
	reg       *prometheus.Registry
	workspace api.ID
	app       api.ID
	ordinal   atomic.Int64
}

func setup(t *testing.T, adjust ...func(*maintenance.Config)) *testBundle {
	t.Helper()
	mint := api.NewMinter()
	b := &testBundle{t: t, db: pgtest.Platform(t), mint: mint, log: &lockedBuffer{}, workspace: mint.ID(), app: mint.ID()}
	b.owl, b.url = owlapitest.Start(t, owlapitest.Config{})
	b.m, b.reg = b.node(adjust...)
	return b
}

// node is one more node over the same databases.
func (b *testBundle) node(adjust ...func(*maintenance.Config)) (*maintenance.Maintenance, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	cfg := maintenance.Config{
		DB: b.db, Owl: b.client(), Registry: reg, Minter: b.mint,
		Logger: slog.New(slog.NewJSONHandler(b.log, nil)),
		KeyTTL: keyTTL, SweepInterval: time.Hour, Due: func() { b.due.Add(1) },
	}
	for _, f := range adjust {
		f(&cfg)
	}
	return maintenance.New(cfg), reg
}

func (b *testBundle) client() *owlapi.Client { return owlapi.New(owlapi.Config{BaseURL: b.url}) }

func (b *testBundle) exec(sql string, args ...any) int64 {
	b.t.Helper()
	res := b.db.Exec(sql, args...)
	require.NoError(b.t, res.Error)
	return res.RowsAffected
}

// one requires that the statement changes one row.
func (b *testBundle) one(sql string, args ...any) {
	b.t.Helper()
	require.EqualValues(b.t, 1, b.exec(sql, args...), sql)
}

func (b *testBundle) count(table string, where ...any) (n int) {
	b.t.Helper()
	query := "SELECT count(*) FROM " + table
	var args []any
	if len(where) > 0 {
		query, args = query+" WHERE "+where[0].(string), where[1:]
	}
	require.NoError(b.t, b.db.Raw(query, args...).Scan(&n).Error)
	return n
}

// operation inserts one; it has ended if status has.
func (b *testBundle) operation(status api.OperationStatus, vm *api.ID, targets ...api.ID) string {
	b.t.Helper()
	id := b.mint.OperationID()
	require.NoError(b.t, b.db.Create(&models.Operation{
		ID: id, WorkspaceID: b.workspace, Kind: api.KindCVMCreate, Status: status, AppID: b.app, VMUUID: vm, Generation: 1,
	}).Error)
	if status.Ended() {
		b.one(`UPDATE operations SET finished_at = now() WHERE id = ?`, id)
	}
	for _, cvm := range targets {
		b.one(`INSERT INTO operation_targets (operation_id, cvm_id, generation, ended_at)
			SELECT id, ?, 1, finished_at FROM operations WHERE id = ?`, cvm, id)
	}
	return id
}

// spec inserts one.
func (b *testBundle) spec() api.ID {
	b.t.Helper()
	id := b.mint.ID()
	b.one(`INSERT INTO specs (id, workspace_id, body, summary) VALUES (?, ?, ?, '{}')`, id, b.workspace, someSpec)
	return id
}

// cvm inserts a CVM at rest, at generation 1 and as confirmed as could be,
// which Owl has too.
func (b *testBundle) cvm() api.ID {
	b.t.Helper()
	id := b.insertCVM()
	b.atOwl(id)
	return id
}

// insertCVM is a CVM that Owl lacks.
func (b *testBundle) insertCVM() api.ID {
	b.t.Helper()
	id := b.mint.ID()
	spec, op := b.spec(), b.operation(api.OperationSucceeded, &id, id)
	require.NoError(b.t, b.db.Create(&models.CVM{
		ID: id, WorkspaceID: b.workspace, AppID: b.app, Ordinal: b.ordinal.Add(1), ReplicaOf: &b.app, Name: "web",
		CreateSpecID: spec, SpecID: spec, Power: api.PowerRunning,
		OperationID: op, OperationKind: api.KindCVMCreate, CreateOperationID: op, Generation: 1,
		Confirmed: true, PushedGeneration: 1, ObservedGeneration: 1,
	}).Error)
	b.one(`UPDATE cvms SET reconcile_after = NULL WHERE id = ?`, id)
	return id
}

// atOwl creates the CVM at Owl.
func (b *testBundle) atOwl(id api.ID) {
	b.t.Helper()
	_, created, err := b.client().CreateCVM(b.t.Context(), owlapi.CreateCVM{
		ID: id, AppID: b.app, Name: "web", Spec: json.RawMessage(someSpec),
	})
	require.NoError(b.t, err)
	require.True(b.t, created)
	b.owl.Record(id) // the machine is there
}

// rule inserts a rule at rest that Owl has too, of a CVM that both have.
func (b *testBundle) rule(cvm api.ID) api.ID {
	b.t.Helper()
	id := b.mint.ID()
	b.one(`INSERT INTO firewall_rules (id, workspace_id, cvm_id, cidr, protocol, status, confirmed, reconcile_after)
		VALUES (?, ?, ?, '10.0.0.0/8', 'tcp', 'active', true, NULL)`, id, b.workspace, cvm)
	b.ruleAtOwl(id, cvm)
	return id
}

func (b *testBundle) ruleAtOwl(id, cvm api.ID) {
	b.t.Helper()
	_, _, err := b.client().CreateFirewallRule(b.t.Context(), owlapi.CreateFirewallRule{ID: id, CVMID: cvm, CIDR: "10.0.0.0/8"})
	require.NoError(b.t, err)
}

// dueNow reports whether the row is due, of cvms or firewall_rules.
func (b *testBundle) dueNow(table string, id api.ID) bool {
	b.t.Helper()
	return b.count(table, "id = ? AND reconcile_after <= now()", id) == 1
}

func (b *testBundle) reap() { b.m.Reap(b.t.Context()) }

func (b *testBundle) sweep() maintenance.Findings {
	b.t.Helper()
	found, err := b.m.Sweep(b.t.Context())
	require.NoError(b.t, err)
	return found
}

// metric adds up a metric over its labels.
func (b *testBundle) metric(reg *prometheus.Registry, name string) (sum float64) {
	b.t.Helper()
	families, err := reg.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// atOnce runs fn n times, all let go at the same moment.
func atOnce(n int, fn func(i int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { <-start; fn(i) })
	}
	close(start)
	wg.Wait()
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines counts log lines with the text.
func (l *lockedBuffer) lines(text string) (n int) {
	for line := range bytes.Lines([]byte(l.String())) {
		if bytes.Contains(line, []byte(text)) {
			n++
		}
	}
	return n
}

func requireCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	var coded *api.Error
	require.ErrorAs(t, err, &coded)
	require.Equal(t, code, coded.Code)
}
