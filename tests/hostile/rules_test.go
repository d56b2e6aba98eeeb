package hostile

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

// citing is a draft that cites other events than it has to.
func citing(p *matrix.Proto, cited ...*matrix.Event) *matrix.Proto {
	p.AuthEvents = References(cited...)
	return p
}

// Events of another room authorise nothing, in no room version (F16).
func TestCitingAnotherRoom(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob, empty := s.User("bob"), ""
	for _, v := range matrix.RoomVersions() {
		room := publicRoom(alice, s, string(v), bob)
		own := s.NewRoom(v) // where bob may do anything
		own.SetState(bob, "m.room.member", bob, harness.Object{"membership": "join"})
		own.SetState(s.Mallory(), "m.room.power_levels", "", harness.Object{"users": harness.Object{bob: 100}})
		join(alice, own.ID, s.Name).OK() // so that all its events are known
		before := stateIDs(alice, room.ID)
		here, there := room.State(), own.State()
		topic := func() *matrix.Proto {
			return room.Draft(bob, "m.room.topic", &empty, harness.Object{"topic": "mine"})
		}
		say := func() *matrix.Proto {
			return room.Draft(bob, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": "x"})
		}
		create, levels, member := here.Get("m.room.create", ""), here.Get("m.room.power_levels", ""), here.Get("m.room.member", bob)
		all := []*matrix.Event{there.Get("m.room.power_levels", ""), there.Get("m.room.member", bob)}
		mine := []*matrix.Event{levels, member}
		if !v.CreateWithoutRoom() {
			all, mine = append(all, there.Get("m.room.create", "")), append(mine, create)
		}
		for what, p := range map[string]*matrix.Proto{
			"everything":               citing(topic(), all...),
			"the levels":               citing(topic(), append(slices.Clone(mine[1:]), all[0])...),
			"the levels as well":       citing(topic(), append(slices.Clone(mine), all[0])...),
			"the member":               citing(say(), append(slices.DeleteFunc(slices.Clone(mine), func(e *matrix.Event) bool { return e == member }), all[1])...),
			"the create event":         citing(say(), append(slices.DeleteFunc(slices.Clone(mine), func(e *matrix.Event) bool { return e == create }), there.Get("m.room.create", ""))...),
			"the create event as well": citing(say(), append(slices.Clone(mine), there.Get("m.room.create", ""))...),
		} {
			e := s.Build(p)
			s.Send(e)
			hidden(t, alice, room.ID, e.ID, fmt.Sprintf("version %s: %s of another room", v, what))
		}
		if after := stateIDs(alice, room.ID); !maps.Equal(before, after) {
			t.Errorf("version %s: the state was %v, is %v", v, before, after)
		}
		usable(t, alice, s, room.ID)
	}
}

// Events that cannot authorise anything, or not this, make the event that cites them refused,
// whatever they are (F28).
func TestCitingWhatCannotAuthorise(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob, carol, empty := s.User("bob"), s.User("carol"), ""
	for _, v := range []matrix.RoomVersion{"1", "6", "10", "11", "12"} {
		room := publicRoom(alice, s, string(v), bob)
		message := room.Say(bob, "hello")
		odd := room.SetState(bob, "org.example.own", bob, harness.Object{})
		other := room.SetState(carol, "m.room.member", carol, harness.Object{"membership": "join"})
		profile := room.SetState(bob, "m.room.member", bob, harness.Object{"membership": "join", "displayname": "Bob"})
		if refused := s.Send(message, odd, other, profile); len(refused) != 0 {
			t.Fatalf("version %s: %v", v, refused)
		}
		state := room.State()
		create, former := state.Get("m.room.create", ""), message.AuthEvents()
		var joined *matrix.Event
		for _, id := range former {
			if e := room.Event(id); e.IsState("m.room.member", bob) {
				joined = e
			}
		}
		draft := func() *matrix.Proto {
			return room.Draft(bob, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": "x"})
		}
		more := func(events ...*matrix.Event) *matrix.Proto {
			p := draft()
			p.AuthEvents = append(p.AuthEvents, References(events...)...)
			return p
		}
		unknown := draft()
		unknown.AuthEvents = append(unknown.AuthEvents, matrix.Reference{ID: "$" + fmt.Sprintf("%043d", 1)})
		cases := map[string]*matrix.Proto{
			"a message":                        more(message),
			"state of another kind":            more(odd),
			"another user's membership":        more(other),
			"two memberships":                  more(joined),
			"the join rules, for a message":    more(state.Get("m.room.join_rules", "")),
			"nothing":                          citing(draft()),
			"one event twice":                  more(profile),
			"an unknown event":                 unknown,
			"only a message":                   citing(draft(), message),
			"levels of long ago that are none": citing(draft(), message, odd, other),
		}
		if v.CreateWithoutRoom() {
			cases["the create event, which the room's id names"] = more(create)
			delete(cases, "nothing")
		}
		for what, p := range cases {
			e := s.Build(p)
			s.Send(e)
			hidden(t, alice, room.ID, e.ID, fmt.Sprintf("version %s: an event that cites %s", v, what))
		}
		second := s.Build(room.Draft(bob, "m.room.create", &empty, harness.Object{"creator": bob, "room_version": string(v)}))
		s.Send(second)
		hidden(t, alice, room.ID, second.ID, "a second create event (F14)")
		usable(t, alice, s, room.ID)
	}
}

// An event in whose name its sender's server has not signed is none, nor is one of a local user
// that was not made here; one whose content was changed counts without it (F21, F32).
func TestUnsignedAndForeignEvents(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice, erin := victim.Register(t, "alice"), victim.Register(t, "erin")
	s, other := New(t, victim), New(t, victim)
	bob, carol := s.User("bob"), other.User("carol")
	for _, v := range []matrix.RoomVersion{"1", "4", "6", "12"} {
		room := publicRoom(alice, s, string(v), bob)
		other.Join(room.ID, carol)
		room.s.Join(room.ID, bob) // to know of carol
		room = s.room(room.ID)
		member := func(user, sender, membership string) harness.Object {
			return Fields(t, s.Build(room.Draft(sender, "m.room.member", &user, harness.Object{"membership": membership})))
		}
		local := func(user string) *matrix.Signer { return NewSigner(t, matrix.ServerOf(user)) }
		for what, e := range map[string]*Forged{
			"a message without signatures":              ForgeBy(s, v, room.message(bob, "x")),
			"a message signed by another server":        ForgeBy(s, v, room.message(bob, "x"), other.Signer),
			"another server's user's message":           s.Forge(v, room.message(carol, "x")),
			"a local user's message":                    s.Forge(v, room.message(alice.UserID, "x")),
			"a local user's message, as if signed here": ForgeBy(s, v, room.message(alice.UserID, "x"), s.Signer, local(alice.UserID)),
			"a local user's join":                       s.Forge(v, member(erin.UserID, erin.UserID, "join")),
			"a local user's join, as if signed here":    ForgeBy(s, v, member(erin.UserID, erin.UserID, "join"), s.Signer, local(erin.UserID)),
			"a local user's join by bob":                s.Forge(v, member(erin.UserID, bob, "join")),
			"a local user's leave":                      s.Forge(v, member(alice.UserID, alice.UserID, "leave")),
			"a local user's leave by bob":               s.Forge(v, member(alice.UserID, bob, "leave")),
			"a local user's ban by bob":                 s.Forge(v, member(alice.UserID, bob, "ban")),
			"a local user's knock by bob":               s.Forge(v, member(erin.UserID, bob, "knock")),
			"another server's user's join":              s.Forge(v, member(other.User("dave"), other.User("dave"), "join")),
			"another server's user's leave":             s.Forge(v, member(carol, carol, "leave")),
		} {
			s.Send(e)
			hidden(t, alice, room.ID, e.ID, fmt.Sprintf("version %s: %s", v, what))
		}
		members := alice.Get(harness.Path("/v3/rooms/%s/joined_members", room.ID)).OK().At("joined").Keys()
		want := []string{alice.UserID, bob, carol}
		slices.Sort(want)
		if !slices.Equal(members, want) {
			t.Errorf("version %s: the members are %v", v, members)
		}
		if r := erin.Sync(); r.Joined(room.ID).Exists() {
			t.Errorf("version %s: erin is in the room: %s", v, r.Body)
		}
		// A content that was changed on the way.
		good := room.message(bob, "original")
		e := s.Forge(v, good)
		e.JSON = json.RawMessage(replaceOnce(t, string(e.JSON), "original", "changed"))
		if refused := s.Send(e); len(refused) != 0 {
			t.Errorf("version %s: %v", v, refused)
		}
		shown := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/event/%s", room.ID, e.ID)).OK()
		if got := shown.At("content").String(); got != "{}" {
			t.Errorf("version %s: of a changed event there is %s", v, got)
		}
		usable(t, alice, s, room.ID)
	}
}

func replaceOnce(t *testing.T, text, old, by string) string {
	t.Helper()
	for i := range len(text) - len(old) {
		if text[i:i+len(old)] == old {
			return text[:i] + by + text[i+len(old):]
		}
	}
	t.Fatalf("%s is not in %s", old, text)
	return ""
}

// send_join, send_leave and send_knock take that membership of a user of the origin, signed by
// it, for the room and the event of the path, and nothing else (F22, F23).
func TestMembershipsForSomethingElse(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s, other := New(t, victim), New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"10", "12"} {
		rooms := map[string]string{
			"join":  alice.CreateRoom(harness.Object{"preset": "public_chat", "room_version": string(v)}),
			"knock": alice.CreateRoom(harness.Object{"room_version": string(v), "initial_state": harness.List{harness.Object{"type": "m.room.join_rules", "state_key": "", "content": harness.Object{"join_rule": "knock"}}}}),
		}
		rooms["leave"] = rooms["join"]
		for _, membership := range []string{"join", "knock", "leave"} {
			roomID := rooms[membership]
			another := alice.CreateRoom(harness.Object{"preset": "public_chat", "room_version": string(v)})
			if membership == "leave" {
				s.Join(roomID, bob)
			}
			p := s.FromTemplate(s.Get(harness.Path(V1+"/make_"+membership+"/%s/%s?ver="+string(v), roomID, bob)).OK(), roomID, bob, membership)
			good := Fields(t, s.Build(p))
			version := map[string]string{"join": V2, "leave": V2, "knock": V1}[membership]
			put := func(roomID, id string, e any) *Answer {
				return s.Put(harness.Path(version+"/send_"+membership+"/%s/%s", roomID, id), e)
			}
			changed := func(changes harness.Object) *Forged {
				fields := maps.Clone(good)
				maps.Copy(fields, changes)
				return s.Forge(v, fields)
			}
			same := func(e *Forged) *Answer { return put(roomID, e.ID, e) }
			e := s.Forge(v, good)
			unsigned, stranger := ForgeBy(s, v, good), ForgeBy(s, v, good, NewSigner(t, s.Name))
			foreign := changed(harness.Object{"sender": other.User("carol"), "state_key": other.User("carol")})
			broken := changed(harness.Object{"content": harness.Object{"membership": membership, "displayname": "original"}})
			broken.JSON = json.RawMessage(replaceOnce(t, string(broken.JSON), "original", "changed"))
			before := stateIDs(alice, roomID)
			for what, a := range map[string]*Answer{
				"another room in the path":  put(another, e.ID, e),
				"an unknown room":           put("!unknown:"+victim.Name, e.ID, e),
				"another event in the path": put(roomID, "$"+fmt.Sprintf("%043d", 1), e),
				"another room in the event": same(changed(harness.Object{"room_id": another})),
				"a user of a third server":  same(foreign),
				"a local user":              same(changed(harness.Object{"sender": alice.UserID, "state_key": alice.UserID})),
				"a membership of another":   same(changed(harness.Object{"state_key": s.User("dave")})),
				"another's for the user":    same(changed(harness.Object{"sender": s.User("dave")})),
				"no state":                  same(changed(harness.Object{"type": "m.room.message"})),
				"levels":                    same(changed(harness.Object{"type": "m.room.power_levels", "state_key": "", "content": harness.Object{}})),
				"a ban":                     same(changed(harness.Object{"content": harness.Object{"membership": "ban"}})),
				"an invite":                 same(changed(harness.Object{"content": harness.Object{"membership": "invite"}})),
				"no membership":             same(changed(harness.Object{"content": harness.Object{}})),
				"no signature":              put(roomID, unsigned.ID, unsigned),
				"a signature of a stranger": put(roomID, stranger.ID, stranger),
				"a changed content":         same(broken),
				"a list":                    put(roomID, e.ID, harness.List{e.JSON}),
				"nothing":                   put(roomID, e.ID, harness.Object{}),
			} {
				if a.Status != 400 && a.Status != 403 && a.Status != 404 {
					t.Errorf("version %s, %s: %s: %d %s", v, membership, what, a.Status, a.Body)
				}
			}
			for _, wrong := range []string{"join", "leave", "knock"} {
				if wrong != membership {
					version := map[string]string{"join": V2, "leave": V2, "knock": V1}[wrong]
					s.Put(harness.Path(version+"/send_"+wrong+"/%s/%s", roomID, e.ID), e).Refused("a "+membership+" sent as "+wrong, 400, 403)
				}
			}
			if after := stateIDs(alice, roomID); !maps.Equal(before, after) {
				t.Errorf("version %s, %s: the state was %v, is %v", v, membership, before, after)
			}
			same(e).OK()
		}
	}
}

// Whoever has an address that was invited is invited to the room of the path, by a user of this
// server, and is of the origin; otherwise nothing comes of it (F23).
func TestExchangesForSomethingElse(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s, other := New(t, victim), New(t, victim)
	bob := s.User("bob")
	room := publicRoom(alice, s, "11", s.User("carol"))
	another := alice.CreateRoom(harness.Object{"preset": "public_chat"})
	public := base64.RawStdEncoding.EncodeToString(s.Signer.Key.Public().(ed25519.PublicKey))
	alice.SetState(room.ID, "m.room.third_party_invite", "token", harness.Object{"display_name": "b", "public_key": public, "key_validity_url": "https://" + s.Name + "/valid",
		"public_keys": harness.List{harness.Object{"public_key": public}}}).OK()
	signed, err := s.Signer.SignJSON(jsonOf(t, harness.Object{"mxid": bob, "sender": alice.UserID, "token": "token"}))
	if err != nil {
		t.Fatal(err)
	}
	invite := func(roomID, sender, user string) harness.Object {
		return harness.Object{"type": "m.room.member", "room_id": roomID, "sender": sender, "state_key": user,
			"content": harness.Object{"membership": "invite", "third_party_invite": harness.Object{"display_name": "b", "signed": json.RawMessage(signed)}}}
	}
	changed := func(name string, value any) harness.Object {
		e := invite(room.ID, alice.UserID, bob)
		e[name] = value
		return e
	}
	before := stateIDs(alice, room.ID)
	exchange := func(s *Server, roomID string, e any) *Answer {
		return s.Put(harness.Path(V1+"/exchange_third_party_invite/%s", roomID), e)
	}
	for what, a := range map[string]*Answer{
		"another room in the path":  exchange(s, another, invite(room.ID, alice.UserID, bob)),
		"another room in the event": exchange(s, room.ID, invite(another, alice.UserID, bob)),
		"another room in both":      exchange(s, another, invite(another, alice.UserID, bob)),
		"an unknown room":           exchange(s, "!x:"+victim.Name, invite("!x:"+victim.Name, alice.UserID, bob)),
		"another server's user":     exchange(s, room.ID, invite(room.ID, alice.UserID, other.User("bob"))),
		"another server":            exchange(other, room.ID, invite(room.ID, alice.UserID, bob)),
		"another user":              exchange(s, room.ID, invite(room.ID, alice.UserID, s.User("dave"))),
		"another sender":            exchange(s, room.ID, invite(room.ID, s.User("carol"), bob)),
		"levels":                    exchange(s, room.ID, changed("type", "m.room.power_levels")),
		"a join":                    exchange(s, room.ID, changed("content", harness.Object{"membership": "join"})),
		"nothing signed":            exchange(s, room.ID, changed("content", harness.Object{"membership": "invite"})),
		"a list":                    exchange(s, room.ID, harness.List{}),
	} {
		a.Refused(what, 400, 403, 404).unsignedBy(what, victim)
	}
	if after := stateIDs(alice, room.ID); !maps.Equal(before, after) {
		t.Errorf("the state was %v, is %v", before, after)
	}
}

// A redaction counts within its room, for events of the sender's server or with the power to
// redact (F29).
func TestRedactionsOfWhatIsNotTheirs(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		alice := victim.Register(t, "alice")
		s, other := New(t, victim), New(t, victim)
		bob := s.User("bob")
		for _, v := range matrix.RoomVersions() {
			room, elsewhere := publicRoom(alice, s, string(v), bob), s.NewRoom(v)
			elsewhere.SetState(bob, "m.room.member", bob, harness.Object{"membership": "join"})
			join(alice, elsewhere.ID, s.Name).OK()
			carols := other.Join(room.ID, other.User("carol")).Say(other.User("carol"), "carol's")
			other.Send(carols)
			own := room.Say(bob, "bob's")
			s.Send(own)
			alices := s.AwaitEvent(alice.Text(room.ID, "alice's"))
			redact := func(r *Room, target string) *matrix.Event {
				p := r.Draft(bob, "m.room.redaction", nil, harness.Object{"reason": "x"})
				p.Redacts = target
				e := s.Build(p)
				s.Send(e)
				return e
			}
			for what, target := range map[string]*matrix.Event{"alice's": alices, "carol's": carols} {
				redact(room, target.ID)
				redact(elsewhere, target.ID)
				if got := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/event/%s", room.ID, target.ID)).OK().At("content", "body").Str(); got != what {
					t.Errorf("version %s: of %s message there is %q", v, what, got)
				}
			}
			redact(elsewhere, own.ID)
			if got := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/event/%s", room.ID, own.ID)).OK().At("content", "body").Str(); got != "bob's" {
				t.Errorf("version %s: a redaction in another room counts", v)
			}
			redact(room, own.ID)
			if got := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/event/%s", room.ID, own.ID)).OK().At("content").String(); got != "{}" {
				t.Errorf("version %s: of what bob has redacted himself there is %s", v, got)
			}
		}
	})
}

