package acceptance

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"roost/api"
	"roost/api/client"
	"roost/cmd/internal/lossy"
)

// source is what every configuration begins with.
const source = "terraform {\n  required_providers { roost = { source = \"terraform.local/roost/roost\" } }\n}\n"

// web is a configuration of an app, with more attributes and resources.
func web(app, instanceType string, replicas int, attributes, more string) string {
	return fmt.Sprintf(`%sresource "roost_app" "web" {
  name           = %q
  instance_type  = %q
  docker_compose = "services: {web: {image: nginx}}"
  replicas       = %d
  %s
}
%s`, source, app, instanceType, replicas, attributes, more)
}

// apply writes a configuration and applies it.
func (w *workdir) apply(config string) {
	w.t.Helper()
	w.write("main.tf", config)
	w.must("apply", "-auto-approve", "-input=false", "-no-color")
}

// fails applies, and the apply must fail with this text.
func (w *workdir) fails(config, text string, env ...string) {
	w.t.Helper()
	w.write("main.tf", config)
	out := w.run(env, "apply", "-auto-approve", "-input=false", "-no-color")
	if flat := strings.Join(strings.Fields(strings.ReplaceAll(out.output, "│", "")), " "); out.exit != 1 || !strings.Contains(flat, text) {
		w.t.Errorf("the apply ended with %d and should fail with %q:\n%s", out.exit, text, out.output)
	}
}

// planShows fails the test unless a plan would change something, with all of
// these texts in it.
func (w *workdir) planShows(texts ...string) {
	w.t.Helper()
	out := w.run(nil, "plan", "-detailed-exitcode", "-no-color", "-input=false")
	if out.exit != exitChanges {
		w.t.Errorf("the plan should show a change and ended with %d:\n%s", out.exit, out.output)
	}
	for _, text := range texts {
		if !strings.Contains(strings.Join(strings.Fields(out.output), " "), text) {
			w.t.Errorf("the plan should show %q:\n%s", text, out.output)
		}
	}
}

// rest waits until all levels have the same machines of the app, and returns
// their CVMs, oldest first.
func rest(t *testing.T, name string) []api.CVM {
	t.Helper()
	app := appNamed(t, name)
	eventually(t, "all levels have the same machines", func() bool { return machinesOf(t, app).agree() })
	if app.IsZero() {
		return nil
	}
	return listedCVMs(t, app)
}

func replicasAre(t *testing.T, name string, want int) []api.CVM {
	t.Helper()
	cvms := rest(t, name)
	if len(cvms) != want {
		t.Errorf("%s has %d CVMs, want %d", name, len(cvms), want)
	}
	return cvms
}

// TestMadeAnewWithinTheKeysLife: the key of the first time names a CVM that is
// gone, and that of its replica too.
func TestMadeAnewWithinTheKeysLife(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	more := `resource "roost_firewall_rule" "https" {
  cvm_id = roost_app.web.primary_cvm_id
  cidr   = "10.0.0.0/8"
}`
	config := web("anew", "tdx.small", 2, "", more)
	w.apply(config)
	first := replicasAre(t, "anew", 2)
	w.must("destroy", "-auto-approve", "-input=false")
	replicasAre(t, "anew", 0)
	w.apply(config)
	second := replicasAre(t, "anew", 2)
	if len(second) == 2 && (second[0].VMUUID == first[0].VMUUID || second[1].VMUUID == first[1].VMUUID) {
		t.Error("a machine that was deleted is back")
	}
	w.planIsEmpty()
	for _, n := range []int{1, 2, 1, 2} { // the slot's third and fourth
		w.apply(web("anew", "tdx.small", n, "", more))
		replicasAre(t, "anew", n)
	}
	// The rule alone, made anew on the same CVM: an echo shows the old one.
	w.apply(web("anew", "tdx.small", 2, "", ""))
	w.apply(config)
	w.planIsEmpty()
}

