package hostile

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"beep/matrix"
	"beep/tests/harness"
)

// Forged is an event that need not be one.
type Forged struct {
	// ID is the event's id, as its room version says.
	ID string
	// JSON is canonical; with a content hash and a signature that are right, whatever the
	// rest is.
	JSON json.RawMessage
}

// Build makes an event of a draft, as [Room.Draft] gives it.
func (s *Server) Build(p *matrix.Proto) *matrix.Event {
	s.t.Helper()
	e, err := s.Signer.Build(p)
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// Fields are an event's fields without hashes and signatures, to be changed and forged.
func Fields(t testing.TB, e *matrix.Event) harness.Object {
	t.Helper()
	parsed, err := harness.ParseJSON(e.JSON)
	fields, ok := parsed.Value().(harness.Object)
	if err != nil || !ok {
		t.Fatalf("an event is no object: %v in %s", err, e.JSON)
	}
	delete(fields, "hashes")
	delete(fields, "signatures")
	return fields
}

// Forge hashes and signs fields as if they were an event.
func (s *Server) Forge(v matrix.RoomVersion, fields harness.Object) *Forged {
	s.t.Helper()
	return ForgeBy(s, v, fields, s.Signer)
}

// ForgeBy is [Server.Forge] with the signatures of others, as of servers that the hostile one
// pretends to be.
func ForgeBy(s *Server, v matrix.RoomVersion, fields harness.Object, signers ...*matrix.Signer) *Forged {
	s.t.Helper()
	copied := harness.Object{}
	for name, value := range fields {
		copied[name] = value
	}
	delete(copied, "signatures")
	delete(copied, "hashes")
	hash := sha256.Sum256(s.canonical(copied))
	copied["hashes"] = harness.Object{"sha256": base64.RawStdEncoding.EncodeToString(hash[:])}
	redacted := v.Redact(s.canonical(copied))
	signatures := harness.Object{}
	for _, signer := range signers {
		signatures[signer.ServerName] = harness.Object{signer.KeyID: signer.Sign(redacted)}
	}
	copied["signatures"] = signatures
	id, _ := copied["event_id"].(string)
	if !v.EventIDInEvent() {
		reference, encoding := sha256.Sum256(redacted), base64.RawURLEncoding
		if v == "3" {
			encoding = base64.RawStdEncoding
		}
		id = "$" + encoding.EncodeToString(reference[:])
	}
	return &Forged{ID: id, JSON: s.canonical(copied)}
}

func (s *Server) canonical(value any) []byte {
	s.t.Helper()
	text, err := matrix.CanonicalJSON(jsonOf(s.t, value), false)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// References name events for the prev_events and auth_events of a draft.
func References(events ...*matrix.Event) []matrix.Reference {
	all := make([]matrix.Reference, len(events))
	for i, e := range events {
		all[i] = e.Reference()
	}
	return all
}

func now() int64 { return time.Now().UnixMilli() }
