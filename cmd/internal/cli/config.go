package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Modes of what holds tokens.
const (
	privateFile fs.FileMode = 0o600
	privateDir  fs.FileMode = 0o700
)

// config is config.json: where to go, and as whom.
type config struct {
	Current  string             `json:"current"`
	Contexts map[string]account `json:"contexts"`
}

// account is one token at one endpoint.
type account struct {
	Endpoint string `json:"endpoint"`
	Token    string `json:"token"`
}

func (c config) names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }

func (e Env) configFile() string { return filepath.Join(e.ConfigDir, "config.json") }

// readConfig returns an empty one where there is none.
func (e Env) readConfig() (config, error) {
	c := config{Contexts: map[string]account{}}
	if e.ConfigDir == "" {
		return c, nil
	}
	text, err := os.ReadFile(e.configFile())
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read contexts: %w", err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("read contexts: %s is damaged (%w); repair it, or remove it and log in again", e.configFile(), err)
	}
	if c.Contexts == nil {
		c.Contexts = map[string]account{}
	}
	return c, nil
}

// writeConfig replaces the file whole: who reads it meanwhile sees the one
// before or this one.
func (e Env) writeConfig(c config) error {
	if e.ConfigDir == "" {
		return errors.New("write contexts: the system names no directory for configuration; set HOME or XDG_CONFIG_HOME")
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode contexts: %w", err)
	}
	if err := writePrivate(e.configFile(), append(text, '\n')); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	return nil
}

// writePrivate makes or replaces a file that its owner alone can read.
func writePrivate(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), privateDir); err != nil {
		return err //nolint:wrapcheck // the caller says what it was writing
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // with mode 0600
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(privateFile), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // the error that matters is on its way
	}
	return err
}
