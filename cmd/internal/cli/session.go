package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roost/api/client"
)

// How long a command takes at most, unless --timeout says otherwise.
const (
	requestTimeout = 2 * time.Minute
	waitTimeout    = 10 * time.Minute
)

var errTimeout = errors.New("--timeout has passed")

// globals are the flags of every command that talks to Platform.
type globals struct {
	context, endpoint, token, output string

	quiet, trace, noRetry bool
	timeout               time.Duration
}

// target is where a command goes and as whom.
type target struct {
	endpoint, token string
	context         string // from which both are; "" if from flags or the environment
}

// session is one command under way.
type session struct {
	*tool

	ctx    context.Context //nolint:containedctx // the command's; its pieces all share it
	cmd    *cobra.Command
	args   []string // IDs take the place of names once these are resolved
	client *client.Client
	target target
	key    string // of the one change that the command makes
	saved  map[string]string
}

// run makes a command's body out of a function that needs a session.
func (t *tool) run(body func(*session) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := t.flags.check(cmd.Flags()); err != nil {
			return err
		}
		where, err := t.target()
		if err != nil {
			return err
		}
		ctx, cancel := t.deadline(cmd)
		defer cancel()
		s := &session{tool: t, ctx: ctx, cmd: cmd, args: slices.Clone(args), target: where, saved: map[string]string{}}
		if s.client, err = t.connect(where); err != nil {
			return err
		}
		return body(s)
	}
}

// check refuses empty values too: an empty variable in a script must not mean
// that another account is used.
func (g *globals) check(given *pflag.FlagSet) error {
	switch {
	case !slices.Contains(outputs(), g.output):
		return usagef("--output: %q is none of %s", g.output, strings.Join(outputs(), ", "))
	case g.quiet && g.output != outputTable:
		return usagef("--quiet prints IDs alone; leave out --quiet or --output")
	case g.timeout < 0 || g.timeout == 0 && given.Changed("timeout"):
		return usagef("--timeout: must be longer than 0")
	}
	for _, name := range []string{"context", "endpoint", "token"} {
		if f := given.Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return usagef("--%s: is empty; leave it out, or give it a value", name)
		}
	}
	return nil
}

// deadline bounds the command. A timeout says of itself that it is one.
func (t *tool) deadline(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	limit := t.flags.timeout
	if limit == 0 {
		limit = requestTimeout
		if wait := cmd.Flags().Lookup("wait"); wait != nil && wait.Value.String() == "true" {
			limit = waitTimeout
		}
	}
	return context.WithTimeoutCause(cmd.Context(), limit, errTimeout)
}

func (t *tool) connect(where target) (*client.Client, error) {
	cfg := client.Config{Endpoint: where.endpoint, Token: where.token, UserAgent: "roost-cli"}
	cfg.Retry.Deadline = max(t.flags.timeout, requestTimeout)
	if t.flags.noRetry {
		cfg.Retry.MaxAttempts = 1
	}
	if !t.flags.noRetry && !t.flags.quiet {
		cfg.Logger = slog.New(attemptNotes{t})
	}
	if t.flags.trace {
		tracer := newTracer(t.env, where.token)
		cfg.HTTPClient, cfg.Logger = tracer.client(), tracer.logger()
	}
	t.endpoint = where.endpoint
	c, err := client.New(cfg)
	if err != nil {
		return nil, usagef("%v; it is from %s", err, t.origin(where))
	}
	return c, nil
}

// origin says which setting a wrong endpoint or token is from.
func (t *tool) origin(where target) string {
	if where.context != "" {
		return fmt.Sprintf("context %q", where.context)
	}
	return "--endpoint or --token, or ROOST_ENDPOINT or ROOST_TOKEN"
}

// target finds endpoint and token: flags first, then a --context, then the
// environment, then the current context. A context's token goes to the
// context's endpoint and nowhere else.
func (t *tool) target() (target, error) {
	cfg, err := t.env.readConfig()
	if err != nil {
		return target{}, err
	}
	chosen, named := t.flags.context, t.flags.context != ""
	where := target{endpoint: t.flags.endpoint, token: t.flags.token}
	if !named {
		where.endpoint = first(where.endpoint, t.env.Getenv("ROOST_ENDPOINT"))
		where.token = first(where.token, t.env.Getenv("ROOST_TOKEN"))
		chosen = cfg.Current
	}
	if where.endpoint != "" && where.token != "" {
		return where, nil
	}
	known, ok := cfg.Contexts[chosen]
	if named && !ok {
		return target{}, usagef("--context: there is no context %q; see: roost context list", chosen)
	}
	return complete(where, known, chosen)
}

// complete adds what a context knows to what was given.
func complete(where target, known account, name string) (target, error) {
	if where == (target{}) {
		where.context = name
	}
	sameEndpoint := where.endpoint == "" || where.endpoint == known.Endpoint
	where.endpoint = first(where.endpoint, known.Endpoint)
	if where.token == "" && sameEndpoint {
		where.token = known.Token
	}
	switch {
	case where.endpoint == "":
		return target{}, &authError{"no endpoint is known; log in (roost login --endpoint URL), or set ROOST_ENDPOINT and ROOST_TOKEN"}
	case where.token == "":
		return target{}, &authError{fmt.Sprintf("no token is known for %s; log in (roost login --endpoint %s), or set ROOST_TOKEN",
			where.endpoint, where.endpoint)}
	}
	return where, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
