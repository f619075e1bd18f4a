package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// change is one accepted change: a new generation of what a CVM, or each CVM
// of an app, is asked to be.
type change struct {
	call Call
	cvm  api.ID // that the path names
	// wholeApp asks it of every CVM of that one's app that takes a change, not
	// of that one alone.
	wholeApp  bool
	kind      api.OperationKind
	operation string // minted before the transaction runs
	natural   bool
	members   func() (map[string]string, error)
	// decide returns those of the rows for which something new is asked,
	// edited into it.
	decide func(tx *gorm.DB, rows []models.CVM) (changed []models.CVM, err error)
}

// change accepts a change: CodeNotFound, CodeGone, CodeInvalidState, all three
// of the CVM that the path names. One that asks for nothing new makes no
// generation: it names the operation under way or, if there is none, one of
// its own that has succeeded already.
func (f *Fleet) change(ctx context.Context, c change) (Answer, error) {
	show := showCVM
	if c.wholeApp {
		show = showCVMs
	}
	return f.accept(ctx, c.call, plan{
		members: c.members, natural: c.natural, expected: c.result(c.operation, c.cvm), show: show,
		work: func(tx *gorm.DB, again bool) (done, error) {
			row, err := takeCVM(tx, c.call.Workspace, c.cvm)
			if err != nil {
				return done{}, err
			}
			operation := c.operation
			ours := false
			if again {
				if ours, err = operationExists(tx, operation); err != nil {
					return done{}, err
				}
			}
			if !ours {
				if operation, err = c.work(tx, row); err != nil {
					return done{}, err
				}
			}
			return c.done(tx, operation)
		},
	})
}

func (c change) result(operation string, resource api.ID) idempotency.Result {
	return idempotency.Result{Status: http.StatusAccepted, OperationID: operation, ResourceID: resource}
}

// done is how the change ended: with the operation that stands for it.
func (c change) done(tx *gorm.DB, operation string) (done, error) {
	if !c.wholeApp {
		return done{result: c.result(operation, c.cvm)}, nil
	}
	op, err := readOperation(tx, operation)
	return done{result: c.result(operation, operationView(op).ResourceID)}, err
}

// work does the change under the app's lock.
func (c change) work(tx *gorm.DB, row models.CVM) (operation string, err error) {
	if err := actionable(row); err != nil {
		return "", err
	}
	rows := []models.CVM{row}
	if c.wholeApp {
		if rows, err = actionableCVMs(tx, row.AppID); err != nil {
			return "", err
		}
	}
	changed, err := c.decide(tx, rows)
	if err != nil {
		return "", err
	}
	if len(changed) == 0 {
		return c.nothingNew(tx, row)
	}
	return c.operation, c.apply(tx, changed)
}

// actionableCVMs reads the CVMs of a locked app that take a change, by
// ascending ID.
func actionableCVMs(tx *gorm.DB, app api.ID) ([]models.CVM, error) {
	var rows []models.CVM
	err := tx.Raw(`SELECT * FROM cvms WHERE app_id = ? AND deleting_at IS NULL ORDER BY id`, app).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read CVMs of app: %w", err)
	}
	return slices.DeleteFunc(rows, func(c models.CVM) bool { return actionable(c) != nil }), nil
}

// apply writes the changed rows, which come by ascending ID, and the
// operation over them.
func (c change) apply(tx *gorm.DB, changed []models.CVM) error {
	for i := range changed {
		row := &changed[i]
		// Counted up here: the reconciler may have moved it since it was read.
		err := tx.Raw(`UPDATE cvms SET generation = generation + 1, power = ?, restart_id = ?, spec_id = ?, compose_hash = ?,
			operation_id = ?, operation_kind = ?, attempts = 0, reconcile_after = now(), updated_at = clock_timestamp()
			WHERE id = ? RETURNING *`, row.Power, row.RestartID, row.SpecID, row.ComposeHash,
			c.operation, c.kind, row.ID).Take(row).Error
		if err != nil {
			return fmt.Errorf("change CVM: %w", err)
		}
	}
	if err := supersede(tx, changed, c.kind, c.operation); err != nil { // operations after the last CVM, as everywhere
		return err
	}
	return c.insertOperation(tx, changed, api.OperationPending)
}

func (c change) nothingNew(tx *gorm.DB, row models.CVM) (string, error) {
	running, err := operationRunning(tx, row.OperationID)
	if err != nil || running {
		return row.OperationID, err
	}
	if err := c.insertOperation(tx, []models.CVM{row}, api.OperationSucceeded); err != nil {
		return "", err
	}
	err = tx.Exec(`UPDATE cvms SET operation_id = ?, operation_kind = ? WHERE id = ?`, c.operation, c.kind, row.ID).Error
	if err != nil {
		return "", fmt.Errorf("name operation of CVM: %w", err)
	}
	return c.operation, nil
}

