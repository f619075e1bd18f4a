package platform_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/api/owlapi/owlapitest"
	"roost/platform"
)

// poison is a way to Owl that panics over requests which hold a text, as code
// would that one row's content leads astray.
type poison struct {
	mu     sync.Mutex
	text   string
	met    int
	method string // only requests of this one; "": all
}

// RoundTrip implements http.RoundTripper.
func (p *poison) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		read, err := io.ReadAll(r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
		body = read
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if p.hits(r, string(body)) {
		panic("poisonous")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (p *poison) hits(r *http.Request, body string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == "" || p.method != "" && p.method != r.Method || !strings.Contains(r.URL.String()+body, p.text) {
		return false
	}
	p.met++
	return true
}

// set says what is poisonous from now on.
func (p *poison) set(method, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.method, p.text, p.met = method, text, 0
}

// wasMet reports whether it happened, and again after a pause of the row's.
func (p *poison) wasMet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met > 2
}

func setupPoison(t *testing.T) (*testBundle, *poison) {
	t.Helper()
	p := &poison{}
	b, _ := setupWithOwl(t, owlapitest.Config{}, func(c *platform.Config) {
		c.OwlHTTP, c.ReconcileLease = &http.Client{Transport: p}, 2*time.Second
	})
	return b, p
}

// requireContained wants a panic counted, and logged with its stack and with
// whom it was about.
func (b *testBundle) requireContained(unit string, id api.ID) {
	b.t.Helper()
	log := b.log.String()
	about := strings.Index(log, "_id="+id.String()+" error=")
	require.NotEqual(b.t, -1, about, "a line with the ID")
	require.True(b.t, strings.Contains(log, "panic: poisonous") && strings.Contains(log, "RoundTrip"), "the stack is logged")
	metrics := string(b.client().Raw("/metrics").Body)
	require.True(b.t, strings.Contains(metrics, `roost_panics_total{unit="`+unit+`"}`), "%s is counted", unit)
}

func TestOnePoisonousCreateHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b, p := setupPoison(t)
	p.set(http.MethodPost, "poisonous-name")
	bad := b.create("poisonous-name")
	good := []api.CVM{b.create("one"), b.create("two"), b.create("three")}
	b.run(b.service) // all four are due, so they go in one batch
	for _, cvm := range good {
		require.Equal(t, api.OperationSucceeded, b.ended(cvm.Operation.ID).Status)
	}
	eventually(t, "it is tried again", p.wasMet)
	require.Equal(t, api.StatusProvisioning, b.cvm(bad.VMUUID).Status, "an unknown outcome, and nothing else")
	b.requireContained("create", bad.VMUUID)
	p.set("", "")
	require.Equal(t, api.OperationSucceeded, b.ended(bad.Operation.ID).Status)
}

// TestOneCreateThatOwlFailsOverHoldsUpNoOther: Owl answers 500 to every batch
// that holds it, as it does when it panics.
func TestOneCreateThatOwlFailsOverHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	var most atomic.Int64
	l := intercept(t, owlapitest.Config{}, func(w http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, []byte("poisonous-name")) {
			return false
		}
		most.Store(max(most.Load(), int64(bytes.Count(body, []byte(`"app_id"`)))))
		refuseWith(w, http.StatusInternalServerError)
		return true
	})
	bad := l.create("poisonous-name")
	good := []api.CVM{l.create("one"), l.create("two"), l.create("three"), l.create("four")}
	l.run(l.service)
	for _, cvm := range good {
		require.Equal(t, api.OperationSucceeded, l.ended(cvm.Operation.ID).Status)
	}
	require.Equal(t, int64(5), most.Load(), "all five went in one batch at first")
	require.Equal(t, api.StatusProvisioning, l.cvm(bad.VMUUID).Status, "an unknown outcome, and nothing else")
}

// What one CVM's change, deletion or status does to the code, it does to no
// other's.
func TestOnePoisonousCVMHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method, unit string
		act          func(b *testBundle, id api.ID) (operation string)
	}{
		"change":   {http.MethodPut, "change", (*testBundle).stopCVM},
		"deletion": {http.MethodDelete, "change", (*testBundle).deleteCVM},
		"status":   {http.MethodGet, "observe", (*testBundle).stopCVM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, p := setupPoison(t)
			bad, good := b.create("bad"), b.create("good")
			b.run(b.service)
			b.ended(bad.Operation.ID)
			b.ended(good.Operation.ID)
			p.set(tc.method, bad.VMUUID.String())
			waiting := tc.act(b, bad.VMUUID)
			require.Equal(t, api.OperationSucceeded, b.ended(tc.act(b, good.VMUUID)).Status)
			eventually(t, "it is tried again", p.wasMet)
			require.False(t, b.operation(waiting).Status.Ended())
			b.requireContained(tc.unit, bad.VMUUID)
			p.set("", "")
			require.Equal(t, api.OperationSucceeded, b.ended(waiting).Status)
		})
	}
}

func TestOnePoisonousRuleHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b, p := setupPoison(t)
	cvm := b.create("web")
	p.set(http.MethodPost, "10.6.6.0/24")
	bad, good := b.rule(cvm.VMUUID, "10.6.6.0/24"), b.rule(cvm.VMUUID, "10.7.7.0/24")
	b.run(b.service)
	eventually(t, "the good rule is active", func() bool { return b.ruleStatus(good) == api.FirewallActive })
	require.Equal(t, api.FirewallPending, b.ruleStatus(bad))
	b.requireContained("rule", bad.ID)
	p.set("", "")
	eventually(t, "the bad rule is active", func() bool { return b.ruleStatus(bad) == api.FirewallActive })
}

func (b *testBundle) stopCVM(id api.ID) (operation string) {
	b.t.Helper()
	return b.post("/cvms/"+id.String()+"/stop", ``).Expect(http.StatusAccepted).CVM().Operation.ID
}

func (b *testBundle) deleteCVM(id api.ID) (operation string) {
	b.t.Helper()
	return b.client().Request(http.MethodDelete, "/cvms/"+id.String(), "").Expect(http.StatusAccepted).CVM().Operation.ID
}

func (b *testBundle) rule(cvm api.ID, cidr string) api.FirewallRule {
	b.t.Helper()
	reply := b.post("/cvms/"+cvm.String()+"/firewall-rules", `{"cidr":"`+cidr+`"}`).Expect(http.StatusCreated)
	return apitest.Decode[api.FirewallRule](reply)
}

func (b *testBundle) ruleStatus(rule api.FirewallRule) api.FirewallStatus {
	b.t.Helper()
	reply := b.get("/cvms/" + rule.VMUUID.String() + "/firewall-rules/" + rule.ID.String()).Expect(http.StatusOK)
	return apitest.Decode[api.FirewallRule](reply).Status
}
