package pglocal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MinMajor is the oldest Postgres that pglocal runs.
const MinMajor = 14

// BinDirEnv names the directory that holds postgres and initdb.
const BinDirEnv = "ROOST_PG_BIN"

// ErrNoBinaries says that there is no usable Postgres here and what to do.
var ErrNoBinaries = errors.New("no PostgreSQL binaries found: apt install postgresql, dnf install postgresql-server, " +
	"or brew install postgresql@17; or set " + BinDirEnv + " to the directory that holds postgres and initdb")

// Binaries are the two programs of one Postgres installation.
type Binaries struct {
	Postgres, Initdb string
	// Version is like "15.18" or "18beta1", Major its number.
	Version string
	Major   int
}

// FindBinaries looks in binDir if given; else in $ROOST_PG_BIN if set; else in
// PATH, in the folders of the distributions and of Homebrew, newest first, and
// in those downloaded earlier; else it downloads. Data of an earlier run need
// their own major version: with wantMajor only that will do.
func FindBinaries(ctx context.Context, binDir, wantMajor string) (Binaries, error) {
	if binDir == "" {
		binDir = os.Getenv(BinDirEnv)
	}
	if binDir != "" {
		return chosen(ctx, binDir, wantMajor)
	}
	found, rejected := installed(ctx, wantMajor)
	if found != nil {
		return *found, nil
	}
	bins, err := downloaded(ctx, wantMajor)
	if err != nil {
		return Binaries{}, errors.Join(ErrNoBinaries, rejected, err)
	}
	return bins, nil
}

// chosen takes a directory that somebody named: a fault there is an error, not
// a reason to take another.
func chosen(ctx context.Context, binDir, wantMajor string) (Binaries, error) {
	bins, err := inspect(ctx, binDir)
	if err == nil {
		err = bins.suits(wantMajor)
	}
	if err != nil {
		return Binaries{}, fmt.Errorf("PostgreSQL in %s: %w", binDir, err)
	}
	return bins, nil
}

// installed returns the first that suits, or why the others did not.
func installed(ctx context.Context, wantMajor string) (*Binaries, error) {
	var rejected []error
	for _, dir := range searchPath() {
		bins, err := inspect(ctx, dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = bins.suits(wantMajor)
		}
		if err == nil {
			return &bins, nil
		}
		rejected = append(rejected, fmt.Errorf("PostgreSQL in %s: %w", dir, err))
	}
	return nil, errors.Join(rejected...)
}

// searchPath lists directories, most wanted first.
func searchPath() []string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // PGDG on Fedora, RHEL
		"/usr/local/pgsql/bin",      // built from source
		"/opt/homebrew/opt/postgresql@*/bin",
		"/opt/homebrew/opt/postgresql/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql/bin",
		"/opt/local/lib/postgresql*/bin", // MacPorts
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue // only for a malformed pattern
		}
		slices.SortFunc(matches, newestFirst)
		dirs = append(dirs, matches...)
	}
	return dirs
}

func newestFirst(a, b string) int { return versionIn(b) - versionIn(a) }

// versionIn reads the number in a directory's name: 9 of …/postgresql/9.6/bin.
func versionIn(dir string) int {
	digits := regexp.MustCompile(`\d+`).FindString(dir)
	number, _ := strconv.Atoi(digits)
	return number
}

// inspect asks the programs in dir for their version.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	if !filepath.IsAbs(dir) {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return Binaries{}, err
		}
		dir = abs
	}
	b := Binaries{Postgres: filepath.Join(dir, "postgres"), Initdb: filepath.Join(dir, "initdb")}
	for _, program := range []string{b.Postgres, b.Initdb} {
		if _, err := os.Stat(program); err != nil {
			return Binaries{}, err
		}
	}
	cmd := exec.CommandContext(ctx, b.Postgres, "--version") //nolint:gosec // a directory that the operator or the system names
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("postgres --version: %w", err)
	}
	return b.withVersion(string(out))
}

// withVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func (b Binaries) withVersion(line string) (Binaries, error) {
	match := regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`).FindStringSubmatch(line)
	if match == nil {
		return Binaries{}, fmt.Errorf("postgres --version says %q", strings.TrimSpace(line))
	}
	major, err := strconv.Atoi(match[2])
	if err != nil {
		return Binaries{}, fmt.Errorf("postgres --version: %w", err)
	}
	b.Version, b.Major = match[1], major
	return b, nil
}

func (b Binaries) suits(wantMajor string) error {
	if b.Major < MinMajor {
		return fmt.Errorf("version %s is too old, %d or newer is needed", b.Version, MinMajor)
	}
	if wantMajor != "" && wantMajor != strconv.Itoa(b.Major) {
		return fmt.Errorf("version %s cannot open data made by PostgreSQL %s", b.Version, wantMajor)
	}
	return nil
}
