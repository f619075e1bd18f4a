package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/models"
)

// AdoptCVM makes of an orphan a CVM like any other, from Owl's record of it:
// its rows are those that Platform would have made, and the machine notices
// nothing, and no other one is made. The CVM is counted against the quota and
// never refused by it: the machine is there. already says that Platform has the
// CVM, by an earlier adoption or in any other way.
//
// What Owl does not know is lost: the app's key pair is a new one, and of the
// operations only one shows, which has succeeded. created_at is Owl's.
//
// Errors: CodeNotFound when it is no orphan, or the workspace is unknown;
// CodeInvalidState when it is to be deleted, or was; CodeAppExists when the
// app's name or its place for a first CVM is taken; CodeInvalidRequest when the
// home is missing or another than the app's, or when Platform could not have
// made the record's spec. Nothing is done then. After CodeUnavailable it is
// safe to repeat.
func (f *Fleet) AdoptCVM(ctx context.Context, record owlapi.CVM, home Home) (already bool, err error) {
	if record.Deleted() {
		return false, deletedAtOwl(record.ID)
	}
	a, err := f.newAdoption(record, home)
	if err != nil {
		return false, err
	}
	return f.adopt(ctx, a.takeOver)
}

// Home is where an orphan's app is to be if Platform does not know the app.
type Home struct {
	Workspace string // its name; "" where Platform knows the app
	// AppName is the app's, where another app has taken the one in Owl's record,
	// which "" stands for. The CVM keeps its own name: Owl compares it.
	AppName string
}

// AdoptFirewallRule is AdoptCVM for a rule, whose CVM Platform must have.
func (f *Fleet) AdoptFirewallRule(ctx context.Context, record owlapi.FirewallRule) (already bool, err error) {
	if record.Deleted() {
		return false, deletedAtOwl(record.ID)
	}
	return f.adopt(ctx, func(tx *gorm.DB) (bool, error) { return takeOverRule(tx, record) })
}

func deletedAtOwl(id api.ID) error {
	return api.Errorf(api.CodeInvalidState, "%s is deleted at Owl, so there is nothing to adopt. Nothing was done; the next sweep forgets it.", id)
}

// Has reports whether Platform has a CVM or a firewall rule of this ID, and
// since when that is deleted.
func (f *Fleet) Has(ctx context.Context, id api.ID) (has bool, deletedAt *time.Time, err error) {
	return known(f.db.WithContext(ctx), id)
}

// adopt runs an adoption, again while its commit is in doubt: the second run
// finds what the first one did.
func (f *Fleet) adopt(ctx context.Context, takeOver func(tx *gorm.DB) (already bool, err error)) (already bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptTimeout)
	defer cancel()
	call := Call{RequestID: f.cfg.Minter.RequestID()}
	_, err = f.runUntilKnown(ctx, call, func(tx *gorm.DB, again bool) (Answer, error) {
		found, err := takeOver(tx)
		already = found && !again
		return Answer{}, err
	})
	if err != nil {
		return false, refusal(err, true)
	}
	return already, nil
}

// adoption is the rows that an adopted CVM gets, minted before the transaction.
type adoption struct {
	record owlapi.CVM
	home   Home

	draft     models.App // its ID is Owl's
	spec      models.Spec
	hash      string
	operation models.Operation
}

func (f *Fleet) newAdoption(record owlapi.CVM, home Home) (a adoption, err error) {
	spec, err := specOfOrphan(record)
	if err != nil {
		return a, err
	}
	name := spec.Name
	if home.AppName != "" {
		name = home.AppName
	}
	if wrong := (api.CreateApp{Name: name}).Validate(); len(wrong) > 0 {
		return a, api.Errorf(api.CodeInvalidRequest, "the app's name %s. Nothing was done: give another --name.", wrong[0].Message)
	}
	a = adoption{record: record, home: home}
	if a.spec, a.hash, err = f.draftSpec(api.ID{}, spec); err != nil {
		return a, err
	}
	if a.draft, err = f.draftApp(api.ID{}, name); err != nil {
		return a, err
	}
	a.draft.ID = record.AppID
	a.operation = models.Operation{
		ID: f.cfg.Minter.OperationID(), RequestID: f.cfg.Minter.RequestID(), Kind: api.KindCVMCreate,
		Status: api.OperationSucceeded, AppID: record.AppID, VMUUID: &record.ID, Generation: record.Generation,
	}
	if record.ReplicaOf != nil {
		a.operation.Kind = api.KindCVMReplicate
	}
	return a, nil
}

// specOfOrphan reads a spec that Platform handed to Owl once. One that it
// could not have handed over would be shown, compared and pushed wrong.
func specOfOrphan(record owlapi.CVM) (spec api.Spec, err error) {
	refuse := func(why string) error {
		return api.Errorf(api.CodeInvalidRequest, "the spec of %s is not one that Platform makes (%s), so it cannot be adopted. "+
			"Nothing was done: delete the orphan, or leave it.", record.ID, why)
	}
	if err := json.Unmarshal(record.Spec, &spec, json.RejectUnknownMembers(true)); err != nil {
		// The error would quote what is wrong, and the spec holds secrets.
		return spec, refuse("it has members that Platform does not know, or of another type")
	}
	var wrong []string
	for _, field := range spec.Validate() {
		wrong = append(wrong, field.Field+" "+field.Message)
	}
	if len(wrong) > 0 {
		return spec, refuse(strings.Join(wrong, ", "))
	}
	return spec, nil
}

