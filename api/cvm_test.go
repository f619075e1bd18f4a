package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
)

func TestCreateCVMIsACommitOrAWholeSpec(t *testing.T) {
	t.Parallel()
	require.False(t, api.CreateCVM{Spec: validSpec()}.IsCommit())
	require.Empty(t, api.CreateCVM{Spec: validSpec()}.Validate())
	require.Equal(t, validSpec().Validate(), api.CreateCVM{Spec: validSpec()}.Validate())
	require.Equal(t, api.Spec{}.Validate(), api.CreateCVM{}.Validate(), "without a compose_hash it is a Spec")
	require.True(t, api.CreateCVM{ComposeHash: new("")}.IsCommit())
}

func TestACommitBringsAnAppAndItsEnvAndNothingElse(t *testing.T) {
	t.Parallel()
	app := api.NewMinter().ID().String()
	for name, tc := range map[string]struct {
		change func(*api.CreateCVM)
		want   []string
	}{
		"app and hash":          {func(*api.CreateCVM) {}, nil},
		"the other spelling":    {func(r *api.CreateCVM) { r.AppID = new("app_" + app) }, nil},
		"with env":              {func(r *api.CreateCVM) { r.EncryptedEnv, r.EnvKeys = new("ab"), []string{"A"} }, nil},
		"with env of no name":   {func(r *api.CreateCVM) { r.EnvKeys = []string{""} }, []string{"/env_keys/0"}},
		"with addresses":        {func(r *api.CreateCVM) { r.ContractAddress, r.DeployerAddress = new("0x"), new("0x") }, nil},
		"no app":                {func(r *api.CreateCVM) { r.AppID = nil }, []string{"/app_id"}},
		"an app that is none":   {func(r *api.CreateCVM) { r.AppID = new("x") }, []string{"/app_id"}},
		"an empty app":          {func(r *api.CreateCVM) { r.AppID = new("") }, []string{"/app_id"}},
		"an empty hash":         {func(r *api.CreateCVM) { r.ComposeHash = new("") }, []string{"/compose_hash"}},
		"a short hash":          {func(r *api.CreateCVM) { r.ComposeHash = new("f9b3") }, []string{"/compose_hash"}},
		"a hash in capitals":    {func(r *api.CreateCVM) { r.ComposeHash = new(strings.Repeat("0F", 32)) }, []string{"/compose_hash"}},
		"with a name":           {func(r *api.CreateCVM) { r.Name = "x" }, []string{"/name"}},
		"with an instance type": {func(r *api.CreateCVM) { r.InstanceType = "tdx.small" }, []string{"/instance_type"}},
		"with a compose file":   {func(r *api.CreateCVM) { r.ComposeFile = &api.ComposeFile{} }, []string{"/compose_file"}},
		"with sizes": {
			func(r *api.CreateCVM) { r.VCPU, r.Memory, r.DiskSize = new(int64), new(int64), new(int64) },
			[]string{"/vcpu", "/memory", "/disk_size"},
		},
		"with the rest": {
			func(r *api.CreateCVM) {
				r.Image, r.Region, r.Listed, r.Nonce = new(""), new(""), new(false), new(int64)
			},
			[]string{"/image", "/region", "/listed", "/nonce"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := api.CreateCVM{Spec: api.Spec{AppID: &app}, ComposeHash: new(strings.Repeat("0f", 32))}
			tc.change(&r)
			require.ElementsMatch(t, tc.want, fields(r.Validate()))
		})
	}
}

func TestCreateReplicasTakesANameOrACount(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body api.CreateReplicas
		want []string
	}{
		"nothing":             {api.CreateReplicas{}, nil},
		"a name":              {api.CreateReplicas{Name: new("x")}, nil},
		"an empty name":       {api.CreateReplicas{Name: new("")}, []string{"/name"}},
		"a bad name":          {api.CreateReplicas{Name: new("a b")}, []string{"/name"}},
		"one":                 {api.CreateReplicas{Count: new(int64(1))}, nil},
		"a hundred":           {api.CreateReplicas{Count: new(int64(100))}, nil},
		"none":                {api.CreateReplicas{Count: new(int64)}, []string{"/count"}},
		"a hundred and one":   {api.CreateReplicas{Count: new(int64(101))}, []string{"/count"}},
		"fewer than none":     {api.CreateReplicas{Count: new(int64(-1))}, []string{"/count"}},
		"a name for several":  {api.CreateReplicas{Name: new("x"), Count: new(int64(2))}, []string{"/name"}},
		"a name and count 1":  {api.CreateReplicas{Name: new("x"), Count: new(int64(1))}, nil},
		"everything is wrong": {api.CreateReplicas{Name: new("a b"), Count: new(int64)}, []string{"/count", "/name", "/name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ElementsMatch(t, tc.want, fields(tc.body.Validate()))
		})
	}
}

func TestCreateAppNeedsAName(t *testing.T) {
	t.Parallel()
	require.Empty(t, api.CreateApp{Name: "x"}.Validate())
	require.Equal(t, []string{"/name"}, fields(api.CreateApp{}.Validate()))
	require.Equal(t, []string{"/name"}, fields(api.CreateApp{Name: "a b"}.Validate()))
}

func TestOnlyThreeStatusesOfAnOperationAreFinal(t *testing.T) {
	t.Parallel()
	for status, ended := range map[api.OperationStatus]bool{
		api.OperationPending: false, api.OperationRunning: false, api.OperationSucceeded: true,
		api.OperationFailed: true, api.OperationCanceled: true, "": false,
	} {
		require.Equal(t, ended, status.Ended(), status)
	}
}
