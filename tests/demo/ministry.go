package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"beep/outbound/outboundtest"
)

// ministry is a homeserver and its user.
type ministry struct {
	name, user             string
	clientPort, serverPort string
	homeserver             string // the program
	dir                    string // of everything that it has
	database               string // the URL; "" for SQLite in its directory
	password               string // the user's

	process *exec.Cmd
	end     chan struct{} // closed when the process has ended
	told    bool          // the user knows that it has
}

// serverName is the name that other servers know it by. It has the port where they find it,
// so that it needs no DNS.
func (m *ministry) serverName() string { return "localhost:" + m.serverPort }
func (m *ministry) userID() string     { return "@" + m.user + ":" + m.serverName() }
func (m *ministry) url() string        { return "http://127.0.0.1:" + m.clientPort }

// configuration is all that a server needs to take part in the federation: a name, an
// address for clients, one with a certificate for other servers, and the authority that
// vouches for those. Servers refuse to call private addresses unless they are told which.
const configuration = `server_name: %s
listeners:
  - {address: "127.0.0.1:%s"}
  - {address: "127.0.0.1:%s", tls: {certificate: %s, key: %s}}
federation: {ca_file: %s, allowed_networks: [127.0.0.0/8]}
`

func (m *ministry) configFile() string { return filepath.Join(m.dir, "homeserver.yaml") }
func (m *ministry) logFile() string    { return filepath.Join(m.dir, "log") }

func (m *ministry) configure(authority *outboundtest.CA) error {
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return err
	}
	certificate, key, err := authority.WriteFiles(m.dir, "localhost")
	if err != nil {
		return err
	}
	text := fmt.Sprintf(configuration, m.serverName(), m.clientPort, m.serverPort, certificate, key, authority.File)
	if m.database != "" {
		text += fmt.Sprintf("database: {url: %q}\n", m.database)
	}
	return os.WriteFile(m.configFile(), []byte(text), 0o600)
}

// start starts the server, and waits until it answers.
func (m *ministry) start(ctx context.Context) error {
	log, err := os.OpenFile(m.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(m.homeserver, "serve", "--config", m.configFile())
	cmd.Stdout, cmd.Stderr = log, log
	// Not in the terminal's group, where Ctrl-C would reach it before this program stops it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.process, m.end, m.told = cmd, make(chan struct{}), false
	go func(end chan struct{}) {
		_ = cmd.Wait() // how it ended is in its ProcessState
		close(end)
	}(m.end)
	return m.ready(ctx)
}

// startTime is how long a server may take to start.
const startTime = time.Minute

func (m *ministry) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		if call(ctx, m, http.MethodGet, "/versions", "", nil, nil) == nil {
			return nil
		}
		select {
		case <-m.end:
			log, err := os.ReadFile(m.logFile())
			return errors.Join(fmt.Errorf("%s did not start:\n%s", m.name, log), err)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer", m.name)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// createUser makes the user as an operator does.
func (m *ministry) createUser(ctx context.Context) error {
	m.password = strings.ToLower(rand.Text()[:12])
	cmd := exec.CommandContext(ctx, m.homeserver, "user", "create", m.user, "--config", m.configFile(), "--password-file", "-")
	cmd.Stdin = strings.NewReader(m.password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// ended can be read from once when the server has ended.
func (m *ministry) ended() <-chan struct{} {
	if m.told {
		return nil
	}
	return m.end
}

func (m *ministry) tellEnd() {
	m.told = true
	fmt.Printf("\n%s has ended: %v. Press Enter to start it again.\n", m.name, m.process.ProcessState)
}

// restart starts the server if it has ended.
func (m *ministry) restart(ctx context.Context) error {
	if !m.told {
		return nil
	}
	if err := m.start(ctx); err != nil {
		return err
	}
	fmt.Printf("%s is back, as process %d\n", m.name, m.process.Process.Pid)
	return nil
}

// stopTime is how long a server may take to stop: ten seconds for the requests under way, and
// a little for the rest.
const stopTime = 15 * time.Second

// stop stops the server if it runs.
func (m *ministry) stop() error {
	if m.process == nil {
		return nil
	}
	if err := m.process.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return nil
	} else if err != nil {
		return err
	}
	select {
	case <-m.end:
		return nil
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("%s did not stop within %v", m.name, stopTime), m.process.Process.Kill())
	}
}
