package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestClosure: what the binary links of Roost is the public API and its SDK.
func TestClosure(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const own = "roost/cmd/terraform-provider-roost"
	linked := 0
	for pkg := range strings.FieldsSeq(string(out)) {
		switch {
		case pkg == "roost/api" || pkg == "roost/api/client" || pkg == "roost/api/jsondiff":
			linked++
		case pkg == own || strings.HasPrefix(pkg, own+"/"):
		case strings.HasPrefix(pkg, "roost/"), strings.Contains(pkg, "gin-gonic"), strings.HasPrefix(pkg, "gorm.io"), strings.Contains(pkg, "jackc/pgx"):
			t.Errorf("the provider links %s", pkg)
		}
	}
	if linked < 2 {
		t.Errorf("it links only %d packages of the API; is this the provider?", linked)
	}
}
