package provision

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"roost/api/owlapi"
	"roost/models"
	"roost/models/faultpoint"
	"roost/owl/driver"
)

const ruleColumns = `id, cvm_id, cidr, protocol, port, fence, delete_requested_at`

// codeUnsupported is the failure of a rule whose driver filters no packets.
const codeUnsupported = "FIREWALL_UNSUPPORTED"

// rule does what one claimed firewall rule needs and writes how it went.
func (p *Provisioner) rule(ctx context.Context, row models.OwlFirewallRule) {
	written, err := p.filter(ctx, row)
	p.report(ctx, "firewall_rule", row.ID, written, err)
}

func (p *Provisioner) filter(ctx context.Context, row models.OwlFirewallRule) (written bool, err error) {
	filters := p.driver.filter != nil
	switch {
	case row.DeleteRequestedAt == nil && !filters:
		return p.settleRule(ctx, row, &driver.Failure{Code: codeUnsupported, Message: "this host filters no packets"})
	case row.DeleteRequestedAt == nil:
		return p.ensureRule(ctx, row)
	case filters:
		if failed := p.driver.RemoveRule(ctx, row.CVMID, row.ID); failed != nil {
			return p.retry(ctx, "firewall_rules", claim{row.ID, row.Fence}, failed)
		}
	}
	return p.confirmRuleRemoved(ctx, row)
}

func (p *Provisioner) ensureRule(ctx context.Context, row models.OwlFirewallRule) (written bool, err error) {
	failed := p.driver.EnsureRule(ctx, driver.Rule{
		ID: row.ID, Machine: row.CVMID, CIDR: row.CIDR, Protocol: row.Protocol, Port: row.Port,
	})
	var failure *driver.Failure
	switch {
	case failed == nil:
		return p.settleRule(ctx, row, nil)
	case errors.As(failed, &failure):
		return p.settleRule(ctx, row, failure)
	case errors.Is(failed, driver.ErrRemoved):
		return p.settleRule(ctx, row, &driver.Failure{Code: codeRemoved, Message: "the rule or its machine was removed"})
	}
	return p.retry(ctx, "firewall_rules", claim{row.ID, row.Fence}, failed)
}

func (p *Provisioner) settleRule(
	ctx context.Context, row models.OwlFirewallRule, failure *driver.Failure,
) (written bool, err error) {
	status := owlapi.RuleActive
	if failure != nil {
		status = owlapi.RuleFailed
	}
	code, message := columnsOf(failure)
	return p.writeRule(ctx, `status = ?, error_code = ?, error_message = ?,
			due_at = CASE WHEN delete_requested_at IS NULL THEN NULL ELSE due_at END`,
		status, code, message, row.ID, row.Fence)
}

func (p *Provisioner) confirmRuleRemoved(ctx context.Context, row models.OwlFirewallRule) (bool, error) {
	return p.writeRule(ctx, `deleted_at = now(), due_at = NULL`, row.ID, row.Fence)
}

// writeRule writes a result; the last two arguments are the ID and the fence.
func (p *Provisioner) writeRule(ctx context.Context, set string, args ...any) (written bool, err error) {
	err = faultpoint.Step("owl.rule_result", func() error {
		return p.inTx(ctx, func(tx *gorm.DB) error {
			done := tx.Exec(`UPDATE firewall_rules SET attempts = 0, updated_at = clock_timestamp(), `+set+`
				WHERE id = ? AND fence = ? AND deleted_at IS NULL`, args...)
			written = done.RowsAffected == 1
			return done.Error
		})
	})
	if err != nil {
		return false, fmt.Errorf("write the rule's result: %w", err)
	}
	return written, nil
}
