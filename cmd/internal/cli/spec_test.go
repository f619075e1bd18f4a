package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

const specYAML = `
name: web
instance_type: tdx.small
memory: 9007199254740993
env_keys: [A]
compose_file:
  docker_compose_file: |
    services: {web: {image: nginx}}
  pre_launch_script: echo
`

const specJSON = `{"name":"web","instance_type":"tdx.small","memory":9007199254740993,"env_keys":["A"],
	"compose_file":{"docker_compose_file":"services: {web: {image: nginx}}\n","pre_launch_script":"echo"}}`

func TestASpecIsTheSameAsYAMLAndJSON(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(http.StatusAccepted, someCVM(api.StatusProvisioning, api.OperationPending)))
	b := setup(t).at(s.URL, canaryToken)
	for _, text := range []string{specYAML, specJSON} {
		b.env.In = strings.NewReader(text)
		b.must("cvm", "create", "-f", "-")
	}
	require.JSONEq(t, s.sent()[0], s.sent()[1])
	require.Contains(t, s.sent()[0], "9007199254740993")

	// Flags win over the file.
	b.env.In = strings.NewReader(specYAML)
	b.must("cvm", "create", "other", "-f", "-", "--instance-type", "tdx.large", "--vcpu", "3", "--compose", composeFile(t), "--region", "r", "--listed=false")
	var spec api.Spec
	require.NoError(t, json.Unmarshal([]byte(s.sent()[2]), &spec))
	require.Equal(t, "other", spec.Name)
	require.Equal(t, "tdx.large", spec.InstanceType)
	require.Equal(t, int64(3), *spec.VCPU)
	require.Equal(t, "services: {web: {image: nginx}}", spec.ComposeFile.DockerComposeFile)
	require.Equal(t, "echo", *spec.ComposeFile.PreLaunchScript)
	require.False(t, *spec.Listed)
	require.Equal(t, []string{"A"}, spec.EnvKeys)
}

func TestAPatchSendsOnlyWhatIsGiven(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(http.StatusAccepted, someCVM(api.StatusUpdating, api.OperationPending)))
	b := setup(t).at(s.URL, canaryToken)
	b.must("cvm", "update", someID.String(), "--memory", "4096")
	require.JSONEq(t, `{"memory":4096}`, s.sent()[0])
	b.must("cvm", "update", someID.String(), "--image", "dstack-0.5.8", "--compose", composeFile(t))
	require.JSONEq(t, `{"base_image":"dstack-0.5.8","compose_file":{"docker_compose_file":"services: {web: {image: nginx}}"}}`, s.sent()[1])
}

func TestAWrongFileIsAUsageError(t *testing.T) {
	t.Parallel()
	large := t.TempDir() + "/large"
	require.NoError(t, os.WriteFile(large, make([]byte, maxInputBytes+1), privateFile))
	for name, c := range map[string]struct {
		args  []string
		stdin string
		want  string
	}{
		"unknown member":    {[]string{"-f", "-"}, "title: web\n", `--file: unknown field "title"`},
		"wrong type":        {[]string{"-f", "-"}, "name: [web]\n", "--file: "},
		"neither":           {[]string{"-f", "-"}, "a: b: c: [", "--file: it is neither YAML nor JSON"},
		"two documents":     {[]string{"-f", "-"}, `{"name":"a"}{"name":"b"}`, "--file: it holds more than one document"},
		"no name":           {[]string{"-f", "-"}, "instance_type: tdx.small\n", "NAME is missing"},
		"no size":           {[]string{"web"}, "", "--instance-type is required"},
		"no compose":        {[]string{"web", "--instance-type", "tdx.small"}, "", "--compose is required"},
		"empty compose":     {[]string{"web", "--instance-type", "tdx.small", "--compose", "-"}, "", "--compose is required and must not be empty"},
		"no such file":      {[]string{"-f", "/no/such/file"}, "", "--file: open /no/such/file"},
		"a directory":       {[]string{"-f", "/"}, "", "--file: "},
		"too large":         {[]string{"web", "--compose", large}, "", "--compose: it is larger than"},
		"stdin twice":       {[]string{"-f", "-", "--compose", "-"}, specJSON, "--compose: stdin is read for --file already"},
		"ID of one's own":   {[]string{"-f", "-"}, `{"id":"x"}`, `unknown field "id"`},
		"empty name":        {[]string{""}, "", "NAME is empty"},
		"no number of CPUs": {[]string{"web", "--vcpu", "two"}, "", `--vcpu: "two" is not a whole number`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer(http.StatusAccepted, api.CVM{}))
			b := setup(t).at(s.URL, canaryToken)
			b.env.In = strings.NewReader(c.stdin)
			require.Equal(t, exitUsage, b.run(append([]string{"cvm", "create"}, c.args...)...), b.err)
			require.Contains(t, b.err.String(), c.want)
			require.Contains(t, b.err.String(), "Run 'roost cvm create --help'")
			require.Empty(t, s.seen(), "nothing is sent")
		})
	}
}

func TestDeleteAsksOnATerminalOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(http.StatusAccepted, someCVM(api.StatusDeleting, api.OperationPending)))
	b := setup(t).at(s.URL, canaryToken)
	b.must("cvm", "delete", someID.String())
	require.Len(t, s.seen(), 1, "a script is not asked")

	b.env.InTerminal, b.env.ErrTerminal = true, true
	for answer, sent := range map[string]int{"n\n": 0, "\n": 0, "": 0, "y\n": 1, "YES\n": 1} {
		before := len(s.seen())
		b.env.In = strings.NewReader(answer)
		code := b.run("cvm", "delete", someID.String())
		require.Contains(t, b.err.String(), "[y/N]")
		require.Len(t, s.seen(), before+sent, "%q", answer)
		require.Equal(t, sent == 1, code == exitOK, "%q", answer)
	}
	b.must("cvm", "delete", someID.String(), "--yes")
	require.NotContains(t, b.err.String(), "[y/N]")

	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	silent, _ := io.Pipe()
	b.env.In = silent
	require.Equal(t, exitInterrupted, b.runContext(ctx, "cvm", "delete", someID.String()))
	require.Contains(t, b.err.String(), "[y/N] \n")
	require.Contains(t, b.err.String(), "roost: interrupted; nothing was done")
}

func TestWhatIsGoneIsDeleted(t *testing.T) {
	t.Parallel()
	deletedAt := api.Time{}
	gone := &api.Error{Code: api.CodeGone, Detail: "It was deleted.", DeletedAt: &deletedAt}
	b := setup(t).at(serve(t, refuse(gone)).URL, canaryToken)
	b.must("cvm", "delete", someID.String(), "--wait")
	require.Contains(t, b.err.String(), "it was deleted before; there is nothing left to do")
	b.must("firewall", "delete", someID.String(), someID.String())
	require.Contains(t, b.err.String(), "it was deleted before")
	require.Equal(t, someID.String()+"\n", b.must("cvm", "delete", someID.String(), "-q"))
}
