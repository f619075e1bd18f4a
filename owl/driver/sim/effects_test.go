package sim

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// TestHalfALineOfAnotherMachine holds what is done about a log that ends in
// the middle of a line: it is waited for, since a reader can see a write half
// done, and ended only when nobody ends it.
func TestHalfALineOfAnotherMachine(t *testing.T) {
	t.Parallel()
	const half, rest, line = `{"effect":`, "\"create\"}\n", "{\"effect\":\"start\"}\n"
	for name, c := range map[string]struct {
		offset    int64
		completed bool
		want      string
	}{
		"completed":                         {0, true, half + rest + line},
		"never completed":                   {0, false, half + "\n" + line},
		"before the line was written ahead": {int64(len(half)), false, half + "\n" + line},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "effects.jsonl")
			log, err := openEffects(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.close() }()
			if err := log.append(half); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				done := make(chan error, 1)
				go func() { done <- log.appendMissing(t.Context(), pending{Line: line, Offset: c.offset}) }()
				synctest.Wait() // until it waits for the other half
				if c.completed {
					if err := log.append(rest); err != nil {
						t.Error(err)
					}
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			got, err := os.ReadFile(path)
			if err != nil || string(got) != c.want {
				t.Errorf("log = %q (%v), want %q", got, err, c.want)
			}
		})
	}
}
