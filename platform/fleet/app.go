package fleet

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/models"
	"roost/platform/idempotency"
)

// CreateApp makes an app that shows even without CVMs. The name of an app that
// shows is taken: CodeAppExists with its ID. A name that is only reserved (by
// a provision, or by an app whose CVMs are gone) becomes this app, under the ID
// that it has: a workspace has one app per name, for ever.
func (f *Fleet) CreateApp(ctx context.Context, call Call, req api.CreateApp) (Answer, error) {
	draft, err := f.draftApp(call.Workspace, req.Name)
	if err != nil {
		return Answer{}, err
	}
	return f.accept(ctx, call, plan{
		members:  func() (map[string]string, error) { return idempotency.Members(req, api.CreateApp{}) },
		expected: idempotency.Result{Status: http.StatusCreated, ResourceID: draft.ID},
		work: func(tx *gorm.DB, again bool) (done, error) {
			app, err := takeAppByName(tx, draft, 0)
			if err != nil {
				return done{}, err
			}
			if err := claimName(tx, app, draft.ID, again); err != nil {
				return done{}, err
			}
			body, err := json.Marshal(appView(app))
			return done{result: idempotency.Result{
				Status: http.StatusCreated, ResourceID: app.ID, Body: body,
			}}, err
		},
	})
}

// claimName makes a locked app explicit, unless it shows already. After an
// unknown commit the app that shows may be ours: it has the ID we minted.
func claimName(tx *gorm.DB, app models.App, minted api.ID, again bool) error {
	if again && app.ID == minted && app.Explicit {
		return nil
	}
	visible, err := appVisible(tx, app)
	if err != nil {
		return err
	}
	if visible {
		return &api.Error{
			Code: api.CodeAppExists, AppID: &app.ID,
			Detail: "the workspace has an app named " + app.Name + " (app_id " + app.ID.String() + "). Nothing was done: use that one, or another name.",
		}
	}
	if err := tx.Exec(`UPDATE apps SET explicit = true WHERE id = ?`, app.ID).Error; err != nil {
		return fmt.Errorf("make app explicit: %w", err)
	}
	return nil
}

// App reads one app with its CVMs. An app that only a provision has reserved
// was never there (CodeNotFound); one whose CVMs are all gone is deleted
// (CodeResourceDeleted).
func (f *Fleet) App(ctx context.Context, workspace, id api.ID) (api.App, error) {
	db := f.db.WithContext(ctx)
	app, err := visibleApp(db, workspace, id)
	if err != nil {
		return api.App{}, err
	}
	view := appView(app)
	view.CVMs, err = viewCVMs(db, nil, pick{where: "app_id = ? AND deleted_at IS NULL", args: []any{id}})
	return view, err
}

// AppCVMs lists an app's CVMs in the order in which they were accepted, those
// being deleted included.
func (f *Fleet) AppCVMs(ctx context.Context, workspace, id api.ID) ([]api.CVM, error) {
	app, err := f.App(ctx, workspace, id)
	return app.CVMs, err
}

// Apps is one page of the workspace's apps that show.
func (f *Fleet) Apps(ctx context.Context, workspace api.ID, page Page) (api.Page[api.App], error) {
	after, err := page.afterID()
	if err != nil {
		return api.Page[api.App]{}, err
	}
	var apps []models.App
	err = f.db.WithContext(ctx).Raw(`SELECT * FROM apps a WHERE workspace_id = ? AND id > ?
		AND (explicit OR EXISTS (SELECT 1 FROM cvms c WHERE c.app_id = a.id AND c.deleted_at IS NULL))
		ORDER BY id LIMIT ?`, workspace, after, page.Limit+1).Find(&apps).Error
	if err != nil {
		return api.Page[api.App]{}, fmt.Errorf("list apps: %w", err)
	}
	views := make([]api.App, len(apps))
	for i, app := range apps {
		views[i] = appView(app)
	}
	return cut(views, page.Limit, func(a api.App) string { return a.ID.String() }), nil
}

