package crash_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/apitest"
	"roost/cmd/internal/harness"
)

// crashes says for each fault point by which ways it is passed for certain.
func crashes() map[string]trial {
	create, power, deletion := by(creates), by(stops), by(deletes)
	rule, ruleDeletion := by(addsRule), by(deletesRule)
	return map[string]trial{
		"platform.accept":             {ways: requests()},
		"platform.accept.commit":      create,
		"platform.claim":              create,
		"platform.push_creates":       create,
		"platform.push_change":        power,
		"platform.push_deletion":      deletion,
		"platform.settle":             create,
		"platform.settle.commit":      power,
		"platform.observe":            create,
		"platform.observe.commit":     deletion,
		"platform.lost":               by(losesACVM).over(longBoot()),
		"platform.claim_rules":        rule,
		"platform.push_rule":          rule,
		"platform.push_rule_deletion": ruleDeletion,
		"platform.settle_rule":        rule,

		"platform.reap_keys":           by(outlivesAKey).over(tidy()),
		"platform.reap_provisions":     by(outlivesAProvision).over(tidy()),
		"platform.reap_specs":          by(outlivesAProvision).over(tidy()),
		"platform.reap_cvms":           by(outlivesACVM).over(tidy()),
		"platform.reap_firewall_rules": by(outlivesARule).over(tidy()),
		"platform.reap_operations":     by(outlivesAnOperation).over(tidy()),
		"platform.sweep_turn":          by(sweeps).over(tidy()),
		"platform.sweep_due":           by(restoresOwl).over(tidy()),
		"platform.sweep_due_rules":     by(restoresOwlsRules).over(tidy()),
		"platform.sweep_orphan":        by(findsAnOrphan).over(tidy()),
		"platform.sweep_forget":        by(losesAnOrphan).over(tidy()),
		"platform.sweep_delete":        by(deletesAnOrphan).over(tidy()),
		"platform.sweep_deleted":       by(deletesAnOrphan).over(tidy()),

		"owl.insert":           {ways: []way{{name: "cvm", prepare: creates}, {name: "rule", prepare: addsRule}}},
		"owl.apply":            power,
		"owl.tombstone":        deletion,
		"owl.tombstone.commit": deletion,
		"owl.tombstone_rule":   ruleDeletion,
		"owl.claim":            create,
		"owl.ensure":           create,
		"owl.remove":           deletion,
		"owl.ensure_rule":      rule,
		"owl.remove_rule":      ruleDeletion,
		"owl.result":           create,
		"owl.result.commit":    power,
		"owl.removed":          deletion,
		"owl.rule_result":      rule,
		"owl.backoff":          by(stopsAgainstADriver),
		"owl.prolong":          by(bootsForLong).over(longBoot()),
		"owl.give_back":        by(stopsOwl).over(longBoot()),
		"owl.compare":          by(losesPower),
		"owl.reap":             by(outlivesATombstone),

		"sim.move":    create,
		"sim.ahead":   create,
		"sim.log":     create,
		"sim.strike":  power,
		"sim.replace": create,
		"sim.rule":    rule,
	}
}

func by(prepare func(*bench) func()) trial { return trial{ways: []way{{prepare: prepare}}} }

func (t trial) over(options harness.Options) trial {
	t.options = options
	return t
}

// requests is every request that the public API accepts. What is theirs alone
// is how they are replayed, and found when they run again.
func requests() []way {
	ways := []way{{name: "create", prepare: creates}}
	for name, prepare := range map[string]func(*bench) func(){
		"app":           namesAnApp,
		"provision":     provisions,
		"commit":        commits,
		"replicas":      replicates,
		"scale":         scales,
		"stop":          stops,
		"start":         starts,
		"restart":       restarts,
		"patch":         patches,
		"rule":          addsRule,
		"rule deletion": deletesRule,
		"deletion":      deletes,
	} {
		ways = append(ways, way{name: name, prepare: prepare, only: []string{"platform.accept.after:kill", "platform.accept:repeat"}})
	}
	return ways
}

// longBoot lasts longer than it takes to do something meanwhile, and than a
// lease is left alone.
func longBoot() harness.Options {
	return harness.Options{OwlEnv: []string{"OWL_SIM_BOOT=" + (harness.Lease * 4 / 5).String()}}
}

// tidy is a Platform that cleans up all the time.
func tidy() harness.Options {
	return harness.Options{PlatformEnv: []string{"PLATFORM_SWEEP_INTERVAL=200ms"}}
}

func creates(c *bench) func() {
	return func() { c.shows(c.create().VMUUID, "create start") }
}

func namesAnApp(c *bench) func() {
	return func() {
		name := c.name()
		app := apitest.Decode[api.App](c.send(http.MethodPost, "/apps", `{"name":"`+name+`"}`).Expect(http.StatusCreated))
		require.Equal(c.t, name, app.Name)
	}
}

func provisions(c *bench) func() {
	return func() {
		spec := apitest.Spec(c.name(), "services: {}")
		c.send(http.MethodPost, "/cvms", c.provision(spec)).Expect(http.StatusAccepted)
	}
}

