package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
)

// waitPoll is how often a waiting reader looks again. The operation may be
// ended by another node, so looking is the only way that always works.
const waitPoll = 100 * time.Millisecond

// Operation reads one operation. With wait it holds on until the operation
// has ended, the wait is over or the caller leaves, and then reads it.
func (f *Fleet) Operation(ctx context.Context, workspace api.ID, id string, wait time.Duration) (api.Operation, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		op, err := readOperation(f.db.WithContext(ctx), id)
		if errors.Is(err, gorm.ErrRecordNotFound) || err == nil && op.WorkspaceID != workspace {
			return api.Operation{}, api.Errorf(api.CodeNotFound, "there is no operation of this ID in this workspace.")
		}
		if err != nil {
			return api.Operation{}, err
		}
		if op.Status.Ended() || !pause(waiting, waitPoll) {
			return operationView(op), nil
		}
	}
}

// Operations is one page of the workspace's operations, oldest first.
func (f *Fleet) Operations(ctx context.Context, workspace api.ID, page Page) (api.Page[api.Operation], error) {
	after, err := page.afterOperation()
	if err != nil {
		return api.Page[api.Operation]{}, err
	}
	var ops []models.Operation
	err = f.db.WithContext(ctx).Where("workspace_id = ? AND id > ?", workspace, after).
		Order("id").Limit(page.Limit + 1).Find(&ops).Error
	if err != nil {
		return api.Page[api.Operation]{}, fmt.Errorf("list operations: %w", err)
	}
	views := make([]api.Operation, len(ops))
	for i, op := range ops {
		views[i] = operationView(op)
	}
	return cut(views, page.Limit, func(o api.Operation) string { return o.ID }), nil
}

// insertOperation keeps an operation and its targets; one without targets has
// ended already.
func insertOperation(tx *gorm.DB, op models.Operation, targets []models.OperationTarget) error {
	op.OpenTargets = int64(len(targets))
	if err := tx.Create(&op).Error; err != nil {
		return fmt.Errorf("insert operation: %w", err)
	}
	if len(targets) == 0 { // there was nothing to do
		err := tx.Exec(`UPDATE operations SET finished_at = created_at WHERE id = ?`, op.ID).Error
		if err != nil {
			return fmt.Errorf("finish operation: %w", err)
		}
		return nil
	}
	if err := tx.Create(&targets).Error; err != nil {
		return fmt.Errorf("insert targets of operation: %w", err)
	}
	return nil
}

func readOperation(tx *gorm.DB, id string) (models.Operation, error) {
	var op models.Operation
	if err := tx.Where("id = ?", id).Take(&op).Error; err != nil {
		return op, fmt.Errorf("read operation: %w", err)
	}
	return op, nil
}

// operationExists says whether an earlier run of this transaction committed.
// It is proof only under a lock that the earlier run held.
func operationExists(tx *gorm.DB, id string) (bool, error) {
	var found []models.Operation
	if err := tx.Raw(`SELECT id FROM operations WHERE id = ?`, id).Find(&found).Error; err != nil {
		return false, fmt.Errorf("look for operation: %w", err)
	}
	return len(found) > 0, nil
}

// operationRunning keeps a key alive until its operation has ended.
func operationRunning(tx *gorm.DB, id string) (bool, error) {
	op, err := readOperation(tx, id)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return false, nil
	}
	return err == nil && !op.Status.Ended(), err
}

func operationView(op models.Operation) api.Operation {
	view := api.Operation{
		ID: op.ID, Kind: op.Kind, Status: op.Status, AppID: op.AppID, VMUUID: op.VMUUID, ResourceID: op.AppID,
		Generation: op.Generation, RequestID: op.RequestID, Attempts: op.Attempts,
		CreatedAt: api.NewTime(op.CreatedAt), UpdatedAt: api.NewTime(op.UpdatedAt), FinishedAt: api.NewTimePtr(op.FinishedAt),
	}
	if op.VMUUID != nil {
		view.ResourceID = *op.VMUUID
	}
	if !op.Status.Ended() {
		return view // one of its CVMs may have failed; the word is spoken at the end
	}
	view.Error = resourceError(op.ErrorCode, op.ErrorMessage)
	if op.Status == api.OperationCanceled && view.Error != nil && op.SupersededBy != nil {
		view.Error.SupersededBy = *op.SupersededBy
	}
	return view
}

func resourceError(code, message *string) *api.ResourceError {
	if code == nil {
		return nil
	}
	e := &api.ResourceError{Code: *code}
	if message != nil {
		e.Message = *message
	}
	return e
}
