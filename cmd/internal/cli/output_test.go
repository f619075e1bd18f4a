package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"roost/api"
)

func listServer(t *testing.T) *server {
	t.Helper()
	cvm := someCVM(api.StatusRunning, api.OperationSucceeded)
	cvm.Name, cvm.Memory = "it's: \"odd\"", 9007199254740993
	return serve(t, answer(http.StatusOK, api.Page[api.CVM]{Items: []api.CVM{cvm, someCVM(api.StatusFailed, api.OperationFailed)}}))
}

func TestOutputsSayTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t).at(listServer(t).URL, canaryToken)
	var fromJSON, fromYAML []api.CVM
	require.NoError(t, json.Unmarshal([]byte(b.must("cvm", "list", "-o", "json")), &fromJSON))
	require.Len(t, fromJSON, 2)
	require.Equal(t, int64(9007199254740993), fromJSON[0].Memory)
	document, err := yaml.YAMLToJSON([]byte(b.must("cvm", "list", "-o", "yaml")))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(document, &fromYAML))
	require.Equal(t, fromJSON, fromYAML)
	require.Equal(t, someID.String()+"\n"+someID.String()+"\n", b.must("cvm", "list", "-q"))
	require.Empty(t, b.err.String())

	table := strings.Split(b.must("cvm", "list"), "\n")
	require.Equal(t, strings.Index(table[0], "STATUS"), strings.Index(table[1], "running"), "columns are aligned")
	require.Equal(t, strings.Index(table[0], "STATUS"), strings.Index(table[2], "failed"), "columns are aligned")
}

func TestNoItemsAreAnEmptyList(t *testing.T) {
	t.Parallel()
	b := setup(t).at(serve(t, answer(http.StatusOK, api.Page[api.CVM]{Items: []api.CVM{}})).URL, canaryToken)
	require.Equal(t, "[]\n", b.must("cvm", "list", "-o", "json"))
	require.Empty(t, b.must("cvm", "list", "-q"))
}

// TestColoursAreForTerminals, and the same table is under them.
func TestColoursAreForTerminals(t *testing.T) {
	t.Parallel()
	b := setup(t).at(listServer(t).URL, canaryToken)
	plainTable := b.must("cvm", "list")
	require.NotContains(t, plainTable, "\x1b")
	b.env.OutTerminal, b.env.ErrTerminal = true, true
	coloured := b.must("cvm", "list")
	require.Contains(t, coloured, toneGood.begin()+"running"+toneEnd)
	require.Contains(t, coloured, toneBad.begin()+"failed"+toneEnd)
	stripped := coloured
	for _, code := range []tone{toneGood, toneBad, toneBusy, toneHead, "0"} {
		stripped = strings.ReplaceAll(stripped, code.begin(), "")
	}
	require.Equal(t, plainTable, stripped)
	require.NotContains(t, b.must("cvm", "list", "-o", "json"), "\x1b")
	require.Equal(t, exitUsage, b.run("cvm", "get"))
	require.Contains(t, b.err.String(), toneBad.begin())

	for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		b.vars[name] = value
		require.Equal(t, plainTable, b.must("cvm", "list"), name)
		require.Equal(t, exitUsage, b.run("cvm", "get"))
		require.NotContains(t, b.err.String(), "\x1b", name)
		delete(b.vars, name)
	}
}

func waitServer(t *testing.T) *server {
	t.Helper()
	op := func(status api.OperationStatus, attempts int64) http.HandlerFunc {
		return answer(http.StatusOK, api.Operation{ID: "op_1", Kind: api.KindCVMCreate, Status: status, Attempts: attempts})
	}
	return serve(t, answer(http.StatusAccepted, someCVM(api.StatusProvisioning, api.OperationPending)),
		op(api.OperationPending, 1), op(api.OperationPending, 2), op(api.OperationRunning, 2), op(api.OperationSucceeded, 2),
		answer(http.StatusOK, someCVM(api.StatusRunning, api.OperationSucceeded)))
}

func TestProgressIsOneLineOnATerminal(t *testing.T) {
	t.Parallel()
	b := setup(t).at(waitServer(t).URL, canaryToken)
	b.env.ErrTerminal = true
	require.Contains(t, b.must(createArgs(t, "--wait")...), "running")
	_, live, ok := strings.Cut(b.err.String(), "key ")
	require.True(t, ok)
	_, live, ok = strings.Cut(live, "\n")
	require.True(t, ok, "the note about the key comes first")
	require.GreaterOrEqual(t, strings.Count(live, "\r\x1b[K"), 4)
	require.Equal(t, 1, strings.Count(live, "\n"), "the line ends once: %q", live)
	require.Contains(t, live, "\r\x1b[Kcvm.create op_1: pending (attempt 2) (")
}

func TestProgressIsPlainLinesElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t).at(waitServer(t).URL, canaryToken)
	b.must(createArgs(t, "--wait", "-o", "json")...)
	require.NotContains(t, b.err.String(), "\r")
	require.NotContains(t, b.err.String(), "\x1b")
	require.Contains(t, b.err.String(), "cvm.create op_1: pending\ncvm.create op_1: pending (attempt 2)\ncvm.create op_1: running (attempt 2)\ncvm.create op_1: succeeded\n")
	var cvm api.CVM
	require.NoError(t, json.Unmarshal(b.out.Bytes(), &cvm), "nothing but data on stdout")

	quiet := setup(t).at(waitServer(t).URL, canaryToken)
	require.Equal(t, someID.String()+"\n", quiet.must(createArgs(t, "--wait", "-q")...))
	require.Empty(t, quiet.err.String())
}
