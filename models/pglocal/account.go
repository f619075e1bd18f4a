package pglocal

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
)

// accountFor says whose process Postgres is to be: nil for our own. Root gives
// the cluster to the user postgres, else nobody, and leaves an existing one
// with the owner it has.
func accountFor(cluster string) (*syscall.Credential, error) {
	owner, err := ownerOf(cluster)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		if int(owner.Uid) != os.Geteuid() {
			return nil, fmt.Errorf("%s belongs to user ID %d: run as that user or as root, or remove it", cluster, owner.Uid)
		}
		return nil, nil //nolint:nilnil // nil is our own account
	}
	if owner.Uid != 0 {
		return owner, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := user.Lookup(name); err == nil {
			return credential(found)
		}
	}
	return nil, errors.New("postgres does not run as root, and there is neither a user postgres nor a user nobody")
}

func ownerOf(name string) (*syscall.Credential, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("%s: no owner known on %s", name, runtime.GOOS)
	}
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}, nil
}

func credential(u *user.User) (*syscall.Credential, error) {
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// clusterPath is DataDir/cluster in a form that Postgres' account can open. For
// another account on Linux it goes through the descriptor that command hands
// over, past parents that are closed to it.
func (d *directory) clusterPath() string {
	if d.account != nil && runtime.GOOS == "linux" {
		return "/proc/self/fd/3" // the first of ExtraFiles
	}
	return d.path("cluster")
}
