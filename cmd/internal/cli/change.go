package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

// keyFlag is the flag of commands whose request takes a key.
const keyFlag = "idempotency-key"

// change is one request that changes something, as a command makes it.
type change struct {
	doing  string // "create CVM web"
	keyed  bool
	inputs []input // to be kept if it must be repeated
	send   func(context.Context, ...client.Option) (accepted, error)
}

// accepted is the answer to a change, whatever its type was.
type accepted struct {
	view      rendering
	cvm       *api.CVM  // if it is one
	cvms      *api.CVMs // if it is several, of which it shows those that it concerns
	operation string    // "": it is done already
	idle      bool      // what it asks for was asked for already
	gone      bool      // it was deleted before
	replayed  bool
	attempts  int
	original  string // ID of the request that did it, with replayed
	key       string
}

// accept reads what all Results have in common.
func accept[T any](r client.Result[T], view func(T) rendering, operation string) accepted {
	return accepted{
		view: view(r.Value), operation: operation, gone: r.Status == http.StatusGone, replayed: r.Replayed, attempts: r.Attempts,
		original: r.OriginalRequestID, key: r.IdempotencyKey,
	}
}

// acceptCVM is accept for the calls that answer with one CVM.
func acceptCVM(r client.Result[api.CVM], err error) (accepted, error) {
	a := accept(r, showCVM, operationOf(r.Value))
	a.cvm = &r.Value
	a.idle = a.operation != "" && r.Value.Operation.Status == api.OperationSucceeded
	return a, err
}

// acceptCVMs is accept for the calls that answer with several CVMs.
func acceptCVMs(r client.Result[api.CVMs], err error) (accepted, error) {
	a := accept(r, showScaled, r.Value.Operation.ID)
	a.cvms, a.idle = &r.Value, r.Value.Operation.Status == api.OperationSucceeded
	return a, err
}

func operationOf(cvm api.CVM) string {
	if cvm.Operation == nil {
		return ""
	}
	return cvm.Operation.ID
}

// flagsOfChange declares --idempotency-key and --wait.
func flagsOfChange(cmd *cobra.Command) *cobra.Command { return flagsOfWait(flagOfKey(cmd)) }

func flagOfKey(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String(keyFlag, "", "`KEY` of this one wish: repeated under it, nothing is done twice (default: a new one)")
	return cmd
}

func flagsOfWait(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool("wait", false, "hold until it is done, progress on stderr")
	return cmd
}

// make sends the change under a key that exists before the first attempt,
// shows the answer and, with --wait, its end.
func (s *session) make(c change) error {
	if err := s.makeKey(c.keyed); err != nil {
		return err
	}
	var opts []client.Option
	if s.key != "" {
		opts = append(opts, client.WithIdempotencyKey(s.key))
	}
	answer, err := c.send(s.ctx, opts...)
	if err != nil {
		return s.failed(c, err)
	}
	s.noteAnswer(c, answer)
	if wait, _ := s.cmd.Flags().GetBool("wait"); !wait || answer.operation == "" { // a command without the flag does not wait
		return s.print(answer.view)
	}
	return s.await(c, answer)
}

// makeKey checks a key that was given here, where nothing has been sent: an
// empty variable in a script must not become a key of its own.
func (s *session) makeKey(keyed bool) error {
	if !keyed {
		return nil
	}
	if !s.cmd.Flags().Changed(keyFlag) {
		s.key = s.client.NewIdempotencyKey()
		return nil
	}
	key, err := s.cmd.Flags().GetString(keyFlag)
	if err != nil {
		return fmt.Errorf("read --%s: %w", keyFlag, err)
	}
	s.key = key
	return checkKey("--"+keyFlag, key)
}

func checkKey(where, key string) error {
	if parsed, err := api.ParseIdempotencyKey([]string{api.FormatIdempotencyKey(key)}); err != nil || parsed != key {
		return usagef("%s: must be 1 to %d visible ASCII characters, without spaces", where, api.MaxKeyBytes)
	}
	return nil
}

// failed adds the command to repeat to an error.
func (s *session) failed(c change, err error) error {
	f := &failure{doing: c.doing, err: err, change: true}
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Retryable || e.Outcome == client.OutcomeUnknown {
		if unsaved := s.save(c.inputs); unsaved != nil { // a refusal is not repeated, so nothing is kept for it
			f.caveat = "But its input is lost: " + unsaved.Error() + "."
		}
	}
	f.repeat = s.repeatCommand()
	if s.key != "" {
		f.ask = s.otherCommand("key", "show", s.key)
	}
	return f
}

// noteAnswer says on stderr what stdout's data cannot: whether this request did
// it, and under which key.
func (s *session) noteAnswer(c change, a accepted) {
	switch {
	case a.gone:
		s.notef("%s: it was deleted before; there is nothing left to do.", c.doing)
	case a.replayed && s.cmd.Flags().Changed(keyFlag):
		s.notef("Replay: %s was done before under key %s (request %s); nothing was started again.", c.doing, a.key, first(a.original, "unknown"))
	case a.replayed && a.attempts > 1:
		s.notef("An answer was lost on the way; attempt %d under the same key found it done, once.", a.attempts)
	case a.replayed:
		s.notef("It is there already, with this very configuration; nothing was started.")
	case a.idle:
		s.notef("%s: it was asked for already; nothing was started.", c.doing)
	case a.key != "":
		s.notef("Accepted: %s, under key %s.", c.doing, a.key)
	default:
		s.notef("Accepted: %s.", c.doing)
	}
}