// insertOperation keeps the operation over these rows; over several it is the
// app's.
func (c change) insertOperation(tx *gorm.DB, rows []models.CVM, status api.OperationStatus) error {
	op := models.Operation{
		ID: c.operation, WorkspaceID: c.call.Workspace, Kind: c.kind, Status: status,
		AppID: rows[0].AppID, RequestID: c.call.RequestID,
	}
	if len(rows) == 1 {
		op.VMUUID = &rows[0].ID
	}
	var targets []models.OperationTarget
	for _, row := range rows {
		op.Generation = max(op.Generation, row.Generation)
		if !status.Ended() {
			targets = append(targets, models.OperationTarget{OperationID: c.operation, CVMID: row.ID, Generation: row.Generation})
		}
	}
	return insertOperation(tx, op, targets)
}

// takeCVM locks a CVM's app and reads the CVM: CodeNotFound. The app's lock is
// what keeps two requests from changing one CVM at a time; the row itself
// stays free for the reconciler.
func takeCVM(tx *gorm.DB, workspace, id api.ID) (models.CVM, error) {
	var row models.CVM
	err := tx.Select("app_id").Where("workspace_id = ? AND id = ?", workspace, id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return row, notFound("CVM", id)
	}
	if err != nil {
		return row, fmt.Errorf("find CVM: %w", err)
	}
	if _, err := takeApp(tx, workspace, row.AppID, 0); err != nil {
		return row, err
	}
	if err := tx.Where("id = ?", id).Take(&row).Error; err != nil {
		return row, fmt.Errorf("read CVM: %w", err)
	}
	return row, nil
}

// superseded is the kinds of operation that a later one ends: those whose
// power it reverses. A delete ends all.
func superseded(by api.OperationKind) []api.OperationKind {
	switch by {
	case api.KindCVMStart, api.KindCVMRestart:
		return []api.OperationKind{api.KindCVMStop}
	case api.KindCVMStop:
		return []api.OperationKind{api.KindCVMStart, api.KindCVMRestart}
	case api.KindCVMDelete, api.KindAppScale: // a scale that takes CVMs away
		return []api.OperationKind{
			api.KindCVMCreate, api.KindCVMReplicate, api.KindAppScale,
			api.KindCVMStart, api.KindCVMStop, api.KindCVMRestart, api.KindCVMUpdate,
		}
	case api.KindCVMCreate, api.KindCVMReplicate, api.KindCVMUpdate:
	}
	return nil
}

// supersede ends, for CVMs whose rows this transaction has locked, the open
// operations that a new one takes the place of. An operation over others too
// goes on for those.
func supersede(tx *gorm.DB, cvms []models.CVM, by api.OperationKind, operation string) error {
	kinds, ids := superseded(by), make([]api.ID, len(cvms))
	for i, cvm := range cvms {
		ids[i] = cvm.ID
	}
	if len(kinds) == 0 {
		return nil
	}
	err := tx.Exec(`
		WITH ended AS (
			UPDATE operation_targets t SET ended_at = clock_timestamp()
			FROM operations o
			WHERE t.cvm_id IN ? AND t.ended_at IS NULL AND o.id = t.operation_id AND o.kind IN ?
			RETURNING t.operation_id
		), total AS (
			SELECT operation_id, count(*) AS n FROM ended GROUP BY operation_id
		), locked AS MATERIALIZED (
			SELECT o.id FROM operations o JOIN total ON total.operation_id = o.id ORDER BY o.id FOR UPDATE OF o
		)
		UPDATE operations o SET open_targets = o.open_targets - total.n,
			error_code = COALESCE(o.error_code, ?), superseded_by = ?,
			error_message = COALESCE(o.error_message, 'a later request took its place'),
			status = CASE WHEN o.open_targets > total.n THEN o.status
				WHEN COALESCE(o.error_code, ?) = ? THEN 'canceled' ELSE 'failed' END,
			finished_at = CASE WHEN o.open_targets > total.n THEN NULL ELSE clock_timestamp() END,
			updated_at = clock_timestamp()
		FROM total JOIN locked ON locked.id = total.operation_id WHERE o.id = total.operation_id`,
		ids, kinds, api.ErrorSuperseded, operation, api.ErrorSuperseded, api.ErrorSuperseded).Error
	if err != nil {
		return fmt.Errorf("supersede operations: %w", err)
	}
	return nil
}
