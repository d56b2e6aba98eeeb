package main

import (
	"fmt"
	"io"
	"strings"
	"time"

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
nothing. What is wrong with the file of a federation list is no fault of the configuration, and
stands in its row.

A key that does not exist is a fault, and so is a secret that is empty or that everybody knows.
docs/configuration.md explains every key, as does the file that "homeserver init" writes.

Examples:

    homeserver check-config
    homeserver check-config --config /etc/homeserver.yaml

Files:

    homeserver.yaml          is read, with the files of secrets that it names, and that of the
                             federation list`
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
	row("Federation", federates(&cfg.Federation))
	if cfg.Federation.Enabled && cfg.Federation.List.Path != "" {
		row("Its list", signedList(&cfg.Federation.List))
	}
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

// federates says whom the server speaks with.
func federates(f *config.Federation) string {
	switch {
	case !f.Enabled:
		return "off: with no other server"
	case !f.Closed:
		return "open: with every server"
	case f.List.Path == "":
		return fmt.Sprintf("closed: with the servers of federation.allow (%d)", len(f.Allow))
	case len(f.Allow) == 0:
		return "closed: with the servers of the list"
	}
	return fmt.Sprintf("closed: with the servers of the list and of federation.allow (%d)", len(f.Allow))
}

// signedList says what there is to know of the list's file. A server does not need it to
// be right: it goes on with the last good list.
func signedList(l *config.FederationList) string {
	keys, err := authorityKeys(l)
	if err != nil {
		return "FAULT: " + err.Error()
	}
	list, err := readList(l.Path, keys)
	switch {
	case err != nil:
		return "FAULT: " + err.Error()
	case time.Now().UnixMilli() >= list.Expires:
		return fmt.Sprintf("FAULT: serial %d has expired at %s", list.Serial, moment(list.Expires))
	}
	return fmt.Sprintf("serial %d, servers %s, expires %s", list.Serial, countServers(list.Servers), moment(list.Expires))
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
