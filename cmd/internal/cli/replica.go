package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

func (t *tool) replicaCommand() *cobra.Command {
	g := group("replica", "Copies of a CVM, in the same app",
		t.replicaCreate(), t.replicaList(), t.cvmGet("copy", (*session).copied), t.cvmDelete("copy", (*session).copied))
	g.Long = "Copies of a CVM, in the same app. create takes the NAME of what to copy, list that of an app, get and delete\n" +
		"that of a copy: the one it was given (--name), or its source's."
	return g
}

func (t *tool) replicaCreate() *cobra.Command {
	var name string
	var count int
	cmd := &cobra.Command{
		Use: "create NAME|ID", Short: "Copy a CVM", Args: takes("NAME|ID"),
		Long: "Copies a CVM. Each new key makes new copies: to say how many there are to be, and not how many more,\n" +
			"use roost app scale.",
		RunE: t.run(func(s *session) error {
			if s.cmd.Flags().Changed("count") && (count < 1 || count > api.MaxCount) {
				return usagef("--count: must be from 1 to %d", api.MaxCount)
			}
			if name != "" && count > 1 {
				return usagef("--name is for one copy; leave out --name or --count")
			}
			doing := "copy CVM " + s.args[0]
			source, err := s.source()
			if err != nil {
				return err
			}
			return s.make(s.copying(doing, source, name, count))
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "the copy's `NAME` (default: the CVM's)")
	cmd.Flags().IntVar(&count, "count", 0, fmt.Sprintf("make so many, all or none: a `NUMBER` from 1 to %d", api.MaxCount))
	t.completeArgs(cmd, cvmIDs)
	return flagsOfChange(cmd)
}

// copying is one call for one copy, another one for a count of them.
func (s *session) copying(doing string, source api.CVM, name string, count int) change {
	one := change{
		doing: doing, keyed: true,
		send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
			return acceptCVM(s.client.Replicate(ctx, source.AppID, source.VMUUID, name, opts...))
		},
	}
	if count == 0 {
		return one
	}
	if count > 1 {
		doing = fmt.Sprintf("%s %d times", doing, count)
	}
	return change{
		doing: doing, keyed: true,
		send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
			return acceptCVMs(s.client.ReplicateMany(ctx, source.AppID, source.VMUUID, count, opts...))
		},
	}
}

func (t *tool) replicaList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list NAME|ID", Short: "List the copies in an app", Args: takes("NAME|ID"),
		RunE: t.run(func(s *session) error {
			cvms, err := s.cvmsOf(s.args[0])
			if err != nil {
				return err
			}
			copies := []api.CVM{}
			for _, cvm := range cvms {
				if cvm.ReplicaOf != nil {
					copies = append(copies, cvm)
				}
			}
			return s.print(showCVMs(copies))
		}),
	}
	t.completeArgs(cmd, appNames)
	return cmd
}
