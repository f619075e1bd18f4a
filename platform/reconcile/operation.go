package reconcile

import (
	"fmt"

	"gorm.io/gorm"

	"roost/api"
)

// endOperations ends the targets of these CVMs whose generation has been
// observed, and with the last of its targets the operation: failed if one CVM
// failed, canceled if one was deleted meanwhile, otherwise succeeded. A target ends once, so the counter is right
// however many nodes look at one operation.
func endOperations(tx *gorm.DB, cvms []api.ID) error {
	if len(cvms) == 0 {
		return nil
	}
	err := tx.Exec(`
		WITH ended AS (
			UPDATE operation_targets t SET ended_at = clock_timestamp()
			FROM cvms c
			WHERE t.cvm_id IN ? AND c.id = t.cvm_id AND t.ended_at IS NULL AND c.observed_generation >= t.generation
			RETURNING t.operation_id,
				CASE WHEN c.deleting_at IS NULL THEN c.error_code END AS error_code,
				CASE WHEN c.deleting_at IS NULL THEN c.error_message END AS error_message
		), total AS (
			SELECT operation_id, count(*) AS n, min(error_code) AS error_code, min(error_message) AS error_message
			FROM ended GROUP BY operation_id
		), locked AS MATERIALIZED (
			SELECT o.id FROM operations o JOIN total ON total.operation_id = o.id ORDER BY o.id FOR UPDATE OF o
		)
		UPDATE operations o SET
			open_targets = o.open_targets - total.n,
			error_code = COALESCE(total.error_code, o.error_code),
			error_message = COALESCE(total.error_message, o.error_message),
			status = CASE WHEN o.open_targets > total.n THEN 'running'
				WHEN COALESCE(total.error_code, o.error_code) IS NULL THEN 'succeeded'
				WHEN COALESCE(total.error_code, o.error_code) = ? THEN 'canceled' ELSE 'failed' END,
			finished_at = CASE WHEN o.open_targets > total.n THEN NULL ELSE clock_timestamp() END,
			updated_at = clock_timestamp()
		FROM total JOIN locked ON locked.id = total.operation_id
		WHERE o.id = total.operation_id AND o.status IN ('pending', 'running')`, cvms, api.ErrorSuperseded).Error
	if err != nil {
		return fmt.Errorf("end operations: %w", err)
	}
	return nil
}
