package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInitWritesAWorkingConfiguration(t *testing.T) {
	dir := t.TempDir()
	mustExecute(t, dir, "init", "--server-name", "example.org", "--listen", "127.0.0.1:8123", "--database", "sqlite:other.db")
	for _, name := range []string{"homeserver.yaml", "data/signing.key", "data/secrets/registration_shared_secret"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	got := mustExecute(t, dir, "check-config")
	want := strings.ReplaceAll(`ok
  Configuration   DIR/homeserver.yaml
  Server name     example.org
  Public address  https://example.org
  Data            DIR/data
  Database        sqlite:DIR/other.db
  Signing key     DIR/data/signing.key
  Listens on      http://127.0.0.1:8123
  Metrics         not served
  Registration    closed
  Federation      open: with every server
`, "DIR", dir)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInitKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	mustExecute(t, dir, "init", "--server-name", "a.example")
	key := readText(t, filepath.Join(dir, "data", "signing.key"))
	mustFail(t, dir, 1, "is there already; --force overwrites it", "init", "--server-name", "b.example")
	if text := readText(t, filepath.Join(dir, "homeserver.yaml")); !strings.Contains(text, "server_name: a.example\n") {
		t.Error("a configuration was overwritten without --force")
	}
	mustExecute(t, dir, "init", "--server-name", "b.example", "--force")
	if text := readText(t, filepath.Join(dir, "homeserver.yaml")); !strings.Contains(text, "server_name: b.example\n") {
		t.Error("--force did not overwrite the configuration")
	}
	if again := readText(t, filepath.Join(dir, "data", "signing.key")); again != key {
		t.Error("the signing key was overwritten")
	}
}

func TestInitRefusesFaults(t *testing.T) {
	dir := t.TempDir()
	mustFail(t, dir, 1, `server_name: "a b" is not a server name`, "init", "--server-name", "a b")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files were left: %v %v", entries, err)
	}
}

func TestCheckConfigNamesEveryFault(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "hs.yaml"), "server_nam: a\nlogging: {level: loud}\nregistration: {shared_secret: changeme}\n")
	got := execute(t, dir, "check-config", "--config", "hs.yaml")
	want := strings.ReplaceAll(`homeserver: the configuration has 3 faults:
FILE:1: server_nam: there is no key "server_nam" here; is it server_name?
FILE:2: logging.level: expected debug, info, warn, error, not "loud"
FILE:3: registration.shared_secret: this is no secret: everybody knows it; remove the key and the server makes one
`, "FILE", filepath.Join(dir, "hs.yaml"))
	if diff := cmp.Diff(result{"", want, 1}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Error(diff)
	}
	mustFail(t, dir, 1, "has 3 faults", "serve", "--config", "hs.yaml")
	mustFail(t, dir, 1, "cannot read the configuration", "check-config", "--config", "missing.yaml")
}

func TestCheckConfigHidesSecretsAndNamesDangers(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "homeserver.yaml"), `
database: {url: "postgres://u:hunter2hunter2@localhost/d"}
registration: {open: true, guests: true, shared_secret: hunter2hunter2hunter2}
unsafe: {no_rate_limits: true, cheap_password_hashing: true}
`)
	got := mustExecute(t, dir, "check-config")
	if strings.Contains(got, "hunter2") {
		t.Errorf("a secret was printed:\n%s", got)
	}
	for _, part := range []string{"OPEN TO EVERYBODY, guests may look", "unsafe.no_rate_limits is on", "unsafe.cheap_password_hashing is on"} {
		if !strings.Contains(got, part) {
			t.Errorf("lacks %q:\n%s", part, got)
		}
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
