package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"roost/api"
)

// uuid accepts the ID of a resource.
type uuid struct{}

// Description implements validator.String.
func (uuid) Description(context.Context) string { return "must be a UUID" }

// MarkdownDescription implements validator.String.
func (u uuid) MarkdownDescription(ctx context.Context) string { return u.Description(ctx) }

// ValidateString implements validator.String.
func (u uuid) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if _, err := api.ParseID(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.AddAttributeError(req.Path, "This is not the ID of a resource", u.Description(ctx))
	}
}

// network accepts what a firewall rule accepts.
type network struct{}

// Description implements validator.String.
func (network) Description(context.Context) string { return "must be a network such as 10.0.0.0/8" }

// MarkdownDescription implements validator.String.
func (n network) MarkdownDescription(ctx context.Context) string { return n.Description(ctx) }

// ValidateString implements validator.String. The contract's own check says
// what is wrong.
func (network) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	for _, fault := range (api.CreateFirewallRule{CIDR: req.ConfigValue.ValueString()}).Validate() {
		resp.Diagnostics.AddAttributeError(req.Path, "This is not a network", req.ConfigValue.ValueString()+" "+fault.Message)
	}
}