// takeOver is the inside of the transaction. The orphan's row is locked first,
// against everybody who decides about it.
func (a adoption) takeOver(tx *gorm.DB) (already bool, err error) {
	already, err = takeOrphan(tx, a.record.ID)
	if err != nil || already {
		return already, err
	}
	app, err := a.takeApp(tx)
	if err != nil {
		return false, err
	}
	if err := a.checkPlace(tx, app); err != nil {
		return false, err
	}
	// Counted and never refused: the machine is there.
	if err := tx.Exec(`UPDATE workspaces SET cvms = cvms + 1 WHERE id = ?`, app.WorkspaceID).Error; err != nil {
		return false, fmt.Errorf("count adopted CVM: %w", err)
	}
	return false, a.insert(tx, app)
}

// takeOrphan locks an orphan and takes it out. already says that Platform has
// a living row of this ID, whatever the orphan's row says.
func takeOrphan(tx *gorm.DB, id api.ID) (already bool, err error) {
	var found []models.Orphan
	if err := tx.Raw(`SELECT * FROM orphans WHERE id = ? FOR UPDATE`, id).Find(&found).Error; err != nil {
		return false, fmt.Errorf("lock orphan: %w", err)
	}
	already, deletedAt, err := known(tx, id)
	if err != nil {
		return false, err
	}
	switch {
	case deletedAt != nil:
		return false, api.Errorf(api.CodeInvalidState, "%s was deleted here at %s, and what was deleted never comes back. "+
			"Nothing was done: delete the orphan.", id, api.NewTime(*deletedAt))
	case len(found) == 0 && !already:
		return false, api.Errorf(api.CodeNotFound, "there is no orphan %s. Nothing was done.", id)
	case !already && found[0].Decision != nil:
		return false, api.Errorf(api.CodeInvalidState, "the orphan %s is to be deleted; that was decided and is not taken back. Nothing was done.", id)
	}
	if err := tx.Exec(`DELETE FROM orphans WHERE id = ?`, id).Error; err != nil {
		return false, fmt.Errorf("take orphan: %w", err)
	}
	return already, nil
}

// known reports whether Platform has a CVM or a rule of this ID, and since
// when that is deleted.
func known(tx *gorm.DB, id api.ID) (has bool, deletedAt *time.Time, err error) {
	var rows []models.CVM // of which only the deletion is read
	err = tx.Raw(`SELECT deleted_at FROM cvms WHERE id = ? UNION ALL SELECT deleted_at FROM firewall_rules WHERE id = ?`, id, id).
		Find(&rows).Error
	if err != nil {
		return false, nil, fmt.Errorf("look for %s: %w", id, err)
	}
	if len(rows) == 0 {
		return false, nil, nil
	}
	return true, rows[0].DeletedAt, nil
}

// takeApp locks the orphan's app, which it makes if it is new here, and sets
// one ordinal aside.
func (a adoption) takeApp(tx *gorm.DB) (models.App, error) {
	app, err := a.lockApp(tx)
	if !errors.Is(err, gorm.ErrRecordNotFound) {
		return app, err
	}
	workspace, err := a.namedWorkspace(tx)
	if err != nil {
		return app, err
	}
	// Made here, or by another adoption at this moment, or the name is taken.
	err = tx.Exec(`INSERT INTO apps (id, workspace_id, name, explicit, env_pubkey, created_at) VALUES (?, ?, ?, false, ?, ?)
		ON CONFLICT DO NOTHING`, a.draft.ID, workspace, a.draft.Name, a.draft.EnvPubkey, a.record.CreatedAt.Time).Error
	if err != nil {
		return app, fmt.Errorf("make app of orphan: %w", err)
	}
	if app, err = a.lockApp(tx); errors.Is(err, gorm.ErrRecordNotFound) {
		return app, api.Errorf(api.CodeAppExists, "the workspace %s has another app named %s, and a name is one app's for ever. "+
			"Nothing was done: give this app (%s) another name with --name NEWNAME, the same one for each of its orphans; "+
			"or name another workspace.", a.home.Workspace, a.draft.Name, a.draft.ID)
	}
	return app, err
}

// lockApp is takeApp for an app that is there: gorm.ErrRecordNotFound.
func (a adoption) lockApp(tx *gorm.DB) (app models.App, err error) {
	err = tx.Raw(`UPDATE apps SET last_ordinal = last_ordinal + 1 WHERE id = ? RETURNING *`, a.record.AppID).Take(&app).Error
	if err != nil {
		return app, fmt.Errorf("take app of orphan: %w", err)
	}
	if a.home.AppName != "" && a.home.AppName != app.Name {
		return app, api.Errorf(api.CodeInvalidRequest, "Platform knows the app %s, as %s, and a name stays. "+
			"Nothing was done: leave --name out.", app.ID, app.Name)
	}
	if a.home.Workspace == "" {
		return app, nil
	}
	workspace, err := a.namedWorkspace(tx)
	if err == nil && workspace != app.WorkspaceID {
		err = api.Errorf(api.CodeInvalidRequest, "the app %s (%s) belongs to another workspace than %s. "+
			"Nothing was done: leave --workspace out.", app.Name, app.ID, a.home.Workspace)
	}
	return app, err
}

