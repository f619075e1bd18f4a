package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
)

func validSpec() api.Spec {
	return api.Spec{
		Name: "web-app", InstanceType: "tdx.small",
		ComposeFile: &api.ComposeFile{DockerComposeFile: "services: {}"},
	}
}

func fields(errs []api.FieldError) []string {
	out := []string{}
	for _, e := range errs {
		out = append(out, e.Field)
	}
	return out
}

func TestSpecValidateNamesEveryMemberThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*api.Spec)
		want   []string
	}{
		"nothing":                     {func(*api.Spec) {}, nil},
		"the empty spec":              {func(s *api.Spec) { *s = api.Spec{} }, []string{"/name", "/instance_type", "/compose_file/docker_compose_file"}},
		"63 characters":               {func(s *api.Spec) { s.Name = strings.Repeat("a", 63) }, nil},
		"64 characters":               {func(s *api.Spec) { s.Name = strings.Repeat("a", 64) }, []string{"/name"}},
		"every character of the name": {func(s *api.Spec) { s.Name = "AZaz09._-" }, nil},
		"a space in the name":         {func(s *api.Spec) { s.Name = "a b" }, []string{"/name"}},
		"a slash in the name":         {func(s *api.Spec) { s.Name = "a/b" }, []string{"/name"}},
		"a letter beyond ASCII":       {func(s *api.Spec) { s.Name = "ä" }, []string{"/name"}},
		"a line break":                {func(s *api.Spec) { s.Name = "a\n" }, []string{"/name"}},
		"an unknown instance type":    {func(s *api.Spec) { s.InstanceType = "tdx.huge" }, []string{"/instance_type"}},
		"a type in another case":      {func(s *api.Spec) { s.InstanceType = "TDX.SMALL" }, []string{"/instance_type"}},
		"an empty compose file":       {func(s *api.Spec) { s.ComposeFile = &api.ComposeFile{} }, []string{"/compose_file/docker_compose_file"}},
		"vcpu 0":                      {func(s *api.Spec) { s.VCPU = new(int64) }, []string{"/vcpu"}},
		"vcpu 1":                      {func(s *api.Spec) { s.VCPU = new(int64(1)) }, nil},
		"vcpu at its limit":           {func(s *api.Spec) { s.VCPU = new(int64(api.MaxVCPU)) }, nil},
		"vcpu past its limit":         {func(s *api.Spec) { s.VCPU = new(int64(api.MaxVCPU + 1)) }, []string{"/vcpu"}},
		"negative memory":             {func(s *api.Spec) { s.Memory = new(int64(-1)) }, []string{"/memory"}},
		"memory at its limit":         {func(s *api.Spec) { s.Memory = new(int64(api.MaxMemoryMB)) }, nil},
		"memory past its limit":       {func(s *api.Spec) { s.Memory = new(int64(api.MaxMemoryMB + 1)) }, []string{"/memory"}},
		"disk past its limit":         {func(s *api.Spec) { s.DiskSize = new(int64(api.MaxDiskGB + 1)) }, []string{"/disk_size"}},
		"disk past 2^53":              {func(s *api.Spec) { s.DiskSize = new(int64(9007199254740993)) }, []string{"/disk_size"}},
		"an app ID":                   {func(s *api.Spec) { s.AppID = new("x") }, []string{"/app_id"}},
		"an empty app ID":             {func(s *api.Spec) { s.AppID = new("") }, []string{"/app_id"}},
		"a nonce":                     {func(s *api.Spec) { s.Nonce = new(int64) }, []string{"/nonce"}},
		"env keys at the limit":       {func(s *api.Spec) { s.EnvKeys = slices.Repeat([]string{"A"}, api.MaxEnvKeys) }, nil},
		"env keys past the limit":     {func(s *api.Spec) { s.EnvKeys = slices.Repeat([]string{"A"}, api.MaxEnvKeys+1) }, []string{"/env_keys"}},
		"an env key that is none":     {func(s *api.Spec) { s.EnvKeys = []string{"A", ""} }, []string{"/env_keys/1"}},
		"an allowed env that is none": {func(s *api.Spec) { s.ComposeFile.AllowedEnvs = []string{""} }, []string{"/compose_file/allowed_envs/0"}},
		"all at once": {func(s *api.Spec) {
			s.Name, s.InstanceType, s.VCPU, s.Nonce = "a b", "x", new(int64), new(int64)
		}, []string{"/name", "/instance_type", "/vcpu", "/nonce"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := validSpec()
			tc.change(&s)
			require.ElementsMatch(t, tc.want, fields(s.Validate()))
			for _, e := range s.Validate() {
				require.NotEmpty(t, e.Message)
			}
		})
	}
}

func TestEveryInstanceTypeIsValidAndBringsItsSize(t *testing.T) {
	t.Parallel()
	for _, size := range api.InstanceTypes() {
		s := validSpec()
		s.InstanceType = size.ID
		require.Empty(t, s.Validate())
		full := s.WithDefaults()
		require.Equal(t, []int64{size.VCPU, size.MemoryMB, size.DiskGB}, []int64{*full.VCPU, *full.Memory, *full.DiskSize})
		require.Empty(t, full.Validate(), "defaults are valid")
	}
}

