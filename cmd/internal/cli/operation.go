package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

func (t *tool) operationCommand() *cobra.Command {
	return group("op", "Operations: what was accepted, and what became of it", t.operationList(), t.operationGet())
}

func (t *tool) operationList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List operations", Args: takes(),
		RunE: t.run(func(s *session) error {
			ops, err := collect(s.client.Operations(s.ctx), "list operations")
			if err != nil {
				return err
			}
			return s.print(showOperations(ops))
		}),
	}
}

func (t *tool) operationGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get OPERATION|NAME|ID", Short: "Show one operation", Args: takes("OPERATION|NAME|ID"),
		Long: "Shows one operation, or the newest one of the app or CVM that is named instead.",
		RunE: t.run(func(s *session) error {
			id, err := s.operation()
			if err != nil {
				return err
			}
			op, err := s.readOperation(id)
			if err != nil && !is[*client.OperationError](err) {
				return reading("read operation "+id, err)
			}
			if printErr := s.print(detailOperation(op)); printErr != nil {
				return printErr
			}
			return reading("wait for operation "+id, err)
		}),
	}
	t.completeArgs(cmd, operationIDs)
	return flagsOfWait(cmd)
}

func (s *session) readOperation(id string) (api.Operation, error) {
	if wait, _ := s.cmd.Flags().GetBool("wait"); wait {
		return s.waitOperation(id)
	}
	return s.client.Operation(s.ctx, id) //nolint:wrapcheck // the caller says what it was reading
}

// operation is the argument's: an operation's ID as it is, or the newest of
// those that concern an app or a CVM.
func (s *session) operation() (string, error) {
	arg := s.args[0]
	if strings.HasPrefix(arg, "op_") {
		return arg, nil
	}
	id, err := s.appOrCVM()
	if err != nil {
		return "", err
	}
	newest := api.Operation{}
	for op, err := range s.client.Operations(s.ctx) {
		if err != nil {
			return "", reading("look for the operations of "+arg, err)
		}
		concerns := op.AppID == id || op.VMUUID != nil && *op.VMUUID == id
		if concerns && (newest.ID == "" || op.CreatedAt.After(newest.CreatedAt.Time)) {
			newest = op
		}
	}
	if newest.ID == "" {
		return "", &notFoundError{fmt.Sprintf("there is no operation of %s; see: roost op list", arg)}
	}
	return newest.ID, nil
}

// appOrCVM is what the first argument names: an app first, for its operations
// include those of its first CVM, which has the same name.
func (s *session) appOrCVM() (api.ID, error) {
	arg := s.args[0]
	id, err := s.app()
	if is[*notFoundError](err) {
		id, err = s.cvm()
	}
	if is[*notFoundError](err) {
		err = &notFoundError{fmt.Sprintf("there is no app or CVM %q in this workspace; see: roost op list", arg)}
	}
	return id, err
}
