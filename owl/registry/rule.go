package registry

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
)

const ruleColumns = `id, cvm_id, cidr, protocol, port, create_digests, status, error_code, error_message,
	due_at, fence, attempts, created_at, updated_at, delete_requested_at, deleted_at`

// CreateFirewallRule inserts a rule that is not there yet. It answers
// ID_CONFLICT or GONE for the rule, NOT_FOUND or GONE for its CVM.
func (r *Registry) CreateFirewallRule(
	ctx context.Context, request owlapi.CreateFirewallRule,
) (Insertion[owlapi.FirewallRule], error) {
	var none Insertion[owlapi.FirewallRule]
	row, err := ruleRow(request.WithDefaults())
	if err != nil {
		return none, err
	}
	made, err := InsertIfAbsent(ctx, r.db, rules(), []models.OwlFirewallRule{row})
	if err != nil {
		return none, coded("create firewall rule", err)
	}
	if anyCreated(made) {
		r.wake()
	}
	return translate(made, ruleRecord)[0], nil
}

// rules is the kind of firewall rules. All that makes it differ from CVMs is
// here: another kind of resource is another function like this one.
func rules() Kind[models.OwlFirewallRule] {
	return Kind[models.OwlFirewallRule]{
		Name:   "firewall rule",
		Insert: insertRules,
		Read:   readRules,
		Head: func(row *models.OwlFirewallRule) Head {
			return Head{ID: row.ID, Digests: row.CreateDigests, Dead: row.DeleteRequestedAt != nil}
		},
		Gone:   func(row *models.OwlFirewallRule) error { return goneRule(*row) },
		Parent: parentOfRule,
	}
}

// insertRules takes the CVM's row FOR SHARE: a deletion that is under way is
// waited for and seen, one that comes later sees this rule.
func insertRules(tx *gorm.DB, rows []models.OwlFirewallRule) ([]models.OwlFirewallRule, error) {
	var made []models.OwlFirewallRule
	for _, row := range rows {
		var one []models.OwlFirewallRule
		err := tx.Raw(`INSERT INTO firewall_rules (id, cvm_id, cidr, protocol, port, create_digests, status, due_at)
			SELECT ?::uuid, c.id, ?::text, ?::text, ?::bigint, ?::json, ?::text,
				CASE WHEN c.observed_generation > 0 THEN now() END
			FROM cvms c WHERE c.id = ? AND c.delete_requested_at IS NULL FOR SHARE OF c
			ON CONFLICT (id) DO NOTHING RETURNING `+ruleColumns,
			row.ID, row.CIDR, row.Protocol, row.Port, row.CreateDigests, owlapi.RulePending, row.CVMID,
		).Find(&one).Error
		if err != nil {
			return nil, fmt.Errorf("insert firewall rule: %w", err)
		}
		made = append(made, one...)
	}
	return made, nil
}

func readRules(tx *gorm.DB, ids []api.ID) ([]models.OwlFirewallRule, error) {
	var found []models.OwlFirewallRule
	err := tx.Raw(`SELECT `+ruleColumns+` FROM firewall_rules WHERE id IN ?`, ids).Find(&found).Error
	if err != nil {
		return nil, fmt.Errorf("read firewall rules: %w", err)
	}
	return found, nil
}

func parentOfRule(tx *gorm.DB, row *models.OwlFirewallRule) error {
	found, err := readCVMs(tx, []api.ID{row.CVMID})
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return neverSeen("CVM", row.CVMID)
	case found[0].DeleteRequestedAt != nil:
		return goneCVM(found[0])
	}
	return nil
}

func ruleRow(request owlapi.CreateFirewallRule) (models.OwlFirewallRule, error) {
	compared := request
	compared.ID = api.ID{} // the row is found by it
	asked, err := digests(compared)
	if err != nil {
		return models.OwlFirewallRule{}, err
	}
	return models.OwlFirewallRule{
		ID: request.ID, CVMID: request.CVMID, CIDR: request.CIDR, Protocol: request.Protocol,
		Port: request.Port, CreateDigests: asked,
	}, nil
}

func ruleRecord(row models.OwlFirewallRule) owlapi.FirewallRule {
	if row.DeleteRequestedAt != nil && row.DeletedAt == nil {
		row.Status = owlapi.RuleDeleting // the column keeps what the rule was
	}
	return owlapi.FirewallRule{
		ID: row.ID, CVMID: row.CVMID, CIDR: row.CIDR, Protocol: row.Protocol, Port: row.Port,
		Status: row.Status, Error: resourceError(row.ErrorCode, row.ErrorMessage),
		CreatedAt: api.NewTime(row.CreatedAt), UpdatedAt: api.NewTime(row.UpdatedAt),
		DeletedAt: api.NewTimePtr(row.DeletedAt),
	}
}

func goneRule(row models.OwlFirewallRule) error {
	return gone("firewall rule", row.ID, api.NewTimePtr(row.DeletedAt), ruleRecord(row))
}
