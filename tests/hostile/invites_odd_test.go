package hostile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

// offer sends an invite with what is shown of the room, as JSON or what is to pass for it; ""
// leaves it out.
func (s *Server) offer(invite *matrix.Event, shown string) *Answer {
	s.t.Helper()
	if shown != "" {
		shown = `,"invite_room_state":` + shown
	}
	return s.Put(harness.Path(V2+"/invite/%s/%s", invite.RoomID, invite.ID),
		fmt.Sprintf(`{"room_version":%q,"event":%s%s}`, invite.Version, invite.JSON, shown))
}

// oddStates are what an invite may show of a room that is not as it has to be.
var oddStates = map[string]string{
	"nothing": "", "null": `null`, "an object": `{}`, "a number": `5`, "text": `"x"`, "numbers": `[1,1.5,null,true]`, "lists": `[[],[[]]]`,
	"no content": `[{"type":"m.room.name","state_key":"","sender":"@a:b"}]`, "null content": `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":null}]`,
	"a list for content":    `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":[]}]`,
	"a number for a key":    `[{"type":"m.room.name","state_key":5,"sender":"@a:b","content":{}}]`,
	"no sender":             `[{"type":"m.room.name","state_key":"","content":{"name":"x"}}]`,
	"a type with NUL":       `[{"type":"m.room.\u0000name","state_key":"","sender":"@a:b","content":{}}]`,
	"NUL in the content":    `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":"a\u0000b"}}]`,
	"half a character":      `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":"\ud800"}}]`,
	"a member twice":        `[{"type":"m.room.name","type":"m.room.topic","state_key":"","sender":"@a:b","content":{"name":1,"name":2}}]`,
	"numbers of any size":   `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":1e400,"x":-9223372036854775809}}]`,
	"content of other form": `[{"type":"m.room.create","state_key":"","sender":"@a:b","content":{"room_version":[],"type":{}}},{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":{}}}]`,
	"deep":                  `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}]`,
	"many":                  `[` + strings.Repeat(`{"type":"x","state_key":"","sender":"@a:b","content":{}},`, 5000) + `{}]`,
	"large":                 `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":"` + strings.Repeat("x", 500_000) + `"}}]`,
	"10 MB":                 `[{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":"` + strings.Repeat("x", 10<<20) + `"}}]`,
}

// Whatever an invite shows of its room: it is refused, or what is of no use is left out, and
// the invited user goes on syncing (F38).
func TestInvitesWithOddState(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		s := New(t, victim)
		alice := victim.Register(t, "alice").Lax()
		for _, v := range []matrix.RoomVersion{"1", "11", "12"} {
			for name, shown := range oddStates {
				invite := s.Build(s.NewRoom(v).invite(alice.UserID))
				answer := s.offer(invite, shown)
				if answer.Status == 200 && v != "12" {
					r := alice.SyncUntil("the invite", func(r *harness.Response) bool { return r.At("rooms", "invite", invite.RoomID).Exists() })
					if events := r.At("rooms", "invite", invite.RoomID, "invite_state", "events").List(); len(events) > 41 || len(r.Body) > 200_000 {
						t.Errorf("version %s, %s: alice is shown %d events, %d bytes", v, name, len(events), len(r.Body))
					}
					continue
				}
				answer.Refused(fmt.Sprintf("version %s, %s", v, name), 400, 413)
			}
			if v != "1" {
				continue
			}
			for name, shown := range oddStates { // where unsigned has it
				invite := s.Build(s.NewRoom(v).invite(alice.UserID))
				body := strings.TrimSuffix(string(invite.JSON), "}") + `,"unsigned":{"invite_room_state":` + shown + `}}`
				if shown == "" {
					body = string(invite.JSON)
				}
				if answer := s.Put(harness.Path(V1+"/invite/%s/%s", invite.RoomID, invite.ID), body); answer.Status != 200 {
					answer.Refused(fmt.Sprintf("the older version, %s", name), 400, 413)
				}
			}
		}
		alice.Since = ""
		invited := alice.Sync().At("rooms", "invite")
		good := s.NewRoom("12")
		shown, err := json.Marshal(good.InviteState())
		if err != nil {
			t.Fatal(err)
		}
		s.offer(s.Build(good.invite(alice.UserID)), string(shown)).OK()
		alice.SyncUntil("an invite as it has to be", func(r *harness.Response) bool { return r.At("rooms", "invite", good.ID).Exists() })
		for _, room := range invited.Keys() {
			alice.Leave(room)
		}
	})
}

