package roomserver

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"beep/matrix"
)

const (
	// maxProof bounds what an identity server has signed, in bytes.
	maxProof = 8 << 10
	// maxProofSignatures bounds its signatures.
	maxProofSignatures = 8
)

// addressProof is the word of an identity server that a user has the address which an
// invite is for: signed, of third_party_invite.
type addressProof struct {
	userID, token string
	sender        string // who has invited the address; "" where it is not said
	object        json.RawMessage
	signed        *matrix.Signed
}

// readAddressProof makes the object anew of what it may have, so that nothing else is
// signed again by this server. [matrix.InvalidParam].
func readAddressProof(raw json.RawMessage) (*addressProof, error) {
	var given struct {
		UserID     string                       `json:"mxid"`
		Token      string                       `json:"token"`
		Sender     string                       `json:"sender,omitempty"`
		Signatures map[string]map[string]string `json:"signatures"`
	}
	if len(raw) > maxProof || exactly(raw, &given) != nil {
		return nil, matrix.InvalidParam.With("What an identity server has signed is missing, or is not of the form that it has to have")
	}
	n := 0
	for _, of := range given.Signatures {
		n += len(of)
	}
	if !matrix.ValidUserID(given.UserID) || given.Token == "" || len(given.Token) > 255 || n == 0 || n > maxProofSignatures {
		return nil, matrix.InvalidParam.With("What an identity server has signed needs mxid, token and signatures")
	}
	text, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	signed, err := matrix.ParseSigned(text, true)
	if err != nil {
		return nil, matrix.InvalidParam.With("What an identity server has signed has no canonical form").Because(err)
	}
	p := &addressProof{userID: given.UserID, token: given.Token, sender: given.Sender, signed: signed}
	p.object, err = signed.JSON()
	return p, err
}

// exactly decodes JSON whose members have the names that they have to have, none of them
// twice.
func exactly(raw json.RawMessage, into any) error { return jsonv2.Unmarshal(raw, into) }

// signedBy tells whether one of the signatures is by the key.
func (p *addressProof) signedBy(key string) bool {
	decoded, err := DecodeInviteKey(key)
	if err != nil {
		return false
	}
	for _, of := range p.signed.Signatures {
		for id, signature := range of {
			if strings.HasPrefix(id, "ed25519:") && matrix.VerifySignature(decoded, p.signed.Message, standard.Replace(signature)) {
				return true
			}
		}
	}
	return false
}

// standard turns URL-safe base64 into that of the standard alphabet.
var standard = strings.NewReplacer("-", "+", "_", "/")

// DecodeInviteKey reads the public key of an invite, in base64 of either alphabet.
func DecodeInviteKey(text string) (ed25519.PublicKey, error) {
	return matrix.DecodeVerifyKey(standard.Replace(text))
}

// request is what the server of whoever has invited the address is asked to make.
func (p *addressProof) request(roomID, sender string) []byte {
	text, _ := json.Marshal(map[string]any{"type": "m.room.member", "room_id": roomID, "sender": sender, "state_key": p.userID,
		"content": map[string]any{"membership": "invite", "third_party_invite": map[string]any{"display_name": "", "signed": p.object}}})
	return text // the parts are JSON and text, which have a form
}
