package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
	"roost/api/client"
)

// defaultTimeout bounds an apply of one resource, its waiting included.
const defaultTimeout = 10 * time.Minute

// Create implements resource.Resource.
//
// What it returns without a state is forgotten by Terraform, and found again by
// its keys; what it returns with a state and an error is tainted, and destroyed
// by the next apply. So an unknown outcome has no state, and a definite failure
// has one as soon as there is a machine.
func (r *app) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan, cfg appModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &cfg)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := within(ctx, plan.Timeouts, timeouts.Value.Create, &resp.Diagnostics)
	defer cancel()
	w := r.wanted(plan, cfg)
	first, found, err := r.first(ctx, w.spec)
	if err != nil {
		resp.Diagnostics.AddError("The app "+w.spec.Name+" was not made", explain(err))
		return
	}
	if found {
		w.env = envOf(w.spec) // it can have another: ciphertexts are not compared
	}
	// What dies in the hands of the apply that made it is left for the next one.
	w.replaces = func(c api.CVM) bool { return found || c.VMUUID != first.VMUUID }
	f, _, err := r.converge(ctx, first.AppID, w)
	if err != nil {
		resp.Diagnostics.AddError("The app "+w.spec.Name+" was not made completely", explain(err))
		if unknown(err) {
			return
		}
		if f, err = r.fleetOf(ctx, first.AppID); err != nil || len(f) == 0 {
			return
		}
	}
	plan.remember(f)
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
	if resp.Diagnostics.HasError() || !plan.WaitForReady.ValueBool() {
		return
	}
	f = r.await(ctx, f, &resp.Diagnostics)
	plan.remember(f)
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Update implements resource.Resource.
func (r *app) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan, cfg, state appModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &cfg)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := within(ctx, plan.Timeouts, timeouts.Value.Update, &resp.Diagnostics)
	defer cancel()
	id, err := api.ParseAppID(state.AppID.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("The state names no app", err.Error())
		return
	}
	w := r.wanted(plan, cfg)
	if !plan.EncryptedEnv.Equal(state.EncryptedEnv) || !plan.EnvKeys.Equal(state.EnvKeys) {
		w.env = envOf(w.whole)
	}
	planned := stringsOf(state.DeadCVMIDs)
	w.replaces = func(c api.CVM) bool { return slices.Contains(planned, c.VMUUID.String()) }
	f, gone, err := r.converge(ctx, id, w)
	if err != nil { // the state stays as it was; the next plan begins with what is there
		resp.Diagnostics.AddError("The app "+w.spec.Name+" was not changed completely", explain(err))
		return
	}
	if !foretold(plan.CVMIDs, f) { // Terraform would call it a bug of the provider
		resp.Diagnostics.AddError("The app "+w.spec.Name+" has changed since it was planned",
			"Others have added or deleted CVMs. It is what is configured now, of other CVMs than the plan has shown; plan again to see them.")
	}
	plan.remember(f)
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
	if resp.Diagnostics.HasError() || !plan.WaitForReady.ValueBool() {
		return
	}
	f = r.await(ctx, f, &resp.Diagnostics)
	r.awaitGone(ctx, gone, resp.Diagnostics.AddWarning)
	plan.remember(f)
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Delete implements resource.Resource.
func (r *app) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state appModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := within(ctx, state.Timeouts, timeouts.Value.Delete, &resp.Diagnostics)
	defer cancel()
	id, err := api.ParseAppID(state.AppID.ValueString())
	if err != nil {
		return // it was never made
	}
	all, err := r.AppCVMs(ctx, id) // those on their way out are waited for
	if client.IsNotFound(err) {
		return
	}
	if err == nil {
		err = r.remove(ctx, fleet(all).surplus(0)) // newest first
	}
	if err != nil {
		resp.Diagnostics.AddError("The app "+state.Name.ValueString()+" was not deleted completely", explain(err))
		return
	}
	r.awaitGone(ctx, all, resp.Diagnostics.AddError)
}

// wanted is what plan and configuration ask for. What is not configured is
// left to the server, although the plan may know its present value.
func (r *app) wanted(plan, cfg appModel) want {
	cfg.Listed = plan.Listed // it has a default of ours
	return want{spec: specOf(cfg), whole: specOf(plan), replicas: int(plan.Replicas.ValueInt64()), texts: r.texts(appModel{})}
}

