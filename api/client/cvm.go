package client

import (
	"context"
	"iter"
	"net/http"

	"roost/api"
)

// Provision reserves what a CommitCVM needs, and starts nothing. 200.
func (c *Client) Provision(ctx context.Context, spec api.Spec, opts ...Option) (Result[api.Provision], error) {
	return mutate[api.Provision](ctx, c, mutation{method: http.MethodPost, path: "/cvms/provision", body: spec}, opts)
}

// CreateCVM makes an app of this name, if it is new, and its first CVM. 202;
// an IsConflict error of api.CodeAppExists names the app and the CVM that are
// there with another configuration.
func (c *Client) CreateCVM(ctx context.Context, spec api.Spec, opts ...Option) (Result[api.CVM], error) {
	return mutate[api.CVM](ctx, c, mutation{method: http.MethodPost, path: "/cvms", body: spec}, opts)
}

// Commit names the provision that becomes a CVM, and what is encrypted for it.
type Commit struct {
	AppID       api.ID `json:"app_id"`
	ComposeHash string `json:"compose_hash"`

	EncryptedEnv    *string  `json:"encrypted_env,omitempty"` // ciphertext for the machine, hex
	EnvKeys         []string `json:"env_keys,omitempty"`
	KMSID           *string  `json:"kms_id,omitempty"`
	ContractAddress *string  `json:"contract_address,omitempty"`
	DeployerAddress *string  `json:"deployer_address,omitempty"`
}

// CommitCVM makes the CVM that was provisioned. 202; api.CodeProvisionNotFound
// if it never was, was used up, or has expired.
func (c *Client) CommitCVM(ctx context.Context, commit Commit, opts ...Option) (Result[api.CVM], error) {
	return mutate[api.CVM](ctx, c, mutation{method: http.MethodPost, path: "/cvms", body: commit}, opts)
}

// Replicate makes one copy of a CVM; its name is the source's if it is "". 202.
func (c *Client) Replicate(ctx context.Context, app, source api.ID, name string, opts ...Option) (Result[api.CVM], error) {
	var body api.CreateReplicas
	if name != "" {
		body.Name = &name
	}
	return mutate[api.CVM](ctx, c, mutation{method: http.MethodPost, path: replicas(app, source), body: body}, opts)
}

// ReplicateMany makes count copies of a CVM (1 to 100) as one operation: all
// of them, or none. 202.
func (c *Client) ReplicateMany(ctx context.Context, app, source api.ID, count int, opts ...Option) (Result[api.CVMs], error) {
	n := int64(count)
	return mutate[api.CVMs](ctx, c, mutation{
		method: http.MethodPost, path: replicas(app, source), body: api.CreateReplicas{Count: &n},
	}, opts)
}

func replicas(app, source api.ID) string {
	return path("/apps/%s/cvms/%s/replicas", app.String(), source.String())
}

// StartCVM asks for a running machine. 202.
func (c *Client) StartCVM(ctx context.Context, id api.ID, opts ...Option) (Result[api.CVM], error) {
	return c.power(ctx, id, "start", opts)
}

// StopCVM asks for a stopped machine. 202.
func (c *Client) StopCVM(ctx context.Context, id api.ID, opts ...Option) (Result[api.CVM], error) {
	return c.power(ctx, id, "stop", opts)
}

// RestartCVM restarts the machine once, or starts it. 202.
func (c *Client) RestartCVM(ctx context.Context, id api.ID, opts ...Option) (Result[api.CVM], error) {
	return c.power(ctx, id, "restart", opts)
}

func (c *Client) power(ctx context.Context, id api.ID, action string, opts []Option) (Result[api.CVM], error) {
	return mutate[api.CVM](ctx, c, mutation{method: http.MethodPost, path: path("/cvms/%s/%s", id.String(), action)}, opts)
}

// UpdateCVM changes what the patch names; the rest stays as it is. 202.
func (c *Client) UpdateCVM(ctx context.Context, id api.ID, patch api.PatchCVM, opts ...Option) (Result[api.CVM], error) {
	return mutate[api.CVM](ctx, c, mutation{method: http.MethodPatch, path: path("/cvms/%s", id.String()), body: patch}, opts)
}

// UpdateEnvs changes the environment of every CVM of the app that the CVM
// belongs to: all of them, or none. What is nil stays. 202; Items are those
// that change. Another ciphertext is another environment, though it is not
// compared under a key.
func (c *Client) UpdateEnvs(ctx context.Context, id api.ID, envs api.ChangeEnvs, opts ...Option) (Result[api.CVMs], error) {
	return mutate[api.CVMs](ctx, c, mutation{method: http.MethodPatch, path: path("/cvms/%s/envs", id.String()), body: envs}, opts)
}

// DeleteCVM asks for the end of a CVM and of its firewall rules. 202, also
// while it is deleting.
//
// Gone is gone: to hear 410 is a success, with Status 410 and a Value that holds
// no more than ID, status and deleted_at. It may have been an attempt of this
// very call whose answer was lost, or which the network doubled; nobody can
// tell that from somebody else's deletion, and nobody needs to. What never was
// is an IsNotFound error.
func (c *Client) DeleteCVM(ctx context.Context, id api.ID, opts ...Option) (Result[api.CVM], error) {
	var gone *api.CVM
	r, err := mutate[api.CVM](ctx, c, mutation{
		method: http.MethodDelete, path: path("/cvms/%s", id.String()),
		gone: func(p api.Problem) {
			gone = &api.CVM{VMUUID: id, ID: id, Status: api.StatusDeleted, DeletedAt: p.DeletedAt}
		},
	}, opts)
	if gone != nil {
		r.Value = *gone
	}
	return r, err
}

// CVM reads one CVM. An IsGone error carries DeletedAt.
func (c *Client) CVM(ctx context.Context, id api.ID) (api.CVM, error) {
	return read[api.CVM](ctx, c, call{path: path("/cvms/%s", id.String())})
}

// DockerCompose reads the compose file of a CVM, as it was given.
func (c *Client) DockerCompose(ctx context.Context, id api.ID) (string, error) {
	var text string
	_, err := read[string](ctx, c, call{
		path:   path("/cvms/%s", id.String()) + "/docker-compose.yml",
		decode: func(body []byte) error { text = string(body); return nil },
	})
	return text, err
}

// CVMs lists the workspace's CVMs, replicas included.
func (c *Client) CVMs(ctx context.Context, opts ...ListOption) iter.Seq2[api.CVM, error] {
	return list[api.CVM](ctx, c, "/cvms", opts)
}

// InstanceTypes reads the sizes that there are, smallest first.
func (c *Client) InstanceTypes(ctx context.Context) ([]api.InstanceType, error) {
	page, err := readPage[api.InstanceType](ctx, c, call{path: "/instance-types"})
	return page.Items, err
}
