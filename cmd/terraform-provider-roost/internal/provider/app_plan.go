package provider

import (
	"context"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
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
	if resp.Diagnostics.HasError() {
		return
	}
	sameType := plan.InstanceType.Equal(state.InstanceType)
	followType(&plan.VCPU, state.VCPU, cfg.VCPU, !sameType)
	followType(&plan.Memory, state.Memory, cfg.Memory, !sameType)
	plan.Uniform, plan.DeadCVMIDs = types.BoolValue(true), fleet{}.ids()
	respecified := !sameType || !state.Uniform.ValueBool() || !plan.DockerCompose.Equal(state.DockerCompose) || !plan.Image.Equal(state.Image) ||
		!plan.DiskSize.Equal(state.DiskSize) || !plan.VCPU.Equal(state.VCPU) || !plan.Memory.Equal(state.Memory) || !plan.EnvKeys.Equal(state.EnvKeys)
	replaced := !plan.DeadCVMIDs.Equal(state.DeadCVMIDs)
	none := replaced && len(state.CVMIDs.Elements()) == 0 // is left
	if plan.ComposeHash = state.ComposeHash; respecified || none {
		plan.ComposeHash = types.StringUnknown()
	}
	// An apply that was killed while it waited has nothing left to ask for, and the
	// next one is to wait all the same.
	unready := plan.WaitForReady.ValueBool() && underWay(state.Status)
	if respecified || replaced || unready {
		plan.Status = types.StringUnknown() // the framework has done so if the configuration says something new
	}
	if none {
		plan.PrimaryCVMID = types.StringUnknown()
	}
	plan.CVMIDs = planIDs(state.CVMIDs, plan.Replicas)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, plan)...)
}

// underWay reports whether a status is none to stay.
func underWay(status types.String) bool {
	return !slices.Contains([]api.Status{api.StatusRunning, api.StatusStopped, api.StatusFailed}, api.Status(status.ValueString()))
}

// followType keeps a number that is not configured, unless the instance type,
// which it follows, changes.
func followType(plan *types.Int64, state, configured types.Int64, changes bool) {
	switch {
	case !configured.IsNull():
	case changes:
		*plan = types.Int64Unknown()
	default:
		*plan = state
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

// foretold reports whether a plan of these IDs has come true.
func foretold(plan types.List, f fleet) bool {
	if plan.IsUnknown() {
		return true
	}
	return slices.EqualFunc(plan.Elements(), f.ids().Elements(), func(planned, is attr.Value) bool {
		return planned.IsUnknown() || planned.Equal(is)
	})
}
