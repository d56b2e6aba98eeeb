package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"beep/account"
	"beep/config"
)

// userCommands are the commands about accounts. They work while the server runs, through
// its control socket, and while it does not.
type userCommands struct {
	Create        createUserCommand     `cmd:"" help:"Make an account."`
	ResetPassword resetPasswordCommand  `cmd:"" help:"Give an account a new password."`
	Deactivate    deactivateUserCommand `cmd:"" help:"End an account for good."`
	List          listUsersCommand      `cmd:"" help:"List the accounts."`
}

// Help serves kong.
func (*userCommands) Help() string {
	return `These commands work while the server runs, by asking it through data/control.sock, and
while it does not, on the database itself. What they change holds at once: a user who is deactivated
is logged out that moment.

Example:

    homeserver user create alice --admin`
}

const userFiles = `

It works while the server runs, by asking it through data/control.sock, and while it does not, on
the database itself. Give the flags that the server was started with.`

type createUserCommand struct {
	Name           string `arg:"" help:"The user's name, as alice or @alice:example.org."`
	passwordSource `embed:""`
	Admin          bool `help:"Make the user an administrator of the server."`
	place          `embed:""`
}

// Help serves kong.
func (*createUserCommand) Help() string {
	return `Makes an account with a password. Without --password and --password-file you are asked for
one; where nobody can be asked, as in a script, one is made and printed.` + userFiles + `

Examples:

    homeserver user create alice
    homeserver user create alice --admin --data /var/lib/homeserver
    homeserver user create alice --password-file /run/alice.txt
    pwgen 20 1 | homeserver user create alice --password-file -`
}

// Run serves kong.
func (c *createUserCommand) Run(ctx context.Context, t terminal) error {
	password, generated, err := c.password(t)
	if err != nil {
		return err
	}
	return c.withUsers(ctx, "user create", true, t, func(users userAdmin) error {
		userID, err := users.Create(ctx, c.Name, password, c.Admin)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s has been made.\n", userID)
		tellPassword(t, password, generated)
		return nil
	})
}

type resetPasswordCommand struct {
	Name           string `arg:"" help:"The user's name, as alice or @alice:example.org."`
	passwordSource `embed:""`
	KeepDevices    bool `help:"Leave the user's devices logged in."`
	place          `embed:""`
}

// Help serves kong.
func (*resetPasswordCommand) Help() string {
	return `Gives an account a new password and logs its devices out. Without --password and
--password-file you are asked for one; where nobody can be asked, as in a script, one is made and
printed.

A device that is logged out loses the keys of encrypted messages that it has not backed up:
--keep-devices leaves them logged in, for a user who has merely forgotten the password.` + userFiles + `

Examples:

    homeserver user reset-password alice
    homeserver user reset-password alice --keep-devices`
}

// Run serves kong.
func (c *resetPasswordCommand) Run(ctx context.Context, t terminal) error {
	password, generated, err := c.password(t)
	if err != nil {
		return err
	}
	return c.withUsers(ctx, "user reset-password", false, t, func(users userAdmin) error {
		userID, err := users.ResetPassword(ctx, c.Name, password, c.KeepDevices)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s has a new password.\n", userID)
		tellPassword(t, password, generated)
		return nil
	})
}

type deactivateUserCommand struct {
	Name  string `arg:"" help:"The user's name, as alice or @alice:example.org."`
	Erase bool   `help:"Forget what can be forgotten: password and profile, and, for those who come later, what the user wrote."`
	place `embed:""`
}

// Help serves kong.
func (*deactivateUserCommand) Help() string {
	return `Ends an account for good: its devices are logged out at once, it leaves all rooms, and
nobody can have its name again. This cannot be undone.` + userFiles + ` The user leaves the rooms
when the server runs.

Examples:

    homeserver user deactivate alice
    homeserver user deactivate alice --erase`
}

// Run serves kong.
func (c *deactivateUserCommand) Run(ctx context.Context, t terminal) error {
	return c.withUsers(ctx, "user deactivate", false, t, func(users userAdmin) error {
		userID, err := users.Deactivate(ctx, c.Name, c.Erase)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s has been deactivated.\n", userID)
		return nil
	})
}

type listUsersCommand struct {
	place `embed:""`
}

// Help serves kong.
func (*listUsersCommand) Help() string {
	return `Lists all accounts by name: when each was made, and what is special about it (admin, guest,
locked, suspended, deactivated, erased, or the application service that it belongs to).` + userFiles + `

Examples:

    homeserver user list
    homeserver user list --data /var/lib/homeserver | grep admin`
}

// listPage is how many accounts are asked for at once.
const listPage = 500

// Run serves kong.
func (c *listUsersCommand) Run(ctx context.Context, t terminal) error {
	return c.withUsers(ctx, "user list", false, t, func(users userAdmin) error {
		table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
		for after := ""; ; {
			page, err := users.List(ctx, after, listPage)
			if err != nil {
				return err
			}
			for _, user := range page {
				fmt.Fprintln(table, line(&user))
			}
			if len(page) < listPage {
				return table.Flush()
			}
			after = page[len(page)-1].ID
		}
	})
}

// line has an account's name, its day of birth and what is special about it.
func line(user *account.User) string {
	text := user.ID + "\t" + time.UnixMilli(user.Created).UTC().Format(time.DateOnly)
	separator := "\t"
	for _, trait := range []struct {
		name string
		has  bool
	}{
		{"admin", user.Admin}, {"guest", user.Guest}, {"locked", user.Locked}, {"suspended", user.Suspended},
		{"deactivated", user.Deactivated}, {"erased", user.Erased}, {"appservice=" + user.Appservice, user.Appservice != ""},
	} {
		if trait.has {
			text += separator + trait.name
			separator = " "
		}
	}
	return text
}

// withUsers calls fn with the accounts: those of the server if it runs, else those of
// the database, which is made only if create says so.
func (p *place) withUsers(ctx context.Context, command string, create bool, t terminal, fn func(userAdmin) error) error {
	cfg, err := p.load(nil)
	if err != nil {
		return err
	}
	if !create && !databaseExists(cfg) {
		return fmt.Errorf("there is no database %s; --data, --database and --config say where it is", cfg.ShownDatabase())
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	l, err := awaitLock(ctx, cfg.Data, command, func(h holder) bool { return h.Socket != "" })
	if server, runs := errors.AsType[*inUseError](err); runs && server.Socket != "" {
		return askServer(ctx, cfg, server.Socket, fn)
	}
	if err != nil {
		return err
	}
	return errors.Join(useDatabase(ctx, cfg, newLogger(cfg, t.err), fn), l.release())
}

func databaseExists(cfg *config.Config) bool {
	path, isFile := strings.CutPrefix(cfg.Database.URL.Reveal(), "sqlite:")
	if !isFile {
		return true
	}
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func askServer(ctx context.Context, cfg *config.Config, socket string, fn func(userAdmin) error) error {
	users := newRemoteUsers(socket)
	name, err := users.ServerName(ctx)
	if err != nil {
		return err
	}
	if cfg.ServerName != "" && cfg.ServerName != name {
		return fmt.Errorf("the server that runs here is %s, not %s", name, cfg.ServerName)
	}
	return fn(users)
}

func useDatabase(ctx context.Context, cfg *config.Config, log *slog.Logger, fn func(userAdmin) error) error {
	db, err := openDatabase(ctx, cfg, log)
	if err != nil {
		return err
	}
	accounts := newAccounts(cfg, db, nil, config.Secret{}, newKeys(cfg, db, nil, log), log)
	return errors.Join(fn(localUsers{accounts}), db.Close())
}
