package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"beep/account"
	"beep/config"
	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/web"
)

// inDirectory is a directory with the configuration of a server on that database.
func inDirectory(t *testing.T, database string) string {
	t.Helper()
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, config.FileName), "server_name: test.example\ndatabase: {url: '"+database+
		"'}\nunsafe: {unsafe_durability: true, cheap_password_hashing: true}\n")
	return dir
}

func TestUsersWhileTheServerRuns(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		dir := inDirectory(t, url)
		s := start(t, dir)
		userScenario(t, dir)
		if code := s.end(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.log.String())
		}
	})
}

func TestUsersWhileNoServerRuns(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) { userScenario(t, inDirectory(t, url)) })
}

func userScenario(t *testing.T, dir string) {
	t.Helper()
	made := mustExecute(t, dir, "user", "create", "Alice")
	if !regexp.MustCompile(`^@alice:test\.example has been made\.\nPassword: [A-Z2-7]{26}\n$`).MatchString(made) {
		t.Errorf("printed %q", made)
	}
	if made := mustExecute(t, dir, "user", "create", "@bob:test.example", "--admin", "--password", "correct horse"); strings.Contains(made, "Password") {
		t.Errorf("a password that was given was printed: %q", made)
	}
	mustFail(t, dir, 1, "homeserver: This user name is taken\n", "user", "create", "bob", "--password", "correct horse")
	mustFail(t, dir, 1, "homeserver: A password must have at least 8 characters\n", "user", "create", "carl", "--password", "x")
	mustFail(t, dir, 1, "A user name may have only", "user", "create", "a b")
	mustFail(t, dir, 1, "is not the name of a user of test.example", "user", "create", "@a:elsewhere.example")
	mustFail(t, dir, 1, "There is no such user", "user", "reset-password", "nobody")
	mustFail(t, dir, 1, "There is no such user", "user", "deactivate", "nobody")

	if reset := mustExecute(t, dir, "user", "reset-password", "alice", "--password", "battery staple"); reset != "@alice:test.example has a new password.\n" {
		t.Errorf("printed %q", reset)
	}
	mustExecute(t, dir, "user", "deactivate", "@alice:test.example", "--erase")
	today := time.Now().UTC().Format(time.DateOnly)
	want := "@alice:test.example  " + today + "  deactivated erased\n@bob:test.example    " + today + "  admin\n"
	if list := mustExecute(t, dir, "user", "list"); list != want {
		t.Errorf("got\n%sexpected\n%s", list, want)
	}
}

func TestPasswordFromAFile(t *testing.T) {
	dir := inDirectory(t, storagetest.SQLiteURL(t))
	writeText(t, filepath.Join(dir, "p.txt"), "correct horse\r\nthe second line\n")
	if made := mustExecute(t, dir, "user", "create", "alice", "--password-file", "p.txt"); strings.Contains(made, "Password") {
		t.Errorf("printed %q", made)
	}
	cmd := program(t, dir, "user", "create", "bob", "--password-file", "-")
	cmd.Stdin = strings.NewReader("correct horse\n")
	if r := finish(t, cmd); r.code != 0 {
		t.Errorf("from standard input: %+v", r)
	}
	mustFail(t, dir, 1, "cannot read the password", "user", "create", "carl", "--password-file", "missing.txt")
	for _, name := range []string{"alice", "bob"} {
		if !passwordWorks(t, dir, name, "correct horse") {
			t.Errorf("%s has another password", name)
		}
	}
}

// passwordWorks logs in on the database of the directory.
func passwordWorks(t *testing.T, dir, name, password string) bool {
	t.Helper()
	accounts := accountsIn(t, dir)
	_, err := accounts.CheckPassword(t.Context(), &account.Identifier{Type: "m.id.user", User: name}, "", password)
	return err == nil
}

func accountsIn(t *testing.T, dir string) *account.Accounts {
	t.Helper()
	cfg, err := config.Load(filepath.Join(dir, config.FileName), config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	db := storagetest.Open(t, cfg.Database.URL.Reveal())
	return newAccounts(cfg, db, nil, config.Secret{}, newKeys(cfg, db, nil, nil), nil)
}

func TestNoDatabaseIsMadeByLooking(t *testing.T) {
	dir := t.TempDir()
	mustFail(t, dir, 1, "there is no database", "user", "list")
	mustFail(t, dir, 1, "there is no database", "user", "deactivate", "alice")
}

// TestTokensDieAtOnce logs in, so that the server remembers the token, and then
// deactivates the user from outside.
func TestTokensDieAtOnce(t *testing.T) {
	dir := inDirectory(t, storagetest.SQLiteURL(t))
	accounts := accountsIn(t, dir)
	socket := filepath.Join(dir, "c.sock")
	serveControl(t, socket, accounts)
	userID, err := newRemoteUsers(socket).Create(t.Context(), "alice", "correct horse", false)
	if err != nil {
		t.Fatal(err)
	}
	session, err := accounts.OpenSession(t.Context(), userID, account.DeviceRequest{})
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set("Authorization", "Bearer "+session.AccessToken)
	if _, err := accounts.Authenticate(request); err != nil {
		t.Fatalf("before: %v", err)
	}
	if _, err := newRemoteUsers(socket).Deactivate(t.Context(), "alice", false); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Authenticate(request); !errors.Is(err, matrix.UnknownToken) {
		t.Errorf("after: %v", err)
	}
}

func serveControl(t *testing.T, socket string, accounts *account.Accounts) {
	t.Helper()
	server, err := web.Listen(t.Context(), web.ServerOptions{Listeners: []web.Listener{
		{Address: "unix:" + socket, SocketMode: 0o600, Handler: controlRoutes(localUsers{accounts}, nil)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestListHasAllPages(t *testing.T) {
	dir := inDirectory(t, storagetest.SQLiteURL(t))
	const n = 2*listPage + 3
	insertUsers(t, dir, n)
	want := n
	for _, running := range []bool{false, true} {
		if running {
			start(t, dir)
		}
		if got := strings.Count(mustExecute(t, dir, "user", "list"), "\n"); got != want {
			t.Errorf("server running %v: %d users are listed, expected %d", running, got, want)
		}
	}
}

func insertUsers(t *testing.T, dir string, n int) {
	t.Helper()
	cfg, err := config.Load(filepath.Join(dir, config.FileName), config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := openDatabase(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx *storage.Tx) error {
		for i := range n {
			user := storage.Credentials{User: storage.User{ID: fmt.Sprintf("@u%d:test.example", i)}}
			if err := tx.InsertUser(t.Context(), &user); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
