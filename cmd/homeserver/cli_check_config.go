package main

import (
	"fmt"
	"io"
	"strings"

	"beep/config"
)

type checkConfigCommand struct {
	place     `embed:""`
	listening `embed:""`
}

// Help serves kong.
func (*checkConfigCommand) Help() string {
	return `Reads the configuration as the server would, with the same flags. Prints every fault with
its line and key, and ends with exit code 1; or prints "ok" and what the server would do. Changes
nothing.

A key that does not exist is a fault, and so is a secret that is empty or that everybody knows.
docs/configuration.md explains every key, as does the file that "homeserver init" writes.

Examples:

    homeserver check-config
    homeserver check-config --config /etc/homeserver.yaml

Files:

    homeserver.yaml          is read, with the files of secrets that it names`
}

// Run serves kong.
func (c *checkConfigCommand) Run(t terminal) error {
	cfg, err := c.load(c.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(t.out, "ok")
	summarize(t.out, cfg)
	return nil
}

// summarize says what a server with this configuration does, without secrets.
func summarize(out io.Writer, cfg *config.Config) {
	row := func(name, value string) { fmt.Fprintf(out, "  %-15s %s\n", name, value) }
	row("Configuration", orElse(cfg.File, "none, all defaults"))
	row("Server name", orElse(cfg.ServerName, "the one of the database; localhost if that is new"))
	row("Public address", cfg.BaseURL())
	row("Data", cfg.Data)
	row("Database", cfg.ShownDatabase())
	row("Signing key", cfg.SigningKey.Path)
	for _, l := range cfg.Listeners {
		row("Listens on", l.URL(l.Address))
	}
	row("Metrics", orElse(cfg.Metrics.Listen, "not served"))
	row("Registration", registration(&cfg.Registration))
	for _, key := range cfg.Unsafe.On() {
		row("UNSAFE", key+" is on: for tests only")
	}
}

func registration(r *config.Registration) string {
	var who []string
	switch {
	case r.Open && r.TokenRequired:
		who = append(who, "by token")
	case r.Open:
		who = append(who, "OPEN TO EVERYBODY")
	default:
		who = append(who, "closed")
	}
	if r.Guests {
		who = append(who, "guests may look")
	}
	return strings.Join(who, ", ")
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
