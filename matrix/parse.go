package matrix

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxPrevEvents is how many events an event may follow at most, maxAuthEvents how many it
// may cite (server-server API, "PDUs").
const (
	MaxPrevEvents = 20
	maxAuthEvents = 10
)

// maxEventDepth bounds the nesting of an event from another server.
const maxEventDepth = 100

// Parse reads an event that another server sent: the first check of the
// specification, that it is a valid event of the room version (server-server API,
// "Checks performed on receipt of a PDU"). It does not look at hashes, signatures or
// authorisation. The event's JSON is canonical; unsigned is dropped, as nobody
// vouches for it. [BadJSON], [TooLarge] and [InvalidParam] say what is wrong.
func Parse(v RoomVersion, raw []byte) (*Event, error) {
	rules, known := versions[v]
	if !known {
		return nil, UnsupportedRoomVersion
	}
	if len(raw) > 4*MaxEventSize { // room for spaces, escapes and unsigned
		return nil, TooLarge.With("The event is too large")
	}
	text, err := canonical(raw, rules.strictNumbers, maxEventDepth)
	if err != nil {
		return nil, BadJSON.With("The event is not canonical JSON: " + err.Error())
	}
	if text[0] != '{' {
		return nil, BadJSON.With("The event is not a JSON object")
	}
	text = without(text, "unsigned", "age_ts")
	if len(text) > MaxEventSize {
		return nil, TooLarge.Withf("The event has %d bytes; %d are the most", len(text), MaxEventSize)
	}
	if err := checkFields(rules, text); err != nil {
		return nil, err
	}
	id := topString(text, "event_id")
	if !rules.eventIDInEvent {
		id = rules.eventID(referenceHash(v.Redact(text)))
	}
	e, err := ParseTrusted(v, id, text)
	if err != nil {
		return nil, BadJSON.With(err.Error())
	}
	return e, checkNamesOf(rules, e)
}

// The types that the fields of an event have.
const (
	anID     = "a string of at most 255 bytes"
	anObject = "an object"
	aList    = "a list of event ids"
	aNumber  = "an integer from 0 to 2^53-1"
	aTime    = "an integer within ±(2^53-1)"
)

// fields are the fields that servers read, with their types. An event has each but
// those that are optional. One without hashes or signatures is an event; it fails the
// checks that follow.
var fields = map[string]struct {
	form     string
	optional bool
}{
	"type": {anID, false}, "sender": {anID, false}, "room_id": {anID, true}, "event_id": {anID, true},
	"state_key": {anID, true}, "redacts": {anID, true}, "content": {anObject, false}, "hashes": {anObject, true},
	"signatures": {anObject, true}, "prev_events": {aList, false}, "auth_events": {aList, false},
	"depth": {aNumber, false}, "origin_server_ts": {aTime, false},
}

// checkFields refuses an event whose fields are missing or have another type. A name
// that differs from a field's in capitals alone is refused too: whoever reads it
// carelessly would see another event than we do.
func checkFields(rules version, text []byte) error {
	var fault error
	seen := map[string]bool{}
	eachMember(text, func(key, value []byte) {
		name := string(key)
		field, known := fields[name]
		switch {
		case fault != nil:
		case !known && resemblesField(name):
			fault = BadJSON.Withf("The event has the member %q, which is easily taken for another", name)
		case known && !hasForm(rules, field.form, value):
			// Before version 11 redacts and before 3 event_id mean something; later they are
			// members like any other.
			if name == "redacts" && rules.redactsInContent || name == "event_id" && !rules.eventIDInEvent {
				return
			}
			fault = BadJSON.Withf("The event's %s is not %s", name, field.form)
		}
		seen[name] = true
	})
	for name, field := range fields {
		if fault == nil && !field.optional && !seen[name] {
			fault = BadJSON.Withf("The event has no %s", name)
		}
	}
	return fault
}

// resemblesField tells whether a name is that of a field but for capitals, or for
// characters that count as the capitals of others.
func resemblesField(name string) bool {
	for field := range fields {
		if strings.EqualFold(name, field) {
			return true
		}
	}
	return false
}

