package maintenance

import (
	"context"
	"fmt"
)

const (
	// latestTargets bounds how far back a glance searches for what has ended.
	latestTargets = 2000
)

// compareLatest compares the CVMs that operations ended for last, and the
// rules that changed last. An Owl that comes from an older backup has lost
// exactly these, whatever else it lost. Operations of no consequence have no
// targets and hide nothing.
func (m *Maintenance) compareLatest(ctx context.Context) (due int64, err error) {
	cvms, err := query[ownCVM](ctx, m, `SELECT `+ownCVMColumns+` FROM cvms WHERE id IN (
			SELECT cvm_id FROM (SELECT operation_id, cvm_id, ended_at FROM operation_targets
				ORDER BY operation_id DESC, cvm_id DESC LIMIT ?) latest
			WHERE ended_at IS NOT NULL ORDER BY operation_id DESC, cvm_id DESC LIMIT ?)
		AND `+cvmAtRest, latestTargets, pageSize)
	if err != nil {
		return 0, fmt.Errorf("read latest CVMs: %w", err)
	}
	if due, err = m.compareCVMs(ctx, cvms); err != nil {
		return due, err
	}
	rules, err := query[ownRule](ctx, m, `SELECT f.id, f.deleted_at FROM
			(SELECT * FROM firewall_rules ORDER BY updated_at DESC LIMIT ?) f JOIN cvms c ON c.id = f.cvm_id
		WHERE `+ruleAtRest, pageSize)
	if err != nil {
		return due, fmt.Errorf("read latest rules: %w", err)
	}
	n, err := m.compareRules(ctx, rules)
	return due + n, err
}
