package idempotency_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
	"roost/api/jsondiff"
	"roost/api/wire"
	"roost/platform/idempotency"
)

// decode reads a body as the edge does and fingerprints it as a create does.
func decode(t require.TestingT, body string) map[string]string {
	var req api.CreateCVM
	require.NoError(t, wire.DecodeBytes([]byte(body), api.MaxJSONDepth, &req), body)
	return fingerprint(t, req.Spec)
}

func fingerprint(t require.TestingT, s api.Spec) map[string]string {
	m, err := idempotency.Members(s.WithDefaults(), s.Defaults())
	require.NoError(t, err)
	return m
}

const plain = `{"name":"web","instance_type":"tdx.small","compose_file":{"docker_compose_file":"services: {}"}}`

func TestBodiesThatDecodeToTheSameValueAreTheSameRequest(t *testing.T) {
	t.Parallel()
	want := decode(t, plain)
	require.Equal(t, []string{"/compose_file/docker_compose_file", "/instance_type", "/name"}, slices.Sorted(maps.Keys(want)))
	for name, body := range map[string]string{
		"key order":     `{"compose_file":{"docker_compose_file":"services: {}"},"instance_type":"tdx.small","name":"web"}`,
		"white space":   "\n{ \"name\" :\t\"web\",\r\n \"instance_type\":\"tdx.small\",\"compose_file\":{\"docker_compose_file\":\"services: {}\"} }\n",
		"escapes":       `{"name":"w\u0065b","instance_type":"tdx\u002esmall","compose_file":{"docker_compose_file":"services: \u007b}"}}`,
		"null":          plain[:len(plain)-1] + `,"vcpu":null,"image":null,"env_keys":null,"kms_id":null,"ports":null,"app_id":null}`,
		"every default": plain[:len(plain)-2] + `,"storage_fs":"zfs"},"vcpu":1,"memory":2048,"disk_size":20,"image":"dstack-0.5.7","region":"local-1","listed":false}`,
		"one default":   plain[:len(plain)-1] + `,"memory":2048}`,
		"an empty list": plain[:len(plain)-1] + `,"env_keys":[]}`,
	} {
		require.Equal(t, want, decode(t, body), name)
	}
}

func TestBodiesThatDecodeToAnotherValueAreAnotherRequest(t *testing.T) {
	t.Parallel()
	for extra, pointer := range map[string]string{
		`"vcpu":2`:                        "/vcpu",
		`"memory":2049`:                   "/memory",
		`"listed":true`:                   "/listed",
		`"env_keys":["A"]`:                "/env_keys",
		`"teepod_id":0`:                   "/teepod_id",
		`"teepod_id":9007199254740993`:    "/teepod_id",
		`"user_config":""`:                "/user_config",
		`"prefer_dev":false`:              "/prefer_dev",
		`"ports":[{"a":1}]`:               "/ports",
		`"ports":[]`:                      "/ports",
		`"kms_id":"x"`:                    "/kms_id",
		`"image":"dstack-0.5.8"`:          "/image",
		`"disk_size":40`:                  "/disk_size",
		`"encrypted_env":"must be clear"`: "/encrypted_env",
	} {
		require.Equal(t, []string{pointer}, jsondiff.Diff(decode(t, plain), decode(t, plain[:len(plain)-1]+","+extra+"}")), extra)
	}
}

func TestEveryDigitOfANumberCounts(t *testing.T) {
	t.Parallel()
	body := func(digits string) string { return plain[:len(plain)-1] + `,"teepod_id":` + digits + `}` }
	require.NotEqual(t, decode(t, body("9007199254740993")), decode(t, body("9007199254740992")))
	ports := func(digits string) string { return plain[:len(plain)-1] + `,"ports":[` + digits + `]}` }
	require.NotEqual(t, decode(t, ports("9007199254740993")), decode(t, ports("9007199254740992")))
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		of := func(n int64) map[string]string { return fingerprint(t, api.Spec{TeepodID: &n}) }
		require.Equal(t, a == b, maps.Equal(of(a), of(b)))
	})
}

// The defaults of another instance type are no defaults of this one.
func TestADefaultIsTheDefaultOfItsInstanceType(t *testing.T) {
	t.Parallel()
	large := `{"name":"web","instance_type":"tdx.large","compose_file":{"docker_compose_file":"services: {}"}`
	require.Equal(t, decode(t, large+`}`), decode(t, large+`,"vcpu":4,"memory":8192}`))
	require.NotEqual(t, decode(t, large+`}`), decode(t, large+`,"vcpu":1}`))
}

// Clients encrypt anew each time, so the ciphertext is cleared before; the
// names in it are not.
func TestACiphertextThatIsClearedDoesNotCount(t *testing.T) {
	t.Parallel()
	of := func(cipher string, names ...string) map[string]string {
		s := api.Spec{Name: "web", EncryptedEnv: &cipher, EnvKeys: names}
		s.EncryptedEnv = nil
		return fingerprint(t, s)
	}
	require.Equal(t, of("aa", "A"), of("bb", "A"))
	require.NotEqual(t, of("aa", "A"), of("aa", "B"))
}

// versionOne and versionTwo are one request type before and after a release.
type versionOne struct {
	Name string `json:"name"`
	Size *int64 `json:"size,omitempty"`
}

type versionTwo struct {
	Name  string  `json:"name"`
	Size  *int64  `json:"size,omitempty"`
	Color *string `json:"color,omitempty"` // optional, without a default
	Shape *string `json:"shape,omitempty"` // optional, with one
	Count int64   `json:"count"`           // always encoded; its default is 0
}

func TestAMemberThatIsAddedLaterBreaksNoHonestRetry(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name, size := rapid.String().Draw(t, "name"), rapid.Ptr(rapid.Int64(), true).Draw(t, "size")
		before, err := idempotency.Members(versionOne{Name: name, Size: size}, versionOne{})
		require.NoError(t, err)
		defaults := versionTwo{Shape: new("round")}
		now := func(v versionTwo) map[string]string {
			v.Name, v.Size = name, size
			m, err := idempotency.Members(v, defaults)
			require.NoError(t, err)
			return m
		}
		require.Equal(t, before, now(versionTwo{Shape: new("round")}), "unused, or at its default")
		require.Equal(t, []string{"/color"}, jsondiff.Diff(before, now(versionTwo{Shape: new("round"), Color: new("red")})))
		require.Equal(t, []string{"/shape"}, jsondiff.Diff(before, now(versionTwo{Shape: new("flat")})))
		require.Equal(t, []string{"/count"}, jsondiff.Diff(before, now(versionTwo{Shape: new("round"), Count: 1})))
	})
}

func TestWhatIsNoObjectHasNoFingerprint(t *testing.T) {
	t.Parallel()
	for _, bad := range []any{make(chan int), 5, nil, []int{1}} {
		_, err := idempotency.Members(bad, struct{}{})
		require.Error(t, err)
		_, err = idempotency.Members(struct{}{}, bad)
		require.Error(t, err)
	}
}
