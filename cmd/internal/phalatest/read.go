package phalatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// jitter is ± 25 %.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2) //nolint:gosec // no secret
}

// read refreshes a state: nil when the app is gone.
func (c *Client) read(ctx context.Context, old State) (*State, error) {
	s := old
	body, err := c.do(ctx, get(appPath(s.AppID)))
	if statusOf(err) == http.StatusNotFound {
		return nil, nil //nolint:nilnil // gone from the state
	}
	if err != nil {
		return nil, fmt.Errorf("read app: %w", err)
	}
	var app struct {
		AppID *string           `json:"app_id"`
		Name  *string           `json:"name"`
		CVMs  []json.RawMessage `json:"cvms"`
	}
	if err := json.Unmarshal(body, &app); err != nil {
		return nil, fmt.Errorf("decode app: %w", err)
	}
	s.Name = or(app.Name, s.Name)
	list, err := c.listOf(ctx, s.AppID, app.CVMs)
	if statusOf(err) == http.StatusNotFound {
		return nil, nil //nolint:nilnil // gone in between
	}
	if err != nil {
		return nil, err
	}
	if len(list) == 0 { // an app without CVMs shows no drift
		return &s, nil
	}
	primary := primaryOf(list)
	if whole, err := c.cvm(ctx, primary.uuid()); err == nil {
		primary = whole
	} else if errors.Is(err, ErrKilled) {
		return nil, err
	} // else the element of the list is used, in silence
	s.observe(list, primary)
	return &s, c.readScript(ctx, &s)
}

// readScript reads the pre-launch script where one is configured. An error is
// passed over in silence; an empty script is none.
func (c *Client) readScript(ctx context.Context, s *State) error {
	if s.PreLaunchScript == nil {
		return nil
	}
	text, err := c.do(ctx, get(cvmPath(s.PrimaryCVMID, "pre-launch-script")).viaTyped())
	if errors.Is(err, ErrKilled) {
		return err
	}
	if err == nil {
		script := string(text)
		s.PreLaunchScript = &script
		if script == "" {
			s.PreLaunchScript = nil
		}
	}
	return nil
}

// listOf is the CVMs inside an app, or else the extra call.
func (c *Client) listOf(ctx context.Context, app string, inside []json.RawMessage) ([]CVM, error) {
	var list []CVM
	for _, raw := range inside {
		var cvm CVM
		if json.Unmarshal(raw, &cvm) == nil {
			list = append(list, cvm)
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	list, err := c.cvms(ctx, app)
	if err != nil {
		return nil, fmt.Errorf("list CVMs: %w", err)
	}
	return list, nil
}

// Import reads an app that no state knows. The first plan after it replaces
// the real provider's resource, for its kms is never read back.
func (c *Client) Import(ctx context.Context, appID string) (*State, error) {
	s, err := c.read(ctx, State{AppID: appID})
	if err != nil || s == nil {
		return nil, err
	}
	compose, err := c.do(ctx, get(cvmPath(s.PrimaryCVMID, "docker-compose.yml")).viaTyped())
	if err != nil {
		return nil, fmt.Errorf("read compose file: %w", err)
	}
	s.DockerCompose = string(compose)
	return s, nil
}
