package pglocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	// downloadTimeout bounds the one download of some 30 MB.
	downloadTimeout = 3 * time.Minute
	// downloadVersion is what a machine without Postgres gets.
	downloadVersion = embeddedpostgres.V17
)

// downloaded returns the binaries that embedded-postgres keeps, fetching them
// the first time.
func downloaded(ctx context.Context, wantMajor string) (Binaries, error) {
	cache, err := downloadDir()
	if err != nil {
		return Binaries{}, err
	}
	return downloadedTo(ctx, cache, wantMajor, embeddedpostgres.DefaultConfig())
}

func downloadedTo(ctx context.Context, cache, wantMajor string, source embeddedpostgres.Config) (Binaries, error) {
	bin := filepath.Join(cache, string(downloadVersion), "bin")
	if bins, err := inspect(ctx, bin); err == nil {
		return bins, bins.suits(wantMajor)
	}
	fetchErr := fetch(ctx, cache, source)
	bins, err := inspect(ctx, bin)
	if err != nil {
		return Binaries{}, fmt.Errorf("download PostgreSQL %s: %w", downloadVersion, errors.Join(fetchErr, err))
	}
	return bins, bins.suits(wantMajor)
}

// downloadDir is readable by the account that Postgres runs as: root's own
// cache would not be.
func downloadDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/roost-postgres", nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for PostgreSQL: %w", err)
	}
	return filepath.Join(cache, "roost-postgres"), nil
}

// fetch lets embedded-postgres fetch and unpack. It offers that only as part of
// a Start, so its server is started on scratch data and stopped again; as root
// its initdb refuses, which is fine, for by then the binaries lie there.
func fetch(ctx context.Context, cache string, source embeddedpostgres.Config) error {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	scratch, err := os.MkdirTemp("", "roost-pg-fetch-")
	if err != nil {
		return err
	}
	port, err := probePort(ctx, "0")
	if err != nil {
		return err
	}
	server := embeddedpostgres.NewDatabase(source.
		Version(downloadVersion).
		Port(uint32(port)). //nolint:gosec // a port fits
		CachePath(filepath.Join(cache, "archive")).
		BinariesPath(filepath.Join(cache, string(downloadVersion))).
		RuntimePath(filepath.Join(scratch, strconv.Itoa(port))).
		Logger(io.Discard))
	// It takes no context. A download that hangs is left behind, and ends with
	// this process.
	done := make(chan error, 1)
	go func() {
		err := server.Start()
		if err == nil {
			err = server.Stop()
		}
		done <- errors.Join(err, os.RemoveAll(scratch))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
