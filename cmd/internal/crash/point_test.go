package crash_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const faultpointPath = "roost/models/faultpoint"

// point is a fault point in the source.
type point struct {
	name string
	kind string // the function of package faultpoint: Step, Poll or Hit
	at   token.Position
}

// faults is everything that can befall the point.
func (p point) faults() (out []string) {
	places := map[string][]string{
		"Step": {p.name + ".before", p.name + ".after"},
		"Poll": {p.name + ".after"},
		"Hit":  {p.name},
	}[p.kind]
	for _, place := range places {
		out = append(out, place+":kill", place+":panic")
	}
	if p.kind != "Hit" {
		out = append(out, p.name+":repeat")
	}
	return out
}

// readPoints reads the points of the module from its source.
func readPoints(t *testing.T) map[string]point {
	t.Helper()
	points := map[string]point{}
	for _, file := range sources(t) {
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, p := range pointsIn(t, set, tree) {
			require.NotContains(t, points, p.name, "%s and %s: a name is there once", p.at, points[p.name].at)
			points[p.name] = p
		}
	}
	return points
}

// sources are the module's Go files but for tests.
func sources(t *testing.T) (files []string) {
	t.Helper()
	const root = "../../.."
	require.FileExists(t, filepath.Join(root, "go.mod"))
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root {
			_, nested := os.Stat(filepath.Join(path, "go.mod"))
			if nested == nil || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" {
				return fs.SkipDir
			}
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return nil
	})
	require.NoError(t, err)
	return files
}

func pointsIn(t *testing.T, set *token.FileSet, tree *ast.File) (out []point) {
	t.Helper()
	local := localName(tree)
	if local == "" {
		return nil
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if from, ok := selector.X.(*ast.Ident); ok && from.Name == local {
			out = append(out, point{kind: selector.Sel.Name, at: set.Position(selector.Pos())})
		}
		return true
	})
	used := 0
	ast.Inspect(tree, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		for i := range out {
			if set.Position(call.Fun.Pos()) == out[i].at {
				out[i].name = literal(t, call, out[i])
				used++
			}
		}
		return true
	})
	require.Len(t, out, used, "%s: fault points are called, and nothing else is done with them", tree.Name)
	return out
}

func literal(t *testing.T, call *ast.CallExpr, p point) string {
	t.Helper()
	text, ok := call.Args[0].(*ast.BasicLit)
	require.True(t, ok && text.Kind == token.STRING, "%s: the name of a fault point is a string literal", p.at)
	name, err := strconv.Unquote(text.Value)
	require.NoError(t, err)
	require.Regexp(t, `^(platform|owl|sim)(\.[a-z_]+)+$`, name, "%s: service.step", p.at)
	return name
}

// localName is what the file calls package faultpoint, or "".
func localName(tree *ast.File) string {
	for _, spec := range tree.Imports {
		if spec.Path.Value != strconv.Quote(faultpointPath) {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return "faultpoint"
	}
	return ""
}

// Both directions: a point without a crash test, and a test without a point.
func TestEveryFaultPointHasACrashTest(t *testing.T) {
	t.Parallel()
	points, tests := readPoints(t), crashes()
	require.NotEmpty(t, points)
	for _, name := range slices.Sorted(maps.Keys(points)) {
		tried := map[string]bool{}
		for _, w := range tests[name].ways {
			for _, fault := range w.faults(points[name]) {
				tried[fault] = true
			}
		}
		for _, fault := range points[name].faults() {
			if !tried[fault] {
				t.Errorf("%s: %s has no crash test: add one to crashes()", points[name].at, fault)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if _, ok := points[name]; !ok {
			t.Errorf("the crash test of %q has no fault point in the source", name)
		}
	}
}

func TestPointsAreReadFromTheSource(t *testing.T) {
	t.Parallel()
	const source = `package p
		import fp "roost/models/faultpoint"
		func f() error { fp.Hit("owl.here"); return fp.Step("owl.there", func() error { return nil }) }`
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, "p.go", source, parser.SkipObjectResolution)
	require.NoError(t, err)
	var faults []string
	for _, p := range pointsIn(t, set, tree) {
		faults = append(faults, p.faults()...)
	}
	require.Equal(t, "[owl.here:kill owl.here:panic owl.there.before:kill owl.there.before:panic "+
		"owl.there.after:kill owl.there.after:panic owl.there:repeat]", fmt.Sprint(faults))
}
