package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"beep/config"
)

type initCommand struct {
	place     `embed:""`
	listening `embed:""`
	Force     bool `help:"Overwrite a configuration file that is there. Keys and secrets are never overwritten."`
}

// Help serves kong.
func (*initCommand) Help() string {
	return `Writes a configuration file that has every key, what it is for and its value: the default,
or what the flags say. Then makes what the server would make at its first start: the data directory,
the signing key and the registration secret. A key that is there is kept.

The server needs none of this; it is for whoever wants to change something. Give the server name
here: it cannot be changed once the server has run.

Examples:

    homeserver init --server-name example.org
    homeserver init --config /etc/homeserver.yaml --data /var/lib/homeserver

Files:

    homeserver.yaml          the configuration; --config names another
    data/signing.key         the key that the server signs events with
    data/secrets/            secrets that the server made`
}

// Run serves kong.
func (c *initCommand) Run(ctx context.Context, t terminal) error {
	path := c.Config
	if path == "" {
		path = config.FileName
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil && !c.Force {
		return fmt.Errorf("%s is there already; --force overwrites it", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cfg, err := c.write(path)
	if err != nil {
		return err
	}
	if err := makeKeys(cfg, &dataDir{}); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Configuration  %s\nSigning key    %s\nSecrets        %s\n\nStart the server with: %s serve%s\n",
		path, cfg.SigningKey.Path, filepath.Join(cfg.Data, "secrets"), invocation(), configFlag(path))
	return nil
}

// write writes the configuration, unless it would be at fault.
func (c *initCommand) write(path string) (*config.Config, error) {
	chosen := config.Default()
	if err := chosen.Override(c.overrides(c.Listen)); err != nil {
		return nil, err
	}
	text, err := config.Template(chosen)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Parse(path, text, config.Overrides{})
	if err != nil {
		return nil, countFaults(err)
	}
	return cfg, writeFile(path, string(text))
}

// configFlag is the flag that a command needs to find the file.
func configFlag(path string) string {
	if dir, err := os.Getwd(); err == nil && path == filepath.Join(dir, config.FileName) {
		return ""
	}
	return " --config " + quote(path)
}
