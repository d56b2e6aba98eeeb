package allow

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"

	"beep/matrix"
)

const (
	// MaxFile bounds the file of a list, in bytes.
	MaxFile = 8 << 20
	// maxHeader bounds its protected header, in characters of base64.
	maxHeader = 512
	// maxServers bounds the servers of a list.
	maxServers = 20_000
	// maxPinned bounds the keys of one of them, with those of former times.
	maxPinned = 32
	// maxComment bounds a comment, in bytes.
	maxComment = 1000
	// maxInteger is the largest number that all programs read the same way.
	maxInteger = 1<<53 - 1

	// version is the version of the form of a [Document].
	version = 1
	// mediaType keeps whatever else is signed with the same key from being taken for a
	// list (RFC 8725, section 3.11).
	mediaType = "federation-list+jws"
	// algorithm is the one that lists are signed with (RFC 8037).
	algorithm = "EdDSA"
	// algorithmToo is its newer name (RFC 9864).
	algorithmToo = "Ed25519"
)

// Document is a list of servers as an authority publishes it: the payload, in JSON, of a
// JWS (RFC 7515) in compact serialisation, signed with ed25519.
type Document struct {
	// Version is that of the form: 1.
	Version int64 `json:"version"`
	// Serial is larger in each new list.
	Serial int64 `json:"serial"`
	// Issued and Expires are when the list was made and when it ceases to admit, in ms.
	Issued  int64 `json:"issued"`
	Expires int64 `json:"expires"`
	// Servers are those that take part.
	Servers []Server `json:"servers"`

	// KeyID names the authority's key, as the header of the JWS does.
	KeyID string `json:"-"`
}

// Server is one server of a list.
type Server struct {
	// Name is its server name; there are no patterns here.
	Name string `json:"name" yaml:"name"`
	// Keys, if there are any, are the only ones that it may sign with, in base64 by id, as
	// ed25519:a_1. Keys of former times are among them for as long as what they signed
	// is to count.
	Keys map[string]string `json:"keys,omitempty" yaml:"keys,omitempty"`
	// Comment is for people: one line of text.
	Comment string `json:"comment,omitempty" yaml:"comment,omitempty"`
}

// header is the protected header. It has these members and no others.
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// strict64 refuses a text that has another one of the same meaning.
var strict64 = base64.RawURLEncoding.Strict()

// Read checks a file's text and gives what it says. The keys are those that may have signed
// it, by id. Whether it has expired, or is older than another, is not looked at.
func Read(text []byte, keys map[string]ed25519.PublicKey) (*Document, error) {
	d, _, err := read(text, keys)
	return d, err
}

// read is [Read]; payload is the document as it was signed.
func read(text []byte, keys map[string]ed25519.PublicKey) (d *Document, payload []byte, err error) {
	keyID, payload, err := verify(text, keys)
	if err != nil {
		return nil, nil, err
	}
	d = &Document{KeyID: keyID}
	if err := json.Unmarshal(payload, d, json.RejectUnknownMembers(true)); err != nil {
		return nil, nil, fmt.Errorf("the list is signed and cannot be read: %w", err)
	}
	if err := d.check(); err != nil {
		return nil, nil, fmt.Errorf("the list is signed and wrong: %w", err)
	}
	return d, payload, nil
}

// verify gives the payload of a JWS, and the id of the key that signed it. Nothing in the
// payload is looked at before the signature is known to be right.
func verify(text []byte, keys map[string]ed25519.PublicKey) (keyID string, payload []byte, err error) {
	if len(text) > MaxFile {
		return "", nil, fmt.Errorf("the list has more than %d bytes", MaxFile)
	}
	text = bytes.TrimSpace(text)
	parts := bytes.SplitN(text, []byte("."), 4)
	if len(parts) != 3 || bytes.ContainsAny(text, "\r\n") {
		return "", nil, errors.New("this is not a signed list: expected header.payload.signature")
	}
	key, keyID, err := readHeader(parts[0], keys)
	if err != nil {
		return "", nil, err
	}
	signature, err := decode64(parts[2])
	if err != nil || !ed25519.Verify(key, text[:len(text)-1-len(parts[2])], signature) {
		return "", nil, fmt.Errorf("the list is not rightly signed with the key %s", keyID)
	}
	if payload, err = decode64(parts[1]); err != nil {
		return "", nil, fmt.Errorf("the list's payload: %w", err)
	}
	return keyID, payload, nil
}

