package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roost/api"
	"roost/api/client"
)

// failure is an error together with what the command was doing.
type failure struct {
	doing string // "create CVM web"
	err   error

	change bool   // it was to change something
	repeat string // the exact command that does it again, safely
	ask    string // the command that tells without doing; "" where there is no key
	caveat string // why repeat is not quite it
}

func (f *failure) Error() string { return f.doing + ": " + f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// reading wraps the error of a command that changes nothing.
func reading(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{doing: doing, err: err}
}

// report is the one place that renders errors, and returns the exit code.
func (t *tool) report(cmd *cobra.Command, err error) int {
	code := exitCode(err)
	if code == exitOK {
		return code
	}
	r := report{cmd: cmd, code: code, failure: &failure{err: err}, endpoint: t.endpoint, tokenFrom: t.tokenFrom()}
	if f, ok := errors.AsType[*failure](err); ok {
		r.failure = f
	}
	r.answer, _ = errors.AsType[*client.Error](err)
	red, plain := "", ""
	if t.env.colours(t.env.ErrTerminal) {
		red, plain = toneBad.begin(), toneEnd
	}
	_, _ = fmt.Fprintf(t.env.Err, "%sroost: %s%s\n", red, r.headline(), plain) // nobody is left to tell
	for _, line := range r.advice() {
		_, _ = fmt.Fprintln(t.env.Err, line)
	}
	return code
}

// report is an error on its way to a person.
type report struct {
	cmd     *cobra.Command
	code    int
	failure *failure
	answer  *client.Error // nil if no request was made

	endpoint  string
	tokenFrom string // "": a context, or login was told
}

// tokenFrom names what gave a token that a login would not replace.
func (t *tool) tokenFrom() string {
	switch {
	case t.flags.token != "":
		return "--token"
	case t.flags.context == "" && t.env.Getenv("ROOST_TOKEN") != "":
		return "ROOST_TOKEN"
	}
	return ""
}

// headline says what happened, in one line.
func (r report) headline() string {
	what := r.what()
	if r.failure.doing == "" {
		return what
	}
	return r.failure.doing + ": " + what
}

func (r report) what() string {
	if r.code == exitInterrupted && r.answer == nil {
		return "interrupted; nothing was done"
	}
	if r.answer == nil || r.code == exitFailed || r.code == exitNotEnded {
		return strings.TrimPrefix(flagWords(r.failure.err), "roost: ")
	}
	prefix := ""
	if r.code == exitUnknown {
		prefix = "outcome unknown: "
	}
	return prefix + r.said() + r.attempts()
}

// said is what the server or the network said.
func (r report) said() string {
	e := r.answer
	switch {
	case errors.Is(e, context.Canceled) && e.Status == 0:
		return "interrupted before an answer came"
	case errors.Is(e, errTimeout) && e.Status == 0:
		return "no answer came within --timeout"
	case e.Status == 0:
		return fmt.Sprintf("no answer came from %s (%s)", r.endpoint, cause(e))
	case e.Code == api.CodeUnauthenticated:
		return "the token is not valid there: it is wrong, expired or revoked"
	case e.Code == api.CodeIdempotencyKeyReused:
		return "the key " + e.IdempotencyKey + " was used for another request"
	case len(e.Fields) > 0 && e.Title != "":
		return strings.ToLower(e.Title[:1]) + e.Title[1:]
	case e.Status/100 == 2:
		return fmt.Sprintf("the answer (%d) cannot be read: %v", e.Status, e.Err)
	case e.Code == "" && e.Title == "": // no problem document
		return strings.TrimSuffix(fmt.Sprintf("%d %s: %s", e.Status, http.StatusText(e.Status), e.Detail), ".")
	}
	return strings.TrimSuffix(first(e.Detail, e.Title), ".")
}

// cause is the network's own word, without the addresses that change each time.
func cause(err error) string {
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number.Error()
	}
	if wire, ok := errors.AsType[*url.Error](err); ok {
		return wire.Err.Error()
	}
	if e, ok := errors.AsType[*client.Error](err); ok && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

func (r report) attempts() string {
	if r.answer.Attempts < 2 {
		return ""
	}
	return fmt.Sprintf(", %d attempts", r.answer.Attempts)
}

// advice is everything below the headline.
func (r report) advice() []string {
	var lines []string
	if r.code == exitUsage && r.answer == nil {
		return append(lines, fmt.Sprintf("Run '%s --help' for how to call it.", r.cmd.CommandPath()))
	}
	lines = append(lines, r.fields()...)
	lines = append(lines, r.repeating()...)
	if r.answer == nil {
		return lines
	}
	lines = append(lines, r.hint()...)
	if r.answer.RequestID != "" {
		lines = append(lines, "Request ID: "+r.answer.RequestID)
	}
	return lines
}

// fields names what is wrong in the words of the command line.
func (r report) fields() (lines []string) {
	if r.answer == nil {
		return nil
	}
	for _, f := range r.answer.Fields {
		if r.answer.Code == api.CodeIdempotencyKeyReused && (f.Field == "path" || f.Field == "method") {
			// The members of two calls do not compare.
			return []string{"  that one was another command, or this command for something else"}
		}
		lines = append(lines, "  "+fieldName(r.cmd, f.Field)+": "+f.Message)
	}
	return lines
}

// repeating says whether the same command is safe to run again, and what for.
func (r report) repeating() []string {
	f, e := r.failure, r.answer
	switch {
	case !f.change:
		if e != nil && e.Retryable {
			return []string{"It changes nothing and can be repeated."}
		}
		return nil
	case r.code == exitFailed, r.code == exitNotEnded:
		return []string{"Repeating is safe: it shows this same operation, and starts nothing again:", "", "  " + f.repeat, ""}
	case e == nil, e.Retryable || r.code == exitUnknown:
		return f.again(r.code == exitUnknown)
	}
	if strings.Contains(r.said(), "othing was done") {
		return []string{"The same command would be refused again."}
	}
	return []string{"Nothing was done; the same command would be refused again."}
}

// again is the command to repeat, with what it will do.
func (f *failure) again(unknown bool) []string {
	first := "Nothing was done. Repeating is safe:"
	switch {
	case unknown && f.ask != "":
		first = "It may have been done. Repeating is safe: exactly this command does it once, or shows what was done:"
	case unknown:
		first = "It may have been done. Repeating is safe: what is deleted stays deleted:"
	}
	lines := []string{first, "", "  " + f.repeat, ""}
	if f.caveat != "" {
		lines = append(lines, f.caveat)
	}
	if strings.Contains(f.repeat, tokenExpression) {
		lines = append(lines, "ROOST_TOKEN must hold the token that --token gave; it is not shown here.")
	}
	if unknown && f.ask != "" {
		lines = append(lines, "To ask whether it was done, without doing it: "+f.ask)
	}
	return lines
}

// hint says what to do about a refusal.
func (r report) hint() []string {
	e := r.answer
	switch e.Code { //nolint:exhaustive // the others' detail says all there is
	case api.CodeAppExists:
		if e.VMUUID != nil {
			return []string{"What has the name: roost cvm get " + e.VMUUID.String(), "To change that one: roost cvm update " + e.VMUUID.String()}
		}
		if e.AppID != nil {
			return []string{"What has the name: roost app get " + e.AppID.String()}
		}
	case api.CodeIdempotencyKeyReused:
		return []string{
			"What was done under the key: " + r.failure.ask,
			"Without --" + keyFlag + ", or with a key of its own, this is a new request.",
		}
	case api.CodeUnauthenticated:
		login := "roost login --endpoint " + quote(r.endpoint)
		if r.tokenFrom != "" {
			return []string{"It is " + r.tokenFrom + "'s: give another one there; or leave that out and log in: " + login}
		}
		return []string{"Log in again: " + login}
	case api.CodeRateLimited:
		return []string{"Try again in " + max(e.RetryAfter, time.Second).String() + "."}
	case api.CodeResourceDeleted:
		if e.DeletedAt != nil {
			return []string{"It was deleted at " + e.DeletedAt.String() + "; its ID never comes back."}
		}
	}
	return nil
}

// fieldName is the flag or argument that a member of the request came from.
func fieldName(cmd *cobra.Command, pointer string) string {
	if pointer == api.HeaderIdempotencyKey {
		return "--" + keyFlag
	}
	if !strings.HasPrefix(pointer, "/") {
		return pointer
	}
	name := pointer[strings.LastIndex(pointer, "/")+1:]
	for _, flag := range []string{flagOf(name), strings.ReplaceAll(name, "_", "-")} {
		if cmd.Flags().Lookup(flag) != nil {
			return "--" + flag
		}
	}
	if name == "name" && strings.Contains(cmd.Use, "NAME") && !strings.Contains(cmd.Use, "NAME|ID") {
		return "NAME"
	}
	return pointer
}

// flagOf is the flag of a member whose own name would say less.
func flagOf(member string) string {
	switch member {
	case "docker_compose_file":
		return "compose"
	case "base_image":
		return "image"
	case "env_keys":
		return "env-key"
	case "count":
		return "replicas"
	}
	return member
}

// flagWords names the flag in pflag's errors, and says in words what it takes.
func flagWords(err error) string {
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Sprintf("--%s: %q is not %s", e.GetFlag().Name, e.GetValue(), kindOf(e.GetFlag().Value.Type()))
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Sprintf("--%s: its value is missing", e.GetSpecifiedName())
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		dashes := "--"
		if e.GetSpecifiedShortnames() != "" {
			dashes = "-"
		}
		return fmt.Sprintf("%s%s: there is no such flag", dashes, e.GetSpecifiedName())
	}
	return err.Error()
}

func kindOf(flagType string) string {
	switch flagType {
	case "int", "int64":
		return "a whole number"
	case "duration":
		return "a duration such as 90s or 5m"
	case "bool":
		return "true or false"
	}
	return "a " + flagType
}
