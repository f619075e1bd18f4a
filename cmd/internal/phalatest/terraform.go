package phalatest

import (
	"context"
	"errors"
	"fmt"
)

// Terraform is a state file and the client that its applies use.
type Terraform struct {
	Client *Client
	State  *State
}

// errInconsistent is Terraform's own check of what a provider returns.
var errInconsistent = errors.New("provider produced inconsistent result after apply")

// Plan refreshes and returns the attributes that an apply would change:
// nothing for an empty plan, "create" or "destroy" as the one word for those.
// nil is no configuration.
func (t *Terraform) Plan(ctx context.Context, want *App) ([]string, error) {
	have, err := t.refresh(ctx)
	if err != nil {
		return nil, err
	}
	return plan(want, have), nil
}

func plan(want *App, have *State) []string {
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
		return []string{"destroy"}
	case have == nil:
		return []string{"create"}
	}
	return differences(*want, *have)
}

func (t *Terraform) refresh(ctx context.Context) (*State, error) {
	if t.State == nil {
		return nil, nil //nolint:nilnil // nothing is known
	}
	have, err := t.Client.read(ctx, *t.State)
	if err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	return have, nil
}

// Apply makes the configuration so; nil destroys. After an error the state is
// what Terraform would have kept: nothing of a create, what a refresh read of
// all else. A killed client keeps what was there before.
func (t *Terraform) Apply(ctx context.Context, want *App) error {
	have, err := t.refresh(ctx)
	if err != nil {
		return err
	}
	next, err := t.Client.apply(ctx, want, have)
	if errors.Is(err, ErrKilled) {
		return err
	}
	t.State = next
	return err
}

// apply carries a plan out and returns the state after it, also with an error.
func (c *Client) apply(ctx context.Context, want *App, have *State) (*State, error) {
	changed := plan(want, have)
	switch {
	case len(changed) == 0:
		return have, nil
	case want == nil:
		if err := c.destroy(ctx, have.AppID); err != nil {
			return have, err
		}
		return nil, nil //nolint:nilnil // destroyed
	case have == nil:
		return c.make(ctx, *want, nil)
	case replaces(changed):
		if err := c.destroy(ctx, have.AppID); err != nil {
			return have, err
		}
		return c.make(ctx, *want, nil)
	}
	next, err := c.update(ctx, *want, *have, changed)
	if err != nil {
		return have, err
	}
	return consistent(*want, next, have)
}

func (c *Client) make(ctx context.Context, want App, planned *State) (*State, error) {
	next, err := c.create(ctx, want)
	if err != nil {
		return nil, err
	}
	return consistent(want, next, planned)
}

// consistent is what Terraform holds a result against: what was configured,
// and what the plan said of what is computed.
func consistent(want App, next, planned *State) (*State, error) {
	if left := differences(want, *next); len(left) > 0 {
		return next, fmt.Errorf("%w: %v", errInconsistent, left)
	}
	if next.Image == nil {
		return next, fmt.Errorf("%w: image is unknown", errInconsistent)
	}
	if planned == nil {
		return next, nil
	}
	for attr, pair := range map[string][2]string{ // those that are planned to stay
		"app_id": {planned.AppID, next.AppID}, "primary_cvm_id": {planned.PrimaryCVMID, next.PrimaryCVMID},
		"endpoint": {planned.Endpoint, next.Endpoint}, "status": {planned.Status, next.Status},
	} {
		if pair[0] != pair[1] {
			return next, fmt.Errorf("%w: %s", errInconsistent, attr)
		}
	}
	return next, nil
}
