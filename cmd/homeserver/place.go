package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"beep/config"
)

// place is the flags that say which server a command is about. They win over
// the configuration file.
type place struct {
	Config     string `placeholder:"FILE" help:"Configuration file. Without it: homeserver.yaml of the current directory, if it is there."`
	Data       string `placeholder:"DIR" help:"Data directory."`
	ServerName string `placeholder:"NAME" help:"Server name, as example.org."`
	Database   string `placeholder:"URL" help:"Database: sqlite:FILE or postgres://USER@HOST/NAME. A password in it can be seen in the list of processes; better put it into the configuration."`
}

// listening is the flag of the commands that are about a server's addresses.
type listening struct {
	Listen []string `placeholder:"ADDRESS" sep:"none" help:"Address to listen at instead of the configured ones, as 127.0.0.1:8008 or unix:/path; may be given again."`
}

func (p *place) overrides(listen []string) config.Overrides {
	return config.Overrides{ServerName: p.ServerName, Data: p.Data, Listen: listen, Database: p.Database}
}

// load reads the configuration that the flags mean.
func (p *place) load(listen []string) (*config.Config, error) {
	cfg, err := config.Load(p.Config, p.overrides(listen))
	return cfg, countFaults(err)
}

func countFaults(err error) error {
	faults, ok := errors.AsType[*config.Faults](err)
	if !ok {
		return err
	}
	text := "the configuration has a fault:"
	if n := len(faults.List); n > 1 {
		text = fmt.Sprintf("the configuration has %d faults:", n)
	}
	return fmt.Errorf("%s\n%w", text, err)
}

// flags are the flags to repeat for another command about the same server.
func (p *place) flags() string {
	var text strings.Builder
	for _, flag := range []struct{ name, value string }{
		{"--config", p.Config}, {"--data", p.Data}, {"--database", p.Database},
	} {
		if flag.value != "" {
			fmt.Fprintf(&text, " %s %s", flag.name, quote(flag.value))
		}
	}
	return text.String()
}

func quote(word string) string {
	if strings.ContainsAny(word, " \t'\"\\$&;|<>()*?`#~") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// invocation is how the person started this program.
func invocation() string {
	if strings.Contains(os.Args[0], string(filepath.Separator)+"go-build") {
		return "go run ./cmd/homeserver"
	}
	return quote(os.Args[0])
}
