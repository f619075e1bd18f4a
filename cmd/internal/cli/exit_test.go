package cli

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	accepted := answer(http.StatusAccepted, someCVM(api.StatusProvisioning, api.OperationPending))
	failed := answer(http.StatusOK, api.Operation{
		ID: "op_1", Kind: api.KindCVMCreate, Status: api.OperationFailed, Error: &api.ResourceError{Code: "SIM_FAILED", Message: "no boot"},
	})
	pending := answer(http.StatusOK, api.Operation{ID: "op_1", Kind: api.KindCVMCreate, Status: api.OperationPending})
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	deletedAt := api.Time{}
	appExists := api.Errorf(api.CodeAppExists, "The app web runs another configuration. Nothing was done.")
	appExists.VMUUID = &someID
	gone := &api.Error{Code: api.CodeResourceDeleted, Detail: "It was deleted.", DeletedAt: &deletedAt}
	create := createArgs(t, "--no-retry", "--idempotency-key", "k-1")
	wait := append(createArgs(t), "--wait")
	for name, c := range map[string]struct {
		args    []string
		answers []http.HandlerFunc
		code    int
		stderr  []string
	}{
		"done":           {create, []http.HandlerFunc{accepted}, exitOK, []string{"Accepted: create CVM web, under key k-1."}},
		"listed":         {[]string{"cvm", "list"}, []http.HandlerFunc{answer(http.StatusOK, api.Page[api.CVM]{Items: []api.CVM{}})}, exitOK, nil},
		"not JSON":       {[]string{"cvm", "list", "--no-retry"}, []http.HandlerFunc{answer(http.StatusBadGateway, "x")}, exitOther, []string{"502", "can be repeated"}},
		"no flag":        {[]string{"app", "scale", "web"}, nil, exitUsage, []string{"--replicas is required", "Run 'roost app scale --help'"}},
		"bad flag":       {[]string{"app", "scale", "web", "--replicas", "x"}, nil, exitUsage, []string{`--replicas: "x" is not a whole number`}},
		"out of range":   {[]string{"app", "scale", "web", "--replicas", "101"}, nil, exitUsage, []string{"--replicas: must be from 1 to 100"}},
		"unknown flag":   {[]string{"cvm", "list", "--colour"}, nil, exitUsage, []string{"--colour: there is no such flag"}},
		"flag no value":  {[]string{"cvm", "list", "--app"}, nil, exitUsage, []string{"--app: its value is missing"}},
		"bad output":     {[]string{"cvm", "list", "-o", "xml"}, nil, exitUsage, []string{`--output: "xml" is none of table, json, yaml`}},
		"bad timeout":    {[]string{"cvm", "list", "--timeout", "soon"}, nil, exitUsage, []string{`--timeout: "soon" is not a duration`}},
		"bad endpoint":   {[]string{"cvm", "list", "--endpoint", "nonsense"}, nil, exitUsage, []string{"endpoint must begin with http:// or https://; it is from --endpoint"}},
		"quiet JSON":     {[]string{"cvm", "list", "-q", "-o", "json"}, nil, exitUsage, []string{"--quiet", "--output"}},
		"no argument":    {[]string{"cvm", "get"}, nil, exitUsage, []string{"NAME|ID is missing"}},
		"empty argument": {[]string{"cvm", "get", ""}, nil, exitUsage, []string{"NAME|ID is empty"}},
		"more arguments": {[]string{"cvm", "get", "a", "b"}, nil, exitUsage, []string{`unexpected argument "b"`}},
		"no command":     {[]string{"cvm", "fly"}, nil, exitUsage, []string{`there is no command "cvm fly"`}},
		"near command":   {[]string{"cvm", "lsit"}, nil, exitUsage, []string{`there is no command "cvm lsit"; did you mean list?`}},
		"no verb":        {[]string{"cvm"}, nil, exitUsage, []string{"name one of the commands of roost cvm: create, delete, get,"}},
		"empty key":      {createArgs(t, "--idempotency-key", ""), nil, exitUsage, []string{"--idempotency-key: must be 1 to 255"}},
		"bad key":        {createArgs(t, "--idempotency-key", "a\nb"), nil, exitUsage, []string{"--idempotency-key: must be"}},
		"empty token":    {[]string{"cvm", "list", "--token", ""}, nil, exitUsage, []string{"--token: is empty"}},
		"no context":     {[]string{"cvm", "list", "--context", "x"}, nil, exitUsage, []string{`--context: there is no context "x"`}},
		"nothing to do":  {[]string{"cvm", "update", "web"}, nil, exitUsage, []string{"nothing to change"}},
		"refused value": {
			create,
			[]http.HandlerFunc{refuse(api.Invalid("/instance_type", "is not one of tdx.small"))},
			exitUsage,
			[]string{"the request is not valid\n  --instance-type: is not one of tdx.small\n", "Nothing was done; the same command would be refused again.", requestID},
		},
		"never was":       {[]string{"cvm", "get", someID.String()}, []http.HandlerFunc{refuse(api.Errorf(api.CodeNotFound, "There is no such CVM."))}, exitNotFound, []string{"read CVM", "There is no such CVM"}},
		"deleted":         {[]string{"cvm", "get", someID.String()}, []http.HandlerFunc{refuse(gone)}, exitNotFound, []string{"its ID never comes back"}},
		"no such name":    {[]string{"cvm", "get", "web"}, []http.HandlerFunc{answer(http.StatusOK, api.Page[api.CVM]{Items: []api.CVM{}})}, exitNotFound, []string{`there is no CVM "web"`}},
		"not bound":       {[]string{"key", "show", "k-1"}, []http.HandlerFunc{refuse(api.Errorf(api.CodeNotFound, "x"))}, exitNotFound, []string{"it has not happened so far: nothing is bound to key k-1"}},
		"not Roost's 404": {[]string{"key", "show", "k-1"}, []http.HandlerFunc{http.NotFound}, exitOther, []string{"404 Not Found: the answer is not Roost's own"}},
		"bound":           {[]string{"key", "show", "k-1"}, []http.HandlerFunc{answer(http.StatusOK, api.Key{State: "bound", RequestID: requestID})}, exitOK, nil},
		"name taken":      {create, []http.HandlerFunc{refuse(appExists)}, exitConflict, []string{"The same command would be refused again.", "roost cvm get " + someID.String()}},
		"other request":   {create, []http.HandlerFunc{refuse(&api.Error{Code: api.CodeIdempotencyKeyReused, Fields: []api.FieldError{{Field: "/compose_file/docker_compose_file", Message: "differs"}}})}, exitConflict, []string{"the key k-1 was used for another request\n  --compose: differs"}},
		"wrong state":     {[]string{"cvm", "start", someID.String()}, []http.HandlerFunc{refuse(api.Errorf(api.CodeInvalidState, "It failed; it takes only DELETE."))}, exitConflict, []string{"takes only DELETE"}},
		"rate limited":    {create, []http.HandlerFunc{refuse(&api.Error{Code: api.CodeRateLimited, Detail: "Too many."})}, exitRateLimited, []string{"Nothing was done. Repeating is safe:", "--idempotency-key k-1", "Try again in 1s"}},
		"answer lost":     {create, []http.HandlerFunc{lose}, exitUnknown, []string{"outcome unknown: no answer came", "--idempotency-key k-1", "roost key show k-1"}},
		"5xx":             {create, []http.HandlerFunc{refuse(api.Errorf(api.CodeInternal, "Our error."))}, exitUnknown, []string{"outcome unknown: Our error", "--idempotency-key k-1", requestID}},
		"503":             {create, []http.HandlerFunc{refuse(api.Errorf(api.CodeUnavailable, "Later."))}, exitUnknown, []string{"outcome unknown: Later", "--idempotency-key k-1"}},
		"in progress":     {create, []http.HandlerFunc{refuse(api.Errorf(api.CodeKeyInProgress, "Another."))}, exitUnknown, []string{"outcome unknown: Another"}},
		"gateway":         {create, []http.HandlerFunc{answer(http.StatusGatewayTimeout, "x")}, exitUnknown, []string{"outcome unknown: 504 Gateway Timeout"}},
		"delete lost":     {[]string{"cvm", "delete", someID.String(), "--no-retry"}, []http.HandlerFunc{lose}, exitUnknown, []string{"what is deleted stays deleted", "roost cvm delete " + someID.String()}},
		"bad token":       {[]string{"cvm", "list"}, []http.HandlerFunc{refuse(api.Errorf(api.CodeUnauthenticated, "Send a token."))}, exitAuth, []string{"the token is not valid there", "It is ROOST_TOKEN's: give another one there; or leave that out and log in: roost login --endpoint http://"}},
		"read only":       {create, []http.HandlerFunc{refuse(api.Errorf(api.CodeForbidden, "Read only."))}, exitAuth, []string{"Read only"}},
		"quota":           {create, []http.HandlerFunc{refuse(api.Errorf(api.CodeQuotaExceeded, "No room."))}, exitOther, []string{"No room"}},
		"failed":          {wait, []http.HandlerFunc{accepted, failed, answer(http.StatusOK, someCVM(api.StatusFailed, api.OperationFailed))}, exitFailed, []string{"SIM_FAILED: no boot", "it shows this same operation"}},
		"canceled":        {[]string{"op", "get", "op_1", "--wait"}, []http.HandlerFunc{answer(http.StatusOK, api.Operation{ID: "op_1", Status: api.OperationCanceled})}, exitFailed, []string{"op_1"}},
		"not ended":       {append(wait, "--timeout", "3s"), []http.HandlerFunc{accepted, pending, hang}, exitNotEnded, []string{"op_1 was pending when the wait ended (--timeout has passed)", "roost op get op_1 --endpoint", "--wait"}},
		"CVM not ended": {[]string{"cvm", "get", someID.String(), "--wait", "--timeout", "3s"}, []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			cvm := someCVM(api.StatusProvisioning, api.OperationSucceeded)
			cvm.InProgress = true
			answer(http.StatusOK, cvm)(w, r)
		}}, exitNotEnded, []string{"was provisioning"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if c.answers != nil {
				b.at(serve(t, c.answers...).URL, canaryToken)
			} else {
				b.at("http://127.0.0.1:1", canaryToken)
			}
			require.Equal(t, c.code, b.run(c.args...), b.err)
			for _, want := range c.stderr {
				require.Contains(t, b.err.String(), want)
			}
			if c.code != exitOK && c.code != exitFailed && c.code != exitNotEnded {
				require.Empty(t, b.out.String(), "data of a command that failed")
			}
		})
	}
}

func TestExitCodesWithoutAServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, exitAuth, b.run("cvm", "list"))
	require.Contains(t, b.err.String(), "roost login --endpoint URL")

	b.at("http://127.0.0.1:1", canaryToken)
	require.Equal(t, exitOther, b.run(createArgs(t, "--no-retry")...), "what never left is not unknown")
	require.Contains(t, b.err.String(), "connection refused")
	require.Contains(t, b.err.String(), "Nothing was done. Repeating is safe:")
	require.Contains(t, b.err.String(), "--idempotency-key")
}

func TestInterruptedBeforeARequest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := setup(t).at("http://127.0.0.1:1", canaryToken)
	require.Equal(t, exitInterrupted, b.runContext(ctx, "cvm", "list"))
	require.Contains(t, b.err.String(), "interrupted")
}

// TestInterruptedWait leaves an operation that goes on, and data that names it.
func TestInterruptedWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	poll := func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	s := serve(t, answer(http.StatusAccepted, someCVM(api.StatusProvisioning, api.OperationPending)), poll)
	b := setup(t).at(s.URL, canaryToken)
	require.Equal(t, exitNotEnded, b.runContext(ctx, createArgs(t, "--wait", "--idempotency-key", "k-1")...))
	require.Contains(t, b.err.String(), "op_1 was not seen yet when the wait ended (interrupted). It goes on by itself; to wait on: roost op get op_1")
	require.Contains(t, shownCommand(t, b.err.String()), "--idempotency-key k-1")
	require.Contains(t, b.out.String(), someID.String())
}

