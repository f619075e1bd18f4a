package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

func (t *tool) cvmCommand() *cobra.Command {
	g := group("cvm", "Confidential VMs",
		t.cvmCreate(), t.cvmList(), t.cvmGet("CVM", (*session).cvm),
		t.cvmPower("start", "Ask for a running machine", (*client.Client).StartCVM),
		t.cvmPower("stop", "Ask for a stopped machine", (*client.Client).StopCVM),
		t.cvmPower("restart", "Restart the machine once, or start it", (*client.Client).RestartCVM),
		t.cvmUpdate(), t.cvmDelete("CVM", (*session).firstCVM))
	g.Long = "Confidential VMs. A first CVM has its app's name, and a copy its source's unless it was given another: a NAME\n" +
		"that several have means the one that is no copy, and by its NAME a copy is deleted with roost replica delete\n" +
		"alone. An ID means one CVM for ever."
	return g
}

func (t *tool) cvmCreate() *cobra.Command {
	var sf specFlags
	cmd := &cobra.Command{
		Use: "create [NAME]", Short: "Create an app and its first CVM", Args: optional("NAME"),
		Long: "Creates an app and its first CVM, from flags, from a file, or both: flags win. The file holds the\n" +
			"members of the API's Spec as YAML or JSON; - is stdin.",
		Example: "  roost cvm create hello --instance-type tdx.small --compose docker-compose.yml --wait\n" +
			"  roost cvm create -f app.yaml --idempotency-key \"deploy-$CI_JOB_ID\"",
		RunE: t.run(func(s *session) error {
			spec, inputs, err := sf.spec(s)
			if err != nil {
				return err
			}
			return s.make(change{
				doing: "create CVM " + spec.Name, keyed: true, inputs: inputs,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					return acceptCVM(s.client.CreateCVM(ctx, spec, opts...))
				},
			})
		}),
	}
	sf.bind(cmd)
	return flagsOfChange(cmd)
}

func (t *tool) cvmList() *cobra.Command {
	var app string
	cmd := &cobra.Command{
		Use: "list", Short: "List CVMs, copies included", Args: takes(),
		RunE: t.run(func(s *session) error {
			cvms, err := s.cvmsOf(app)
			if err != nil {
				return err
			}
			return s.print(showCVMs(cvms))
		}),
	}
	cmd.Flags().StringVar(&app, "app", "", "those of this app (`NAME|ID`), in the order of their making")
	t.completeFlag(cmd, "app", appNames)
	return cmd
}

// cvmsOf lists the CVMs of an app, or of the workspace.
func (s *session) cvmsOf(app string) ([]api.CVM, error) {
	if app != "" {
		s.args = []string{app}
		id, err := s.app()
		if err != nil {
			return nil, err
		}
		cvms, err := s.client.AppCVMs(s.ctx, id)
		return cvms, reading("list the CVMs of "+app, err)
	}
	return collect(s.client.CVMs(s.ctx), "list CVMs")
}

// find resolves the first argument of a command.
type find func(*session) (api.ID, error)

// cvmGet serves CVMs and copies, which are CVMs.
func (t *tool) cvmGet(noun string, find find) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get NAME|ID", Short: "Show one " + noun, Args: takes("NAME|ID"),
		RunE: t.run(func(s *session) error {
			id, err := find(s)
			if err != nil {
				return err
			}
			return s.showCVM(id)
		}),
	}
	t.completeArgs(cmd, cvmIDs)
	return flagsOfWait(cmd)
}

// showCVM reads one CVM; with --wait once it is what it is asked to be.
func (s *session) showCVM(id api.ID) error {
	cvm, err := s.readCVM(id)
	if err != nil && !is[*client.CVMError](err) {
		return reading("read CVM "+id.String(), err)
	}
	if printErr := s.print(detailCVM(cvm)); printErr != nil {
		return printErr
	}
	return reading("wait for CVM "+id.String(), err)
}

