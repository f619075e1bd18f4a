package fleet

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// Scale brings an app to count CVMs, those being deleted left out: it copies
// the oldest that has not failed, or removes the newest, never the first one.
// With nothing to do its operation has succeeded already. CodeNotFound for an
// app that does not show; CodeInvalidState when there is nothing to copy;
// CodeQuotaExceeded.
func (f *Fleet) Scale(ctx context.Context, call Call, app api.ID, req api.ScaleApp) (Answer, error) {
	count := *req.Count
	c := f.newCreation(call, api.KindAppScale, count) // more IDs than are needed, minted before
	c.several = true
	result := c.result(app)
	return f.accept(ctx, call, plan{
		members: func() (map[string]string, error) { return idempotency.Members(req, api.ScaleApp{}) },
		natural: true, expected: result, show: showCVMs,
		work: func(tx *gorm.DB, again bool) (done, error) {
			locked, err := takeApp(tx, call.Workspace, app, 0)
			if err != nil {
				return done{}, err
			}
			if again {
				if ours, err := operationExists(tx, c.operation); err != nil || ours {
					return done{result: result}, err
				}
			}
			c := c // a run that is repeated starts from the same IDs
			c.app = locked
			return done{result: result}, f.scale(tx, c, count)
		},
	})
}

// scale does it under the app's lock.
func (f *Fleet) scale(tx *gorm.DB, c creation, count int64) error {
	var live []models.CVM
	err := tx.Raw(`SELECT * FROM cvms WHERE app_id = ? AND deleting_at IS NULL ORDER BY ordinal`, c.app.ID).
		Find(&live).Error
	if err != nil {
		return fmt.Errorf("read CVMs of app: %w", err)
	}
	if len(live) == 0 {
		if _, err := visibleApp(tx, c.call.Workspace, c.app.ID); err != nil {
			return err
		}
		return api.Errorf(api.CodeInvalidState, "the app %s has no CVM to copy. Nothing was done: create its first one with POST /cvms.", c.app.Name)
	}
	have := int64(len(live))
	c.ids = c.ids[:max(count-have, 0)]
	if count > have {
		return f.grow(tx, c, live)
	}
	if count < have {
		targets, err := removeCVMs(tx, live[count:], c.kind, c.operation)
		if err != nil {
			return err
		}
		return insertOperation(tx, c.operationRow(), targets)
	}
	op := c.operationRow()
	op.Status = api.OperationSucceeded
	return insertOperation(tx, op, nil)
}

func (f *Fleet) grow(tx *gorm.DB, c creation, live []models.CVM) error {
	source, err := oldestHealthy(live, c.app.Name)
	if err != nil {
		return err
	}
	if c.app, err = takeApp(tx, c.call.Workspace, c.app.ID, int64(len(c.ids))); err != nil {
		return err
	}
	c.replicaOf, c.name, c.hash, c.spec = &source.ID, source.Name, source.ComposeHash, source.SpecID
	return f.insert(tx, c)
}

func oldestHealthy(live []models.CVM, app string) (models.CVM, error) {
	for _, c := range live {
		if stand(c).status != api.StatusFailed {
			return c, nil
		}
	}
	return models.CVM{}, api.Errorf(api.CodeInvalidState, "every CVM of the app %s has failed, so there is none to copy. Nothing was done.", app)
}
