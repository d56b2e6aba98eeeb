package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"beep/config"
	"beep/federation/remote"
	"beep/matrix"
)

// writeFile writes a file that only its owner may read, whole and durable or not at
// all. It takes the place of one that is there.
func writeFile(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // of use only when it was not renamed
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readOrMake gives the text of a file, which is made with text when it is not there.
func readOrMake(path string, text func() string) (string, error) {
	found, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return string(found), err
	}
	made := text()
	return made, writeFile(path, made)
}

var signingKeyForm = regexp.MustCompile(`^ed25519 ([a-zA-Z0-9_]+) ([A-Za-z0-9+/]{43})$`)

// readSigningKey reads the signing key, or makes one. The signer has no server
// name yet.
func readSigningKey(path string) (*matrix.Signer, error) {
	text, err := readOrMake(path, newSigningKey)
	if err != nil {
		return nil, fmt.Errorf("cannot read the signing key: %w", err)
	}
	match := signingKeyForm.FindStringSubmatch(strings.TrimSpace(text))
	if match == nil {
		return nil, fmt.Errorf("the signing key in %s has not the form: ed25519 ID SEED-IN-BASE64", path)
	}
	seed, err := base64.RawStdEncoding.DecodeString(match[2])
	if err != nil {
		return nil, fmt.Errorf("the signing key in %s is damaged", path)
	}
	key := ed25519.NewKeyFromSeed(seed)
	if remote.Compromised(key.Public().(ed25519.PublicKey)) {
		return nil, fmt.Errorf("the signing key in %s is publicly known: anybody can sign with it, and other servers refuse it; "+
			"remove the file and the server makes another", path)
	}
	return &matrix.Signer{KeyID: "ed25519:" + match[1], Key: key}, nil
}

func newSigningKey() string {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails: it ends the program instead
	return fmt.Sprintf("ed25519 a_%s %s\n", rand.Text()[:8], base64.RawStdEncoding.EncodeToString(seed))
}

// readSecret gives the configured secret, or the one that the data directory keeps
// under that name, which is made when it is not there.
func readSecret(cfg *config.Config, configured config.Secret, name string) (config.Secret, error) {
	if configured.IsSet() {
		return configured, nil
	}
	path := filepath.Join(cfg.Data, "secrets", name)
	text, err := readOrMake(path, func() string { return rand.Text() + rand.Text() + "\n" })
	if err != nil {
		return config.Secret{}, fmt.Errorf("cannot read the secret: %w", err)
	}
	secret := config.NewSecret(strings.TrimSpace(text))
	if len(secret.Reveal()) < 16 {
		return config.Secret{}, fmt.Errorf("the secret in %s is too short; remove the file and the server makes another", path)
	}
	return secret, nil
}

// openToOthers tells whether everybody on the machine may read the file.
func openToOthers(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o007 != 0
}
