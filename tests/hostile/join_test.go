package hostile

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

const sendJoinPattern = "PUT " + V2 + "/send_join/{room}/{event}"

// rawEvents are the events of an answer's list.
func rawEvents(answer harness.Object, list string) []harness.Object {
	var events []harness.Object
	values, _ := answer[list].(harness.List)
	for _, e := range values {
		events = append(events, e.(harness.Object))
	}
	return events
}

// replaced is an answer's list after a change of each event; nil takes one out.
func replaced(answer harness.Object, list string, change func(e harness.Object) any) {
	changed := harness.List{}
	for _, e := range rawEvents(answer, list) {
		if e := change(e); e != nil {
			changed = append(changed, e)
		}
	}
	answer[list] = changed
}

// An answer to a join that does not prove that the user is in leaves nothing behind: the user is
// not in the room, and joins when the same server answers as it should (F26, F20).
func TestForgedAnswersToJoins(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	type change = func(answer harness.Object)
	both := func(f func(e harness.Object) any) change {
		return func(answer harness.Object) { replaced(answer, "state", f); replaced(answer, "auth_chain", f) }
	}
	ofType := func(eventType string, f func(e harness.Object) any) change {
		return both(func(e harness.Object) any {
			if e["type"] == eventType {
				return f(e)
			}
			return e
		})
	}
	without := func(eventType string) change { return ofType(eventType, func(harness.Object) any { return nil }) }
	unsigned := func(e harness.Object) any { e["signatures"] = harness.Object{}; return e }
	for _, v := range []matrix.RoomVersion{"6", "11", "12"} {
		foreign := s.NewRoom(v)
		stranger := NewSigner(t, s.Name)
		forged := func(signer *matrix.Signer, fields harness.Object) func(e harness.Object) any {
			return func(e harness.Object) any {
				for name, value := range fields {
					e[name] = value
				}
				return json.RawMessage(ForgeBy(s, v, e, signer).JSON)
			}
		}
		for what, change := range map[string]change{
			"no state at all":         func(a harness.Object) { a["state"], a["auth_chain"] = harness.List{}, harness.List{} },
			"a state that is no list": func(a harness.Object) { a["state"] = harness.Object{} },
			"no lists":                func(a harness.Object) { delete(a, "state"); delete(a, "auth_chain") },
			"a state of texts":        func(a harness.Object) { a["state"] = harness.List{"$x", 5, nil} },
			"another room's state":    func(a harness.Object) { a["state"] = RawEvents(foreign.State().Events()) },
			"another room's everything": func(a harness.Object) {
				a["state"], a["auth_chain"] = RawEvents(foreign.State().Events()), RawEvents(foreign.AuthChain(foreign.Heads()...))
			},
			"no create event":              without("m.room.create"),
			"no power levels":              without("m.room.power_levels"),
			"no members":                   without("m.room.member"),
			"nothing signed":               both(unsigned),
			"a create event not signed":    ofType("m.room.create", unsigned),
			"levels not signed":            ofType("m.room.power_levels", unsigned),
			"levels signed by a stranger":  ofType("m.room.power_levels", forged(stranger, nil)),
			"a create event by a stranger": ofType("m.room.create", forged(stranger, nil)),
			"another version's create":     ofType("m.room.create", forged(s.Signer, harness.Object{"content": harness.Object{"creator": s.Mallory(), "room_version": "9"}})),
			"a create event with a past":   ofType("m.room.create", forged(s.Signer, harness.Object{"prev_events": harness.List{"$" + foreign.ID[1:]}})),
			"a rule that shuts her out": func(a harness.Object) {
				replaced(a, "state", func(e harness.Object) any {
					if e["type"] != "m.room.join_rules" {
						return e
					}
					e["content"] = harness.Object{"join_rule": "invite"}
					return json.RawMessage(s.Forge(v, e).JSON)
				})
			},
			"more than one state of a key": func(a harness.Object) {
				for _, e := range rawEvents(a, "state") {
					if e["type"] == "m.room.power_levels" || e["type"] == "m.room.join_rules" {
						e["content"] = harness.Object{"join_rule": "invite", "users": harness.Object{}}
						a["state"] = append(harness.List{json.RawMessage(s.Forge(v, e).JSON)}, a["state"].(harness.List)...)
					}
				}
				replaced(a, "state", func(e harness.Object) any {
					if e["type"] == "m.room.create" {
						return nil
					}
					return e
				})
			},
		} {
			room := s.NewRoom(v)
			s.Change(sendJoinPattern, func(_ *http.Request, a harness.Object) { change(a) })
			if r := join(alice, room.ID, s.Name); r.Status < 400 || r.At("errcode").Str() == "" {
				t.Errorf("version %s, %s: the join ends with %d %s", v, what, r.Status, r.Body)
				continue
			}
			if r := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/state", room.ID)); r.Status == http.StatusOK {
				t.Errorf("version %s, %s: there is state: %s", v, what, r.Body)
			}
			if r := alice.Unchecked().Sync("filter", `{"room":{"include_leave":true}}`); r.Joined(room.ID).Exists() || r.At("rooms", "leave", room.ID).Exists() {
				t.Errorf("version %s, %s: sync has the room: %s", v, what, r.Body)
			}
			s.Handle(sendJoinPattern, nil)
			join(alice, room.ID, s.Name).OK()
			want := map[string]string{}
			for name, e := range room.State() {
				want[name.Type+"|"+name.StateKey] = e.ID
			}
			got := stateIDs(alice, room.ID)
			for name, id := range want {
				if got[name] != id {
					t.Errorf("version %s, after %s: %s is %s, not %s", v, what, name, got[name], id)
				}
			}
			if len(got) != len(want) {
				t.Errorf("version %s, after %s: the state is %v, not %v", v, what, got, want)
			}
			alice.Leave(room.ID)
		}
	}
}

