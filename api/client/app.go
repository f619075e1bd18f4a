package client

import (
	"context"
	"iter"
	"net/http"

	"roost/api"
)

// CreateApp makes an app without CVMs. 201; an IsConflict error of
// api.CodeAppExists names the app that has the name.
func (c *Client) CreateApp(ctx context.Context, req api.CreateApp, opts ...Option) (Result[api.App], error) {
	return mutate[api.App](ctx, c, mutation{method: http.MethodPost, path: "/apps", body: req}, opts)
}

// ScaleApp says how many CVMs the app is to have, the first included (1 to
// 100). 202; the operation may have succeeded already if there was nothing to
// do.
func (c *Client) ScaleApp(ctx context.Context, app api.ID, count int, opts ...Option) (Result[api.CVMs], error) {
	n := int64(count)
	return mutate[api.CVMs](ctx, c, mutation{
		method: http.MethodPut, path: path("/apps/%s/replicas", app.String()), body: api.ScaleApp{Count: &n},
	}, opts)
}

// App reads one app with its CVMs.
func (c *Client) App(ctx context.Context, id api.ID) (api.App, error) {
	return read[api.App](ctx, c, call{path: path("/apps/%s", id.String())})
}

// AppCVMs reads an app's CVMs in the order in which they were accepted.
func (c *Client) AppCVMs(ctx context.Context, app api.ID) ([]api.CVM, error) {
	return read[[]api.CVM](ctx, c, call{path: path("/apps/%s/cvms", app.String())})
}

// Apps lists the workspace's apps.
func (c *Client) Apps(ctx context.Context, opts ...ListOption) iter.Seq2[api.App, error] {
	return list[api.App](ctx, c, "/apps", opts)
}