// Redactions that redact each other end, and so does whoever shows them; the create event is
// not redacted by anybody, so that the room keeps its version (F30, F31).
func TestRedactionsInCirclesAndOfTheCreateEvent(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		alice := victim.Register(t, "alice")
		s := New(t, victim)
		for _, v := range matrix.RoomVersions() {
			room := s.NewRoom(v)
			mallory := s.Mallory()
			join(alice, room.ID, s.Name).OK()
			create := room.State().Get("m.room.create", "")
			draft := func(target string) *matrix.Proto {
				p := room.Draft(mallory, "m.room.redaction", nil, harness.Object{})
				p.Redacts = target
				return p
			}
			redaction := s.Build(draft(create.ID))
			room.Add(redaction)
			s.Send(redaction)
			if got := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/state/m.room.create/", room.ID)).OK().At("org.example.room"); !got.Exists() {
				t.Errorf("version %s: the create event is redacted", v)
			}
			// Ids that the sender chooses allow circles; otherwise there are chains.
			first := s.Build(draft("$later" + string(v) + ":" + s.Name))
			if v.EventIDInEvent() {
				later, self := Fields(t, s.Build(draft(first.ID))), Fields(t, first)
				later["event_id"] = first.Redacts
				self["event_id"], self["redacts"] = "$self"+string(v)+":"+s.Name, "$self"+string(v)+":"+s.Name
				s.Send(first, s.Forge(v, later), s.Forge(v, self))
				for _, id := range []string{first.ID, first.Redacts, self["event_id"].(string)} {
					shown(t, alice, room.ID, id, "a redaction of a circle")
				}
			} else {
				room.Add(first)
				second := s.Build(draft(first.ID))
				room.Add(second)
				third := s.Build(draft(second.ID))
				room.Add(third)
				s.Send(third, second, first)
			}
			alice.History(room.ID)
			alice.Sync()
			usable(t, alice, s, room.ID)
			// The version has stayed: what that version alone allows is allowed.
			if r := join(victim.Register(t, "erin"), room.ID, s.Name); r.Status != 200 {
				t.Errorf("version %s: nobody can join any more: %s", v, r.Body)
			}
		}
	})
}