// What an answer to a join has beside the room's own state is left out of it: events of other
// rooms, events that nobody signed, events that the room's rules do not allow (F26, F19).
func TestAnswersToJoinsWithMoreThanTheState(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	for _, v := range []matrix.RoomVersion{"1", "6", "11", "12"} {
		foreign, room := s.NewRoom(v), s.NewRoom(v)
		name := foreign.SetState(s.Mallory(), "m.room.name", "", harness.Object{"name": "foreign"})
		empty, bob := "", s.User("bob")
		unsigned := ForgeBy(s, v, Fields(t, s.Build(room.Draft(s.Mallory(), "m.room.topic", &empty, harness.Object{"topic": "unsigned"}))))
		notAllowed := s.Build(room.Draft(bob, "m.room.avatar", &empty, harness.Object{"url": "mxc://example.org/x"}))
		kick := s.Build(room.Draft(bob, "m.room.member", &alice.UserID, harness.Object{"membership": "ban"}))
		s.Change(sendJoinPattern, func(_ *http.Request, a harness.Object) {
			more := harness.List{json.RawMessage(name.JSON), unsigned.JSON, json.RawMessage(notAllowed.JSON), json.RawMessage(kick.JSON), "$x", nil,
				harness.Object{}, json.RawMessage(foreign.State().Get("m.room.create", "").JSON)}
			a["state"] = append(a["state"].(harness.List), more...)
			a["auth_chain"] = append(more, a["auth_chain"].(harness.List)...)
		})
		join(alice, room.ID, s.Name).OK()
		got := stateIDs(alice, room.ID)
		if len(got) != 5 || got["m.room.create|"] != room.State().Get("m.room.create", "").ID {
			t.Errorf("version %s: the state is %v", v, got)
		}
		usable(t, alice, s, room.ID)
	}
}

