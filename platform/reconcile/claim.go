package reconcile

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
)

// claimed is a row under its fence, with the spec of its stored create request
// while Owl has never confirmed it.
type claimed struct {
	models.CVM

	createSpec models.JSON
}

// claim takes due rows, oldest first.
func (r *Reconciler) claim(ctx context.Context) ([]claimed, error) {
	var rows []claimed
	db := r.db.WithContext(ctx)
	err := db.Raw(`
		UPDATE cvms SET fence = fence + 1, attempts = attempts + 1,
			reconcile_after = now() + ?::bigint * interval '1 microsecond'
		WHERE id IN (SELECT id FROM cvms WHERE reconcile_after <= now() AND deleting_at IS NULL
			ORDER BY reconcile_after LIMIT ? FOR UPDATE SKIP LOCKED)
		RETURNING *`, r.cfg.Lease.Microseconds(), claimLimit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("claim due rows: %w", err)
	}
	slices.SortFunc(rows, func(a, b claimed) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return rows, attachSpecs(db, rows)
}

// attachSpecs reads each spec once, however many replicas share it.
func attachSpecs(db *gorm.DB, rows []claimed) error {
	bodies := map[api.ID]models.JSON{}
	for _, row := range rows {
		if !row.Confirmed {
			bodies[row.CreateSpecID] = nil
		}
	}
	if len(bodies) == 0 {
		return nil
	}
	ids := make([]api.ID, 0, len(bodies))
	for id := range bodies {
		ids = append(ids, id)
	}
	var specs []models.Spec
	if err := db.Select("id", "body").Where("id IN ?", ids).Find(&specs).Error; err != nil {
		return fmt.Errorf("read specs of due rows: %w", err)
	}
	for _, s := range specs {
		bodies[s.ID] = s.Body
	}
	for i := range rows {
		rows[i].createSpec = bodies[rows[i].CreateSpecID]
	}
	return nil
}

// createRequest is the request that was stored when the create was accepted:
// only columns that never change, whatever was asked for since.
func (c claimed) createRequest() ([]byte, error) {
	body, err := json.Marshal(owlapi.CreateCVM{
		ID: c.ID, AppID: c.AppID, ReplicaOf: c.ReplicaOf, Name: c.Name,
		Generation: 1, Power: api.PowerRunning, Spec: []byte(c.createSpec),
	})
	if err != nil {
		return nil, fmt.Errorf("encode create of %s: %w", c.ID, err)
	}
	return body, nil
}
