package hostile

import (
	"crypto/ed25519"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

const signPattern = "POST /_matrix/policy/v1/sign"

// policySigner answers who asks for a policy server's signature, with a key of its own.
func (s *Server) policySigner(v matrix.RoomVersion, asked *atomic.Int64) (key string, handler http.HandlerFunc) {
	signer := NewSigner(s.t, s.Name)
	return base64.RawStdEncoding.EncodeToString(signer.Key.Public().(ed25519.PublicKey)), func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		text := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, text); err != nil {
			s.t.Error(err)
		}
		e, err := matrix.Parse(v, text)
		if err != nil {
			s.t.Errorf("it was asked to sign what is no event: %v", err)
			return
		}
		if strings.Contains(string(e.Content), "spam") {
			s.respond(w, http.StatusBadRequest, harness.Object{"errcode": "M_FORBIDDEN", "error": "This is spam"})
			return
		}
		s.respond(w, http.StatusOK, harness.Object{s.Name: harness.Object{"ed25519:policy_server": signer.Sign(e.SignedForm())}})
	}
}

// A room's policy server has the word on what is sent and shown there, and on nothing else
// (F54, F55e).
func TestPolicyServer(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"1", "11", "12"} {
		room := alice.CreateRoom(harness.Object{"preset": "public_chat", "room_version": string(v)})
		joined := s.Join(room, bob)
		var asked atomic.Int64
		key, sign := s.policySigner(v, &asked)
		s.Handle(signPattern, sign)
		policy := harness.Path("/v3/rooms/%s/state/m.room.policy", room)
		s.AwaitEvent(alice.Put(policy, harness.Object{"via": s.Name, "public_keys": harness.Object{"ed25519": key}}).OK().At("event_id").Str())

		send := func(text string) *harness.Response {
			return alice.Put(harness.Path("/v3/rooms/%s/send/m.room.message/%s", room, victim.UniqueName("txn")), harness.Object{"msgtype": "m.text", "body": text})
		}
		if e := s.AwaitEvent(send("hello").OK().At("event_id").Str()); e.Signatures()[s.Name]["ed25519:policy_server"] == "" {
			t.Errorf("version %s: the message comes without the signature: %s", v, e.JSON)
		}
		if r := send("spam").Fails(403, "M_FORBIDDEN"); r.At("error").Str() != "This is spam" {
			t.Errorf("alice is told %s", r.Body)
		}
		spam, ham := joined.Say(bob, "spam of bob"), joined.Say(bob, "ham of bob")
		if refused := s.Send(spam, ham); len(refused) != 0 {
			t.Errorf("what fails softly is refused: %v", refused)
		}
		alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, spam.ID)).Fails(404, "M_NOT_FOUND")
		alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, ham.ID)).OK()
		if got := asked.Load(); got != 4 {
			t.Errorf("version %s: it was asked %d times", v, got)
		}

		s.Answer(signPattern, 401, harness.Object{"errcode": "M_UNKNOWN_TOKEN", "error": "out", "soft_logout": true})
		send("x").Fails(502, "M_UNKNOWN")
		s.Answer(signPattern, 429, harness.Object{"errcode": "M_LIMIT_EXCEEDED", "error": "slow", "retry_after_ms": 2000})
		if r := send("x").Fails(429, "M_LIMIT_EXCEEDED"); r.At("retry_after_ms").Int() != 2000 {
			t.Errorf("alice is told %s", r.Body)
		}
		for _, answer := range []any{`{}`, `[]`, `<html>`, harness.Object{s.Name: harness.Object{"ed25519:policy_server": 5}},
			harness.Object{s.Name: harness.Object{"ed25519:policy_server": s.Signer.Sign([]byte("x"))}},
			harness.Object{"other.test": harness.Object{"ed25519:policy_server": s.Signer.Sign([]byte("x"))}}} {
			s.Answer(signPattern, 200, answer)
			send("x").Fails(502, "M_UNKNOWN")
		}
		alice.Put(policy, harness.Object{}).OK()
		send("spam, as nobody cares any more").OK()
		elsewhere := alice.CreateRoom(nil)
		alice.Text(elsewhere, "spam")
	}
}
