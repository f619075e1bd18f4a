package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// CreateCVM accepts an app's first CVM, from a provision or from a whole Spec.
//
// An app that has one already answers with it when its present compose_hash is
// the request's, as a replay, also when it failed; otherwise CodeAppExists
// with the app and the CVM. Also CodeProvisionNotFound, for an unknown app too,
// and CodeQuotaExceeded.
func (f *Fleet) CreateCVM(ctx context.Context, call Call, req api.CreateCVM) (Answer, error) {
	c := f.newCreation(call, api.KindCVMCreate, 1)
	source, err := f.firstSource(call, req)
	if err != nil {
		return Answer{}, err
	}
	return f.accept(ctx, call, plan{
		members:  func() (map[string]string, error) { return createMembers(req) },
		expected: c.result(c.ids[0]),
		show:     showCVM,
		work: func(tx *gorm.DB, again bool) (done, error) {
			app, err := source.take(tx)
			if err != nil {
				return done{}, err
			}
			if again {
				if ours, err := operationExists(tx, c.operation); err != nil || ours {
					return done{result: c.result(c.ids[0])}, err
				}
			}
			if found, err := adopt(tx, app, source.hash); err != nil || found != nil {
				return found.orNothing(), err
			}
			spec, err := source.spec(tx)
			if err != nil {
				return done{}, err
			}
			if err := insertSpec(tx, spec); err != nil {
				return done{}, err
			}
			c.app, c.name, c.hash, c.spec = app, app.Name, source.hash, spec.ID
			return done{result: c.result(c.ids[0])}, f.insert(tx, c)
		},
	})
}

// source is where the first CVM of an app gets its app and spec from.
type source struct {
	hash string
	// take locks the app and sets one ordinal aside.
	take func(tx *gorm.DB) (models.App, error)
	// spec reads or drafts the spec. Not called when a CVM is adopted.
	spec func(tx *gorm.DB) (models.Spec, error)
}

func (f *Fleet) firstSource(call Call, req api.CreateCVM) (source, error) {
	if req.IsCommit() {
		return f.commitSource(call, req)
	}
	draft, err := f.draftApp(call.Workspace, req.Name)
	if err != nil {
		return source{}, err
	}
	row, hash, err := f.draftSpec(call.Workspace, req.Spec)
	return source{
		hash: hash,
		take: func(tx *gorm.DB) (models.App, error) { return takeAppByName(tx, draft, 1) },
		spec: func(*gorm.DB) (models.Spec, error) { return row, nil },
	}, err
}

func (f *Fleet) commitSource(call Call, req api.CreateCVM) (source, error) {
	app, err := api.ParseAppID(*req.AppID)
	if err != nil {
		return source{}, fmt.Errorf("parse app ID that was validated: %w", err)
	}
	hash := *req.ComposeHash
	return source{
		hash: hash,
		take: func(tx *gorm.DB) (models.App, error) {
			taken, err := takeApp(tx, call.Workspace, app, 1)
			if coded, ok := errors.AsType[*api.Error](err); ok && coded.Code == api.CodeNotFound {
				err = provisionNotFound(app) // nor of its provision
			}
			return taken, err
		},
		spec: func(tx *gorm.DB) (models.Spec, error) {
			spec, err := useProvision(tx, app, hash)
			if err != nil {
				return models.Spec{}, err
			}
			if req.EncryptedEnv != nil {
				spec.EncryptedEnv = req.EncryptedEnv
			}
			if req.EnvKeys != nil {
				spec.EnvKeys = req.EnvKeys
			}
			row, _, err := f.draftSpec(call.Workspace, spec) // the hash stays the provision's
			return row, err
		},
	}, nil
}

// createMembers is the fingerprint of a create.
func createMembers(req api.CreateCVM) (map[string]string, error) {
	if !req.IsCommit() {
		return specMembers(req.Spec)
	}
	if id, err := api.ParseAppID(*req.AppID); err == nil {
		canonical := id.String()
		req.AppID = &canonical
	}
	req.EncryptedEnv = nil
	return idempotency.Members(req, api.CreateCVM{})
}

// adopt answers a create for an app that has its first CVM: with that CVM
// when the hash is the same, with CodeAppExists when not, with nothing when
// the app has none.
func adopt(tx *gorm.DB, app models.App, hash string) (*done, error) {
	var first models.CVM
	err := tx.Where("app_id = ? AND replica_of IS NULL AND deleting_at IS NULL", app.ID).Take(&first).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil //nolint:nilnil // nothing to adopt is not an error
	}
	if err != nil {
		return nil, fmt.Errorf("read first CVM of app: %w", err)
	}
	if first.ComposeHash != hash {
		return nil, &api.Error{
			Code: api.CodeAppExists, AppID: &app.ID, VMUUID: &first.ID,
			Detail: "the app " + app.Name + " runs another configuration (vm_uuid " + first.ID.String() +
				"). Nothing was done: change that CVM with PATCH, delete it first, or use another name.",
		}
	}
	op, err := readOperation(tx, first.CreateOperationID)
	if err != nil {
		return nil, err
	}
	return &done{
		result:   idempotency.Result{Status: http.StatusAccepted, OperationID: op.ID, ResourceID: first.ID},
		original: op.RequestID,
	}, nil
}

func (d *done) orNothing() done {
	if d == nil {
		return done{}
	}
	return *d
}
