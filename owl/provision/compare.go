package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"roost/api"
	"roost/models"
	"roost/models/faultpoint"
	"roost/owl/driver"
)

// comparePage is how many rows or IDs are compared in one statement.
const comparePage = 500

// compare finds what no row knows of: machines that should not be, that are
// not what was observed, or that nobody asked for. The driver is asked first: a
// row is always there before its machine, so a machine without a row is a real
// one.
func (p *Provisioner) compare(ctx context.Context) {
	if err := p.compareOnce(ctx); err != nil && ctx.Err() == nil {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot compare with the driver", slog.Any("error", err))
	}
}

func (p *Provisioner) compareOnce(ctx context.Context) error {
	// Until the next one is due: a machine that somebody holds on to, or a dead
	// connection, must not be the end of all comparisons.
	ctx, cancel := context.WithTimeout(ctx, max(p.cfg.Compare, resultTimeout))
	defer cancel()
	listed, err := p.driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list machines: %w", err)
	}
	machines := make(map[api.ID]driver.Machine, len(listed))
	for _, m := range listed {
		machines[m.ID] = m
	}
	if err := p.compareLive(ctx, machines); err != nil {
		return err
	}
	return p.compareRest(ctx, slices.Collect(maps.Keys(machines)))
}

// compareLive goes through the rows of machines that should be, and takes
// those machines out of the map.
func (p *Provisioner) compareLive(ctx context.Context, machines map[api.ID]driver.Machine) error {
	var after api.ID
	for {
		var rows []models.OwlCVM
		err := p.cfg.DB.WithContext(ctx).Raw(`SELECT id, generation, power, status, due_at FROM cvms
			WHERE id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?`, after, comparePage).Find(&rows).Error
		if err != nil {
			return fmt.Errorf("read live CVMs: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		after = rows[len(rows)-1].ID
		if err := p.applyAgain(ctx, differing(rows, machines)); err != nil {
			return err
		}
	}
}

// differing returns the rows at rest whose machine is not what they say.
func differing(rows []models.OwlCVM, machines map[api.ID]driver.Machine) (claims [][]any) {
	for _, row := range rows {
		m, ok := machines[row.ID]
		delete(machines, row.ID)
		same := ok && m.Generation == row.Generation && m.Power == row.Power
		if row.DueAt == nil && row.Status != api.StatusFailed && !same {
			claims = append(claims, []any{row.ID, row.Generation})
		}
	}
	return claims
}

func (p *Provisioner) applyAgain(ctx context.Context, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	var applied int64
	err := faultpoint.Step("owl.compare", func() error {
		done := p.cfg.DB.WithContext(ctx).Exec(`UPDATE cvms SET due_at = now(), attempts = 0
			WHERE due_at IS NULL AND deleted_at IS NULL AND (id, generation) IN ?`, rows)
		applied += done.RowsAffected
		return done.Error
	})
	if err != nil {
		return fmt.Errorf("make differing CVMs due: %w", err)
	}
	p.metrics.differences.WithLabelValues("applied_again").Add(float64(applied))
	p.machines.signal()
	return nil
}

// compareRest goes through machines that no live row accounts for.
func (p *Provisioner) compareRest(ctx context.Context, ids []api.ID) error {
	unknown := 0
	for page := range slices.Chunk(ids, comparePage) {
		var tombstones []models.OwlCVM
		err := p.cfg.DB.WithContext(ctx).Raw(`SELECT id, deleted_at FROM cvms WHERE id IN ?`, page).Find(&tombstones).Error
		if err != nil {
			return fmt.Errorf("read tombstones: %w", err)
		}
		unknown += len(page) - len(tombstones)
		if err := p.removeDeleted(ctx, tombstones); err != nil {
			return err
		}
	}
	p.metrics.unknown.Set(float64(unknown))
	if unknown > 0 {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "machines that the registry does not know; they are left alone",
			slog.Int("machines", unknown))
	}
	return nil
}

func (p *Provisioner) removeDeleted(ctx context.Context, tombstones []models.OwlCVM) error {
	var all error
	for _, row := range tombstones {
		if row.DeletedAt == nil {
			continue // created or deleted since the page of live rows was read
		}
		if err := p.driver.Remove(ctx, row.ID); err != nil {
			all = errors.Join(all, fmt.Errorf("remove the machine of deleted CVM %s: %w", row.ID, err))
			continue
		}
		p.metrics.differences.WithLabelValues("removed").Inc()
		p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "removed the machine of a deleted CVM", slog.String("cvm_id", row.ID.String()))
	}
	return all
}
