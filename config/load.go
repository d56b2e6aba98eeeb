package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FileName is the configuration that is read when none is named, if the current
// directory has it.
const FileName = "homeserver.yaml"

// Overrides are values given outside the file, on the command line. They win over
// it; empty ones change nothing. Relative paths are relative to the current directory.
type Overrides struct {
	ServerName string
	Data       string
	Listen     []string
	Database   string
}

// Load reads the file at path, or [FileName] when path is empty and that file
// exists. The result is complete: paths are absolute, secrets are read, what is
// derived from other keys is filled in, except the server name, which the data
// directory may know. A configuration that is at fault gives *[Faults], and
// with it as much of the configuration as could be read.
func Load(path string, overrides Overrides) (*Config, error) {
	path, text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text, overrides)
}

// Parse is [Load] for the text of a file that need not exist yet. Path is
// absolute, or empty for no file.
func Parse(path string, text []byte, overrides Overrides) (*Config, error) {
	dir := filepath.Dir(path)
	if path == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return nil, fmt.Errorf("cannot find the current directory: %w", err)
		}
	}
	cfg, r := Default(), newReport()
	cfg.File = path
	(&decoder{report: r, dir: dir}).decode(text, cfg)
	if err := cfg.Override(overrides); err != nil {
		return nil, err
	}
	for _, key := range overrides.keys() {
		r.forget(key)
	}
	cfg.resolve(dir)
	cfg.validate(r)
	return cfg, r.err(path)
}

// readFile gives the absolute path and the text of the configuration; both are
// empty when there is none.
func readFile(path string) (string, []byte, error) {
	name := path
	if name == "" {
		name = FileName
	}
	text, err := os.ReadFile(name)
	if path == "" && errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	name, err = filepath.Abs(name)
	return name, text, err
}

// Override puts the given values in place of those in c.
func (c *Config) Override(o Overrides) error {
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("cannot find the current directory: %w", err)
	}
	if o.ServerName != "" {
		c.ServerName = o.ServerName
	}
	if o.Data != "" {
		c.Data = absolute(dir, o.Data)
	}
	if o.Database != "" {
		c.Database.URL = NewSecret(absoluteURL(dir, o.Database))
	}
	if len(o.Listen) > 0 {
		c.Listeners = nil
	}
	for _, address := range o.Listen {
		c.Listeners = append(c.Listeners, Listener{Address: absoluteSocket(dir, address)})
	}
	return nil
}

// keys lists the keys whose value is overridden.
func (o *Overrides) keys() []string {
	var keys []string
	for key, given := range map[string]bool{
		"server_name": o.ServerName != "", "data": o.Data != "",
		"database.url": o.Database != "", "listeners": len(o.Listen) > 0,
	} {
		if given {
			keys = append(keys, key)
		}
	}
	return keys
}

// resolve makes paths absolute and fills in what the data directory implies.
func (c *Config) resolve(dir string) {
	c.Data = absolute(dir, c.Data)
	if c.SigningKey.Path == "" {
		c.SigningKey.Path = filepath.Join(c.Data, "signing.key")
	}
	c.SigningKey.Path = absolute(dir, c.SigningKey.Path)
	if c.Media.Path == "" {
		c.Media.Path = filepath.Join(c.Data, "media")
	}
	c.Media.Path = absolute(dir, c.Media.Path)
	if !c.Database.URL.IsSet() {
		c.Database.URL = NewSecret("sqlite:" + filepath.Join(c.Data, "homeserver.db"))
	}
	c.Database.URL = NewSecret(absoluteURL(dir, c.Database.URL.Reveal()))
	for i := range c.Listeners {
		l := &c.Listeners[i]
		l.Address = absoluteSocket(dir, l.Address)
		if l.TLS != nil {
			l.TLS.Certificate = absolute(dir, l.TLS.Certificate)
			l.TLS.Key = absolute(dir, l.TLS.Key)
			l.TLS.ClientCA = absolute(dir, l.TLS.ClientCA)
		}
	}
	c.Metrics.Listen = absoluteSocket(dir, c.Metrics.Listen)
	for _, path := range []*string{
		&c.Federation.List.Path, &c.Federation.CAFile, &c.Federation.ClientCertificate, &c.Federation.ClientKey, &c.IdentityServers.CAFile, &c.Unsafe.ExtraCAFile,
	} {
		*path = absolute(dir, *path)
	}
}

// absolute is the path, which is relative to dir; the empty path stays empty.
func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func absoluteSocket(dir, address string) string {
	if path, found := strings.CutPrefix(address, unixPrefix); found {
		return unixPrefix + absolute(dir, path)
	}
	return address
}

func absoluteURL(dir, url string) string {
	if path, found := strings.CutPrefix(url, sqlitePrefix); found && !strings.HasPrefix(path, "//") {
		return sqlitePrefix + absolute(dir, path)
	}
	return url
}

const (
	unixPrefix   = "unix:"
	sqlitePrefix = "sqlite:"
)
