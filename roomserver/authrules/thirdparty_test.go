package authrules

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// invites makes invites by way of another network, signed with a key.
type invites struct{ key ed25519.PrivateKey }

func newInvites(seed byte) invites {
	return invites{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

func (i invites) publicKey() []byte { return i.key.Public().(ed25519.PublicKey) }

// sign is the content of an invite whose signed part, canonical and without its braces, is fields.
func (i invites) sign(fields string) string {
	signature := base64.RawStdEncoding.EncodeToString(ed25519.Sign(i.key, []byte("{"+fields+"}")))
	return `{"membership":"invite","third_party_invite":{"display_name":"e","signed":{` + fields +
		`,"signatures":{"id.test":{"ed25519:0":"` + signature + `"}},"unsigned":{"age":1}}}}`
}

func TestThirdPartyInvite(t *testing.T) {
	ours, theirs := newInvites(1), newInvites(2)
	public := base64.RawStdEncoding.EncodeToString(ours.publicKey())
	padded := base64.URLEncoding.EncodeToString(ours.publicKey())
	other := base64.RawStdEncoding.EncodeToString(theirs.publicKey())
	stored := func(content string) []sketch {
		return []sketch{{eventType: "m.room.third_party_invite", key: "t", sender: carol, content: content}}
	}
	good := stored(`{"public_key":"` + public + `"}`)
	invite := func(sender, content string) sketch {
		return sketch{eventType: "m.room.member", key: eve, sender: sender, content: content}
	}
	fields := `"mxid":"` + eve + `","token":"t"`
	ok := invite(carol, ours.sign(fields))
	banned := invite(carol, ours.sign(`"mxid":"`+frank+`","token":"t"`))
	banned.key = frank
	checkRules(t, []rule{
		{name: "public_key", allowed: "all", event: ok, state: good},
		{name: "public_keys", allowed: "all", event: ok, state: stored(`{"public_keys":[{"public_key":"` + other + `"},5,{},{"public_key":"` + public + `"}]}`)},
		{name: "both", allowed: "all", event: ok, state: stored(`{"public_key":"` + other + `","public_keys":[{"public_key":"` + public + `"}]}`)},
		{name: "other alphabet, padded", allowed: "all", event: ok, state: stored(`{"public_key":"` + padded + `"}`)},
		{name: "public_keys is no list", allowed: "all", event: ok, state: stored(`{"public_key":"` + public + `","public_keys":5}`)},
		{name: "more is signed", allowed: "all", event: invite(carol, ours.sign(`"email":"e@e.test",`+fields)), state: good},
		{name: "another's key", allowed: "none", event: ok, state: stored(`{"public_key":"` + other + `"}`)},
		{name: "no key", allowed: "none", event: ok, state: stored(`{}`)},
		{name: "short key", allowed: "none", event: ok, state: stored(`{"public_key":"AAAA"}`)},
		{name: "another's signature", allowed: "none", event: invite(carol, theirs.sign(fields)), state: good},
		{name: "no invite", allowed: "none", event: ok},
		{name: "another's invite", allowed: "none", event: invite(bob, ours.sign(fields)), state: good},
		{name: "inviter left", allowed: "all", event: ok, state: append(good[:1:1], member(carol, carol, "leave"))},
		{name: "another user", allowed: "none", event: invite(carol, ours.sign(`"mxid":"`+grace+`","token":"t"`)), state: good},
		{name: "another token", allowed: "none", event: invite(carol, ours.sign(`"mxid":"`+eve+`","token":"u"`)), state: good},
		{name: "banned user", allowed: "none", event: banned, state: good},
		{name: "no mxid", allowed: "none", event: invite(carol, ours.sign(`"token":"t"`)), state: good},
		{name: "no token", allowed: "none", event: invite(carol, ours.sign(`"mxid":"`+eve+`"`)), state: good},
		{name: "not signed", allowed: "none", event: invite(carol, `{"membership":"invite","third_party_invite":{}}`), state: good},
		{name: "null", allowed: "none", event: invite(carol, `{"membership":"invite","third_party_invite":null}`), state: good},
		{name: "no signatures", allowed: "none", event: invite(carol, `{"membership":"invite","third_party_invite":{"signed":{`+fields+`}}}`), state: good},
		{name: "signatures of another form", allowed: "none", event: invite(carol, `{"membership":"invite","third_party_invite":{"signed":{`+fields+`,"signatures":{"id.test":5}}}}`), state: good},
		{name: "kept in a join", allowed: "all", event: invite(eve, `{"membership":"join","third_party_invite":{}}`)},
	})
}

// TestManySignatures has an invite with more signatures and keys than can be tried.
func TestManySignatures(t *testing.T) {
	ours, theirs := newInvites(1), newInvites(2)
	var signatures, keys []string
	for i := range 300 {
		signature := base64.RawStdEncoding.EncodeToString(ed25519.Sign(theirs.key, []byte{byte(i), byte(i >> 8)}))
		signatures = append(signatures, fmt.Sprintf(`"ed25519:%d":"%s"`, i, signature))
		keys = append(keys, `{"public_key":"`+base64.RawStdEncoding.EncodeToString(ours.publicKey())+`"}`)
	}
	checkRules(t, []rule{{name: "many", allowed: "none", alone: true,
		event: sketch{eventType: "m.room.member", key: eve, sender: carol, content: `{"membership":"invite","third_party_invite":{"signed":{"mxid":"` + eve +
			`","token":"t","signatures":{"id.test":{` + strings.Join(signatures, ",") + `}}}}}`},
		state: []sketch{{eventType: "m.room.third_party_invite", key: "t", sender: carol, content: `{"public_keys":[` + strings.Join(keys, ",") + `]}`}}}})
}