// The creators of a room of version 12 stand above all levels, and no level is given to them
// (F15).
func TestCreatorsOverTheWire(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob, empty := s.User("bob"), ""
	room := publicRoom(alice, s, "12", bob)
	most := harness.Object{"users": harness.Object{bob: matrix.MaxSafeInteger}}
	alice.SetState(room.ID, "m.room.power_levels", "", most).OK()
	Await(t, "bob's power", func() bool {
		var content struct{ Users map[string]int64 }
		return json.Unmarshal(room.State().Get("m.room.power_levels", "").Content, &content) == nil && content.Users[bob] > 0
	})
	for what, p := range map[string]*matrix.Proto{
		"a kick of the creator":       room.Draft(bob, "m.room.member", &alice.UserID, harness.Object{"membership": "leave"}),
		"a ban of the creator":        room.Draft(bob, "m.room.member", &alice.UserID, harness.Object{"membership": "ban"}),
		"a level for the creator":     room.Draft(bob, "m.room.power_levels", &empty, harness.Object{"users": harness.Object{bob: matrix.MaxSafeInteger, alice.UserID: 100}}),
		"a low level for the creator": room.Draft(bob, "m.room.power_levels", &empty, harness.Object{"users": harness.Object{bob: matrix.MaxSafeInteger, alice.UserID: -1}}),
	} {
		e := s.Build(p)
		s.Send(e)
		hidden(t, alice, room.ID, e.ID, what)
	}
	s.Send(room.SetState(bob, "m.room.power_levels", "", harness.Object{"users": harness.Object{bob: matrix.MaxSafeInteger}, "state_default": matrix.MaxSafeInteger}))
	alice.SetState(room.ID, "m.room.power_levels", "", harness.Object{"users": harness.Object{}}).OK()
	for what, creators := range map[string]any{"a number": harness.List{5}, "a text": "@x:y", "no user id": harness.List{"x"}, "null": nil} {
		bad := s.NewRoomWith("12", "", harness.Object{"additional_creators": creators})
		if r := join(alice, bad.ID, s.Name); r.Status < 400 {
			t.Errorf("a room whose additional creators are %s: %s", what, r.Body)
		}
	}
}

