package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// startTime is how long a server may take to start: under the race detector, on a
	// busy machine.
	startTime = 60 * time.Second
	// stopTime is how long it may take to stop after SIGTERM: ten seconds for the
	// requests under way, and a little for the rest.
	stopTime = 12 * time.Second
)

// Options choose what kind of server [Start] starts. The zero value is a server for
// plain tests: registration is open, there are no rate limits, hashing is cheap.
type Options struct {
	// Config is YAML that is merged into the configuration, key by key.
	Config string
	// Durable is for a server that may be killed: PostgreSQL has to be durable too.
	Durable bool
	// Cluster is the URL of a superuser of the PostgreSQL cluster; "" is that of all tests.
	Cluster string
	// Wired is for servers that federate over wires which can be cut.
	Wired bool
	// Front puts something before each server of a federation that can keep it from answering
	// the others: see [Server.Hold].
	Front bool
	// MayFail lets the server write errors into its log.
	MayFail bool
}

// Server is a homeserver, which may be stopped and started.
type Server struct {
	// Name is the server name.
	Name string
	// Engine is SQLite or Postgres.
	Engine string
	// Dir holds the configuration, the data directory "data" and the log.
	Dir string
	// Database is the URL of the database.
	Database string

	options   Options
	drop      func() error
	federates bool   // its addresses are in its configuration
	wire      *wire  // from other servers; nil for none
	front     *front // likewise

	mu   sync.Mutex
	url  string
	run  *process
	next int // for names

	observer observer
}

// process is one run of a server.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended
}

// Start starts a server that is stopped at the end of the test.
func Start(t testing.TB, engine string, o Options) *Server {
	t.Helper()
	s, err := newServer(engine, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(t) })
	return s
}

// Elsewhere is a server that the test has not started, but for clients: its name, where
// clients find it, and the directory that has its log.
func Elsewhere(t testing.TB, name, url, dir string) *Server {
	t.Helper()
	s := &Server{Name: name, Dir: dir, url: url}
	t.Cleanup(func() { s.review(t, s.faults()) })
	return s
}

// newServer makes a server and starts it.
func newServer(engine, dir string, o Options) (*Server, error) {
	s := &Server{Name: engine + ".test", Engine: engine, Dir: dir, options: o}
	var err error
	if s.Database, s.drop, err = newDatabase(engine, o.Cluster, dir); err != nil {
		return nil, err
	}
	if err := writeConfig(s.configFile(), o); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return s, nil
}

func (s *Server) configFile() string { return filepath.Join(s.Dir, "homeserver.yaml") }
func (s *Server) logFile() string    { return filepath.Join(s.Dir, "log") }

// Data is the data directory.
func (s *Server) Data() string { return filepath.Join(s.Dir, "data") }

// Flags are those that tell the program which server is meant.
func (s *Server) Flags() []string {
	return []string{"--config", s.configFile(), "--data", s.Data(), "--server-name", s.Name, "--database", s.Database}
}

// URL is the address of the client API; it is another one after each start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// PID is the id of the server's process.
func (s *Server) PID() int { return s.process().cmd.Process.Pid }

// process is the last run of the server.
func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// Start starts a server that was stopped or killed, and waits until it accepts connections.
func (s *Server) Start() error {
	binary, err := Binary()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command := []string{"serve"}
	if !s.federates {
		command = append(command, "--listen", "127.0.0.1:0")
	}
	cmd := exec.Command(binary, append(command, s.Flags()...)...)
	cmd.Dir, cmd.Stderr = s.Dir, log
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return s.await(cmd, out)
}

// await reads the greeting, which names the address that was taken.
func (s *Server) await(cmd *exec.Cmd, out io.Reader) error {
	run := &process{cmd: cmd, ended: make(chan struct{})}
	address := make(chan string, 1)
	go func() {
		defer close(run.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if words := strings.Fields(lines.Text()); len(words) >= 4 && words[0] == "Clients" {
				address <- strings.TrimSuffix(words[3], ",")
			}
		}
		run.err = cmd.Wait()
	}()
	select {
	case url := <-address:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.url, s.run = url, run
		return nil
	case <-run.ended:
		return fmt.Errorf("the server did not start: %w\n%s", run.err, s.Log())
	case <-time.After(startTime):
		return errors.Join(errors.New("the server did not get ready\n"+s.Log()), cmd.Process.Kill())
	}
}

// Kill ends the server by SIGKILL and waits until the process is gone.
func (s *Server) Kill() error { return s.signal(syscall.SIGKILL) }

// signal sends a signal and waits for the end. The error is that of a process which
// does not end.
func (s *Server) signal(signal os.Signal) error {
	run := s.process()
	if err := run.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-run.ended:
		return nil
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("the server did not stop within %v of the signal %v", stopTime, signal), run.cmd.Process.Kill())
	}
}

// Stop ends the server by SIGTERM. The error is that of a server which does not stop
// in time, or not with success.
func (s *Server) Stop() error {
	if err := s.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := s.process().err; err != nil {
		return fmt.Errorf("the server ended with: %w", err)
	}
	return nil
}

// Restart stops the server and starts it again.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := errors.Join(s.Stop(), s.Start()); err != nil {
		t.Fatal(err)
	}
}

// Log is what the server has written to its standard error, over all starts.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// close stops the server for good. The error tells what was wrong with it.
func (s *Server) close() error {
	return errors.Join(s.Stop(), s.wire.close(), s.front.close(), s.faults(), s.drop())
}

// faults looks through the log for what no server may write.
func (s *Server) faults() error {
	log := s.Log()
	for _, word := range []string{"DATA RACE", "panic", "fatal error:"} {
		if at := strings.Index(log, word); at >= 0 {
			return fmt.Errorf("the log of the server has %q:\n%s", word, excerpt(log, at))
		}
	}
	if at := strings.Index(log, "level=ERROR"); at >= 0 && !s.options.MayFail {
		return fmt.Errorf("the server logged an error:\n%s", excerpt(log, at))
	}
	return nil
}

// excerpt is the line at an index and what follows it.
func excerpt(text string, at int) string {
	begin := strings.LastIndexByte(text[:at], '\n') + 1
	return text[begin:min(len(text), begin+4<<10)]
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// UniqueName is a name that no other test at this server has.
func (s *Server) UniqueName(prefix string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return fmt.Sprintf("%s-%d", prefix, s.next)
}

// Command runs another command of the program about this server and gives its output.
func (s *Server) Command(t testing.TB, command ...string) string {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append(command, s.Flags()...)...)
	cmd.Dir = s.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("homeserver %s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}
