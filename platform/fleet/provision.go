package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// Provision reserves a name and keeps a spec under its compose_hash until it
// is committed or expires. It starts nothing, and doing it again changes
// nothing but the expiry: the same name has the same app_id, for ever.
func (f *Fleet) Provision(ctx context.Context, call Call, spec api.Spec) (Answer, error) {
	draft, err := f.draftApp(call.Workspace, spec.Name)
	if err != nil {
		return Answer{}, err
	}
	row, hash, err := f.draftSpec(call.Workspace, spec)
	if err != nil {
		return Answer{}, err
	}
	return f.accept(ctx, call, plan{
		members:  func() (map[string]string, error) { return specMembers(spec) },
		natural:  true,
		expected: idempotency.Result{Status: http.StatusOK, ResourceID: draft.ID},
		work: func(tx *gorm.DB, _ bool) (done, error) {
			app, err := takeAppByName(tx, draft, 0)
			if err != nil {
				return done{}, err
			}
			provision, err := f.keepProvision(tx, app.ID, hash, row)
			if err != nil {
				return done{}, err
			}
			body, err := json.Marshal(api.Provision{
				AppID: app.ID, ComposeHash: hash, InstanceType: spec.InstanceType,
				AppEnvEncryptPubkey: app.EnvPubkey, ExpiresAt: api.NewTime(provision.ExpiresAt),
			})
			return done{result: idempotency.Result{Status: http.StatusOK, ResourceID: app.ID, Body: body}}, err
		},
	})
}

// keepProvision inserts the provision or renews it, with the spec that came
// last: only its encrypted_env can differ from the one before.
func (f *Fleet) keepProvision(tx *gorm.DB, app api.ID, hash string, spec models.Spec) (models.Provision, error) {
	// Clients provision on every plan: the spec that this one replaces must go.
	if err := tx.Exec(`DELETE FROM specs WHERE id =
		(SELECT spec_id FROM provisions WHERE app_id = ? AND compose_hash = ?)`, app, hash).Error; err != nil {
		return models.Provision{}, fmt.Errorf("delete replaced spec: %w", err)
	}
	if err := insertSpec(tx, spec); err != nil {
		return models.Provision{}, err
	}
	var p models.Provision
	err := tx.Raw(`INSERT INTO provisions (app_id, compose_hash, spec_id, expires_at)
		VALUES (?, ?, ?, clock_timestamp() + ?::bigint * interval '1 microsecond')
		ON CONFLICT (app_id, compose_hash) DO UPDATE SET spec_id = excluded.spec_id, expires_at = excluded.expires_at
		RETURNING *`, app, hash, spec.ID, f.cfg.ProvisionTTL.Microseconds()).Take(&p).Error
	if err != nil {
		return models.Provision{}, fmt.Errorf("keep provision: %w", err)
	}
	return p, nil
}

func provisionNotFound(app api.ID) *api.Error {
	return api.Errorf(api.CodeProvisionNotFound,
		"there is no provision of app %s with this compose_hash in this workspace, or it expired. Nothing was done: provision again.", app)
}

// useProvision takes a provision out and returns its spec, or
// CodeProvisionNotFound. The app's row is locked: two commits cannot both.
func useProvision(tx *gorm.DB, app api.ID, hash string) (api.Spec, error) {
	var p models.Provision
	err := tx.Raw(`DELETE FROM provisions WHERE app_id = ? AND compose_hash = ? AND expires_at > now() RETURNING *`,
		app, hash).Take(&p).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return api.Spec{}, provisionNotFound(app)
	}
	if err != nil {
		return api.Spec{}, fmt.Errorf("use provision: %w", err)
	}
	spec, err := readSpec(tx, p.SpecID)
	if err != nil {
		return api.Spec{}, err
	}
	// The CVM gets a spec row of its own, with the env of the commit; a copy
	// of the ciphertext that nothing refers to must not stay behind.
	if err := tx.Exec(`DELETE FROM specs WHERE id = ?`, p.SpecID).Error; err != nil {
		return api.Spec{}, fmt.Errorf("delete spec of provision: %w", err)
	}
	return spec, nil
}

// specMembers is the fingerprint of a spec. encrypted_env is left out:
// clients encrypt anew each time.
func specMembers(s api.Spec) (map[string]string, error) {
	full := s.WithDefaults()
	full.EncryptedEnv = nil
	return idempotency.Members(full, s.Defaults())
}
