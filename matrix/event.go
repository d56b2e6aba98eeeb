package matrix

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
)

// MaxEventSize is the largest event, in bytes of canonical JSON with signatures
// (client-server API, section "Size limits").
const MaxEventSize = 65536

// maxIDSize bounds sender, room_id, event_id, type and state_key, in bytes.
const maxIDSize = 255

// Event is an event as servers exchange it (a PDU). It is immutable once made.
type Event struct {
	Version        RoomVersion
	ID             string
	RoomID         string
	Type           string
	StateKey       *string // nil for an event that is no state
	Sender         string
	Depth          int64
	OriginServerTS int64  // ms
	Redacts        string // wherever the room version writes it; "" for other events
	Content        json.RawMessage
	JSON           []byte // canonical, with hashes and signatures, without unsigned

	prev, auth []byte // prev_events and auth_events as written
}

// PrevEvents are the ids of the events that this one follows.
func (e *Event) PrevEvents() []string { return references(e.Version, e.prev) }

// AuthEvents are the ids of the events that authorise this one.
func (e *Event) AuthEvents() []string { return references(e.Version, e.auth) }

// IsState tells whether the event is state of this type and key.
func (e *Event) IsState(eventType, stateKey string) bool {
	return e.StateKey != nil && *e.StateKey == stateKey && e.Type == eventType
}

// Membership is content.membership, "" when the event has none.
func (e *Event) Membership() string { return topString(e.Content, "membership") }

// ContentString is a string member of the content, "" when it is none.
func (e *Event) ContentString(key string) string { return topString(e.Content, key) }

// Reference is the event as a later event's prev_events or auth_events name it.
func (e *Event) Reference() Reference {
	r := Reference{ID: e.ID}
	if versions[e.Version].eventIDInEvent {
		r.Hash = referenceHash(e.Version.Redact(e.JSON))
	}
	return r
}

// Reference names an event. Hash is its reference hash, needed in room versions
// 1 and 2 only.
type Reference struct {
	ID   string
	Hash [sha256.Size]byte
}

// ParseTrusted reads an event that this server has checked and stored before:
// canonical JSON in, no check of hashes or signatures. id is the event's id.
func ParseTrusted(v RoomVersion, id string, stored []byte) (*Event, error) {
	e := &Event{Version: v, ID: id, JSON: stored}
	var failed error
	eachMember(stored, func(key, value []byte) {
		if err := e.set(key, value); err != nil && failed == nil {
			failed = fmt.Errorf("event %s: %s: %w", id, key, err)
		}
	})
	if failed != nil {
		return nil, failed
	}
	if e.Type == "" || e.Sender == "" {
		return nil, fmt.Errorf("event %s: no type or no sender", id)
	}
	if e.RoomID == "" && versions[v].createWithoutRoom && e.Type == "m.room.create" {
		e.RoomID = "!" + id[1:]
	}
	switch {
	case e.Type != "m.room.redaction":
		e.Redacts = ""
	case versions[v].redactsInContent:
		e.Redacts = topString(e.Content, "redacts")
	}
	return e, nil
}

func (e *Event) set(key, value []byte) (err error) {
	switch string(key) {
	case "type":
		e.Type, err = jsonString(value)
	case "sender":
		e.Sender, err = jsonString(value)
	case "room_id":
		e.RoomID, err = jsonString(value)
	case "state_key":
		var stateKey string
		stateKey, err = jsonString(value)
		e.StateKey = &stateKey
	case "redacts":
		if !versions[e.Version].redactsInContent {
			e.Redacts, err = jsonString(value)
		}
	case "depth":
		e.Depth, err = strconv.ParseInt(string(value), 10, 64)
	case "origin_server_ts":
		e.OriginServerTS, err = strconv.ParseInt(string(value), 10, 64)
	case "prev_events":
		e.prev, err = value, checkReferences(e.Version, value)
	case "auth_events":
		e.auth, err = value, checkReferences(e.Version, value)
	case "content":
		e.Content = value
	}
	return err
}

func jsonString(value []byte) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", fmt.Errorf("not a string")
	}
	return string(unescape(value[1 : len(value)-1])), nil
}

// references reads the ids of prev_events or auth_events: a list of ids, or in
// versions 1 and 2 a list of pairs of an id and its hashes.
func references(v RoomVersion, list []byte) []string {
	ids := []string{}
	eachReference(v, list, func(id []byte) bool {
		text, err := jsonString(id)
		ids = append(ids, text)
		return err == nil
	})
	return ids
}

// checkReferences refuses what references cannot read, without reading it out.
func checkReferences(v RoomVersion, list []byte) error {
	if len(list) < 2 || list[0] != '[' {
		return fmt.Errorf("not a list")
	}
	valid := true
	eachReference(v, list, func(id []byte) bool {
		valid = len(id) > 1 && id[0] == '"'
		return valid
	})
	if !valid {
		return fmt.Errorf("not a list of event ids")
	}
	return nil
}

// eachReference calls fn with every id as it is written, until fn returns false.
func eachReference(v RoomVersion, list []byte, fn func(id []byte) bool) {
	pairs := versions[v].eventIDInEvent
	for i := 1; i < len(list)-1; {
		end := skipValue(list, i)
		item := list[i:end]
		if pairs && len(item) > 1 && item[0] == '[' {
			item = item[1:skipValue(item, 1)]
		}
		if !fn(item) {
			return
		}
		i = end + 1
	}
}

func referenceHash(redacted []byte) [sha256.Size]byte {
	return sha256.Sum256(without(redacted, "signatures", "unsigned", "age_ts"))
}

// eventID is the id that room versions from 3 on derive from the event.
func (v version) eventID(hash [sha256.Size]byte) string {
	if v.urlSafeEventID {
		return "$" + base64.RawURLEncoding.EncodeToString(hash[:])
	}
	return "$" + base64.RawStdEncoding.EncodeToString(hash[:])
}

// without is a canonical object less some members.
func without(object []byte, names ...string) []byte {
	out := append(make([]byte, 0, len(object)), '{')
	eachMember(object, func(key, value []byte) {
		for _, name := range names {
			if string(key) == name {
				return
			}
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(AppendString(out, string(key)), ':'), value...)
	})
	return append(out, '}')
}
