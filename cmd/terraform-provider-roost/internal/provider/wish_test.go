package provider

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"roost/api"
)

// TestKeysAreApart: whatever distinguishes two wishes is in the key, and where
// one part ends and the next begins, too.
func TestKeysAreApart(t *testing.T) {
	t.Parallel()
	seen := map[string]wish{}
	for _, w := range []wish{
		{"n", "r", "p", "x"},
		{"n2", "r", "p", "x"},
		{"n", "r2", "p", "x"},
		{"n", "r", "p2", "x"},
		{"n", "r", "p", "x2"},
		{"nr", "", "p", "x"},
		{"n", "r", "", "px"},
		{"n", "rp", "", "x"},
		{"", "n", "rp", "x"},
	} {
		for generation := range 12 {
			key := w.key(generation)
			if other, ok := seen[key]; ok {
				t.Errorf("%v and %v have the same key", w, other)
			}
			seen[key] = w
			if key != w.key(generation) {
				t.Errorf("%v has two keys", w)
			}
			if _, err := api.ParseIdempotencyKey([]string{key}); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	names := func(names ...string) (f fleet) {
		for _, n := range names {
			f = append(f, api.CVM{Name: n})
		}
		return f
	}
	for _, c := range []struct {
		fleet fleet
		n     int
		want  []int
	}{
		{names("web"), 3, []int{2, 3, 4}},
		{names("web", "web-3"), 2, []int{2, 4}},
		{names("web", "web", "web"), 1, []int{2}},             // copies that others have made
		{names("web-2", "web-4"), 1, []int{3}},                // the first one has gone
		{names("web", "web-02", "web-1", "x-2"), 1, []int{2}}, // none of our names
	} {
		if got := c.fleet.freeSlots("web", c.n); !slices.Equal(got, c.want) {
			t.Errorf("free slots beside %v are %v, want %v", c.fleet, got, c.want)
		}
	}
}

// TestDead: what may hold data is never taken for dead.
func TestDead(t *testing.T) {
	t.Parallel()
	failed := func(code string, kind api.OperationKind, status api.OperationStatus) api.CVM {
		return api.CVM{Status: api.StatusFailed, Error: &api.ResourceError{Code: code}, Operation: &api.OperationRef{Kind: kind, Status: status}}
	}
	stopped := failed("RESOURCE_DELETED", api.KindCVMStop, api.OperationFailed)
	stopped.Status = api.StatusStopped
	for _, c := range []struct {
		name string
		cvm  api.CVM
		dead bool
	}{
		{"deleted below Platform", failed("RESOURCE_DELETED", api.KindCVMStart, api.OperationSucceeded), true},
		{"removed below Owl", failed("MACHINE_REMOVED", api.KindCVMUpdate, api.OperationFailed), true},
		{"never came up", failed("SIM_FAILED", api.KindCVMCreate, api.OperationFailed), true},
		{"a replica that never came up", failed("SIM_FAILED", api.KindCVMReplicate, api.OperationFailed), true},
		{"ran, and failed by itself", failed("SIM_FAILED", api.KindCVMCreate, api.OperationSucceeded), false},
		{"ran, and failed at a restart", failed("SIM_FAILED", api.KindCVMRestart, api.OperationFailed), false},
		{"no reason, no operation", api.CVM{Status: api.StatusFailed}, false},
		{"has not failed", stopped, false},
	} {
		if got := dead(c.cvm); got != c.dead {
			t.Errorf("%s: dead is %t", c.name, got)
		}
	}
}

func TestPatchFor(t *testing.T) {
	t.Parallel()
	cvm := api.CVM{InstanceType: "tdx.small", VCPU: 1, Memory: 2048, DiskSize: 20, BaseImage: "i"}
	four := int64(4)
	spec := api.Spec{InstanceType: "tdx.small", ComposeFile: &api.ComposeFile{DockerComposeFile: "s"}}
	if p := patchFor(spec, cvm, "s"); p != nil {
		t.Errorf("nothing differs, and the patch is %+v", p)
	}
	cvm.VCPU = four
	spec.VCPU, spec.InstanceType = &four, "tdx.medium"
	p := patchFor(spec, cvm, "other")
	if p == nil || p.InstanceType == nil || p.ComposeFile == nil || p.VCPU == nil || *p.VCPU != four || p.Memory != nil {
		t.Errorf("the patch is %+v; the CPUs must be in it, or they would become the new type's", p)
	}
}

// TestNamespace is found where Terraform looks for its workspace. It changes
// the environment, so it runs alone.
func TestNamespace(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{EnvNamespace, "TF_WORKSPACE", "TF_DATA_DIR"} {
		t.Setenv(name, "")
	}
	expect := func(want string, value types.String) {
		t.Helper()
		if got := namespaceOf(value); got != want {
			t.Errorf("the namespace is %q, want %q", got, want)
		}
	}
	expect("default", types.StringNull())
	write(t, filepath.Join(".terraform", "environment"), "staging\n")
	expect("staging", types.StringNull())
	t.Setenv("TF_DATA_DIR", "data")
	expect("default", types.StringNull())
	write(t, filepath.Join("data", "environment"), "data")
	expect("data", types.StringNull())
	t.Setenv("TF_WORKSPACE", "prod")
	expect("prod", types.StringNull())
	t.Setenv(EnvNamespace, "env")
	expect("env", types.StringNull())
	expect("set", types.StringValue("set"))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
