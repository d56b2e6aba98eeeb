package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beep/storage/storagetest"
	"beep/tests/harness"
)

// number is a number in the environment, which is at least 1.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number from 1 on", name, text)
	}
	return n
}

// cycles is how often a server is killed.
func cycles(t *testing.T) int {
	t.Helper()
	return number(t, "CRASH_CYCLES", 5)
}

// The server is killed at random moments of the work and started again.
func TestKill9(t *testing.T) {
	for _, engine := range []string{harness.SQLite, harness.Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			o := harness.Options{Durable: true}
			if engine == harness.Postgres {
				o.Cluster = harness.DurableCluster(t).URL
			}
			srv := harness.Start(t, engine, o)
			survive(t, cycles(t), func(*rand.Rand) error { return errors.Join(srv.Kill(), srv.Start()) }, srv)
		})
	}
}

// Two servers share a room. Now the one is killed at a random moment, now the other; what
// was answered is there in the end at both.
func TestKill9Federation(t *testing.T) {
	for _, engine := range []string{harness.SQLite, harness.Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			o := harness.Options{Durable: true}
			if engine == harness.Postgres {
				o.Cluster = harness.DurableCluster(t).URL
			}
			servers := harness.StartFederation(t, engine, 2, o)
			survive(t, cycles(t), func(random *rand.Rand) error {
				srv := servers[random.IntN(len(servers))]
				return errors.Join(srv.Kill(), srv.Start())
			}, servers...)
		})
	}
}

// PostgreSQL ends as it does when the machine loses power, and comes back; the server
// goes on by itself.
func TestPostgresStopsAtOnce(t *testing.T) {
	t.Parallel()
	cluster := harness.DurableCluster(t)
	control := postgresControl(t, cluster)
	t.Cleanup(func() {
		if err := control("stop"); err != nil {
			t.Error(err)
		}
	})
	srv := harness.Start(t, harness.Postgres, harness.Options{Durable: true, Cluster: cluster.URL, MayFail: true})
	survive(t, max(2, cycles(t)/10), func(*rand.Rand) error { return control("restart") }, srv)
}

// postgresControl is pg_ctl for a cluster, in the mode immediate.
func postgresControl(t *testing.T, cluster *storagetest.Cluster) func(action string) error {
	t.Helper()
	u, err := url.Parse(cluster.URL)
	if err != nil {
		t.Fatal(err)
	}
	dir := u.Query().Get("host") // where the socket is; see storagetest
	data := filepath.Join(dir, "data")
	started, err := os.ReadFile(filepath.Join(data, "postmaster.opts"))
	if err != nil {
		t.Fatal(err)
	}
	program, _, _ := strings.Cut(string(started), " ")
	return func(action string) error {
		cmd := exec.Command(filepath.Join(filepath.Dir(program), "pg_ctl"), action, "-m", "immediate", "-w", "-D", data, "-l", filepath.Join(dir, "log2"))
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: postgresAccount(t)}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pg_ctl %s: %w\n%s", action, err, out)
		}
		return nil
	}
}

// postgresAccount is who the server runs as when the tests run as root.
func postgresAccount(t *testing.T) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// survive lets users write and read, strikes so many times, and checks that nothing was
// lost and nothing came twice.
func survive(t *testing.T, times int, strike func(random *rand.Rand) error, servers ...*harness.Server) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 9))
	w := newWorld(t, seed, servers...)
	w.begin()
	for i := range times {
		time.Sleep(100*time.Millisecond + time.Duration(random.Int64N(int64(900*time.Millisecond))))
		begin := time.Now()
		if err := strike(random); err != nil {
			t.Fatalf("seed %d, strike %d: %v", seed, i+1, err)
		}
		t.Logf("strike %d: back after %v", i+1, time.Since(begin).Round(time.Millisecond))
		w.resend()
		if t.Failed() {
			break
		}
	}
	w.end()
	w.check()
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}
