package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

// invite drafts an invite by mallory.
func (r *Room) invite(userID string) *matrix.Proto {
	return r.Draft(r.s.Mallory(), "m.room.member", &userID, harness.Object{"membership": "invite"})
}

// offer sends an invite to the server under attack.
func (r *Room) offer(id string, event any) *Answer {
	r.s.t.Helper()
	return r.s.Put(harness.Path(V2+"/invite/%s/%s", r.ID, id), harness.Object{"room_version": string(r.Version),
		"event": json.RawMessage(jsonOf(r.s.t, event)), "invite_room_state": r.InviteState()})
}

// unsignedBy fails the test if an answer has a signature of the server under attack.
func (a *Answer) unsignedBy(what string, victim *harness.Server) {
	a.s.t.Helper()
	if bytes.Contains(a.Body, []byte("signatures")) || bytes.Contains(a.Body, []byte(victim.Name+`":{"ed25519`)) {
		a.s.t.Errorf("%s: the server under attack signs: %s", what, a.Body)
	}
}

// notInvited fails the test if a user hears of an invite.
func notInvited(t *testing.T, user *harness.Client, what string, roomID string) {
	t.Helper()
	if r := user.Sync(); r.At("rooms", "invite", roomID).Exists() {
		t.Errorf("%s: the user is invited: %v", what, r.At("rooms", "invite"))
		user.Since = ""
	}
}

