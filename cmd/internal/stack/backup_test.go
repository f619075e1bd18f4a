package stack_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"roost/models/pg"
)

// backup copies a database's tables aside. The restore that it returns puts
// them back in one transaction, under the feet of whoever is connected: no
// process restarts and no connection breaks.
func backup(t *testing.T, db *gorm.DB, tables ...string) (restore func()) {
	t.Helper()
	for _, table := range tables {
		require.NoError(t, db.Exec(fmt.Sprintf(`CREATE TABLE backup_%[1]s AS TABLE %[1]s`, table)).Error)
	}
	return func() {
		t.Helper()
		require.NoError(t, pg.InTx(t.Context(), db, func(tx *gorm.DB) error {
			for _, table := range slices.Backward(tables) { // what refers goes before what it refers to
				if err := tx.Exec("DELETE FROM " + table).Error; err != nil {
					return err
				}
			}
			for _, table := range tables {
				if err := tx.Exec(fmt.Sprintf(`INSERT INTO %[1]s TABLE backup_%[1]s`, table)).Error; err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// platformTables is every table, in the order of their references.
func platformTables() []string {
	return []string{
		"workspaces", "tokens", "apps", "specs", "provisions", "cvms", "operations", "operation_targets",
		"idempotency_keys", "firewall_rules", "orphans", "chores",
	}
}

func owlTables() []string { return []string{"cvms", "firewall_rules"} }
