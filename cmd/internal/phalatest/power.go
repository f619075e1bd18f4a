package phalatest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Power is phala_cvm_power: it brings a CVM to "running" or "stopped" and
// waits. Destroying the resource makes no call at all.
func (c *Client) Power(ctx context.Context, id, state string) error {
	cvm, err := c.cvm(ctx, id)
	if err != nil {
		return fmt.Errorf("read CVM: %w", err)
	}
	if verb := verbTo(state, cvm.status()); verb != "" {
		k := call{method: http.MethodPost, path: cvmPath(id, verb), strict: true}.viaTyped().json(map[string]any{"polling": "v1"})
		if _, err := c.do(ctx, k); err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	if _, err := c.cvm(ctx, id); err != nil {
		return fmt.Errorf("read CVM: %w", err)
	}
	err = c.poll(ctx, readyInterval, func(ctx context.Context) (bool, error) {
		cvm, err := c.cvm(ctx, id)
		return err == nil && cvm.status() == state && !cvm.busy(), err
	})
	if err != nil {
		return fmt.Errorf("wait until it is %s: %w", state, err)
	}
	_, err = c.PowerState(ctx, id)
	return err
}

// verbTo is what to ask for: nothing where the CVM is there or on its way.
func verbTo(state, status string) string {
	if state == "stopped" {
		if strings.HasPrefix(status, "stop") || strings.HasPrefix(status, "shut") {
			return ""
		}
		return "stop"
	}
	if status == "running" || strings.HasPrefix(status, "start") {
		return ""
	}
	return "start"
}

// PowerState reads it; "" is gone.
func (c *Client) PowerState(ctx context.Context, id string) (string, error) {
	cvm, err := c.cvm(ctx, id)
	if statusOf(err) == http.StatusNotFound {
		return "", nil
	}
	return cvm.status(), err
}
