package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// word is one word of a command line: text to be quoted, or an expression for
// the shell to expand.
type word struct {
	text string
	expr string
}

// tokenExpression stands where a token stood. Empty, it is refused, so that no
// other token is used in its place.
const tokenExpression = `"$ROOST_TOKEN"` //nolint:gosec // the name of a variable

// repeatCommand is this command as a shell runs it again: the same flags, the
// key, IDs where names were given, and pinned to where it went, so that another
// current context cannot send it elsewhere. The token is never in it.
func (s *session) repeatCommand() string {
	words := []word{{text: program(s.env.Program)}}
	for _, name := range strings.Fields(s.cmd.CommandPath())[1:] {
		words = append(words, word{text: name})
	}
	first, last := argumentWords(s.args)
	words = append(words, first...)
	words = append(words, s.pins()...)
	s.cmd.Flags().Visit(func(f *pflag.Flag) { words = append(words, s.flagWords(f)...) })
	if s.key != "" && !s.cmd.Flags().Changed(keyFlag) {
		words = append(words, word{text: "--" + keyFlag}, word{text: s.key})
	}
	return join(append(words, last...))
}

// otherCommand is another command that goes where this one went.
func (s *session) otherCommand(noun, verb, arg string) string {
	words := []word{{text: program(s.env.Program)}, {text: noun}, {text: verb}}
	first, last := argumentWords([]string{arg})
	words = append(words, first...)
	words = append(words, s.pins()...)
	for _, name := range []string{"context", "endpoint", "token"} {
		if f := s.cmd.Flags().Lookup(name); f.Changed {
			words = append(words, s.flagWords(f)...)
		}
	}
	return join(append(words, last...))
}

// argumentWords stand first, where people look for them, unless one would be
// read as a flag: then they stand last, behind a --.
func argumentWords(args []string) (first, last []word) {
	words := make([]word, len(args))
	for i, arg := range args {
		words[i] = word{text: arg}
	}
	if slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") }) {
		return nil, append([]word{{text: "--"}}, words...)
	}
	return words, nil
}

// program is how a shell finds this binary again. Windows' .exe is left to it.
func program(name string) string {
	if name == "" {
		return "roost"
	}
	return name
}

// pins name what the environment or the configuration chose.
func (s *session) pins() []word {
	flags := s.cmd.Flags()
	if s.target.context != "" && !flags.Changed("context") {
		return []word{{text: "--context"}, {text: s.target.context}}
	}
	if s.target.context == "" && !flags.Changed("endpoint") {
		return []word{{text: "--endpoint"}, {text: s.target.endpoint}}
	}
	return nil
}

// flagWords spells one flag that was given. A value stands in a word of its
// own; a boolean's cannot.
func (s *session) flagWords(f *pflag.Flag) []word {
	name := word{text: "--" + f.Name}
	if f.Name == "token" {
		return []word{name, {expr: tokenExpression}}
	}
	if f.NoOptDefVal != "" {
		if f.Value.String() == f.NoOptDefVal {
			return []word{name}
		}
		return []word{{text: "--" + f.Name + "=" + f.Value.String()}}
	}
	values := []string{f.Value.String()}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values = list.GetSlice()
	}
	var words []word
	for _, value := range values {
		if kept, ok := s.saved[f.Name]; ok {
			value = kept
		}
		words = append(words, name, word{text: value})
	}
	return words
}

func join(words []word) string {
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = w.expr
		if w.expr == "" {
			parts[i] = quote(w.text)
		}
	}
	return strings.Join(parts, " ")
}

// quote makes one word of a POSIX shell command (XCU section 2.2). Within
// single quotes every byte is itself; a single quote is ended, escaped, begun
// again.
func quote(s string) string {
	if s != "" && strings.Trim(s, plainBytes) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plainBytes mean nothing to any shell, wherever they stand.
const plainBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./:,@%+"

// How long saved input stays: as long as keys live by default.
const savedLife = 24 * time.Hour

// input is what a flag that names a file brought, for the case that it must be
// read again.
type input struct {
	flag    string
	content []byte
	again   bool // a shell can read it again from the same path
}

// save puts input that cannot be read twice (stdin, a pipe) into a private file
// and lets the command to repeat name that one.
func (s *session) save(inputs []input) error {
	for i, in := range inputs {
		if in.again {
			continue
		}
		if s.env.CacheDir == "" {
			return fmt.Errorf("--%s: the system names no cache directory; give the repeat the same input", in.flag)
		}
		s.expire()
		path := filepath.Join(s.env.CacheDir, "repeat", fmt.Sprintf("%x-%d", s.env.Now().UnixNano(), i))
		if err := writePrivate(path, in.content); err != nil {
			return fmt.Errorf("--%s: keep its input: %w", in.flag, err)
		}
		s.saved[in.flag] = path
	}
	return nil
}

// expire removes what was saved for keys that are no longer alive.
func (s *session) expire() {
	old, _ := filepath.Glob(filepath.Join(s.env.CacheDir, "repeat", "*")) // the pattern is good
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && s.env.Now().Sub(info.ModTime()) > savedLife {
			_ = os.Remove(path) // the next one tries again
		}
	}
}
