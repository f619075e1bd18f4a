package cli

import (
	"context"

	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

func (t *tool) firewallCommand() *cobra.Command {
	return group("firewall", "Firewall rules: which networks reach a CVM",
		t.firewallCreate(), t.firewallList(), t.firewallGet(), t.firewallDelete())
}

func (t *tool) firewallCreate() *cobra.Command {
	var cidr, protocol string
	var port int64
	cmd := &cobra.Command{
		Use: "create NAME|ID", Short: "Let a network reach a CVM", Args: takes("NAME|ID"),
		Example: "  roost firewall create hello --cidr 10.0.0.0/8 --port 443",
		RunE: t.run(func(s *session) error {
			if cidr == "" {
				return usagef("--cidr is required")
			}
			rule := api.CreateFirewallRule{CIDR: cidr, Protocol: api.Protocol(protocol)}
			setPtr(s.cmd.Flags(), "port", &rule.Port, port)
			doing := "let " + cidr + " reach CVM " + s.args[0]
			id, err := s.cvm()
			if err != nil {
				return err
			}
			return s.make(change{
				doing: doing, keyed: true,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					r, err := s.client.CreateFirewallRule(ctx, id, rule, opts...)
					return accept(r, showRule, ""), err
				},
			})
		}),
	}
	cmd.Flags().StringVar(&cidr, "cidr", "", "the `NETWORK`, such as 10.0.0.0/8")
	cmd.Flags().StringVar(&protocol, "protocol", "", "`PROTOCOL`: tcp, udp or any (default tcp)")
	cmd.Flags().Int64Var(&port, "port", 0, "the `PORT` (default: all)")
	t.completeArgs(cmd, cvmIDs)
	return flagOfKey(cmd)
}

func (t *tool) firewallList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list NAME|ID", Short: "List the rules of a CVM", Args: takes("NAME|ID"),
		RunE: t.run(func(s *session) error {
			doing := "list the firewall rules of CVM " + s.args[0]
			id, err := s.cvm()
			if err != nil {
				return err
			}
			rules, err := collect(s.client.FirewallRules(s.ctx, id), doing)
			if err != nil {
				return err
			}
			return s.print(showRules(rules))
		}),
	}
	t.completeArgs(cmd, cvmIDs)
	return cmd
}

func (t *tool) firewallGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get NAME|ID RULE", Short: "Show one rule of a CVM", Args: takes("NAME|ID", "RULE"),
		RunE: t.run(func(s *session) error {
			cvm, rule, err := s.rule()
			if err != nil {
				return err
			}
			r, err := s.client.FirewallRule(s.ctx, cvm, rule)
			if err != nil {
				return reading("read firewall rule "+rule.String(), err)
			}
			return s.print(showRule(r))
		}),
	}
	t.completeArgs(cmd, cvmIDs)
	return cmd
}

// rule reads the two arguments that name a rule.
func (s *session) rule() (cvm, rule api.ID, err error) {
	rule, err = api.ParseID(s.args[1])
	if err != nil {
		return cvm, rule, usagef("RULE: %q is no rule's ID; see: roost firewall list", s.args[1])
	}
	cvm, err = s.cvm()
	return cvm, rule, err
}

func (t *tool) firewallDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME|ID RULE", Short: "Delete a rule of a CVM", Args: takes("NAME|ID", "RULE"),
		Long: "Deletes a rule of a CVM." + deleteLong,
		RunE: t.run(func(s *session) error {
			cvm, rule, err := s.rule()
			if err != nil {
				return err
			}
			doing := "delete firewall rule " + rule.String()
			if err := s.confirm(doing, "of CVM "+cvm.String()); err != nil {
				return err
			}
			return s.make(change{
				doing: doing,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					r, err := s.client.DeleteFirewallRule(ctx, cvm, rule, opts...)
					return accept(r, func(struct{}) rendering { return deletedRule(rule) }, ""), err
				},
			})
		}),
	}
	t.completeArgs(cmd, cvmIDs)
	return flagsOfDelete(cmd)
}

func deletedRule(rule api.ID) rendering {
	gone := deletion{ID: rule.String(), Status: string(api.StatusDeleted)}
	return rendering{value: gone, ids: []string{gone.ID}, table: table{head: []string{"RULE", "STATUS"}, rows: [][]cell{{{text: gone.ID}, state(gone.Status)}}}}
}
