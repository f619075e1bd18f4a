package registry

import (
	"context"
	"fmt"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
	"roost/models/faultpoint"
)

// statusAfterPut says what a machine is on its way to, from what it was asked
// to be before (the columns) and is asked to be now (the parameters).
const statusAfterPut = `CASE
	WHEN observed_generation = 0 THEN 'provisioning'
	WHEN @power = 'stopped' AND (power <> 'stopped' OR status = 'failed') THEN 'stopping'
	WHEN @power = 'running' AND (power <> 'running' OR status = 'failed') THEN 'starting'
	WHEN @power = 'running' AND CAST(@restart AS text) IS NOT NULL AND restart IS DISTINCT FROM CAST(@restart AS text) THEN 'restarting'
	ELSE 'updating' END`

// ApplyCVM takes over a newer desired state and returns the record; one that
// is not newer leaves it unchanged. It answers NOT_FOUND or GONE.
func (r *Registry) ApplyCVM(ctx context.Context, id api.ID, put owlapi.PutCVM) (owlapi.CVM, error) {
	var applied []models.OwlCVM
	err := faultpoint.Step("owl.apply", func() error {
		return r.db.WithContext(ctx).Raw(`UPDATE cvms SET
				status = `+statusAfterPut+`,
				generation = @generation, power = @power, restart = @restart, spec = @spec,
				error_code = NULL, error_message = NULL,
				due_at = now(), attempts = 0, updated_at = clock_timestamp()
			WHERE id = @id AND generation < @generation AND delete_requested_at IS NULL
			RETURNING `+cvmColumns,
			map[string]any{
				"id": id, "generation": put.Generation, "power": string(put.Power),
				"restart": put.Restart, "spec": models.JSON(put.Spec),
			}).Find(&applied).Error
	})
	if err != nil {
		return owlapi.CVM{}, coded("apply CVM", fmt.Errorf("update CVM: %w", err))
	}
	if len(applied) == 0 {
		return r.CVM(ctx, id)
	}
	r.wake()
	return cvmRecord(applied[0]), nil
}