// provision reserves, and returns the body of the commit.
func (c *bench) provision(spec string) (commit string) {
	c.t.Helper()
	var reserved struct {
		AppID       api.ID `json:"app_id"`
		ComposeHash string `json:"compose_hash"`
	}
	reply := c.send(http.MethodPost, "/cvms/provision", spec).Expect(http.StatusOK)
	require.NoError(c.t, json.Unmarshal(reply.Body, &reserved))
	body, err := json.Marshal(reserved)
	require.NoError(c.t, err)
	return string(body)
}

func commits(c *bench) func() {
	commit := c.provision(apitest.Spec(c.name(), "services: {}"))
	return func() {
		cvm := c.send(http.MethodPost, "/cvms", commit).Expect(http.StatusAccepted).CVM()
		c.succeeds(cvm.Operation.ID)
		c.shows(cvm.VMUUID, "create start")
	}
}

func replicates(c *bench) func() {
	cvm := c.running()
	return func() {
		path := "/apps/" + cvm.AppID.String() + pathOf(cvm) + "/replicas"
		c.succeeds(c.many(c.send(http.MethodPost, path, `{"count":3}`)))
		c.counts(cvm, 4)
	}
}

func scales(c *bench) func() {
	cvm := c.running()
	return func() {
		path := "/apps/" + cvm.AppID.String() + "/replicas"
		c.succeeds(c.many(c.send(http.MethodPut, path, `{"count":3}`)))
		c.counts(cvm, 3)
	}
}

// many is the operation of an answer about several CVMs.
func (c *bench) many(reply *apitest.Reply) (operation string) {
	c.t.Helper()
	var made struct {
		Operation api.Operation `json:"operation"`
	}
	require.NoError(c.t, json.Unmarshal(reply.Expect(http.StatusAccepted).Body, &made))
	return made.Operation.ID
}

// counts wants the app to have so many CVMs at rest.
func (c *bench) counts(cvm api.CVM, want int) {
	c.checks = append(c.checks, func() {
		c.t.Helper()
		var all []api.CVM
		reply := c.stack.Client().Get("/apps/" + cvm.AppID.String() + "/cvms").Expect(http.StatusOK)
		require.NoError(c.t, json.Unmarshal(reply.Body, &all))
		require.Len(c.t, all, want)
	})
}

func stops(c *bench) func()    { return c.powers("stop", "create start stop") }
func restarts(c *bench) func() { return c.powers("restart", "create start restart") }

func (c *bench) powers(action, effects string) func() {
	c.t.Helper()
	cvm := c.running()
	return func() {
		reply := c.send(http.MethodPost, pathOf(cvm)+"/"+action, "").Expect(http.StatusAccepted)
		c.succeeds(reply.CVM().Operation.ID)
		c.shows(cvm.VMUUID, effects)
	}
}

func starts(c *bench) func() {
	cvm := c.running()
	c.stack.Wait(c.send(http.MethodPost, pathOf(cvm)+"/stop", "").Expect(http.StatusAccepted).CVM().Operation.ID)
	return func() {
		reply := c.send(http.MethodPost, pathOf(cvm)+"/start", "").Expect(http.StatusAccepted)
		c.succeeds(reply.CVM().Operation.ID)
		c.shows(cvm.VMUUID, "create start stop start")
	}
}

func patches(c *bench) func() {
	cvm := c.running()
	return func() {
		reply := c.send(http.MethodPatch, pathOf(cvm), `{"disk_size":30}`).Expect(http.StatusAccepted)
		c.succeeds(reply.CVM().Operation.ID)
		c.shows(cvm.VMUUID, "create start update")
	}
}

func deletes(c *bench) func() {
	cvm := c.running()
	c.rule(cvm)
	return func() {
		reply := c.send(http.MethodDelete, pathOf(cvm), "")
		if reply.Status != http.StatusGone { // as it may be to who asks again
			c.succeeds(reply.Expect(http.StatusAccepted).CVM().Operation.ID)
		}
		c.shows(cvm.VMUUID, "create start remove")
	}
}

func (c *bench) rule(cvm api.CVM) (path string) {
	c.t.Helper()
	reply := c.send(http.MethodPost, pathOf(cvm)+"/firewall-rules", `{"cidr":"10.0.0.0/8"}`).Expect(http.StatusCreated)
	return pathOf(cvm) + "/firewall-rules/" + apitest.Decode[api.FirewallRule](reply).ID.String()
}

func addsRule(c *bench) func() {
	cvm := c.running()
	return func() {
		path := c.rule(cvm)
		c.checks = append(c.checks, func() {
			c.t.Helper()
			rule := apitest.Decode[api.FirewallRule](c.stack.Client().Get(path).Expect(http.StatusOK))
			require.Equal(c.t, api.FirewallActive, rule.Status)
			var all api.Page[api.FirewallRule]
			require.NoError(c.t, json.Unmarshal(c.stack.Client().Get(filepath.Dir(path)).Expect(http.StatusOK).Body, &all))
			require.Len(c.t, all.Items, 1)
		})
	}
}

