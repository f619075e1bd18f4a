package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"
)

// Env is the process as the commands see it.
type Env struct {
	Program string // the name under which a shell finds this program
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Getenv  func(string) string
	Now     func() time.Time

	ConfigDir string // holds config.json; "" if the system has no such place
	CacheDir  string // holds input that a command to repeat needs

	InTerminal  bool
	OutTerminal bool
	ErrTerminal bool
	// ReadSecret reads a line from the terminal without showing it.
	ReadSecret func(context.Context) (string, error)
}

// Process is this process' Env, with these streams.
func Process(stdout, stderr io.Writer) Env {
	return Env{
		Program: os.Args[0], In: os.Stdin, Out: stdout, Err: stderr, Getenv: os.Getenv, Now: time.Now,
		ConfigDir: below(os.UserConfigDir()), CacheDir: below(os.UserCacheDir()),
		InTerminal: isTerminal(os.Stdin), OutTerminal: isTerminal(stdout), ErrTerminal: isTerminal(stderr),
		ReadSecret: readSecret,
	}
}

func below(dir string, err error) string {
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "roost")
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// readSecret gives the terminal its echo back also when ctx ends first: a shell
// in which nothing shows is a bad thing to leave behind.
func readSecret(ctx context.Context) (string, error) {
	fd := int(os.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("prepare the terminal: %w", err)
	}
	return interruptible(ctx, func() (string, error) {
		secret, err := term.ReadPassword(fd)
		return string(secret), err //nolint:wrapcheck // the caller says what it was reading
	}, func() { _ = term.Restore(fd, before) })
}

// interruptible gives up on a read when ctx ends; the read itself cannot be
// stopped, and its process is about to end.
func interruptible(ctx context.Context, read func() (string, error), giveUp func()) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		giveUp()
		return "", context.Cause(ctx)
	}
}

// readLine reads one line of stdin.
func (e Env) readLine(ctx context.Context) (string, error) {
	return interruptible(ctx, func() (string, error) {
		line, err := bufio.NewReader(e.In).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil // a last line needs no end
		}
		return strings.TrimRight(line, "\r\n"), err
	}, func() {})
}

// colours reports whether a stream may be coloured (no-color.org).
func (e Env) colours(terminal bool) bool {
	return terminal && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"
}

// notef writes one line of stderr that is no error.
func (t *tool) notef(format string, args ...any) {
	if t.flags.quiet {
		return
	}
	_, _ = fmt.Fprintf(t.env.Err, format+"\n", args...) // nobody is left to tell
}
