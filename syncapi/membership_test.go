package syncapi_test

import (
	"slices"
	"testing"

	"beep/roomserver"
)

func TestJoinInBetween(t *testing.T) {
	memberships := map[string]string{"early": "leave", "bob:invite": "invite", "invited": "invite", "bob:join": "join", "late": "join"}
	for visibility, want := range map[string][]string{
		"shared":         {"early", "bob:invite", "invited", "bob:join", "late"},
		"world_readable": {"early", "bob:invite", "invited", "bob:join", "late"},
		"invited":        {"bob:invite", "invited", "bob:join", "late"},
		"joined":         {"bob:join", "late"},
	} {
		t.Run(visibility, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				room := s.create(roomserver.RoomDraft{Preset: "private_chat"})
				s.setState(room, alice, "m.room.history_visibility", "", `{"history_visibility":"`+visibility+`"}`)
				since := s.sync(bob).NextBatch
				s.say(room, alice, "early")
				s.invite(room, alice, bob)
				s.say(room, alice, "invited")
				s.join(room, bob)
				s.say(room, alice, "late")
				filter := []string{"filter", `{"room":{"timeline":{"limit":5}}}`}
				for _, params := range [][]string{filter, append([]string{"since", since}, filter...)} {
					a := s.sync(bob, params...)
					equal(t, "sections", a.sections(room), []string{"join"})
					r := a.Rooms.Join[room]
					equal(t, "timeline", slices.DeleteFunc(r.Timeline.briefs(), func(b string) bool { return memberships[b] == "" }), want)
					equal(t, "limited", r.Timeline.Limited, true)
					got := append(r.Timeline.briefs(), r.State.briefs()...)
					for _, brief := range []string{"create", "alice:join", "bob:join", "power_levels", "join_rules", "history_visibility"} {
						if !slices.Contains(got, brief) {
							t.Errorf("%s is neither in the state nor in the timeline: %v", brief, got)
						}
					}
					for _, e := range r.Timeline.Events {
						if membership := memberships[e.brief()]; membership != "" {
							equal(t, "membership at "+e.brief(), e.Unsigned.Membership, membership)
						}
					}
				}
			})
		})
	}
}

func TestNewRoom(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		since := s.sync(alice).NextBatch
		room := s.create(roomserver.RoomDraft{})
		r := s.sync(alice, "since", since).Rooms.Join[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"create", "alice:join", "power_levels", "join_rules", "history_visibility"})
		equal(t, "limited", r.Timeline.Limited, false)
		equal(t, "state", r.State.briefs(), []string{})
		equal(t, "joined members", *r.Summary.Joined, 1)

		// A timeline without the room's beginning is not what followed on anything.
		s.say(room, alice, "1")
		since = s.sync(bob).NextBatch
		s.join(room, bob)
		r = s.sync(bob, "since", since, "filter", `{"room":{"timeline":{"types":["m.room.message"]}}}`).Rooms.Join[room]
		equal(t, "filtered timeline", r.Timeline.briefs(), []string{"1"})
		equal(t, "limited", r.Timeline.Limited, true)
	})
}

// What the user was told of before a leave is told again after the next join; a
// leave and a join in between are like any other events.
func TestRejoin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.setState(room, alice, "m.room.history_visibility", "", `{"history_visibility":"joined"}`)
		s.join(room, bob)
		since := s.sync(bob).NextBatch
		s.say(room, alice, "1")
		s.leave(room, bob)
		s.say(room, alice, "hidden")
		s.setState(room, alice, "m.room.topic", "", `{"topic":"replaced while bob was away"}`)
		s.setState(room, alice, "m.room.topic", "", `{"topic":"set while bob was away"}`)
		s.join(room, bob)
		s.say(room, alice, "2")
		a := s.sync(bob, "since", since)
		equal(t, "sections", a.sections(room), []string{"join"})
		r := a.Rooms.Join[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"1", "bob:leave", "topic", "bob:join", "2"})
		equal(t, "limited", r.Timeline.Limited, false)
		equal(t, "topic", r.Timeline.Events[2].text("topic"), "set while bob was away")

		since = a.NextBatch
		s.leave(room, bob)
		since = s.sync(bob, "since", since).NextBatch
		s.join(room, bob)
		r = s.sync(bob, "since", since).Rooms.Join[room]
		equal(t, "limited", r.Timeline.Limited, true)
		if len(r.State.Events) == 0 {
			t.Error("a room that was joined again comes without its state")
		}
	})
}

