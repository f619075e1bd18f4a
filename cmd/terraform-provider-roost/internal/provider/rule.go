package provider

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
	"roost/api/client"
)

// rule is the resource roost_firewall_rule.
type rule struct{ *platform }

const (
	ruleType = "roost_firewall_rule"

	maxPort = 65535
	// rulePoll is how often a rule that is pending is looked at.
	rulePoll = 200 * time.Millisecond
)

func newRule() resource.Resource { return &rule{} }

type ruleModel struct {
	ID       types.String   `tfsdk:"id"`
	CVMID    types.String   `tfsdk:"cvm_id"`
	CIDR     types.String   `tfsdk:"cidr"`
	Protocol types.String   `tfsdk:"protocol"`
	Port     types.Int64    `tfsdk:"port"`
	Status   types.String   `tfsdk:"status"`
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

// Metadata implements resource.Resource.
func (r *rule) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = ruleType
}

// Configure implements resource.ResourceWithConfigure.
func (r *rule) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.platform = platformOf(req.ProviderData, &resp.Diagnostics)
}

// Schema implements resource.Resource.
func (r *rule) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lets a network reach a CVM. Any change replaces the rule, and so does the next apply once it has failed. " +
			"Two resources that say the same about one CVM are one rule.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "ID of the rule.",
			},
			"cvm_id": schema.StringAttribute{
				Required: true, PlanModifiers: replace, Validators: []validator.String{uuid{}}, MarkdownDescription: "ID of the CVM.",
			},
			"cidr": schema.StringAttribute{
				Required: true, PlanModifiers: replace, Validators: []validator.String{network{}},
				MarkdownDescription: "The network, such as `10.0.0.0/8`.",
			},
			"protocol": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(api.ProtocolTCP)), PlanModifiers: replace,
				Validators:          []validator.String{stringvalidator.OneOf(string(api.ProtocolTCP), string(api.ProtocolUDP), string(api.ProtocolAny))},
				MarkdownDescription: "`tcp`, `udp` or `any`. Default: `tcp`.",
			},
			"port": schema.Int64Attribute{
				Optional: true, PlanModifiers: []planmodifier.Int64{int64planmodifier.RequiresReplace()},
				Validators:          []validator.Int64{int64validator.Between(1, maxPort)},
				MarkdownDescription: "The port. Default: all.",
			},
			"status": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`pending`, `active` or `failed`.",
			},
		},
		Blocks: map[string]schema.Block{"timeouts": timeouts.Block(ctx, timeouts.Opts{Create: true})},
	}
}

// ModifyPlan implements resource.ResourceWithModifyPlan: a rule that has failed
// is in force nowhere and never will be, so another one is to take its place.
func (r *rule) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.State.Raw.IsNull() || req.Plan.Raw.IsNull() {
		return // created or destroyed
	}
	status := path.Root("status")
	var now types.String
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, status, &now)...)
	if now.ValueString() != string(api.FirewallFailed) {
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, status, types.StringUnknown())...)
	resp.RequiresReplace = append(resp.RequiresReplace, status)
}

// Create implements resource.Resource.
func (r *rule) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan ruleModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	ctx, cancel := within(ctx, plan.Timeouts, timeouts.Value.Create, &resp.Diagnostics)
	defer cancel()
	cvm, err := api.ParseID(plan.CVMID.ValueString())
	if err != nil || resp.Diagnostics.HasError() {
		return // the validator has said so
	}
	got, err := r.make(ctx, cvm, api.CreateFirewallRule{
		CIDR: plan.CIDR.ValueString(), Protocol: api.Protocol(plan.Protocol.ValueString()), Port: int64Ptr(plan.Port),
	})
	if err != nil {
		resp.Diagnostics.AddError("The firewall rule was not made", explain(err))
		return
	}
	plan.ID, plan.Status = types.StringValue(got.String()), types.StringValue(string(api.FirewallPending))
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
	plan.Status = types.StringValue(string(r.await(ctx, cvm, got, &resp.Diagnostics)))
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// make makes the rule, or finds it.
func (r *rule) make(ctx context.Context, cvm api.ID, ask api.CreateFirewallRule) (api.ID, error) {
	what := []string{ask.CIDR, string(ask.Protocol)}
	if ask.Port != nil {
		what = append(what, types.Int64Value(*ask.Port).String())
	}
	got, err := r.fulfil(ctx, wish{namespace: r.namespace, resource: ruleType, parent: cvm.String(), name: strings.Join(what, " ")}, maker{
		send: func(ctx context.Context, key string) (api.ID, bool, error) {
			res, err := r.CreateFirewallRule(ctx, cvm, ask, client.WithIdempotencyKey(key))
			return res.Value.ID, res.Replayed, err
		},
		alive: func(ctx context.Context, id api.ID) (bool, error) {
			found, err := r.FirewallRule(ctx, cvm, id)
			if client.IsNotFound(err) {
				return false, nil
			}
			if err == nil && found.Status == api.FirewallFailed {
				return false, r.remove(ctx, cvm, id) // no state may know it
			}
			return err == nil, err
		},
	})
	return got.id, err
}

