package client

import "context"

// Identity is whose token this is.
type Identity struct {
	Workspace struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"workspace"`
	Token struct {
		ID    string `json:"id"`
		Scope string `json:"scope"` // read or write
	} `json:"token"`
}

// WhoAmI reads whose token this is. An IsAuth error: nobody's.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	return read[Identity](ctx, c, call{path: "/auth/me"})
}
