package client

import (
	"context"
	"iter"
	"net/http"

	"roost/api"
)

// CreateFirewallRule lets a network reach a CVM. 201, the rule pending: read
// it again to see it active.
func (c *Client) CreateFirewallRule(
	ctx context.Context, cvm api.ID, req api.CreateFirewallRule, opts ...Option,
) (Result[api.FirewallRule], error) {
	return mutate[api.FirewallRule](ctx, c, mutation{method: http.MethodPost, path: rules(cvm), body: req}, opts)
}

// DeleteFirewallRule ends a rule. 204; gone is gone, as in DeleteCVM.
func (c *Client) DeleteFirewallRule(ctx context.Context, cvm, rule api.ID, opts ...Option) (Result[struct{}], error) {
	return mutate[struct{}](ctx, c, mutation{
		method: http.MethodDelete, path: rules(cvm) + path("/%s", rule.String()), gone: func(api.Problem) {},
	}, opts)
}

// FirewallRule reads one rule.
func (c *Client) FirewallRule(ctx context.Context, cvm, rule api.ID) (api.FirewallRule, error) {
	return read[api.FirewallRule](ctx, c, call{path: rules(cvm) + path("/%s", rule.String())})
}

// FirewallRules lists a CVM's rules.
func (c *Client) FirewallRules(ctx context.Context, cvm api.ID, opts ...ListOption) iter.Seq2[api.FirewallRule, error] {
	return list[api.FirewallRule](ctx, c, rules(cvm), opts)
}

func rules(cvm api.ID) string { return path("/cvms/%s/firewall-rules", cvm.String()) }