func TestLeave(t *testing.T) {
	type end func(s *server, room string)
	for name, leave := range map[string]end{
		"leave": func(s *server, room string) { s.leave(room, bob) },
		"kick":  func(s *server, room string) { s.kick(room, alice, bob) },
		"ban":   func(s *server, room string) { s.ban(room, alice, bob) },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				room := s.create(roomserver.RoomDraft{})
				s.join(room, bob)
				since := s.sync(bob).NextBatch
				s.setState(room, alice, "m.room.topic", "", `{"topic":"before"}`)
				s.say(room, alice, "before")
				leave(s, room)
				s.setState(room, alice, "m.room.topic", "", `{"topic":"after"}`)
				s.say(room, alice, "after")
				last := "bob:leave"
				if name == "ban" {
					last = "bob:ban"
				}
				a := s.sync(bob, "since", since)
				equal(t, "sections", a.sections(room), []string{"leave"})
				r := a.Rooms.Leave[room]
				equal(t, "timeline", r.Timeline.briefs(), []string{"topic", "before", last})
				equal(t, "topic", r.Timeline.Events[0].text("topic"), "before")
				equal(t, "state", r.State.briefs(), []string{})

				r = s.sync(bob, "since", since, "filter", `{"room":{"timeline":{"limit":1}}}`).Rooms.Leave[room]
				equal(t, "short timeline", r.Timeline.briefs(), []string{last})
				equal(t, "limited", r.Timeline.Limited, true)
				equal(t, "state in the gap", r.State.briefs(), []string{"topic"})
				equal(t, "topic in the gap", r.State.Events[0].text("topic"), "before")

				r = s.sync(bob, "since", since, "use_state_after", "true").Rooms.Leave[room]
				equal(t, "topic after", r.StateAfter.Events[0].text("topic"), "before")

				// From here on nothing of the room is told, whatever happens there.
				s.setState(room, alice, "m.room.name", "", `{"name":"secret"}`)
				equal(t, "sections afterwards", s.sync(bob, "since", a.NextBatch).sections(room), nil)
				equal(t, "sections for a new client", s.sync(bob).sections(room), nil)
				a = s.sync(bob, "filter", `{"room":{"include_leave":true,"timeline":{"limit":2}}}`)
				equal(t, "sections with include_leave", a.sections(room), []string{"leave"})
				r = a.Rooms.Leave[room]
				equal(t, "old timeline", r.Timeline.briefs(), []string{"before", last})
				equal(t, "old state", r.State.sorted(), []string{"alice:join", "bob:join", "create", "history_visibility",
					"join_rules", "power_levels", "topic"})
				for _, e := range r.State.Events {
					if e.Type == "m.room.topic" {
						equal(t, "old topic", e.text("topic"), "before")
					}
				}
				if name != "ban" {
					s.check(s.rooms.Forget(s.Context(), room, bob))
					a = s.sync(bob, "filter", `{"room":{"include_leave":true}}`)
					equal(t, "sections of a forgotten room", a.sections(room), nil)
					equal(t, "sections since", s.sync(bob, "since", since).sections(room), nil)
				}
			})
		})
	}
}

func TestJoinAndLeaveInBetween(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.setState(room, alice, "m.room.history_visibility", "", `{"history_visibility":"joined"}`)
		since := s.sync(bob).NextBatch
		s.say(room, alice, "hidden")
		s.join(room, bob)
		s.say(room, alice, "seen")
		s.leave(room, bob)
		s.say(room, alice, "hidden too")
		s.setState(room, alice, "m.room.topic", "", `{"topic":"after"}`)
		s.ban(room, alice, bob)
		a := s.sync(bob, "since", since, "filter", `{"room":{"timeline":{"limit":3}}}`)
		equal(t, "sections", a.sections(room), []string{"leave"})
		r := a.Rooms.Leave[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"bob:join", "seen", "bob:leave"})
		equal(t, "state", r.State.sorted(), []string{"alice:join", "create", "history_visibility", "join_rules", "power_levels"})
	})
}

