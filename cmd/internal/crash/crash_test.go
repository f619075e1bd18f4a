package crash_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
)

// together is how many points are tried at a time. Nearly all of a case is
// waiting: for a boot, a lease, a process's start.
const together = 6

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := flag.Lookup("test.parallel")
	if n, err := strconv.Atoi(parallel.Value.String()); err == nil && n < together {
		if err := parallel.Value.Set(strconv.Itoa(together)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	harness.Main(m)
}

// trial is how a fault point is tried.
type trial struct {
	options harness.Options
	ways    []way
}

// way is a way through a fault point.
type way struct {
	name string
	// prepare does what the way needs, undisturbed, and returns the way. It is
	// called once for each fault.
	prepare func(c *bench) (pass func())
	only    []string // of the point's faults; nil: all
}

// faults are those of the point's that are tried on this way.
func (w way) faults(p point) []string {
	if w.only != nil {
		return w.only
	}
	return p.faults()
}

// cases counts the trial's cases.
func (t trial) cases(p point) (n int) {
	for _, w := range t.ways {
		n += len(w.faults(p))
	}
	return n
}

// converge is P6 where no driver fails: Owl's own backoff, which is longer,
// plays no part.
const converge = harness.Lease + harness.BackoffMax + 5*time.Second

// times is how long the cases took to converge.
type times struct {
	mu  sync.Mutex
	all []time.Duration
}

func (s *times) add(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, took)
}

// check wants nine of ten cases to be that quick, whatever else the machine
// does. What each is held to by itself is the stack's limit.
func (s *times) check(t *testing.T) {
	t.Helper()
	if len(s.all) == 0 {
		return
	}
	slices.Sort(s.all)
	most, slowest := s.all[len(s.all)*9/10], s.all[len(s.all)-1]
	t.Logf("%d cases: nine of ten within %s, slowest %s", len(s.all), most.Round(time.Millisecond), slowest.Round(time.Millisecond))
	require.Less(t, most, converge)
}

// TestCrashes tries everything that can befall each fault point.
func TestCrashes(t *testing.T) {
	t.Parallel()
	points, trials := readPoints(t), crashes()
	took := &times{}
	t.Cleanup(func() { took.check(t) })
	names := slices.SortedFunc(maps.Keys(trials), func(a, b string) int { // the longest first
		return cmp.Or(trials[b].cases(points[b])-trials[a].cases(points[a]), strings.Compare(a, b))
	})
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, name, trials[name].options)
			c.times = took
			for _, w := range trials[name].ways {
				for _, fault := range w.faults(points[name]) {
					c.suffer(fault, w)
				}
			}
		})
	}
}

// bench is a Platform and an Owl, one of which is to suffer.
type bench struct {
	t      *testing.T
	stack  *harness.Stack
	victim *harness.Node
	times  *times

	fault  string           // the one being tried
	fired  func() time.Time // waits until it has befallen the victim
	number int              // of requests, so that each has a key of its own
	checks []func()         // at rest
}

func start(t *testing.T, point string, options harness.Options) *bench {
	t.Helper()
	c := &bench{t: t, stack: harness.Start(t, options)}
	c.victim = c.stack.Owls[0] // with its driver
	if strings.HasPrefix(point, "platform.") {
		c.victim = c.stack.Platforms[0].Node
	}
	c.victim.Supervise()
	return c
}

// suffer lets one fault befall the victim, and wants everything as if it had
// not.
func (c *bench) suffer(fault string, w way) {
	c.t.Helper()
	c.fault, c.checks = fault, nil
	name := strings.TrimSuffix(fault+"/"+strings.ReplaceAll(w.name, " ", "_"), "/")
	defer func() {
		if c.t.Failed() {
			c.t.Logf("it failed at %s", name)
		}
	}()
	c.victim.AwaitReady()
	pass := w.prepare(c)
	c.stack.AwaitRest() // or something else might come by first
	refused := c.stack.Journal.Count(http.StatusInternalServerError)
	c.fired = c.victim.Arm(fault)
	pass()
	c.stack.FaultsEndedAt(c.fired())
	took := c.stack.AwaitRest()
	c.t.Logf("converged: %s %.3fs", name, took.Seconds())
	c.times.add(took)
	require.Less(c.t, took, c.stack.Limit(), name)
	for _, check := range c.checks {
		check()
	}
	c.stack.Check()
	if strings.HasPrefix(fault, "platform.accept") && strings.HasSuffix(fault, ":panic") {
		require.Equal(c.t, refused+1, c.stack.Journal.Count(http.StatusInternalServerError), "a panic is a 500")
	}
}

// send sends a request under a key of its own, again until it is answered.
func (c *bench) send(method, path, body string) *apitest.Reply {
	c.t.Helper()
	c.number++
	call := c.stack.Client().Request(method, path, body)
	if method != http.MethodDelete {
		call = call.Key(c.key())
	}
	return c.stack.Insist(call)
}

// key is that of the newest request.
func (c *bench) key() string { return c.fault + "-" + strconv.Itoa(c.number) }

// name is one that no case had before.
func (c *bench) name() string {
	c.number++
	return "web-" + strconv.Itoa(c.number)
}

// create asks for a CVM.
func (c *bench) create() api.CVM {
	c.t.Helper()
	cvm := c.send(http.MethodPost, "/cvms", apitest.Spec(c.name(), "services: {}")).Expect(http.StatusAccepted).CVM()
	c.succeeds(cvm.Operation.ID)
	return cvm
}

// running is a CVM that runs.
func (c *bench) running() api.CVM {
	c.t.Helper()
	cvm := c.create()
	c.stack.Wait(cvm.Operation.ID)
	return cvm
}

// succeeds wants the operation ended well when all is at rest.
func (c *bench) succeeds(operation string) {
	c.checks = append(c.checks, func() {
		c.t.Helper()
		op := c.stack.Wait(operation)
		require.Equal(c.t, api.OperationSucceeded, op.Status, "%s: %v", op.Kind, op.Error)
	})
}

// shows wants exactly these effects on the machine when all is at rest.
func (c *bench) shows(cvm api.ID, effects string) {
	c.checks = append(c.checks, func() {
		c.t.Helper()
		require.Equal(c.t, effects, c.stack.Machine(cvm))
	})
}

func pathOf(cvm api.CVM) string { return "/cvms/" + cvm.VMUUID.String() }