func (a adoption) namedWorkspace(tx *gorm.DB) (api.ID, error) {
	if a.home.Workspace == "" {
		return api.ID{}, api.Errorf(api.CodeInvalidRequest, "Platform does not know the app %s (%s), so it cannot tell whose this is. "+
			"Nothing was done: name the workspace with --workspace.", a.record.AppID, a.draft.Name)
	}
	var w models.Workspace
	err := tx.Where("name = ?", a.home.Workspace).Take(&w).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return api.ID{}, api.Errorf(api.CodeNotFound, "there is no workspace %s. Nothing was done: token create makes one.", a.home.Workspace)
	}
	if err != nil {
		return api.ID{}, fmt.Errorf("read workspace: %w", err)
	}
	return w.ID, nil
}

// checkPlace refuses a second first CVM of an app, under the app's lock.
func (a adoption) checkPlace(tx *gorm.DB, app models.App) error {
	if a.record.ReplicaOf != nil {
		return nil
	}
	var first []models.CVM
	err := tx.Raw(`SELECT id FROM cvms WHERE app_id = ? AND replica_of IS NULL AND deleting_at IS NULL`, app.ID).Find(&first).Error
	if err != nil {
		return fmt.Errorf("read first CVM of app: %w", err)
	}
	if len(first) == 0 {
		return nil
	}
	return &api.Error{
		Code: api.CodeAppExists, AppID: &app.ID, VMUUID: &first[0].ID,
		Detail: "the app " + app.Name + " has its first CVM (" + first[0].ID.String() + "), and this one is no replica. " +
			"Nothing was done: delete one of the two.",
	}
}

// insert makes the rows. The CVM is due at once, as every new row: reconcile
// looks at what the machine has come to since the record was read.
func (a adoption) insert(tx *gorm.DB, app models.App) error {
	a.spec.WorkspaceID, a.operation.WorkspaceID = app.WorkspaceID, app.WorkspaceID
	if err := insertSpec(tx, a.spec); err != nil {
		return err
	}
	if err := tx.Create(a.row(app)).Error; err != nil {
		return fmt.Errorf("insert adopted CVM: %w", err)
	}
	if err := tx.Exec(`UPDATE cvms SET created_at = ? WHERE id = ?`, a.record.CreatedAt.Time, a.record.ID).Error; err != nil {
		return fmt.Errorf("date adopted CVM: %w", err)
	}
	return insertOperation(tx, a.operation, nil)
}

func (a adoption) row(app models.App) *models.CVM {
	r := a.record
	row := &models.CVM{
		ID: r.ID, WorkspaceID: app.WorkspaceID, AppID: app.ID, Ordinal: app.LastOrdinal,
		ReplicaOf: r.ReplicaOf, Name: r.Name, CreateSpecID: a.spec.ID,
		SpecID: a.spec.ID, ComposeHash: a.hash, Power: r.Power, RestartID: r.Restart,
		OperationID: a.operation.ID, OperationKind: a.operation.Kind, CreateOperationID: a.operation.ID,
		Generation: r.Generation,
		Confirmed:  true, PushedGeneration: r.Generation, ObservedGeneration: r.ObservedGeneration, OwlStatus: &r.Status,
	}
	if r.Error != nil {
		row.ErrorCode, row.ErrorMessage = &r.Error.Code, &r.Error.Message
	}
	return row
}

func takeOverRule(tx *gorm.DB, record owlapi.FirewallRule) (already bool, err error) {
	already, err = takeOrphan(tx, record.ID)
	if err != nil || already {
		return already, err
	}
	var cvm models.CVM
	err = tx.Select("workspace_id").Where("id = ?", record.CVMID).Take(&cvm).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return false, api.Errorf(api.CodeInvalidState, "the CVM %s of this rule is not Platform's. Nothing was done: adopt that first.", record.CVMID)
	}
	if err != nil {
		return false, fmt.Errorf("read CVM of orphan rule: %w", err)
	}
	if cvm, err = takeCVM(tx, cvm.WorkspaceID, record.CVMID); err != nil {
		return false, err
	}
	if err := actionable(cvm); err != nil {
		return false, err
	}
	err = tx.Exec(`INSERT INTO firewall_rules (id, workspace_id, cvm_id, cidr, protocol, port, status, confirmed, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, true, ?)`,
		record.ID, cvm.WorkspaceID, record.CVMID, record.CIDR, record.Protocol, record.Port, record.Status, record.CreatedAt.Time).Error
	if err != nil {
		return false, fmt.Errorf("insert adopted rule: %w", err)
	}
	return false, nil
}
