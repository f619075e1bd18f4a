package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/models/faultpoint"
	"roost/models/pg"
	"roost/owl/driver"
)

const machineColumns = `id, name, generation, observed_generation, power, restart, spec, fence, delete_requested_at`

// codeRemoved is the failure of a CVM whose machine was removed below Owl, as
// after a restore of Owl's database. It is never made again in silence.
const codeRemoved = "MACHINE_REMOVED"

// machine does what one claimed CVM needs and writes how it went.
func (p *Provisioner) machine(ctx context.Context, row models.OwlCVM) {
	var written bool
	var err error
	if row.DeleteRequestedAt != nil {
		written, err = p.remove(ctx, row)
	} else {
		written, err = p.ensure(ctx, row)
	}
	p.report(ctx, "cvm", row.ID, written, err)
}

func (p *Provisioner) remove(ctx context.Context, row models.OwlCVM) (written bool, err error) {
	failed := p.driver.Remove(ctx, row.ID)
	if failed != nil {
		return p.retry(ctx, "cvms", claim{row.ID, row.Fence}, failed)
	}
	err = faultpoint.Step("owl.removed", func() error {
		return p.inTx(ctx, func(tx *gorm.DB) error {
			if written, err = confirmRemoved(tx, row); err != nil || !written {
				return err
			}
			return endRulesOf(tx, row.ID)
		})
	})
	return written, err
}

// confirmRemoved asks for no fence: a removal is final, so it is as true of an
// older claim as of a newer one.
func confirmRemoved(tx *gorm.DB, row models.OwlCVM) (bool, error) {
	done := tx.Exec(`UPDATE cvms SET status = ?, deleted_at = now(), due_at = NULL, attempts = 0,
			updated_at = clock_timestamp()
		WHERE id = ? AND delete_requested_at IS NOT NULL AND deleted_at IS NULL`, api.StatusDeleted, row.ID)
	if done.Error != nil {
		return false, fmt.Errorf("confirm the removal: %w", done.Error)
	}
	return done.RowsAffected == 1, nil
}

// endRulesOf confirms the deletion of rules that went with their machine.
func endRulesOf(tx *gorm.DB, cvmID api.ID) error {
	err := tx.Exec(`UPDATE firewall_rules SET deleted_at = now(), due_at = NULL, updated_at = clock_timestamp()
		WHERE cvm_id = ? AND delete_requested_at IS NOT NULL AND deleted_at IS NULL`, cvmID).Error
	if err != nil {
		return fmt.Errorf("confirm the removal of rules: %w", err)
	}
	return nil
}

func (p *Provisioner) ensure(ctx context.Context, row models.OwlCVM) (written bool, err error) {
	observed, failed := p.driver.Ensure(ctx, row.ID, row.Generation, driver.Desired{
		Name: row.Name, Spec: []byte(row.Spec), Power: row.Power, Restart: row.Restart,
	})
	var failure *driver.Failure
	switch {
	case failed == nil:
		return p.settle(ctx, row, statusOf(observed.Power), nil)
	case errors.As(failed, &failure):
		return p.settle(ctx, row, api.StatusFailed, failure)
	case errors.Is(failed, driver.ErrRemoved):
		return p.settle(ctx, row, api.StatusFailed, &driver.Failure{
			Code: codeRemoved, Message: "the machine was removed; only a CVM under another ID can replace it",
		})
	}
	return p.retry(ctx, "cvms", claim{row.ID, row.Fence}, failed)
}

func statusOf(power api.Power) api.Status {
	if power == api.PowerStopped {
		return api.StatusStopped
	}
	return api.StatusRunning
}

// settle writes what was observed. What the row is asked for by now decides
// whether it is at rest.
func (p *Provisioner) settle(
	ctx context.Context, row models.OwlCVM, status api.Status, failure *driver.Failure,
) (written bool, err error) {
	err = faultpoint.Step("owl.result", func() error {
		return p.inTx(ctx, func(tx *gorm.DB) (err error) {
			written, err = settleIn(tx, row, status, failure)
			faultpoint.Hit("owl.result.commit")
			return err
		})
	})
	if err != nil {
		return false, fmt.Errorf("write the result: %w", err)
	}
	if written && row.ObservedGeneration == 0 {
		p.rules.signal()
	}
	return written, nil
}

