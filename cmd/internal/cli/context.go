package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (t *tool) contextCommand() *cobra.Command {
	return group("context", "Contexts: endpoints and tokens that login has kept",
		t.contextList(), t.contextUse(), t.contextDelete())
}

// shownContext is a context without its token.
type shownContext struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint"`
	Current  bool   `json:"current"`
}

func (t *tool) contextList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List contexts", Args: takes(),
		RunE: t.local(func(cfg config, _ []string) error {
			r := rendering{table: table{head: []string{"CURRENT", "CONTEXT", "ENDPOINT"}}}
			contexts := []shownContext{}
			for _, name := range cfg.names() {
				c := shownContext{Name: name, Endpoint: cfg.Contexts[name].Endpoint, Current: name == cfg.Current}
				mark := ""
				if c.Current {
					mark = "*"
				}
				contexts = append(contexts, c)
				r.ids = append(r.ids, name)
				r.table.rows = append(r.table.rows, plain(mark, c.Name, c.Endpoint))
			}
			r.value = contexts
			return t.print(r)
		}),
	}
}

// local makes a command's body out of a function that needs the contexts and no
// server.
func (t *tool) local(body func(config, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := t.flags.check(cmd.Flags()); err != nil {
			return err
		}
		cfg, err := t.env.readConfig()
		if err != nil {
			return err
		}
		return body(cfg, args)
	}
}

func (t *tool) contextUse() *cobra.Command {
	cmd := &cobra.Command{
		Use: "use CONTEXT", Short: "Make a context the current one", Args: takes("CONTEXT"),
		RunE: t.local(func(cfg config, args []string) error {
			if err := known(cfg, args[0]); err != nil {
				return err
			}
			cfg.Current = args[0]
			if err := t.env.writeConfig(cfg); err != nil {
				return err
			}
			t.notef("Commands now go to %s (%s).", args[0], cfg.Contexts[args[0]].Endpoint)
			return nil
		}),
	}
	cmd.ValidArgsFunction = t.contextNames
	return cmd
}

func (t *tool) contextDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete CONTEXT", Short: "Forget a context and its token", Args: takes("CONTEXT"),
		Long: "Forgets a context and its token. The token itself stays valid until it is revoked.",
		RunE: t.local(func(cfg config, args []string) error {
			if err := known(cfg, args[0]); err != nil {
				return err
			}
			delete(cfg.Contexts, args[0])
			if cfg.Current == args[0] {
				cfg.Current = ""
				t.notef("There is no current context now; choose one: roost context use CONTEXT")
			}
			if err := t.env.writeConfig(cfg); err != nil {
				return err
			}
			t.notef("Forgotten: %s.", args[0])
			return nil
		}),
	}
	cmd.ValidArgsFunction = t.contextNames
	return cmd
}

func known(cfg config, name string) error {
	if _, ok := cfg.Contexts[name]; ok {
		return nil
	}
	have := "none"
	if len(cfg.Contexts) > 0 {
		have = strings.Join(cfg.names(), ", ")
	}
	return &notFoundError{text: fmt.Sprintf("there is no context %q; known: %s", name, have)}
}
