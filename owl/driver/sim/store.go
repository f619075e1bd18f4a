package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"roost/api"
	"roost/models/faultpoint"
)

// How often a lock that somebody else holds is tried: soon, then less often.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 20 * time.Millisecond
)

// store is the sim's directory.
type store struct {
	dir string
	log *effects
}

// locked runs fn with the machine's state while no one else can change it,
// after finishing what a killed process left behind.
func (st store) locked(ctx context.Context, id api.ID, fn func(*state) error) error {
	unlock, err := lock(ctx, filepath.Join(st.dir, "locks", id.String()))
	if err != nil {
		return err
	}
	defer unlock()
	s, err := st.load(id)
	if err != nil {
		return err
	}
	if err := st.finish(ctx, id, &s); err != nil {
		return err
	}
	return fn(&s)
}

// saveWithEffect makes s and its line in the log durable, in that order.
func (st store) saveWithEffect(ctx context.Context, id api.ID, s *state, line string) error {
	offset, err := st.log.size()
	if err != nil {
		return err
	}
	s.Pending = &pending{Line: line, Offset: offset}
	if err := faultpoint.Step("sim.ahead", func() error { return st.save(id, s) }); err != nil {
		return err
	}
	return st.finish(ctx, id, s)
}

// finish brings the line that is written ahead into the log, unless somebody
// who was killed since has done so, and strikes it.
func (st store) finish(ctx context.Context, id api.ID, s *state) error {
	if s.Pending == nil {
		return nil
	}
	if err := faultpoint.Step("sim.log", func() error { return st.log.appendMissing(ctx, *s.Pending) }); err != nil {
		return err
	}
	s.Pending = nil
	return faultpoint.Step("sim.strike", func() error { return st.save(id, s) })
}

func (st store) path(id api.ID) string {
	return filepath.Join(st.dir, "machines", id.String()+".json")
}

// load reads a machine's file; one that is not there is a machine that never
// was.
func (st store) load(id api.ID) (state, error) {
	var s state
	data, err := os.ReadFile(st.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read a machine's file: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read the file of machine %s: %w", id, err)
	}
	return s, nil
}

// save replaces a machine's file. The lock makes the temporary name safe.
func (st store) save(id api.ID, s *state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode a machine's file: %w", err)
	}
	if err := writeSynced(st.path(id)+".tmp", data); err != nil {
		return fmt.Errorf("write a machine's file: %w", err)
	}
	faultpoint.Hit("sim.replace")
	if err := os.Rename(st.path(id)+".tmp", st.path(id)); err != nil {
		return fmt.Errorf("replace a machine's file: %w", err)
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // in the directory that the operator named
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func (st store) ids() ([]api.ID, error) {
	entries, err := os.ReadDir(filepath.Join(st.dir, "machines"))
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	var ids []api.ID
	for _, entry := range entries {
		name, isMachine := strings.CutSuffix(entry.Name(), ".json")
		if id, err := api.ParseID(name); isMachine && err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// lock takes the flock on path. It polls, because a blocking flock cannot be
// given up when ctx ends and would hold an OS thread for as long as a frozen
// process sits on it.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // in the directory that the operator named
	if err != nil {
		return nil, fmt.Errorf("open a machine's lock: %w", err)
	}
	for wait := lockPollMin; ; wait = min(2*wait, lockPollMax) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing it releases it
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock a machine: %w", err), f.Close())
		}
		if err := pause(ctx, wait); err != nil {
			return nil, errors.Join(fmt.Errorf("wait for a machine's lock: %w", err), f.Close())
		}
	}
}
