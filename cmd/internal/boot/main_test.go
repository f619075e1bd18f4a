package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	program := func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		leaf := &cobra.Command{Use: "leaf", RunE: func(command *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(command.OutOrStdout(), "done")
			return err
		}}
		fail := &cobra.Command{Use: "fail", RunE: func(*cobra.Command, []string) error { return errors.New("it failed") }}
		return Execute(ctx, Group("tool", "A tool", Group("group", "A group", leaf), fail), args, stdout, stderr)
	}
	cases := map[string]struct {
		args   []string
		want   int
		stderr string
	}{
		"success":              {[]string{"group", "leaf"}, ExitOK, ""},
		"help":                 {[]string{"--help"}, ExitOK, ""},
		"failure":              {[]string{"fail"}, ExitFailure, "tool: it failed\n"},
		"no command":           {nil, ExitUsage, "name one of its commands"},
		"no command in group":  {[]string{"group"}, ExitUsage, "name one of its commands"},
		"unknown command":      {[]string{"nonsense"}, ExitUsage, "nonsense"},
		"unknown in group":     {[]string{"group", "nonsense"}, ExitUsage, "nonsense"},
		"unknown flag":         {[]string{"group", "leaf", "--nonsense"}, ExitUsage, "--nonsense"},
		"argument too many":    {[]string{"group", "leaf", "extra"}, ExitUsage, "extra"},
		"flag without a value": {[]string{"--nonsense"}, ExitUsage, "--nonsense"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			if got := run(t.Context(), "tool", program, c.args, &stdout, &stderr); got != c.want {
				t.Errorf("exit code %d, want %d; stderr: %s", got, c.want, stderr.String())
			}
			if !strings.Contains(stderr.String(), c.stderr) || (c.stderr == "") != (stderr.Len() == 0) {
				t.Errorf("stderr %q, want it to hold %q", stderr.String(), c.stderr)
			}
		})
	}
}

func TestInterruptedIsNoFailure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	program := func(ctx context.Context, _ []string, _, _ io.Writer) error {
		cancel()
		return fmt.Errorf("start: %w", ctx.Err())
	}
	if got := run(ctx, "tool", program, nil, io.Discard, io.Discard); got != ExitOK {
		t.Errorf("exit code %d, want %d", got, ExitOK)
	}
	canceled := func(context.Context, []string, io.Writer, io.Writer) error { return context.Canceled }
	if got := run(t.Context(), "tool", canceled, nil, io.Discard, io.Discard); got != ExitFailure {
		t.Errorf("exit code %d without a signal, want %d", got, ExitFailure)
	}
}
