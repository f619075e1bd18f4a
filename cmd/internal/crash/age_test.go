package crash_test

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/apitest"
	"roost/api/owlapi"
	"roost/cmd/internal/harness"
)

// Ways through what happens when time passes, or a backup is restored. Ages
// are written into the databases.

func (c *bench) exec(db *gorm.DB, sql string, args ...any) {
	c.t.Helper()
	require.NoError(c.t, db.Exec(sql, args...).Error)
}

func (c *bench) exists(db *gorm.DB, rows string, args ...any) bool {
	c.t.Helper()
	return len(harness.Rows[int](c.stack, db, "SELECT 1 FROM "+rows, args...)) > 0
}

func (c *bench) awaitGone(db *gorm.DB, rows string, args ...any) {
	c.t.Helper()
	c.await(func() bool { return !c.exists(db, rows, args...) })
}

// atOwl asks Owl behind Platform's back.
func (c *bench) atOwl(method, path, body string, want int) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.stack.Owls[0].URL()+path, strings.NewReader(body))
	require.NoError(c.t, err)
	req.Header.Set("Authorization", "Bearer "+c.stack.OwlToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	require.NoError(c.t, resp.Body.Close())
	require.Equal(c.t, want, resp.StatusCode)
}

func outlivesAKey(c *bench) func() {
	c.running()
	key := c.key()
	return func() {
		c.exec(c.stack.PlatformDB, `UPDATE idempotency_keys SET expires_at = now() WHERE key = ?`, key)
		c.awaitGone(c.stack.PlatformDB, "idempotency_keys WHERE key = ?", key)
	}
}

func outlivesAProvision(c *bench) func() {
	c.provision(apitest.Spec(c.name(), "services: {}"))
	spec := harness.Rows[api.ID](c.stack, c.stack.PlatformDB, `SELECT spec_id FROM provisions`)[0]
	return func() {
		c.exec(c.stack.PlatformDB, `UPDATE provisions SET expires_at = now() WHERE spec_id = ?`, spec)
		c.awaitGone(c.stack.PlatformDB, "provisions WHERE spec_id = ?", spec)
		c.await(func() bool { return c.exists(c.stack.PlatformDB, "specs WHERE id = ? AND loose_at IS NOT NULL", spec) })
		c.exec(c.stack.PlatformDB, `UPDATE specs SET loose_at = loose_at - interval '2 hours' WHERE id = ?`, spec)
		c.awaitGone(c.stack.PlatformDB, "specs WHERE id = ?", spec)
	}
}

func outlivesACVM(c *bench) func() {
	cvm := c.running()
	c.stack.Wait(c.send(http.MethodDelete, pathOf(cvm), "").Expect(http.StatusAccepted).CVM().Operation.ID)
	return func() {
		c.exec(c.stack.PlatformDB, `UPDATE cvms SET deleted_at = deleted_at - interval '40 days' WHERE id = ?`, cvm.VMUUID)
		c.awaitGone(c.stack.PlatformDB, "cvms WHERE id = ?", cvm.VMUUID)
		c.forgetAtOwl(cvm.VMUUID)
		c.stack.Journal.ForgetAll()
	}
}

// forgetAtOwl takes a tombstone away, as its age will.
func (c *bench) forgetAtOwl(id api.ID) {
	c.t.Helper()
	c.await(func() bool { return c.exists(c.stack.OwlDB, "cvms WHERE id = ? AND deleted_at IS NOT NULL", id) })
	c.exec(c.stack.OwlDB, `DELETE FROM cvms WHERE id = ?`, id)
}

func outlivesARule(c *bench) func() {
	path := c.rule(c.running())
	id := path[strings.LastIndex(path, "/")+1:]
	c.send(http.MethodDelete, path, "").Expect(http.StatusNoContent)
	return func() {
		c.exec(c.stack.PlatformDB, `UPDATE firewall_rules SET deleted_at = deleted_at - interval '40 days' WHERE id = ?`, id)
		c.awaitGone(c.stack.PlatformDB, "firewall_rules WHERE id = ?", id)
	}
}

func outlivesAnOperation(c *bench) func() {
	cvm := c.running()
	var stop string // which no CVM names once it was started again
	for _, action := range []string{"/stop", "/start"} {
		operation := c.send(http.MethodPost, pathOf(cvm)+action, "").Expect(http.StatusAccepted).CVM().Operation.ID
		c.stack.Wait(operation)
		if action == "/stop" {
			stop = operation
		}
	}
	return func() {
		c.exec(c.stack.PlatformDB, `UPDATE operations SET finished_at = finished_at - interval '40 days' WHERE id = ?`, stop)
		c.awaitGone(c.stack.PlatformDB, "operations WHERE id = ?", stop)
		c.stack.Journal.ForgetAll()
	}
}

// sweeps waits: a tidy Platform does.
func sweeps(*bench) func() { return func() {} }

// restoresOwl takes away from Owl what it had at rest.
func restoresOwl(c *bench) func() {
	cvm := c.running()
	return func() {
		c.exec(c.stack.OwlDB, `DELETE FROM cvms WHERE id = ?`, cvm.VMUUID)
		c.await(func() bool { return c.exists(c.stack.OwlDB, "cvms WHERE id = ?", cvm.VMUUID) })
		c.shows(cvm.VMUUID, "create start")
	}
}

func restoresOwlsRules(c *bench) func() {
	path := c.rule(c.running())
	id := path[strings.LastIndex(path, "/")+1:]
	return func() {
		c.exec(c.stack.OwlDB, `DELETE FROM firewall_rules WHERE id = ?`, id)
		c.await(func() bool { return c.exists(c.stack.OwlDB, "firewall_rules WHERE id = ?", id) })
	}
}

// orphan makes Owl have what Platform has never heard of.
func (c *bench) orphan() api.ID {
	c.t.Helper()
	id := api.NewMinter().ID()
	body, err := json.Marshal(owlapi.CreateCVM{ID: id, AppID: id, Name: c.name(), Spec: []byte(`{}`)}.WithDefaults())
	require.NoError(c.t, err)
	c.atOwl(http.MethodPost, "/v1/cvms", string(body), http.StatusCreated)
	c.await(func() bool { return c.stack.Orphans()[id] })
	return id
}

func findsAnOrphan(c *bench) func() {
	return func() {
		id := c.orphan()
		c.fired()
		c.lose(id) // or the next case would not be about its own
	}
}

func losesAnOrphan(c *bench) func() {
	id := c.orphan()
	return func() { c.lose(id) }
}

// lose has an orphan deleted by somebody else.
func (c *bench) lose(id api.ID) {
	c.t.Helper()
	c.atOwl(http.MethodDelete, "/v1/cvms/"+id.String(), "", http.StatusNoContent)
	c.await(func() bool { return !c.stack.Orphans()[id] })
	c.forgetAtOwl(id)
}

func deletesAnOrphan(c *bench) func() {
	id := c.orphan()
	return func() {
		c.exec(c.stack.PlatformDB, `UPDATE orphans SET decision = 'delete' WHERE id = ?`, id)
		c.await(func() bool { return !c.stack.Orphans()[id] })
		c.forgetAtOwl(id)
	}
}
