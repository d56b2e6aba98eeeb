package matrix

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
)

// Template is what another server proposes for a membership event of a user of this
// server (server-server API, "Joining Rooms"). Only the place in the room's graph is
// taken from it; whatever else it says is the other server's wish and nobody's command.
type Template struct {
	PrevEvents []Reference
	AuthEvents []Reference
	Depth      int64
	// AuthorisedVia is content.join_authorised_via_users_server; "" without it.
	AuthorisedVia string
}

// ParseTemplate reads a template for a membership event of the user in the room.
// [BadJSON]: it is none, or one for something else.
func ParseTemplate(v RoomVersion, raw []byte, roomID, userID, membership string) (*Template, error) {
	rules, known := versions[v]
	if !known {
		return nil, UnsupportedRoomVersion
	}
	if len(raw) > 4*MaxEventSize {
		return nil, TooLarge.With("The template is too large")
	}
	text, err := canonical(raw, rules.strictNumbers, maxEventDepth)
	if err != nil || text[0] != '{' {
		return nil, BadJSON.With("The template is not canonical JSON")
	}
	t := &Template{}
	var content []byte
	eachMember(text, func(key, value []byte) {
		switch string(key) {
		case "content":
			content = value
		case "depth":
			if t.Depth, err = strconv.ParseInt(string(value), 10, 64); err != nil || t.Depth < 0 || t.Depth > MaxSafeInteger {
				t.Depth = 0
			}
		case "prev_events":
			t.PrevEvents = templateReferences(rules, value, MaxPrevEvents)
		case "auth_events":
			t.AuthEvents = templateReferences(rules, value, maxAuthEvents)
		}
	})
	switch {
	case topString(text, "type") != "m.room.member", topString(text, "room_id") != roomID, topString(text, "sender") != userID,
		topString(text, "state_key") != userID, topString(content, "membership") != membership:
		return nil, BadJSON.With("The template is not for the membership that was asked for")
	case len(t.PrevEvents) == 0:
		return nil, BadJSON.With("The template has no place in the room")
	}
	t.AuthorisedVia = topString(content, "join_authorised_via_users_server")
	return t, nil
}

// templateReferences reads a list of references; nil for what is none or too long.
func templateReferences(rules version, list []byte, most int) []Reference {
	if !hasReferences(rules, list) {
		return nil
	}
	var refs []Reference
	for i := 1; i < len(list)-1; {
		end := skipValue(list, i)
		refs = append(refs, templateReference(rules, list[i:end]))
		i = end + 1
	}
	if len(refs) > most {
		return nil
	}
	return refs
}

func templateReference(rules version, item []byte) (r Reference) {
	if !rules.eventIDInEvent {
		r.ID, _ = jsonString(item) // hasReferences has seen to it
		return r
	}
	end := skipValue(item, 1)
	r.ID, _ = jsonString(item[1:end])
	hash, err := base64.RawStdEncoding.DecodeString(topString(bytes.TrimSuffix(item[end+1:], []byte("]")), "sha256"))
	if err == nil && len(hash) == sha256.Size {
		copy(r.Hash[:], hash)
	}
	return r
}
