package provider

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
	"roost/api/client"
)

// fleet is an app's CVMs that are not on their way out, oldest first.
type fleet []api.CVM

// fleetOf reads them. An app that is gone has none.
func (p *platform) fleetOf(ctx context.Context, app api.ID) (fleet, error) {
	cvms, err := p.AppCVMs(ctx, app)
	if client.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the app's CVMs: %w", err)
	}
	return slices.DeleteFunc(cvms, func(c api.CVM) bool { return !live(c) }), nil
}

// dead reports whether a CVM has failed and has no machine that could hold
// anything: it was deleted below Platform, or the operation that made it has
// failed and nothing was asked of it since.
func dead(c api.CVM) bool {
	if c.Status != api.StatusFailed {
		return false
	}
	if c.Error != nil && (c.Error.Code == string(api.CodeResourceDeleted) || c.Error.Code == codeMachineRemoved) {
		return true
	}
	made := c.Operation != nil && (c.Operation.Kind == api.KindCVMCreate || c.Operation.Kind == api.KindCVMReplicate)
	return made && c.Operation.Status == api.OperationFailed
}

// codeMachineRemoved is how Owl says that a machine was removed below itself.
const codeMachineRemoved = "MACHINE_REMOVED"

// split parts those that are dead from all others, which count as replicas.
func (f fleet) split() (others, gone fleet) {
	for _, c := range f {
		if dead(c) {
			gone = append(gone, c)
		} else {
			others = append(others, c)
		}
	}
	return others, gone
}

// ids are the CVMs' IDs, oldest first.
func (f fleet) ids() types.List {
	ids := make([]attr.Value, len(f))
	for i, c := range f {
		ids[i] = types.StringValue(c.VMUUID.String())
	}
	return types.ListValueMust(types.StringType, ids)
}

// surplus is who goes when n are to stay: the newest, newest first.
func (f fleet) surplus(n int) fleet {
	if len(f) <= n {
		return nil
	}
	out := slices.Clone(f[n:])
	slices.Reverse(out)
	return out
}

// source is the CVM to copy: the oldest that has not failed.
func (f fleet) source() api.CVM {
	for _, c := range f {
		if c.Status != api.StatusFailed {
			return c
		}
	}
	return f[0] // the server says why it cannot be copied
}

// freeSlots are the n lowest numbers from 2 that no CVM has in its name. A
// replica keeps its number for life, also when older ones have gone.
func (f fleet) freeSlots(app string, n int) []int {
	taken := map[int]bool{}
	for _, c := range f {
		taken[slotOf(app, c.Name)] = true
	}
	var out []int
	for slot := 2; len(out) < n; slot++ {
		if !taken[slot] {
			out = append(out, slot)
		}
	}
	return out
}

// slotName is the name of the replica in a slot.
func slotName(app string, slot int) string { return app + "-" + strconv.Itoa(slot) }

// slotOf is the slot in a CVM's name, 0 for none: the first one, and those
// that others have made.
func slotOf(app, name string) int {
	number, ok := strings.CutPrefix(name, app+"-")
	slot, err := strconv.Atoi(number)
	if !ok || err != nil || slot < 2 || slotName(app, slot) != name {
		return 0
	}
	return slot
}

// largestDisk in GB.
func (f fleet) largestDisk() int64 {
	var out int64
	for _, c := range f {
		out = max(out, c.DiskSize)
	}
	return out
}

// status is one word for all.
func (f fleet) status() api.Status {
	for _, c := range f {
		if c.Status == api.StatusFailed {
			return api.StatusFailed
		}
	}
	for _, c := range f {
		if c.InProgress {
			return c.Status
		}
	}
	return f[0].Status
}
