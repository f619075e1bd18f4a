package platformcmd

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/owlapi/owlapitest"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pgtest"
	"roost/models/pgtest/pgproxy"
	"roost/platform/maintenance"
)

// orphanBundle is a Platform's database, and an Owl that has what it has not.
type orphanBundle struct {
	t    *testing.T
	mint *api.Minter
	db   *gorm.DB
	at   string // the database
	fake *owlapitest.Fake
	owl  *owlapi.Client
	url  string
}

const orphanOwlToken = "owl's"

func setupOrphans(t *testing.T) *orphanBundle {
	t.Helper()
	b := &orphanBundle{t: t, mint: api.NewMinter(), at: pgtest.URL(t, migrations.Platform())}
	var err error
	b.db, err = pg.Open(t.Context(), pg.Config{URL: b.at}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close(b.db)) })
	b.fake, b.url = owlapitest.Start(t, owlapitest.Config{Token: orphanOwlToken})
	b.owl = owlapi.New(owlapi.Config{BaseURL: b.url, Token: orphanOwlToken})
	_, err = Token(t.Context(), b.db, "acme", "")
	require.NoError(t, err)
	_, err = Token(t.Context(), b.db, "other", "")
	require.NoError(t, err)
	return b
}

// orphan runs the command. It returns standard output and standard error.
func (b *orphanBundle) orphan(args ...string) (stdout, stderr string, err error) {
	b.t.Helper()
	var out, log strings.Builder
	err = Run(b.t.Context(), append([]string{"orphan"}, append(args, "--platform-database-url", b.at,
		"--platform-owl-url", b.url, "--platform-owl-token", orphanOwlToken)...), &out, &log)
	return out.String(), log.String(), err
}

func (b *orphanBundle) adopts(args ...string) string {
	b.t.Helper()
	out, _, err := b.orphan(append([]string{"adopt"}, args...)...)
	require.NoError(b.t, err)
	return out
}

// refuses requires an error with the text, and that nothing was done.
func (b *orphanBundle) refuses(text string, args ...string) {
	b.t.Helper()
	before := b.rows()
	_, _, err := b.orphan(args...)
	require.ErrorContains(b.t, err, text)
	require.Equal(b.t, before, b.rows())
}

func (b *orphanBundle) rows() (rows []int64) {
	b.t.Helper()
	for _, count := range []string{
		"(SELECT count(*) FROM cvms)", "(SELECT count(*) FROM specs)", "(SELECT count(*) FROM apps)", "(SELECT count(*) FROM operations)",
		"(SELECT count(*) FROM firewall_rules)", "(SELECT count(*) FROM orphans)", "(SELECT sum(cvms) FROM workspaces)",
		"(SELECT COALESCE(sum(last_ordinal), 0) FROM apps)",
	} {
		var n int64
		require.NoError(b.t, b.db.Raw("SELECT "+count).Scan(&n).Error)
		rows = append(rows, n)
	}
	return rows
}

// create makes a CVM at Owl that Platform has never heard of.
func (b *orphanBundle) create(app api.ID, name, spec string, replicaOf *api.ID) api.ID {
	b.t.Helper()
	id := b.mint.ID()
	_, _, err := b.owl.CreateCVM(b.t.Context(), owlapi.CreateCVM{
		ID: id, AppID: app, ReplicaOf: replicaOf, Name: name, Generation: 3, Spec: json.RawMessage(spec),
	})
	require.NoError(b.t, err)
	b.fake.Record(id)
	return id
}

// madeAt is when Owl made it.
func (b *orphanBundle) madeAt(id api.ID) time.Time {
	b.t.Helper()
	record, ok := b.fake.Record(id)
	require.True(b.t, ok)
	return record.CreatedAt.Time
}

func orphanSpec(name string) string {
	return fmt.Sprintf(`{"name":%q,"instance_type":"tdx.small","compose_file":{"docker_compose_file":"services: {}"}}`, name)
}

func (b *orphanBundle) sweep() {
	b.t.Helper()
	m := maintenance.New(maintenance.Config{
		DB: b.db, Owl: b.owl, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Minter: b.mint, Due: func() {},
	})
	_, err := m.Sweep(b.t.Context())
	require.NoError(b.t, err)
}