// The table of CONTRACT section 3.1.
func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	full := validSpec().WithDefaults()
	require.Equal(t, "dstack-0.5.7", *full.Image)
	require.Equal(t, "local-1", *full.Region)
	require.Equal(t, "zfs", *full.ComposeFile.StorageFS)
	require.False(t, *full.Listed)
	require.Equal(t, *full.Image, api.Images()[0].Name)
	require.Contains(t, api.Regions(), *full.Region)
	require.Equal(t, []api.InstanceType{
		{ID: "tdx.small", VCPU: 1, MemoryMB: 2048, DiskGB: 20},
		{ID: "tdx.medium", VCPU: 2, MemoryMB: 4096, DiskGB: 40},
		{ID: "tdx.large", VCPU: 4, MemoryMB: 8192, DiskGB: 80},
	}, api.InstanceTypes())
}

func anyOptional[T any](g *rapid.Generator[T]) *rapid.Generator[*T] { return rapid.Ptr(g, true) }

// anySpec draws specs in which members are absent, at their default or not.
func anySpec() *rapid.Generator[api.Spec] {
	return rapid.Custom(func(t *rapid.T) api.Spec {
		s := validSpec()
		s.Name = rapid.StringMatching(`[A-Za-z0-9._-]{1,63}`).Draw(t, "name")
		s.InstanceType = rapid.SampledFrom(api.InstanceTypes()).Draw(t, "type").ID
		s.VCPU = anyOptional(rapid.Int64Range(1, 4)).Draw(t, "vcpu")
		s.Memory = anyOptional(rapid.SampledFrom([]int64{2048, 4096, 5000})).Draw(t, "memory")
		s.DiskSize = anyOptional(rapid.SampledFrom([]int64{20, 40, 50})).Draw(t, "disk")
		s.Image = anyOptional(rapid.SampledFrom([]string{api.DefaultImage, "dstack-0.5.8"})).Draw(t, "image")
		s.Region = anyOptional(rapid.SampledFrom([]string{api.DefaultRegion, "x"})).Draw(t, "region")
		s.Listed = anyOptional(rapid.Bool()).Draw(t, "listed")
		s.ComposeFile.StorageFS = anyOptional(rapid.SampledFrom([]string{"zfs", "ext4"})).Draw(t, "fs")
		s.EnvKeys = rapid.SliceOf(rapid.StringMatching(`[A-Z]{1,3}`)).Draw(t, "env")
		return s
	})
}

func jsonOf(t require.TestingT, v any) string {
	doc, err := json.Marshal(v)
	require.NoError(t, err)
	return string(doc)
}

func TestWithDefaultsIsIdempotentAndChangesNothingThatIsGiven(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec().Draw(t, "spec")
		before := jsonOf(t, s)
		full := s.WithDefaults()
		require.Equal(t, jsonOf(t, full), jsonOf(t, full.WithDefaults()))
		require.Equal(t, before, jsonOf(t, s), "the receiver is a copy to its depth")

		var given, filled map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(before), &given))
		require.NoError(t, json.Unmarshal([]byte(jsonOf(t, full)), &filled))
		delete(given, "compose_file") // gets a member, checked below
		for member, value := range given {
			require.Equal(t, string(value), string(filled[member]), member)
		}
		if s.ComposeFile.StorageFS != nil {
			require.Equal(t, *s.ComposeFile.StorageFS, *full.ComposeFile.StorageFS)
		}
		require.Equal(t, s.ComposeFile.DockerComposeFile, full.ComposeFile.DockerComposeFile)
	})
}

func TestAnExplicitDefaultEqualsAnAbsentMember(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec().Draw(t, "spec")
		// Write the default out wherever the client had left it out.
		d, explicit := s.Defaults(), s
		explicit.VCPU, explicit.Memory = or(s.VCPU, d.VCPU), or(s.Memory, d.Memory)
		explicit.DiskSize, explicit.Image = or(s.DiskSize, d.DiskSize), or(s.Image, d.Image)
		explicit.Region, explicit.Listed = or(s.Region, d.Region), or(s.Listed, d.Listed)
		require.Equal(t, jsonOf(t, s.WithDefaults()), jsonOf(t, explicit.WithDefaults()))
		require.Equal(t, jsonOf(t, d), jsonOf(t, explicit.Defaults()), "defaults depend on the instance type alone")
	})
}

func or[T any](p, otherwise *T) *T {
	if p != nil {
		return p
	}
	return otherwise
}

func TestDefaultsHoldNothingButDefaults(t *testing.T) {
	t.Parallel()
	for _, size := range api.InstanceTypes() {
		s := validSpec()
		s.InstanceType, s.EnvKeys, s.EncryptedEnv = size.ID, []string{"A"}, new("ab")
		m := members(t, s.Defaults())
		require.Empty(t, m["name"])
		require.Empty(t, m["instance_type"])
		require.NotContains(t, m, "env_keys")
		require.NotContains(t, m, "encrypted_env")
		require.Equal(t, map[string]any{"docker_compose_file": "", "storage_fs": "zfs"}, m["compose_file"])
	}
}

func TestNullIsAbsent(t *testing.T) {
	t.Parallel()
	var whole map[string]any
	require.NoError(t, json.Unmarshal([]byte(jsonOf(t, validSpec())), &whole))
	for _, member := range []string{
		"vcpu", "memory", "disk_size", "image", "region", "listed", "encrypted_env", "env_keys", "app_id", "nonce", "kms",
		"kms_id", "teepod_id", "user_config", "ports", "prefer_dev", "experimental_vpc_server_app_id",
	} {
		whole[member] = nil
	}
	var s api.Spec
	require.NoError(t, json.Unmarshal([]byte(jsonOf(t, whole)), &s))
	require.Equal(t, validSpec(), s)
	require.Empty(t, s.Validate())
}
