package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
)

// Read implements resource.Resource.
func (r *app) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state appModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	id, err := api.ParseAppID(state.AppID.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("The state names no app", err.Error())
		return
	}
	f, err := r.fleetOf(ctx, id)
	if err != nil {
		resp.Diagnostics.AddError("The app cannot be read", err.Error())
		return
	}
	if len(f) == 0 {
		resp.State.RemoveResource(ctx)
		return
	}
	if err := r.observe(ctx, &state, f); err != nil {
		resp.Diagnostics.AddError("The app cannot be read", err.Error())
		return
	}
	for _, c := range f {
		if c.Status == api.StatusFailed {
			resp.Diagnostics.AddWarning("A CVM of the app "+state.Name.ValueString()+" has failed",
				fmt.Sprintf("%s: %s. %s", c.VMUUID, because(c.Error), remedy(c)))
		}
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// remedy is what becomes of a CVM that has failed.
func remedy(c api.CVM) string {
	if dead(c) {
		return "It has no machine: the next apply deletes it and makes another in its place."
	}
	return "Its machine may hold data, so it is left alone. Restart it or change the configuration; or delete it, and the next apply makes another."
}

// because is a failure in words.
func because(e *api.ResourceError) string {
	if e == nil {
		return "no reason is known"
	}
	return e.Code + ": " + e.Message
}

// observe writes what there is into the state. Where one CVM differs from what
// the state has, the state gets that one's value, so that a plan can show what
// has changed. It need not: a fleet that was half updated differs from the state
// by what the configuration asks for. So Uniform says whether all are the same,
// and a plan always wants that.
func (r *app) observe(ctx context.Context, m *appModel, f fleet) error {
	texts := r.texts(*m)
	prior, first := *m, ""
	others, gone := f.split()
	if len(others) > 0 {
		f = others
	}
	m.remember(f)
	m.Replicas, m.CVMIDs, m.DeadCVMIDs = types.Int64Value(int64(len(others))), others.ids(), gone.ids()
	if len(others) == 0 {
		m.PrimaryCVMID = types.StringNull()
	}
	if len(gone) > 0 {
		m.Status = types.StringValue(string(api.StatusFailed))
	}
	m.Listed = types.BoolValue(f[0].Listed)
	for i, c := range f {
		text, err := texts.of(ctx, c)
		if err != nil {
			return err
		}
		if i == 0 {
			first, m.DockerCompose, m.InstanceType = text, types.StringValue(text), types.StringValue(c.InstanceType)
		}
		if patchFor(specLike(f[0], first), c, text) != nil {
			m.Uniform = types.BoolValue(false)
		}
		drift(&m.DockerCompose, prior.DockerCompose, types.StringValue(text))
		drift(&m.InstanceType, prior.InstanceType, types.StringValue(c.InstanceType))
		drift(&m.Image, prior.Image, types.StringValue(c.BaseImage))
		drift(&m.DiskSize, prior.DiskSize, types.Int64Value(c.DiskSize))
		drift(&m.VCPU, prior.VCPU, types.Int64Value(c.VCPU))
		drift(&m.Memory, prior.Memory, types.Int64Value(c.Memory))
	}
	return nil
}

// drift takes the first value that is not the prior one.
func drift[T interface {
	comparable
	IsNull() bool
}](out *T, prior, seen T) {
	if !prior.IsNull() && *out == prior && seen != prior {
		*out = seen
	}
}

// ImportState implements resource.ResourceWithImportState, by ID or by name.
func (r *app) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	found, err := r.findApp(ctx, req.ID)
	if err != nil {
		resp.Diagnostics.AddError("There is no such app", err.Error())
		return
	}
	for attribute, value := range map[string]any{
		"id": found.AppID.String(), "app_id": found.AppID.String(), "name": found.Name, "wait_for_ready": true,
	} {
		resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root(attribute), value)...)
	}
}
