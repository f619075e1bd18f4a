package pglocal

import (
	"archive/zip"
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/stretchr/testify/require"
)

// TestDownloadOnce serves an archive in the layout of the real ones, with
// scripts for programs.
func TestDownloadOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // embedded-postgres leaves its log there
	jar := fakeJar(t)
	var fetched atomic.Int32
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".jar") {
			http.NotFound(w, r)
			return
		}
		fetched.Add(1)
		_, _ = w.Write(jar)
	}))
	defer repository.Close()

	cache := t.TempDir()
	source := embeddedpostgres.DefaultConfig().BinaryRepositoryURL(repository.URL)
	for range 2 {
		bins, err := downloadedTo(t.Context(), cache, "", source)
		require.NoError(t, err)
		require.Equal(t, 17, bins.Major)
	}
	require.EqualValues(t, 1, fetched.Load())
}

func TestDownloadThatFailsSaysWhatToInstall(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // embedded-postgres leaves its log there
	repository := httptest.NewServer(http.NotFoundHandler())
	defer repository.Close()
	source := embeddedpostgres.DefaultConfig().BinaryRepositoryURL(repository.URL)
	_, err := downloadedTo(t.Context(), t.TempDir(), "", source)
	require.ErrorContains(t, err, "download PostgreSQL")
}

func TestDownloadThatHangsIsGivenUp(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // embedded-postgres leaves its log there
	let := make(chan struct{})
	repository := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-let }))
	defer repository.Close()
	defer close(let)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := downloadedTo(ctx, t.TempDir(), "", embeddedpostgres.DefaultConfig().BinaryRepositoryURL(repository.URL))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func fakeJar(t *testing.T) []byte {
	t.Helper()
	archive, err := os.ReadFile("testdata/postgres-fake.txz")
	require.NoError(t, err)
	var jar bytes.Buffer
	writer := zip.NewWriter(&jar)
	file, err := writer.Create("postgres-linux-x86_64.txz")
	require.NoError(t, err)
	_, err = file.Write(archive)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	return jar.Bytes()
}
