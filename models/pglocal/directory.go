package pglocal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// stagePrefix begins the names of clusters that are being made.
const stagePrefix = "initdb-"

// directory is DataDir, locked for us, and the account that its cluster
// belongs to.
type directory struct {
	root      string
	throwaway bool
	lock      *os.File
	account   *syscall.Credential // nil: our own
	cluster   *os.File            // open directory, handed to Postgres under root
}

func openDirectory(cfg Config) (*directory, error) {
	root, err := dataDir(cfg)
	if err != nil {
		return nil, err
	}
	d := &directory{root: root, throwaway: cfg.Throwaway}
	if err := errors.Join(d.acquire(), d.openCluster()); err != nil {
		return nil, errors.Join(fmt.Errorf("open data directory %s: %w", root, err), d.close())
	}
	return d, nil
}

func dataDir(cfg Config) (string, error) {
	if cfg.Throwaway {
		root, err := os.MkdirTemp("", "roost-pg-")
		if err != nil {
			return "", fmt.Errorf("make a temporary data directory: %w", err)
		}
		return root, nil
	}
	if cfg.DataDir == "" {
		return "", errors.New("pglocal: no DataDir")
	}
	root, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	return root, nil
}

// acquire takes the lock that ends with this process, however it ends.
func (d *directory) acquire() error {
	file, err := os.OpenFile(d.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return ErrInUse
		}
		return fmt.Errorf("lock: %w", err)
	}
	d.lock = file
	return nil
}

// openCluster makes the part that belongs to Postgres' account. An existing one
// keeps its owner: a package installed since must not change who runs it.
func (d *directory) openCluster() error {
	if d.lock == nil {
		return nil // acquire has failed and says so
	}
	cluster := d.path("cluster")
	err := os.Mkdir(cluster, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if d.account, err = accountFor(cluster); err != nil {
		return err
	}
	if err := d.giveToAccount(cluster); err != nil {
		return err
	}
	d.cluster, err = os.Open(cluster) //nolint:gosec // a name of ours under DataDir
	return err
}

// close gives the directory back; a throwaway one is removed.
func (d *directory) close() error {
	if d.cluster != nil {
		_ = d.cluster.Close()
	}
	if d.lock == nil {
		return nil
	}
	// Removed before the lock goes, so that nobody finds half of it.
	var err error
	if d.throwaway {
		err = os.RemoveAll(d.root)
	}
	err = errors.Join(err, d.lock.Close())
	d.lock, d.cluster = nil, nil
	return err
}

func (d *directory) path(elem ...string) string {
	return filepath.Join(append([]string{d.root}, elem...)...)
}

func (d *directory) passwordFile() string { return d.path("password") }

// pgdata is the cluster as Postgres sees it, data as we see it.
func (d *directory) pgdata() string { return filepath.Join(d.clusterPath(), "data") }

func (d *directory) data() string { return d.path("cluster", "data") }

// command prepares a Postgres program under the cluster's account, in a process
// group of its own so that a Ctrl-C meant for us does not reach it.
func (d *directory) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the program was found by FindBinaries
	cmd.Dir = "/"                                     // ours may be closed to that account
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: d.account}
	cmd.ExtraFiles = []*os.File{d.cluster}
	return cmd
}

// clusterMajor is the major version that made the data, "" without data.
func (d *directory) clusterMajor() string {
	version, err := os.ReadFile(filepath.Join(d.data(), "PG_VERSION"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(version))
}

// ensureCluster runs initdb unless there is a cluster, and returns the
// superuser's password.
func (d *directory) ensureCluster(ctx context.Context, bins Binaries, throwaway bool) (string, error) {
	if d.clusterMajor() != "" {
		password, err := os.ReadFile(d.passwordFile())
		if err != nil {
			return "", fmt.Errorf("the cluster's password is missing; restore it or remove %s: %w", d.root, err)
		}
		return strings.TrimSpace(string(password)), nil
	}
	password := rand.Text()
	if err := writeSynced(d.passwordFile(), password); err != nil {
		return "", fmt.Errorf("keep the password: %w", err)
	}
	if err := d.initdb(ctx, bins, password, throwaway); err != nil {
		return "", fmt.Errorf("make the cluster: %w", err)
	}
	return password, nil
}

// initdb works in a directory of its own, so that a kill in the middle leaves
// nothing that looks like a cluster, and an initdb that outlived its caller
// writes to nobody's.
func (d *directory) initdb(ctx context.Context, bins Binaries, password string, throwaway bool) (err error) {
	if err := d.removeStages(); err != nil {
		return err
	}
	stage := stagePrefix + rand.Text()
	if err := os.Mkdir(d.path("cluster", stage), 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.removeStages()) }()
	pwfile := d.path("cluster", stage, "pwfile")
	if err := errors.Join(writeSynced(pwfile, password), d.giveToAccount(pwfile), d.giveToAccount(filepath.Dir(pwfile))); err != nil {
		return err
	}
	seen := filepath.Join(d.clusterPath(), stage)
	args := []string{
		"-D", filepath.Join(seen, "data"), "-U", superuser, "--pwfile", filepath.Join(seen, "pwfile"),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
	}
	if throwaway {
		args = append(args, "--no-sync")
	}
	if err := runTool(d.command(ctx, bins.Initdb, args...)); err != nil {
		return err
	}
	return os.Rename(d.path("cluster", stage, "data"), d.data())
}

func (d *directory) removeStages() error {
	stages, err := filepath.Glob(d.path("cluster", stagePrefix+"*"))
	for _, stage := range stages {
		err = errors.Join(err, os.RemoveAll(stage))
	}
	return err
}

// giveToAccount hands a file to the account that Postgres runs as.
func (d *directory) giveToAccount(name string) error {
	if d.account == nil {
		return nil
	}
	return os.Chown(name, int(d.account.Uid), int(d.account.Gid))
}

// writeSynced writes a line that must survive what the cluster survives.
func writeSynced(name, line string) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // a name of ours under DataDir
	if err != nil {
		return err
	}
	_, err = file.WriteString(line + "\n")
	return errors.Join(err, file.Sync(), file.Close())
}

// choosePort prefers the port of last time: clients that were not restarted
// then find the server again.
func (d *directory) choosePort(ctx context.Context) (int, error) {
	if text, err := os.ReadFile(d.path("port")); err == nil {
		if port, err := probePort(ctx, strings.TrimSpace(string(text))); err == nil {
			return port, nil
		}
	}
	return probePort(ctx, "0")
}

func probePort(ctx context.Context, port string) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(loopback, port))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // the network is "tcp"
}

func (d *directory) recordPort(port int) error {
	if err := os.WriteFile(d.path("port"), []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		return fmt.Errorf("record the port: %w", err)
	}
	return nil
}
