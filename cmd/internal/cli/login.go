package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"roost/api/client"
)

func (t *tool) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use: "login", Short: "Keep an endpoint and a token as a context", Args: takes(),
		Long: "Checks a token and keeps it, with its endpoint, as a context, which becomes the current one. The token is\n" +
			"read from stdin; on a terminal it is asked for and not shown. --context names the context; without it,\n" +
			"the endpoint's host does. Contexts are kept in a file that its owner alone can read.",
		Example: "  roost login --endpoint https://roost.example.com\n" +
			"  roost login --endpoint http://127.0.0.1:8080 --context dev < .roost/dev-token",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.flags.check(cmd.Flags()); err != nil {
				return err
			}
			ctx, cancel := t.deadline(cmd)
			defer cancel()
			return t.login(ctx)
		},
	}
}

func (t *tool) login(ctx context.Context) error {
	cfg, err := t.env.readConfig()
	if err != nil {
		return err
	}
	name := t.flags.context
	endpoint := first(t.flags.endpoint, cfg.Contexts[name].Endpoint, t.env.Getenv("ROOST_ENDPOINT"))
	if endpoint == "" {
		return usagef("--endpoint is required: where is Platform?")
	}
	if name == "" {
		name = hostOf(endpoint)
	}
	token, err := t.askToken(ctx, endpoint)
	if err != nil {
		return err
	}
	who, err := t.checkToken(ctx, target{endpoint: endpoint, token: token})
	if err != nil {
		return reading("log in to "+endpoint, err)
	}
	cfg.Contexts[name], cfg.Current = account{Endpoint: endpoint, Token: token}, name
	if err := t.env.writeConfig(cfg); err != nil {
		return err
	}
	t.notef("Logged in to %s%s as context %s, which is the current one now.", endpoint, who, quote(name))
	return nil
}

func hostOf(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		return u.Host
	}
	return endpoint
}

// askToken prefers the flag: whoever types a secret there has been warned.
func (t *tool) askToken(ctx context.Context, endpoint string) (string, error) {
	if t.flags.token != "" {
		return t.flags.token, nil
	}
	read := t.env.readLine
	if t.env.InTerminal && t.env.ReadSecret != nil {
		_, _ = fmt.Fprintf(t.env.Err, "Token for %s (not shown): ", endpoint)
		defer fmt.Fprintln(t.env.Err) //nolint:errcheck // ends the prompt's line
		read = t.env.ReadSecret
	}
	token, err := read(ctx)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token = strings.TrimSpace(token)
	if token == "" {
		return "", usagef("the token is empty; give it on stdin: roost login --endpoint URL < FILE")
	}
	return token, nil
}

// checkToken asks whose token it is, or at least whether it is one. It returns
// words for people.
func (t *tool) checkToken(ctx context.Context, where target) (string, error) {
	c, err := t.connect(where)
	if err != nil {
		return "", err
	}
	who, err := c.WhoAmI(ctx)
	if err == nil {
		return fmt.Sprintf(" (workspace %s, scope %s)", who.Workspace.Name, who.Scope), nil
	}
	if !client.IsNotFound(err) {
		return "", err //nolint:wrapcheck // the caller says what it was doing
	}
	for _, err := range c.Apps(ctx, client.WithPageSize(1)) {
		return "", err // of the first item alone: it shows that the token is good
	}
	return "", nil
}