func visibleApp(db *gorm.DB, workspace, id api.ID) (models.App, error) {
	var app models.App
	err := db.Where("workspace_id = ? AND id = ?", workspace, id).Take(&app).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return app, notFound("app", id)
	}
	if err != nil {
		return app, fmt.Errorf("read app: %w", err)
	}
	if visible, err := appVisible(db, app); err != nil || visible {
		return app, err
	}
	var last []models.CVM
	err = db.Raw(`SELECT deleted_at FROM cvms WHERE app_id = ? ORDER BY deleted_at DESC LIMIT 1`, id).Find(&last).Error
	if err != nil {
		return app, fmt.Errorf("read end of app: %w", err)
	}
	if len(last) == 0 {
		return app, notFound("app", id)
	}
	return app, deleted("app", id, *last[0].DeletedAt)
}

func appVisible(tx *gorm.DB, app models.App) (bool, error) {
	if app.Explicit {
		return true, nil
	}
	var found []models.CVM
	err := tx.Raw(`SELECT id FROM cvms WHERE app_id = ? AND deleted_at IS NULL LIMIT 1`, app.ID).Find(&found).Error
	if err != nil {
		return false, fmt.Errorf("look for CVMs of app: %w", err)
	}
	return len(found) > 0, nil
}

// draftApp is the row that a new name gets.
func (f *Fleet) draftApp(workspace api.ID, name string) (models.App, error) {
	// Only the public half is ours to publish. The private half belongs to the
	// key service of the machines' side; the sim has none, so nobody keeps it.
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return models.App{}, fmt.Errorf("make app key: %w", err)
	}
	return models.App{
		ID: f.cfg.Minter.ID(), WorkspaceID: workspace, Name: name,
		EnvPubkey: hex.EncodeToString(key.PublicKey().Bytes()),
	}, nil
}

// takeAppByName locks the app of this name, which it makes from the draft if
// it is new, and sets n ordinals aside: LastOrdinal is the last of them.
func takeAppByName(tx *gorm.DB, draft models.App, n int64) (models.App, error) {
	var app models.App
	err := tx.Raw(`INSERT INTO apps (id, workspace_id, name, explicit, last_ordinal, env_pubkey)
		VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (workspace_id, name) DO UPDATE SET last_ordinal = apps.last_ordinal + excluded.last_ordinal
		RETURNING *`, draft.ID, draft.WorkspaceID, draft.Name, draft.Explicit, n, draft.EnvPubkey).Take(&app).Error
	if err != nil {
		return models.App{}, fmt.Errorf("take app by name: %w", err)
	}
	return app, nil
}

// takeApp is takeAppByName for an app that must exist: CodeNotFound.
func takeApp(tx *gorm.DB, workspace, id api.ID, n int64) (models.App, error) {
	var app models.App
	err := tx.Raw(`UPDATE apps SET last_ordinal = last_ordinal + ? WHERE id = ? AND workspace_id = ? RETURNING *`,
		n, id, workspace).Take(&app).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return models.App{}, notFound("app", id)
	}
	if err != nil {
		return models.App{}, fmt.Errorf("take app: %w", err)
	}
	return app, nil
}

func appView(a models.App) api.App {
	return api.App{
		ID: a.ID, AppID: a.ID, Name: a.Name,
		CreatedAt: api.NewTime(a.CreatedAt), UpdatedAt: api.NewTime(a.UpdatedAt),
	}
}

func notFound(kind string, id api.ID) *api.Error {
	return api.Errorf(api.CodeNotFound, "there is no %s %s in this workspace.", kind, id)
}

func deleted(kind string, id api.ID, at time.Time) *api.Error {
	e := api.Errorf(api.CodeResourceDeleted, "the %s %s was deleted.", kind, id)
	e.DeletedAt = api.NewTimePtr(&at)
	return e
}
