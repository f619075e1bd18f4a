package registry

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
)

// CVM returns the record. It answers NOT_FOUND, or GONE with the record in it.
func (r *Registry) CVM(ctx context.Context, id api.ID) (owlapi.CVM, error) {
	found, err := readCVMs(r.db.WithContext(ctx), []api.ID{id})
	switch {
	case err != nil:
		return owlapi.CVM{}, coded("get CVM", err)
	case len(found) == 0:
		return owlapi.CVM{}, neverSeen("CVM", id)
	case found[0].DeleteRequestedAt != nil:
		return owlapi.CVM{}, goneCVM(found[0])
	}
	return cvmRecord(found[0]), nil
}

// FirewallRule is CVM for a rule.
func (r *Registry) FirewallRule(ctx context.Context, id api.ID) (owlapi.FirewallRule, error) {
	found, err := readRules(r.db.WithContext(ctx), []api.ID{id})
	switch {
	case err != nil:
		return owlapi.FirewallRule{}, coded("get firewall rule", err)
	case len(found) == 0:
		return owlapi.FirewallRule{}, neverSeen("firewall rule", id)
	case found[0].DeleteRequestedAt != nil:
		return owlapi.FirewallRule{}, goneRule(found[0])
	}
	return ruleRecord(found[0]), nil
}

// List says which records to return, by ascending ID, tombstones included.
// IDs that are not there are simply not returned.
type List struct {
	IDs      []api.ID // these, if not nil; otherwise
	After    api.ID   // those after it,
	Limit    int      // at most so many
	OmitSpec bool     // the spec, by far the largest column, is left null
}

// CVMs returns records.
func (r *Registry) CVMs(ctx context.Context, list List) ([]owlapi.CVM, error) {
	columns := strings.Replace(cvmColumns, " create_digests,", "", 1) // not part of the record
	if list.OmitSpec {
		columns = strings.Replace(columns, " spec,", " NULL::json AS spec,", 1)
	}
	var rows []models.OwlCVM
	if err := r.list(ctx, "cvms", columns, list, &rows); err != nil {
		return nil, err
	}
	return records(rows, cvmRecord), nil
}

// FirewallRules returns records.
func (r *Registry) FirewallRules(ctx context.Context, list List) ([]owlapi.FirewallRule, error) {
	var rows []models.OwlFirewallRule
	if err := r.list(ctx, "firewall_rules", ruleColumns, list, &rows); err != nil {
		return nil, err
	}
	return records(rows, ruleRecord), nil
}

func (r *Registry) list(ctx context.Context, table, columns string, list List, into any) error {
	var query *gorm.DB
	if list.IDs != nil {
		query = r.db.WithContext(ctx).Raw(`SELECT `+columns+` FROM `+table+` WHERE id IN ? ORDER BY id`, list.IDs)
	} else {
		query = r.db.WithContext(ctx).Raw(`SELECT `+columns+` FROM `+table+` WHERE id > ? ORDER BY id LIMIT ?`,
			list.After, list.Limit)
	}
	if err := query.Find(into).Error; err != nil {
		return coded("list "+table, fmt.Errorf("read page: %w", err))
	}
	return nil
}

func records[T, R any](rows []T, record func(T) R) []R {
	out := make([]R, 0, len(rows))
	for _, row := range rows {
		out = append(out, record(row))
	}
	return out
}
