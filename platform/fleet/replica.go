package fleet

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// CreateReplicas accepts copies of a CVM as it is configured now: one, which
// may have a name of its own, or count of them under one operation.
//
// Errors: CodeNotFound for an unknown app or source, CodeGone for one that is
// being deleted, CodeInvalidState for one that failed before Owl had it,
// CodeQuotaExceeded.
func (f *Fleet) CreateReplicas(ctx context.Context, call Call, app, source api.ID, req api.CreateReplicas) (Answer, error) {
	several, n := req.Count != nil, int64(1)
	if several {
		n = *req.Count
	}
	c := f.newCreation(call, api.KindCVMReplicate, n)
	c.several, c.replicaOf = several, &source
	result, show := c.result(c.ids[0]), showCVM
	if several {
		result, show = c.result(app), showCVMs
	}
	return f.accept(ctx, call, plan{
		members:  func() (map[string]string, error) { return idempotency.Members(req, api.CreateReplicas{}) },
		expected: result,
		show:     show,
		work: func(tx *gorm.DB, again bool) (done, error) {
			locked, err := takeApp(tx, call.Workspace, app, n)
			if err != nil {
				return done{}, err
			}
			if again {
				if ours, err := operationExists(tx, c.operation); err != nil || ours {
					return done{result: result}, err
				}
			}
			from, err := replicaSource(tx, app, source)
			if err != nil {
				return done{}, err
			}
			c.app, c.hash, c.name, c.spec = locked, from.ComposeHash, from.Name, from.SpecID
			if req.Name != nil {
				c.name = *req.Name
			}
			return done{result: result}, f.insert(tx, c)
		},
	})
}

// replicaSource reads the CVM to copy and checks that it can be copied. The
// app's lock keeps it from being deleted meanwhile.
func replicaSource(tx *gorm.DB, app, id api.ID) (models.CVM, error) {
	var from models.CVM
	err := tx.Where("app_id = ? AND id = ?", app, id).Take(&from).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return from, notFound("CVM", id)
	}
	if err != nil {
		return from, fmt.Errorf("read source CVM: %w", err)
	}
	return from, actionable(from)
}