func deletesRule(c *bench) func() {
	path := c.rule(c.running())
	return func() {
		if reply := c.send(http.MethodDelete, path, ""); reply.Status != http.StatusGone {
			reply.Expect(http.StatusNoContent)
		}
	}
}

// losesACVM takes a CVM away from Owl that it has confirmed, while its boot is
// watched: a restore from just before.
func losesACVM(c *bench) func() {
	return func() {
		cvm := c.create()
		c.await(func() bool {
			return harness.Rows[bool](c.stack, c.stack.PlatformDB, `SELECT confirmed FROM cvms WHERE id = ?`, cvm.VMUUID)[0]
		})
		c.exec(c.stack.OwlDB, `DELETE FROM cvms WHERE id = ?`, cvm.VMUUID)
		c.shows(cvm.VMUUID, "create start")
	}
}

// await polls a state until it is reached.
func (c *bench) await(reached func() bool) {
	c.t.Helper()
	require.Eventually(c.t, reached, harness.Patience, 20*time.Millisecond)
}

// stopsAgainstADriver has the driver fail: the machine's file cannot be
// written, until the failure was noted.
func stopsAgainstADriver(c *bench) func() {
	cvm := c.running()
	obstacle := c.machineFile(cvm) + ".tmp"
	return func() {
		require.NoError(c.t, os.Mkdir(obstacle, 0o700))
		c.succeeds(c.send(http.MethodPost, pathOf(cvm)+"/stop", "").Expect(http.StatusAccepted).CVM().Operation.ID)
		c.await(func() bool {
			return harness.Rows[int](c.stack, c.stack.OwlDB, `SELECT attempts FROM cvms WHERE id = ?`, cvm.VMUUID)[0] > 0
		})
		require.NoError(c.t, os.Remove(obstacle))
		c.shows(cvm.VMUUID, "create start stop")
	}
}

func (c *bench) machineFile(cvm api.CVM) string {
	return filepath.Join(c.stack.SimDir, "machines", cvm.VMUUID.String()+".json")
}

// stopsOwl tells Owl to end in order while it has a boot under way.
func stopsOwl(c *bench) func() {
	return func() {
		cvm, release := c.booting()
		c.victim.Terminate()
		c.victim.AwaitExit()
		release()
		c.victim.Start()
		c.shows(cvm.VMUUID, "create start")
	}
}

// bootsForLong has a boot outlast what a lease is left alone for.
func bootsForLong(c *bench) func() {
	return func() {
		cvm, release := c.booting()
		c.fired()
		release()
		c.shows(cvm.VMUUID, "create start")
	}
}

// booting is a CVM whose boot Owl has under way and cannot end before it is
// released: the machine is locked.
func (c *bench) booting() (cvm api.CVM, release func()) {
	c.t.Helper()
	for {
		cvm = c.create()
		lock, err := os.OpenFile(filepath.Join(c.stack.SimDir, "locks", cvm.VMUUID.String()), os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(c.t, err)
		require.NoError(c.t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
		release = func() { require.NoError(c.t, lock.Close()) }
		var row struct{ Fence, Observed int64 }
		c.await(func() bool {
			rows := harness.Rows[struct{ Fence, Observed int64 }](c.stack, c.stack.OwlDB,
				`SELECT fence, observed_generation AS observed FROM cvms WHERE id = ?`, cvm.VMUUID)
			if len(rows) > 0 {
				row = rows[0]
			}
			return row.Fence > 0
		})
		if row.Observed == 0 {
			return cvm, release
		}
		release() // it was quicker
	}
}

// losesPower has a machine stop behind Owl's back, which Owl finds when it
// starts.
func losesPower(c *bench) func() {
	cvm := c.running()
	return func() {
		c.victim.Kill()
		file, err := os.ReadFile(c.machineFile(cvm))
		require.NoError(c.t, err)
		require.NoError(c.t, os.WriteFile(c.machineFile(cvm), bytes.Replace(file, []byte(`"running"`), []byte(`"stopped"`), 1), 0o600))
		c.victim.Launch()
		c.fired()
		c.victim.Restart() // what panicked is done again in a minute, or now
		c.await(func() bool { return c.stack.Machine(cvm.VMUUID) == "create start start" })
	}
}

// outlivesATombstone has a deletion become too old to be remembered.
func outlivesATombstone(c *bench) func() {
	id := api.NewMinter().ID()
	c.atOwl(http.MethodDelete, "/v1/cvms/"+id.String(), "", http.StatusNoContent)
	c.stack.AwaitRest()
	c.exec(c.stack.OwlDB, `UPDATE cvms SET deleted_at = deleted_at - interval '31 days' WHERE id = ?`, id)
	return func() {
		c.victim.Kill()
		c.victim.Launch()
		c.awaitGone(c.stack.OwlDB, "cvms WHERE id = ?", id)
	}
}
