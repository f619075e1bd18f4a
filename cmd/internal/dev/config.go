package dev

import (
	"errors"
	"slices"

	"roost/cmd/internal/boot"
	"roost/cmd/internal/owlcmd"
	"roost/cmd/internal/platformcmd"
)

// Config is what roost dev understands besides Platform's and Owl's variables.
type Config struct {
	DataDir     string `env:"ROOST_DATA_DIR" envDefault:".roost" help:"where everything is kept"`
	DatabaseURL string `env:"ROOST_DATABASE_URL" redact:"url" help:"Postgres server to use instead of an embedded one; the databases are made on it"`
	PGBin       string `env:"ROOST_PG_BIN" help:"directory of the Postgres binaries; unset: they are looked for"`
	Token       string `env:"ROOST_DEV_TOKEN" redact:"all" help:"API token to accept; unset: the one of the run before, or a new one"`
}

// Variables lists the variables of roost dev and of both services.
func Variables() []boot.Variable {
	return slices.Concat(boot.Variables(Config{}), platformcmd.Variables(), owlcmd.Variables())
}

// Check names what the types do not show.
func (c *Config) Check() []boot.Fault {
	var faults boot.Faults
	faults.DatabaseURL("ROOST_DATABASE_URL", c.DatabaseURL)
	return faults
}

// configs are the three configurations, decoded from one set of settings.
type configs struct {
	dev      Config
	platform platformcmd.Config
	owl      owlcmd.Config
}

func decode(settings boot.Settings) (configs, error) {
	var c configs
	var faults []boot.Fault
	for _, config := range []boot.Checker{&c.dev, &c.platform, &c.owl} {
		if err := settings.Decode(config); err != nil {
			var invalid *boot.InvalidError
			if !errors.As(err, &invalid) {
				return c, err
			}
			faults = append(faults, invalid.Faults...)
		}
	}
	if len(faults) > 0 {
		return c, &boot.InvalidError{Faults: faults}
	}
	return c, nil
}
