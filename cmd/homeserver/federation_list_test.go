package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inAuthority is a directory with the key list_1 of an authority, and what every server is
// to have in its configuration.
func inAuthority(t *testing.T) (dir, snippet string) {
	t.Helper()
	dir = t.TempDir()
	told := mustExecute(t, dir, "federation-list", "keygen", "--id", "list_1")
	_, snippet, _ = strings.Cut(told, "configuration:\n\n")
	return dir, snippet
}

func TestListKeygen(t *testing.T) {
	dir, _ := inAuthority(t)
	file := filepath.Join(dir, "federation-list.key")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	key := readText(t, file)
	mustFail(t, dir, 1, "federation-list.key is there already", "federation-list", "keygen")
	if readText(t, file) != key {
		t.Error("a key was overwritten")
	}
	mustFail(t, dir, 1, "the id of a key has 1 to 64", "federation-list", "keygen", "--id", "list-2", "--out", "other.key")
	mustFail(t, dir, 1, "the id of a key has 1 to 64", "federation-list", "keygen", "--id", strings.Repeat("a", 65), "--out", "other.key")
	mustExecute(t, dir, "federation-list", "keygen", "--out", "other.key")
	if other := readText(t, filepath.Join(dir, "other.key")); other == key || !signingKeyForm.MatchString(strings.TrimSpace(other)) {
		t.Errorf("another key is %q", other)
	}
}

// TestListFromEntryToShow is what docs/federation-closed.md tells people to do.
func TestListFromEntryToShow(t *testing.T) {
	dir, snippet := inAuthority(t)
	ministry := t.TempDir()
	mustExecute(t, ministry, "init", "--server-name", "moi.gov.pk")
	config := readText(t, filepath.Join(ministry, "homeserver.yaml"))
	old := "old_verify_keys: [{id: 'ed25519:old', key: jFWSyXVJfwfZy5tC6cUr/ICkmKiOvMpJLCVr8Ac6K7k, expired: 2026-01-31T12:00:00Z}]"
	writeText(t, filepath.Join(ministry, "homeserver.yaml"), strings.Replace(config, "old_verify_keys: []", old, 1))
	entry := mustExecute(t, ministry, "federation-list", "entry", "--comment", "Ministry of Interior")
	ownKey := regexp.MustCompile(`(ed25519:a_\w+): (\S+)`).FindStringSubmatch(entry)
	if ownKey == nil {
		t.Fatalf("the entry is %q", entry)
	}

	servers := "servers:\n" + regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimSuffix(entry, "\n"), "  ") + "\n  - name: nadra.gov.pk:8448\n"
	writeText(t, filepath.Join(dir, "servers.yaml"), servers)
	made := mustExecute(t, dir, "federation-list", "sign", "--key", "federation-list.key", "--in", "servers.yaml", "--out", "federation-list.jws",
		"--serial", "7", "--expires", "30d")
	if !regexp.MustCompile(`^federation-list.jws has been signed with list_1: serial 7, servers 2 \(1 with pinned keys\), holds until \S+\.\n$`).MatchString(made) {
		t.Errorf("printed %q", made)
	}

	writeText(t, filepath.Join(dir, "homeserver.yaml"), "server_name: test.example\n"+snippet)
	mustExecute(t, dir, "check-config")
	shown := mustExecute(t, dir, "federation-list", "show")
	got := regexp.MustCompile(`(Issued|Expires)( +)\S+`).ReplaceAllString(shown, "$1${2}TIME")
	want := strings.NewReplacer("OWN", ownKey[1], "KEY", ownKey[2]).Replace(`Signed by  list_1
Serial     7
Issued     TIME
Expires    TIME
Servers    2 (1 with pinned keys)

moi.gov.pk            Ministry of Interior
  OWN  KEY
  ed25519:old         jFWSyXVJfwfZy5tC6cUr/ICkmKiOvMpJLCVr8Ac6K7k
nadra.gov.pk:8448
`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	publicKey := regexp.MustCompile(`keys: \{list_1: (\S+)\}`).FindStringSubmatch(snippet)[1]
	if again := mustExecute(t, t.TempDir(), "federation-list", "show", filepath.Join(dir, "federation-list.jws"), "--public-key", "list_1="+publicKey); again != shown {
		t.Errorf("with --public-key it printed %q", again)
	}
}

