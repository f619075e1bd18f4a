package maintenance

import (
	"gorm.io/gorm"

	"roost/models/faultpoint"
)

// reapCVMs removes CVMs that have been gone for longer than the retention,
// with their firewall rules. One that is due is being repaired and stays.
func (m *Maintenance) reapCVMs(db *gorm.DB) (n int64, err error) {
	err = faultpoint.Poll("platform.reap_cvms", func() (int, error) {
		n, err = exec(db, `
			WITH old AS MATERIALIZED (
				SELECT id FROM cvms
				WHERE deleted_at < now() - ?::bigint * interval '1 microsecond' AND reconcile_after IS NULL
				ORDER BY deleted_at LIMIT ? FOR UPDATE SKIP LOCKED
			), rules AS (
				DELETE FROM firewall_rules f USING old WHERE f.cvm_id = old.id
			)
			DELETE FROM cvms c USING old WHERE c.id = old.id`, m.retention(), reapLimit)
		return int(n), err
	})
	return n, err
}

// reapRules removes rules whose CVM lives on.
func (m *Maintenance) reapRules(db *gorm.DB) (n int64, err error) {
	err = faultpoint.Poll("platform.reap_firewall_rules", func() (int, error) {
		n, err = exec(db, `
			WITH old AS MATERIALIZED (
				SELECT id FROM firewall_rules
				WHERE deleted_at < now() - ?::bigint * interval '1 microsecond' AND reconcile_after IS NULL
				ORDER BY deleted_at LIMIT ? FOR UPDATE SKIP LOCKED
			)
			DELETE FROM firewall_rules f USING old WHERE f.id = old.id`, m.retention(), reapLimit)
		return int(n), err
	})
	return n, err
}

// historyCursor is how far this node has read through the operations. Old
// ones stay for as long as a CVM names them, so a reaper that always began at
// the oldest would read the same ones again and again.
type historyCursor struct {
	after string
	pages int // read in this pass
}

// maxHistoryPages bounds how many pages of operations one pass reads.
const maxHistoryPages = 20

// historyPage is what one page of operations came to.
type historyPage struct {
	Last string
	Seen int64
	Gone int64
	Old  bool // some of it were made before the retention
}

// reapOperations reads a page of operations, oldest ID first, and removes
// those that ended before the retention and that no CVM names: GET shows a
// CVM's newest operation, and a create that finds its app answers with the one
// that made the CVM. A CVM is named by its operation too (vm_uuid, or a
// target), so this takes no index on cvms.
func (m *Maintenance) reapOperations(db *gorm.DB) (n int64, full bool, err error) {
	var page historyPage
	err = faultpoint.Poll("platform.reap_operations", func() (int, error) {
		err := db.Raw(`
			WITH page AS MATERIALIZED (
				SELECT id, created_at FROM operations WHERE id > ? ORDER BY id LIMIT ?
			), old AS MATERIALIZED (
				SELECT o.id FROM operations o JOIN page ON page.id = o.id
				WHERE o.finished_at < now() - ?::bigint * interval '1 microsecond'
				AND NOT EXISTS (SELECT 1 FROM cvms c WHERE c.id = o.vm_uuid
					AND (c.operation_id = o.id OR c.create_operation_id = o.id))
				AND NOT EXISTS (SELECT 1 FROM operation_targets t JOIN cvms c ON c.id = t.cvm_id WHERE t.operation_id = o.id
					AND (c.operation_id = o.id OR c.create_operation_id = o.id))
				FOR UPDATE OF o SKIP LOCKED
			), targets AS (
				DELETE FROM operation_targets t USING old WHERE t.operation_id = old.id
			), gone AS (
				DELETE FROM operations o USING old WHERE o.id = old.id RETURNING o.id
			)
			SELECT COALESCE(max(id), '') AS last, count(*) AS seen, (SELECT count(*) FROM gone) AS gone,
				COALESCE(bool_or(created_at < now() - ?::bigint * interval '1 microsecond'), false) AS old
			FROM page`, m.history.after, reapLimit, m.retention(), m.retention()).Take(&page).Error
		return int(page.Gone), err
	})
	if err != nil {
		return 0, false, err
	}
	return page.Gone, m.history.advance(page), nil
}

// advance moves behind a page and reports whether to read on in this pass. IDs
// follow time closely enough: behind a page without old operations there are
// at most a few, which wait until they are not so few.
func (c *historyCursor) advance(page historyPage) (more bool) {
	c.after, c.pages = page.Last, c.pages+1
	if page.Seen < reapLimit || !page.Old {
		c.after, c.pages = "", 0
		return false
	}
	if c.pages >= maxHistoryPages {
		c.pages = 0
		return false
	}
	return true
}
