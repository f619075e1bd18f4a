package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// CreateFirewallRule accepts a rule for a CVM; it is pushed once the CVM has a
// machine. CodeNotFound, CodeGone and CodeInvalidState are the CVM's.
func (f *Fleet) CreateFirewallRule(ctx context.Context, call Call, cvm api.ID, req api.CreateFirewallRule) (Answer, error) {
	id, full := f.cfg.Minter.ID(), req.WithDefaults()
	return f.accept(ctx, call, plan{
		members: func() (map[string]string, error) {
			return idempotency.Members(full, api.CreateFirewallRule{}.WithDefaults())
		},
		expected: idempotency.Result{Status: http.StatusCreated, ResourceID: id},
		work: func(tx *gorm.DB, _ bool) (done, error) {
			row, err := takeCVM(tx, call.Workspace, cvm)
			if err != nil {
				return done{}, err
			}
			if err := actionable(row); err != nil {
				return done{}, err
			}
			rule, err := insertRule(tx, models.FirewallRule{
				ID: id, WorkspaceID: call.Workspace, CVMID: cvm,
				CIDR: full.CIDR, Protocol: full.Protocol, Port: full.Port, Status: api.FirewallPending,
			})
			if err != nil {
				return done{}, err
			}
			body, err := json.Marshal(ruleView(rule))
			return done{result: idempotency.Result{Status: http.StatusCreated, ResourceID: id, Body: body}}, err
		},
	})
}

// insertRule inserts a rule, or finds it: a transaction whose commit was in
// doubt is run again with the same ID, under the lock that it held.
func insertRule(tx *gorm.DB, rule models.FirewallRule) (models.FirewallRule, error) {
	err := tx.Exec(`INSERT INTO firewall_rules (id, workspace_id, cvm_id, cidr, protocol, port, status)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		rule.ID, rule.WorkspaceID, rule.CVMID, rule.CIDR, rule.Protocol, rule.Port, rule.Status).Error
	if err != nil {
		return rule, fmt.Errorf("insert rule: %w", err)
	}
	if err := tx.Where("id = ?", rule.ID).Take(&rule).Error; err != nil {
		return rule, fmt.Errorf("read rule: %w", err)
	}
	return rule, nil
}

// DeleteFirewallRule accepts the end of a rule, or returns CodeNotFound for
// one that never was and CodeGone for one that is deleted.
func (f *Fleet) DeleteFirewallRule(ctx context.Context, call Call, cvm, id api.ID) (Answer, error) {
	call.Key = ""
	return f.accept(ctx, call, plan{
		natural: true,
		work: func(tx *gorm.DB, again bool) (done, error) {
			rule, err := lockRule(tx, call.Workspace, cvm, id)
			if err != nil {
				return done{}, err
			}
			ok := done{result: idempotency.Result{Status: http.StatusNoContent, ResourceID: id}}
			if rule.DeletedAt != nil {
				if again {
					return ok, nil // by an earlier run of this very request, as far as anybody can tell
				}
				e := api.Errorf(api.CodeGone, "the firewall rule %s was deleted.", id)
				e.DeletedAt = api.NewTimePtr(rule.DeletedAt)
				return done{}, e
			}
			err = tx.Exec(`UPDATE firewall_rules SET deleted_at = clock_timestamp(), attempts = 0,
				reconcile_after = now(), updated_at = clock_timestamp() WHERE id = ?`, id).Error
			if err != nil {
				return done{}, fmt.Errorf("delete rule: %w", err)
			}
			return ok, nil
		},
	})
}

func lockRule(tx *gorm.DB, workspace, cvm, id api.ID) (models.FirewallRule, error) {
	var rule models.FirewallRule
	err := tx.Raw(`SELECT * FROM firewall_rules WHERE id = ? AND cvm_id = ? AND workspace_id = ? FOR UPDATE`,
		id, cvm, workspace).Take(&rule).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return rule, notFound("firewall rule", id)
	}
	if err != nil {
		return rule, fmt.Errorf("lock rule: %w", err)
	}
	return rule, nil
}

// FirewallRule reads one rule: CodeNotFound if it never was, and
// CodeResourceDeleted once its deletion, or its CVM's, was accepted.
func (f *Fleet) FirewallRule(ctx context.Context, workspace, cvm, id api.ID) (api.FirewallRule, error) {
	var rule models.FirewallRule
	err := f.db.WithContext(ctx).Where("workspace_id = ? AND cvm_id = ? AND id = ?", workspace, cvm, id).Take(&rule).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return api.FirewallRule{}, notFound("firewall rule", id)
	}
	if err != nil {
		return api.FirewallRule{}, fmt.Errorf("read rule: %w", err)
	}
	if rule.DeletedAt != nil {
		return api.FirewallRule{}, deleted("firewall rule", id, *rule.DeletedAt)
	}
	return ruleView(rule), nil
}

// FirewallRules is one page of a CVM's rules, oldest ID first. Errors as for
// CVM.
func (f *Fleet) FirewallRules(ctx context.Context, workspace, cvm api.ID, page Page) (api.Page[api.FirewallRule], error) {
	after, err := page.afterID()
	if err != nil {
		return api.Page[api.FirewallRule]{}, err
	}
	if _, err := f.CVM(ctx, workspace, cvm); err != nil {
		return api.Page[api.FirewallRule]{}, err
	}
	var rules []models.FirewallRule
	err = f.db.WithContext(ctx).Where("cvm_id = ? AND id > ? AND deleted_at IS NULL", cvm, after).
		Order("id").Limit(page.Limit + 1).Find(&rules).Error
	if err != nil {
		return api.Page[api.FirewallRule]{}, fmt.Errorf("list rules: %w", err)
	}
	views := make([]api.FirewallRule, len(rules))
	for i, rule := range rules {
		views[i] = ruleView(rule)
	}
	return cut(views, page.Limit, func(r api.FirewallRule) string { return r.ID.String() }), nil
}

func ruleView(r models.FirewallRule) api.FirewallRule {
	return api.FirewallRule{
		ID: r.ID, VMUUID: r.CVMID, CIDR: r.CIDR, Protocol: r.Protocol, Port: r.Port, Status: r.Status,
		Error: resourceError(r.ErrorCode, r.ErrorMessage), CreatedAt: api.NewTime(r.CreatedAt),
	}
}
