package matrix

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ServerKey is a key that another server signs with, or once signed with
// (server-server API, section "Publishing Keys").
type ServerKey struct {
	Server string
	ID     string            // as "ed25519:a_1"
	Key    ed25519.PublicKey // 32 bytes
	// ValidUntil is valid_until_ts of the newest answer that had the key in
	// verify_keys, in ms, at most seven days after that answer was fetched.
	ValidUntil int64
	// Expired is expired_ts of a key from old_verify_keys, in ms, never 0 then;
	// 0 for a key in use.
	Expired int64
	// Fetched is when the answer with the key came, in ms.
	Fetched int64
	// Response is that answer, canonical JSON with the server's own signatures and
	// no others: what a notary server signs and hands on.
	Response []byte
}

// ValidAt tells whether the key may have signed something of the time at (ms).
// Strict holds from room version 5 on, and for requests: valid_until_ts counts
// ("Signing key validity period" of the room versions).
func (k *ServerKey) ValidAt(at int64, strict bool) bool {
	if k.Expired != 0 {
		return at <= k.Expired
	}
	return !strict || at <= k.ValidUntil
}

// Why a signature counts for nothing.
var (
	// ErrUnsigned says that the server has not signed at all.
	ErrUnsigned = errors.New("there is no signature of the server")
	// ErrNoKey says that no signature is by a key that the server is known to have had
	// at the time. The key may be known later, if the server could not be asked.
	ErrNoKey = errors.New("the key of the signature is not known, or was not valid at the time")
	// ErrBadSignature says that a signature is wrong.
	ErrBadSignature = errors.New("the signature is wrong")
)

// Claim is what has to be proven of a message: that a server has signed it.
type Claim struct {
	Server     string
	Message    []byte            // what was signed, as [Event.SignedForm] or [Signed.Message]
	Signatures map[string]string // the server's, in base64 by key id
	At         int64             // when, in ms: origin_server_ts of an event
	// Strict makes valid_until_ts count: for requests, and for events from room
	// version 5 on, see [RoomVersion.StrictKeys].
	Strict bool
}

// StrictKeys tells whether an event's key must have been valid, by valid_until_ts, when
// the event was made (from room version 5 on).
func (v RoomVersion) StrictKeys() bool { return !slices.Contains([]RoomVersion{"1", "2", "3", "4"}, v) }

// Signed is a signed JSON object, taken apart (appendices, "Signing JSON").
type Signed struct {
	// Message is what signatures cover: the object in canonical form without
	// signatures and unsigned.
	Message []byte
	// Signatures has the signatures, in base64, by the name of who signed and the
	// id of the key. What is no string there is left out.
	Signatures map[string]map[string]string
}

// ParseSigned takes a JSON object apart. What is no object or has no canonical
// form is refused; strictNumbers is as for [CanonicalJSON].
func ParseSigned(object []byte, strictNumbers bool) (*Signed, error) {
	canonical, err := CanonicalJSON(object, strictNumbers)
	if err != nil {
		return nil, err
	}
	if canonical[0] != '{' {
		return nil, errors.New("JSON: not an object")
	}
	return SignedParts(canonical), nil
}

// SignedParts takes apart an object that is canonical JSON already. An event has
// to be redacted first: its signatures cover the redacted form.
func SignedParts(canonical []byte) *Signed {
	s := &Signed{Message: without(canonical, "signatures", "unsigned"), Signatures: map[string]map[string]string{}}
	eachMember(canonical, func(key, value []byte) {
		if string(key) == "signatures" {
			eachMember(value, s.read)
		}
	})
	return s
}

func (s *Signed) read(entity, signatures []byte) {
	eachMember(signatures, func(keyID, signature []byte) {
		text, err := jsonString(signature)
		if err == nil {
			s.add(string(entity), string(keyID), text)
		}
	})
}

func (s *Signed) add(entity, keyID, signature string) {
	if s.Signatures[entity] == nil {
		s.Signatures[entity] = map[string]string{}
	}
	s.Signatures[entity][keyID] = signature
}

// JSON is the object with its signatures, canonical; what was unsigned is gone.
func (s *Signed) JSON() ([]byte, error) {
	out := appendSignatures([]byte(`{"signatures":`), s.Signatures)
	if len(s.Message) > len("{}") {
		out = append(out, ',')
	}
	return CanonicalJSON(append(out, s.Message[1:]...), false)
}

// Sign is this server's signature of a message, in unpadded base64.
func (s *Signer) Sign(message []byte) string { return s.sign(message) }

// SignJSON is a JSON object with this server's signature beside those that it has:
// canonical, without unsigned.
func (s *Signer) SignJSON(object []byte) ([]byte, error) {
	signed, err := ParseSigned(object, true)
	if err != nil {
		return nil, err
	}
	signed.add(s.ServerName, s.KeyID, s.Sign(signed.Message))
	return signed.JSON()
}

// VerifySignature checks an ed25519 signature, given in base64. The key must be
// one that [DecodeVerifyKey] accepts.
func VerifySignature(key ed25519.PublicKey, message []byte, signature string) bool {
	raw, err := DecodeBase64(signature)
	return err == nil && len(raw) == ed25519.SignatureSize && !smallOrder(raw[:ed25519.PublicKeySize]) &&
		ed25519.Verify(key, message, raw)
}

// DecodeVerifyKey reads an ed25519 public key in base64. It refuses the encodings
// that other implementations refuse: they would disagree about signatures of these.
func DecodeVerifyKey(text string) (ed25519.PublicKey, error) {
	key, err := DecodeBase64(text)
	switch {
	case err != nil:
		return nil, err
	case len(key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("an ed25519 key of %d bytes", len(key))
	case smallOrder(key) || !belowFieldSize(key):
		return nil, errors.New("an ed25519 key that anybody could sign for")
	}
	return key, nil
}

// DecodeBase64 reads base64 with or without padding (appendices, "Unpadded
// Base64"). The spare bits of the last character may be anything: keys with such
// bits are in use, the specification's own test vector is one.
func DecodeBase64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("base64 with line breaks")
	}
	unpadded := strings.TrimRight(text, "=")
	if len(unpadded) != len(text) && len(text)%4 != 0 || len(text)-len(unpadded) > 2 {
		return nil, errors.New("base64 with wrong padding")
	}
	return base64.RawStdEncoding.DecodeString(unpadded)
}

// smallOrderPoints are the y coordinates of the points of ed25519 of order 1, 2, 4
// and 8, little-endian. A key among them verifies signatures that nobody made.
var smallOrderPoints = [...]string{
	"\x00" + zeros30 + "\x00",
	"\x01" + zeros30 + "\x00",
	"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
	"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
	"\xec" + ones30 + "\x7f",
	"\xed" + ones30 + "\x7f",
	"\xee" + ones30 + "\x7f",
}

const (
	zeros30 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ones30  = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
)

// yCoordinate is an encoded point without the bit for the sign of x.
func yCoordinate(point []byte) []byte {
	y := bytes.Clone(point)
	y[31] &= 0x7f
	return y
}

func smallOrder(point []byte) bool {
	return slices.Contains(smallOrderPoints[:], string(yCoordinate(point)))
}

// belowFieldSize tells whether the y coordinate is below 2^255-19, the one way to
// write it.
func belowFieldSize(point []byte) bool {
	y := yCoordinate(point)
	slices.Reverse(y)
	return bytes.Compare(y, append(append([]byte{0x7f}, ones30...), 0xed)) < 0
}
