package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"roost/api"
)

// Effect is one line of effects.jsonl.
type Effect struct {
	At         api.Time `json:"at"`
	ID         api.ID   `json:"id"`
	Generation int64    `json:"generation"`
	Effect     string   `json:"effect"`
}

// effects is the append-only log.
type effects struct{ file *os.File }

func openEffects(path string) (*effects, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // in the directory that the operator named
	if err != nil {
		return nil, fmt.Errorf("open the effect log: %w", err)
	}
	return &effects{file: f}, nil
}

func (e *effects) close() error { return e.file.Close() }

func (e *effects) size() (int64, error) {
	info, err := e.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("measure the effect log: %w", err)
	}
	return info.Size(), nil
}

// append writes the line in one call, which O_APPEND keeps whole.
func (e *effects) append(line string) error {
	if _, err := e.file.WriteString(line); err != nil {
		return fmt.Errorf("append to the effect log: %w", err)
	}
	if err := e.file.Sync(); err != nil {
		return fmt.Errorf("sync the effect log: %w", err)
	}
	return nil
}

// A reader can see another machine's write half done. A half that stays one for
// tornAfter is the end of a process or a disk that was full.
const (
	tornAfter = time.Second
	tornPoll  = time.Millisecond
)

// appendMissing writes p's line unless it is there already.
func (e *effects) appendMissing(ctx context.Context, p pending) error {
	for waited := time.Duration(0); ; waited += tornPoll {
		since, err := e.since(max(0, p.Offset-1)) // with the end of the line before
		if err != nil {
			return err
		}
		if bytes.Contains(since, []byte(p.Line)) {
			return nil
		}
		if len(since) == 0 || since[len(since)-1] == '\n' {
			return e.append(p.Line)
		}
		if waited >= tornAfter {
			return e.append("\n" + p.Line)
		}
		if err := pause(ctx, tornPoll); err != nil {
			return fmt.Errorf("wait for a line of the effect log: %w", err)
		}
	}
}

func (e *effects) since(offset int64) ([]byte, error) {
	size, err := e.size()
	if err != nil {
		return nil, err
	}
	since := make([]byte, max(0, size-offset))
	n, err := e.file.ReadAt(since, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the effect log: %w", err)
	}
	return since[:n], nil
}

// effectLine is unique: an ID's effects are made one at a time, and each
// carries its moment.
func effectLine(at time.Time, id api.ID, generation int64, effect string) string {
	line, _ := json.Marshal(Effect{At: api.NewTime(at), ID: id, Generation: generation, Effect: effect})
	return string(line) + "\n"
}

// Effects reads the log, oldest first.
func (d *Driver) Effects() ([]Effect, error) {
	size, err := d.store.log.size()
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(io.NewSectionReader(d.store.log.file, 0, size))
	var out []Effect
	for decoder.More() {
		var e Effect
		if err := decoder.Decode(&e); err != nil {
			return nil, fmt.Errorf("read the effect log: %w", err)
		}
		out = append(out, e)
	}
	return out, nil
}
