package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"roost/api"
	"roost/models/faultpoint"
	"roost/models/pg"
)

// DeleteCVM makes the ID a tombstone, whether it was ever seen or not, and
// its rules with it. It answers GONE if it was one already.
func (r *Registry) DeleteCVM(ctx context.Context, id api.ID) error {
	var fresh bool
	err := faultpoint.Step("owl.tombstone", func() error {
		return pg.InTx(ctx, r.db, func(tx *gorm.DB) (err error) {
			if fresh, err = buryCVM(tx, id); err == nil && fresh {
				err = buryRulesOf(tx, id)
			}
			faultpoint.Hit("owl.tombstone.commit")
			return err
		})
	})
	if err != nil {
		return coded("delete CVM", err)
	}
	if !fresh {
		_, err := r.CVM(ctx, id)
		return deletedBefore("CVM", id, err)
	}
	r.wake()
	return nil
}

// buryCVM is one statement: update-then-insert would race a late POST. Of the
// rows that it could touch it touches only one that is alive.
func buryCVM(tx *gorm.DB, id api.ID) (fresh bool, err error) {
	done := tx.Exec(`INSERT INTO cvms
			(id, app_id, name, create_digests, generation, power, spec, status, due_at, delete_requested_at)
		VALUES (?, ?, '', '{}', 0, 'stopped', '{}', ?, now(), now())
		ON CONFLICT (id) DO UPDATE SET
			status = excluded.status, error_code = NULL, error_message = NULL,
			due_at = now(), attempts = 0, updated_at = clock_timestamp(), delete_requested_at = now()
		WHERE cvms.delete_requested_at IS NULL`, id, api.ID{}, api.StatusDeleting)
	if done.Error != nil {
		return false, fmt.Errorf("bury CVM: %w", done.Error)
	}
	return done.RowsAffected == 1, nil
}

// buryRulesOf runs under the CVM's row lock, which every insert of a rule
// takes first. The rules end with the machine, so nothing is due for them.
func buryRulesOf(tx *gorm.DB, cvmID api.ID) error {
	err := tx.Exec(`UPDATE firewall_rules
		SET due_at = NULL, updated_at = clock_timestamp(), delete_requested_at = now()
		WHERE cvm_id = ? AND delete_requested_at IS NULL`, cvmID).Error
	if err != nil {
		return fmt.Errorf("bury the CVM's firewall rules: %w", err)
	}
	return nil
}

// deletedBefore is the 410 of a repeated deletion, from what reading the
// record answered: GONE, or NOT_FOUND if it was reaped since.
func deletedBefore(what string, id api.ID, read error) error {
	var known *api.Error
	if errors.As(read, &known) && known.Code == api.CodeNotFound {
		return api.Errorf(api.CodeGone, "%s %s was deleted, for good.", what, id)
	}
	return read
}

// DeleteFirewallRule is DeleteCVM for a rule. One that was never seen has no
// machine to be taken from: its tombstone is complete at once.
func (r *Registry) DeleteFirewallRule(ctx context.Context, id api.ID) error {
	var fresh bool
	err := faultpoint.Step("owl.tombstone_rule", func() error {
		done := r.db.WithContext(ctx).Exec(`INSERT INTO firewall_rules
				(id, cvm_id, cidr, protocol, create_digests, status, delete_requested_at, deleted_at)
			VALUES (?, ?, '', '', '{}', '', now(), now())
			ON CONFLICT (id) DO UPDATE SET
				due_at = now(), attempts = 0, updated_at = clock_timestamp(), delete_requested_at = now()
			WHERE firewall_rules.delete_requested_at IS NULL`, id, api.ID{})
		fresh = done.RowsAffected == 1
		return done.Error
	})
	if err != nil {
		return coded("delete firewall rule", fmt.Errorf("bury firewall rule: %w", err))
	}
	if !fresh {
		_, err := r.FirewallRule(ctx, id)
		return deletedBefore("firewall rule", id, err)
	}
	r.wake()
	return nil
}

// Reap forgets tombstones whose deletion was confirmed longer than ttl ago, at
// most limit of each kind, and returns how many. ttl must be far longer than
// any create can be delayed.
func (r *Registry) Reap(ctx context.Context, ttl time.Duration, limit int) (int64, error) {
	var reaped int64
	for _, table := range []string{"firewall_rules", "cvms"} {
		err := faultpoint.Poll("owl.reap", func() (int, error) {
			done := r.db.WithContext(ctx).Exec(`DELETE FROM `+table+` WHERE id IN (
					SELECT id FROM `+table+` WHERE deleted_at < now() - make_interval(secs => ?)
					ORDER BY deleted_at LIMIT ? FOR UPDATE SKIP LOCKED)`, ttl.Seconds(), limit)
			reaped += done.RowsAffected
			return int(done.RowsAffected), done.Error
		})
		if err != nil {
			return reaped, fmt.Errorf("reap tombstones of %s: %w", table, err)
		}
	}
	return reaped, nil
}
