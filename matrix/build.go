package matrix

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Signer is this server's name and the key that it signs events with.
type Signer struct {
	ServerName string
	KeyID      string // as "ed25519:a_1"
	Key        ed25519.PrivateKey
}

// Proto is an event in the making.
type Proto struct {
	Version        RoomVersion
	RoomID         string // "" for the create event of room version 12
	Type           string
	StateKey       *string
	Sender         string
	Content        []byte // JSON object, in any form
	Redacts        string // for m.room.redaction; Build writes it where the version wants it
	OriginServerTS int64  // ms
	Depth          int64
	PrevEvents     []Reference
	AuthEvents     []Reference
}

// Build makes the event: canonical, hashed, signed and within the size limits.
// Content that is not canonical JSON is [BadJSON], an event beyond the limits
// is [TooLarge].
func (s *Signer) Build(p *Proto) (*Event, error) {
	rules := versions[p.Version]
	content, err := p.content(rules)
	if err != nil {
		return nil, err
	}
	if err := p.checkNames(); err != nil {
		return nil, err
	}
	id := ""
	if rules.eventIDInEvent {
		id = "$" + randomText(18) + ":" + s.ServerName
	}
	bare := p.append(rules, content, id, "", "")
	contentHash := sha256.Sum256(bare)
	hashes := `{"sha256":"` + base64.RawStdEncoding.EncodeToString(contentHash[:]) + `"}`
	redacted := *p
	if !rules.redactsInContent {
		redacted.Redacts = "" // redaction drops the top-level key
	}
	unsignedForm := redacted.append(rules, rules.redactContent(nil, p.Type, content), id, hashes, "")
	signatures := string(AppendString([]byte{'{'}, s.ServerName)) + `:{"` + s.KeyID + `":"` + s.sign(unsignedForm) + `"}}`
	if !rules.eventIDInEvent {
		id = rules.eventID(sha256.Sum256(unsignedForm))
	}
	full := p.append(rules, content, id, hashes, signatures)
	if len(full) > MaxEventSize {
		return nil, TooLarge.Withf("The event would have %d bytes; %d are the most", len(full), MaxEventSize)
	}
	return ParseTrusted(p.Version, id, full)
}

// sign is the signature of a canonical text, in unpadded base64.
func (s *Signer) sign(text []byte) string {
	return base64.RawStdEncoding.EncodeToString(ed25519.Sign(s.Key, text))
}

// content is the canonical content, with redacts where the version keeps it there.
func (p *Proto) content(rules version) ([]byte, error) {
	content, err := CanonicalJSON(p.Content, rules.strictNumbers)
	if err != nil {
		return nil, BadJSON.With("The content is not canonical JSON: " + err.Error())
	}
	if len(content) == 0 || content[0] != '{' {
		return nil, BadJSON.With("The content is not a JSON object")
	}
	if p.Type != "m.room.redaction" || !rules.redactsInContent {
		return content, nil
	}
	content = without(content, "redacts")
	sep := ","
	if len(content) == 2 {
		sep = ""
	}
	member := string(AppendString([]byte(`"redacts":`), p.Redacts)) + "}"
	return CanonicalJSON([]byte(string(content[:len(content)-1])+sep+member), rules.strictNumbers)
}

// checkNames refuses names that are too long, or that databases cannot store.
func (p *Proto) checkNames() error {
	stateKey := ""
	if p.StateKey != nil {
		stateKey = *p.StateKey
	}
	for _, field := range []struct{ name, value string }{
		{"type", p.Type}, {"state_key", stateKey}, {"sender", p.Sender}, {"room_id", p.RoomID},
	} {
		if len(field.value) > maxIDSize {
			return TooLarge.Withf("The event's %s has %d bytes; %d are the most", field.name, len(field.value), maxIDSize)
		}
		if strings.IndexByte(field.value, 0) >= 0 {
			return InvalidParam.Withf("The event's %s must not hold the character NUL", field.name)
		}
	}
	return nil
}

// append writes the event's canonical JSON: its keys stand in order here.
func (p *Proto) append(rules version, content []byte, id, hashes, signatures string) []byte {
	out := make([]byte, 0, len(content)+1024)
	out = appendReferences(append(out, `{"auth_events":`...), rules, p.AuthEvents)
	out = append(append(out, `,"content":`...), content...)
	out = strconv.AppendInt(append(out, `,"depth":`...), p.Depth, 10)
	if rules.eventIDInEvent {
		out = AppendString(append(out, `,"event_id":`...), id)
	}
	if hashes != "" {
		out = append(append(out, `,"hashes":`...), hashes...)
	}
	out = strconv.AppendInt(append(out, `,"origin_server_ts":`...), p.OriginServerTS, 10)
	out = appendReferences(append(out, `,"prev_events":`...), rules, p.PrevEvents)
	if p.Redacts != "" && !rules.redactsInContent {
		out = AppendString(append(out, `,"redacts":`...), p.Redacts)
	}
	if p.RoomID != "" {
		out = AppendString(append(out, `,"room_id":`...), p.RoomID)
	}
	out = AppendString(append(out, `,"sender":`...), p.Sender)
	if signatures != "" {
		out = append(append(out, `,"signatures":`...), signatures...)
	}
	if p.StateKey != nil {
		out = AppendString(append(out, `,"state_key":`...), *p.StateKey)
	}
	return append(AppendString(append(out, `,"type":`...), p.Type), '}')
}

func appendReferences(dst []byte, rules version, refs []Reference) []byte {
	dst = append(dst, '[')
	for i, r := range refs {
		if i > 0 {
			dst = append(dst, ',')
		}
		if rules.eventIDInEvent {
			dst = AppendString(append(dst, '['), r.ID)
			dst = append(dst, `,{"sha256":"`...)
			dst = append(base64.RawStdEncoding.AppendEncode(dst, r.Hash[:]), `"}]`...)
		} else {
			dst = AppendString(dst, r.ID)
		}
	}
	return append(dst, ']')
}

// randomText is n bytes of randomness as text of letters, digits, "-" and "_".
func randomText(n int) string {
	raw := make([]byte, n)
	rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// NewRoomID makes the id of a room of a version before 12.
func NewRoomID(serverName string) string {
	return fmt.Sprintf("!%s:%s", randomText(13), serverName)
}
