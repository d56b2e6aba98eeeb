package syncapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"beep/roomserver"
)

const lazyFilter = `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":2}}}`

// members are the member events of a section, in alphabetical order.
func members(b batch) []string {
	return slices.DeleteFunc(b.sorted(), func(brief string) bool {
		return !slices.Contains([]string{":join", ":leave", ":invite"}, suffix(brief))
	})
}

func suffix(brief string) string {
	for i := range brief {
		if brief[i] == ':' {
			return brief[i:]
		}
	}
	return ""
}

func TestLazyMembers(t *testing.T) {
	for _, section := range []string{"state", "state_after"} {
		t.Run(section, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				room := s.create(roomserver.RoomDraft{Name: "n"})
				s.join(room, bob, carol, dave)
				s.say(room, bob, "1")
				s.say(room, carol, "2")
				s.say(room, carol, "3")
				since := ""
				sync := func(filter string) syncedRoom {
					a := s.sync(alice, "filter", filter, "since", since, "use_state_after", fmt.Sprint(section == "state_after"))
					since = a.NextBatch
					return a.Rooms.Join[room]
				}
				first := since
				r := sync(lazyFilter)
				equal(t, "first members", members(r.stateEvents()), []string{"alice:join", "carol:join"})
				equal(t, "other state", len(r.stateEvents().Events), 2+5)

				s.say(room, carol, "4")
				equal(t, "members of a known sender", members(sync(lazyFilter).stateEvents()), []string{})
				s.say(room, bob, "5")
				before := since
				equal(t, "members of a new sender", members(sync(lazyFilter).stateEvents()), []string{"bob:join"})
				since = before
				equal(t, "members when the answer was lost", members(sync(lazyFilter).stateEvents()), []string{"bob:join"})
				s.say(room, bob, "6")
				equal(t, "members of a known sender", members(sync(lazyFilter).stateEvents()), []string{})
				s.say(room, bob, "7")
				redundant := `{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true}}}`
				equal(t, "redundant members", members(sync(redundant).stateEvents()), []string{"bob:join"})

				// What happens in the gap is told, needed or not.
				s.leave(room, dave)
				s.say(room, carol, "8")
				s.say(room, carol, "9")
				s.say(room, carol, "10")
				equal(t, "members in the gap", members(sync(lazyFilter).stateEvents()), []string{"dave:leave"})

				// A member whom the timeline tells of need not be told of before.
				s.join(room, dave)
				s.say(room, dave, "11")
				want := map[string][]string{"state": {}, "state_after": {"dave:join"}}[section]
				equal(t, "members of the timeline", members(sync(lazyFilter).stateEvents()), want)

				s.say(room, dave, "12")
				s.check(s.rooms.Join(s.Context(), room, roomserver.MemberChange{Sender: dave, Content: json.RawMessage(`{"displayname":"D"}`)}))
				r = sync(`{"room":{"state":{"lazy_load_members":true}}}`)
				want = map[string][]string{"state": {}, "state_after": {"dave:join"}}[section]
				equal(t, "members of a new name", members(r.stateEvents()), want)

				// What the user knew before being away may have changed since.
				s.leave(room, alice)
				sync(lazyFilter)
				s.join(room, alice)
				r = sync(lazyFilter)
				equal(t, "members after another join", members(r.stateEvents()), []string{"alice:join"})
				s.say(room, bob, "13")
				equal(t, "members of a sender known before", members(sync(lazyFilter).stateEvents()), []string{"bob:join"})
				s.say(room, dave, "14")
				s.say(room, dave, "15")

				since = first
				equal(t, "members of a client that begins anew", members(sync(lazyFilter).stateEvents()), []string{"alice:join", "dave:join"})
				s.leave(room, dave)
				s.join(room, dave)
				since = first
				want = map[string][]string{"state": {"alice:join"}, "state_after": {"alice:join", "dave:join"}}[section]
				equal(t, "members who have come in the first timeline", members(sync(lazyFilter).stateEvents()), want)
			})
		})
	}
}

