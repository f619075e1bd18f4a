package reference_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"roost/cmd/terraform-provider-roost/internal/provider"
	"roost/cmd/terraform-provider-roost/internal/reference"
)

var update = flag.Bool("update", false, "write docs/ instead of comparing it")

// TestDocs holds docs/ against the schemas and the examples, both ways.
func TestDocs(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	pages, err := reference.Pages(t.Context(), provider.New("test")(), os.DirFS(filepath.Join(root, "examples")))
	if err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join(root, "docs")
	for name, want := range pages {
		path := filepath.Join(docs, filepath.FromSlash(name))
		if *update {
			write(t, path, want)
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != want {
			t.Errorf("docs/%s is out of date; run: go test ./internal/reference -update", name)
		}
	}
	err = fs.WalkDir(os.DirFS(docs), ".", func(name string, d fs.DirEntry, err error) error {
		if _, ok := pages[name]; err == nil && !d.IsDir() && !ok {
			t.Errorf("docs/%s documents nothing that there is", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
