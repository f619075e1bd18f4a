package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// ModifyPlan implements resource.ResourceWithModifyPlan: it says which computed
// attributes an update will change, and leaves the others known, so that what
// depends on them is not planned to be replaced.
func (r *app) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.State.Raw.IsNull() || req.Plan.Raw.IsNull() {
		return // created or destroyed
	}
	var state, plan, cfg appModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &cfg)...)
	if resp.Diagnostics.HasError() || len(resp.RequiresReplace) > 0 {
		return
	}
	sameType := plan.InstanceType.Equal(state.InstanceType)
	keepUnless(!sameType, cfg.VCPU.IsNull(), &plan.VCPU, state.VCPU)
	keepUnless(!sameType, cfg.Memory.IsNull(), &plan.Memory, state.Memory)
	plan.Uniform = types.BoolValue(true)
	respecified := !sameType || !state.Uniform.ValueBool() || !plan.DockerCompose.Equal(state.DockerCompose) || !plan.Image.Equal(state.Image) ||
		!plan.DiskSize.Equal(state.DiskSize) || !plan.VCPU.Equal(state.VCPU) || !plan.Memory.Equal(state.Memory)
	scaled := !plan.Replicas.Equal(state.Replicas)
	if !respecified {
		plan.ComposeHash = state.ComposeHash
	}
	if !respecified && !scaled {
		plan.Status = state.Status
	}
	plan.CVMIDs = planIDs(state.CVMIDs, plan.Replicas)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, plan)...)
}

// keepUnless keeps a computed value that is not configured, unless what it
// follows from changes.
func keepUnless(changes, unconfigured bool, plan *types.Int64, state types.Int64) {
	if !unconfigured {
		return
	}
	*plan = state
	if changes {
		*plan = types.Int64Unknown()
	}
}

// planIDs are the IDs that stay, and room for those that will come.
func planIDs(state types.List, replicas types.Int64) types.List {
	if replicas.IsUnknown() {
		return types.ListUnknown(types.StringType)
	}
	n := int(replicas.ValueInt64())
	ids := state.Elements()
	out := make([]attr.Value, 0, n)
	out = append(out, ids[:min(n, len(ids))]...)
	for len(out) < n {
		out = append(out, types.StringUnknown())
	}
	return types.ListValueMust(types.StringType, out)
}
