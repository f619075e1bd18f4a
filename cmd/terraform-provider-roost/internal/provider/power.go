package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
	"roost/api/client"
)

// power is the resource roost_cvm_power.
type power struct{ *platform }

func newPower() resource.Resource { return &power{} }

type powerModel struct {
	ID       types.String   `tfsdk:"id"`
	CVMID    types.String   `tfsdk:"cvm_id"`
	State    types.String   `tfsdk:"state"`
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

// Metadata implements resource.Resource.
func (r *power) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "roost_cvm_power"
}

// Configure implements resource.ResourceWithConfigure.
func (r *power) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.platform = platformOf(req.ProviderData, &resp.Diagnostics)
}

// Schema implements resource.Resource.
func (r *power) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Whether a CVM runs. Without this resource a CVM runs from its creation on, and Terraform leaves alone " +
			"what others do about it. Destroying it changes nothing: the CVM stays as it is.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "The same as `cvm_id`.",
			},
			"cvm_id": schema.StringAttribute{
				Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				Validators: []validator.String{uuid{}}, MarkdownDescription: "ID of the CVM.",
			},
			"state": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{stringvalidator.OneOf(string(api.PowerRunning), string(api.PowerStopped))},
				MarkdownDescription: "`running` or `stopped`. A CVM that is on its way is neither, and the next apply waits for it; one that has failed tries again.",
			},
		},
		Blocks: map[string]schema.Block{"timeouts": timeouts.Block(ctx, timeouts.Opts{Create: true, Update: true})},
	}
}

// Create implements resource.Resource.
func (r *power) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	r.put(ctx, req.Plan, timeouts.Value.Create, &resp.State, &resp.Diagnostics)
}

// Update implements resource.Resource.
func (r *power) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	r.put(ctx, req.Plan, timeouts.Value.Update, &resp.State, &resp.Diagnostics)
}

// put brings the CVM to the planned power.
func (r *power) put(ctx context.Context, planned tfsdk.Plan, bound bound, state *tfsdk.State, diags *diag.Diagnostics) {
	var plan powerModel
	diags.Append(planned.Get(ctx, &plan)...)
	ctx, cancel := within(ctx, plan.Timeouts, bound, diags)
	defer cancel()
	if diags.HasError() {
		return
	}
	cvm, err := r.set(ctx, &plan)
	if err != nil {
		diags.AddError("The power of the CVM was not changed", explain(err))
		return
	}
	diags.Append(state.Set(ctx, plan)...)
	r.settle(ctx, cvm, diags)
}

// Delete implements resource.Resource. It asks for nothing.
func (r *power) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}

// set asks for the power, unless the CVM has it or is on its way to it.
func (r *power) set(ctx context.Context, m *powerModel) (api.CVM, error) {
	id, err := api.ParseID(m.CVMID.ValueString())
	if err != nil {
		return api.CVM{}, fmt.Errorf("cvm_id: %w", err)
	}
	m.ID = m.CVMID
	cvm, err := r.CVM(ctx, id)
	if err != nil || heading(cvm) == m.State.ValueString() {
		return cvm, err //nolint:wrapcheck // the SDK's error says it all
	}
	ask := r.StartCVM
	switch {
	case m.State.ValueString() == string(api.PowerStopped):
		ask = r.StopCVM
	case cvm.Status == api.StatusFailed:
		ask = r.RestartCVM // it is asked to run already, and is to try again
	}
	res, err := ask(ctx, id, client.WithIdempotencyKey(r.changeKey(cvm, m.State.ValueString(), nil)))
	return res.Value, err //nolint:wrapcheck // the SDK's error says it all
}

// heading is where a CVM is, or is on its way to: the power that it is asked to
// have, or failed.
func heading(c api.CVM) string {
	if c.InProgress && c.Progress.Target != nil {
		return string(*c.Progress.Target)
	}
	return string(c.Status)
}

// Read implements resource.Resource.
func (r *power) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state powerModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	id, err := api.ParseID(state.CVMID.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("The state names no CVM", err.Error())
		return
	}
	cvm, err := r.CVM(ctx, id)
	if client.IsNotFound(err) || err == nil && (!live(cvm) || dead(cvm)) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("The CVM cannot be read", err.Error())
		return
	}
	// Not where it is heading: the next apply is to wait until it is there.
	state.ID, state.State = state.CVMID, types.StringValue(string(cvm.Status))
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// ImportState implements resource.ResourceWithImportState, by the CVM's ID.
func (r *power) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("cvm_id"), req, resp)
}

var (
	_ resource.ResourceWithConfigure   = (*power)(nil)
	_ resource.ResourceWithImportState = (*power)(nil)
)
