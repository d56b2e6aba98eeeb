package hostile

import (
	"crypto/ed25519"
	"encoding/base64"
	"testing"
	"time"

	"beep/matrix"
	"beep/tests/harness"
)

// An event counts that was signed with a key of the server's own, at a time when the key was
// in use (F46, F47).
func TestEventsSignedWithTheWrongKey(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	expired, stranger, vector := NewSigner(t, s.Name), NewSigner(t, s.Name), NewSigner(t, s.Name)
	seed, err := matrix.DecodeBase64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
	if err != nil {
		t.Fatal(err)
	}
	vector.Key = ed25519.NewKeyFromSeed(seed)
	public := func(s *matrix.Signer) harness.Object {
		return harness.Object{"key": base64.RawStdEncoding.EncodeToString(s.Key.Public().(ed25519.PublicKey))}
	}
	end := time.Now().Add(-time.Hour)
	old := public(expired)
	old["expired_ts"] = end.UnixMilli()
	s.Answer(KeysPattern, 200, s.Keys(harness.Object{
		"verify_keys":     harness.Object{s.Signer.KeyID: public(s.Signer), vector.KeyID: public(vector)},
		"old_verify_keys": harness.Object{expired.KeyID: old},
	}))
	other := *s.Signer
	other.Key = stranger.Key
	bob := s.User("bob")
	for _, v := range []string{"1", "4", "5", "12"} {
		room := alice.CreateRoom(harness.Object{"preset": "public_chat", "room_version": v})
		joined := s.Join(room, bob)
		for name, row := range map[string]struct {
			signer *matrix.Signer
			at     time.Time
			taken  bool
		}{
			"the server's key": {s.Signer, time.Now(), true}, "the old key in its time": {expired, end.Add(-time.Minute), true},
			"the old key after its time": {expired, end.Add(time.Minute), false}, "a key that is not published": {stranger, time.Now(), false},
			"another key under the server's id": {&other, time.Now(), false}, "a key that everybody has": {vector, time.Now(), false},
			"a time long after the key's": {s.Signer, time.Now().Add(30 * 24 * time.Hour), v == "1" || v == "4"},
		} {
			p := joined.Draft(bob, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": name})
			p.OriginServerTS = row.at.UnixMilli()
			e, err := row.signer.Build(p)
			if err != nil {
				t.Fatal(err)
			}
			if refused := s.Send(e); (refused[e.ID] == "") != row.taken {
				t.Errorf("version %s, %s: %v", v, name, refused)
			}
			if row.taken {
				joined.Add(e)
			}
		}
	}
}