// TestPowerBackAndForth: the same planned change, repeated, is a new wish.
func TestPowerBackAndForth(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	config := func(state string) string {
		return web("power", "tdx.small", 1, "", fmt.Sprintf(`resource "roost_cvm_power" "web" {
  cvm_id = roost_app.web.primary_cvm_id
  state  = %q
}`, state))
	}
	for _, state := range []string{"stopped", "running", "stopped"} {
		w.apply(config(state))
		if cvm := replicasAre(t, "power", 1)[0]; string(cvm.Status) != state {
			t.Errorf("the CVM is %s, want %s", cvm.Status, state)
		}
	}
	w.planIsEmpty()
	id := listedCVMs(t, appNamed(t, "power"))[0].VMUUID
	if _, err := shared.client.StartCVM(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	replicasAre(t, "power", 1)
	w.planShows(`~ state = "running" -> "stopped"`)
	w.apply(config("stopped"))
	var did []string
	for _, e := range effects(t) {
		if e.ID == id.String() {
			did = append(did, e.Effect)
		}
	}
	if got := strings.Join(did, " "); !strings.HasSuffix(got, "stop start stop start stop") {
		t.Errorf("the machine did: %s", got)
	}
}

// TestPowerOfAFailedCVM: it does not run, and each apply has it try again.
func TestPowerOfAFailedCVM(t *testing.T) {
	t.Parallel()
	w, c := newWorkdir(t), shared.client
	made, err := c.CreateCVM(t.Context(), api.Spec{
		Name: "broken-power", InstanceType: "tdx.small", ComposeFile: &api.ComposeFile{DockerComposeFile: "services: {}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := made.Value.VMUUID
	config := fmt.Sprintf("%sresource \"roost_cvm_power\" \"web\" {\n  cvm_id = %q\n  state  = \"running\"\n}\n", source, id)
	w.write("main.tf", config)
	failed := func() api.CVM {
		t.Helper()
		now, err := c.WaitCVM(t.Context(), id, client.Settled, nil)
		if now.Status != api.StatusFailed {
			t.Fatalf("the CVM is %s: %v", now.Status, err)
		}
		return now
	}
	failed()
	if _, err := c.RestartCVM(t.Context(), id); err != nil { // now it could have run
		t.Fatal(err)
	}
	before := failed().Generation
	w.must("import", "-input=false", "roost_cvm_power.web", id.String())
	w.planShows(`~ state = "failed" -> "running"`)
	w.fails(config, "SIM_FAILED")
	if now := failed().Generation; now != before+1 {
		t.Errorf("the CVM of generation %d is now of %d", before, now)
	}
}

// TestDrift: what others do shows in a plan, and an apply undoes it.
func TestDrift(t *testing.T) {
	t.Parallel()
	w, c := newWorkdir(t), shared.client
	config := web("drift", "tdx.small", 3, "", `resource "roost_firewall_rule" "https" {
  cvm_id = roost_app.web.primary_cvm_id
  cidr   = "10.0.0.0/8"
  port   = 443
}`)
	w.apply(config)
	cvms := replicasAre(t, "drift", 3)

	if _, err := c.DeleteCVM(t.Context(), cvms[1].VMUUID); err != nil { // one in the middle
		t.Fatal(err)
	}
	w.planShows("~ replicas = 2 -> 3")
	w.apply(config)
	cvms = replicasAre(t, "drift", 3)

	w.write("main.tf", strings.Replace(config, "replicas       = 3", "replicas       = 4", 1))
	w.must("plan", "-out=later", "-input=false")
	if _, err := c.DeleteCVM(t.Context(), cvms[1].VMUUID); err != nil {
		t.Fatal(err)
	}
	if out := w.run(nil, "apply", "-input=false", "-no-color", "later"); out.exit != 1 || !strings.Contains(out.output, "has changed since it was planned") ||
		strings.Contains(out.output, "bug in the provider") {
		t.Errorf("a plan that did not come true ended with %d:\n%s", out.exit, out.output)
	}
	replicasAre(t, "drift", 4)
	w.apply(config)
	cvms = replicasAre(t, "drift", 3)

	large := "tdx.large"
	if _, err := c.UpdateCVM(t.Context(), cvms[2].VMUUID, api.PatchCVM{
		InstanceType: &large, ComposeFile: &api.ComposeFile{DockerComposeFile: "services: {}"},
	}); err != nil {
		t.Fatal(err)
	}
	w.planShows(`~ instance_type = "tdx.large" -> "tdx.small"`, `~ docker_compose = "services: {}" ->`)
	w.apply(config)
	for _, cvm := range replicasAre(t, "drift", 3) {
		if cvm.InstanceType != "tdx.small" || cvm.VCPU != 1 || cvm.ComposeHash != cvms[0].ComposeHash {
			t.Errorf("the CVM %s is a %s with %d CPUs and the configuration %s", cvm.VMUUID, cvm.InstanceType, cvm.VCPU, cvm.ComposeHash)
		}
	}

	rule, err := api.ParseID(fmt.Sprint(w.state("roost_firewall_rule.https")["id"]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteFirewallRule(t.Context(), cvms[0].VMUUID, rule); err != nil {
		t.Fatal(err)
	}
	w.planShows("roost_firewall_rule.https will be created")
	for _, cvm := range cvms {
		if _, err := c.DeleteCVM(t.Context(), cvm.VMUUID); err != nil {
			t.Fatal(err)
		}
	}
	w.planShows("roost_app.web will be created")
	w.apply(config)
	replicasAre(t, "drift", 3)
	w.planIsEmpty()
}

// TestDeletedBelow: what somebody deleted below Platform is made anew, whatever
// of an app it was, and an apply that is killed at it is ended by the next.
func TestDeletedBelow(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	const https = "roost_firewall_rule.https"
	config := web("below", "tdx.small", 3, "", `resource "roost_firewall_rule" "https" {
  cvm_id = roost_app.web.primary_cvm_id
  cidr   = "10.0.0.0/8"
  lifecycle { create_before_destroy = true } # the key of the failed one still names it
}
resource "roost_cvm_power" "web" {
  cvm_id = roost_app.web.primary_cvm_id
  state  = "running"
}`)
	w.apply(config)
	before := replicasAre(t, "below", 3)

	// A rule.
	rule := fmt.Sprint(w.state(https)["id"])
	deleteBelow(t, "firewall-rules", rule)
	eventually(t, "Platform finds the rule deleted", func() bool {
		rules := rulesOf(t, before[0].VMUUID)
		return len(rules) == 1 && rules[0].Status == api.FirewallFailed
	})
	w.planShows(https + " must be replaced")
	healed := func(dead ...api.CVM) []api.CVM {
		t.Helper()
		w.apply(config)
		w.planIsEmpty()
		now := replicasAre(t, "below", 3)
		for i, c := range now {
			if c.Status != api.StatusRunning || slices.ContainsFunc(dead, func(d api.CVM) bool { return d.VMUUID == c.VMUUID }) {
				t.Errorf("the CVM no. %d is %s and %s", i+1, c.VMUUID, c.Status)
			}
		}
		rules := rulesOf(t, now[0].VMUUID)
		if len(rules) != 1 || rules[0].Status != api.FirewallActive || rules[0].ID.String() != w.state(https)["id"] {
			t.Errorf("the rules of the first CVM are %v, and Terraform knows %v", rules, w.state(https)["id"])
		}
		return now
	}
	healed()
	if w.state(https)["id"] == rule {
		t.Error("the rule that was deleted is still the one")
	}

	// The first CVM and a copy; killed when one of them is deleted.
	c := &chain{workdir: w, app: "below"}
	apply := stage{args: []string{"apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"}}
	die(t, before[0], before[2])
	w.write("main.tf", strings.Replace(config, "replicas ", "wait_for_ready = false\n  replicas ", 1))
	w.must("apply", "-auto-approve", "-input=false", "-refresh=false")
	if now := listedCVMs(t, before[0].AppID); len(now) != 3 || now[0].VMUUID != before[0].VMUUID {
		t.Errorf("an apply whose plan did not show the dead has replaced them: there are %v", now)
	}
	w.write("main.tf", config)
	w.planShows("~ replicas = 1 -> 3", "roost_app.web will be updated in-place", "- \""+before[0].VMUUID.String()+"\"",
		"roost_cvm_power.web will be created")
	c.killAt(apply, write{kind: "DELETE /cvms/…", nth: 1})
	after := healed(before[0], before[2])
	if after[0].VMUUID != before[1].VMUUID {
		t.Errorf("the CVM that was well is %s, and the first one now %s", before[1].VMUUID, after[0].VMUUID)
	}

	// All of them.
	die(t, after...)
	w.planShows("~ replicas = 0 -> 3", "roost_app.web will be updated in-place")
	last := healed(after...)

	// All of them, killed when nothing is left.
	die(t, last...)
	c.killAt(apply, write{kind: "DELETE /cvms/…", nth: 3})
	healed(last...)
	if again := appNamed(t, "below"); again != before[0].AppID {
		t.Errorf("the app was %s and is %s", before[0].AppID, again)
	}
}

func rulesOf(t *testing.T, cvm api.ID) (out []api.FirewallRule) {
	t.Helper()
	for r, err := range shared.client.FirewallRules(t.Context(), cvm) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// TestAReplicaThatNeverBoots fails the apply, and each next one replaces it,
// until it is wanted no more. The others stay.
func TestAReplicaThatNeverBoots(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	w.apply(web("limp", "tdx.small", 2, "", ""))
	well := replicasAre(t, "limp", 2)
	three := web("limp", "tdx.small", 3, "", "")
	w.fails(three, "SIM_FAILED")
	first := listedCVMs(t, well[0].AppID)[2].VMUUID.String()
	w.planShows("~ replicas = 2 -> 3", "- \""+first+"\"", "the next apply deletes it")
	w.fails(three, "SIM_FAILED")
	if second := listedCVMs(t, well[0].AppID)[2].VMUUID.String(); second == first {
		t.Error("the CVM that never booted is still there")
	}
	w.apply(web("limp", "tdx.small", 2, "", ""))
	w.planIsEmpty()
	for i, c := range replicasAre(t, "limp", 2) {
		if c.VMUUID != well[i].VMUUID || c.Generation != well[i].Generation {
			t.Errorf("the CVM %s was well, and now there is %s of generation %d", well[i].VMUUID, c.VMUUID, c.Generation)
		}
	}
}

// TestEnvironment reaches every machine, and no screen.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	secret := func(n int) string { return fmt.Sprintf("5ec4e7%02d", n) }
	config := func(n int, keys string) string {
		return web("env", "tdx.small", 2, fmt.Sprintf("encrypted_env = %q\n  env_keys = [%s]", secret(n), keys), "")
	}
	reaches := func(n int, keys string) {
		t.Helper()
		want := secret(n) + keys
		if got := environmentsOf(t, "env"); !slices.Equal(got, []string{want, want}) {
			t.Errorf("the machines have the environments %v, want %s", got, want)
		}
	}
	w.apply(config(1, `"A"`))
	reaches(1, "[A]")
	cvm := replicasAre(t, "env", 2)[0]
	if key := w.state("roost_app.web")["encrypted_env_pubkey"]; key != cvm.EncryptedEnvPubkey {
		t.Errorf("the key to encrypt for is %v, want %s", key, cvm.EncryptedEnvPubkey)
	}
	w.write("main.tf", config(2, `"A"`))
	w.planShows("~ encrypted_env = (sensitive value)")
	out := w.must("apply", "-auto-approve", "-input=false", "-no-color")
	if strings.Contains(out, secret(1)) || strings.Contains(out, secret(2)) {
		t.Errorf("the ciphertext shows:\n%s", out)
	}
	reaches(2, "[A]")
	w.apply(config(2, `"A", "B"`))
	reaches(2, "[A B]")
	w.planIsEmpty()
	w.write("main.tf", web("env", "tdx.small", 2, "", "")) // not configured: as it is
	w.planIsEmpty()
}

// TestItsOwnHalfMadeApp: the first apply has made the app and nobody heard of
// it; the second one has another configuration.
func TestItsOwnHalfMadeApp(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	w.proxy.SetPolicy(lossy.Nth(2, lossy.Writes, lossy.DropAnswer())) // a replica's
	w.fails(web("half", "tdx.small", 3, `encrypted_env = "00aa"`, ""), "outcome unknown", "ROOST_MAX_ATTEMPTS=1")
	half := replicasAre(t, "half", 2)
	w.proxy.SetPolicy(nil)
	w.apply(web("half", "tdx.medium", 2, `encrypted_env = "00bb"`, ""))
	for i, cvm := range replicasAre(t, "half", 2) {
		if cvm.VMUUID != half[i].VMUUID || cvm.InstanceType != "tdx.medium" {
			t.Errorf("%s is a %s; it should be %s and a tdx.medium", cvm.VMUUID, cvm.InstanceType, half[i].VMUUID)
		}
	}
	if got := environmentsOf(t, "half"); !slices.Equal(got, []string{"00bb[]", "00bb[]"}) {
		t.Errorf("the machines have the environments %v", got)
	}
	w.planIsEmpty()
}

// TestItsOwnDeadHalfMadeApp: nobody has heard of it, what was made of it was
// deleted below Platform, at first or at all, and an apply was killed at that.
func TestItsOwnDeadHalfMadeApp(t *testing.T) {
	t.Parallel()
	for _, deaths := range []int{1, 2} {
		t.Run(strconv.Itoa(deaths), func(t *testing.T) {
			t.Parallel()
			c := &chain{workdir: newWorkdir(t), app: fmt.Sprintf("stillborn-%d", deaths)}
			config := web(c.app, "tdx.small", 2, "", "")
			c.proxy.SetPolicy(lossy.Nth(2, lossy.Writes, lossy.DropAnswer()))
			c.fails(config, "outcome unknown", "ROOST_MAX_ATTEMPTS=1")
			half := replicasAre(t, c.app, 2)
			die(t, half[:deaths]...)
			c.killAt(stage{args: []string{"apply", "-auto-approve", "-input=false"}}, write{kind: "DELETE /cvms/…", nth: 1})
			c.proxy.SetPolicy(nil)
			c.apply(config)
			c.planIsEmpty()
			now := replicasAre(t, c.app, 2)
			for _, cvm := range now {
				if slices.ContainsFunc(half[:deaths], func(d api.CVM) bool { return d.VMUUID == cvm.VMUUID }) || cvm.Status != api.StatusRunning {
					t.Errorf("the CVM %s is %s", cvm.VMUUID, cvm.Status)
				}
			}
			if deaths == 1 && now[0].VMUUID != half[1].VMUUID {
				t.Errorf("the CVM %s was well, and the oldest is now %s", half[1].VMUUID, now[0].VMUUID)
			}
		})
	}
}

// TestSomebodyElsesApp: of the same configuration or another, it is left alone
// until it is imported.
func TestSomebodyElsesApp(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	config := web("theirs", "tdx.small", 1, "", "")
	w.apply(config)
	theirs := replicasAre(t, "theirs", 1)[0]
	for _, instanceType := range []string{"tdx.small", "tdx.medium"} {
		other := newWorkdir(t)
		config := web("theirs", instanceType, 1, "", "")
		for range 2 { // also when the key has come to name it
			other.fails(config, "Import it", "ROOST_NAMESPACE=other-"+instanceType)
		}
		other.must("import", "-input=false", "roost_app.web", "theirs")
		other.apply(config)
		other.planIsEmpty()
	}
	if cvm := replicasAre(t, "theirs", 1)[0]; cvm.VMUUID != theirs.VMUUID || cvm.InstanceType != "tdx.medium" {
		t.Errorf("the import has not changed the CVM %s but left %s, a %s", theirs.VMUUID, cvm.VMUUID, cvm.InstanceType)
	}
}

// TestSomebodyElsesCopies: their first CVM has gone, so the name could be had,
// and their copies with it.
func TestSomebodyElsesCopies(t *testing.T) {
	t.Parallel()
	w, other := newWorkdir(t), newWorkdir(t)
	w.apply(web("copies", "tdx.small", 2, "", ""))
	theirs := replicasAre(t, "copies", 2)
	if _, err := shared.client.DeleteCVM(t.Context(), theirs[0].VMUUID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		other.fails(web("copies", "tdx.medium", 1, "", ""), "Import it", "ROOST_NAMESPACE=other")
		if now := replicasAre(t, "copies", 1)[0]; now.VMUUID != theirs[1].VMUUID || now.Generation != theirs[1].Generation {
			t.Errorf("their CVM was %s and is now %s of generation %d", theirs[1].VMUUID, now.VMUUID, now.Generation)
		}
	}
}

// TestALateCopyMakesNoOther, and takes none away: an apply is killed while its
// request for a replica is on the way; it arrives when the next apply is over.
func TestALateCopyMakesNoOther(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	w.write("main.tf", web("late", "tdx.small", 3, "", ""))
	hold := lossy.NewHold()
	w.proxy.SetPolicy(lossy.Nth(1, func(r *lossy.Request) bool { return strings.HasSuffix(r.Path, "/replicas") }, hold.Fate()))
	cmd, wait := w.start(t.Context(), nil, "apply", "-auto-approve", "-input=false")
	<-hold.Held()
	w.kill(cmd, wait)
	w.apply(web("late", "tdx.small", 5, "", "")) // more by now: a count that is late would set it back
	hold.Release()
	held, err := w.proxy.Await(t.Context(), func(e lossy.Exchange) bool { return e.Fate == "hold" && e.Done })
	if err != nil || len(held.Statuses) != 1 || held.Statuses[0]/100 != 2 {
		t.Errorf("the late copy was answered with %v: %v", held.Statuses, err)
	}
	replicasAre(t, "late", 5)
	w.planIsEmpty()
}

// TestAWaitThatTakesTooLong is a warning: everything is recorded, nothing is
// tainted, and the next plan is empty.
func TestAWaitThatTakesTooLong(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	var writes atomic.Int64
	w.proxy.SetPolicy(func(r *lossy.Request) lossy.Fate {
		if lossy.Writes(r) {
			writes.Add(1)
		}
		if writes.Load() == 2 && uuidInPath.ReplaceAllString(r.Path, "") == "/api/v1/cvms" { // both are made
			return lossy.Blackhole()
		}
		return lossy.Pass()
	})
	w.write("main.tf", web("slow", "tdx.small", 2, "timeouts { create = \"15s\" }", ""))
	out := w.must("apply", "-auto-approve", "-input=false", "-no-color")
	if !strings.Contains(out, "is not ready yet") {
		t.Errorf("there is no warning:\n%s", out)
	}
	w.proxy.SetPolicy(nil)
	if ids, _ := w.state("roost_app.web")["cvm_ids"].([]any); len(ids) != 2 {
		t.Errorf("the state has the CVMs %v", ids)
	}
	w.planIsEmpty()
	replicasAre(t, "slow", 2)
}

// TestTheNextApplyWaits: where an apply was killed in its wait nothing is left to
// be asked for, but its successor does not end before the CVMs are ready either.
func TestTheNextApplyWaits(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	config := func(timeout string) string {
		timeouts := fmt.Sprintf("timeouts { update = %q }", timeout)
		return web("underway", "tdx.small", 2, timeouts, `resource "roost_cvm_power" "web" {
  cvm_id = roost_app.web.cvm_ids[1]
  state  = "running"
  `+timeouts+`
}`)
	}
	w.apply(config("2s"))
	second := replicasAre(t, "underway", 2)[1].VMUUID
	thaw := freeze(t, second)
	if _, err := shared.client.RestartCVM(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	w.planShows(`~ status = "restarting" -> (known after apply)`, `~ state = "restarting" -> "running"`)
	out := w.must("apply", "-auto-approve", "-input=false", "-no-color")
	for _, text := range []string{"A CVM is not ready yet", "the time for it was up", "and one more similar warning elsewhere"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), text) {
			t.Errorf("both resources should wait for the CVM, and say %q:\n%s", text, out)
		}
	}
	thaw()
	w.apply(config("1m"))
	if status := w.state("roost_app.web")["status"]; status != "running" {
		t.Errorf("the apply ended when the app was %v", status)
	}
	w.planIsEmpty()
	if now, err := shared.client.CVM(t.Context(), second); err != nil || now.Generation != 2 {
		t.Errorf("the CVM has been asked for other things than one restart: %+v, %v", now, err)
	}
}

// TestAFailedCVM: the apply fails, and a destroy finds it.
func TestAFailedCVM(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	w.fails(web("broken", "tdx.small", 1, "", ""), "SIM_FAILED")
	w.must("destroy", "-auto-approve", "-input=false")
	replicasAre(t, "broken", 0)
}

// TestRefusedForGood: the first CVM is there when a wrong value is refused, so
// a destroy must find it.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	w.fails(web("refused", "tdx.huge", 1, "", ""), "/instance_type")
	if !appNamed(t, "refused").IsZero() {
		t.Error("something was made")
	}
	w.apply(web("refused", "tdx.small", 1, "disk_size = 50", ""))
	w.fails(web("refused", "tdx.small", 1, "disk_size = 40", ""), "can only grow")
	w.apply(web("refused", "tdx.small", 1, "disk_size = 60", ""))
	w.planIsEmpty()
}

// TestExamples are valid and formatted, and the data sources read what is there.
func TestExamples(t *testing.T) {
	t.Parallel()
	examples := filepath.Join("..", "..", "examples")
	if out, err := exec.CommandContext(t.Context(), shared.terraform, "fmt", "-check", "-recursive", examples).CombinedOutput(); err != nil {
		t.Errorf("not formatted: %s", out)
	}
	files, err := filepath.Glob(filepath.Join(examples, "*s", "*", "*.tf"))
	if err != nil || len(files) < 7 {
		t.Fatalf("there are only %d examples: %v", len(files), err)
	}
	for _, file := range files {
		w := newWorkdir(t)
		w.write("source.tf", source)
		w.copyFrom(file)
		w.must("validate", "-no-color")
	}
}

// TestDataSources read an app that is there.
func TestDataSources(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	w.apply(web("shown", "tdx.small", 2, "", `
data "roost_app" "web" { name = roost_app.web.name }
data "roost_app" "by_id" { app_id = roost_app.web.app_id }
data "roost_apps" "all" { depends_on = [roost_app.web] }
data "roost_cvms" "web" { app_id = roost_app.web.app_id }
data "roost_cvms" "all" { depends_on = [roost_app.web] }
data "roost_cvm" "copy" { cvm_id = data.roost_app.web.cvm_ids[1] }
output "all" {
  value = alltrue([
    data.roost_app.web.cvm_ids == roost_app.web.cvm_ids,
    data.roost_app.by_id.name == "shown",
    contains(data.roost_apps.all.apps[*].name, "shown"),
    data.roost_cvms.web.cvms[*].cvm_id == roost_app.web.cvm_ids,
    contains(data.roost_cvms.all.cvms[*].cvm_id, roost_app.web.primary_cvm_id),
    data.roost_cvm.copy.replica_of == roost_app.web.primary_cvm_id,
    data.roost_cvm.copy.status == "running",
    data.roost_cvm.copy.name == "shown-2",
  ])
}`))
	if out := strings.TrimSpace(w.must("output", "-raw", "all")); !strings.HasSuffix(out, "true") {
		t.Errorf("the data sources show something else: %s\n%s", out, w.must("state", "show", "data.roost_cvm.copy"))
	}
	for _, which := range []string{"", `app_id = "shown"`, "name = \"shown\"\n  app_id = \"01a2010c-212f-784f-bff1-1a1682b7757b\""} {
		w.write("main.tf", source+"data \"roost_app\" \"web\" {\n  "+which+"\n}\n")
		if out := w.run(nil, "validate"); out.exit != 1 {
			t.Errorf("%q is valid:\n%s", which, out.output)
		}
	}
}

// TestImports of what hangs on a CVM.
func TestImports(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	config := web("imports", "tdx.small", 1, "", `resource "roost_firewall_rule" "dns" {
  cvm_id   = roost_app.web.primary_cvm_id
  cidr     = "10.0.0.0/8"
  protocol = "udp"
  port     = 53
}
resource "roost_cvm_power" "web" {
  cvm_id = roost_app.web.primary_cvm_id
  state  = "running"
}`)
	w.apply(config)
	cvm, rule := fmt.Sprint(w.state("roost_cvm_power.web")["cvm_id"]), fmt.Sprint(w.state("roost_firewall_rule.dns")["id"])
	w.must("state", "rm", "roost_firewall_rule.dns", "roost_cvm_power.web", "roost_app.web")
	w.must("import", "-input=false", "roost_app.web", fmt.Sprint(appNamed(t, "imports")))
	w.must("import", "-input=false", "roost_cvm_power.web", cvm)
	w.must("import", "-input=false", "roost_firewall_rule.dns", cvm+"/"+rule)
	w.planIsEmpty()
}

// TestDestroyIsRepeatSafe: what is to be destroyed has gone already.
func TestDestroyIsRepeatSafe(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	w.apply(web("ended", "tdx.small", 2, "", ""))
	for _, cvm := range slices.Backward(replicasAre(t, "ended", 2)) {
		if _, err := shared.client.DeleteCVM(t.Context(), cvm.VMUUID); err != nil && !client.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	w.must("destroy", "-auto-approve", "-input=false", "-refresh=false") // it is not known to be gone
	replicasAre(t, "ended", 0)
}
