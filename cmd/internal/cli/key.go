package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

func (t *tool) keyCommand() *cobra.Command {
	return group("key", "Idempotency keys: did my lost request happen?", t.keyShow())
}

func (t *tool) keyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show KEY", Short: "Say whether the request under a key has happened", Args: takes("KEY"),
		Long: fmt.Sprintf("Says whether the request under a key has happened: exit code %d if it has, %d if it has not so far.\n"+
			"It does nothing itself; what is still on its way may arrive later.", exitOK, exitNotFound),
		RunE: t.run(func(s *session) error {
			name := s.args[0]
			if err := checkKey("KEY", name); err != nil {
				return err
			}
			key, err := s.client.LookupKey(s.ctx, name)
			if client.HasCode(err, api.CodeNotFound) { // a proxy's 404 is no answer to the question
				return &notFoundError{fmt.Sprintf("it has not happened so far: nothing is bound to key %s.\n"+
					"A request that is still on its way may arrive yet. To be certain, run the command again with --%s %s:\n"+
					"that does it once. Keys are kept for 24 hours or longer, and each workspace has its own.", name, keyFlag, quote(name))}
			}
			if err != nil {
				return reading("look up key "+name, err)
			}
			return s.print(showKey(s.describe(name, key)))
		}),
	}
}

// boundKey is a key and what it is bound to, as far as that can be read.
type boundKey struct {
	Name string `json:"key"`
	api.Key

	Operation *api.Operation `json:"operation"`
}

func (s *session) describe(name string, key api.Key) boundKey {
	b := boundKey{Name: name, Key: key}
	if key.OperationID != nil {
		if op, err := s.client.Operation(s.ctx, *key.OperationID); err == nil {
			b.Operation = &op
		}
	}
	return b
}

func showKey(b boundKey) rendering {
	rows := [][]cell{
		{{"It has happened", toneGood}, {text: "key " + b.Name + " is bound"}},
		plain("Request", b.RequestID+", "+at(b.CreatedAt)),
	}
	ids := []string{}
	if b.ResourceID != nil {
		rows = append(rows, plain("Resource", b.ResourceID.String()))
		ids = append(ids, b.ResourceID.String())
	}
	if b.OperationID != nil {
		words := *b.OperationID
		if b.Operation != nil {
			words += " (" + string(b.Operation.Kind) + ", " + string(b.Operation.Status) + ")"
		}
		rows = append(rows, plain("Operation", words))
	}
	rows = append(rows, plain("Key lives until", at(b.ExpiresAt)))
	return rendering{value: b, ids: ids, table: table{rows: rows}}
}
