package client

import (
	"context"

	"roost/api"
)

// Identity is whose token this is.
type Identity struct {
	Workspace Workspace
	TokenID   string
	Scope     string // read or write
}

// Workspace is where a token's resources are.
type Workspace struct {
	ID   api.ID
	Name string
}

// WhoAmI reads whose token this is. An IsAuth error: nobody's.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	a, err := read[api.Account](ctx, c, call{path: "/auth/me"})
	return Identity{
		Workspace: Workspace{ID: a.Workspace.ID, Name: a.Workspace.Name}, TokenID: a.User.Username, Scope: a.User.Role,
	}, err
}
