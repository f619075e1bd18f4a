package fleet

import (
	"context"
	"fmt"

	"roost/api"
	"roost/models"
)

// Usage is a workspace and how much of its quota of CVMs is used.
type Usage struct {
	ID    api.ID
	Name  string
	CVMs  int64 // those being deleted left out
	Quota int64
}

// Usage reads the workspace that a token belongs to.
func (f *Fleet) Usage(ctx context.Context, workspace api.ID) (Usage, error) {
	var row models.Workspace
	if err := f.db.WithContext(ctx).Where("id = ?", workspace).Take(&row).Error; err != nil {
		return Usage{}, fmt.Errorf("read workspace: %w", err)
	}
	return Usage{ID: row.ID, Name: row.Name, CVMs: row.CVMs, Quota: f.cfg.MaxCVMs}, nil
}