// signList signs a list of one server.
func signList(t *testing.T, dir, serial string, more ...string) {
	t.Helper()
	writeText(t, filepath.Join(dir, "servers.yaml"), "servers:\n  - name: moi.gov.pk\n")
	mustExecute(t, dir, append([]string{"federation-list", "sign", "--key", "federation-list.key", "--in", "servers.yaml",
		"--out", "federation-list.jws", "--serial", serial, "--expires", "30d"}, more...)...)
}

func TestCheckConfigTellsOfTheFederation(t *testing.T) {
	dir, snippet := inAuthority(t)
	file := filepath.Join(dir, "homeserver.yaml")
	row := func(name, config, want string) {
		t.Helper()
		writeText(t, file, "server_name: test.example\n"+config)
		got := regexp.MustCompile(`\d{4}-\S+Z`).ReplaceAllString(mustExecute(t, dir, "check-config"), "TIME")
		found := regexp.MustCompile(`(?m)^  ` + name + ` +(.*)$`).FindStringSubmatch(got)
		if found == nil || !strings.HasPrefix(found[1], want) {
			t.Errorf("%s: expected %q in\n%s", name, want, got)
		}
	}
	row("Federation", "", "open: with every server")
	row("Federation", "federation: {enabled: false}", "off: with no other server")
	row("Federation", "federation: {closed: true, allow: [a.example, '*.b.example']}", "closed: with the servers of federation.allow (2)")
	row("Federation", snippet, "closed: with the servers of the list")
	row("Federation", snippet+"  allow: [a.example]\n", "closed: with the servers of the list and of federation.allow (1)")
	row("Its list", snippet, "FAULT: open /")
	signList(t, dir, "7")
	row("Its list", snippet, "serial 7, servers 1 (0 with pinned keys), expires TIME")
	writeText(t, filepath.Join(dir, "federation-list.jws"), "nonsense")
	row("Its list", snippet, "FAULT: ")
}

// SIGHUP has the list read again, and says what became of it; a server without one goes on.
func TestListIsReadAtSIGHUP(t *testing.T) {
	dir, snippet := inAuthority(t)
	writeText(t, filepath.Join(dir, "homeserver.yaml"), "server_name: test.example\n"+snippet)
	signList(t, dir, "1")
	s := start(t, dir)
	hangUp := func(want string) {
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); !strings.Contains(s.log.String(), want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %q in the log:\n%s", want, s.log.String())
			}
		}
	}
	signList(t, dir, "2")
	hangUp("SIGHUP: the federation list was read again")
	if !strings.Contains(s.log.String(), "serial=2") {
		t.Errorf("the second list is not in force:\n%s", s.log.String())
	}
	writeText(t, filepath.Join(dir, "federation-list.jws"), "nonsense")
	hangUp("SIGHUP: the file of the federation list cannot be used")
	if code := s.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.log.String())
	}
	s = start(t, t.TempDir())
	hangUp("SIGHUP: there is nothing to read again")
	if code := s.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.log.String())
	}
}

