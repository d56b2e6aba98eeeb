// Command homeserver is a Matrix homeserver: it serves, and it has the commands
// to set it up and to look after its users.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"beep/matrix"
)

// commands is the command line.
type commands struct {
	Serve          serveCommand           `cmd:"" default:"withargs" help:"Run the server; this is what happens without a command."`
	Init           initCommand            `cmd:"" help:"Write a configuration file with every key explained, and the server's keys."`
	CheckConfig    checkConfigCommand     `cmd:"" help:"Name every fault of the configuration, or sum it up."`
	User           userCommands           `cmd:"" help:"Make accounts and look after them."`
	FederationList federationListCommands `cmd:"" help:"Sign and check the list of servers of a closed federation."`
	Version        versionCommand         `cmd:"" help:"Tell the version of the program and of the specification."`
}

const description = `A Matrix homeserver in one program.

Without a configuration it serves as "localhost" on http://127.0.0.1:8008 and keeps everything in
the directory data: a SQLite database, its signing key, its secrets. "homeserver COMMAND --help"
explains each command with examples.`

// exitUsage is the exit code for a command line that makes no sense.
const exitUsage = 2

// terminal is what a command reads and writes.
type terminal struct {
	in       *os.File
	out, err io.Writer
}

func main() {
	// Everything that is written is for the server's own user: keys, database, sockets.
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, os.Args[1:], terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// run carries out a command line and gives the exit code.
func run(ctx context.Context, args []string, t terminal) int {
	parser, err := kong.New(&commands{}, kong.Name("homeserver"), kong.Description(description), kong.Writers(t.out, t.err),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 90}), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(t))
	if err != nil {
		return fail(t, err, 1)
	}
	line, err := parser.Parse(args)
	if err != nil {
		return fail(t, fmt.Errorf("%w; see homeserver --help", err), exitUsage)
	}
	if err := line.Run(); err != nil {
		return fail(t, err, 1)
	}
	return 0
}

func fail(t terminal, err error, code int) int {
	fmt.Fprintf(t.err, "homeserver: %s\n", explain(err))
	return code
}

// explain is the error for the person at the terminal.
func explain(err error) string {
	if refusal, ok := errors.AsType[*matrix.Error](err); ok && refusal.Status < 500 {
		return refusal.Message
	}
	return err.Error()
}
