package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// secretMaxBytes bounds what is read from a secret's file.
const secretMaxBytes = 64 << 10

// hidden is what stands in place of a secret wherever one would be printed.
const hidden = "(secret)"

// Secret is a value that is never printed. In the file it is the text itself,
// {file: /path} or {env: NAME}. The zero value is "not set".
type Secret struct {
	text *string // a pointer, so that fmt never reaches the text, whatever holds the secret
}

// NewSecret is a secret with that text.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal is the secret itself; empty when it is not set. It must not be logged.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet tells whether the secret was given, be it empty.
func (s Secret) IsSet() bool { return s.text != nil }

// Equal compares the texts; it is for tests and does not hide its timing.
func (s Secret) Equal(other Secret) bool {
	return s.IsSet() == other.IsSet() && s.Reveal() == other.Reveal()
}

// String never tells the secret.
func (s Secret) String() string {
	if !s.IsSet() {
		return ""
	}
	return hidden
}

// GoString never tells the secret.
func (s Secret) GoString() string { return s.String() }

// MarshalText never tells the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue never tells the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// secretFrom reads the three forms of a secret. A relative path is one in dir.
func secretFrom(node *yaml.Node, dir string) (Secret, error) {
	text, err := secretText(node, dir)
	if err != nil {
		return Secret{}, err
	}
	return NewSecret(text), nil
}

func secretText(node *yaml.Node, dir string) (string, error) {
	if node.Kind == yaml.ScalarNode {
		if node.Tag == "!!null" {
			return "", nil
		}
		return node.Value, nil
	}
	if node.Kind != yaml.MappingNode || len(node.Content) != 2 || node.Content[1].Value == "" {
		return "", errSecretForm
	}
	switch source, name := node.Content[0].Value, node.Content[1].Value; source {
	case "file":
		return readSecret(absolute(dir, name))
	case "env":
		text, found := os.LookupEnv(name)
		if !found {
			return "", fmt.Errorf("the environment has no variable %s", name)
		}
		return text, nil
	}
	return "", errSecretForm
}

var errSecretForm = errors.New("expected the text itself, {file: /path} or {env: NAME}")

// readSecret reads a file that holds nothing else, without the line's end.
func readSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, secretMaxBytes+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	if len(text) > secretMaxBytes {
		return "", fmt.Errorf("the secret in %s is larger than %d bytes", path, secretMaxBytes)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// machineSecretMin is the fewest characters of a secret that only programs use.
const machineSecretMin = 16

// wellKnownSecrets are what people leave in place of a secret, in lower case
// and without punctuation.
var wellKnownSecrets = []string{
	"changeme", "changemeplease", "pleasechangeme", "changethis", "replaceme", "secret", "mysecret", "supersecret", "topsecret",
	"sharedsecret", "registrationsharedsecret", "password", "passw0rd", "test", "testing", "example", "default", "admin", "root",
	"homeserver", "matrix", "postgres", "todo", "none", "null", "xxx", "1234", "12345", "123456", "12345678", "123456789", "qwerty",
	"0123456789abcdef", "yoursecret", "yoursecrethere", "insertsecrethere", "asecret", "averysecretsecret", "thisisasecret",
}

// weakness says why the text is no secret; empty when it may be one.
func weakness(text string) string {
	bare := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(text))
	switch {
	case text == "":
		return "it is empty"
	case slices.Contains(wellKnownSecrets, bare), bare != "" && strings.Trim(bare, "x") == "":
		return "everybody knows it"
	}
	return ""
}
