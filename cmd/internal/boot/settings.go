package boot

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/pflag"
)

// Settings are the effective values of a program's variables, still as text.
type Settings struct {
	variables []Variable
	given     map[string]string // by flag or environment; never empty strings
}

// ReadSettings takes each variable from its flag if that was given, else from
// the environment ("NAME=value" lines), else from its default. An empty
// variable is the same as none.
func ReadSettings(variables []Variable, environ []string, flags *pflag.FlagSet) Settings {
	s := Settings{variables: variables, given: map[string]string{}}
	values := env.ToMap(environ)
	for _, v := range variables {
		s.Set(v.Name, values[v.Name])
		if flag := flags.Lookup(v.Flag()); flag != nil && flag.Changed {
			s.Set(v.Name, flag.Value.String())
		}
	}
	return s
}

// Set overrides one value; the empty string takes it back to its default.
func (s Settings) Set(name, value string) {
	if value == "" {
		delete(s.given, name)
		return
	}
	s.given[name] = value
}

// Given reports the value that was given for a variable, "" for none.
func (s Settings) Given(name string) string { return s.given[name] }

// Environ is the environment of a child that shall see the same settings.
func (s Settings) Environ(environ []string) []string {
	values := env.ToMap(environ)
	for _, v := range s.variables {
		delete(values, v.Name)
	}
	maps.Copy(values, s.given)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, name+"="+values[name])
	}
	return lines
}

// Clone is a copy that can be changed by itself.
func (s Settings) Clone() Settings {
	return Settings{variables: s.variables, given: maps.Clone(s.given)}
}

// Print writes "NAME=value" for every variable, secrets redacted.
func (s Settings) Print(w io.Writer) error {
	for _, v := range s.variables {
		value, ok := s.given[v.Name]
		if !ok {
			value = v.Default
		}
		if _, err := fmt.Fprintf(w, "%s=%s\n", v.Name, v.redactValue(value)); err != nil {
			return fmt.Errorf("print configuration: %w", err)
		}
	}
	return nil
}

// Fault is what is wrong with one variable. Its reason holds no secret.
type Fault struct{ Name, Reason string }

// InvalidError is a configuration with every fault that it has.
type InvalidError struct{ Faults []Fault }

// Error lists the faults, one a line.
func (e *InvalidError) Error() string {
	var text strings.Builder
	text.WriteString("invalid configuration")
	for _, fault := range e.Faults {
		fmt.Fprintf(&text, "\n  %s %s", fault.Name, fault.Reason)
	}
	return text.String()
}

// Checker is a configuration that knows more faults than its types show.
type Checker interface{ Check() []Fault }

// Decode fills a configuration struct and checks it. Its error is an
// InvalidError that names every variable at fault.
func (s Settings) Decode(config Checker) error {
	var faults []Fault
	if err := env.ParseWithOptions(config, env.Options{Environment: s.given}); err != nil {
		faults = s.faults(config, err)
	}
	known := map[string]bool{}
	for _, fault := range faults {
		known[fault.Name] = true
	}
	for _, fault := range config.Check() {
		if !known[fault.Name] {
			faults = append(faults, fault)
		}
	}
	if len(faults) > 0 {
		return &InvalidError{Faults: faults}
	}
	return nil
}

// faults translates the parser's errors, which name fields, into ours, which
// name variables.
func (s Settings) faults(config any, err error) []Fault {
	var all env.AggregateError
	if !errors.As(err, &all) {
		all.Errors = []error{err}
	}
	names := map[string]string{}
	for _, v := range Variables(reflect.ValueOf(config).Elem().Interface()) {
		names[v.field] = v.Name
	}
	var faults []Fault
	for _, err := range all.Errors {
		faults = append(faults, fault(names, err))
	}
	return faults
}

func fault(names map[string]string, err error) Fault {
	var unset env.VarIsNotSetError
	var parse env.ParseError
	switch {
	case errors.As(err, &unset):
		return Fault{Name: unset.Key, Reason: "is required"}
	case errors.As(err, &parse):
		return Fault{Name: names[parse.Name], Reason: "is not valid: " + parse.Err.Error()}
	}
	return Fault{Name: "configuration", Reason: "cannot be read: " + err.Error()}
}
