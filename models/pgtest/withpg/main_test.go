package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"roost/models/pgtest"
)

func TestCommandGetsADatabaseThatEndsWithIt(t *testing.T) {
	t.Setenv(pgtest.BackendEnv, "pglocal")
	file := filepath.Join(t.TempDir(), "url")
	code, err := realMain(t.Context(), []string{"--", "sh", "-c", `printf %s "$ROOST_TEST_DB" >"$0"; exit 7`, file})
	require.NoError(t, err)
	require.Equal(t, 7, code)

	url, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(url), "postgres://"))
	_, err = pgx.Connect(t.Context(), string(url))
	require.Error(t, err, "gone")
}

func TestInterruptReachesTheCommand(t *testing.T) {
	t.Setenv(pgtest.BackendEnv, "pglocal")
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for {
			if _, err := os.Stat(started); err == nil || t.Context().Err() != nil {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
	}()
	code, err := realMain(ctx, []string{"sh", "-c", `trap 'exit 3' TERM; touch "$0"; while :; do sleep 0.05; done`, started})
	require.NoError(t, err)
	require.Equal(t, 3, code)
}

func TestNothingRunsWithoutADatabase(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	t.Setenv("HOME", t.TempDir()) // a rootless engine's socket would lie there
	file := filepath.Join(t.TempDir(), "ran")
	for backend, reason := range map[string]string{"nonsense": "must be", "containers": "needs Docker"} {
		t.Setenv(pgtest.BackendEnv, backend)
		code, err := realMain(t.Context(), []string{"touch", file})
		require.ErrorContains(t, err, reason)
		require.Equal(t, 1, code)
		require.NoFileExists(t, file)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	code, err := realMain(t.Context(), nil)
	require.ErrorContains(t, err, "usage")
	require.Equal(t, exitUsage, code)
}
