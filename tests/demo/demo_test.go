package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beep/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// The users of the two ministries talk in rooms of every version. The one server is killed,
// the other goes on; it comes back, and catches up by itself.
func TestDemo(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{harness.SQLite, harness.Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			d := start(t, engine)
			alice, bob := d.client(t, "interior"), d.client(t, "finance")
			rooms := make([]string, 13)
			for version := 1; version <= 12; version++ {
				room := alice.CreateRoom(harness.Object{"room_version": fmt.Sprint(version), "invite": []string{bob.UserID}})
				bob.SyncUntil("an invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room).Exists() })
				bob.Join(room)
				bob.SyncUntilEvent(room, alice.Text(room, "hello"))
				alice.SyncUntilEvent(room, bob.Text(room, "hello yourself"))
				rooms[version] = room
			}
			d.kill(t, "finance")
			missed := make([]string, 13)
			for version := 1; version <= 12; version++ {
				missed[version] = alice.Text(rooms[version], "are you there?")
			}
			d.enter(t)
			d.await(t, "finance is back")
			for version := 1; version <= 12; version++ {
				harness.Await(t, fmt.Sprint("what was missed in version ", version), func() bool {
					return bob.Get(harness.Path("/v3/rooms/%s/event/%s", rooms[version], missed[version])).Status == http.StatusOK
				})
				alice.SyncUntilEvent(rooms[version], bob.Text(rooms[version], "back again"))
			}
		})
	}
}

// demo is the program as its user has it.
type demo struct {
	cmd   *exec.Cmd
	in    io.Writer
	lines chan string
	dir   string
	table map[string][]string // what it says about each ministry
}

// start starts the program and ends it with the test, as Ctrl-C does.
func start(t *testing.T, engine string) *demo {
	t.Helper()
	homeserver, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	program := filepath.Join(work, "demo")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := []string{"-homeserver", homeserver, "-ports", ports(t)}
	if engine == harness.Postgres {
		cluster := harness.DurableCluster(t)
		args = append(args, "-databases", harness.PostgresDatabase(t, cluster)+","+harness.PostgresDatabase(t, cluster))
	}
	d := &demo{cmd: exec.Command(program, args...), lines: make(chan string, 100), table: map[string][]string{}}
	if err := os.Mkdir(filepath.Join(work, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(work, "tmp"))
	d.run(t)
	t.Cleanup(func() { d.end(t) })
	d.read(t)
	return d
}

func (d *demo) run(t *testing.T) {
	t.Helper()
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.cmd.Stdout
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			d.lines <- lines.Text()
		}
	}()
}

func ports(t *testing.T) string {
	t.Helper()
	var all []string
	for range 4 {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strconv.Itoa(port))
	}
	return strings.Join(all, ",")
}

// read takes in what the program says about the ministries.
func (d *demo) read(t *testing.T) {
	t.Helper()
	words := strings.Fields(d.await(t, "Two ministries are being set up in"))
	d.dir = words[len(words)-2]
	d.await(t, "MINISTRY")
	for range 2 {
		words := strings.Fields(d.next(t))
		d.table[words[0]] = words
	}
	d.await(t, "Ctrl-C")
}

// await gives the next line that begins so.
func (d *demo) await(t *testing.T, prefix string) string {
	t.Helper()
	for {
		if line := d.next(t); strings.HasPrefix(line, prefix) {
			return line
		}
	}
}

func (d *demo) next(t *testing.T) string {
	t.Helper()
	select {
	case line, more := <-d.lines:
		if !more {
			t.Fatal("the program has ended")
		}
		t.Log(line)
		return line
	case <-time.After(2 * time.Minute):
		t.Fatal("the program says no more")
	}
	return ""
}

// client logs in as the user of a ministry.
func (d *demo) client(t *testing.T, name string) *harness.Client {
	t.Helper()
	words := d.table[name]
	c := harness.Elsewhere(t, name, words[1], filepath.Join(d.dir, name)).Client(t)
	c.UserID, c.Password = words[2], words[3]
	if c = c.Login(nil); c.UserID != words[4] {
		t.Errorf("%s is %s, not %s", words[2], c.UserID, words[4])
	}
	return c
}

func (d *demo) pid(t *testing.T, name string) int {
	t.Helper()
	pid, err := strconv.Atoi(d.table[name][5])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func (d *demo) kill(t *testing.T, name string) {
	t.Helper()
	if err := syscall.Kill(d.pid(t, name), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.await(t, name+" has ended: signal: killed")
}

func (d *demo) enter(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(d.in, "\n"); err != nil {
		t.Fatal(err)
	}
}

// end interrupts the program, and looks whether it leaves anything behind.
func (d *demo) end(t *testing.T) {
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	for line := range d.lines {
		t.Log(line)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.dir); !os.IsNotExist(err) {
		t.Errorf("the directory %s is left: %v", d.dir, err)
	}
	for name, words := range d.table {
		resp, err := http.Get(words[1] + "/_matrix/client/versions")
		if err == nil {
			resp.Body.Close()
			t.Errorf("the server of %s is left", name)
		}
	}
}
