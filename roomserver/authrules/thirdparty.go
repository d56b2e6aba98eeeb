package authrules

import (
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"beep/matrix"
)

// maxVerifications bounds how many pairs of a signature and a key are tried for one
// invite: an event has room for a thousand of each.
const maxVerifications = 64

// allowThirdParty is the rule for an invite by way of another network.
func (c *check) allowThirdParty(target string) error {
	if c.membership(target) == "ban" {
		return refuse("the user is banned")
	}
	signed := c.event.member.signed
	if signed == nil {
		return refuse("third_party_invite is not signed")
	}
	if signed.user != target {
		return refuse("third_party_invite is for %s", signed.user)
	}
	invite := c.find(Name{"m.room.third_party_invite", signed.token})
	if invite == nil {
		return refuse("there is no such m.room.third_party_invite")
	}
	if invite.Sender != c.event.Sender {
		return refuse("the m.room.third_party_invite is another user's")
	}
	if !signed.verified(invite.keys) {
		return refuse("no signature of third_party_invite is by a key of its m.room.third_party_invite")
	}
	return nil
}

// verified tells whether one of the signatures is by one of the keys.
func (s *signedContent) verified(keys [][]byte) bool {
	var content struct {
		Signatures map[string]map[string]jsontext.Value `json:"signatures"`
	}
	var bare map[string]jsontext.Value
	if json.Unmarshal(s.raw, &content) != nil || json.Unmarshal(s.raw, &bare) != nil {
		return false
	}
	delete(bare, "signatures")
	delete(bare, "unsigned")
	message, err := json.Marshal(bare)
	if err != nil {
		return false
	}
	if message, err = matrix.CanonicalJSON(message, false); err != nil {
		return false
	}
	tried := 0
	for _, signature := range signatures(content.Signatures) {
		for _, key := range keys {
			if tried++; tried > maxVerifications {
				return false
			}
			if ed25519.Verify(key, message, signature) {
				return true
			}
		}
	}
	return false
}

// signatures are those that may be ed25519's, in an order that is the same everywhere.
func signatures(by map[string]map[string]jsontext.Value) [][]byte {
	var list [][]byte
	for _, named := range by {
		for keyID, raw := range named {
			if signature := decode(raw); strings.HasPrefix(keyID, "ed25519:") && len(signature) == ed25519.SignatureSize {
				list = append(list, signature)
			}
		}
	}
	slices.SortFunc(list, slices.Compare)
	return list
}

// readPublicKeys are the keys of m.room.third_party_invite that can be ed25519's.
func readPublicKeys(raw []byte) [][]byte {
	var content struct {
		Key  jsontext.Value   `json:"public_key"`
		Keys []jsontext.Value `json:"public_keys"`
	}
	if json.Unmarshal(raw, &content) != nil {
		content.Keys = nil // public_keys is no list; public_key stands before it
	}
	var keys [][]byte
	add := func(raw jsontext.Value) {
		if key := decode(raw); len(key) == ed25519.PublicKeySize {
			keys = append(keys, key)
		}
	}
	add(content.Key)
	for _, raw := range content.Keys {
		var one struct {
			Key jsontext.Value `json:"public_key"`
		}
		if json.Unmarshal(raw, &one) == nil {
			add(one.Key)
		}
	}
	return keys
}

// decode reads base64 of either alphabet, padded or not; nil when raw is no such string.
func decode(raw jsontext.Value) []byte {
	s, ok := text(raw)
	if !ok {
		return nil
	}
	s = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
	decoded, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return decoded
}