func settleIn(tx *gorm.DB, row models.OwlCVM, status api.Status, failure *driver.Failure) (written bool, err error) {
	code, message := columnsOf(failure)
	done := tx.Exec(`UPDATE cvms SET
				observed_generation = greatest(observed_generation, @generation),
				status = CASE WHEN `+nothingNewer+` THEN @status ELSE status END,
				error_code = CASE WHEN `+nothingNewer+` THEN @code ELSE error_code END,
				error_message = CASE WHEN `+nothingNewer+` THEN @message ELSE error_message END,
				due_at = CASE WHEN `+nothingNewer+` THEN NULL ELSE now() END,
				attempts = 0, updated_at = clock_timestamp()
			WHERE id = @id AND fence = @fence AND deleted_at IS NULL`, map[string]any{
		"id": row.ID, "fence": row.Fence, "generation": row.Generation,
		"status": string(status), "code": code, "message": message,
	})
	if written = done.RowsAffected == 1; done.Error != nil || !written || row.ObservedGeneration > 0 {
		return written, done.Error
	}
	return true, wakeRulesOf(tx, row.ID)
}

// columnsOf is what a row keeps of a failure. Hypervisors speak in bytes, and
// Postgres takes neither NUL nor what is not UTF-8: the result would be lost, and
// the work repeated, for ever.
func columnsOf(failure *driver.Failure) (code, message *string) {
	if failure == nil {
		return nil, nil
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(failure.Message, "\uFFFD"), "\x00", "\uFFFD")
	return &failure.Code, &text
}

// nothingNewer says that a claimed row is still asked for what was done.
const nothingNewer = `generation = @generation AND delete_requested_at IS NULL`

// wakeRulesOf makes rules due that waited for their machine. It runs under the
// CVM's row lock, so a rule is either seen here or sees the observation.
func wakeRulesOf(tx *gorm.DB, cvmID api.ID) error {
	return tx.Exec(`UPDATE firewall_rules SET due_at = now()
		WHERE cvm_id = ? AND due_at IS NULL AND status = 'pending' AND delete_requested_at IS NULL`, cvmID).Error
}

// retry makes a row due again after a backoff with full jitter. What is asked
// for begins with no attempts, so that it never waits for an older backoff.
// Work that was called off leaves the row to whoever called it off.
func (p *Provisioner) retry(ctx context.Context, table string, c claim, failed error) (written bool, err error) {
	if ctx.Err() != nil {
		return false, nil //nolint:nilerr // report sees it too
	}
	p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "driver call failed, will be repeated",
		slog.String("table", table), slog.String("id", c.id.String()), slog.Any("error", failed))
	err = faultpoint.Step("owl.backoff", func() error {
		return p.inTx(ctx, func(tx *gorm.DB) error {
			done := tx.Exec(`UPDATE `+table+` SET attempts = attempts + 1,
					due_at = now() + make_interval(secs =>
						random() * least(?::float8, ?::float8 * power(2, least(attempts, 20))))
				WHERE id = ? AND fence = ? AND deleted_at IS NULL AND due_at IS NOT NULL`,
				backoffMax.Seconds(), backoffFirst.Seconds(), c.id, c.fence)
			written = done.RowsAffected == 1
			return done.Error
		})
	})
	if err != nil {
		return false, fmt.Errorf("write the backoff: %w", err)
	}
	return written, nil
}

// inTx writes a result: it is worth writing even when Owl is shutting down.
func (p *Provisioner) inTx(ctx context.Context, fn func(tx *gorm.DB) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resultTimeout)
	defer cancel()
	return pg.InTx(ctx, p.cfg.DB, fn)
}

// report counts a result and says why there is none.
func (p *Provisioner) report(ctx context.Context, kind string, id api.ID, written bool, err error) {
	outcome := "written"
	switch {
	case err != nil:
		outcome = "lost"
		p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "result lost, the work will be repeated",
			slog.String("kind", kind), slog.String("id", id.String()), slog.Any("error", err))
	case !written && ctx.Err() != nil:
		outcome = "called_off" // for a newer claim, or because Owl is stopping
	case !written:
		outcome = "refused" // somebody claimed the row since
	}
	p.metrics.results.WithLabelValues(kind, outcome).Inc()
}
