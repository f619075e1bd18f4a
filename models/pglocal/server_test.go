package pglocal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// deadline is what a test waits for a process to end.
const deadline = 20 * time.Second

type testBundle struct {
	cfg    Config
	server *Server
}

// setup starts a durable server below a directory that is closed to others, as
// a clone in root's home is.
func setup(t *testing.T) *testBundle {
	t.Helper()
	b := &testBundle{cfg: Config{DataDir: filepath.Join(closedDir(t), "clone", ".roost", "postgres")}}
	b.start(t)
	return b
}

func closedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

func (b *testBundle) start(t *testing.T) {
	t.Helper()
	server, err := Start(t.Context(), b.cfg)
	require.NoError(t, err)
	b.server = server
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
}

func (b *testBundle) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, b.server.Stop(t.Context()))
}

func query[T any](t *testing.T, s *Server, sql string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	var value T
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

// remember writes something that recovery has to bring back.
func remember(t *testing.T, s *Server) {
	t.Helper()
	require.Equal(t, 42, query[int](t, s, "WITH made AS (SELECT 42 AS n) SELECT n FROM made"))
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
	require.NoError(t, err)
}

func requireRemembered(t *testing.T, s *Server) {
	t.Helper()
	require.Equal(t, 42, query[int](t, s, "SELECT n FROM kept"))
}

func requireGone(t *testing.T, s *Server, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return !runsIn(pid, s.dir.data()) }, deadline, pollInterval)
}

// TestServing asks one server for all that holds while it runs.
func TestServing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, check := range map[string]func(*testing.T, *testBundle){
		"on loopback alone":        checkLoopbackAlone,
		"only with the password":   checkPassword,
		"not to a second owner":    checkSecondOwner,
		"databases are made once":  checkCreateDatabase,
		"without our environment":  checkEnvironment,
		"flushing what it commits": checkDurable,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, b)
		})
	}
}

func checkLoopbackAlone(t *testing.T, b *testBundle) {
	t.Helper()
	require.Equal(t, "127.0.0.1", query[string](t, b.server, "SHOW listen_addresses"))
	require.Empty(t, query[string](t, b.server, "SHOW unix_socket_directories"))
}

func checkPassword(t *testing.T, b *testBundle) {
	t.Helper()
	require.Zero(t, query[int](t, b.server, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"))
	intruder := strings.Replace(b.server.URL("postgres"), b.server.password, "guess", 1)
	_, err := pgx.Connect(t.Context(), intruder)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "28P01", refused.Code)

	info, err := os.Stat(b.server.dir.passwordFile())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func checkSecondOwner(t *testing.T, b *testBundle) {
	t.Helper()
	_, err := Start(t.Context(), b.cfg)
	require.ErrorIs(t, err, ErrInUse)
	require.Equal(t, 1, query[int](t, b.server, "SELECT 1"), "the first is untouched")
}

func checkCreateDatabase(t *testing.T, b *testBundle) {
	t.Helper()
	for range 2 {
		require.NoError(t, b.server.CreateDatabase(t.Context(), `od"d`))
	}
	require.Equal(t, 1, query[int](t, b.server, "SELECT count(*) FROM pg_database WHERE datname = $1", `od"d`))
}

func checkEnvironment(t *testing.T, b *testBundle) {
	t.Helper()
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(b.server.PID()) + "/environ")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /proc here")
	}
	require.NoError(t, err)
	require.NotContains(t, string(environ), "HOME=")
	require.Contains(t, string(environ), "LC_ALL=C")
}

func checkDurable(t *testing.T, b *testBundle) {
	t.Helper()
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		require.Equal(t, "on", query[string](t, b.server, "SELECT current_setting($1)", setting))
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	remember(t, b.server)
	before, pid, port := b.server.URL("postgres"), b.server.PID(), b.server.port
	b.stop(t)
	require.Error(t, syscall.Kill(pid, 0), "reaped")
	b.start(t)
	require.Equal(t, before, b.server.URL("postgres"), "port and password stay")
	requireRemembered(t, b.server)

	b.stop(t)
	squatter, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	require.NoError(t, err)
	defer func() { _ = squatter.Close() }()
	b.start(t)
	require.NotEqual(t, port, b.server.port, "a port that is taken is left alone")
	requireRemembered(t, b.server)
}

