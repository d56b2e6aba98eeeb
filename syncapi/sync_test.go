package syncapi_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/roomserver"
)

// equal fails the test where something is not as wanted.
func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

func TestInitial(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Name: "Office"})
		s.join(room, bob)
		for _, body := range []string{"1", "2", "3"} {
			s.say(room, alice, body)
		}
		a := s.sync(bob, "filter", `{"room":{"timeline":{"limit":2}}}`)
		r := a.Rooms.Join[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"2", "3"})
		equal(t, "limited", r.Timeline.Limited, true)
		equal(t, "state", r.State.sorted(), []string{"alice:join", "bob:join", "create", "history_visibility", "join_rules", "name", "power_levels"})
		equal(t, "joined members", *r.Summary.Joined, 2)

		a = s.sync(bob, "filter", `{"room":{"timeline":{"limit":100}}}`)
		r = a.Rooms.Join[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"create", "alice:join", "power_levels", "join_rules", "history_visibility",
			"name", "bob:join", "1", "2", "3"})
		equal(t, "limited", r.Timeline.Limited, false)
		equal(t, "state", r.State.sorted(), []string{})
	})
}

func TestIncremental(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		since := s.sync(bob).NextBatch
		equal(t, "sections with nothing new", s.sync(bob, "since", since).sections(room), nil)
		id := s.say(room, alice, "hello")
		a := s.sync(bob, "since", since)
		r := a.Rooms.Join[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"hello"})
		equal(t, "id", r.Timeline.Events[0].ID, id)
		equal(t, "membership", r.Timeline.Events[0].Unsigned.Membership, "join")
		equal(t, "limited", r.Timeline.Limited, false)
		if r.State != nil || r.Summary != nil {
			t.Errorf("a message brings state %v and summary %v", r.State, r.Summary)
		}
	})
}

// page gives the messages before a token, nearest first, until it meets one of
// the events.
func (s *server) page(room, userID, from string, until map[string]bool) (briefs []string) {
	s.Helper()
	access := must(s.rooms.Access(s.Context(), room, userID))(s)
	q := roomserver.PageQuery{Backwards: true, Limit: 2, From: must(roomserver.ParseToken(from))(s)}
	for {
		page := must(s.rooms.Messages(s.Context(), access, q))(s)
		for _, e := range page.Events {
			if until[e.ID] {
				return briefs
			}
			briefs = append(briefs, e.ContentString("body"))
		}
		if !page.More {
			return briefs
		}
		q.From = page.End
	}
}

func TestGap(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		s.setState(room, alice, "m.room.topic", "", `{"topic":"old"}`)
		first := s.sync(bob, "filter", `{"room":{"timeline":{"limit":1}}}`)
		equal(t, "first timeline", first.Rooms.Join[room].Timeline.briefs(), []string{"topic"})
		known := map[string]bool{first.Rooms.Join[room].Timeline.Events[0].ID: true}

		s.say(room, alice, "1")
		s.setState(room, alice, "m.room.topic", "", `{"topic":"between"}`)
		s.say(room, alice, "2")
		topic := s.setState(room, alice, "m.room.topic", "", `{"topic":"before the timeline"}`)
		s.setState(room, alice, "m.room.name", "", `{"name":"in the gap"}`)
		s.say(room, alice, "3")
		s.setState(room, alice, "m.room.topic", "", `{"topic":"in the timeline"}`)
		s.say(room, alice, "4")

		a := s.sync(bob, "since", first.NextBatch, "filter", `{"room":{"timeline":{"limit":3}}}`)
		r := a.Rooms.Join[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"3", "topic", "4"})
		equal(t, "limited", r.Timeline.Limited, true)
		equal(t, "state", r.State.sorted(), []string{"name", "topic"})
		for _, e := range r.State.Events {
			if e.Type == "m.room.topic" && e.ID != topic {
				t.Errorf("the state before the timeline has the topic %s", e.Content)
			}
		}
		equal(t, "what lies between", s.page(room, bob, r.Timeline.PrevBatch, known), []string{"", "", "2", "", "1"})

		a = s.sync(bob, "since", first.NextBatch, "filter", `{"room":{"timeline":{"limit":100}}}`)
		r = a.Rooms.Join[room]
		equal(t, "whole timeline", r.Timeline.briefs(), []string{"1", "topic", "2", "topic", "name", "3", "topic", "4"})
		equal(t, "limited", r.Timeline.Limited, false)
		if r.State != nil {
			t.Errorf("the timeline is whole, and there is state before it: %v", r.State.briefs())
		}
	})
}