func TestOrphanListIsATable(t *testing.T) {
	t.Parallel()
	b := setupOrphans(t)
	out, log, err := b.orphan("list")
	require.NoError(t, err)
	require.Empty(t, out)
	require.Contains(t, log, "there are no orphans")
	app := b.mint.ID()
	id := b.create(app, "web", orphanSpec("web"), nil)
	b.sweep()
	out, _, err = b.orphan("list")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	require.Equal(t, []string{id.String(), "cvm", "web", app.String(), "-", "3"}, strings.Fields(lines[1])[:6])
}

func TestOrphanAdoptMakesTheRowsThatPlatformWouldHaveMade(t *testing.T) {
	t.Parallel()
	b := setupOrphans(t)
	app := b.mint.ID()
	id := b.create(app, "web", orphanSpec("web"), nil)
	copied := b.create(app, "copy", orphanSpec("web"), &id)
	b.sweep()
	b.refuses("name the workspace with --workspace", "adopt", id.String())
	b.refuses("there is no workspace nowhere", "adopt", id.String(), "--workspace", "nowhere")
	require.Contains(t, b.adopts(copied.String(), "--workspace", "acme"), "adopted "+copied.String())
	b.refuses("another workspace than other", "adopt", id.String(), "--workspace", "other")
	require.Contains(t, b.adopts(id.String()), "adopted "+id.String())

	type row struct {
		Workspace, App, Name, Kind, Status                    string
		Generation, Pushed, Observed, Ordinal, Quota, Targets int64
		Confirmed, Due, Finished                              bool
		CreatedAt                                             time.Time
	}
	var rows []row
	require.NoError(t, b.db.Raw(`SELECT w.name AS workspace, a.name AS app, c.name, o.kind, o.status, c.generation,
			c.pushed_generation AS pushed, c.observed_generation AS observed, c.ordinal, w.cvms AS quota,
			(SELECT count(*) FROM operation_targets) AS targets,
			c.confirmed, c.reconcile_after <= now() AS due, o.finished_at IS NOT NULL AS finished, c.created_at
		FROM cvms c JOIN apps a ON a.id = c.app_id JOIN workspaces w ON w.id = c.workspace_id AND w.id = a.workspace_id
		JOIN specs s ON s.id = c.spec_id AND s.id = c.create_spec_id AND s.workspace_id = w.id
		JOIN operations o ON o.id = c.operation_id AND o.id = c.create_operation_id AND o.workspace_id = w.id
		ORDER BY c.ordinal`).Find(&rows).Error)
	want := row{
		Workspace: "acme", App: "web", Name: "copy", Kind: "cvm.replicate", Status: "succeeded",
		Generation: 3, Pushed: 3, Observed: 3, Ordinal: 1, Quota: 2, Confirmed: true, Due: true, Finished: true,
		CreatedAt: b.madeAt(copied),
	}
	first := want
	first.Name, first.Kind, first.Ordinal, first.CreatedAt = "web", "cvm.create", 2, b.madeAt(id)
	for i := range rows {
		rows[i].CreatedAt = rows[i].CreatedAt.UTC()
	}
	require.Equal(t, []row{want, first}, rows)
	b.sweep()
	out, _, _ := b.orphan("list")
	require.Empty(t, out)
}

func TestOrphanAdoptIsSafeToRepeat(t *testing.T) {
	t.Parallel()
	b := setupOrphans(t)
	id := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
	b.sweep()
	b.adopts(id.String(), "--workspace", "acme")
	before := b.rows()
	require.Contains(t, b.adopts(id.String(), "--workspace", "acme"), "already")
	// Also when a sweep that was slow has recorded it once more.
	require.NoError(t, b.db.Exec(`INSERT INTO orphans (id, kind, name, generation) VALUES (?, 'cvm', 'web', 3)`, id).Error)
	require.Contains(t, b.adopts(id.String()), "already")
	require.Equal(t, before, b.rows(), "and the orphan is gone")
	// And when it was deleted since: it did happen.
	require.NoError(t, b.db.Exec(`UPDATE cvms SET deleting_at = now(), deleted_at = now(), reconcile_after = NULL`).Error)
	require.Contains(t, b.adopts(id.String(), "--workspace", "acme"), "it was deleted there at")
}

