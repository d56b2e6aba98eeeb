package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"beep/config"
)

type serveCommand struct {
	place     `embed:""`
	listening `embed:""`
}

// Help serves kong.
func (*serveCommand) Help() string {
	return `Starts the server and runs until it is interrupted (Ctrl-C, SIGTERM); requests under way
then have ten seconds to finish. SIGHUP has it read the list of a closed federation again;
certificates are read again whenever they change. Messages for you go to standard output, the log to standard error.

What is missing is made: the data directory with the database, the signing key, the registration
secret. A data directory belongs to one server at a time and, from its first start on, to one server
name.

Nobody can register unless the configuration says so: make accounts with "homeserver user create".

Examples:

    homeserver
    homeserver serve --config /etc/homeserver.yaml
    homeserver serve --data /tmp/a --server-name a.test --listen 127.0.0.1:8001
    homeserver serve --database postgres://user@localhost/matrix

Files:

    homeserver.yaml          the configuration, if there is one
    data/homeserver.db       the database, unless --database names another
    data/signing.key         the key that the server signs events with
    data/secrets/            secrets that the server made
    data/control.sock        where "homeserver user" finds the running server
    data/homeserver.lock     keeps a second server out`
}

// Run serves kong.
func (c *serveCommand) Run(ctx context.Context, t terminal) error {
	cfg, err := c.load(c.Listen)
	if err != nil {
		return err
	}
	return serve(ctx, cfg, newLogger(cfg, t.err), func(addresses []string) {
		greet(t.out, cfg, c.flags(), addresses)
	})
}

func newLogger(cfg *config.Config, out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Logging.LogLevel()}
	if cfg.Logging.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// greet tells a newcomer where everything is.
func greet(out io.Writer, cfg *config.Config, flags string, addresses []string) {
	file := cfg.File
	if file == "" {
		file = fmt.Sprintf("none, all defaults (%s init writes one)", invocation())
	}
	fmt.Fprintf(out, `The server %s is running.

  Clients connect to  %s
  Data                %s
  Database            %s
  Configuration       %s
  Make a user         %s user create NAME%s

`, cfg.ServerName, strings.Join(addresses, ", "), cfg.Data, cfg.ShownDatabase(), file, invocation(),
		flags)
}
