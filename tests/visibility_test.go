package tests

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

// The messages of the story that the visibility tests tell.
var story = []string{"before the invite", "while invited", "while joined", "after leaving"}

// A room is created with each visibility. Bob is invited, joins and leaves, and alice
// sends a message in each part. What each reader may see of it, by the rules of
// "History visibility", is the same on every way to read.
var visible = []struct {
	visibility           string
	joined, left, nobody []string // bob while he is in the room and after he left; somebody who never was in it
}{
	{"joined", story[2:3], story[2:3], nil},
	{"invited", story[1:3], story[1:3], nil},
	{"shared", story[:3], story[:3], nil},
	{"world_readable", story[:3], story, story},
}

func TestHistoryVisibility(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for _, test := range visible {
			t.Run(test.visibility, func(t *testing.T) {
				alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
				room := alice.CreateRoom(object{"initial_state": list{
					object{"type": "m.room.history_visibility", "state_key": "", "content": object{"history_visibility": test.visibility}},
				}})
				ids := map[string]string{}
				say := func(i int) { ids[story[i]] = alice.Text(room, story[i]) }
				say(0)
				alice.Change("invite", room, bob).OK()
				say(1)
				bob.Join(room)
				say(2)
				checkReads(t, "while joined", bob, room, ids, test.joined)
				checkSync(t, bob, room, "join", test.joined)
				bob.Leave(room)
				say(3)
				checkReads(t, "after leaving", bob, room, ids, test.left)
				// Sync tells of a room that was left up to the leaving.
				checkSync(t, bob, room, "leave", test.joined)
				checkReads(t, "never in the room", eve, room, ids, test.nobody)
				checkReads(t, "all the time", alice, room, ids, story)
			})
		}
	})
}

// checkReads reads by /event, /context and /messages.
func checkReads(t *testing.T, when string, c *harness.Client, room string, ids map[string]string, want []string) {
	t.Helper()
	var byEvent, byContext []string
	for _, body := range story {
		id, sent := ids[body]
		if !sent {
			continue
		}
		if c.Get(harness.Path("/v3/rooms/%s/event/%s", room, id)).Status == 200 {
			byEvent = append(byEvent, body)
		}
		r := c.Get(harness.Path("/v3/rooms/%s/context/%s", room, id), "limit", "100")
		if r.Status != 200 {
			continue
		}
		byContext = append(byContext, body)
		around := append(bodies(r.At("events_before").List()), bodies(r.At("events_after").List())...)
		if len(around) != len(want)-1 {
			t.Errorf("%s: /context of %q shows %q beside it, expected %q", when, body, around, want)
		}
	}
	if diff := cmp.Diff(want, byEvent); diff != "" {
		t.Errorf("%s: /event: %s", when, diff)
	}
	if diff := cmp.Diff(want, byContext); diff != "" {
		t.Errorf("%s: /context: %s", when, diff)
	}
	for _, dir := range []string{"f", "b"} {
		r := c.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", dir, "limit", "100")
		if r.Status != 200 {
			if len(want) > 0 {
				t.Errorf("%s: /messages: status %d %s", when, r.Status, r.Body)
			}
			continue
		}
		got := bodies(r.At("chunk").List())
		if dir == "b" {
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: /messages %s: %s", when, dir, diff)
		}
	}
}

// checkSync reads by an initial sync.
func checkSync(t *testing.T, c *harness.Client, room, section string, want []string) {
	t.Helper()
	c.Since = ""
	r := c.Sync("filter", `{"room":{"include_leave":true,"timeline":{"limit":100}}}`)
	if diff := cmp.Diff(want, bodies(r.At("rooms", section, room, "timeline", "events").List())); diff != "" {
		t.Errorf("sync, %s: %s", section, diff)
	}
}

// The visibility at the time of an event counts, not the one of now.
func TestVisibilityIsThatOfTheTime(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom()
		set := func(visibility string) {
			t.Helper()
			alice.SetState(room, "m.room.history_visibility", "", object{"history_visibility": visibility}).OK()
		}
		set("joined")
		hidden := alice.Text(room, "hidden")
		set("world_readable")
		open := alice.Text(room, "open")
		set("shared")
		shared := alice.Text(room, "shared")
		bob.Join(room)
		for _, test := range []struct {
			who    *harness.Client
			event  string
			status int
		}{
			{bob, hidden, 404}, {bob, open, 200}, {bob, shared, 200},
			{eve, hidden, 404}, {eve, open, 200}, {eve, shared, 404},
		} {
			if got := test.who.Get(harness.Path("/v3/rooms/%s/event/%s", room, test.event)).Status; got != test.status {
				t.Errorf("%s: status %d, expected %d", test.who.UserID, got, test.status)
			}
		}
	})
}

// The state of a room that anybody may read can be read by anybody; that of others by
// members only, and by those who left up to then.
func TestStateVisibility(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, eve := srv.Register(t, "alice"), srv.Register(t, "eve")
		for _, test := range visible {
			room := alice.CreateRoom(object{"topic": "t", "initial_state": list{
				object{"type": "m.room.history_visibility", "state_key": "", "content": object{"history_visibility": test.visibility}},
			}})
			want := 403
			if test.visibility == "world_readable" {
				want = 200
			}
			for _, path := range []string{"/state", "/state/m.room.topic", "/state/m.room.create/", "/messages?dir=b"} {
				if got := eve.Get(harness.Path("/v3/rooms/%s", room) + path).Status; got != want {
					t.Errorf("%s %s: status %d, expected %d", test.visibility, path, got, want)
				}
			}
			// The list of members is not part of what may be read by all.
			eve.Get(harness.Path("/v3/rooms/%s/joined_members", room)).Fails(403, "M_FORBIDDEN")
		}
	})
}

// The membership that a reader had at an event is told with it.
func TestUnsignedMembership(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.CreateRoom(nil)
		alice.Text(room, "leave")
		alice.Change("invite", room, bob).OK()
		alice.Text(room, "invite")
		bob.Join(room)
		alice.Text(room, "join")
		check := func(way string, events []harness.JSON) {
			t.Helper()
			for _, e := range events {
				if body := e.At("content", "body").Str(); body != "" && e.At("unsigned", "membership").Str() != body {
					t.Errorf("%s: unsigned of %q: %s", way, body, e.At("unsigned"))
				}
			}
		}
		check("sync", bob.Sync("filter", `{"room":{"timeline":{"limit":100}}}`).Timeline(room).List())
		check("messages", bob.History(room))
	})
}

func TestVisibilityOfOwnLeave(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.CreateRoom(object{"preset": "public_chat", "initial_state": list{
			object{"type": "m.room.history_visibility", "state_key": "", "content": object{"history_visibility": "joined"}},
		}})
		bob.Join(room)
		alice.Change("kick", room, bob).OK()
		alice.Text(room, "secret")
		var seen []string
		for _, e := range bob.History(room) {
			if e.At("state_key").Str() == bob.UserID {
				seen = append(seen, e.At("content", "membership").Str())
			}
			if strings.Contains(e.String(), "secret") {
				t.Errorf("bob reads %s", e)
			}
		}
		if diff := cmp.Diff([]string{"join", "leave"}, seen); diff != "" {
			t.Error(diff)
		}
	})
}
