package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
	"roost/models/faultpoint"
)

const (
	// ruleLook is how soon a rule is looked at that Owl has confirmed.
	ruleLook = 50 * time.Millisecond
	// ruleTries is from how many looks on the pauses grow as a backoff's do.
	ruleTries = 20
)

// Firewall rules go the way of CVMs, and it is shorter: they never change, and
// the few there are need neither batches nor a watch. A rule is due from its
// acceptance on and is claimed once its CVM is confirmed:
//
//	POST 201, 200 ─▶ GET until active or failed · DELETE 204, 410 ─▶ done

// ruleLoop claims and pushes due rules until ctx ends.
func (r *Reconciler) ruleLoop(ctx context.Context) {
	for rest(ctx, r.lookEvery(ruleLook)) {
		rules, err := r.claimRules(ctx, r.ruleLimit())
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.ErrorContext(ctx, "cannot claim due rules", slog.Any("error", err))
			rest(ctx, dbPause)
			continue
		}
		r.pushRules(context.WithoutCancel(ctx), rules)
	}
}

func (r *Reconciler) ruleLimit() int {
	if r.silence.holds() {
		return 1 // a probe
	}
	return claimLimit
}

// claimedRule is a rule under its fence.
type claimedRule struct {
	models.FirewallRule

	Doomed bool // its CVM failed before it had a machine
}

