package phalatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// composeFile is what a provision carries; what is not set is null or absent
// as the provider has it.
func (a App) composeFile() map[string]any {
	file := map[string]any{
		"name": a.Name, "docker_compose_file": a.DockerCompose, "pre_launch_script": a.PreLaunchScript,
		"bash_script": nil, "default_gateway_domain": nil, "init_script": nil, "salt": nil,
	}
	if a.StorageFS != nil {
		file["storage_fs"] = *a.StorageFS
	}
	maps.Copy(file, a.flags().set())
	if keys := a.envKeys(); len(keys) > 0 {
		file["allowed_envs"] = keys
	}
	return file
}

func (f flags) set() map[string]any {
	out := map[string]any{}
	for name, value := range map[string]*bool{
		"public_logs": f.PublicLogs, "public_sysinfo": f.PublicSysinfo, "public_tcbinfo": f.PublicTCBInfo,
		"gateway_enabled": f.GatewayEnabled, "secure_time": f.SecureTime,
	} {
		if value != nil {
			out[name] = *value
		}
	}
	return out
}

func (a App) envKeys() []string {
	if a.Env != nil {
		return slices.Sorted(maps.Keys(a.Env))
	}
	return a.EnvKeys
}

type provisioned struct {
	AppID               string `json:"app_id"`
	ComposeHash         string `json:"compose_hash"`
	AppEnvEncryptPubkey string `json:"app_env_encrypt_pubkey"`
}

// provision is the first step of a create, and all of data.phala_app_preflight.
func (c *Client) provision(ctx context.Context, a App) (provisioned, error) {
	var userConfig *string
	if len(a.SSHAuthorizedKeys) > 0 {
		raw, _ := json.Marshal(map[string]any{"ssh_authorized_keys": a.SSHAuthorizedKeys}) //nolint:errchkjson // strings always encode
		text := string(raw)
		userConfig = &text
	}
	body, err := c.do(ctx, call{method: http.MethodPost, path: "/cvms/provision"}.viaTyped().json(map[string]any{
		"name": a.Name, "instance_type": a.Size, "kms": "PHALA", "listed": a.Listed, "compose_file": a.composeFile(),
		"region": a.Region, "image": a.Image, "disk_size": a.DiskSize, "teepod_id": nil, "app_id": nil, "nonce": nil,
		"user_config": userConfig, "vcpu": nil, "memory": nil, "ports": nil, "prefer_dev": nil, "kms_id": nil,
		"encrypted_env": nil, "experimental_vpc_server_app_id": nil,
	}))
	if err != nil {
		return provisioned{}, fmt.Errorf("provision: %w", err)
	}
	var p provisioned
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("decode provision: %w", err)
	}
	if p.AppID == "" || p.ComposeHash == "" {
		return p, errors.New("the provision has no app_id or no compose_hash")
	}
	return p, nil
}

// Preflight is data.phala_app_preflight: it runs on every plan.
func (c *Client) Preflight(ctx context.Context, a App) (appID, composeHash string, err error) {
	p, err := c.provision(ctx, a)
	return p.AppID, p.ComposeHash, err
}

// commit makes the first CVM and returns its IDs.
func (c *Client) commit(ctx context.Context, a App, p provisioned) (appID, vmUUID string, err error) {
	ciphertext, err := a.ciphertext(p.AppEnvEncryptPubkey)
	if err != nil {
		return "", "", err
	}
	body, err := c.do(ctx, call{method: http.MethodPost, path: "/cvms", strict: true}.viaTyped().json(map[string]any{
		"app_id": p.AppID, "compose_hash": p.ComposeHash, "encrypted_env": ciphertext, "env_keys": a.envKeys(),
		"kms_id": nil, "contract_address": nil, "deployer_address": nil,
	}))
	if err != nil {
		return "", "", fmt.Errorf("create the first CVM: %w", err)
	}
	var made struct {
		VMUUID string `json:"vm_uuid"`
		AppID  string `json:"app_id"`
	}
	_ = json.Unmarshal(body, &made) // both are optional
	if made.AppID == "" {
		made.AppID = p.AppID
	}
	return made.AppID, made.VMUUID, nil
}

// create returns the state that an apply writes, or none.
func (c *Client) create(ctx context.Context, a App) (*State, error) {
	p, err := c.provision(ctx, a)
	if err != nil {
		return nil, err
	}
	appID, _, err := c.commit(ctx, a, p)
	if err != nil {
		return nil, err
	}
	if a.Replicas > 1 {
		if err := c.scale(ctx, appID, a.Replicas); err != nil {
			return nil, err
		}
	}
	if err := c.awaitReady(ctx, appID, a.Replicas); err != nil {
		return nil, err
	}
	s, err := c.read(ctx, State{App: a, AppID: appID})
	if err == nil && s == nil {
		err = errors.New("the app that was made is gone")
	}
	return s, err
}