// What is to be signed as an invite is one, of the origin's own user for a user here, and has
// nothing that invites have not (F24, F23).
func TestInvitesThatAreNoneAreNotSigned(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice, bob := victim.Register(t, "alice"), victim.Register(t, "bob")
	s, other := New(t, victim), New(t, victim)
	// The last room version whose signatures cover members that are no longer in use, and one
	// that covers what signs invites by address.
	for _, v := range []matrix.RoomVersion{"10", "11"} {
		room := s.NewRoom(v)
		valid := Fields(t, s.Build(room.invite(alice.UserID)))
		changed := func(changes harness.Object) harness.Object {
			fields := maps.Clone(valid)
			maps.Copy(fields, changes)
			return fields
		}
		content := func(more harness.Object) harness.Object {
			return changed(harness.Object{"content": more})
		}
		for what, fields := range map[string]harness.Object{
			"power levels":                 changed(harness.Object{"type": "m.room.power_levels", "state_key": "", "content": harness.Object{"users": harness.Object{s.Mallory(): 100}}}),
			"power levels for a user":      changed(harness.Object{"type": "m.room.power_levels"}),
			"a message":                    changed(harness.Object{"type": "m.room.message"}),
			"a join":                       content(harness.Object{"membership": "join"}),
			"a leave":                      content(harness.Object{"membership": "leave"}),
			"a ban":                        content(harness.Object{"membership": "ban"}),
			"no membership":                content(harness.Object{}),
			"a membership in a list":       content(harness.Object{"membership": harness.List{"invite"}}),
			"a user of the origin":         changed(harness.Object{"state_key": s.User("carol")}),
			"a user of a third server":     changed(harness.Object{"state_key": other.User("carol")}),
			"nobody":                       changed(harness.Object{"state_key": ""}),
			"a user who does not exist":    changed(harness.Object{"state_key": "@nobody-of-that-name:" + victim.Name}),
			"a sender of the invited":      changed(harness.Object{"sender": bob.UserID}),
			"a sender of a third server":   changed(harness.Object{"sender": other.Mallory()}),
			"a join authorised by us":      content(harness.Object{"membership": "join", "join_authorised_via_users_server": alice.UserID}),
			"an invite authorised by us":   content(harness.Object{"membership": "invite", "join_authorised_via_users_server": alice.UserID}),
			"another room":                 changed(harness.Object{"room_id": matrix.NewRoomID(s.Name)}),
			"a redaction's room id":        changed(harness.Object{"room_id": "!x"}),
			"21 events before":             changed(harness.Object{"prev_events": slices.Repeat([]string{"$" + strings.Repeat("x", 43)}, 21)}),
			"no events before, no list":    changed(harness.Object{"prev_events": "none"}),
			"signed for something else":    content(harness.Object{"membership": "invite", "third_party_invite": harness.Object{"signed": harness.Object{"mxid": alice.UserID, "token": "t", "signatures": harness.Object{}, "more": true}}}),
			"key that differs in capitals": changed(harness.Object{"Sender": bob.UserID}),
			"a depth beyond all":           changed(harness.Object{"depth": json.Number("9007199254740992")}),
		} {
			if v == "10" && what == "signed for something else" {
				continue // no signature covers that before version 11
			}
			e := s.Forge(v, fields)
			a := room.offer(e.ID, e).Refused(what, 400, 403, 404)
			a.unsignedBy(what, victim)
			notInvited(t, alice, what, room.ID)
		}
		if v == "10" {
			for what, fields := range map[string]harness.Object{
				"a membership beside": changed(harness.Object{"membership": "ban"}),
				"our own origin":      changed(harness.Object{"origin": victim.Name}),
				"a state before":      changed(harness.Object{"prev_state": harness.List{"$x"}}),
			} {
				e := s.Forge(v, fields)
				room.offer(e.ID, e).Refused(what, 400, 403).unsignedBy(what, victim)
			}
		}
		// The control: what all of these differ from.
		e := s.Forge(v, valid)
		a := room.offer(e.ID, e).OK()
		if len(a.At("event", "signatures", victim.Name).Keys()) != 1 {
			t.Errorf("version %s: a good invite is not signed: %s", v, a.Body)
		}
		alice.SyncUntil("the good invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room.ID).Exists() })
	}
}

// An invite counts for what it was sent as: as whose, which event, of which room and which
// version of rooms (F24, F23).
func TestInvitesSentAsSomethingElseAreNotSigned(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s, other := New(t, victim), New(t, victim)
	room, known, modern := s.NewRoom("10"), s.NewRoom("9"), s.NewRoom("12")
	earlier := s.Build(known.invite(alice.UserID))
	known.offer(earlier.ID, earlier).OK()
	good := s.Build(room.invite(alice.UserID))
	body := func(version any, event any) harness.Object {
		return harness.Object{"room_version": version, "event": event, "invite_room_state": room.InviteState()}
	}
	put := func(s *Server, version, roomID, id string, body any) *Answer {
		return s.Put(harness.Path(version+"/invite/%s/%s", roomID, id), body)
	}
	forged := ForgeBy(s, "10", Fields(t, good), NewSigner(t, s.Name))
	unsigned := ForgeBy(s, "10", Fields(t, good))
	wrongHash := Fields(t, good)
	wrongHash["content"] = harness.Object{"membership": "invite", "displayname": "changed"}
	changed := bytes.Replace(s.Forge("10", wrongHash).JSON, []byte("changed"), []byte("again"), 1)
	again, modernInvite := s.Build(known.invite(alice.UserID)), s.Build(modern.invite(alice.UserID))
	for what, a := range map[string]*Answer{
		"another room in the path":           put(s, V2, known.ID, good.ID, body("10", good.JSON)),
		"another event in the path":          put(s, V2, room.ID, earlier.ID, body("10", good.JSON)),
		"no event":                           put(s, V2, room.ID, good.ID, harness.Object{"room_version": "10", "invite_room_state": harness.List{}}),
		"a list":                             put(s, V2, room.ID, good.ID, body("10", harness.List{json.RawMessage(good.JSON)})),
		"an unknown room version":            put(s, V2, room.ID, good.ID, body("org.example.1", json.RawMessage(good.JSON))),
		"no room version":                    put(s, V2, room.ID, good.ID, body("", json.RawMessage(good.JSON))),
		"a number as room version":           put(s, V2, room.ID, good.ID, body(10, json.RawMessage(good.JSON))),
		"another version than is known":      put(s, V2, known.ID, again.ID, body("8", json.RawMessage(again.JSON))),
		"version 12 for another id":          put(s, V2, room.ID, good.ID, body("12", json.RawMessage(good.JSON))),
		"version 11 for an id of version 12": put(s, V2, modern.ID, modernInvite.ID, body("11", json.RawMessage(modernInvite.JSON))),
		"version 1 by the first API":         put(s, V1, room.ID, good.ID, good),
		"the wrong key":                      put(s, V2, room.ID, forged.ID, body("10", forged.JSON)),
		"no signature":                       put(s, V2, room.ID, unsigned.ID, body("10", unsigned.JSON)),
		"a wrong hash":                       put(s, V2, room.ID, s.Forge("10", wrongHash).ID, body("10", json.RawMessage(changed))),
		"another server's":                   put(other, V2, room.ID, good.ID, body("10", json.RawMessage(good.JSON))),
	} {
		a.Refused(what, 400, 403).unsignedBy(what, victim)
		notInvited(t, alice, what, room.ID)
	}
	put(s, V2, room.ID, good.ID, body("10", json.RawMessage(good.JSON))).OK()
}

// template is make_join's honest answer for a user, as the server under attack gets it.
func template(r *Room, userID, membership string) harness.Object {
	parsed, err := harness.ParseJSON(jsonOf(r.s.t, r.template(userID, membership)))
	if err != nil {
		r.s.t.Fatal(err)
	}
	return parsed.Value().(harness.Object)
}

// join joins a room by way of some servers.
func join(user *harness.Client, roomID string, via ...string) *harness.Response {
	var query []string
	for _, server := range via {
		query = append(query, "via", server)
	}
	return user.Post(harness.Path("/v3/join/%s", roomID)+harness.Query(query...), nil)
}

// A template for something else than was asked for is not followed, and nothing is signed and
// handed back that came with it (F25).
func TestTemplatesForSomethingElseAreNotSigned(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice, carol := victim.Register(t, "alice"), victim.Register(t, "carol")
	s := New(t, victim)
	room, modern := s.NewRoom("10"), s.NewRoom("12")
	event := func(t harness.Object) harness.Object { return t["event"].(harness.Object) }
	content := func(t harness.Object) harness.Object { return event(t)["content"].(harness.Object) }
	for what, change := range map[string]func(harness.Object){
		"another type":               func(t harness.Object) { event(t)["type"] = "m.room.power_levels" },
		"a message":                  func(t harness.Object) { event(t)["type"] = "m.room.message"; delete(event(t), "state_key") },
		"another state key":          func(t harness.Object) { event(t)["state_key"] = s.Mallory() },
		"a neighbour's state key":    func(t harness.Object) { event(t)["state_key"] = carol.UserID },
		"no state key":               func(t harness.Object) { delete(event(t), "state_key") },
		"a neighbour as the sender":  func(t harness.Object) { event(t)["sender"] = carol.UserID },
		"another room":               func(t harness.Object) { event(t)["room_id"] = modern.ID },
		"no room":                    func(t harness.Object) { delete(event(t), "room_id") },
		"a leave":                    func(t harness.Object) { content(t)["membership"] = "leave" },
		"a membership in a list":     func(t harness.Object) { content(t)["membership"] = harness.List{"join"} },
		"no content":                 func(t harness.Object) { event(t)["content"] = nil },
		"an unknown room version":    func(t harness.Object) { t["room_version"] = "org.example.1" },
		"version 12 for another id":  func(t harness.Object) { t["room_version"] = "12" },
		"a number as room version":   func(t harness.Object) { t["room_version"] = 10 },
		"no place":                   func(t harness.Object) { event(t)["prev_events"] = harness.List{} },
		"no list as place":           func(t harness.Object) { event(t)["prev_events"] = "$x" },
		"21 places":                  func(t harness.Object) { event(t)["prev_events"] = slices.Repeat(harness.List{"$x"}, 21) },
		"places that are no ids":     func(t harness.Object) { event(t)["prev_events"] = harness.List{5} },
		"a list":                     func(t harness.Object) { t["event"] = harness.List{} },
		"nothing":                    func(t harness.Object) { delete(t, "event") },
		"authorised by a neighbour":  func(t harness.Object) { content(t)["join_authorised_via_users_server"] = carol.UserID },
		"authorised by the user":     func(t harness.Object) { content(t)["join_authorised_via_users_server"] = alice.UserID },
		"authorised by a third part": func(t harness.Object) { content(t)["join_authorised_via_users_server"] = "@x:example.org" },
	} {
		s.Change("GET "+V1+"/make_join/{room}/{user}", func(_ *http.Request, answer harness.Object) { change(answer) })
		if r := join(alice.Unchecked(), room.ID, s.Name); r.Status < 400 || r.At("errcode").Str() == "" {
			t.Errorf("%s: the join ends with %d %s", what, r.Status, r.Body)
		}
		if signed := s.Asked("/send_join/"); len(signed) != 0 {
			t.Fatalf("%s: this came back signed: %s", what, signed[0].Body)
		}
	}
	for _, membership := range []string{"leave", "knock"} {
		room := s.NewRoom("10")
		if membership == "leave" {
			invite := s.Build(room.invite(alice.UserID))
			room.Add(invite)
			room.offer(invite.ID, invite).OK()
		} else {
			room.SetState(s.Mallory(), "m.room.join_rules", "", harness.Object{"join_rule": "knock"})
		}
		s.Change("GET "+V1+"/make_"+membership+"/{room}/{user}", func(_ *http.Request, answer harness.Object) {
			content(answer)["membership"] = "join"
		})
		if membership == "leave" {
			alice.Leave(room.ID) // which succeeds here, and there is not heard of
		} else if r := alice.Post(harness.Path("/v3/knock/%s", room.ID)+harness.Query("via", s.Name), nil); r.Status < 400 {
			t.Errorf("a template of a join is good for a knock: %s", r.Body)
		}
		if signed := s.Asked("/send_" + membership + "/"); len(signed) != 0 {
			t.Errorf("the template of a %s that is one of a join came back signed: %s", membership, signed[0].Body)
		}
	}
}

// Of a template for what was asked for nothing is signed but the place in the room: every other
// field is our own (F25).
func TestTemplatesAreRebuilt(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	for _, v := range []matrix.RoomVersion{"2", "10", "12"} {
		alice := victim.Register(t, "alice")
		room := s.NewRoom(v)
		s.Change("GET "+V1+"/make_join/{room}/{user}", func(_ *http.Request, answer harness.Object) {
			event := answer["event"].(harness.Object)
			maps.Copy(event, harness.Object{"redacts": "$x", "membership": "ban", "origin": victim.Name, "prev_state": harness.List{"$x"}, "org.example.extra": 1,
				"unsigned": harness.Object{"x": 1}, "hashes": harness.Object{"sha256": "x"}, "signatures": harness.Object{s.Name: harness.Object{"ed25519:x": "x"}},
				"origin_server_ts": 1, "event_id": "$mine:" + s.Name})
			maps.Copy(event["content"].(harness.Object), harness.Object{"third_party_invite": harness.Object{"signed": harness.Object{}},
				"org.example.extra": 1, "displayname": "Mallory", "reason": "because", "is_direct": true})
		})
		join(alice, room.ID, s.Name).OK()
		joins := s.Asked("/send_join/")
		sent, err := harness.ParseJSON(joins[len(joins)-1].Body)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"auth_events", "content", "depth", "hashes", "origin_server_ts", "prev_events", "room_id", "sender", "signatures", "state_key", "type"}
		if v.EventIDInEvent() {
			want = append(want[:3:3], append([]string{"event_id"}, want[3:]...)...)
		}
		if got := sent.Keys(); !slices.Equal(got, want) {
			t.Errorf("version %s: the join has the members %v, not %v", v, got, want)
		}
		name := alice.UserID[1:strings.Index(alice.UserID, ":")]
		if got := sent.At("content").String(); got != `{"displayname":"`+name+`","membership":"join"}` && got != `{"membership":"join"}` {
			t.Errorf("version %s: the join has the content %s", v, got)
		}
		if sent.At("origin_server_ts").Int() < 1e12 || strings.HasPrefix(sent.At("event_id").Str(), "$mine") || sent.At("signatures", s.Name).Exists() {
			t.Errorf("version %s: the join is %v", v, sent)
		}
	}
}