// readHeader gives the key that the header names. All else that a header may have, as a key
// of its own (jwk, jku, x5c) or rules to be understood (crit), is refused.
func readHeader(encoded []byte, keys map[string]ed25519.PublicKey) (ed25519.PublicKey, string, error) {
	if len(encoded) > maxHeader {
		return nil, "", fmt.Errorf("the header of the list has more than %d characters", maxHeader)
	}
	text, err := decode64(encoded)
	if err != nil {
		return nil, "", fmt.Errorf("the header of the list: %w", err)
	}
	var h header
	if err := json.Unmarshal(text, &h, json.RejectUnknownMembers(true)); err != nil {
		return nil, "", fmt.Errorf("the header of the list: %w", err)
	}
	if h.Algorithm != algorithm && h.Algorithm != algorithmToo {
		return nil, "", fmt.Errorf("the list is signed by the algorithm %q, not by %s", h.Algorithm, algorithm)
	}
	if h.Type != mediaType {
		return nil, "", fmt.Errorf("what is signed is of the type %q, not %s", h.Type, mediaType)
	}
	key, known := keys[h.KeyID]
	if !known {
		return nil, "", fmt.Errorf("the key %q of the list is not one of the authority's", h.KeyID)
	}
	return key, h.KeyID, nil
}

func decode64(encoded []byte) ([]byte, error) {
	return strict64.AppendDecode(nil, encoded)
}

// Sign gives the file that servers read, as the authority's key with the id d.KeyID signs
// it. A document that [Read] would refuse is not signed.
func (d *Document) Sign(key ed25519.PrivateKey) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	protected, err := json.Marshal(header{algorithm, d.KeyID, mediaType})
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(d, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	text := strict64.AppendEncode(nil, protected)
	text = strict64.AppendEncode(append(text, '.'), payload)
	text = strict64.AppendEncode(append(text, '.'), ed25519.Sign(key, text))
	if text = append(text, '\n'); len(text) > MaxFile {
		return nil, fmt.Errorf("the list would have more than %d bytes", MaxFile)
	}
	return text, nil
}

func (d *Document) check() error {
	switch {
	case d.Version != version:
		return fmt.Errorf("version %d is not known here, only %d", d.Version, version)
	case d.Serial < 1 || d.Serial > maxInteger:
		return fmt.Errorf("%d is not a serial", d.Serial)
	case d.Issued < 1 || d.Expires <= d.Issued || d.Expires > maxInteger:
		return fmt.Errorf("issued %d, expires %d: expected two times in milliseconds, one after the other", d.Issued, d.Expires)
	case d.Servers == nil:
		return errors.New("servers is missing")
	case len(d.Servers) > maxServers:
		return fmt.Errorf("more than %d servers", maxServers)
	}
	_, err := d.index()
	return err
}

// index gives the pinned keys of each server by its name in lower case: nil for one that
// may have any.
func (d *Document) index() (map[string]map[string]ed25519.PublicKey, error) {
	servers := make(map[string]map[string]ed25519.PublicKey, len(d.Servers))
	for i := range d.Servers {
		s := &d.Servers[i]
		if !matrix.ValidServerName(s.Name) {
			return nil, fmt.Errorf("servers[%d]: %q is not a server name", i, s.Name)
		}
		name := strings.ToLower(s.Name)
		if _, found := servers[name]; found {
			return nil, fmt.Errorf("servers[%d]: %s is there twice", i, s.Name)
		}
		if len(s.Comment) > maxComment || strings.ContainsFunc(s.Comment, unicode.IsControl) {
			return nil, fmt.Errorf("servers[%d]: the comment has more than %d bytes, or control characters", i, maxComment)
		}
		keys, err := s.pinned()
		if err != nil {
			return nil, fmt.Errorf("servers[%d]: %s: %w", i, s.Name, err)
		}
		servers[name] = keys
	}
	return servers, nil
}

var keyIDForm = regexp.MustCompile(`^ed25519:[a-zA-Z0-9_]{1,128}$`)

func (s *Server) pinned() (map[string]ed25519.PublicKey, error) {
	if s.Keys == nil {
		return nil, nil
	}
	if len(s.Keys) == 0 || len(s.Keys) > maxPinned {
		return nil, fmt.Errorf("%d keys: expected 1 to %d, or no keys at all for a server that may have any", len(s.Keys), maxPinned)
	}
	keys := make(map[string]ed25519.PublicKey, len(s.Keys))
	for id, text := range s.Keys {
		if !keyIDForm.MatchString(id) {
			return nil, fmt.Errorf("%q is not the id of a key, as ed25519:a_1", id)
		}
		key, err := matrix.DecodeVerifyKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		keys[id] = key
	}
	return keys, nil
}
