package matrix

import (
	"bytes"
	"fmt"
	"slices"
)

// Countersign is a membership event of another server with this server's signature beside
// that server's: an invite of a user of this one, or a join that a user of this one
// authorises. The text that is signed is made anew, of the fields that such an event has
// to have. [InvalidParam]: the event has more than that to be signed.
func (s *Signer) Countersign(e *Event) (*Event, error) {
	form, err := countersigned(e)
	if err != nil {
		return nil, err
	}
	return e.WithSignature(s.ServerName, s.KeyID, s.sign(form))
}

// WithSignature is the event with one more signature, in base64, in the place of one by the
// same key.
func (e *Event) WithSignature(server, keyID, signature string) (*Event, error) {
	signatures := e.Signatures()
	if signatures[server] == nil {
		signatures[server] = map[string]string{}
	}
	signatures[server][keyID] = signature
	text := without(e.JSON, "signatures")
	text = append(text[:len(text)-1], `,"signatures":`...)
	text = append(appendSignatures(text, signatures), '}')
	sorted, err := CanonicalJSON(text, versions[e.Version].strictNumbers)
	if err != nil {
		return nil, fmt.Errorf("signing event %s: %w", e.ID, err)
	}
	if len(sorted) > MaxEventSize {
		return nil, TooLarge.With("The event has no room for another signature")
	}
	return ParseTrusted(e.Version, e.ID, sorted)
}

// countersigned is what [Event.SignedForm] gives for an invite or an authorised join, written
// here.
func countersigned(e *Event) ([]byte, error) {
	rules := versions[e.Version]
	content, err := memberForm(e, rules)
	if err != nil {
		return nil, err
	}
	p := &Proto{Version: e.Version, RoomID: e.RoomID, Type: "m.room.member", StateKey: e.StateKey, Sender: e.Sender,
		OriginServerTS: e.OriginServerTS, Depth: e.Depth,
		PrevEvents: templateReferences(rules, e.prev, MaxPrevEvents), AuthEvents: templateReferences(rules, e.auth, maxAuthEvents)}
	id, hash, former := "", "", []byte{}
	if rules.eventIDInEvent {
		id = e.ID
	}
	eachMember(e.JSON, func(key, value []byte) {
		switch {
		case string(key) == "hashes":
			hash = topString(value, "sha256")
		case rules.keepsTop(string(key)) && writtenFormerly(e, string(key), value):
			former = append(append(AppendString(append(former, ','), string(key)), ':'), value...)
		}
	})
	form := p.append(rules, content, id, string(AppendString([]byte(`{"sha256":`), hash))+"}", "")
	form, err = CanonicalJSON(append(append(form[:len(form)-1], former...), '}'), rules.strictNumbers)
	if err != nil || !bytes.Equal(form, e.SignedForm()) {
		return nil, InvalidParam.With("The event has fields that no membership event has")
	}
	return form, nil
}

// writtenFormerly tells whether a member is one of those that older servers write into events
// without a need, with the only value that it can have.
func writtenFormerly(e *Event, name string, value []byte) bool {
	return name == "origin" && bytes.Equal(value, AppendString(nil, ServerOf(e.Sender))) || name == "prev_state" && string(value) == "[]"
}

// memberForm is what redaction leaves of the content of an invite or of an authorised join.
func memberForm(e *Event, rules version) ([]byte, error) {
	by, byAddress := e.ContentString("join_authorised_via_users_server"), false
	foreign := ""
	eachMember(e.Content, func(key, value []byte) {
		switch name := string(key); {
		case name == "third_party_invite" && e.Membership() == "invite":
			byAddress = true
		case name == "third_party_invite", name == "join_authorised_via_users_server" && (e.Membership() != "join" || by == ""):
			foreign = name
		}
	})
	switch {
	case e.Type != "m.room.member" || e.StateKey == nil:
		return nil, InvalidParam.With("The event is no membership event")
	case foreign != "":
		return nil, InvalidParam.Withf("The event's content has %s, which does not belong there", foreign)
	case e.Membership() == "join" && by != "" && rules.keepsAuthorised:
		form := AppendString([]byte(`{"join_authorised_via_users_server":`), by)
		return append(form, `,"membership":"join"}`...), nil
	case e.Membership() == "join" && by != "":
		return []byte(`{"membership":"join"}`), nil
	case e.Membership() == "invite" && byAddress && rules.redaction11:
		return addressForm(e)
	case e.Membership() == "invite":
		return []byte(`{"membership":"invite"}`), nil
	}
	return nil, InvalidParam.With("The event is neither an invite nor an authorised join")
}

// addressForm is memberForm of an invite to an address: what has been signed for the invited
// user stays as it is, if it is that.
func addressForm(e *Event) ([]byte, error) {
	var signed []byte
	var members []string
	eachMember(e.Content, func(key, value []byte) {
		if string(key) == "third_party_invite" {
			signed = onlySigned(value)
		}
	})
	if signed == nil {
		return []byte(`{"membership":"invite"}`), nil
	}
	signed = signed[len(`{"signed":`) : len(signed)-1]
	eachMember(signed, func(key, value []byte) {
		// Whom the user was invited by is there as well if the user has asked for the signature.
		if string(key) != "sender" || !ValidUserID(topString(signed, "sender")) {
			members = append(members, string(key))
		}
	})
	if !slices.Equal(members, []string{"mxid", "signatures", "token"}) {
		return nil, InvalidParam.With("The event's third_party_invite is signed for something else")
	}
	form := append([]byte(`{"membership":"invite","third_party_invite":{"signed":`), signed...)
	return append(form, "}}"...), nil
}