func TestListSignRefuses(t *testing.T) {
	dir, _ := inAuthority(t)
	sign := func(servers string, more ...string) []string {
		writeText(t, filepath.Join(dir, "in.json"), servers)
		return append([]string{"federation-list", "sign", "--key", "federation-list.key", "--in", "in.json", "--out", "out.jws"}, more...)
	}
	const good = `{"servers": [{"name": "a.pk", "keys": {"ed25519:a": "jFWSyXVJfwfZy5tC6cUr/ICkmKiOvMpJLCVr8Ac6K7k"}}]}`
	mustExecute(t, dir, sign(good, "--serial=3", "--expires=1h")...)
	for servers, message := range map[string]string{
		`{"servers": [{"name": "*.pk"}]}`:                   "nothing was signed: servers[0]",
		`{"servers": [{"name": "a.pk", "key": {}}]}`:        "field key not found",
		`{"servers": [{"name": "a.pk"}, {"name": "A.pk"}]}`: "is there twice",
		`{"servers": [{"name": "a.pk", "name": "b.pk"}]}`:   "already defined",
		`{}`:                              "servers is missing",
		``:                                "servers is missing",
		`[]`:                              "in.json",
		"servers: []\n---\nservers: []\n": "more than one document",
	} {
		mustFail(t, dir, 1, message, sign(servers, "--serial=4", "--expires=1h")...)
	}
	mustFail(t, dir, 1, "out.jws has the serial 3; the next list needs a higher one", sign(good, "--serial=3", "--expires=1h")...)
	mustFail(t, dir, exitUsage, "expected a duration", sign(good, "--serial=4", "--expires=soon")...)
	mustFail(t, dir, exitUsage, "--serial", sign(good, "--expires=1h")...)
	mustFail(t, dir, 1, "nothing was signed", sign(good, "--serial=4", "--expires=0s")...)
	mustFail(t, dir, 1, "cannot read the key", "federation-list", "sign", "--key=none", "--in=in.json", "--out=out.jws", "--serial=4", "--expires=1h")
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("a key that was not there was made")
	}
	mustFail(t, dir, 1, "has not the form", "federation-list", "sign", "--key=in.json", "--in=in.json", "--out=out.jws", "--serial=4", "--expires=1h")
}

func TestListShowRefuses(t *testing.T) {
	dir, snippet := inAuthority(t)
	writeText(t, filepath.Join(dir, "homeserver.yaml"), "server_name: test.example\n"+snippet)
	writeText(t, filepath.Join(dir, "in.yaml"), "servers: [{name: a.pk}]\n")
	sign := func(expires string) {
		mustExecute(t, dir, "federation-list", "sign", "--key=federation-list.key", "--in=in.yaml", "--out=federation-list.jws", "--serial=3", "--expires", expires)
	}
	mustFail(t, dir, 1, "no such file", "federation-list", "show")
	sign("1ms")
	if r := execute(t, dir, "federation-list", "show"); r.code != 1 || !strings.Contains(r.out, "a.pk") || !strings.Contains(r.err, "the list has expired") {
		t.Errorf("%+v", r)
	}
	os.Remove(filepath.Join(dir, "federation-list.jws"))
	sign("1h")
	text := readText(t, filepath.Join(dir, "federation-list.jws"))
	writeText(t, filepath.Join(dir, "forged.jws"), strings.Replace(text, ".", ".A", 1))
	if r := execute(t, dir, "federation-list", "show", "forged.jws"); r.code != 1 || r.out != "" || !strings.Contains(r.err, "not rightly signed with the key list_1") {
		t.Errorf("%+v", r)
	}
	mustFail(t, dir, 1, "is not one of the authority's", "federation-list", "show", "federation-list.jws",
		"--public-key", "list_2=jFWSyXVJfwfZy5tC6cUr/ICkmKiOvMpJLCVr8Ac6K7k")
	mustFail(t, dir, 1, "the public key list_1", "federation-list", "show", "federation-list.jws", "--public-key", "list_1=x")
	mustFail(t, t.TempDir(), 1, "the configuration has no federation.list", "federation-list", "show")
}

func TestListEntryRefuses(t *testing.T) {
	dir := t.TempDir()
	mustFail(t, dir, 1, "give --server-name", "federation-list", "entry")
	mustFail(t, dir, 1, "cannot read the key", "federation-list", "entry", "--server-name", "a.pk")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files were left: %v %v", entries, err)
	}
}
