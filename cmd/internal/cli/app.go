package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

func (t *tool) appCommand() *cobra.Command {
	return group("app", "Apps: a name, and the CVMs that run under it",
		t.appCreate(), t.appList(), t.appGet(), t.appScale(), t.appDelete())
}

func (t *tool) appCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create an app without CVMs", Args: takes("NAME"),
		Long: "Creates an app without CVMs. To create an app and its first CVM in one step: roost cvm create.",
		RunE: t.run(func(s *session) error {
			return s.make(change{
				doing: "create app " + s.args[0], keyed: true,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					r, err := s.client.CreateApp(ctx, api.CreateApp{Name: s.args[0]}, opts...)
					return accept(r, showApp, ""), err
				},
			})
		}),
	}
	return flagOfKey(cmd)
}

func (t *tool) appList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List apps", Args: takes(),
		RunE: t.run(func(s *session) error {
			apps, err := collect(s.client.Apps(s.ctx), "list apps")
			if err != nil {
				return err
			}
			return s.print(showApps(apps))
		}),
	}
}

func (t *tool) appGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get NAME|ID", Short: "Show one app and its CVMs", Args: takes("NAME|ID"),
		RunE: t.run(func(s *session) error {
			name := s.args[0]
			id, err := s.app()
			if err != nil {
				return err
			}
			waitErr := s.settle(id)
			app, err := s.client.App(s.ctx, id)
			if err != nil {
				return reading("read app "+name, err)
			}
			if err := s.print(detailApp(app)); err != nil {
				return err
			}
			return reading("wait for app "+name, waitErr)
		}),
	}
	t.completeArgs(cmd, appNames)
	return flagsOfWait(cmd)
}

// settle holds, with --wait, until each CVM of the app is what it is asked to
// be, and returns the first failure among them.
func (s *session) settle(app api.ID) error {
	if wait, _ := s.cmd.Flags().GetBool("wait"); !wait {
		return nil
	}
	cvms, err := s.client.AppCVMs(s.ctx, app)
	if err != nil {
		return err //nolint:wrapcheck // the caller says what it was waiting for
	}
	var failed error
	for _, cvm := range cvms {
		if _, err := s.readCVM(cvm.VMUUID); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

func (t *tool) appScale() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use: "scale NAME|ID", Short: "Say how many CVMs an app is to have", Args: takes("NAME|ID"),
		Long: "Says how many CVMs the app is to have, the first one included. Copies are made of the oldest that has\n" +
			"not failed; the newest go first, the first one never. Shows those that it makes or removes; all there are:\n" +
			"roost app get.",
		Example: "  roost app scale hello --replicas 3 --wait",
		RunE: t.run(func(s *session) error {
			if !s.cmd.Flags().Changed("replicas") {
				return usagef("--replicas is required")
			}
			if count < 1 || count > api.MaxCount {
				return usagef("--replicas: must be from 1 to %d", api.MaxCount)
			}
			doing := fmt.Sprintf("scale app %s to %d", s.args[0], count)
			id, err := s.app()
			if err != nil {
				return err
			}
			return s.make(change{
				doing: doing, keyed: true,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					return acceptCVMs(s.client.ScaleApp(ctx, id, count, opts...))
				},
			})
		}),
	}
	cmd.Flags().IntVar(&count, "replicas", 0, fmt.Sprintf("how many, the first one included: a `NUMBER` from 1 to %d", api.MaxCount))
	t.completeArgs(cmd, appNames)
	return flagsOfChange(cmd)
}

func (t *tool) appDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME|ID", Short: "Delete all CVMs of an app", Args: takes("NAME|ID"),
		Long: "Deletes all CVMs of an app, first to last. The app goes with its last one, unless app create made it; its\n" +
			"name keeps its ID for ever." + deleteLong,
		RunE: t.run(func(s *session) error {
			doing := "delete app " + s.args[0]
			id, err := s.app()
			if err != nil {
				return err
			}
			cvms, err := s.client.AppCVMs(s.ctx, id)
			if err != nil && !client.IsGone(err) {
				return reading(doing, err)
			}
			if err := s.confirm(fmt.Sprintf("%s with its %d CVMs", doing, len(cvms)), id.String()); err != nil {
				return err
			}
			return s.deleteAll(doing, cvms)
		}),
	}
	t.completeArgs(cmd, appNames)
	return flagsOfWait(flagsOfDelete(cmd))
}

// deleteAll asks for the end of each, then waits for the ends.
func (s *session) deleteAll(doing string, cvms []api.CVM) error {
	c := change{doing: doing}
	leaving := []api.CVM{}
	for _, cvm := range cvms {
		r, err := s.client.DeleteCVM(s.ctx, cvm.VMUUID)
		if err != nil {
			return s.failed(c, err)
		}
		if r.Status != http.StatusGone {
			leaving = append(leaving, r.Value)
		}
	}
	if len(leaving) == 0 {
		s.notef("%s: it has no CVMs; there is nothing left to do.", doing)
	} else {
		s.notef("Accepted: %s.", doing)
	}
	var waitErr error
	if wait, _ := s.cmd.Flags().GetBool("wait"); wait {
		waitErr = s.awaitDeleted(leaving)
	}
	if err := s.print(showCVMs(leaving)); err != nil {
		return err
	}
	if waitErr != nil {
		return s.failed(c, waitErr)
	}
	return nil
}

func (s *session) awaitDeleted(cvms []api.CVM) error {
	for i := range cvms {
		if id := operationOf(cvms[i]); id != "" {
			if _, err := s.waitOperation(id); err != nil {
				return err
			}
		}
		cvms[i] = deleted(cvms[i])
	}
	return nil
}
