package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// Patch is a request to change what a CVM is configured to be.
type Patch interface {
	// Apply returns the spec, defaults filled in, with the patch in it.
	Apply(s api.Spec) api.Spec
	// Compared is what must be the same in a repeat under one key.
	Compared() any
}

// Update accepts another configuration of one CVM; what the patch leaves out
// stays. One that changes nothing makes no generation. Errors: see change,
// and CodeInvalidRequest for a disk that would shrink.
func (f *Fleet) Update(ctx context.Context, call Call, id api.ID, patch Patch) (Answer, error) {
	c := f.update(call, id, patch.Compared())
	c.decide = func(tx *gorm.DB, rows []models.CVM) ([]models.CVM, error) { return f.configure(tx, rows, patch.Apply) }
	return f.change(ctx, c)
}

// UpdateApp is Update for every CVM of the app that the CVM belongs to, under
// one operation: all are changed, or none.
func (f *Fleet) UpdateApp(ctx context.Context, call Call, id api.ID, patch Patch) (Answer, error) {
	c := f.update(call, id, patch.Compared())
	c.wholeApp = true
	c.decide = func(tx *gorm.DB, rows []models.CVM) ([]models.CVM, error) { return f.configure(tx, rows, patch.Apply) }
	return f.change(ctx, c)
}

func (f *Fleet) update(call Call, id api.ID, compared any) change {
	return change{
		call: call, cvm: id, kind: api.KindCVMUpdate, operation: f.cfg.Minter.OperationID(), natural: true,
		members: func() (map[string]string, error) { return idempotency.Members(compared, struct{}{}) },
	}
}

// ProvisionComposeFile reserves compose settings for the app of a CVM: it
// keeps that CVM's spec with the settings in it under its compose_hash, as a
// provision. It changes no CVM, and doing it again changes nothing but the
// expiry. Errors: see change.
func (f *Fleet) ProvisionComposeFile(
	ctx context.Context, call Call, id api.ID, req api.ProvisionComposeFile,
) (Answer, error) {
	return f.accept(ctx, call, plan{
		members:  func() (map[string]string, error) { return idempotency.Members(req.Compared(), struct{}{}) },
		natural:  true,
		expected: idempotency.Result{Status: http.StatusOK, ResourceID: id},
		work: func(tx *gorm.DB, _ bool) (done, error) {
			cvm, err := takeCVM(tx, call.Workspace, id)
			if err != nil {
				return done{}, err
			}
			if err := actionable(cvm); err != nil {
				return done{}, err
			}
			provision, err := f.reserveComposeFile(tx, cvm, req)
			if err != nil {
				return done{}, err
			}
			body, err := json.Marshal(provision)
			return done{result: idempotency.Result{Status: http.StatusOK, ResourceID: cvm.AppID, Body: body}}, err
		},
	})
}

func (f *Fleet) reserveComposeFile(tx *gorm.DB, cvm models.CVM, req api.ProvisionComposeFile) (api.Provision, error) {
	old, err := readSpec(tx, cvm.SpecID)
	if err != nil {
		return api.Provision{}, err
	}
	spec := req.Apply(old.WithDefaults())
	row, hash, err := f.draftSpec(cvm.WorkspaceID, spec)
	if err != nil {
		return api.Provision{}, err
	}
	if same, err := sameSpec(old.WithDefaults(), spec); err != nil {
		return api.Provision{}, err
	} else if same {
		hash = cvm.ComposeHash // a commit's is its provision's, without the env_keys that came later
	}
	kept, err := f.keepProvision(tx, cvm.AppID, hash, row)
	if err != nil {
		return api.Provision{}, err
	}
	var app models.App
	if err := tx.Where("id = ?", cvm.AppID).Take(&app).Error; err != nil {
		return api.Provision{}, fmt.Errorf("read app: %w", err)
	}
	return api.Provision{
		AppID: app.ID, ComposeHash: hash, InstanceType: spec.InstanceType,
		AppEnvEncryptPubkey: app.EnvPubkey, ExpiresAt: api.NewTime(kept.ExpiresAt),
	}, nil
}

// CommitComposeFile gives every CVM of the app the compose settings that were
// provisioned under the hash; all else that they are configured to be stays.
// The commit uses the provision up: a repeat finds a CVM with that hash and
// changes nothing. Errors: see change, and CodeProvisionNotFound.
func (f *Fleet) CommitComposeFile(ctx context.Context, call Call, id api.ID, req api.CommitComposeFile) (Answer, error) {
	c := f.update(call, id, req.Compared())
	c.wholeApp = true
	c.decide = func(tx *gorm.DB, rows []models.CVM) ([]models.CVM, error) {
		compose, err := provisionedComposeFile(tx, rows, req.ComposeHash)
		if err != nil {
			return nil, err
		}
		return f.configure(tx, rows, func(s api.Spec) api.Spec {
			if compose != nil {
				s.ComposeFile = compose
			}
			return req.Envs().Apply(s)
		})
	}
	return f.change(ctx, c)
}

// provisionedComposeFile takes the provision out and returns its settings, or
// nil where a CVM has this hash already and nothing is provisioned anew.
func provisionedComposeFile(tx *gorm.DB, rows []models.CVM, hash string) (*api.ComposeFile, error) {
	spec, err := useProvision(tx, rows[0].AppID, hash)
	if err == nil {
		return spec.ComposeFile, nil
	}
	coded, ok := errors.AsType[*api.Error](err)
	if !ok || coded.Code != api.CodeProvisionNotFound {
		return nil, err
	}
	for _, row := range rows {
		if row.ComposeHash == hash {
			return nil, nil //nolint:nilnil // nothing to change is no error
		}
	}
	return nil, err
}

// configure gives rows that share a spec one of their own with the edit in
// it, and returns those that changed: copies of a CVM share its spec.
func (f *Fleet) configure(
	tx *gorm.DB, rows []models.CVM, edit func(api.Spec) api.Spec,
) (changed []models.CVM, err error) {
	edited := map[api.ID]models.CVM{} // by the old spec; only SpecID and ComposeHash count
	for _, row := range rows {
		next, known := edited[row.SpecID]
		if !known {
			if next, err = f.configureOne(tx, row, edit); err != nil {
				return nil, err
			}
			edited[row.SpecID] = next
		}
		if next.SpecID != row.SpecID {
			row.SpecID, row.ComposeHash = next.SpecID, next.ComposeHash
			changed = append(changed, row)
		}
	}
	return changed, nil
}

// configureOne returns the row with a spec of its own, or as it is when the
// edit changes nothing.
func (f *Fleet) configureOne(tx *gorm.DB, row models.CVM, edit func(api.Spec) api.Spec) (models.CVM, error) {
	old, err := readSpec(tx, row.SpecID)
	if err != nil {
		return row, err
	}
	old = old.WithDefaults()
	spec := edit(old)
	if *spec.DiskSize < *old.DiskSize {
		return row, api.Invalid("/disk_size", "can only grow, and is %d GB", *old.DiskSize)
	}
	if same, err := sameSpec(old, spec); err != nil || same {
		return row, err
	}
	draft, hash, err := f.draftSpec(row.WorkspaceID, spec)
	if err != nil {
		return row, err
	}
	row.SpecID, row.ComposeHash = draft.ID, hash
	return row, insertSpec(tx, draft)
}