// remove asks for a rule's end, which may have come already.
func (r *rule) remove(ctx context.Context, cvm, id api.ID) error {
	if _, err := r.DeleteFirewallRule(ctx, cvm, id); err != nil && !client.IsNotFound(err) {
		return fmt.Errorf("delete firewall rule %s: %w", id, err)
	}
	return nil
}

// await holds until the rule is pending no more.
func (r *rule) await(ctx context.Context, cvm, id api.ID, diags *diag.Diagnostics) api.FirewallStatus {
	ticker := time.NewTicker(rulePoll)
	defer ticker.Stop()
	for {
		got, err := r.FirewallRule(ctx, cvm, id)
		switch {
		case err != nil:
			diags.AddWarning("The firewall rule is not active yet", explain(err))
			return api.FirewallPending
		case got.Status == api.FirewallFailed:
			diags.AddError("The firewall rule has failed", fmt.Sprintf("%s: %s. Apply again to have it made anew.", id, because(got.Error)))
			return got.Status
		case got.Status != api.FirewallPending:
			return got.Status
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			diags.AddWarning("The firewall rule is not active yet", "It is recorded; the next plan shows how far it is.")
			return got.Status
		}
	}
}

// Update implements resource.Resource. Only timeouts change in place.
func (r *rule) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	resp.State.Raw = req.Plan.Raw
}

// Read implements resource.Resource.
func (r *rule) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state ruleModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	cvm, id, ok := state.ids()
	if resp.Diagnostics.HasError() || !ok {
		return
	}
	got, err := r.FirewallRule(ctx, cvm, id)
	if client.IsNotFound(err) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("The firewall rule cannot be read", err.Error())
		return
	}
	if got.Status == api.FirewallFailed {
		resp.Diagnostics.AddWarning("A firewall rule has failed", fmt.Sprintf("%s: %s. The next apply makes it anew.", id, because(got.Error)))
	}
	state.CIDR, state.Protocol = types.StringValue(got.CIDR), types.StringValue(string(got.Protocol))
	state.Port, state.Status = types.Int64PointerValue(got.Port), types.StringValue(string(got.Status))
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource.
func (r *rule) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state ruleModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	cvm, id, ok := state.ids()
	if resp.Diagnostics.HasError() || !ok {
		return
	}
	if err := r.remove(ctx, cvm, id); err != nil {
		resp.Diagnostics.AddError("The firewall rule was not deleted", explain(err))
	}
}

func (m ruleModel) ids() (cvm, id api.ID, ok bool) {
	cvm, err := api.ParseID(m.CVMID.ValueString())
	if err != nil {
		return cvm, id, false
	}
	id, err = api.ParseID(m.ID.ValueString())
	return cvm, id, err == nil
}

// ImportState implements resource.ResourceWithImportState, by CVM_ID/RULE_ID.
func (r *rule) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	cvm, id, _ := strings.Cut(req.ID, "/")
	if _, _, ok := (ruleModel{CVMID: types.StringValue(cvm), ID: types.StringValue(id)}).ids(); !ok {
		resp.Diagnostics.AddError("This names no firewall rule", "Import a rule by the IDs of its CVM and its own: CVM_ID/RULE_ID.")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("cvm_id"), cvm)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), id)...)
}

var (
	_ resource.ResourceWithConfigure   = (*rule)(nil)
	_ resource.ResourceWithImportState = (*rule)(nil)
	_ resource.ResourceWithModifyPlan  = (*rule)(nil)
)