// A join that a room does not need somebody to authorise is not signed as authorised, nor one
// for a user who is in no room that would admit them (F24).
func TestJoinsAreNotAuthorisedUnasked(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	space := alice.CreateRoom(nil)
	open := alice.CreateRoom(harness.Object{"preset": "public_chat", "room_version": "10"})
	closed := alice.CreateRoom(harness.Object{"room_version": "10", "initial_state": harness.List{harness.Object{"type": "m.room.join_rules", "state_key": "",
		"content": harness.Object{"join_rule": "restricted", "allow": harness.List{harness.Object{"type": "m.room_membership", "room_id": space}}}}}})
	made := s.Get(harness.Path(V1+"/make_join/%s/%s?ver=10", open, bob)).OK()
	p := s.FromTemplate(made, open, bob, "join")
	s.Get(harness.Path(V1+"/make_join/%s/%s?ver=10", closed, bob)).Refused("a template for a stranger", 400, 403)
	for what, roomID := range map[string]string{"nobody has to": open, "nobody may": closed} {
		p.RoomID = roomID
		p.Content = fmt.Appendf(nil, `{"membership":"join","join_authorised_via_users_server":%q}`, alice.UserID)
		e := s.Build(p)
		s.Put(harness.Path(V2+"/send_join/%s/%s", roomID, e.ID), e).Refused(what, 400, 403).unsignedBy(what, victim)
	}
}
