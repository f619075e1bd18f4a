package maintenance

import (
	"context"
	"fmt"
	"time"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/faultpoint"
)

// ownRule is a firewall rule's row at rest, as far as it is compared.
type ownRule struct {
	ID        api.ID
	DeletedAt *time.Time
}

func (r ownRule) id() api.ID { return r.ID }

// ruleAtRest picks the rows to compare. One that failed is not judged again,
// and while a CVM is being deleted its rules are deleted here and, until that
// deletion arrives, alive at Owl.
const ruleAtRest = `f.reconcile_after IS NULL
	AND (f.deleted_at IS NULL AND f.confirmed AND f.status <> 'failed' OR f.deleted_at > now() - ` + comparedAfterDeletion + `)
	AND (c.deleting_at IS NULL OR c.deleted_at IS NOT NULL)`

// sweepRules is sweepCVMs for firewall rules.
func (m *Maintenance) sweepRules(ctx context.Context) (due int64, err error) {
	read := func(ctx context.Context, after api.ID) ([]ownRule, error) {
		rows, err := query[ownRule](ctx, m, `SELECT f.id, f.deleted_at FROM firewall_rules f JOIN cvms c ON c.id = f.cvm_id
			WHERE f.id > ? AND `+ruleAtRest+` ORDER BY f.id LIMIT ?`, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("read firewall rules at rest: %w", err)
		}
		return rows, nil
	}
	return pages(ctx, read, ownRule.id, m.compareRules)
}

// compareRules makes those rows due that are alive on one side only. A rule
// never changes, so there is nothing else to compare.
func (m *Maintenance) compareRules(ctx context.Context, rows []ownRule) (due int64, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	records, err := m.owlRules(ctx, owlapi.List{IDs: ids(rows, ownRule.id)})
	if err != nil {
		return 0, err
	}
	theirs := byID(records, func(r owlapi.FirewallRule) api.ID { return r.ID })
	var differing []ownRule
	for _, row := range rows {
		record, has := theirs[row.ID]
		if alive := has && !record.Deleted(); alive != (row.DeletedAt == nil) {
			differing = append(differing, row)
		}
	}
	return m.makeRulesDue(ctx, differing)
}

// makeRulesDue makes those rows due that are as they were compared.
func (m *Maintenance) makeRulesDue(ctx context.Context, rows []ownRule) (n int64, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	args := make([]any, 0, 2*len(rows))
	for _, row := range rows {
		args = append(args, row.ID, row.DeletedAt != nil)
	}
	err = faultpoint.Step("platform.sweep_due_rules", func() (err error) {
		n, err = m.update(ctx, `
			WITH v (id, deleted) AS (VALUES `+tuples("(?::uuid, ?::boolean)", len(rows))+`),
			locked AS MATERIALIZED (SELECT f.id FROM firewall_rules f JOIN v ON v.id = f.id ORDER BY f.id FOR UPDATE OF f)
			UPDATE firewall_rules f SET reconcile_after = now(), attempts = 0, updated_at = clock_timestamp()
			FROM v JOIN locked ON locked.id = v.id
			WHERE f.id = v.id AND (f.deleted_at IS NOT NULL) = v.deleted AND f.reconcile_after IS NULL`, args...)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("make firewall rules due: %w", err)
	}
	m.madeDue(ctx, "firewall_rule", n, rows[0].ID)
	return n, nil
}
