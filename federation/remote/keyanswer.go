package remote

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

const (
	// maxKeys bounds an answer of one server's keys, in bytes.
	maxKeys = 64 << 10
	// maxKeyID bounds the id of a key, in bytes.
	maxKeyID = 255
	// maxKeyValidity is how far valid_until_ts counts (room versions, "Signing key
	// validity period").
	maxKeyValidity = 7 * 24 * time.Hour

	ed25519Prefix = "ed25519:"
)

// serverKeys is what a server publishes, checked.
type serverKeys struct {
	server string
	keys   map[string]matrix.ServerKey // by id
	// response is the answer without the signatures of others.
	response []byte
	// others are the signatures of others, as a notary's.
	others map[string]map[string]string
	// message is what all signatures cover.
	message []byte
	banned  map[string]bool
}

// readServerKeys reads an answer of /_matrix/key/v2/server. It has to be signed with one
// of the keys that it has in verify_keys. That proves who holds the keys, not whose they
// are: it is for the caller to know that the answer is the server's own.
func readServerKeys(answer []byte, banned map[string]bool, now time.Time) (*serverKeys, error) {
	signed, err := matrix.ParseSigned(answer, true)
	if err != nil {
		return nil, err
	}
	var body struct {
		Server     string                    `json:"server_name"`
		VerifyKeys map[string]jsontext.Value `json:"verify_keys"`
		OldKeys    map[string]jsontext.Value `json:"old_verify_keys"`
		ValidUntil int64                     `json:"valid_until_ts"`
	}
	if err := json.Unmarshal(signed.Message, &body); err != nil {
		return nil, err
	}
	own := signed.Signatures[body.Server]
	delete(signed.Signatures, body.Server)
	s := &serverKeys{server: body.Server, keys: map[string]matrix.ServerKey{}, others: signed.Signatures, message: signed.Message, banned: banned}
	s.response, err = (&matrix.Signed{Message: signed.Message, Signatures: map[string]map[string]string{body.Server: own}}).JSON()
	if err != nil {
		return nil, err
	}
	latest := now.Add(maxKeyValidity).UnixMilli()
	s.read(body.OldKeys, func(k *matrix.ServerKey, expired int64) { k.Expired = max(1, expired) }, now)
	s.read(body.VerifyKeys, func(k *matrix.ServerKey, _ int64) { k.ValidUntil = min(body.ValidUntil, latest) }, now)
	return s, s.checkOwn(own)
}

// read takes the ed25519 keys of a list; a key that cannot be read is left out.
func (s *serverKeys) read(list map[string]jsontext.Value, date func(*matrix.ServerKey, int64), now time.Time) {
	for id, value := range list {
		var entry struct {
			Key     string `json:"key"`
			Expired int64  `json:"expired_ts"`
		}
		if !validKeyID(id) || json.Unmarshal(value, &entry) != nil {
			continue
		}
		key, err := matrix.DecodeVerifyKey(entry.Key)
		if err != nil || s.banned[string(key)] {
			continue
		}
		k := matrix.ServerKey{Server: s.server, ID: id, Key: key, Fetched: now.UnixMilli(), Response: s.response}
		date(&k, entry.Expired)
		s.keys[id] = k
	}
}

// validKeyID tells whether an id may be that of an ed25519 key. The specification allows
// letters, digits and underscores after the colon; servers use hyphens and others too.
func validKeyID(id string) bool {
	version, ok := strings.CutPrefix(id, ed25519Prefix)
	return ok && version != "" && len(id) <= maxKeyID &&
		!strings.ContainsFunc(version, func(r rune) bool { return r <= ' ' || r > '~' })
}

// checkOwn checks the server's own signatures: those with its keys all have to be right,
// and there has to be one with a key in use.
func (s *serverKeys) checkOwn(signatures map[string]string) error {
	inUse := false
	for id, signature := range signatures {
		key, known := s.keys[id]
		if !known {
			continue
		}
		if !matrix.VerifySignature(key.Key, s.message, signature) {
			return fmt.Errorf("the keys of %s are not rightly signed with %s", s.server, id)
		}
		inUse = inUse || key.Expired == 0
	}
	if !inUse {
		return errors.New("the keys are not signed by their server")
	}
	return nil
}

// signedBy tells whether one of the keys signed the answer in the name of that server.
func (s *serverKeys) signedBy(server string, keys map[string]ed25519.PublicKey) bool {
	for id, signature := range s.others[server] {
		if key, ok := keys[id]; ok && matrix.VerifySignature(key, s.message, signature) {
			return true
		}
	}
	return false
}
