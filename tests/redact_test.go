package tests

import (
	"testing"

	"beep/tests/harness"
)

func TestRedactBothWays(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for _, version := range []string{"1", "10", "11", "12"} {
			t.Run(version, func(t *testing.T) {
				alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
				room := alice.CreateRoom(object{"room_version": version, "preset": "public_chat"})
				bob.Join(room)
				bob.Sync()
				byPath, bySend := alice.Text(room, "one"), alice.Text(room, "two")
				redactions := map[string]string{
					byPath: alice.Redact(room, byPath),
					bySend: alice.SendEvent(room, "m.room.redaction", "r", object{"redacts": bySend, "reason": "a slip"}).OK().At("event_id").Str(),
				}
				for target, redaction := range redactions {
					e := bob.Get(harness.Path("/v3/rooms/%s/event/%s", room, target)).OK()
					because := e.At("unsigned", "redacted_because")
					if e.At("content").String() != "{}" || because.At("event_id").Str() != redaction || because.At("content", "reason").Str() != "a slip" {
						t.Errorf("redacted event %s", e.Body)
					}
					r := bob.Get(harness.Path("/v3/rooms/%s/event/%s", room, redaction)).OK()
					if r.At("content", "redacts").Str() != target || r.At("redacts").Str() != target {
						t.Errorf("redaction %s", r.Body)
					}
				}
			})
		}
	})
}

func TestRedactIsIdempotent(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		path := harness.Path("/v3/rooms/%s/redact/%s/once", room, alice.Text(room, "x"))
		first := alice.Put(path, object{}).OK().At("event_id").Str()
		if again := alice.Put(path, object{}).OK().At("event_id").Str(); again != first {
			t.Errorf("the redaction was made twice: %s and %s", first, again)
		}
	})
}

// Nobody redacts the events of others without the power to, nor the create event (F29, F31).
func TestWhoMayRedact(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		room := alice.PublicRoom(bob, carl)
		alice.SetPower(room, map[*harness.Client]int{carl: 50})
		elsewhere := alice.Text(alice.CreateRoom(nil), "elsewhere")
		create := alice.Get(harness.Path("/v3/rooms/%s/state/m.room.create", room), "format", "event").OK().At("event_id").Str()
		for _, test := range []struct {
			name, event string
			who         *harness.Client
			status      int
			code        string
		}{
			{"own", bob.Text(room, "x"), bob, 200, ""},
			{"of another", alice.Text(room, "x"), bob, 403, "M_FORBIDDEN"},
			{"of another, with power", alice.Text(room, "x"), carl, 200, ""},
			{"of another room", elsewhere, alice, 400, "M_INVALID_PARAM"},
			{"unknown", "$unknownunknownunknownunknownunknownunknownunk", alice, 400, "M_INVALID_PARAM"},
			{"no event id", "unknown", alice, 400, "M_INVALID_PARAM"},
			{"the create event", create, alice, 403, "M_FORBIDDEN"},
		} {
			t.Run(test.name, func(t *testing.T) {
				r := test.who.For(t).Put(harness.Path("/v3/rooms/%s/redact/%s/%s", room, test.event, "t"+test.name), object{})
				if test.status == 200 {
					r.OK()
				} else {
					r.Fails(test.status, test.code)
				}
			})
		}
	})
}

// Redacted state still holds as far as the algorithm keeps it.
func TestRedactedState(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom()
		bob.SetState(room, "m.room.member", bob.UserID, object{"membership": "join", "displayname": "rude"}).OK()
		topic := alice.SetState(room, "m.room.topic", "", object{"topic": "rude"}).OK().At("event_id").Str()
		member := alice.Get(harness.Path("/v3/rooms/%s/state/m.room.member/%s", room, bob.UserID), "format", "event").OK().At("event_id").Str()
		alice.Redact(room, topic)
		alice.Redact(room, member)
		if got := alice.Lax().State(room, "m.room.topic", "").OK().String(); got != "{}" {
			t.Errorf("topic %s", got)
		}
		if got := alice.State(room, "m.room.member", bob.UserID).OK().String(); got != `{"membership":"join"}` {
			t.Errorf("member %s", got)
		}
		bob.Text(room, "still here")
		joined := alice.Get(harness.Path("/v3/rooms/%s/joined_members", room)).OK().At("joined", bob.UserID)
		if !joined.Exists() || joined.At("display_name").Exists() {
			t.Errorf("joined_members %s", joined)
		}
	})
}
