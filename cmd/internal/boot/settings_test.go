package boot_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"roost/cmd/internal/boot"
)

type sample struct {
	Addr     string        `env:"SAMPLE_ADDR" envDefault:"127.0.0.1:80" help:"where"`
	Database string        `env:"SAMPLE_DATABASE_URL,required" redact:"url" help:"which"`
	Token    string        `env:"SAMPLE_TOKEN" redact:"all" help:"who"`
	Key      string        `env:"SAMPLE_KEY" redact:"path" help:"how"`
	Wait     time.Duration `env:"SAMPLE_WAIT" envDefault:"5s" help:"when"`
}

func (s *sample) Check() []boot.Fault {
	var faults boot.Faults
	faults.Address("SAMPLE_ADDR", s.Addr)
	faults.DatabaseURL("SAMPLE_DATABASE_URL", s.Database)
	faults.NotNegative("SAMPLE_WAIT", s.Wait)
	return faults
}

func read(t *testing.T, environ, args []string) boot.Settings {
	t.Helper()
	flags := pflag.NewFlagSet("sample", pflag.ContinueOnError)
	variables := boot.Variables(sample{})
	boot.BindFlags(flags, variables)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return boot.ReadSettings(variables, environ, flags)
}

func TestSettingsPrecedence(t *testing.T) {
	t.Parallel()
	database := "SAMPLE_DATABASE_URL=postgres://h/d"
	cases := map[string]struct {
		environ, args []string
		want          time.Duration
	}{
		"default":               {[]string{database}, nil, 5 * time.Second},
		"empty is unset":        {[]string{database, "SAMPLE_WAIT="}, nil, 5 * time.Second},
		"environment":           {[]string{database, "SAMPLE_WAIT=1s"}, nil, time.Second},
		"flag":                  {[]string{database}, []string{"--sample-wait", "2s"}, 2 * time.Second},
		"flag over environment": {[]string{database, "SAMPLE_WAIT=1s"}, []string{"--sample-wait=2s"}, 2 * time.Second},
		"zero is a value":       {[]string{database, "SAMPLE_WAIT=0"}, nil, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got sample
			if err := read(t, c.environ, c.args).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got.Wait != c.want || got.Addr != "127.0.0.1:80" {
				t.Errorf("decoded %+v, want wait %s", got, c.want)
			}
		})
	}
}

func TestSettingsNameEveryFault(t *testing.T) {
	t.Parallel()
	var got sample
	err := read(t, []string{"SAMPLE_ADDR=nowhere", "SAMPLE_WAIT=soon"}, nil).Decode(&got)
	var invalid *boot.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("error %v, want an InvalidError", err)
	}
	found := map[string]bool{}
	for _, fault := range invalid.Faults {
		found[fault.Name] = true
	}
	for _, name := range []string{"SAMPLE_ADDR", "SAMPLE_DATABASE_URL", "SAMPLE_WAIT"} {
		if !found[name] || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if len(invalid.Faults) != 3 {
		t.Errorf("%d faults, want 3: %v", len(invalid.Faults), err)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, database := range []string{
		"postgres://user:" + canary + "@host:5432/d",
		"postgres://host/d?user=u&password=" + canary,
		"postgres://host/d?sslpassword=" + canary,
		"host=h user=u password=" + canary,
		"postgres://user:" + canary + "@host:port%zz/d",
		canary,
		"user:" + canary + "@host/d",
	} {
		t.Run(fmt.Sprintf("%.24s", database), func(t *testing.T) {
			t.Parallel()
			settings := read(t, []string{
				"SAMPLE_DATABASE_URL=" + database, "SAMPLE_TOKEN=" + canary,
				"SAMPLE_KEY=-----BEGIN PRIVATE KEY-----" + canary,
			}, nil)
			var out strings.Builder
			if err := settings.Print(&out); err != nil {
				t.Fatal(err)
			}
			var got sample
			if err := settings.Decode(&got); err != nil {
				out.WriteString(err.Error())
			}
			if strings.Contains(out.String(), canary) {
				t.Errorf("shows the secret:\n%s", out.String())
			}
			if !strings.Contains(out.String(), "SAMPLE_TOKEN=[redacted]\n") {
				t.Errorf("does not show that there is a token:\n%s", out.String())
			}
		})
	}
}

func TestPrintShowsWhatIsNoSecret(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	settings := read(t, []string{"SAMPLE_DATABASE_URL=postgres://u:p@db:5432/roost?sslmode=require", "SAMPLE_KEY=key.pem"}, nil)
	if err := settings.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := "SAMPLE_ADDR=127.0.0.1:80\nSAMPLE_DATABASE_URL=postgres://u:REDACTED@db:5432/roost?sslmode=require\n" +
		"SAMPLE_TOKEN=\nSAMPLE_KEY=key.pem\nSAMPLE_WAIT=5s\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

func TestEnvironPassesOnWhatWasGiven(t *testing.T) {
	t.Parallel()
	settings := read(t, []string{"SAMPLE_WAIT=1s", "SAMPLE_TOKEN=old"}, []string{"--sample-wait", "2s"})
	settings.Set("SAMPLE_TOKEN", "new")
	got := settings.Environ([]string{"OTHER=kept", "SAMPLE_WAIT=1s", "SAMPLE_TOKEN=old"})
	if want := "OTHER=kept SAMPLE_TOKEN=new SAMPLE_WAIT=2s"; strings.Join(got, " ") != want {
		t.Errorf("environment %v, want %s", got, want)
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "example.org:1": false, "127.0.0.1": false,
	} {
		if got := boot.IsLoopback(addr); got != want {
			t.Errorf("IsLoopback(%q) = %v", addr, got)
		}
	}
}