// TestAnUnknownOutcomeStaysUnknown: a rate limit that follows a lost answer
// says nothing about the attempt before it.
func TestAnUnknownOutcomeStaysUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t).at(serve(t, lose, refuse(&api.Error{Code: api.CodeRateLimited, Detail: "Too many."})).URL, canaryToken)
	require.Equal(t, exitUnknown, b.run(createArgs(t, "--timeout", "3s")...), b.err)
}

// TestAKeyOfAnotherCommandSaysSo: the members of two calls do not compare, so
// none is named, and no argument of this command is blamed.
func TestAKeyOfAnotherCommandSaysSo(t *testing.T) {
	t.Parallel()
	reused := &api.Error{Code: api.CodeIdempotencyKeyReused, Detail: "This key was bound to another request.", Fields: []api.FieldError{
		{Field: "path", Message: "differs"}, {Field: "/name", Message: "differs"}, {Field: "/instance_type", Message: "differs"},
	}}
	s := serve(t, refuse(reused))
	b := setup(t).at(s.URL, canaryToken)
	require.Equal(t, exitConflict, b.run("cvm", "stop", someID.String(), "--idempotency-key", "k-1"))
	require.Equal(t, "roost: stop CVM "+someID.String()+": the key k-1 was used for another request\n"+
		"  that one was another command, or this command for something else\n"+
		"Nothing was done; the same command would be refused again.\n"+
		"What was done under the key: roost key show k-1 --endpoint "+s.URL+"\n"+
		"Without --idempotency-key, or with a key of its own, this is a new request.\n"+
		"Request ID: "+requestID+"\n", b.err.String())
}
