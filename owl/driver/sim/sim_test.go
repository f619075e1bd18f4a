package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roost/api"
	"roost/owl/driver"
	"roost/owl/driver/drivertest"
	"roost/owl/driver/sim"
)

// victimDir names the directory of a process that is there to be killed.
const victimDir = "ROOST_SIM_VICTIM_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, func(t *testing.T) func() driver.Driver {
		t.Helper()
		dir := t.TempDir()
		return func() driver.Driver {
			return open(t, sim.Config{Dir: dir, Boot: 20 * time.Millisecond, Stop: 5 * time.Millisecond})
		}
	})
}

type testBundle struct {
	*sim.Driver
	cfg sim.Config
	id  api.ID
}

func setup(t *testing.T, change func(*sim.Config)) *testBundle {
	t.Helper()
	cfg := sim.Config{Dir: t.TempDir(), Boot: 10 * time.Millisecond, Stop: time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	return &testBundle{Driver: open(t, cfg), cfg: cfg, id: api.NewMinter().ID()}
}

func open(t *testing.T, cfg sim.Config) *sim.Driver {
	t.Helper()
	d, err := sim.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func want(power api.Power, restart string) driver.Desired {
	d := driver.Desired{Name: "web", Spec: json.RawMessage(`{"vcpu":1}`), Power: power}
	if restart != "" {
		d.Restart = &restart
	}
	return d
}

func (b *testBundle) ensure(t *testing.T, generation int64, d driver.Desired) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := b.Ensure(ctx, b.id, generation, d); err != nil {
		t.Fatalf("Ensure(generation %d): %v", generation, err)
	}
}

// wantEffects compares the log of one ID with effects like "create".
func (b *testBundle) wantEffects(t *testing.T, want ...string) {
	t.Helper()
	all, err := b.Effects()
	if err != nil {
		t.Fatalf("Effects: %v", err)
	}
	var got []string
	for _, e := range all {
		if e.ID == b.id {
			got = append(got, e.Effect)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("effects = %v, want %v", got, want)
	}
}

func TestEffectsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, step := range []struct {
		generation int64
		desired    driver.Desired
		effects    []string
	}{
		{1, want(api.PowerRunning, ""), []string{"create", "start"}},
		{2, want(api.PowerStopped, ""), []string{"stop"}},
		{3, want(api.PowerRunning, ""), []string{"start"}},
		{4, want(api.PowerRunning, "op_A"), []string{"restart"}},
		{5, want(api.PowerRunning, "op_A"), nil},
		{6, want(api.PowerRunning, "op_B"), []string{"restart"}},
		{7, want(api.PowerStopped, "op_B"), []string{"stop"}},
		{8, want(api.PowerRunning, "op_C"), []string{"start"}}, // bringing it up applies the restart
		{9, want(api.PowerRunning, "op_C"), nil},
		{10, driver.Desired{Name: "web", Spec: json.RawMessage(`{"vcpu":2}`), Power: api.PowerRunning}, []string{"update"}},
	} {
		before, err := b.Effects()
		if err != nil {
			t.Fatalf("Effects: %v", err)
		}
		b.ensure(t, step.generation, step.desired)
		b.ensure(t, step.generation, step.desired)
		after, err := b.Effects()
		if err != nil {
			t.Fatalf("Effects: %v", err)
		}
		var got []string
		for _, e := range after[len(before):] {
			got = append(got, e.Effect)
			if e.Generation != step.generation || e.ID != b.id {
				t.Errorf("generation %d logged %+v", step.generation, e)
			}
		}
		if !slices.Equal(got, step.effects) {
			t.Errorf("generation %d: effects = %v, want %v", step.generation, got, step.effects)
		}
	}
}

func TestRemoveIsLoggedOnceAndOnlyForWhatWas(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	if err := b.Remove(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	b.wantEffects(t)
	b.id = api.NewMinter().ID()
	b.ensure(t, 1, want(api.PowerRunning, ""))
	for range 2 {
		if err := b.Remove(t.Context(), b.id); err != nil {
			t.Fatal(err)
		}
	}
	b.wantEffects(t, "create", "start", "remove")
}

func TestFailIsForGood(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Fail = regexp.MustCompile("^web$") })
	for _, generation := range []int64{1, 1, 2} {
		_, err := b.Ensure(t.Context(), b.id, generation, want(api.PowerRunning, ""))
		var failure *driver.Failure
		if !errors.As(err, &failure) || failure.Code != sim.CodeFailed {
			t.Fatalf("Ensure(generation %d) = %v, want %s", generation, err, sim.CodeFailed)
		}
	}
	b.ensure(t, 3, want(api.PowerStopped, "")) // it exists, and can be what needs no boot
	b.wantEffects(t, "create")
}