func (s *session) readCVM(id api.ID) (api.CVM, error) {
	if wait, _ := s.cmd.Flags().GetBool("wait"); !wait {
		return s.client.CVM(s.ctx, id) //nolint:wrapcheck // the caller says what it was reading
	}
	line := s.progress()
	defer line.stop()
	cvm, err := s.client.WaitCVM(s.ctx, id, client.Settled, func(cvm api.CVM) { line.set(cvmLine(cvm)) })
	return cvm, s.unfinished("cvm", id.String(), string(cvm.Status), err)
}

func cvmLine(cvm api.CVM) string {
	if cvm.Progress.Target == nil {
		return fmt.Sprintf("%s %s: %s", cvm.Name, cvm.VMUUID, cvm.Status)
	}
	return fmt.Sprintf("%s %s: %s, on its way to %s", cvm.Name, cvm.VMUUID, cvm.Status, *cvm.Progress.Target)
}

// power is one of the SDK's calls that only name a CVM.
type power func(*client.Client, context.Context, api.ID, ...client.Option) (client.Result[api.CVM], error)

func (t *tool) cvmPower(verb, short string, call power) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " NAME|ID", Short: short, Args: takes("NAME|ID"),
		RunE: t.run(func(s *session) error {
			doing := verb + " CVM " + s.args[0]
			id, err := s.cvm()
			if err != nil {
				return err
			}
			return s.make(change{
				doing: doing, keyed: true,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					return acceptCVM(call(s.client, ctx, id, opts...))
				},
			})
		}),
	}
	t.completeArgs(cmd, cvmIDs)
	return flagsOfChange(cmd)
}

func (t *tool) cvmUpdate() *cobra.Command {
	var pf patchFlags
	cmd := &cobra.Command{
		Use: "update NAME|ID", Short: "Change what a CVM is configured to be", Args: takes("NAME|ID"),
		Long: "Changes what the flags or the file name; the rest stays as it is. Another instance type brings its own\n" +
			"vcpu and memory unless they are given too; the disk stays as large as it is.",
		Example: "  roost cvm update hello --instance-type tdx.medium --wait",
		RunE: t.run(func(s *session) error {
			patch, inputs, err := pf.patch(s)
			if err != nil {
				return err
			}
			doing := "update CVM " + s.args[0]
			id, err := s.cvm()
			if err != nil {
				return err
			}
			return s.make(change{
				doing: doing, keyed: true, inputs: inputs,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					return acceptCVM(s.client.UpdateCVM(ctx, id, patch, opts...))
				},
			})
		}),
	}
	pf.bind(cmd)
	t.completeArgs(cmd, cvmIDs)
	return flagsOfChange(cmd)
}

// deleted is a CVM as it is once its delete has ended: nobody can read it any
// more.
func deleted(cvm api.CVM) api.CVM {
	cvm.Status, cvm.InProgress, cvm.Progress = api.StatusDeleted, false, api.Progress{}
	if cvm.Operation != nil {
		ended := *cvm.Operation
		ended.Status = api.OperationSucceeded
		cvm.Operation = &ended
	}
	return cvm
}

// cvmDelete serves CVMs and copies, which are CVMs.
func (t *tool) cvmDelete(noun string, find find) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME|ID", Short: "Delete a " + noun + " and its firewall rules", Args: takes("NAME|ID"),
		Long: "Deletes a " + noun + " and its firewall rules." + deleteLong,
		RunE: t.run(func(s *session) error {
			doing := "delete " + noun + " " + s.args[0]
			id, err := find(s)
			if err != nil {
				return err
			}
			if err := s.confirm(doing, id.String()); err != nil {
				return err
			}
			return s.make(change{
				doing: doing,
				send: func(ctx context.Context, opts ...client.Option) (accepted, error) {
					return acceptCVM(s.client.DeleteCVM(ctx, id, opts...))
				},
			})
		}),
	}
	t.completeArgs(cmd, cvmIDs)
	return flagsOfWait(flagsOfDelete(cmd))
}
