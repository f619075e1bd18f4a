package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const deleteLong = "\nWhat is gone already is no error by its ID (its name is gone too): stderr says so, and the exit code is 0.\n" +
	"It asks for confirmation on a terminal only; --yes is the answer."

func flagsOfDelete(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolP("yes", "y", false, "do not ask")
	return cmd
}

// confirm asks whoever can answer. A script cannot, and meant what it said.
func (s *session) confirm(doing, id string) error {
	if yes, _ := s.cmd.Flags().GetBool("yes"); yes || !s.env.InTerminal || !s.env.ErrTerminal {
		return nil
	}
	_, _ = fmt.Fprintf(s.env.Err, "%s (%s)? It cannot be undone. [y/N] ", doing, id) // a terminal, as was just seen
	answer, err := s.env.readLine(s.ctx)
	if err != nil {
		_, _ = fmt.Fprintln(s.env.Err) // ends the prompt's line
		return fmt.Errorf("read the answer: %w", err)
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing was deleted")
	}
	return nil
}

// deletion is all that is left of a thing.
type deletion struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}