func hasForm(rules version, form string, value []byte) bool {
	switch form {
	case anID:
		text, err := jsonString(value)
		return err == nil && len(text) <= maxIDSize
	case anObject:
		return value[0] == '{'
	case aList:
		return hasReferences(rules, value)
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return err == nil && n <= MaxSafeInteger && n >= -MaxSafeInteger && (n >= 0 || form == aTime)
}

// hasReferences tells whether a list names events as the room version does.
func hasReferences(rules version, list []byte) bool {
	if list[0] != '[' {
		return false
	}
	for i := 1; i < len(list)-1; {
		end := skipValue(list, i)
		item := list[i:end]
		if rules.eventIDInEvent {
			if item[0] != '[' || len(item) < 3 {
				return false
			}
			next := skipValue(item, 1)
			if next >= len(item)-1 || item[next+1] != '{' {
				return false
			}
			item = item[1:next]
		}
		if id, err := jsonString(item); err != nil || !ValidEventID(id) {
			return false
		}
		i = end + 1
	}
	return true
}

// checkNamesOf refuses names that are none, and events that name too many others.
func checkNamesOf(rules version, e *Event) error {
	if _, server, ok := SplitID('@', e.Sender); !ok || server == "" {
		return InvalidParam.Withf("The event's sender %q is not a user id", e.Sender)
	}
	if e.Type == "m.room.create" && e.StateKey != nil && rules.createWithoutRoom {
		if topString(e.JSON, "room_id") != "" {
			return InvalidParam.With("The create event of this room version has no room_id")
		}
	} else if !ValidRoomID(e.RoomID) {
		return InvalidParam.Withf("The event's room_id %q is not a room id", e.RoomID)
	}
	if rules.eventIDInEvent && !ValidEventID(e.ID) {
		return InvalidParam.Withf("The event's event_id %q is not an event id", e.ID)
	}
	if strings.IndexByte(e.Type, 0) >= 0 || e.StateKey != nil && strings.IndexByte(*e.StateKey, 0) >= 0 {
		return InvalidParam.With("The event's type and state_key must not hold the character NUL")
	}
	if n := len(e.PrevEvents()); n > MaxPrevEvents {
		return InvalidParam.Withf("The event has %d prev_events; %d are the most", n, MaxPrevEvents)
	}
	if n := len(e.AuthEvents()); n > maxAuthEvents {
		return InvalidParam.Withf("The event has %d auth_events; %d are the most", n, maxAuthEvents)
	}
	return nil
}

// HashMatches tells whether the event's content hash is right (server-server API,
// "Calculating the content hash for an event"). An event whose hash is wrong counts
// in its redacted form, see [Event.Redacted].
func (e *Event) HashMatches() bool {
	var given []byte
	eachMember(e.JSON, func(key, value []byte) {
		if string(key) == "hashes" {
			given = []byte(topString(value, "sha256"))
		}
	})
	sum := sha256.Sum256(without(e.JSON, "unsigned", "signatures", "hashes"))
	decoded, err := base64.RawStdEncoding.DecodeString(string(bytes.TrimRight(given, "=")))
	return err == nil && bytes.Equal(decoded, sum[:])
}

// Redacted is the event as redaction leaves it, with the same id.
func (e *Event) Redacted() (*Event, error) {
	return ParseTrusted(e.Version, e.ID, e.Version.Redact(e.JSON))
}

// SignedForm is the text that the event's signatures are about (server-server API,
// "Signing events").
func (e *Event) SignedForm() []byte {
	return without(e.Version.Redact(e.JSON), "signatures", "unsigned", "age_ts")
}

// Signatures are the event's signatures by server and key id, in base64 as written.
func (e *Event) Signatures() map[string]map[string]string {
	all := map[string]map[string]string{}
	eachMember(e.JSON, func(key, value []byte) {
		if string(key) != "signatures" {
			return
		}
		eachMember(value, func(server, keys []byte) {
			of := map[string]string{}
			eachMember(keys, func(id, signature []byte) {
				if text, err := jsonString(signature); err == nil {
					of[string(id)] = text
				}
			})
			all[string(server)] = of
		})
	})
	return all
}

// Signers are the servers that must have signed the event: the sender's; that of an
// event id with a server; that of the user who authorised a restricted join. An
// invite to an address is sent in another server's name, so its sender's need not.
func (e *Event) Signers() []string {
	var servers []string
	if !e.invitesAddress() {
		servers = append(servers, ServerOf(e.Sender))
	}
	if versions[e.Version].eventIDInEvent {
		servers = appendNew(servers, ServerOf(e.ID))
	}
	if e.Type == "m.room.member" && versions[e.Version].restricted && e.Membership() == "join" {
		if by := e.ContentString("join_authorised_via_users_server"); by != "" {
			servers = appendNew(servers, ServerOf(by))
		}
	}
	return servers
}

// invitesAddress tells whether the event is the invite that follows one to an address
// (server-server API, "Third-party invites").
func (e *Event) invitesAddress() bool {
	if e.Type != "m.room.member" || e.StateKey == nil || e.Membership() != "invite" {
		return false
	}
	found := false
	eachMember(e.Content, func(key, value []byte) {
		found = found || string(key) == "third_party_invite" && value[0] == '{'
	})
	return found
}

func appendNew(list []string, s string) []string {
	for _, known := range list {
		if known == s {
			return list
		}
	}
	return append(list, s)
}

// Unsigned is the event without hashes, signatures and its id: a template for somebody
// else to complete.
func (e *Event) Unsigned() []byte {
	return without(e.JSON, "hashes", "signatures", "event_id")
}

func appendSignatures(dst []byte, signatures map[string]map[string]string) []byte {
	dst = append(dst, '{')
	n := 0
	for server, keys := range signatures {
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, server), ':', '{')
		m := 0
		for id, signature := range keys {
			if m++; m > 1 {
				dst = append(dst, ',')
			}
			dst = AppendString(append(AppendString(dst, id), ':'), signature)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// ValidText tells whether text is UTF-8 without the character NUL, as the database
// and every client can take it.
func ValidText(text string) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0
}
