package main

import (
	"crypto/ed25519"
	"encoding/base64"
	mathrand "math/rand"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"beep/config"
	"beep/matrix"
)

func TestServeNeedsNothing(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	for _, part := range []string{"The server localhost is running", "http://127.0.0.1:", filepath.Join(dir, "data"), "user create NAME"} {
		if !strings.Contains(s.greeting, part) {
			t.Errorf("the greeting lacks %q:\n%s", part, s.greeting)
		}
	}
	res, err := http.Get(regexp.MustCompile(`http://\S+`).FindString(s.greeting) + "/_matrix/client/unknown")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", res.StatusCode)
	}
	key := readText(t, filepath.Join(dir, "data", "signing.key"))
	if code := s.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.log.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "control.sock")); err == nil {
		t.Error("the control socket was left")
	}
	again := start(t, dir)
	if readText(t, filepath.Join(dir, "data", "signing.key")) != key {
		t.Error("the second start made another signing key")
	}
	again.end(syscall.SIGINT)
	everythingIsPrivate(t, filepath.Join(dir, "data"))
}

func everythingIsPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may use %s: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSecondServerIsRefused: two processes that work on one database would each go on
// trusting what the other knows to be over (F55h).
func TestSecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	mustFail(t, dir, 1, "is in use by process", "serve", "--listen", "127.0.0.1:0")
	first.end(syscall.SIGKILL)
	if code := start(t, dir).end(syscall.SIGTERM); code != 0 {
		t.Errorf("after a server that was killed: exit code %d", code)
	}
}

func TestServerNameStays(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, "--server-name", "a.example").end(syscall.SIGTERM)
	mustFail(t, dir, 1, `belongs to the server name "a.example" and cannot be used for "b.example"`, "serve", "--listen", "127.0.0.1:0", "--server-name", "b.example")
	s := start(t, dir)
	if !strings.Contains(s.greeting, "The server a.example is running") {
		t.Errorf("the name was forgotten:\n%s", s.greeting)
	}
	mustFail(t, dir, 1, "the server that runs here is a.example, not b.example", "user", "list", "--server-name", "b.example")
}

func TestUnsafeSwitchesAreNamed(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "homeserver.yaml"), "unsafe: {no_rate_limits: true}\nlogging: {format: json}\n")
	s := start(t, dir)
	s.end(syscall.SIGTERM)
	if log := s.log.String(); !strings.Contains(log, `"level":"WARN"`) || !strings.Contains(log, `"unsafe.no_rate_limits"`) {
		t.Errorf("no warning:\n%s", log)
	}
}

func TestFilesThatOthersMayReadAreNamed(t *testing.T) {
	dir := t.TempDir()
	start(t, dir).end(syscall.SIGTERM)
	key := filepath.Join(dir, "data", "signing.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	s.end(syscall.SIGTERM)
	if !strings.Contains(s.log.String(), "every user of this machine may read this file") {
		t.Errorf("no warning:\n%s", s.log.String())
	}
}

func TestDamagedKeysAreRefused(t *testing.T) {
	for _, text := range []string{"", "ed25519 a_1 short", "rsa a_1 " + strings.Repeat("A", 43), "ed25519 a-1 " + strings.Repeat("A", 43)} {
		path := filepath.Join(t.TempDir(), "signing.key")
		writeText(t, path, text)
		if _, err := readSigningKey(path); err == nil || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%q: %v", text, err)
		}
		if readText(t, path) != text {
			t.Errorf("%q was overwritten", text)
		}
	}
}

// TestKnownKeysAreRefused: what everybody can sign with is no key of this server, nor was it
// one (F46).
func TestKnownKeysAreRefused(t *testing.T) {
	seed := make([]byte, ed25519.SeedSize)
	mathrand.New(mathrand.NewSource(0)).Read(seed) // a generator that nobody has seeded
	for id, seed := range map[string]string{"unseeded": base64.RawStdEncoding.EncodeToString(seed), "vector": "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"} {
		path := filepath.Join(t.TempDir(), "signing.key")
		writeText(t, path, "ed25519 "+id+" "+seed+"\n")
		if _, err := readSigningKey(path); err == nil || !strings.Contains(err.Error(), "publicly known") || strings.Contains(err.Error(), seed) {
			t.Errorf("%s: %v", id, err)
		}
		raw, err := matrix.DecodeBase64(seed)
		if err != nil {
			t.Fatal(err)
		}
		public := ed25519.NewKeyFromSeed(raw).Public().(ed25519.PublicKey)
		old := &config.Federation{OldVerifyKeys: []config.OldVerifyKey{{ID: "ed25519:" + id, Key: base64.RawStdEncoding.EncodeToString(public)}}}
		if _, err := ownKeys(old, &matrix.Signer{Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}); err == nil || !strings.Contains(err.Error(), "publicly known") {
			t.Errorf("%s as an old key: %v", id, err)
		}
	}
}

// TestSigningKeysDiffer: each server makes a key of its own (F46).
func TestSigningKeysDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		seed := signingKeyForm.FindStringSubmatch(strings.TrimSpace(newSigningKey()))[2]
		if seen[seed] {
			t.Fatal("two keys are the same")
		}
		seen[seed] = true
	}
}

func TestSigningKeyIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "signing.key")
	made, err := readSigningKey(path)
	if err != nil {
		t.Fatal(err)
	}
	read, err := readSigningKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if made.KeyID != read.KeyID || !made.Key.Equal(read.Key) || !strings.HasPrefix(made.KeyID, "ed25519:a_") {
		t.Errorf("made %s, read %s", made.KeyID, read.KeyID)
	}
}

func TestServeWithALongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	mustExecute(t, dir, "user", "create", "alice")
	if code := s.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.log.String())
	}
}
