package scenario_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/api"
	"roost/cmd/internal/harness"
	"roost/models/pgtest/pgproxy"
)

// slowOnce makes the first commit that does this to the table take a while:
// the constraint is checked at its end. Sequences know no rollback, so the
// next one is quick.
func slowOnce(t *testing.T, db *gorm.DB, event, condition string) {
	t.Helper()
	require.NoError(t, db.Exec(`CREATE SEQUENCE commits`).Error)
	require.NoError(t, db.Exec(`CREATE FUNCTION slow_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF nextval('commits') = 1 THEN PERFORM pg_sleep(3); END IF; RETURN NULL; END $$`).Error)
	require.NoError(t, db.Exec(`CREATE CONSTRAINT TRIGGER slow_once AFTER `+event+`
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (`+condition+`) EXECUTE FUNCTION slow_once()`).Error)
}

// TestScenarioCommitUnknownWhileTheBackendIsCommitting: the connection breaks
// while Postgres is at the COMMIT, at each of the three of a create. A read
// would find nothing, and the row comes seconds later; the same transaction
// again finds it.
func TestScenarioCommitUnknownWhileTheBackendIsCommitting(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		owl              bool // which database
		event, condition string
	}{
		"accept":     {event: "INSERT ON idempotency_keys", condition: "true"},
		"Owl insert": {owl: true, event: "INSERT ON cvms", condition: "true"},
		"settle":     {event: "UPDATE ON cvms", condition: "NEW.confirmed AND NOT OLD.confirmed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var proxy *pgproxy.Proxy
			via := func(direct string) string {
				proxy = pgproxy.Start(t, direct)
				return proxy.URL
			}
			options := harness.Options{PlatformVia: via}
			if tc.owl {
				options = harness.Options{OwlVia: via}
			}
			b := setup(t, options)
			db := b.PlatformDB
			if tc.owl {
				db = b.OwlDB
			}
			slowOnce(t, db, tc.event, tc.condition)

			answered := make(chan api.CVM, 1)
			go func() {
				if reply, err := b.create("web").Try(); err == nil && reply.Status == http.StatusAccepted && !reply.Replayed() {
					answered <- reply.CVM()
				}
				close(answered)
			}()
			b.Await("the backend is committing", func() bool { return b.committing(db) == 1 })
			proxy.Cut()
			require.Equal(t, 1, b.committing(db), "and goes on committing")
			b.FaultsEnded()
			cvm, ok := <-answered
			require.True(t, ok, "the client hears of nothing: 202, and no replay")
			require.Equal(t, api.OperationSucceeded, b.Wait(cvm.Operation.ID).Status)
			b.AtRest()
			require.Equal(t, "create start", b.Machine(cvm.VMUUID))
			require.Equal(t, 1, harness.Rows[int](b.Stack, b.PlatformDB, `SELECT count(*) FROM cvms`)[0])
			require.GreaterOrEqual(t, harness.Rows[int](b.Stack, db, `SELECT last_value FROM commits`)[0], 1)
		})
	}
}

// committing counts the backends that are in the slow commit.
func (b *bundle) committing(db *gorm.DB) int {
	b.t.Helper()
	return harness.Rows[int](b.Stack, db, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event = 'PgSleep'`)[0]
}
