package reconcile

import (
	"context"
	"encoding/json"

	"roost/api"
	"roost/api/owlapi"
	"roost/models/faultpoint"
)

// calls is Owl with a fault point around each call that changes something
// there. Repeating one sends the request twice, as a network may.
type calls struct{ Owl }

// CreateCVMs implements Owl.
func (c calls) CreateCVMs(ctx context.Context, items []json.RawMessage) (answers []owlapi.BatchItem, err error) {
	err = faultpoint.Step("platform.push_creates", func() (err error) {
		answers, err = c.Owl.CreateCVMs(ctx, items)
		return err
	})
	return answers, err
}

// PutCVM implements Owl.
func (c calls) PutCVM(ctx context.Context, id api.ID, put owlapi.PutCVM) (record owlapi.CVM, err error) {
	err = faultpoint.Step("platform.push_change", func() (err error) {
		record, err = c.Owl.PutCVM(ctx, id, put)
		return err
	})
	return record, err
}

// DeleteCVM implements Owl.
func (c calls) DeleteCVM(ctx context.Context, id api.ID) error {
	return faultpoint.Step("platform.push_deletion", func() error { return c.Owl.DeleteCVM(ctx, id) })
}

// CreateFirewallRule implements Owl.
func (c calls) CreateFirewallRule(
	ctx context.Context, create owlapi.CreateFirewallRule,
) (record owlapi.FirewallRule, created bool, err error) {
	err = faultpoint.Step("platform.push_rule", func() (err error) {
		record, created, err = c.Owl.CreateFirewallRule(ctx, create)
		return err
	})
	return record, created, err
}

// DeleteFirewallRule implements Owl.
func (c calls) DeleteFirewallRule(ctx context.Context, id api.ID) error {
	return faultpoint.Step("platform.push_rule_deletion", func() error { return c.Owl.DeleteFirewallRule(ctx, id) })
}