// Levels that are written in another form than the room version has are none, and those for
// messages count (F18).
func TestLevelsOfOthers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"1", "9", "10", "12"} {
		for _, level := range []any{50, "50"} {
			room := s.NewRoom(v)
			join(alice, room.ID, s.Name).OK()
			s.Send(room.SetState(bob, "m.room.member", bob, harness.Object{"membership": "join"}))
			users := harness.Object{s.Mallory(): 100}
			if v.PrivilegedCreators() {
				users = harness.Object{}
			}
			levels := s.Build(room.Draft(s.Mallory(), "m.room.power_levels", new(string), harness.Object{"users": users, "events_default": level}))
			s.Send(levels)
			_, isText := level.(string)
			valid := !isText || !v.IntegerPowerLevels()
			if got := sees(alice, room.ID, levels.ID); got != valid {
				t.Fatalf("version %s: levels of %T: shown %v", v, level, got)
			}
			if valid {
				room.Add(levels)
			}
			said := s.Build(room.Draft(bob, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": "x"}))
			s.Send(said)
			if got := sees(alice, room.ID, said.ID); got == valid {
				t.Errorf("version %s, events_default %#v: bob's message: shown %v", v, level, got)
			}
			r := alice.SendEvent(room.ID, "m.room.message", "t", harness.Object{"msgtype": "m.text", "body": "x"})
			if valid {
				r.Fails(403, "M_FORBIDDEN")
			} else {
				r.OK()
			}
		}
	}
}
