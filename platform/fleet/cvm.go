package fleet

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// CVM reads one CVM: CodeNotFound if it never was in this workspace,
// CodeResourceDeleted once its machine is gone.
func (f *Fleet) CVM(ctx context.Context, workspace, id api.ID) (api.CVM, error) {
	views, err := viewCVMs(f.db.WithContext(ctx), nil, pick{where: "workspace_id = ? AND id = ?", args: []any{workspace, id}})
	if err != nil {
		return api.CVM{}, err
	}
	if len(views) == 0 {
		return api.CVM{}, notFound("CVM", id)
	}
	if at := views[0].DeletedAt; at != nil {
		return api.CVM{}, deleted("CVM", id, at.Time)
	}
	return views[0], nil
}

// CVMs is one page of the workspace's CVMs, those being deleted included.
func (f *Fleet) CVMs(ctx context.Context, workspace api.ID, page Page) (api.Page[api.CVM], error) {
	after, err := page.afterID()
	if err != nil {
		return api.Page[api.CVM]{}, err
	}
	views, err := viewCVMs(f.db.WithContext(ctx), nil, pick{
		where: "workspace_id = ? AND id > ? AND deleted_at IS NULL", args: []any{workspace, after},
		order: "id", limit: page.Limit + 1,
	})
	if err != nil {
		return api.Page[api.CVM]{}, err
	}
	return cut(views, page.Limit, func(c api.CVM) string { return c.VMUUID.String() }), nil
}

// Spec reads what a CVM is configured to be, as it was asked for, without its
// encrypted_env. Errors as for CVM.
func (f *Fleet) Spec(ctx context.Context, workspace, id api.ID) (api.Spec, error) {
	if _, err := f.CVM(ctx, workspace, id); err != nil {
		return api.Spec{}, err
	}
	var c models.CVM
	db := f.db.WithContext(ctx)
	if err := db.Where("id = ?", id).Take(&c).Error; err != nil {
		return api.Spec{}, fmt.Errorf("read CVM: %w", err)
	}
	spec, err := readSpec(db, c.SpecID)
	spec.EncryptedEnv = nil
	return spec, err
}

// cvmRow is a CVM with all that its view shows.
type cvmRow struct {
	models.CVM

	Summary   models.JSON
	EnvPubkey string
	OpID      *string
	OpKind    api.OperationKind
	OpStatus  api.OperationStatus
}

// pick says which CVMs to read: a condition on cvms, an order among its
// columns ("ordinal" if empty), and how many at most (all if 0).
type pick struct {
	where string
	args  []any
	order string
	limit int
}

// viewCVMs reads CVMs as clients see them. operation is the one to show, nil
// for each CVM's newest. The page is cut before anything is joined to it.
func viewCVMs(tx *gorm.DB, operation *string, p pick) ([]api.CVM, error) {
	if p.order == "" {
		p.order = "ordinal"
	}
	var limit *int // NULL is no limit
	if p.limit > 0 {
		limit = &p.limit
	}
	var rows []cvmRow
	err := tx.Raw(`SELECT c.*, s.summary, a.env_pubkey, o.id AS op_id, o.kind AS op_kind, o.status AS op_status
		FROM (SELECT * FROM cvms WHERE `+p.where+` ORDER BY `+p.order+` LIMIT ?) c
		JOIN apps a ON a.id = c.app_id
		LEFT JOIN specs s ON s.id = c.spec_id
		LEFT JOIN operations o ON o.id = COALESCE(?, c.operation_id)
		ORDER BY c.`+p.order, append(p.args, limit, operation)...).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read CVMs: %w", err)
	}
	views := make([]api.CVM, len(rows))
	for i, row := range rows {
		if views[i], err = row.view(); err != nil {
			return nil, err
		}
	}
	return views, nil
}

// showCVM reads the one CVM of a result, with the result's own operation.
func showCVM(tx *gorm.DB, r idempotency.Result) (any, error) {
	views, err := viewCVMs(tx, &r.OperationID, pick{where: "id = ?", args: []any{r.ResourceID}})
	if err != nil {
		return nil, err
	}
	if len(views) != 1 {
		return nil, fmt.Errorf("show CVM %s: it is not there", r.ResourceID)
	}
	return views[0], nil
}

// showCVMs reads the CVMs of a result's operation, oldest first.
func showCVMs(tx *gorm.DB, r idempotency.Result) (any, error) {
	op, err := readOperation(tx, r.OperationID)
	if err != nil {
		return nil, err
	}
	views, err := viewCVMs(tx, &r.OperationID, pick{
		where: "id IN (SELECT cvm_id FROM operation_targets WHERE operation_id = ?)", args: []any{r.OperationID},
	})
	return api.CVMs{Items: views, Operation: operationView(op)}, err
}

func (r cvmRow) view() (api.CVM, error) {
	var spec api.Spec
	if r.Summary != nil {
		if err := json.Unmarshal(r.Summary, &spec); err != nil {
			return api.CVM{}, fmt.Errorf("decode summary of spec: %w", err)
		}
	}
	spec = spec.WithDefaults()
	standing := stand(r.CVM)
	view := api.CVM{
		VMUUID: r.ID, ID: r.ID, AppID: r.AppID, Name: r.Name, ReplicaOf: r.ReplicaOf,
		Status: standing.status, InProgress: standing.target != nil, Progress: api.Progress{Target: standing.target},
		InstanceType: spec.InstanceType, VCPU: *spec.VCPU, Memory: *spec.Memory, DiskSize: *spec.DiskSize,
		BaseImage: *spec.Image, ComposeHash: r.ComposeHash, StorageFS: *spec.ComposeFile.StorageFS,
		Listed: *spec.Listed, Region: *spec.Region,
		Generation: r.Generation, ObservedGeneration: r.ObservedGeneration,
		Error:     resourceError(r.ErrorCode, r.ErrorMessage),
		CreatedAt: api.NewTime(r.CreatedAt), UpdatedAt: api.NewTime(r.UpdatedAt), DeletedAt: api.NewTimePtr(r.DeletedAt),
		EncryptedEnvPubkey: r.EnvPubkey, CVMAliases: spec.Aliases(),
	}
	if r.OpID != nil {
		view.Operation = &api.OperationRef{ID: *r.OpID, Kind: r.OpKind, Status: r.OpStatus}
	}
	return view, nil
}