func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	remember(t, b.server)
	require.NoError(t, syscall.Kill(b.server.PID(), syscall.SIGKILL))
	select {
	case <-b.server.Done():
	case <-time.After(deadline):
		t.Fatal("Done is not closed")
	}
	b.stop(t)
	b.start(t)
	requireRemembered(t, b.server)
}

func TestRecycledProcessID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	remember(t, b.server)
	require.NoError(t, syscall.Kill(b.server.PID(), syscall.SIGKILL))
	<-b.server.Done()
	// Some other process of the same account has the number by now.
	other := b.server.dir.command(t.Context(), "/bin/sleep", "1000")
	require.NoError(t, other.Start())
	defer func() {
		require.NoError(t, other.Process.Kill(), "still alive")
		_ = other.Wait()
	}()
	file, err := os.OpenFile(b.server.dir.pidFile(), os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, replaceFirstLine(file, strconv.Itoa(other.Process.Pid)))
	require.NoError(t, file.Close())
	b.stop(t)

	b.start(t)
	requireRemembered(t, b.server)
}

// TestBusyBackendOutlivesItsPostmaster: a backend that computes does not notice
// that its postmaster is gone, and keeps the shared memory.
func TestBusyBackendOutlivesItsPostmaster(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, err := pgx.Connect(t.Context(), b.server.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), "SET statement_timeout = 2000")
	require.NoError(t, err)
	busy := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "SELECT sum(i) FROM generate_series(1, 1000000000) AS i")
		busy <- err
	}()
	require.Eventually(t, func() bool {
		return query[int](t, b.server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT sum%'") == 1
	}, deadline, pollInterval)
	require.NoError(t, syscall.Kill(b.server.PID(), syscall.SIGKILL))
	<-b.server.Done()
	b.stop(t)
	b.start(t)
	require.Equal(t, 1, query[int](t, b.server, "SELECT 1"))
	require.Error(t, <-busy)
}

// TestClusterKeepsItsOwner: what one account made, root runs under it.
func TestClusterKeepsItsOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const nobody = 65534
	b := &testBundle{cfg: Config{DataDir: closedDir(t)}}
	cluster := filepath.Join(b.cfg.DataDir, "cluster")
	require.NoError(t, os.Mkdir(cluster, 0o700))
	require.NoError(t, os.Chown(cluster, nobody, nobody))
	b.start(t)
	owner, err := ownerOf(b.server.dir.pidFile())
	require.NoError(t, err)
	require.EqualValues(t, nobody, owner.Uid)
}

func TestInterruptedInitdbIsRepeated(t *testing.T) {
	t.Parallel()
	cfg := Config{DataDir: closedDir(t)}
	half := filepath.Join(cfg.DataDir, "cluster", stagePrefix+"half", "data")
	require.NoError(t, os.MkdirAll(half, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, "password"), nil, 0o600))
	b := &testBundle{cfg: cfg}
	b.start(t)
	require.Equal(t, 1, query[int](t, b.server, "SELECT 1"))
	require.NoDirExists(t, half)
}

func TestStartThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	cfg := Config{DataDir: closedDir(t), Settings: map[string]string{"max_connections": "lots"}}
	_, err := Start(t.Context(), cfg)
	require.ErrorContains(t, err, "max_connections")

	// The directory is free again.
	cfg.Settings = nil
	b := &testBundle{cfg: cfg}
	b.start(t)
}

func TestThrowawayLeavesNothing(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Config{Throwaway: true})
	require.NoError(t, err)
	require.Equal(t, "off", query[string](t, server, "SHOW fsync"))
	require.NoError(t, server.Stop(t.Context()))
	require.NoDirExists(t, server.dir.root)
	require.NoError(t, server.Stop(t.Context()), "again")
}

