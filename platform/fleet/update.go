package fleet

import (
	"context"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// Update accepts another configuration of a CVM; what the patch leaves out
// stays. One that changes nothing makes no generation. Errors: see change,
// and CodeInvalidRequest for a disk that would shrink.
func (f *Fleet) Update(ctx context.Context, call Call, id api.ID, patch api.PatchCVM) (Answer, error) {
	return f.change(ctx, change{
		call: call, cvm: id, kind: api.KindCVMUpdate, operation: f.cfg.Minter.OperationID(), natural: true,
		members: func() (map[string]string, error) { return idempotency.Members(patch, api.PatchCVM{}) },
		decide:  func(tx *gorm.DB, c *models.CVM) (bool, error) { return f.configure(tx, c, patch) },
	})
}

// configure gives the row a spec of its own with the patch in it.
func (f *Fleet) configure(tx *gorm.DB, c *models.CVM, patch api.PatchCVM) (changed bool, err error) {
	old, err := readSpec(tx, c.SpecID)
	if err != nil {
		return false, err
	}
	old = old.WithDefaults()
	spec := patch.Apply(old)
	if *spec.DiskSize < *old.DiskSize {
		return false, api.Invalid("/disk_size", "can only grow, and is %d GB", *old.DiskSize)
	}
	if same, err := sameSpec(old, spec); err != nil || same {
		return false, err
	}
	row, hash, err := f.draftSpec(c.WorkspaceID, spec)
	if err != nil {
		return false, err
	}
	c.SpecID, c.ComposeHash = row.ID, hash
	return true, insertSpec(tx, row)
}
