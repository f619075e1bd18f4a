package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
)

// cvmColumns are spelled out: code and schema deploy in either order.
const cvmColumns = `id, app_id, replica_of, name, create_digests, generation, power, restart, spec,
	observed_generation, status, error_code, error_message, due_at, fence, attempts,
	created_at, updated_at, delete_requested_at, deleted_at`

// CreateCVMs inserts CVMs that are not there yet, each on its own, and starts
// bringing their machines about. Errors inside the result are ID_CONFLICT and
// GONE; the call's own error is UNAVAILABLE or internal.
func (r *Registry) CreateCVMs(
	ctx context.Context, requests []owlapi.CreateCVM,
) ([]Insertion[owlapi.CVM], error) {
	rows := make([]models.OwlCVM, len(requests))
	for i, request := range requests {
		row, err := cvmRow(request.WithDefaults())
		if err != nil {
			return nil, err
		}
		rows[i] = row
	}
	made, err := InsertIfAbsent(ctx, r.db, cvms(), rows)
	if err != nil {
		return nil, coded("create CVMs", err)
	}
	if anyCreated(made) {
		r.wake()
	}
	return translate(made, cvmRecord), nil
}

func anyCreated[T any](made []Insertion[T]) bool {
	return slices.ContainsFunc(made, func(m Insertion[T]) bool { return m.Outcome == Created })
}

func translate[T, R any](made []Insertion[T], record func(T) R) []Insertion[R] {
	out := make([]Insertion[R], len(made))
	for i, m := range made {
		out[i] = Insertion[R]{Outcome: m.Outcome, Row: record(m.Row), Err: m.Err}
	}
	return out
}

// cvms is the kind of the machines themselves.
func cvms() Kind[models.OwlCVM] {
	return Kind[models.OwlCVM]{
		Name:   "CVM",
		Insert: insertCVMs,
		Read:   readCVMs,
		Head: func(row *models.OwlCVM) Head {
			return Head{ID: row.ID, Digests: row.CreateDigests, Dead: row.DeleteRequestedAt != nil}
		},
		Gone:   func(row *models.OwlCVM) error { return goneCVM(*row) },
		Parent: func(*gorm.DB, *models.OwlCVM) error { return nil },
	}
}

func insertCVMs(tx *gorm.DB, rows []models.OwlCVM) ([]models.OwlCVM, error) {
	const row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())"
	args := make([]any, 0, len(rows)*strings.Count(row, "?"))
	for _, c := range rows {
		args = append(args, c.ID, c.AppID, c.ReplicaOf, c.Name, c.CreateDigests,
			c.Generation, c.Power, c.Restart, c.Spec, api.StatusProvisioning)
	}
	var made []models.OwlCVM
	err := tx.Raw(`INSERT INTO cvms
		(id, app_id, replica_of, name, create_digests, generation, power, restart, spec, status, due_at)
		VALUES `+strings.TrimSuffix(strings.Repeat(row+", ", len(rows)), ", ")+`
		ON CONFLICT (id) DO NOTHING RETURNING `+cvmColumns, args...).Find(&made).Error
	if err != nil {
		return nil, fmt.Errorf("insert CVMs: %w", err)
	}
	return made, nil
}

func readCVMs(tx *gorm.DB, ids []api.ID) ([]models.OwlCVM, error) {
	var found []models.OwlCVM
	if err := tx.Raw(`SELECT `+cvmColumns+` FROM cvms WHERE id IN ?`, ids).Find(&found).Error; err != nil {
		return nil, fmt.Errorf("read CVMs: %w", err)
	}
	return found, nil
}

// cvmRow is the row that a create request asks for.
func cvmRow(request owlapi.CreateCVM) (models.OwlCVM, error) {
	compared := request
	compared.ID = api.ID{} // the row is found by it
	asked, err := digests(compared)
	if err != nil {
		return models.OwlCVM{}, err
	}
	return models.OwlCVM{
		ID: request.ID, AppID: request.AppID, ReplicaOf: request.ReplicaOf, Name: request.Name,
		CreateDigests: asked, Generation: request.Generation, Power: request.Power,
		Restart: request.Restart, Spec: models.JSON(request.Spec),
	}, nil
}

// cvmRecord is the row as callers see it.
func cvmRecord(row models.OwlCVM) owlapi.CVM {
	return owlapi.CVM{
		ID: row.ID, AppID: row.AppID, ReplicaOf: row.ReplicaOf, Name: row.Name,
		Generation: row.Generation, ObservedGeneration: row.ObservedGeneration,
		Power: row.Power, Restart: row.Restart, Status: row.Status,
		Error: resourceError(row.ErrorCode, row.ErrorMessage), Spec: json.RawMessage(row.Spec),
		CreatedAt: api.NewTime(row.CreatedAt), UpdatedAt: api.NewTime(row.UpdatedAt),
		DeletedAt: api.NewTimePtr(row.DeletedAt),
	}
}

func resourceError(code, message *string) *api.ResourceError {
	if code == nil {
		return nil
	}
	e := &api.ResourceError{Code: *code}
	if message != nil {
		e.Message = *message
	}
	return e
}

func goneCVM(row models.OwlCVM) error {
	return gone("CVM", row.ID, api.NewTimePtr(row.DeletedAt), cvmRecord(row))
}

// gone is the 410 for a tombstone, with the record that it was.
func gone(what string, id api.ID, at *api.Time, record any) error {
	doc, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode a deleted record: %w", err)
	}
	e := api.Errorf(api.CodeGone, "%s %s was deleted, for good: its ID cannot be used again.", what, id)
	e.DeletedAt, e.Record = at, doc
	return e
}