func TestStateAfter(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		since := s.sync(bob).NextBatch
		s.setState(room, alice, "m.room.topic", "", `{"topic":"1"}`)
		s.setState(room, alice, "m.room.name", "", `{"name":"n"}`)
		topic := s.setState(room, alice, "m.room.topic", "", `{"topic":"2"}`)
		s.say(room, alice, "hi")
		for _, limit := range []string{"1", "2", "50"} {
			filter := `{"room":{"timeline":{"limit":` + limit + `}}}`
			r := s.sync(bob, "since", since, "filter", filter, "use_state_after", "true").Rooms.Join[room]
			if r.State != nil || r.Unstable != nil {
				t.Error("state_after comes with state")
			}
			equal(t, "state after a timeline of "+limit, r.StateAfter.sorted(), []string{"name", "topic"})
			equal(t, "topic", r.StateAfter.Events[1].ID, topic)
			r = s.sync(bob, "since", since, "filter", filter, "org.matrix.msc4222.use_state_after", "true").Rooms.Join[room]
			equal(t, "unstable state after a timeline of "+limit, r.Unstable.sorted(), []string{"name", "topic"})

			r = s.sync(bob, "filter", filter, "use_state_after", "true").Rooms.Join[room]
			equal(t, "first state after a timeline of "+limit, r.StateAfter.sorted(), []string{"alice:join", "bob:join", "create", "history_visibility", "join_rules", "name", "power_levels", "topic"})
		}
		since = s.sync(bob).NextBatch
		s.say(room, alice, "no state")
		r := s.sync(bob, "since", since, "use_state_after", "true").Rooms.Join[room]
		if r.StateAfter == nil || len(r.StateAfter.Events) > 0 {
			t.Errorf("state_after is %v where no state has changed", r.StateAfter)
		}
	})
}

func TestFullState(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room, quiet := s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{Name: "quiet"})
		since := s.sync(alice).NextBatch
		s.say(room, alice, "1")
		s.setState(room, alice, "m.room.topic", "", `{"topic":"t"}`)
		s.say(room, alice, "2")
		a := s.sync(alice, "since", since, "full_state", "true", "timeout", "100000")
		base := []string{"alice:join", "create", "history_visibility", "join_rules"}
		equal(t, "state", a.Rooms.Join[room].State.sorted(), append(base, "power_levels"))
		equal(t, "timeline", a.Rooms.Join[room].Timeline.briefs(), []string{"1", "topic", "2"})
		equal(t, "state of the quiet room", a.Rooms.Join[quiet].State.sorted(), append(base, "name", "power_levels"))
		equal(t, "timeline of the quiet room", a.Rooms.Join[quiet].Timeline.briefs(), []string{})
		a = s.sync(alice, "since", since, "full_state", "true", "use_state_after", "true")
		equal(t, "state after", a.Rooms.Join[room].StateAfter.sorted(), append(base, "power_levels", "topic"))
	})
}

func TestTokens(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		since := s.sync(alice).NextBatch
		for _, future := range []string{"s8796093022000", since + "9"} {
			a := s.sync(alice, "since", future)
			equal(t, "next_batch after a token from the future", a.NextBatch, since)
		}
		s.say(room, alice, "hi")
		a := s.sync(alice, "since", since)
		equal(t, "timeline", a.Rooms.Join[room].Timeline.briefs(), []string{"hi"})
		a = s.sync(alice, "since", "s0")
		equal(t, "sections since the beginning", a.sections(room), []string{"join"})
		last := a.Rooms.Join[room].Timeline.briefs()
		equal(t, "the last of all", last[len(last)-1], "hi")
	})
}

func TestGarbage(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		s.create(roomserver.RoomDraft{})
		for _, params := range [][]string{
			{"since", "x"}, {"since", "s"}, {"since", "s-1"}, {"since", "s1.5"}, {"since", "s99999999999999999999"}, {"since", "t1"},
			{"since", "s 1"}, {"since", "s9223372036854775807"}, {"since", "s\x00"}, {"since", "\xff"},
			{"filter", "{"}, {"filter", `{"room":3}`}, {"filter", `{"room":{"timeline":{"limit":"x"}}}`}, {"filter", `{"event_fields":{}}`},
			{"filter", `{"room":{"timeline":{"types":"m.room.message"}}}`}, {"filter", `{"event_format":"x"}`},
			{"timeout", "x"}, {"timeout", "1e9"}, {"timeout", "99999999999999999999"}, {"full_state", "yes"}, {"use_state_after", "1"},
			{"set_presence", "here"},
		} {
			resp, body := s.get(alice, params...)
			if resp.StatusCode != 400 {
				t.Errorf("%q: status %d: %s", params, resp.StatusCode, body)
			}
		}
		if resp, body := s.get(alice, "filter", "unknown"); resp.StatusCode != 404 {
			t.Errorf("an unknown filter: status %d: %s", resp.StatusCode, body)
		}
		for _, params := range [][]string{{"timeout", "-5"}, {"since", ""}, {"filter", `{"room":{"timeline":{"limit":100000000}}}`}} {
			s.sync(alice, params...)
		}
	})
}