// ownerReport is what TestOwner tells its parent.
type ownerReport struct {
	Postmaster, Watchdog int
	Root                 string
}

// ownerEnv holds the Config of the owner process.
const ownerEnv = "ROOST_PGLOCAL_TEST_OWNER"

// TestOwner is not a test but the process that the tests below kill.
func TestOwner(t *testing.T) {
	t.Parallel()
	encoded, ok := os.LookupEnv(ownerEnv)
	if !ok {
		return
	}
	var cfg Config
	require.NoError(t, json.Unmarshal([]byte(encoded), &cfg))
	s, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	remember(t, s)
	report := ownerReport{Postmaster: s.PID(), Watchdog: s.watchdog.cmd.Process.Pid, Root: s.dir.root}
	require.NoError(t, json.NewEncoder(os.Stdout).Encode(report))
	select {}
}

// startOwner runs TestOwner in a process of its own.
func startOwner(t *testing.T, cfg Config) (ownerReport, *exec.Cmd) {
	t.Helper()
	encoded, err := json.Marshal(cfg)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOwner$")
	cmd.Env = append(os.Environ(), ownerEnv+"="+string(encoded))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var report ownerReport
		if json.Unmarshal(lines.Bytes(), &report) == nil {
			return report, cmd
		}
	}
	t.Fatalf("the owner ended: %v", cmd.Wait())
	return ownerReport{}, nil
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

func TestOwnerKilled(t *testing.T) {
	t.Parallel()
	cfg := Config{DataDir: closedDir(t)}
	report, owner := startOwner(t, cfg)
	data := filepath.Join(report.Root, "cluster", "data")
	require.True(t, runsIn(report.Postmaster, data))
	kill(t, owner)
	require.Eventually(t, func() bool { return !runsIn(report.Postmaster, data) }, 5*time.Second, pollInterval)

	b := &testBundle{cfg: cfg}
	b.start(t)
	requireRemembered(t, b.server)
}

// TestOwnerAndWatchdogKilled leaves the next Start alone with the leftover.
func TestOwnerAndWatchdogKilled(t *testing.T) {
	t.Parallel()
	cfg := Config{DataDir: closedDir(t)}
	report, owner := startOwner(t, cfg)
	require.NoError(t, syscall.Kill(report.Watchdog, syscall.SIGKILL))
	kill(t, owner)
	require.True(t, runsIn(report.Postmaster, filepath.Join(report.Root, "cluster", "data")), "left over")

	b := &testBundle{cfg: cfg}
	b.start(t)
	require.NotEqual(t, report.Postmaster, b.server.PID())
	requireGone(t, b.server, report.Postmaster)
	requireRemembered(t, b.server)
}

// TestRestartWhileTheOldOneDies starts again at once, with no pause in which
// the watchdog could finish.
func TestRestartWhileTheOldOneDies(t *testing.T) {
	t.Parallel()
	cfg := Config{DataDir: closedDir(t)}
	for range 3 {
		report, owner := startOwner(t, cfg)
		require.Positive(t, report.Postmaster)
		kill(t, owner)
		dropKept(t, cfg)
	}
}

// dropKept makes room for the next owner's remember.
func dropKept(t *testing.T, cfg Config) {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	requireRemembered(t, s)
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "DROP TABLE kept")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, s.Stop(t.Context()))
}

func TestThrowawayOwnerKilled(t *testing.T) {
	t.Parallel()
	report, owner := startOwner(t, Config{Throwaway: true})
	require.DirExists(t, report.Root)
	kill(t, owner)
	require.Eventually(t, func() bool {
		_, err := os.Stat(report.Root)
		return errors.Is(err, os.ErrNotExist)
	}, deadline, pollInterval)
	require.False(t, runsIn(report.Postmaster, filepath.Join(report.Root, "cluster", "data")))
}
