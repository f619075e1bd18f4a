package fleet

import (
	"context"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
)

// Start asks for a CVM to run. Errors of the three: see change.
func (f *Fleet) Start(ctx context.Context, call Call, id api.ID) (Answer, error) {
	return f.power(ctx, call, id, api.KindCVMStart, func(c *models.CVM, _ string) bool {
		changed := c.Power != api.PowerRunning
		c.Power = api.PowerRunning
		return changed
	})
}

// Stop asks for a CVM to be stopped.
func (f *Fleet) Stop(ctx context.Context, call Call, id api.ID) (Answer, error) {
	return f.power(ctx, call, id, api.KindCVMStop, func(c *models.CVM, _ string) bool {
		changed := c.Power != api.PowerStopped
		// A restart that this cancels must not come back with a later start.
		c.Power, c.RestartID = api.PowerStopped, nil
		return changed
	})
}

// Restart asks for a CVM to be restarted once, and to run: it starts one that
// is stopped. The operation's ID is what Owl restarts once for.
func (f *Fleet) Restart(ctx context.Context, call Call, id api.ID) (Answer, error) {
	return f.power(ctx, call, id, api.KindCVMRestart, func(c *models.CVM, operation string) bool {
		c.Power, c.RestartID = api.PowerRunning, &operation
		return true
	})
}

func (f *Fleet) power(
	ctx context.Context, call Call, id api.ID, kind api.OperationKind, decide func(c *models.CVM, operation string) bool,
) (Answer, error) {
	c := change{
		call: call, cvm: id, kind: kind, operation: f.cfg.Minter.OperationID(),
		// Nothing in the body counts, so the route and the ID say it all.
		members: func() (map[string]string, error) { return map[string]string{}, nil },
	}
	c.decide = func(_ *gorm.DB, rows []models.CVM) ([]models.CVM, error) {
		if !decide(&rows[0], c.operation) {
			return nil, nil
		}
		return rows, nil
	}
	return f.change(ctx, c)
}