func TestBootIsNotSleptUnderALock(t *testing.T) {
	t.Parallel()
	const machines, boot = 200, 300 * time.Millisecond
	b := setup(t, func(c *sim.Config) { c.Boot = boot })
	mint, began := api.NewMinter(), time.Now()
	var all sync.WaitGroup
	for range machines {
		id := mint.ID()
		all.Go(func() {
			if _, err := b.Ensure(t.Context(), id, 1, want(api.PowerRunning, "")); err != nil {
				t.Errorf("Ensure: %v", err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > machines*boot/10 {
		t.Errorf("%d machines took %s; they boot one after the other", machines, took)
	}
}

func TestBootHonoursItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Boot = time.Hour })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Ensure(ctx, b.id, 1, want(api.PowerRunning, "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Ensure = %v, want the context's end", err)
	}
	// The mind can change while it boots.
	b.ensure(t, 2, want(api.PowerStopped, ""))
	b.wantEffects(t, "create", "stop")
}

// A machine goes on booting while no Owl is alive, and a second boot is not
// begun by whoever looks next.
func TestBootGoesOnWithoutItsOwl(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sim.Config) { c.Boot = time.Hour })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _ = b.Ensure(ctx, b.id, 1, want(api.PowerRunning, ""))

	later := b.cfg
	later.Now = func() time.Time { return time.Now().Add(time.Hour) }
	b.Driver = open(t, later)
	b.ensure(t, 1, want(api.PowerRunning, ""))
	b.wantEffects(t, "create", "start")
}

// F24: a clock that is a day ahead delays nobody else by a day.
func TestClocksThatDisagree(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	ahead := b.cfg
	ahead.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	ahead.Boot = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _ = open(t, ahead).Ensure(ctx, b.id, 1, want(api.PowerRunning, ""))

	b.ensure(t, 1, want(api.PowerRunning, ""))
	b.wantEffects(t, "create", "start")
}

// A frozen process that holds one machine's lock stops nobody else, and whoever
// waits for that machine can give up.
func TestAHeldLockStopsOneMachine(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	holder, err := os.OpenFile(filepath.Join(b.cfg.Dir, "locks", b.id.String()), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Close() })
	if err := syscall.Flock(int(holder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := b.Remove(ctx, b.id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a machine was changed while somebody else had its lock: %v", err)
	}
	b.id = api.NewMinter().ID()
	b.ensure(t, 1, want(api.PowerRunning, ""))
}

// Each place where a killed process can leave a machine's file and the log.
func TestAnEffectHalfWrittenIsFinishedOnce(t *testing.T) {
	t.Parallel()
	for name, log := range map[string]func(line string) string{
		"killed before the line":  func(string) string { return "" },
		"killed after the line":   func(line string) string { return line },
		"the disk was full in it": func(line string) string { return line[:20] },
		"others went on":          func(line string) string { return line + `{"effect":"other"}` + "\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			line := `{"at":"2026-11-21T17:00:00.000000Z","id":"` + b.id.String() + `","generation":1,"effect":"create"}` + "\n"
			file, err := json.Marshal(map[string]any{
				"exists": true, "generation": 1, "phase": "stopped",
				"pending": map[string]any{"line": line, "offset": 0},
			})
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(b.cfg.Dir, "machines", b.id.String()+".json"), string(file))
			write(t, filepath.Join(b.cfg.Dir, "effects.jsonl"), log(line))
			for range 2 {
				b.ensure(t, 1, want(api.PowerStopped, ""))
			}
			data, err := os.ReadFile(filepath.Join(b.cfg.Dir, "effects.jsonl"))
			if err != nil || strings.Count(string(data), line) != 1 {
				t.Errorf("log = %q (%v), want the line once", data, err)
			}
		})
	}
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestKillsMakeNothingTwice runs processes that drive the same machines and
// are killed wherever they happen to be.
func TestKillsMakeNothingTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	mint := api.NewMinter()
	var names bytes.Buffer
	ids := make([]api.ID, 40)
	for i := range ids {
		ids[i] = mint.ID()
		names.WriteString(ids[i].String() + "\n")
	}
	write(t, filepath.Join(b.cfg.Dir, "ids"), names.String())
	for round := range 15 {
		killVictim(t, b.cfg.Dir, time.Duration(10+7*round)*time.Millisecond)
	}
	for _, id := range ids {
		b.id = id
		b.ensure(t, 1, want(api.PowerRunning, ""))
		b.wantEffects(t, "create", "start")
	}
}

// killVictim lets a process work for as long as said, then kills it.
func killVictim(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	_ = cmd.Run()
}

// victim ensures the listed machines, all at once, until it is killed.
func victim(dir string) {
	d, err := sim.New(sim.Config{Dir: dir, Boot: 30 * time.Millisecond})
	if err != nil {
		os.Exit(1)
	}
	names, _ := os.ReadFile(filepath.Join(dir, "ids"))
	var all sync.WaitGroup
	for name := range strings.FieldsSeq(string(names)) {
		id, _ := api.ParseID(name)
		all.Go(func() { _, _ = d.Ensure(context.Background(), id, 1, want(api.PowerRunning, "")) })
	}
	all.Wait()
}

func TestSpecsAreNotKept(t *testing.T) {
	t.Parallel()
	const canary = "canary-77aa"
	b := setup(t, nil)
	d := want(api.PowerRunning, "")
	d.Spec = json.RawMessage(`{"encrypted_env":"` + canary + `"}`)
	b.ensure(t, 1, d)
	err := filepath.WalkDir(b.cfg.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s holds the spec", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestARestartThatWasAppliedIsNotAppliedAgain, not even after another one.
func TestARestartThatWasAppliedIsNotAppliedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.ensure(t, 1, want(api.PowerRunning, ""))
	b.ensure(t, 2, want(api.PowerRunning, "op_1"))
	b.ensure(t, 3, want(api.PowerRunning, "op_2"))
	b.ensure(t, 4, want(api.PowerRunning, "op_1"))
	b.ensure(t, 5, want(api.PowerRunning, ""))
	b.ensure(t, 6, want(api.PowerRunning, "op_2"))
	b.wantEffects(t, "create", "start", "restart", "restart")
}
