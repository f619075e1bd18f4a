package fleet

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// Delete accepts the end of a CVM and of its firewall rules. While it is being
// deleted a repeat names the same operation; afterwards it is CodeGone.
// CodeNotFound for one that never was.
func (f *Fleet) Delete(ctx context.Context, call Call, id api.ID) (Answer, error) {
	call.Key = "" // a DELETE needs none: the ID says it all
	operation := f.cfg.Minter.OperationID()
	return f.accept(ctx, call, plan{
		natural: true, show: showCVM,
		work: func(tx *gorm.DB, _ bool) (done, error) {
			row, err := takeCVM(tx, call.Workspace, id)
			if err != nil {
				return done{}, err
			}
			d := done{result: idempotency.Result{Status: http.StatusAccepted, OperationID: operation, ResourceID: id}}
			if row.DeletedAt != nil {
				return done{}, actionable(row)
			}
			if row.DeletingAt != nil {
				d.result.OperationID = row.OperationID
				return d, nil
			}
			targets, err := removeCVMs(tx, []models.CVM{row}, api.KindCVMDelete, operation)
			if err != nil {
				return done{}, err
			}
			return d, insertOperation(tx, models.Operation{
				ID: operation, WorkspaceID: call.Workspace, Kind: api.KindCVMDelete, Status: api.OperationPending,
				AppID: row.AppID, VMUUID: &row.ID, Generation: targets[0].Generation, RequestID: call.RequestID,
			}, targets)
		},
	})
}

// removeCVMs turns rows of a locked app into rows that are being deleted, frees their
// quota, and returns what the operation is to wait for.
func removeCVMs(tx *gorm.DB, rows []models.CVM, kind api.OperationKind, operation string) ([]models.OperationTarget, error) {
	err := tx.Exec(`UPDATE workspaces SET cvms = cvms - ? WHERE id = ?`, len(rows), rows[0].WorkspaceID).Error
	if err != nil {
		return nil, fmt.Errorf("free quota: %w", err)
	}
	// By ascending ID, as everybody who locks several, and all of them before
	// the first operation: the reconciler takes them in this order too.
	slices.SortFunc(rows, func(a, b models.CVM) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	targets := make([]models.OperationTarget, len(rows))
	for i, row := range rows {
		removed, err := removeCVM(tx, row.ID, kind, operation)
		if err != nil {
			return nil, err
		}
		targets[i] = models.OperationTarget{OperationID: operation, CVMID: row.ID, Generation: removed.Generation}
	}
	return targets, supersede(tx, rows, kind, operation)
}

func removeCVM(tx *gorm.DB, id api.ID, kind api.OperationKind, operation string) (row models.CVM, err error) {
	err = tx.Raw(`UPDATE cvms SET generation = generation + 1, deleting_at = clock_timestamp(),
		operation_id = ?, operation_kind = ?, attempts = 0, reconcile_after = now(), updated_at = clock_timestamp()
		WHERE id = ? RETURNING *`, operation, kind, id).Take(&row).Error
	if err != nil {
		return row, fmt.Errorf("remove CVM: %w", err)
	}
	// Owl deletes a CVM's rules with it; they need no deletion of their own.
	err = tx.Exec(`UPDATE firewall_rules SET deleted_at = clock_timestamp(), reconcile_after = NULL, updated_at = clock_timestamp()
		WHERE cvm_id = ? AND deleted_at IS NULL`, id).Error
	if err != nil {
		return row, fmt.Errorf("remove rules of CVM: %w", err)
	}
	return row, nil
}
