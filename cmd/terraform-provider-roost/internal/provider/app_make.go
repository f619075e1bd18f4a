package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"roost/api"
	"roost/api/client"
)

// want is what an app is to be.
type want struct {
	spec     api.Spec             // what is configured
	whole    api.Spec             // and all else that is planned
	env      *api.ChangeEnvs      // nil: as it is
	replaces func(c api.CVM) bool // whether a dead CVM makes room for another
	replicas int
	texts    texts
}

// foreignError means that the name belongs to an app that this configuration
// did not make.
type foreignError struct {
	name string
	app  api.ID
}

// Error implements error.
func (e *foreignError) Error() string {
	return fmt.Sprintf("the workspace has an app named %s (app_id %s) that no apply of this configuration has made in "+
		"the last hours. Import it (terraform import ADDRESS %s) and it will be changed to what is configured, delete it, or "+
		"choose another name", e.name, e.app, e.app)
}

// first makes the app and its first CVM, or finds what an earlier apply made.
func (p *platform) first(ctx context.Context, spec api.Spec) (cvm api.CVM, found bool, err error) {
	w := wish{namespace: p.namespace, resource: appType, name: spec.Name}
	got, err := p.fulfil(ctx, w, maker{
		send: func(ctx context.Context, key string) (api.ID, bool, error) {
			res, err := p.CreateCVM(ctx, spec, client.WithIdempotencyKey(key))
			return res.Value.VMUUID, res.Replayed, foreign(err, spec.Name)
		},
		alive: p.cvmAlive,
	})
	if err != nil {
		return cvm, false, err
	}
	if cvm, err = p.CVM(ctx, got.id); err != nil {
		return cvm, false, fmt.Errorf("read the first CVM: %w", err)
	}
	ours := true
	if got.replayed {
		ours, err = p.ours(ctx, got.key)
	}
	if err == nil && !ours {
		err = &foreignError{name: spec.Name, app: cvm.AppID}
	}
	if err == nil {
		err = p.oldest(ctx, cvm)
	}
	return cvm, got.replayed, err
}

// oldest checks that the oldest CVM of the app is ours: our first one or, where
// an earlier first one has gone, a copy of that; else our first one is taken
// back. Copies are younger than what they are copied from, so such an app is
// somebody else's whose first CVM has gone.
func (p *platform) oldest(ctx context.Context, first api.CVM) error {
	f, err := p.fleetOf(ctx, first.AppID)
	if err != nil || len(f) == 0 || f[0].VMUUID == first.VMUUID {
		return err
	}
	if ours, err := p.copied(ctx, f[0], first.Name); err != nil || ours {
		return err
	}
	if err := p.remove(ctx, fleet{first}); err != nil {
		return err
	}
	return &foreignError{name: first.Name, app: first.AppID}
}

// copied reports whether a CVM is a replica that we have made, as far as its
// key is still kept.
func (p *platform) copied(ctx context.Context, c api.CVM, app string) (bool, error) {
	w := p.replica(c.AppID, slotOf(app, c.Name))
	for generation := range maxGenerations {
		k, err := p.LookupKey(ctx, w.key(generation))
		if client.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look up who made a replica: %w", err)
		}
		if k.ResourceID != nil && *k.ResourceID == c.VMUUID {
			return true, nil
		}
	}
	return false, nil
}

// replica is the wish for the CVM in a slot of an app.
func (p *platform) replica(app api.ID, slot int) wish {
	return wish{namespace: p.namespace, resource: appType, parent: app.String(), name: strconv.Itoa(slot)}
}

// foreign explains an APP_EXISTS: the app has a CVM of another configuration
// that was not made under our key.
func foreign(err error, name string) error {
	e, ok := asError(err)
	if !ok || e.Code != api.CodeAppExists || e.AppID == nil {
		return err
	}
	return &foreignError{name: name, app: *e.AppID}
}

// converge brings an app from whatever it is to what it is to be. Each of its
// steps looks at what is there first, so it can be cut off anywhere and called
// again. gone are those that were asked to go.
func (p *platform) converge(ctx context.Context, app api.ID, w want) (f, gone fleet, err error) {
	if gone, err = p.bury(ctx, app, w); err != nil {
		return nil, nil, err
	}
	if f, err = p.fleetOf(ctx, app); err != nil {
		return nil, nil, err
	}
	if len(f) == 0 {
		return nil, nil, fmt.Errorf("the app %s has no CVM any more; apply again to make it anew", w.spec.Name)
	}
	surplus := f.surplus(w.replicas)
	if err := p.remove(ctx, surplus); err != nil {
		return nil, nil, err
	}
	if f, err = p.setEnv(ctx, app, f[:len(f)-len(surplus)], w.env); err != nil {
		return nil, nil, err
	}
	if err := p.patch(ctx, f, w); err != nil {
		return nil, nil, err
	}
	if err := p.grow(ctx, app, f, w); err != nil {
		return nil, nil, err
	}
	if f, err = p.fleetOf(ctx, app); err != nil {
		return nil, nil, err
	}
	// A replica that an earlier apply has made can have an older configuration.
	if err := p.patch(ctx, f, w); err != nil {
		return nil, nil, err
	}
	f, err = p.fleetOf(ctx, app)
	return f, append(gone, surplus...), err
}