// A sender who changes the name after a message was called otherwise before.
func TestLazyMemberBeforeTimeline(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Name: "n"})
		s.join(room, bob)
		s.say(room, alice, "1")
		s.say(room, alice, "2")
		since := s.sync(alice, "filter", lazyFilter).NextBatch
		s.say(room, bob, "3")
		s.check(s.rooms.Join(s.Context(), room, roomserver.MemberChange{Sender: bob, Content: json.RawMessage(`{"displayname":"B"}`)}))
		for _, params := range [][]string{{"since", since}, nil} {
			r := s.sync(alice, append(params, "filter", lazyFilter)...).Rooms.Join[room]
			for _, e := range r.State.Events {
				if e.Type == "m.room.member" && *e.StateKey == bob && e.text("displayname") != "" {
					t.Errorf("before the timeline bob was called %q", e.text("displayname"))
				}
			}
			if !slices.Contains(members(*r.State), "bob:join") {
				t.Errorf("bob's member event before the timeline is missing: %v", r.State.briefs())
			}
		}
	})
}

func TestSummary(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		many := []string{"@u1:hs.example", "@u2:hs.example", "@u3:hs.example", "@u4:hs.example", "@u5:hs.example"}
		s.register(many...)
		room, named := s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{Name: "Office"})
		s.join(room, bob)
		s.invite(room, alice, carol)
		a := s.sync(alice)
		check := func(what string, r syncedRoom, joined, invited int, heroes ...string) {
			t.Helper()
			if r.Summary == nil {
				t.Fatalf("%s: no summary", what)
			}
			equal(t, what+": joined", *r.Summary.Joined, joined)
			equal(t, what+": invited", *r.Summary.Invited, invited)
			if heroes == nil {
				equal(t, what+": heroes", r.Summary.Heroes, nil)
			} else {
				equal(t, what+": heroes", *r.Summary.Heroes, heroes)
			}
		}
		check("first", a.Rooms.Join[room], 2, 1, bob, carol)
		check("named", a.Rooms.Join[named], 1, 0)

		s.say(room, bob, "hi")
		since := a.NextBatch
		if a = s.sync(alice, "since", since); a.Rooms.Join[room].Summary != nil {
			t.Error("a message brings a summary")
		}
		since = a.NextBatch
		s.join(room, append([]string{carol}, many...)...)
		r := s.sync(alice, "since", since).Rooms.Join[room]
		check("after joins", r, 8, 0, bob, carol, many[0], many[1], many[2])
		short := s.sync(alice, "since", since, "filter", `{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`).Rooms.Join[room]
		check("after a gap", short, 8, 0, bob, carol, many[0], many[1], many[2])

		a = s.sync(alice)
		since = a.NextBatch
		s.setState(room, alice, "m.room.name", "", `{"name":"Club"}`)
		a = s.sync(alice, "since", since)
		check("with a name", a.Rooms.Join[room], 8, 0)
		since = a.NextBatch
		s.setState(room, alice, "m.room.name", "", `{"name":""}`)
		a = s.sync(alice, "since", since)
		check("with an empty name", a.Rooms.Join[room], 8, 0, bob, carol, many[0], many[1], many[2])
		since = a.NextBatch
		for _, id := range append([]string{bob, carol}, many...) {
			s.leave(room, id)
		}
		a = s.sync(alice, "since", since)
		check("alone", a.Rooms.Join[room], 1, 0, bob, carol, many[0], many[1], many[2])
		check("alone, for a new client", s.sync(alice).Rooms.Join[room], 1, 0, bob, carol, many[0], many[1], many[2])
	})
}

// The heroes come with their member events, where members are loaded lazily.
func TestHeroesAreMembers(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		s.invite(room, alice, carol)
		s.say(room, alice, "1")
		s.say(room, alice, "2")
		a := s.sync(alice, "filter", lazyFilter)
		equal(t, "members", members(*a.Rooms.Join[room].State), []string{"alice:join", "bob:join", "carol:invite"})
		s.say(room, bob, "3")
		a = s.sync(alice, "since", a.NextBatch, "filter", lazyFilter)
		equal(t, "members once known", members(a.Rooms.Join[room].stateEvents()), []string{})
	})
}
