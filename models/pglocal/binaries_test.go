package pglocal

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeInstallation makes a directory whose postgres claims a version.
func fakeInstallation(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	// A fork elsewhere in this process would inherit the file open for writing,
	// and the script could not be run ("text file busy") for that long.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + " (Some Distribution 1)'\n"
	for _, program := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755))
	}
	return dir
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, major := range map[string]int{"15.18": 15, "18beta1": 18, "14.0": 14, "17.2-debian": 17} {
		bins, err := FindBinaries(t.Context(), fakeInstallation(t, version), "")
		require.NoError(t, err)
		require.Equal(t, version, bins.Version)
		require.Equal(t, major, bins.Major)
	}
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	_, err := FindBinaries(t.Context(), fakeInstallation(t, "9.6.24"), "")
	require.ErrorContains(t, err, "version 9.6.24 is too old, 14 or newer is needed")
}

func TestDataOfAnotherMajor(t *testing.T) {
	t.Parallel()
	_, err := FindBinaries(t.Context(), fakeInstallation(t, "17.2"), "15")
	require.ErrorContains(t, err, "version 17.2 cannot open data made by PostgreSQL 15")
}

func TestNamedDirectoryWithoutPostgresIsAnError(t *testing.T) {
	t.Parallel()
	_, err := FindBinaries(t.Context(), t.TempDir(), "")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSearch(t *testing.T) {
	old, wanted := fakeInstallation(t, "13.1"), fakeInstallation(t, "99.1")
	t.Setenv("PATH", t.TempDir()+string(filepath.ListSeparator)+old+string(filepath.ListSeparator)+wanted)

	found, rejected := installed(t.Context(), "99")
	require.NotNil(t, found, "%v", rejected)
	require.Equal(t, filepath.Join(wanted, "postgres"), found.Postgres)

	found, rejected = installed(t.Context(), "98")
	require.Nil(t, found)
	require.ErrorContains(t, rejected, "too old")
	require.ErrorContains(t, rejected, "data made by PostgreSQL 98")

	t.Setenv(BinDirEnv, old)
	_, err := FindBinaries(t.Context(), "", "")
	require.ErrorContains(t, err, "too old", "what the operator names is not passed over")
}

func TestNewestFirst(t *testing.T) {
	t.Parallel()
	dirs := []string{"/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin"}
	slices.SortFunc(dirs, newestFirst)
	require.Equal(t, []string{"/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin"}, dirs)
}

func TestErrorNamesPackages(t *testing.T) {
	t.Parallel()
	for _, hint := range []string{"apt install postgresql", "dnf install postgresql-server", "brew install postgresql@17", BinDirEnv} {
		require.ErrorContains(t, ErrNoBinaries, hint)
	}
}
