package main

import (
	"io"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// runMainEnv makes the test binary behave as roost itself. It passes to what
// roost dev starts, which is this binary again.
const runMainEnv = "ROOST_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMainEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestVersionCommand(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := realMain(t.Context(), []string{"version"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "roost ") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("printed %q", out.String())
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	checkout := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"},
	}}
	released := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}
	for want, got := range map[string]string{
		"devel abc (changed)": version(checkout, true),
		"v1.2.3":              version(released, true),
		"devel":               version(&debug.BuildInfo{}, true),
		"unknown":             version(nil, false),
	} {
		if got != want {
			t.Errorf("version %q, want %q", got, want)
		}
	}
}
