package stack_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/cmd/internal/lossy"
	"roost/cmd/internal/phalatest"
	"roost/cmd/internal/stack"
)

// losses is the operations of an existing client of which every write loses
// its answer once, and after each of which that client is killed once.
func losses() []loss {
	four, six, two, changed := everything("web", 4), everything("web", 6), everything("web", 2), everything("web", 4)
	changed.Size, changed.DiskSize, changed.Image = "tdx.medium", new(int64(60)), new("dstack-0.5.8")
	changed.PublicLogs, changed.DockerCompose, changed.PreLaunchScript = new(false), "services: {}\n", new("echo steady\n")
	changed.Env = map[string]string{"A": "3"}
	return []loss{
		{name: "create 4", to: &four},
		{name: "scale 4 to 6", from: &four, to: &six},
		{name: "scale 4 to 2", from: &four, to: &two},
		{name: "update 4", from: &four, to: &changed, inFlight: true},
		{name: "destroy 4", from: &four},
	}
}

type loss struct {
	name     string
	from, to *phalatest.App // nil: nothing
	// inFlight: the client cannot apply while it is under way. It plans that
	// status and primary_cvm_id, the first that runs, stay as they are.
	inFlight bool
}

// fault is what befalls the client at its nth write.
type fault struct {
	loss

	nth    int
	killed bool // or else the answer is lost
}

// outcome is how a case looked after the fault and after applying again.
type outcome struct{ failed, healed string }

// lossyRun is all cases over one stack, each in a workspace of its own.
type lossyRun struct {
	*bundle

	mu       sync.Mutex
	outcomes map[string]outcome // by case
	places   chan struct{}      // how many run at a time
}

// TestEveryLostAnswerOfAnExistingClientHealsWithTheNextApply is the table at
// the end of README, and requires that it says what was seen. With
// ROOST_UPDATE_README=1 it writes it.
func TestEveryLostAnswerOfAnExistingClientHealsWithTheNextApply(t *testing.T) {
	t.Parallel()
	r := &lossyRun{
		bundle:   setup(t, stack.Options{Boot: 20 * time.Millisecond}),
		outcomes: map[string]outcome{}, places: make(chan struct{}, 8),
	}
	writes := map[string][]string{}
	for _, l := range losses() {
		writes[l.name] = r.writesOf(l)
	}
	var cases sync.WaitGroup
	for _, l := range losses() {
		for i := range writes[l.name] {
			for _, killed := range []bool{false, true} {
				f := fault{loss: l, nth: i + 1, killed: killed}
				u := r.phalaUser(f.String())
				cases.Go(func() {
					r.places <- struct{}{}
					defer func() { <-r.places }()
					r.meet(t.Context(), u, f)
				})
			}
		}
	}
	cases.Wait()
	r.noOrphans()
	if t.Failed() {
		return
	}
	table := r.table(writes)
	t.Log("\n" + table)
	documented(t, table)
}

// writesOf does the operation without a fault and returns its writes.
func (r *lossyRun) writesOf(l loss) []string {
	r.t.Helper()
	u := r.phalaUser("plain " + l.name)
	if l.from != nil {
		require.NoError(r.t, u.tf.Apply(u.ctx, l.from))
	}
	sent := len(u.client.Writes())
	require.NoError(r.t, u.tf.Apply(u.ctx, l.to))
	writes := u.client.Writes()[sent:]
	require.NotEmpty(r.t, writes)
	return writes
}

func (f fault) String() string {
	return fmt.Sprintf("%s, write %d, killed %t", f.name, f.nth, f.killed)
}

