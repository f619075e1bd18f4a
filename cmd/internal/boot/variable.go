package boot

import (
	"net/url"
	"reflect"
	"strings"

	"github.com/spf13/pflag"
)

// redacted stands where a secret would.
const redacted = "[redacted]"

// Variable is one environment variable and the flag of the same name. It is
// declared by a field of a configuration struct:
//
//	Token string `env:"OWL_AUTH_TOKEN" redact:"all" help:"what callers must present"`
//
// redact is "all" (the value is a secret), "url" (its password is) or "path"
// (it names a file, but people paste the secret itself); help ends no sentence.
type Variable struct {
	Name    string
	Default string
	Help    string

	field  string
	redact string
}

// Variables lists what a configuration struct declares, in order.
func Variables(config any) []Variable {
	var variables []Variable
	for field := range reflect.TypeOf(config).Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		if name == "" {
			continue
		}
		variables = append(variables, Variable{
			Name:    name,
			Default: field.Tag.Get("envDefault"),
			Help:    field.Tag.Get("help"),
			field:   field.Name,
			redact:  field.Tag.Get("redact"),
		})
	}
	return variables
}

// Flag is the variable's name in kebab case: PLATFORM_KEY_WAIT is
// --platform-key-wait.
func (v Variable) Flag() string {
	return strings.ReplaceAll(strings.ToLower(v.Name), "_", "-")
}

// BindFlags declares the flag of every variable.
func BindFlags(flags *pflag.FlagSet, variables []Variable) {
	for _, v := range variables {
		flags.String(v.Flag(), v.Default, v.Help+" ($"+v.Name+")")
	}
}

// redactValue is the value as it may be shown.
func (v Variable) redactValue(value string) string {
	switch {
	case value == "":
		return value
	case v.redact == "all":
		return redacted
	case v.redact == "url":
		return redactURL(value)
	case v.redact == "path" && isPEM(value):
		return redacted
	}
	return value
}

// redactURL hides the password of a URL, wherever the drivers accept one, and
// the whole of what is no URL.
func redactURL(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return redacted
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), "REDACTED")
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, "REDACTED")
			u.RawQuery = query.Encode()
		}
	}
	return u.String()
}

func isPEM(value string) bool { return strings.Contains(value, "-----BEGIN") }
