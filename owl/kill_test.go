package owl_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/migrations"
	"roost/models/pg"
	"roost/models/pgtest"
	"roost/owl"
	"roost/owl/driver/sim"
	"roost/owl/registry"
)

// Names of a process that is there to be killed.
const (
	victimDatabase = "ROOST_OWL_VICTIM_DATABASE"
	victimDir      = "ROOST_OWL_VICTIM_DIR"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(victimDatabase); url != "" {
		os.Exit(victim(url, os.Getenv(victimDir)))
	}
	os.Exit(m.Run())
}

// victim runs an Owl without its HTTP side until it is killed.
func victim(url, dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.DiscardHandler)
	db, err := pg.Open(ctx, pg.Config{URL: url}, log)
	if err != nil {
		return 1
	}
	host, err := sim.New(killedSim(dir))
	if err != nil {
		return 1
	}
	service, err := owl.New(owl.Config{
		DB: db, Driver: host, Logger: log, Registry: prometheus.NewRegistry(), Lease: 500 * time.Millisecond,
	})
	if err != nil || service.Run(ctx) != nil {
		return 1
	}
	return 0
}

func killedSim(dir string) sim.Config {
	return sim.Config{Dir: dir, Boot: 60 * time.Millisecond, Stop: 20 * time.Millisecond}
}

// Two Owls are killed again and again, wherever they happen to be, while CVMs
// are created, stopped, started and deleted. In the end every machine is what
// was last asked for, and no effect happened twice.
func TestKillsOfOwlLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	url, dir := pgtest.URL(t, migrations.Owl()), t.TempDir()
	db, err := pg.Open(t.Context(), pg.Config{URL: url}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { _ = pg.Close(db) })
	resources := registry.New(db, func() {})
	ids := make([]api.ID, 30)
	mint := api.NewMinter()
	for i := range ids {
		ids[i] = mint.ID()
		_, err := resources.CreateCVMs(t.Context(), []owlapi.CreateCVM{
			{ID: ids[i], AppID: ids[0], Name: "web", Spec: json.RawMessage(`{}`)},
		})
		require.NoError(t, err)
	}
	const rounds = 8
	for round := range rounds {
		runVictims(t, url, dir, time.Duration(100+40*round)*time.Millisecond)
		ask(t, resources, ids, round)
	}
	ctx, stop := context.WithCancel(t.Context())
	survivor := startVictim(ctx, url, dir)
	defer func() { stop(); _ = survivor.Wait() }()
	awaitAll(t, resources, ids)
	requireSingleEffects(t, dir, ids, rounds)
}

// ask changes what a third of the CVMs should be: stopped, started, deleted.
func ask(t *testing.T, resources *registry.Registry, ids []api.ID, round int) {
	t.Helper()
	power := []api.Power{api.PowerStopped, api.PowerRunning}[round%2]
	for i, id := range ids {
		switch {
		case i%3 == 0:
			_, err := resources.ApplyCVM(t.Context(), id, owlapi.PutCVM{
				Generation: int64(2 + round), Power: power, Spec: json.RawMessage(`{}`),
			})
			require.NoError(t, err)
		case i%3 == 1 && round == i%8:
			require.NoError(t, resources.DeleteCVM(t.Context(), id))
		}
	}
}

func startVictim(ctx context.Context, url, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0]) // its context's end is a SIGKILL
	cmd.Env = append(os.Environ(), victimDatabase+"="+url, victimDir+"="+dir)
	_ = cmd.Start()
	return cmd
}

func runVictims(t *testing.T, url, dir string, lives time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lives)
	defer cancel()
	both := []*exec.Cmd{startVictim(ctx, url, dir), startVictim(ctx, url, dir)}
	for _, cmd := range both {
		_ = cmd.Wait()
	}
}

func awaitAll(t *testing.T, resources *registry.Registry, ids []api.ID) {
	t.Helper()
	require.Eventually(t, func() bool {
		all, err := resources.CVMs(t.Context(), registry.List{IDs: ids})
		if err != nil || len(all) != len(ids) {
			return false
		}
		for _, c := range all {
			want := map[api.Power]api.Status{api.PowerRunning: api.StatusRunning, api.PowerStopped: api.StatusStopped}[c.Power]
			if c.DeletedAt == nil && (c.Status != want || c.ObservedGeneration != c.Generation) {
				return false
			}
		}
		return true
	}, 30*time.Second, 20*time.Millisecond)
}

// requireSingleEffects wants one create of each ID, each effect once in a
// generation, and nothing after a removal. (Two stops in a row are right: the
// boot between them never ended.)
func requireSingleEffects(t *testing.T, dir string, ids []api.ID, rounds int) {
	t.Helper()
	host, err := sim.New(killedSim(dir))
	require.NoError(t, err)
	defer func() { _ = host.Close() }()
	effects, err := host.Effects()
	require.NoError(t, err)
	last := map[api.ID]string{}
	seen := map[sim.Effect]bool{}
	for _, e := range effects {
		before := last[e.ID]
		require.Equal(t, before == "", e.Effect == "create", "%s after %q", e.Effect, before)
		require.NotEqual(t, "remove", before)
		last[e.ID] = e.Effect
		e.At = api.Time{}
		require.False(t, seen[e], "%+v happened twice", e)
		seen[e] = true
	}
	require.LessOrEqual(t, len(last), len(ids))
	t.Logf("%d effects on %d machines in %d rounds of kills", len(effects), len(last), rounds)
}