// A room keeps its create event: a server that gives another one for the same room is not
// joined through, be it the one whose name the room bears (F14).
func TestAnotherCreateEventForAKnownRoom(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s, other := New(t, victim), New(t, victim)
	for _, v := range []matrix.RoomVersion{"1", "6", "11"} {
		room := s.NewRoom(v)
		join(alice, room.ID, s.Name).OK()
		alice.Leave(room.ID)
		s.AwaitAsked("/send/") // the leave
		again := s.NewRoomWith(v, room.ID, nil)
		other.NewRoomWith(v, room.ID, nil)
		for _, via := range []string{other.Name, s.Name} { // and s, whose name the room bears, after all others
			if r := join(alice.Unchecked(), room.ID, via); r.Status < 400 {
				t.Errorf("version %s: she joins another room of the same id by way of %s", v, via)
			}
			if r := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/state", room.ID)); r.Status == http.StatusOK {
				for _, e := range r.List() {
					if e.At("event_id").Str() == again.State().Get("m.room.create", "").ID {
						t.Errorf("version %s: the second create event is the room's", v)
					}
				}
			}
		}
		s.mu.Lock()
		s.rooms[room.ID] = room
		s.mu.Unlock()
		join(alice, room.ID, s.Name).OK()
	}
	// In room version 12 the id is the create event's: there is no second one.
	room, second := s.NewRoom("12"), s.NewRoom("12")
	s.Change(sendJoinPattern, func(_ *http.Request, a harness.Object) {
		replaced(a, "state", func(e harness.Object) any {
			if e["type"] == "m.room.create" {
				return json.RawMessage(second.State().Get("m.room.create", "").JSON)
			}
			return e
		})
	})
	if r := join(alice.Unchecked(), room.ID, s.Name); r.Status < 400 {
		t.Errorf("a room of version 12 has another's create event: %s", r.Body)
	}
	s.Change(sendJoinPattern, func(_ *http.Request, a harness.Object) {
		replaced(a, "state", func(e harness.Object) any {
			if e["type"] == "m.room.create" {
				e["room_id"] = room.ID
				return s.Forge("12", e).JSON
			}
			return e
		})
	})
	if r := join(alice.Unchecked(), room.ID, s.Name); r.Status < 400 {
		t.Errorf("a room of version 12 has a create event with a room_id: %s", r.Body)
	}
}

// What comes back for a knock is shown as what it is, or not at all: nothing in it hurts the user
// who has knocked (F26).
func TestForgedAnswersToKnocks(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	state := func(content any) harness.Object {
		return harness.Object{"type": "m.room.name", "state_key": "", "sender": s.Mallory(), "content": content}
	}
	for what, shown := range map[string]any{
		"null": nil, "a text": "x", "an object": harness.Object{}, "numbers": harness.List{1, nil, "x", harness.List{}},
		"no content": harness.List{state(nil)}, "a content in a list": harness.List{state(harness.List{})},
		"a local user's join":   harness.List{harness.Object{"type": "m.room.member", "state_key": alice.UserID, "sender": alice.UserID, "content": harness.Object{"membership": "join"}}},
		"a sender that is none": harness.List{harness.Object{"type": "m.room.name", "state_key": "", "sender": "x", "content": harness.Object{}}},
		"far too much":          harness.List{state(harness.Object{"name": strings.Repeat("x", 1<<20)})},
		"far too many":          slices.Repeat(harness.List{state(harness.Object{"name": "x"})}, 5000),
	} {
		room := s.NewRoom("11")
		room.SetState(s.Mallory(), "m.room.join_rules", "", harness.Object{"join_rule": "knock"})
		s.Change("PUT "+V1+"/send_knock/{room}/{event}", func(_ *http.Request, a harness.Object) { a["knock_room_state"] = shown })
		r := alice.Post(harness.Path("/v3/knock/%s", room.ID)+harness.Query("via", s.Name), nil)
		sync := alice.Lax().Sync()
		if len(sync.Body) > 100_000 {
			t.Errorf("%s: a sync of %d bytes", what, len(sync.Body))
		}
		if knocked := sync.At("rooms", "knock", room.ID).Exists(); knocked != (r.Status == http.StatusOK) {
			t.Errorf("%s: the knock ends with %d, sync has it: %v", what, r.Status, knocked)
		}
		if sync.Joined(room.ID).Exists() {
			t.Errorf("%s: alice is in the room: %s", what, sync.Body)
		}
		alice.Since = sync.At("next_batch").Str()
	}
}