// meet runs one case. It reports and goes on: it is not the test's goroutine.
func (r *lossyRun) meet(ctx context.Context, u *phalaUser, f fault) {
	if f.from != nil && !assert.NoError(r.t, u.tf.Apply(ctx, f.from), f) {
		return
	}
	u.befall(ctx, f)
	failed, err := u.standing(ctx, f.to, !f.killed)
	assert.NoError(r.t, err, f)
	if f.inFlight {
		assert.NoError(r.t, u.rest(ctx), f)
	}

	u.tf.Client = u.client // a new run of terraform, over a network that works
	if !assert.NoError(r.t, u.tf.Apply(ctx, f.to), f) {
		return
	}
	healed, err := u.standing(ctx, f.to, true)
	assert.NoError(r.t, err, f)
	assert.NoError(r.t, u.whole(ctx, f.to), f)
	if f.to != nil {
		u.machinesAre(*f.to)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[f.String()] = outcome{failed: failed, healed: healed}
}

// befall applies while the fault strikes, which must end the apply.
func (u *phalaUser) befall(ctx context.Context, f fault) {
	proxy := lossy.Start(u.t, u.Platforms[0].URL, nil)
	u.tf.Client = u.at(proxy.URL())
	if f.killed {
		u.tf.Client.KillAfter(f.nth)
		assert.ErrorIs(u.t, u.tf.Apply(ctx, f.to), phalatest.ErrKilled, f)
		return
	}
	proxy.SetPolicy(lossy.Nth(f.nth, lossy.Writes, lossy.DropAnswer()))
	assert.Error(u.t, u.tf.Apply(ctx, f.to), f)
	assert.Equal(u.t, 1, proxy.Count("drop answer"), f)
}

// standing is how the workspace looks: its CVMs that are not being deleted
// and the state; at rest also what a plan says. The fault is over, so it is
// asked directly.
func (u *phalaUser) standing(ctx context.Context, want *phalatest.App, atRest bool) (string, error) {
	var n int64
	err := u.PlatformDB.WithContext(ctx).Raw(`SELECT count(*) FROM cvms c JOIN workspaces w ON w.id = c.workspace_id
		WHERE w.name = ? AND c.deleting_at IS NULL`, u.workspace).Row().Scan(&n)
	if err != nil {
		return "", err
	}
	words := []string{fmt.Sprintf("%d CVMs", n)}
	if n == 1 {
		words[0] = "1 CVM"
	}
	if u.tf.State == nil {
		words = append(words, "no state")
	}
	if !atRest {
		return strings.Join(words, ", "), nil
	}
	if err := u.rest(ctx); err != nil {
		return "", err
	}
	tf := phalatest.Terraform{Client: u.client, State: u.tf.State}
	changed, err := tf.Plan(ctx, want)
	return strings.Join(append(words, planned(changed)), ", "), err
}

func planned(changed []string) string {
	switch len(changed) {
	case 0:
		return "plan empty"
	case 1:
		return "plan: " + changed[0]
	}
	return fmt.Sprintf("plan: %d attributes", len(changed))
}

// rest waits until nothing of the workspace is under way: until then, a CVM
// that is being deleted may still be in a list, or not.
func (u *phalaUser) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var due int64
		err := u.PlatformDB.WithContext(ctx).Raw(`SELECT count(*) FROM cvms c JOIN workspaces w ON w.id = c.workspace_id
			WHERE w.name = ? AND (c.reconcile_after IS NOT NULL OR (c.deleting_at IS NOT NULL AND c.deleted_at IS NULL))`,
			u.workspace).Row().Scan(&due)
		if err != nil || due == 0 {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// whole returns what is not as it should be at the end: as many machines as
// are wanted, in one app, all of them in the state and in Owl, and running.
func (u *phalaUser) whole(ctx context.Context, want *phalatest.App) error {
	var listed, below []string
	err := u.PlatformDB.WithContext(ctx).Raw(`SELECT c.id FROM cvms c JOIN workspaces w ON w.id = c.workspace_id
		WHERE w.name = ? AND c.deleting_at IS NULL ORDER BY c.ordinal`, u.workspace).Find(&listed).Error
	if err != nil {
		return err
	}
	err = u.OwlDB.WithContext(ctx).Raw(`SELECT id FROM cvms WHERE delete_requested_at IS NULL AND status = 'running'
		AND observed_generation = generation AND id IN ?`, append(slices.Clone(listed), api.ID{}.String())).Find(&below).Error
	if err != nil {
		return err
	}
	if want == nil {
		want = &phalatest.App{}
	}
	var inState []string
	if u.tf.State != nil {
		inState = u.tf.State.CVMIDs
	}
	if len(listed) != want.Replicas || len(below) != want.Replicas || !slices.Equal(listed, inState) {
		return fmt.Errorf("wanted %d: Platform has %v, the state has %v, at Owl %v run", want.Replicas, listed, inState, below)
	}
	var apps int
	if err := u.PlatformDB.WithContext(ctx).Raw(`SELECT count(*) FROM apps a JOIN workspaces w ON w.id = a.workspace_id WHERE w.name = ?`,
		u.workspace).Row().Scan(&apps); err != nil || apps != 1 {
		return fmt.Errorf("there are %d apps: %w", apps, err)
	}
	return nil
}

// noOrphans requires that the two services know the same machines, and that
// the driver made each of them once.
func (r *lossyRun) noOrphans() {
	r.t.Helper()
	require.Eventually(r.t, func() bool { // the driver's log is read whole, so nothing may be under way
		var due int64
		err := r.PlatformDB.Raw(`SELECT count(*) FROM cvms WHERE reconcile_after IS NOT NULL`).Row().Scan(&due)
		if err == nil && due == 0 {
			err = r.OwlDB.Raw(`SELECT count(*) FROM cvms WHERE due_at IS NOT NULL`).Row().Scan(&due)
		}
		return err == nil && due == 0
	}, time.Minute, 20*time.Millisecond)
	var above, below []string
	require.NoError(r.t, r.PlatformDB.Raw(`SELECT id FROM cvms WHERE deleting_at IS NULL ORDER BY id`).Scan(&above).Error)
	require.NoError(r.t, r.OwlDB.Raw(`SELECT id FROM cvms WHERE delete_requested_at IS NULL ORDER BY id`).Scan(&below).Error)
	require.NotEmpty(r.t, above)
	require.Equal(r.t, above, below)
	for id, times := range effects(r.t, r.Stack)["create"] {
		require.Equal(r.t, 1, times, id)
	}
}

const (
	tableBegin = "<!-- existing clients: written and held by cmd/internal/stack, ROOST_UPDATE_README=1 -->\n"
	tableEnd   = "<!-- end of existing clients -->\n"
)

// table is the outcomes in markdown.
func (r *lossyRun) table(writes map[string][]string) string {
	var b strings.Builder
	b.WriteString("| operation | write | its answer is lost: the apply fails, and at rest there are | the client is killed right after it: at once there are | after applying again |\n")
	b.WriteString("|---|---|---|---|---|\n")
	for _, l := range losses() {
		for i, write := range writes[l.name] {
			lost := r.outcomes[fault{loss: l, nth: i + 1}.String()]
			killed := r.outcomes[fault{loss: l, nth: i + 1, killed: true}.String()]
			healed := lost.healed
			if killed.healed != healed {
				healed += "; " + killed.healed
			}
			write = strings.ReplaceAll(write, "{}", "…")
			fmt.Fprintf(&b, "| %s | %d `%s` | %s | %s | %s |\n", l.name, i+1, write, lost.failed, killed.failed, healed)
		}
	}
	return b.String()
}

// documented requires README to have the table, or puts it there.
func documented(t *testing.T, table string) {
	t.Helper()
	const name = "../../../README.md"
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(data), tableBegin)
	require.True(t, ok, "README has no place for the table")
	held, after, ok := strings.Cut(rest, tableEnd)
	require.True(t, ok, "README's table has no end")
	if os.Getenv("ROOST_UPDATE_README") == "1" && held != table {
		require.NoError(t, os.WriteFile(name, []byte(before+tableBegin+table+tableEnd+after), 0o600))
		return
	}
	require.Equal(t, table, held, "README says something else; ROOST_UPDATE_README=1 writes it")
}
