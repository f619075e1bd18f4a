package fleet

import (
	"fmt"
	"net/http"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// creation is the rows that one accepted create makes. Its IDs are minted
// before the transaction runs for the first time.
type creation struct {
	kind      api.OperationKind
	operation string
	ids       []api.ID
	call      Call

	app       models.App // locked; LastOrdinal is the last one set aside
	spec      api.ID     // of a row that is there
	hash      string
	name      string
	replicaOf *api.ID // nil for an app's first CVM
	several   bool    // the operation is over the app, not over one CVM
}

func (f *Fleet) newCreation(call Call, kind api.OperationKind, n int64) creation {
	c := creation{kind: kind, operation: f.cfg.Minter.OperationID(), call: call}
	for range n {
		c.ids = append(c.ids, f.cfg.Minter.ID())
	}
	return c
}

// result is what the key is bound to.
func (c creation) result(resource api.ID) idempotency.Result {
	return idempotency.Result{Status: http.StatusAccepted, OperationID: c.operation, ResourceID: resource}
}

// insert counts the CVMs against the quota and inserts them with their
// operation. New rows are due at once: see models.CVM.
func (f *Fleet) insert(tx *gorm.DB, c creation) error {
	if err := f.reserve(tx, c.call.Workspace, int64(len(c.ids))); err != nil {
		return err
	}
	if err := tx.Create(c.rows()).Error; err != nil {
		return fmt.Errorf("insert CVMs: %w", err)
	}
	return insertOperation(tx, c.operationRow(), c.targets())
}

// reserve takes n CVMs of the workspace's quota, by a condition on the
// counter: a count of rows would not see those that commit meanwhile.
func (f *Fleet) reserve(tx *gorm.DB, workspace api.ID, n int64) error {
	res := tx.Exec(`UPDATE workspaces SET cvms = cvms + ? WHERE id = ? AND cvms + ? <= ?`,
		n, workspace, n, f.cfg.MaxCVMs)
	if res.Error != nil {
		return fmt.Errorf("reserve quota: %w", res.Error)
	}
	if res.RowsAffected == 0 {
		return api.Errorf(api.CodeQuotaExceeded,
			"the workspace may have %d CVMs, and %d more would exceed that. Nothing was done: delete some, or ask for more.",
			f.cfg.MaxCVMs, n)
	}
	return nil
}

func (c creation) rows() []models.CVM {
	rows := make([]models.CVM, len(c.ids))
	first := c.app.LastOrdinal - int64(len(c.ids)) + 1
	for i, id := range c.ids {
		rows[i] = models.CVM{
			ID: id, WorkspaceID: c.call.Workspace, AppID: c.app.ID, Ordinal: first + int64(i),
			ReplicaOf: c.replicaOf, Name: c.name, CreateSpecID: c.spec,
			SpecID: c.spec, ComposeHash: c.hash, Power: api.PowerRunning,
			OperationID: c.operation, OperationKind: c.kind, CreateOperationID: c.operation,
			Generation: 1,
		}
	}
	return rows
}

func (c creation) targets() []models.OperationTarget {
	targets := make([]models.OperationTarget, len(c.ids))
	for i, id := range c.ids {
		targets[i] = models.OperationTarget{OperationID: c.operation, CVMID: id, Generation: 1}
	}
	return targets
}

func (c creation) operationRow() models.Operation {
	op := models.Operation{
		ID: c.operation, WorkspaceID: c.call.Workspace, Kind: c.kind, Status: api.OperationPending,
		AppID: c.app.ID, Generation: 1, RequestID: c.call.RequestID,
	}
	if !c.several {
		op.VMUUID = &c.ids[0]
	}
	return op
}
