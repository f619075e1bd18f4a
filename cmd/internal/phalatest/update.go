package phalatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// update sends what changed, in the provider's order, and then scales.
func (c *Client) update(ctx context.Context, want App, have State, changed []string) (*State, error) {
	list, err := c.cvms(ctx, have.AppID)
	if err != nil {
		return nil, fmt.Errorf("list CVMs: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("no source CVM")
	}
	for _, step := range []struct {
		attrs []string
		send  func(ctx context.Context, cvm string) error
	}{
		{[]string{attrSize, attrDisk}, func(ctx context.Context, cvm string) error { return c.resize(ctx, cvm, want, changed) }},
		{[]string{attrFlags}, func(ctx context.Context, cvm string) error {
			return c.setFlags(ctx, cvm, want, !slices.Equal(want.envKeys(), have.envKeys()))
		}},
		{[]string{attrImage}, func(ctx context.Context, cvm string) error {
			return c.patch(ctx, call{path: cvmPath(cvm, "os-image")}.json(map[string]any{"os_image_name": want.Image}))
		}},
		{[]string{attrCompose}, func(ctx context.Context, cvm string) error {
			return c.patch(ctx, call{path: cvmPath(cvm, "docker-compose")}.viaTyped().text("text/yaml", want.DockerCompose))
		}},
		{[]string{attrPreLaunch}, func(ctx context.Context, cvm string) error {
			return c.patch(ctx, call{path: cvmPath(cvm, "pre-launch-script")}.viaTyped().text("text/plain", or(want.PreLaunchScript, "")))
		}},
		{[]string{attrEnv}, func(ctx context.Context, cvm string) error { return c.setEnv(ctx, cvm, want) }},
	} {
		if !slices.ContainsFunc(step.attrs, func(a string) bool { return slices.Contains(changed, a) }) {
			continue
		}
		if err := onOne(ctx, have.PrimaryCVMID, list, step.send); err != nil {
			return nil, fmt.Errorf("update %s: %w", step.attrs[0], err)
		}
	}
	if err := c.scale(ctx, have.AppID, want.Replicas); err != nil {
		return nil, err
	}
	if err := c.awaitReady(ctx, have.AppID, want.Replicas); err != nil {
		return nil, err
	}
	have.App = want
	s, err := c.read(ctx, have)
	if err == nil && s == nil {
		err = errors.New("the app that was updated is gone")
	}
	return s, err
}

// onOne sends to the state's primary CVM, and after a 409 that stayed to the next one.
func onOne(ctx context.Context, primary string, list []CVM, send func(ctx context.Context, cvm string) error) error {
	err := send(ctx, primary)
	for _, other := range list {
		if statusOf(err) != http.StatusConflict {
			return err
		}
		if other.uuid() != primary {
			err = send(ctx, other.uuid())
		}
	}
	return err
}

func (c *Client) patch(ctx context.Context, k call) error {
	k.method = http.MethodPatch
	_, err := c.do(ctx, k)
	return err
}

func (c *Client) resize(ctx context.Context, cvm string, want App, changed []string) error {
	body := map[string]any{"allow_restart": 1, "instance_type": nil, "disk_size": nil, "memory": nil, "vcpu": nil}
	if slices.Contains(changed, attrSize) {
		body["instance_type"] = want.Size
	}
	if slices.Contains(changed, attrDisk) {
		body["disk_size"] = want.DiskSize
	}
	return c.patch(ctx, call{path: cvmPath(cvm, "resources")}.viaTyped().json(body))
}

func (c *Client) setFlags(ctx context.Context, cvm string, want App, otherKeys bool) error {
	file, commit := want.composeFile(), map[string]any{}
	if otherKeys {
		file["update_env_vars"], commit["update_env_vars"] = true, true
	}
	body, err := c.do(ctx, call{method: http.MethodPost, path: cvmPath(cvm, "compose_file", "provision")}.json(file))
	if err != nil {
		return fmt.Errorf("provision compose file: %w", err)
	}
	var p struct {
		ComposeHash string `json:"compose_hash"`
	}
	if err := json.Unmarshal(body, &p); err != nil || p.ComposeHash == "" {
		return errors.New("compose update provision did not return compose_hash")
	}
	commit["compose_hash"] = p.ComposeHash
	return c.patch(ctx, call{path: cvmPath(cvm, "compose_file")}.json(commit))
}

func (c *Client) setEnv(ctx context.Context, id string, want App) error {
	cvm, err := c.cvm(ctx, id)
	if err != nil {
		return fmt.Errorf("read public key: %w", err)
	}
	ciphertext, err := want.ciphertext(cvm.pubkey())
	if err != nil {
		return err
	}
	return c.patch(ctx, call{path: cvmPath(id, "envs")}.json(map[string]any{"encrypted_env": ciphertext, "env_keys": want.envKeys()}))
}

// scale adds and removes replicas one by one until the list has n.
func (c *Client) scale(ctx context.Context, app string, n int) error {
	list, err := c.cvms(ctx, app)
	for err == nil && len(list) != n {
		if len(list) == 0 {
			return errors.New("no source CVM")
		}
		have := len(list)
		if have < n {
			list, err = c.addReplica(ctx, app, list)
		} else {
			list, err = c.removeReplica(ctx, app, list)
		}
	}
	if err != nil {
		return fmt.Errorf("scale to %d: %w", n, err)
	}
	return nil
}

func (c *Client) addReplica(ctx context.Context, app string, list []CVM) ([]CVM, error) {
	path := appPath(app, "cvms", primaryOf(list).uuid(), "replicas")
	if _, err := c.do(ctx, call{method: http.MethodPost, path: path}.json(map[string]any{})); err != nil {
		return nil, err
	}
	return c.awaitCount(ctx, app, len(list)+1)
}

func (c *Client) removeReplica(ctx context.Context, app string, list []CVM) ([]CVM, error) {
	if err := c.remove(ctx, list[len(list)-1].uuid()); err != nil {
		return nil, err
	}
	return c.awaitCount(ctx, app, len(list)-1)
}

// remove deletes a CVM; 404 is gone, and fine.
func (c *Client) remove(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: cvmPath(id)}.viaTyped())
	if statusOf(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// destroy deletes every CVM, front to back, and waits until none is left.
func (c *Client) destroy(ctx context.Context, app string) error {
	list, err := c.cvms(ctx, app)
	if statusOf(err) == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list CVMs: %w", err)
	}
	for _, cvm := range list {
		if err := c.remove(ctx, cvm.uuid()); err != nil {
			return fmt.Errorf("delete CVM: %w", err)
		}
	}
	err = c.poll(ctx, countInterval, func(ctx context.Context) (bool, error) {
		list, err := c.cvms(ctx, app)
		if statusOf(err) == http.StatusNotFound {
			return true, nil
		}
		return err == nil && len(list) == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait until the app is gone: %w", err)
	}
	return nil
}