// claimRules takes due rules as claim takes CVMs. A deletion is due whether or
// not the CVM is confirmed: the tombstone stops a late create.
func (r *Reconciler) claimRules(ctx context.Context, limit int) (rules []claimedRule, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	err = r.hold.Run("claim_rules", func() error {
		return faultpoint.Poll("platform.claim_rules", func() (int, error) {
			rules, err = r.claimDueRules(ctx, limit)
			return len(rules), err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("claim due rules: %w", err)
	}
	return rules, nil
}

func (r *Reconciler) claimDueRules(ctx context.Context, limit int) (rules []claimedRule, err error) {
	err = r.db.WithContext(ctx).Raw(`
		WITH due AS (
			SELECT f.id, NOT c.confirmed AND c.error_code IS NOT NULL AS doomed
			FROM firewall_rules f JOIN cvms c ON c.id = f.cvm_id
			WHERE f.reconcile_after <= now() AND (c.confirmed OR c.error_code IS NOT NULL OR f.deleted_at IS NOT NULL)
			ORDER BY f.reconcile_after LIMIT ? FOR UPDATE OF f SKIP LOCKED
		)
		UPDATE firewall_rules f SET fence = fence + 1, attempts = attempts + 1,
			reconcile_after = now() + ?::bigint * interval '1 microsecond'
		FROM due WHERE f.id = due.id
		RETURNING f.*, due.doomed`, limit, r.cfg.Lease.Microseconds()).Find(&rules).Error
	return rules, err
}

func (r *Reconciler) pushRules(ctx context.Context, rules []claimedRule) {
	var g errgroup.Group
	g.SetLimit(maxCalls)
	for _, rule := range rules {
		g.Go(func() error {
			if err := r.hold.Run("rule", func() error { return r.pushRule(ctx, rule) }); err != nil {
				// It stays claimed until the lease ends, and is pushed again.
				r.cfg.Logger.ErrorContext(ctx, "cannot settle rule",
					slog.String("firewall_rule_id", rule.ID.String()), slog.Any("error", err))
			}
			return nil
		})
	}
	_ = g.Wait() // errors are logged
}

// pushRule does the first thing that is missing and keeps the result.
func (r *Reconciler) pushRule(ctx context.Context, claimed claimedRule) error {
	rule := claimed.FirewallRule
	if rule.DeletedAt != nil {
		return r.deleteRule(ctx, rule)
	}
	if claimed.Doomed {
		return r.settleRule(ctx, rule, ruleResult{status: api.FirewallFailed, failure: &api.ResourceError{
			Code: "CVM_FAILED", Message: "the CVM failed before it had a machine",
		}})
	}
	call, cancel := r.callContext(ctx)
	defer cancel()
	record, err := r.seeRule(call, rule)
	r.silence.heard(err)
	if err == nil {
		return r.settleRule(ctx, rule, sightRule(record))
	}
	answer, ok := errors.AsType[*owlapi.StatusError](err)
	if !ok || judgeCreate(answer.Status) != refused {
		return r.retryRule(ctx, rule, answer)
	}
	failure := refusal(answer.Status, answer.Problem)
	if answer.Status == http.StatusGone {
		failure = ruleDeletedBelow()
	}
	return r.settleRule(ctx, rule, ruleResult{status: api.FirewallFailed, failure: &failure})
}

// callContext is for one call about a rule.
func (r *Reconciler) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(owlapi.WithRequestID(ctx, r.cfg.Minter.RequestID()), r.callTimeout())
}

// seeRule creates the rule, or reads it once it is confirmed.
func (r *Reconciler) seeRule(ctx context.Context, rule models.FirewallRule) (owlapi.FirewallRule, error) {
	create := owlapi.CreateFirewallRule{
		ID: rule.ID, CVMID: rule.CVMID, CIDR: rule.CIDR, Protocol: string(rule.Protocol), Port: rule.Port,
	}
	if !rule.Confirmed {
		record, _, err := r.cfg.Owl.CreateFirewallRule(ctx, create)
		return record, err
	}
	records, err := r.cfg.Owl.FirewallRules(ctx, owlapi.List{IDs: []api.ID{rule.ID}})
	if err != nil || len(records) == 1 {
		return first(records), err
	}
	record, _, err := r.cfg.Owl.CreateFirewallRule(ctx, create) // Owl has lost it
	return record, err
}

func first(records []owlapi.FirewallRule) owlapi.FirewallRule {
	if len(records) == 0 {
		return owlapi.FirewallRule{}
	}
	return records[0]
}

// ruleResult is what a push showed.
type ruleResult struct {
	status  api.FirewallStatus // "": nothing that the contract knows
	failure *api.ResourceError
}

func sightRule(record owlapi.FirewallRule) ruleResult {
	if record.Deleted() {
		failure := ruleDeletedBelow()
		return ruleResult{status: api.FirewallFailed, failure: &failure}
	}
	return ruleResult{status: api.FirewallStatus(record.Status), failure: record.Error}
}

// settleRule keeps a result under the fence that the rule was claimed with. A
// rule that was deleted meanwhile stays due.
func (r *Reconciler) settleRule(ctx context.Context, rule models.FirewallRule, res ruleResult) error {
	if res.status == "" {
		return r.retryRule(ctx, rule, nil)
	}
	var code, message *string
	if res.failure != nil {
		code, message = &res.failure.Code, &res.failure.Message
	}
	return r.updateRule(ctx, rule, `confirmed = true, status = ?, error_code = ?, error_message = ?,
		reconcile_after = CASE WHEN deleted_at IS NOT NULL THEN now() WHEN ? THEN NULL
			ELSE now() + LEAST(?::bigint, ?::bigint * power(2, LEAST(GREATEST(attempts - ?, 0), ?))) * interval '1 microsecond' END`,
		res.status, code, message, res.status != api.FirewallPending,
		r.cfg.BackoffMax.Microseconds(), ruleLook.Microseconds(), ruleTries, maxDoublings)
}

// retryRule leaves a rule due after an unknown outcome; answer is nil if there
// was none.
func (r *Reconciler) retryRule(ctx context.Context, rule models.FirewallRule, answer *owlapi.StatusError) error {
	var asked time.Duration
	if answer != nil {
		asked = answer.RetryAfter
	}
	set, args := r.backoff(asked)
	return r.updateRule(ctx, rule, set, args...)
}

func (r *Reconciler) deleteRule(ctx context.Context, rule models.FirewallRule) error {
	call, cancel := r.callContext(ctx)
	defer cancel()
	err := r.cfg.Owl.DeleteFirewallRule(call, rule.ID)
	r.silence.heard(err)
	answer, ok := errors.AsType[*owlapi.StatusError](err)
	if err == nil || ok && judgeDelete(answer.Status) == deletionConfirmed {
		return r.updateRule(ctx, rule, `reconcile_after = NULL`)
	}
	return r.retryRule(ctx, rule, answer)
}

func (r *Reconciler) updateRule(ctx context.Context, rule models.FirewallRule, set string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return faultpoint.Step("platform.settle_rule", func() error {
		res := r.db.WithContext(ctx).Exec(`UPDATE firewall_rules SET `+set+`, updated_at = clock_timestamp() WHERE id = ? AND fence = ?`,
			append(args, rule.ID, rule.Fence)...)
		if res.Error != nil {
			return fmt.Errorf("settle rule %s: %w", rule.ID, res.Error)
		}
		if res.RowsAffected == 0 {
			r.metrics.stale.Inc()
		}
		return nil
	})
}
