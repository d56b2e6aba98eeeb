// Command demo runs two ministries on this machine that federate over TLS, with a
// certificate authority of their own. It makes everything that they need in a temporary
// directory, a user at each and a room that both are in, says where they are, and runs
// until it is interrupted. A server that was killed is started again with Enter.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"

	"beep/outbound/outboundtest"
)

func main() {
	homeserver := flag.String("homeserver", "./homeserver", "the program, as `make build` makes it")
	ports := flag.String("ports", "8001,8002,8441,8442", "four free ports: two for clients, two for other servers")
	databases := flag.String("databases", "", "two empty PostgreSQL databases, as URL,URL; without it there are two SQLite files")
	flag.Parse()
	// The servers are to end with this program, however it ends. That is told to them when the
	// thread ends that has started them: it must be one that lives as long as the program.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, *homeserver, strings.Split(*ports, ","), strings.Split(*databases, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run leaves its directory behind when something went wrong: the logs are there.
func run(ctx context.Context, homeserver string, ports, databases []string) error {
	if len(ports) != 4 || len(databases) > 2 {
		return errors.New("-ports takes four ports, -databases two URLs; see -help")
	}
	dir, err := os.MkdirTemp("", "beep-demo-")
	if err != nil {
		return err
	}
	fmt.Printf("Two ministries are being set up in %s …\n", dir)
	ministries := []*ministry{
		{name: "interior", user: "amina", clientPort: ports[0], serverPort: ports[2]},
		{name: "finance", user: "bilal", clientPort: ports[1], serverPort: ports[3]},
	}
	for i, m := range ministries {
		m.homeserver, m.dir = homeserver, filepath.Join(dir, m.name)
		if len(databases) == 2 {
			m.database = databases[i]
		}
	}
	err = open(ctx, dir, ministries)
	if err == nil {
		err = watch(ctx, ministries)
	}
	if ctx.Err() != nil {
		err = nil // what was interrupted has not failed
	}
	for _, m := range ministries {
		err = errors.Join(err, m.stop())
	}
	if err != nil {
		return fmt.Errorf("%w\nThe logs are in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// open sets everything up and tells about it.
func open(ctx context.Context, dir string, ministries []*ministry) error {
	authority, err := outboundtest.MakeCA(filepath.Join(dir, "authority.pem"))
	if err != nil {
		return err
	}
	for _, m := range ministries {
		if err := m.configure(authority); err != nil {
			return err
		}
		if err := m.start(ctx); err != nil {
			return err
		}
		if err := m.createUser(ctx); err != nil {
			return err
		}
	}
	room, err := meet(ctx, ministries[0], ministries[1])
	if err != nil {
		return err
	}
	explain(ministries, room)
	return nil
}

func explain(ministries []*ministry, room string) {
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MINISTRY\tADDRESS FOR CLIENTS\tUSER\tPASSWORD\tUSER ID\tPROCESS")
	for _, m := range ministries {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", m.name, m.url(), m.user, m.password, m.userID(), m.process.Process.Pid)
	}
	table.Flush() // a fault of the terminal is none of the demo
	killed := ministries[1]
	fmt.Printf(`
%s and %s are in the room %q, %s

Try this:
 - Log in at both addresses, with any Matrix client; a browser needs two profiles. Talk.
 - Make more rooms and invite the other user, by user ID.
 - Kill a ministry in another terminal: kill -9 %d
   Go on writing at the other one. Then press Enter here: the ministry is started again,
   and what it missed arrives.

Ctrl-C ends the demo and removes it.
`, ministries[0].user, killed.user, roomName, room, killed.process.Process.Pid)
}

// watch tells when a server has ended, and starts it again when the user says so.
func watch(ctx context.Context, ministries []*ministry) error {
	enter := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			enter <- struct{}{}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ministries[0].ended():
			ministries[0].tellEnd()
		case <-ministries[1].ended():
			ministries[1].tellEnd()
		case <-enter:
			for _, m := range ministries {
				if err := m.restart(ctx); err != nil {
					return err
				}
			}
		}
	}
}