// TestOrphanAdoptUnderAnotherName is for an app whose name another one has
// taken since. The CVM keeps the name that Owl compares.
func TestOrphanAdoptUnderAnotherName(t *testing.T) {
	t.Parallel()
	b := setupOrphans(t)
	taken := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
	app := b.mint.ID()
	first := b.create(app, "web", orphanSpec("web"), nil)
	copied := b.create(app, "web", orphanSpec("web"), &first)
	b.sweep()
	b.adopts(taken.String(), "--workspace", "acme")
	b.refuses("give this app ("+app.String()+") another name with --name NEWNAME", "adopt", first.String(), "--workspace", "acme")
	b.refuses("Nothing was done: give another --name", "adopt", first.String(), "--workspace", "acme", "--name", "a b")
	b.refuses("has another app named web", "adopt", first.String(), "--workspace", "acme", "--name", "web")
	b.adopts(first.String(), "--workspace", "acme", "--name", "web-2")
	b.refuses("leave --name out", "adopt", copied.String(), "--name", "web-3")
	b.adopts(copied.String(), "--workspace", "acme", "--name", "web-2")
	b.adopts(copied.String(), "--workspace", "acme", "--name", "web-2")
	type row struct{ App, Name string }
	var rows []row
	require.NoError(t, b.db.Raw(`SELECT a.name AS app, c.name FROM cvms c JOIN apps a ON a.id = c.app_id ORDER BY a.name, c.ordinal`).Find(&rows).Error)
	require.Equal(t, []row{{"web", "web"}, {"web-2", "web"}, {"web-2", "web"}}, rows)
}

// TestOrphanAdoptWhoseCommitIsNotAnswered is done once, and known to be ours.
func TestOrphanAdoptWhoseCommitIsNotAnswered(t *testing.T) {
	t.Parallel()
	for name, fate := range map[string]pgproxy.Fate{"reply lost": pgproxy.LoseReply, "request lost": pgproxy.LoseRequest} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupOrphans(t)
			id := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
			b.sweep()
			proxy := pgproxy.Start(t, b.at)
			b.at = proxy.URL
			proxy.Next(fate)
			require.Equal(t, "adopted "+id.String()+"\n", b.adopts(id.String(), "--workspace", "acme"))
			require.Equal(t, []int64{1, 1, 1, 1, 0, 0, 1, 1}, b.rows())
		})
	}
}

func TestOrphanAdoptRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		make func(b *orphanBundle) []string // the arguments
	}{
		"no orphan": {"there is no orphan", func(b *orphanBundle) []string { return []string{b.mint.ID().String()} }},
		"no ID":     {"is no ID", func(*orphanBundle) []string { return []string{"web"} }},
		"a spec of somebody else": {"/compose_file/docker_compose_file is required", func(b *orphanBundle) []string {
			return []string{b.create(b.mint.ID(), "web", `{"name":"web","instance_type":"tdx.small"}`, nil).String(), "--workspace", "acme"}
		}},
		"a spec with more in it": {"members that Platform does not know", func(b *orphanBundle) []string {
			return []string{b.create(b.mint.ID(), "web", strings.Replace(orphanSpec("web"), "{", `{"x":1,`, 1), nil).String(), "--workspace", "acme"}
		}},
		"a name that is taken": {"has another app named web", func(b *orphanBundle) []string {
			taken := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
			b.sweep()
			b.adopts(taken.String(), "--workspace", "acme")
			return []string{b.create(b.mint.ID(), "web", orphanSpec("web"), nil).String(), "--workspace", "acme"}
		}},
		"a second first CVM": {"has its first CVM", func(b *orphanBundle) []string {
			app := b.mint.ID()
			first := b.create(app, "web", orphanSpec("web"), nil)
			b.sweep()
			b.adopts(first.String(), "--workspace", "acme")
			return []string{b.create(app, "web", orphanSpec("web"), nil).String()}
		}},
		"deleted at Owl meanwhile": {"has no", func(b *orphanBundle) []string {
			id := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
			b.sweep()
			require.NoError(b.t, b.owl.DeleteCVM(b.t.Context(), id))
			return []string{id.String(), "--workspace", "acme"}
		}},
		"to be deleted": {"is to be deleted", func(b *orphanBundle) []string {
			id := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
			b.sweep()
			require.NoError(b.t, b.db.Exec(`UPDATE orphans SET decision = 'delete'`).Error)
			return []string{id.String(), "--workspace", "acme"}
		}},
		"deleted here long ago": {"never comes back", func(b *orphanBundle) []string {
			id := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
			b.sweep()
			b.adopts(id.String(), "--workspace", "acme")
			require.NoError(b.t, b.db.Exec(`UPDATE cvms SET deleting_at = now(), deleted_at = now() - interval '8 days', reconcile_after = NULL`).Error)
			return []string{id.String()}
		}},
		"Owl away": {"it is safe to repeat", func(b *orphanBundle) []string {
			id := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
			b.sweep()
			b.fake.FailNext(1, http.StatusServiceUnavailable)
			return []string{id.String(), "--workspace", "acme"}
		}},
		"a rule without its CVM": {"adopt that first", func(b *orphanBundle) []string {
			cvm := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
			id := b.mint.ID()
			_, _, err := b.owl.CreateFirewallRule(b.t.Context(), owlapi.CreateFirewallRule{ID: id, CVMID: cvm, CIDR: "10.0.0.0/8"})
			require.NoError(b.t, err)
			return []string{id.String()}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupOrphans(t)
			args := tc.make(b)
			if name != "deleted at Owl meanwhile" && name != "to be deleted" && name != "Owl away" {
				b.sweep()
			}
			b.refuses(tc.text, append([]string{"adopt"}, args...)...)
		})
	}
}

// TestOrphansOfOneAppAreAdoptedAtOnce: the app is made once, and one of two
// that both want to be its first CVM is.
func TestOrphansOfOneAppAreAdoptedAtOnce(t *testing.T) {
	t.Parallel()
	b := setupOrphans(t)
	app := b.mint.ID()
	first, second := b.create(app, "web", orphanSpec("web"), nil), b.create(app, "web", orphanSpec("web"), nil)
	ids := []api.ID{first, second, first, second}
	for range 2 {
		ids = append(ids, b.create(app, "web", orphanSpec("web"), &first))
	}
	b.sweep()
	errs := make(chan error, len(ids))
	for _, id := range ids {
		go func() {
			_, _, err := b.orphan("adopt", id.String(), "--workspace", "acme")
			errs <- err
		}()
	}
	refused := 0
	for range ids {
		if err := <-errs; err != nil {
			require.ErrorContains(t, err, "has its first CVM")
			refused++
		}
	}
	require.Equal(t, 2, refused)
	rows := b.rows()
	require.Equal(t, []int64{3, 3, 1, 3, 0, 1, 3}, rows[:7])
}

func TestOrphanDelete(t *testing.T) {
	t.Parallel()
	b := setupOrphans(t)
	id := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
	b.sweep()
	b.fake.DropNext(1)
	_, _, err := b.orphan("delete", id.String())
	require.ErrorContains(t, err, "it is decided")
	out, _, err := b.orphan("delete", id.String())
	require.NoError(t, err)
	require.Equal(t, "deleted "+id.String()+"\n", out)
	record, _ := b.fake.Record(id)
	require.True(t, record.Deleted())
	out, _, err = b.orphan("delete", id.String())
	require.NoError(t, err, "a repeat of what has happened")
	require.Equal(t, "it was deleted before: "+id.String()+"\n", out)
	b.refuses("there is no orphan", "delete", b.mint.ID().String())

	mine := b.create(b.mint.ID(), "web", orphanSpec("web"), nil)
	b.sweep()
	b.adopts(mine.String(), "--workspace", "acme")
	b.refuses("is no orphan", "delete", mine.String())
	record, _ = b.fake.Record(mine)
	require.False(t, record.Deleted())
}