func TestInvite(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Preset: "private_chat", Name: "Secrets"})
		s.say(room, alice, "not for bob")
		since := s.sync(bob).NextBatch
		s.invite(room, alice, bob)
		s.setState(room, alice, "m.room.topic", "", `{"topic":"later"}`)
		for _, params := range [][]string{{"since", since}, nil} {
			a := s.sync(bob, params...)
			equal(t, "sections", a.sections(room), []string{"invite"})
			state := a.Rooms.Invite[room].InviteState
			equal(t, "invite state", state.sorted(), []string{"alice:join", "bob:invite", "create", "join_rules", "name"})
			for _, e := range state.Events {
				if e.ID != "" || e.Unsigned.Age != nil || e.StateKey == nil {
					t.Errorf("%s is not stripped", e.brief())
				}
			}
		}
		told := s.sync(bob, "since", since).NextBatch
		equal(t, "sections once told", s.sync(bob, "since", told).sections(room), nil)
		s.leave(room, bob)
		a := s.sync(bob, "since", told)
		equal(t, "sections when declined", a.sections(room), []string{"leave"})
		equal(t, "timeline when declined", a.Rooms.Leave[room].Timeline.briefs(), []string{"bob:leave"})
		equal(t, "state when declined", a.Rooms.Leave[room].State.briefs(), []string{})
		equal(t, "sections for a new client", s.sync(bob, "filter", `{"room":{"include_leave":true}}`).sections(room), nil)

		s.invite(room, alice, bob)
		s.join(room, bob)
		equal(t, "sections when invited and joined", s.sync(bob, "since", a.NextBatch).sections(room), []string{"join"})
	})
}

func TestKnock(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Preset: "private_chat", Name: "Club",
			InitialState: []roomserver.StateDraft{{Type: "m.room.join_rules", Content: []byte(`{"join_rule":"knock"}`)}}})
		since := s.sync(bob).NextBatch
		s.check(s.rooms.Knock(s.Context(), room, roomserver.MemberChange{Sender: bob, Reason: "please"}))
		for _, params := range [][]string{{"since", since}, nil} {
			a := s.sync(bob, params...)
			equal(t, "sections", a.sections(room), []string{"knock"})
			equal(t, "knock state", a.Rooms.Knock[room].KnockState.sorted(), []string{"bob:knock", "create", "join_rules", "name"})
		}
		since = s.sync(bob).NextBatch
		s.kick(room, alice, bob)
		a := s.sync(bob, "since", since)
		equal(t, "sections when refused", a.sections(room), []string{"leave"})
		equal(t, "timeline when refused", a.Rooms.Leave[room].Timeline.briefs(), []string{"bob:leave"})
	})
}

func TestBanOfAStranger(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Preset: "private_chat"})
		since := s.sync(bob).NextBatch
		s.say(room, alice, "secret")
		s.ban(room, alice, bob)
		s.say(room, alice, "secret")
		a := s.sync(bob, "since", since)
		equal(t, "sections", a.sections(room), []string{"leave"})
		equal(t, "timeline", a.Rooms.Leave[room].Timeline.briefs(), []string{"bob:ban"})
		equal(t, "state", a.Rooms.Leave[room].State.briefs(), []string{})
	})
}

func TestIgnoredUsers(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Preset: "public_chat"})
		s.join(room, bob, carol)
		s.say(room, carol, "1")
		s.say(room, alice, "2")
		since := s.sync(bob).NextBatch
		s.ignore(bob, carol, bob)
		last := func(a *synced) []string {
			briefs := a.Rooms.Join[room].Timeline.briefs()
			return slices.DeleteFunc(briefs, func(b string) bool { return len(b) > 1 && b != "carol:join" && b != "m.thing/x" })
		}
		equal(t, "timeline of a new client", last(s.sync(bob)), []string{"carol:join", "2"})
		s.say(room, carol, "3")
		s.say(room, bob, "4")
		s.setState(room, alice, "m.room.power_levels", "", `{"users_default":50}`)
		s.setState(room, carol, "m.thing", "x", `{}`)
		secret := s.create(roomserver.RoomDraft{Creator: carol, Preset: "private_chat", Invite: []string{bob}})
		s.check(s.typing.Start(s.Context(), room, carol, roomserver.DefaultTyping))
		s.check(s.typing.Start(s.Context(), room, alice, roomserver.DefaultTyping))
		s.check(s.rooms.MarkRead(s.Context(), room, carol, roomserver.ReadMarkers{Read: s.say(room, alice, "5")}))
		a := s.sync(bob, "since", since)
		equal(t, "timeline", last(a), []string{"4", "m.thing/x", "5"})
		equal(t, "sections of the invite", a.sections(secret), nil)
		equal(t, "sections of the invite for a new client", s.sync(bob).sections(secret), nil)
		equal(t, "ephemeral", len(a.Rooms.Join[room].Ephemeral.Events), 1)
		equal(t, "typing", string(a.Rooms.Join[room].Ephemeral.Events[0].Content), `{"user_ids":["`+alice+`"]}`)

		since = a.NextBatch
		s.say(room, carol, "6")
		equal(t, "sections with news of ignored users only", s.sync(bob, "since", since).sections(room), nil)
		s.ignore(bob)
		s.say(room, carol, "7")
		a = s.sync(bob, "since", since)
		equal(t, "timeline when nobody is ignored any more", last(a), []string{"6", "7"})
	})
}