// bury deletes the dead that are to make room. If nobody else is left, there is
// no CVM to copy, and the first one is made anew, as the app's was.
func (p *platform) bury(ctx context.Context, app api.ID, w want) (gone fleet, err error) {
	f, err := p.fleetOf(ctx, app)
	if err != nil {
		return nil, err
	}
	for _, c := range f {
		if dead(c) && w.replaces(c) {
			gone = append(gone, c)
		}
	}
	if err := p.remove(ctx, gone); err != nil {
		return nil, err
	}
	if len(gone) > 0 && len(gone) == len(f) {
		_, _, err = p.first(ctx, w.whole)
	}
	return gone, err
}

// setEnv gives all CVMs of the app another environment in one request, and
// returns them as they are then. It cannot be seen what they have; the server
// does nothing about one who has it.
func (p *platform) setEnv(ctx context.Context, app api.ID, f fleet, env *api.ChangeEnvs) (fleet, error) {
	if env == nil {
		return f, nil
	}
	named := f.source()
	if _, err := p.UpdateEnvs(ctx, named.VMUUID, *env, client.WithIdempotencyKey(p.changeKey(named, "env", env))); err != nil {
		return nil, fmt.Errorf("change the environment: %w", err)
	}
	return p.fleetOf(ctx, app)
}

// remove asks for the end of CVMs, which may have come already. A deletion
// names its CVM, so however late a copy of the request arrives, it takes no
// other.
func (p *platform) remove(ctx context.Context, f fleet) error {
	for _, c := range f {
		if _, err := p.DeleteCVM(ctx, c.VMUUID); err != nil && !client.IsNotFound(err) {
			return fmt.Errorf("delete CVM %s: %w", c.VMUUID, err)
		}
	}
	return nil
}

// patch changes the CVMs that are not as they should be: the oldest to what is
// asked for, the others to the same, also in what is left open.
func (p *platform) patch(ctx context.Context, f fleet, w want) error {
	spec := w.spec
	if spec.DiskSize == nil {
		largest := f.largestDisk() // none can shrink
		spec.DiskSize = &largest
	}
	for i, c := range f {
		patched, err := p.patchOne(ctx, c, spec, w.texts)
		if err != nil {
			return err
		}
		if i == 0 {
			spec = like(spec, patched)
		}
	}
	return nil
}

func (p *platform) patchOne(ctx context.Context, c api.CVM, spec api.Spec, texts texts) (api.CVM, error) {
	text, err := texts.of(ctx, c)
	if err != nil {
		return c, err
	}
	if fixed := unpatchable(spec, c); len(fixed) > 0 {
		return c, fmt.Errorf("the CVM %s has what cannot be changed in place: %s. Delete it, or import the app and apply again to replace it",
			c.VMUUID, strings.Join(fixed, ", "))
	}
	patch := patchFor(spec, c, text)
	if patch == nil {
		return c, nil
	}
	res, err := p.UpdateCVM(ctx, c.VMUUID, *patch, client.WithIdempotencyKey(p.changeKey(c, "update", patch)))
	if err != nil {
		return c, fmt.Errorf("change CVM %s: %w", c.VMUUID, err)
	}
	return res.Value, nil
}

// changeKey is the key of a change to a CVM that is there. The generation that
// was read before is in it: while nothing has changed the CVM, a repetition is
// the same request, and a late copy of it does nothing; once something has, the
// same change is a new wish.
func (p *platform) changeKey(c api.CVM, action string, body any) string {
	text, err := json.Marshal(body)
	if err != nil {
		text = nil // types of package api can be encoded
	}
	return digest(p.namespace, action, c.VMUUID.String(), strconv.FormatInt(c.Generation, 10), string(text))
}

// grow makes the replicas that are missing, each for a slot of its own.
func (p *platform) grow(ctx context.Context, app api.ID, f fleet, w want) error {
	if len(f) >= w.replicas {
		return nil
	}
	source := f.source().VMUUID
	for _, slot := range f.freeSlots(w.spec.Name, w.replicas-len(f)) {
		name := slotName(w.spec.Name, slot)
		_, err := p.fulfil(ctx, p.replica(app, slot), maker{
			send: func(ctx context.Context, key string) (api.ID, bool, error) {
				res, err := p.Replicate(ctx, app, source, name, client.WithIdempotencyKey(key))
				return res.Value.VMUUID, res.Replayed, err
			},
			alive: p.cvmAlive,
		})
		if err != nil {
			return fmt.Errorf("make replica %s: %w", name, err)
		}
	}
	return nil
}
