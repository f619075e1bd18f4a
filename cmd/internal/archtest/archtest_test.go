package archtest_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the top of the repository as seen from this package.
const root = "../../.."

// listed is what these tests read of "go list -json".
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Deps       []string
}

func goList(t *testing.T, patterns ...string) []listed {
	t.Helper()
	args := append([]string{"list", "-json=ImportPath,Dir,GoFiles,Deps"}, patterns...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	var packages []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatalf("no package matches %v", patterns)
	}
	return packages
}

func TestClosures(t *testing.T) {
	t.Parallel()
	heavy := []string{"github.com/gin-gonic/", "gorm.io/", "github.com/jackc/", "github.com/prometheus/", "roost/models", "roost/platform", "roost/owl", "roost/cmd"}
	cases := []struct {
		packages  string
		forbidden []string
		why       string
	}{
		{"./api", heavy, "clients link the contract, and nothing of the server with it"},
		{"./api/jsondiff", heavy, "clients link the contract, and nothing of the server with it"},
		{"./api/client", append(slices.Clone(heavy), "roost/api/owlapi", "roost/api/wire", "testing"), "the SDK links the public contract and next to nothing else"},
		{"./cmd/internal/cli", append(slices.Clone(heavy), "roost/api/owlapi", "roost/api/wire", "testing"), "the CLI is a client like any other"},
		{"./api/owlapi", heavy, "a caller of Owl needs no framework"},
		{"./cmd/platform", []string{"github.com/getkin/", "roost/api/openapitest", "testing"}, "documents are checked by tests, not by programs"},
		{"./cmd/owl", []string{"github.com/getkin/", "roost/api/openapitest", "testing"}, "documents are checked by tests, not by programs"},
		{"./platform/...", []string{"roost/owl", "roost/cmd"}, "Platform knows Owl by its contract alone"},
		{"./owl/...", []string{"roost/platform", "roost/cmd"}, "Owl does not know who calls it"},
		{"./models/...", []string{"github.com/gin-gonic/", "roost/platform", "roost/owl", "roost/cmd"}, "rows know nothing of HTTP or of services"},
	}
	for _, c := range cases {
		t.Run(c.packages, func(t *testing.T) {
			t.Parallel()
			for _, p := range goList(t, c.packages) {
				for _, dep := range p.Deps {
					if offends(dep, c.forbidden) {
						t.Errorf("%s reaches %s: %s", p.ImportPath, dep, c.why)
					}
				}
			}
		})
	}
}

func offends(dep string, forbidden []string) bool {
	return slices.ContainsFunc(forbidden, func(f string) bool {
		return dep == f || strings.HasPrefix(dep, strings.TrimSuffix(f, "/")+"/")
	})
}

// TestOffends keeps the closures' test able to fail.
func TestOffends(t *testing.T) {
	t.Parallel()
	for dep, want := range map[string]bool{
		"gorm.io/gorm": true, "roost/owl": true, "roost/owl/registry": true,
		"roost/owlery": false, "roost/api/owlapi": false, "net/http": false,
	} {
		if got := offends(dep, []string{"gorm.io/", "roost/owl"}); got != want {
			t.Errorf("offends(%q) = %v", dep, got)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "./...") {
		if len(p.GoFiles) > 0 && !hasPackageDoc(t, p) {
			t.Errorf("%s has no package comment: what it promises, and what it never does", p.ImportPath)
		}
	}
}

func hasPackageDoc(t *testing.T, p listed) bool {
	t.Helper()
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if isDoc(file.Doc) {
			return true
		}
	}
	return false
}

// isDoc leaves out directives and licences, which are no explanation.
func isDoc(doc *ast.CommentGroup) bool {
	return doc != nil && strings.TrimSpace(doc.Text()) != ""
}

func TestTopLevel(t *testing.T) {
	t.Parallel()
	allowed := []string{"go.mod", "go.sum", "cmd", "api", "models", "platform", "owl", "README.md", "Makefile", "LICENSE", "bin"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, ".") && !slices.Contains(allowed, name) {
			t.Errorf("%s lies at the top of the repository, where only %s do", name, strings.Join(allowed, " "))
		}
	}
}