// remember writes what there is into the state to be.
func (m *appModel) remember(f fleet) {
	if len(f) == 0 {
		return
	}
	first := f[0]
	m.ID, m.AppID = types.StringValue(first.AppID.String()), types.StringValue(first.AppID.String())
	m.PrimaryCVMID = types.StringValue(first.VMUUID.String())
	m.ComposeHash, m.Status = types.StringValue(first.ComposeHash), types.StringValue(string(f.status()))
	m.Image, m.Region, m.StorageFS = types.StringValue(first.BaseImage), types.StringValue(first.Region), types.StringValue(first.StorageFS)
	m.Uniform = types.BoolValue(true)
	m.DiskSize, m.VCPU, m.Memory = types.Int64Value(first.DiskSize), types.Int64Value(first.VCPU), types.Int64Value(first.Memory)
	m.CVMIDs, m.DeadCVMIDs = f.ids(), fleet{}.ids()
	m.EnvPubkey = types.StringValue(first.EncryptedEnvPubkey)
	if m.EncryptedEnv.IsUnknown() { // and nobody can tell what it is
		m.EncryptedEnv = types.StringNull()
	}
	if m.EnvKeys.IsUnknown() {
		m.EnvKeys = types.ListNull(types.StringType)
	}
}

// await holds until every CVM is what it is asked to be, and returns them as
// they are then.
func (r *app) await(ctx context.Context, f fleet, diags *diag.Diagnostics) fleet {
	for i, c := range f {
		f[i] = r.settle(ctx, c, diags)
	}
	return f
}

// settle holds until a CVM is what it is asked to be. One that has failed is an
// error. Time that is up is a warning, and so is all that is only not known:
// with an error Terraform would destroy what was made.
func (p *platform) settle(ctx context.Context, c api.CVM, diags *diag.Diagnostics) api.CVM {
	settled, err := p.WaitCVM(ctx, c.VMUUID, client.Settled, nil)
	if bad, ok := errors.AsType[*client.CVMError](err); ok {
		settled, err = bad.CVM, nil
	}
	switch {
	case err != nil:
		why := err.Error()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			why = "the time for it was up"
		}
		diags.AddWarning("A CVM is not ready yet",
			fmt.Sprintf("%s: %s. Everything is recorded; the next plan shows how far it is, and its apply waits again.", c.VMUUID, why))
		return c
	case settled.Status == api.StatusFailed:
		diags.AddError("A CVM has failed", (&client.CVMError{CVM: settled}).Error())
	case settled.Status == api.StatusDeleted:
		diags.AddWarning("A CVM was deleted meanwhile", fmt.Sprintf("%s is gone. Apply again to make another.", c.VMUUID))
	}
	return settled
}

// awaitGone holds until none of the CVMs is there.
func (r *app) awaitGone(ctx context.Context, cvms []api.CVM, report func(summary, detail string)) {
	gone := func(c api.CVM) bool { return c.Status == api.StatusDeleted }
	for _, c := range cvms {
		if _, err := r.WaitCVM(ctx, c.VMUUID, gone, nil); err != nil && !client.IsNotFound(err) {
			report("A CVM is not gone yet", fmt.Sprintf("%s was asked to go, but: %s", c.VMUUID, explain(err)))
			return
		}
	}
}

// bound is one of the durations of a timeouts block.
type bound func(timeouts.Value, context.Context, time.Duration) (time.Duration, diag.Diagnostics)

// within bounds a context by a timeouts block.
func within(ctx context.Context, block timeouts.Value, which bound, diags *diag.Diagnostics) (context.Context, context.CancelFunc) {
	d, more := which(block, ctx, defaultTimeout)
	diags.Append(more...)
	return context.WithTimeout(ctx, d)
}

// unknown reports whether something may have been done that nobody heard of.
func unknown(err error) bool {
	return client.IsUnknown(err) || client.IsUnavailable(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// explain says what happened and what to do.
func explain(err error) string {
	text := err.Error()
	if unknown(err) {
		text += "\n\nApply again: what was done already is found, and nothing is made twice."
	}
	return text
}

// asError is the SDK's error in a chain.
func asError(err error) (*client.Error, bool) { return errors.AsType[*client.Error](err) }

var (
	_ resource.ResourceWithConfigure   = (*app)(nil)
	_ resource.ResourceWithImportState = (*app)(nil)
	_ resource.ResourceWithModifyPlan  = (*app)(nil)
)
