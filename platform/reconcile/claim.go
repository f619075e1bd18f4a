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
	"roost/models/faultpoint"
)

// claimed is a row under its fence, with the spec that its push needs: that of
// its stored create request while Owl has never confirmed it, otherwise the
// present one.
type claimed struct {
	models.CVM

	body models.JSON
}

// missing is what a row lacks at Owl.
type missing int

const (
	missingNothing  missing = iota // but a look
	missingCreate                  // POST the stored request
	missingChange                  // PUT the present state
	missingDeletion                // DELETE; nothing else after it
)

// missing is the first thing that the row lacks.
func (c claimed) missing() missing {
	switch {
	case c.DeletingAt != nil && !c.DeleteConfirmed:
		return missingDeletion
	case c.DeletingAt != nil:
		return missingNothing
	case !c.Confirmed:
		return missingCreate
	case c.Generation > c.PushedGeneration:
		return missingChange
	default:
		return missingNothing
	}
}

// specID is the spec that the push needs, or none.
func (c claimed) specID() (id api.ID, needed bool) {
	switch c.missing() {
	case missingCreate:
		return c.CreateSpecID, true
	case missingChange:
		return c.SpecID, true
	case missingNothing, missingDeletion:
	}
	return api.ID{}, false
}

// claim takes due rows, at most limit, oldest first. Once it has begun it is finished even
// when the node stops: rows that are claimed and dropped wait out their lease.
func (r *Reconciler) claim(ctx context.Context, limit int) ([]claimed, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	var rows []claimed
	err := r.hold.Run("claim", func() (err error) {
		rows, err = r.claimDue(r.db.WithContext(ctx), limit)
		return err
	})
	return rows, err
}

func (r *Reconciler) claimDue(db *gorm.DB, limit int) ([]claimed, error) {
	var rows []claimed
	err := faultpoint.Poll("platform.claim", func() (int, error) {
		err := db.Raw(`
		UPDATE cvms SET fence = fence + 1, attempts = attempts + 1,
			reconcile_after = now() + ?::bigint * interval '1 microsecond'
		WHERE id IN (SELECT id FROM cvms WHERE reconcile_after <= now()
			ORDER BY reconcile_after LIMIT ? FOR UPDATE SKIP LOCKED)
		RETURNING *`, r.cfg.Lease.Microseconds(), limit).Find(&rows).Error
		return len(rows), err
	})
	if err != nil {
		return nil, fmt.Errorf("claim due rows: %w", err)
	}
	slices.SortFunc(rows, func(a, b claimed) int { return a.CreatedAt.Compare(b.CreatedAt) })
	if err := attachSpecs(db, rows); err != nil {
		return nil, err // never a push without its spec: the rows wait out their lease
	}
	return rows, nil
}

// attachSpecs reads each spec once, however many replicas share it.
func attachSpecs(db *gorm.DB, rows []claimed) error {
	bodies := map[api.ID]models.JSON{}
	for _, row := range rows {
		if id, needed := row.specID(); needed {
			bodies[id] = nil
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
		id, _ := rows[i].specID()
		rows[i].body = bodies[id]
	}
	return nil
}

// createRequest is the request that was stored when the create was accepted:
// only columns that never change, whatever was asked for since.
func (c claimed) createRequest() ([]byte, error) {
	if c.body == nil {
		return nil, fmt.Errorf("create of %s: its stored spec is missing", c.ID)
	}
	body, err := json.Marshal(owlapi.CreateCVM{
		ID: c.ID, AppID: c.AppID, ReplicaOf: c.ReplicaOf, Name: c.Name,
		Generation: 1, Power: api.PowerRunning, Spec: []byte(c.body),
	})
	if err != nil {
		return nil, fmt.Errorf("encode create of %s: %w", c.ID, err)
	}
	return body, nil
}

// putRequest is the whole of what is asked for now.
func (c claimed) putRequest() owlapi.PutCVM {
	return owlapi.PutCVM{Generation: c.Generation, Power: c.Power, Restart: c.RestartID, Spec: []byte(c.body)}
}
