package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asProgram is the environment variable that makes this test binary the program itself.
const asProgram = "HOMESERVER_TEST_AS_PROGRAM"

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is a command line in a directory, with nothing to read from.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1", "COLUMNS=80", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// result is what a command line did.
type result struct {
	out, err string
	code     int
}

func execute(t *testing.T, dir string, args ...string) result {
	t.Helper()
	return finish(t, program(t, dir, args...))
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// mustExecute fails the test unless the command succeeds; it gives what it printed.
func mustExecute(t *testing.T, dir string, args ...string) string {
	t.Helper()
	r := execute(t, dir, args...)
	if r.code != 0 {
		t.Fatalf("homeserver %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// mustFail fails the test unless the command ends with that code and that message.
func mustFail(t *testing.T, dir string, code int, message string, args ...string) {
	t.Helper()
	r := execute(t, dir, args...)
	if r.code != code || !strings.Contains(r.err, message) {
		t.Errorf("homeserver %s: exit code %d, expected %d with %q\n%s%s", strings.Join(args, " "), r.code, code, message, r.out, r.err)
	}
}

// running is a server under test.
type running struct {
	cmd *exec.Cmd
	// greeting is what it printed when it was ready.
	greeting string
	log      buffer
}

// buffer is text that is written and read at the same time.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start starts a server in dir at a free port and waits until it is ready.
func start(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	s := &running{cmd: program(t, dir, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)}
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		s.greeting += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "Make a user") {
			return s
		}
	}
	s.end(syscall.SIGKILL)
	t.Fatalf("the server did not start: %s", s.log.String())
	return nil
}

// end sends the signal, waits for the end and gives the exit code; once it has
// ended it does nothing.
func (s *running) end(signal syscall.Signal) int {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(signal) // it may have ended by itself
		_ = s.cmd.Wait()                 // the exit code tells
	}
	return s.cmd.ProcessState.ExitCode()
}

func TestHelp(t *testing.T) {
	for _, command := range []string{
		"", "serve", "init", "check-config", "user", "user create", "user reset-password", "user deactivate", "user list", "version",
		"federation-list", "federation-list keygen", "federation-list entry", "federation-list sign", "federation-list show",
	} {
		t.Run(command, func(t *testing.T) {
			got := mustExecute(t, t.TempDir(), append(strings.Fields(command), "--help")...)
			file := filepath.Join("testdata", "help", "homeserver "+command)
			file = strings.ReplaceAll(strings.TrimSpace(file), " ", "-") + ".txt"
			if *update {
				if err := writeFile(file, got); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s is stale; run go test ./cmd/homeserver -update\n%s", file, diff)
			}
		})
	}
}

func TestUsageFaults(t *testing.T) {
	dir := t.TempDir()
	mustFail(t, dir, exitUsage, "unexpected argument frobnicate", "frobnicate")
	mustFail(t, dir, exitUsage, "unknown flag --frobnicate", "serve", "--frobnicate")
	mustFail(t, dir, exitUsage, "<name>", "user", "create")
	mustFail(t, dir, exitUsage, "can't be used together", "user", "create", "a", "--password", "b", "--password-file", "c")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a command line that makes no sense left files: %v %v", entries, err)
	}
}

func TestVersion(t *testing.T) {
	got := mustExecute(t, t.TempDir(), "version")
	for _, part := range []string{"homeserver ", "go1.", "Matrix v1.1 to v1.19", "room versions 1 to 12; new rooms 12"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q lacks %q", got, part)
		}
	}
}
