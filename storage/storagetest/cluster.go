package storagetest

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	_ "github.com/lib/pq" // for administer
)

// Cluster is a running PostgreSQL server with data of its own in a temporary
// directory. It ends, and the directory goes, with Stop or with this process,
// however that ends.
type Cluster struct {
	// URL is that of the superuser, over the cluster's Unix socket.
	URL string
	// TCP is the same over the loopback interface.
	TCP string

	guard    *exec.Cmd
	lifeline io.Closer // the guard stops the server when this closes
}

// guardScript runs the server until its standard input ends. It outlives a test
// process that was killed, and then cleans up.
const guardScript = `
	"$1/postgres" -D "$2/data" -k "$2" -p "$3" -h 127.0.0.1 >"$2/log" 2>&1 </dev/null &
	server=$!
	cat >/dev/null
	kill -QUIT $server
	wait $server
	rm -rf "$2"`

// settings keep a cluster small. Many test packages share it.
const settings = `
max_connections = 300
shared_buffers = 64MB
max_wal_size = 256MB
autovacuum_naptime = 10min
`

// unsafe makes it fast: nobody reads the data after a crash.
const unsafe = `
fsync = off
wal_level = minimal
max_wal_senders = 0
full_page_writes = off
synchronous_commit = off
`

// StartCluster makes a cluster and waits until it answers. A durable one keeps
// what it has committed, even if its processes are killed and the machine stops;
// the others are much faster.
func StartCluster(durable bool) (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	dir, err := clusterDir(account, durable)
	if err != nil {
		return nil, err
	}
	if err := initialise(bin, dir, account, durable); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	c, err := start(bin, dir, account)
	if err != nil {
		return nil, err
	}
	if err := c.wait(); err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, errors.Join(fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, text), c.Stop())
	}
	return c, nil
}

// binaries gives the directory with initdb and postgres.
func binaries() (string, error) {
	candidates, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		candidates = append(candidates, path)
	}
	for i := len(candidates) - 1; i >= 0; i-- {
		path, err := filepath.EvalSymlinks(candidates[i])
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "postgres")); err == nil {
			return filepath.Dir(path), nil
		}
	}
	return "", errors.New("the tests need PostgreSQL: initdb and postgres are neither in PATH nor in /usr/lib/postgresql; " +
		"install it (Debian, Ubuntu: apt install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql), " +
		"or set " + Variable + " to the URL of a superuser of a cluster for tests")
}

// serverAccount is who runs the server: nil for ourselves, and the user postgres
// when we are root, whom PostgreSQL refuses.
func serverAccount() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other user for it: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// clusterDir makes a directory for the server. Its path is short, as that of a
// Unix socket has about 100 bytes. Data that need not last are kept in memory
// where there is room: creating a database means writing some hundred files.
func clusterDir(account *syscall.Credential, durable bool) (string, error) {
	parent := "/tmp"
	if !durable && available("/dev/shm") >= 1<<30 && (account == nil || anybodys("/dev/shm")) {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "beep-pg-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if account != nil {
		if err := os.Chown(dir, int(account.Uid), int(account.Gid)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// anybodys tells whether everybody may make files in a directory, and remove them.
func anybodys(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&0o002 != 0
}

// available is the number of bytes that may be written below dir; 0 when that
// cannot be told.
func available(dir string) int64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
}

func initialise(bin, dir string, account *syscall.Credential, durable bool) error {
	data := filepath.Join(dir, "data")
	cmd := exec.Command(filepath.Join(bin, "initdb"), "--no-sync", "--auth=trust", "--username=postgres",
		"--encoding=UTF8", "--locale=C", "--pgdata="+data)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(out))
	}
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	text := settings
	if !durable {
		text += unsafe
	}
	_, err = conf.WriteString(text)
	return errors.Join(err, conf.Close())
}

func start(bin, dir string, account *syscall.Credential) (*Cluster, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	guard := exec.Command("/bin/sh", "-c", guardScript, "guard", bin, dir, port)
	guard.Dir = dir
	// A group of its own: what ends the tests from the terminal must not end the
	// guard before it has cleaned up.
	guard.SysProcAttr = &syscall.SysProcAttr{Credential: account, Setpgid: true}
	lifeline, err := guard.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := guard.Start(); err != nil {
		return nil, err
	}
	tcp := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: "127.0.0.1:" + port,
		Path: "/postgres", RawQuery: "sslmode=disable"}
	socket := tcp
	socket.Host = ""
	socket.RawQuery = url.Values{"host": {dir}, "port": {port}, "sslmode": {"disable"}}.Encode()
	return &Cluster{URL: socket.String(), TCP: tcp.String(), guard: guard, lifeline: lifeline}, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func (c *Cluster) wait() error {
	db, err := sql.Open("postgres", c.URL)
	if err != nil {
		return err
	}
	defer db.Close()
	for range 600 {
		if err = db.Ping(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// Stop ends the server and removes its data.
func (c *Cluster) Stop() error {
	return errors.Join(c.lifeline.Close(), c.guard.Wait())
}
