package matrix

import "slices"

// contentKeys are the keys of content that redaction keeps in all room versions.
var contentKeys = map[string][]string{
	"m.room.member":             {"membership"},
	"m.room.create":             {"creator"},
	"m.room.join_rules":         {"join_rule"},
	"m.room.history_visibility": {"history_visibility"},
	"m.room.power_levels": {"ban", "events", "events_default", "kick", "redact",
		"state_default", "users", "users_default"},
}

// keepsContent tells whether redaction keeps this key of an event's content
// (each room version's page, section "Redactions").
func (v version) keepsContent(eventType, key string) bool {
	if slices.Contains(contentKeys[eventType], key) {
		return true
	}
	switch eventType {
	case "m.room.aliases":
		return v.keepsAliases && key == "aliases"
	case "m.room.create":
		return v.redaction11
	case "m.room.redaction":
		return v.redaction11 && key == "redacts"
	case "m.room.power_levels":
		return v.redaction11 && key == "invite"
	case "m.room.join_rules":
		return v.keepsAllow && key == "allow"
	case "m.room.member":
		return v.keepsAuthorised && key == "join_authorised_via_users_server" ||
			v.redaction11 && key == "third_party_invite"
	}
	return false
}

// keepsTop tells whether redaction keeps this key of an event.
func (v version) keepsTop(key string) bool {
	switch key {
	case "auth_events", "content", "depth", "event_id", "hashes", "origin_server_ts",
		"prev_events", "room_id", "sender", "signatures", "state_key", "type":
		return true
	case "membership", "origin", "prev_state":
		return !v.redaction11
	}
	return false
}

// redactContent appends what redaction leaves of a canonical content object.
func (v version) redactContent(dst []byte, eventType string, content []byte) []byte {
	dst = append(dst, '{')
	start := len(dst)
	eachMember(content, func(name, value []byte) {
		key := string(name)
		if !v.keepsContent(eventType, key) {
			return
		}
		if eventType == "m.room.member" && key == "third_party_invite" {
			value = onlySigned(value)
			if value == nil {
				return
			}
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(AppendString(dst, key), ':'), value...)
	})
	return append(dst, '}')
}

// onlySigned keeps the key signed of a third_party_invite, nil if there is none.
func onlySigned(invite []byte) (kept []byte) {
	eachMember(invite, func(key, value []byte) {
		if string(key) == "signed" {
			kept = append(append([]byte(`{"signed":`), value...), '}')
		}
	})
	return kept
}

// Redact is the event, canonical JSON, as redaction leaves it in this version.
func (v RoomVersion) Redact(event []byte) []byte {
	rules := versions[v]
	eventType := topString(event, "type")
	out := append(make([]byte, 0, len(event)), '{')
	eachMember(event, func(name, value []byte) {
		key := string(name)
		if !rules.keepsTop(key) {
			return
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(AppendString(out, key), ':')
		if key == "content" {
			out = rules.redactContent(out, eventType, value)
		} else {
			out = append(out, value...)
		}
	})
	return append(out, '}')
}

// topString is a top-level member of a canonical object, if it is a string.
func topString(object []byte, name string) (text string) {
	eachMember(object, func(key, value []byte) {
		if string(key) == name && len(value) > 1 && value[0] == '"' {
			text = string(unescape(value[1 : len(value)-1]))
		}
	})
	return text
}