// A user of this server whose room has large names gets another server's user invited all the
// same: what the invite shows is cut down, and that server goes on being told things (F39).
func TestInvitesAreCutDown(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	large := strings.Repeat("x", 30_000)
	for _, v := range []string{"10", "12"} {
		room := alice.CreateRoom(harness.Object{"room_version": v, "name": "n", "creation_content": harness.Object{"x.large": large}})
		for eventType, content := range map[string]harness.Object{
			"m.room.name": {"name": large}, "m.room.topic": {"topic": large}, "m.room.avatar": {"url": "mxc://" + victim.Name + "/x", "x": large},
			"m.room.join_rules": {"join_rule": "invite", "x": large}, "m.room.encryption": {"algorithm": "m.megolm.v1.aes-sha2", "x": large},
		} {
			alice.SetState(room, eventType, "", content).OK()
		}
		alice.Post(harness.Path("/v3/rooms/%s/invite", room), harness.Object{"user_id": s.User("bob-" + v)}).OK()
		asked := s.Asked("PUT " + harness.Path(V2+"/invite/%s/", room))
		if len(asked) != 1 {
			t.Fatalf("version %s: %d invites were sent", v, len(asked))
		}
		body, err := harness.ParseJSON(asked[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		shown := body.At("invite_room_state")
		if n := len(shown.String()); n > 64<<10 || !shown.Find("type", "m.room.create").Exists() {
			t.Errorf("version %s: the invite shows %d bytes: %v", v, n, shown.Strings("type"))
		}
	}
	open := alice.PublicRoom()
	s.Join(open, s.User("bob"))
	s.AwaitEvent(alice.Text(open, "still there?"))
}

// An invite to a room of version 12 shows the room's create event, whole: its hash is the
// room's id (F40).
func TestInvitesShowTheCreateEvent(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	room, other := s.NewRoom("12"), s.NewRoomWith("12", "", harness.Object{"x.other": true})
	invite := s.Build(room.invite(alice.UserID))
	create := room.State().Get("m.room.create", "")
	fields := func(change func(harness.Object)) string {
		changed := Fields(t, create)
		change(changed)
		return string(s.Forge("12", changed).JSON)
	}
	stranger := *s.Signer
	stranger.Key = NewSigner(t, s.Name).Key
	list := func(events ...string) string { return `[` + strings.Join(events, ",") + `]` }
	for name, shown := range map[string]string{
		"nothing": "", "an empty list": `[]`, "other events": list(string(room.State().Get("m.room.join_rules", "").JSON)),
		"stripped":             `[{"type":"m.room.create","state_key":"","sender":"` + s.Mallory() + `","content":{"room_version":"12"}}]`,
		"another room's":       list(string(other.State().Get("m.room.create", "").JSON)),
		"another version":      list(fields(func(e harness.Object) { e["content"] = harness.Object{"room_version": "11"} })),
		"another creator":      list(fields(func(e harness.Object) { e["sender"] = s.User("bob") })),
		"of the room by name":  list(fields(func(e harness.Object) { e["room_id"] = room.ID })),
		"signed by a stranger": list(string(ForgeBy(s, "12", Fields(t, create), &stranger).JSON)),
		"not signed":           list(string(ForgeBy(s, "12", Fields(t, create)).JSON)),
		"another content hash": list(strings.Replace(string(create.JSON), `"hashes":{"sha256":"`, `"hashes":{"sha256":"A`, 1)),
	} {
		s.offer(invite, shown).Refused(name, 400)
	}
	if alice.Since = ""; alice.Sync().At("rooms", "invite", room.ID).Exists() {
		t.Error("one of these invites has arrived")
	}
	s.offer(invite, list(string(create.JSON))).OK()
}

// Whatever a server shows of a room to a user who knocks there, the user goes on syncing (F38).
func TestKnocksWithOddState(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice").Lax()
	for name, shown := range oddStates {
		room := s.NewRoom("11")
		room.SetState(s.Mallory(), "m.room.join_rules", "", harness.Object{"join_rule": "knock"})
		if shown != "" {
			shown = `"knock_room_state":` + shown
		}
		s.Answer("PUT "+V1+"/send_knock/{room}/{event}", 200, `{`+shown+`}`)
		knock := alice.Post(harness.Path("/v3/knock/%s", room.ID)+harness.Query("via", s.Name), nil)
		if knock.Status != 200 && knock.Status != 502 {
			t.Errorf("%s: status %d %s", name, knock.Status, knock.Body)
		}
		if r := alice.Sync(); len(r.Body) > 200_000 || r.At("rooms", "knock", room.ID).Exists() != (knock.Status == 200) {
			t.Errorf("%s: knocked with status %d, and sync has %d bytes", name, knock.Status, len(r.Body))
		}
	}
}
