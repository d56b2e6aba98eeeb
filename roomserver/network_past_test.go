package roomserver_test

import (
	"encoding/json"
	"slices"
	"testing"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// What comes to a server only because something follows it, and lies before its own join,
// does not end the room there: members that came before the room was closed would be put
// out when the state of long ago is resolved with that of today.
func TestOldEventsDoNotEndTheRoom(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: "11",
			PowerLevelsOverride: map[string]json.RawMessage{"users": json.RawMessage(`{"@alice:a.test":100,"@carol:c.test":50}`)}})
		b.join(roomID, userOf("b", "bob"), "a") // and knows nothing of what was before
		net.deliver()
		b.join(roomID, userOf("b", "carol"), "b")
		net.deliver()
		c.join(roomID, userOf("c", "carol"), "b")
		say(t, a.rooms, roomID, userOf("a", "alice"), "beside the join") // c is not told: a does not know yet that it is there
		a.flush()
		setState(t, c.rooms, roomID, userOf("c", "carol"), "m.room.join_rules",
			`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"`+roomID+`"}]}`)
		a.down = true
		net.deliver()
		say(t, b.rooms, roomID, userOf("b", "bob"), "after both")
		net.deliver()
		for _, user := range []string{userOf("a", "alice"), userOf("b", "bob"), userOf("b", "carol"), userOf("c", "carol")} {
			if got := c.membership(roomID, user); got != "join" {
				t.Errorf("c has %s as %q", user, got)
			}
		}
		own := c.joined(roomID, userOf("c", "carol"))
		for _, user := range []string{userOf("b", "bob"), userOf("b", "carol")} {
			if e := c.joined(roomID, user); e.Status != storage.Accepted || e.Order >= own.Order {
				t.Errorf("the join of %s counts as %d at c, and stands at %d, where c joined at %d", user, e.Status, e.Order, own.Order)
			}
		}
		a.down = false
		net.deliver()
		say(t, c.rooms, roomID, userOf("c", "carol"), "all hear this")
		net.deliver()
		net.agree(roomID, "a", "b", "c")
		if got := bodies(t, a.rooms, roomID, userOf("a", "alice")); !slices.Contains(got, "all hear this") {
			t.Errorf("a hears %q", got)
		}
	})
}

// joined is a user's membership in the room's state.
func (p *peer) joined(roomID, user string) storage.Event {
	p.net.t.Helper()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(p.net.t.Context(), roomID))
	return must[storage.StateEntry](p.net.t)(p.db.CurrentStateEvent(p.net.t.Context(), room.Number, "m.room.member", user)).Event
}

// How the last user of a server was put out counts there though nobody tells what was before.
// Once the server is in the room again, and hears it, that is judged like anything else.
func TestPutOutWithoutKnowingWhy(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"missed"}`)
		a.gather()
		clear(a.queues) // the network has lost it
		if err := a.rooms.Kick(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("b", "bob")}); err != nil {
			t.Fatal(err)
		}
		a.lies.missing = func([]string) []*matrix.Event { return nil }
		net.deliver()
		if got := b.membership(roomID, userOf("b", "bob")); got != "leave" {
			t.Fatalf("b has bob as %q", got)
		}
		room := must[storage.Room](t)(b.db.RoomByID(t.Context(), roomID))
		kick := must[storage.StateEntry](t)(b.db.CurrentStateEvent(t.Context(), room.Number, "m.room.member", userOf("b", "bob")))
		if got := must[storage.Event](t)(b.db.EventByID(t.Context(), kick.ID)).Status; got != storage.OutOfBand {
			t.Errorf("the kick counts as %d at b", got)
		}
		a.lies = lies{}
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		bodies(t, b.rooms, roomID, userOf("b", "bob")) // reads back, and so hears it
		there, here := a.stateBefore(kick.ID), b.stateBefore(kick.ID)
		if !slices.Equal(there, here) {
			t.Errorf("before the kick a has %v and b %v", there, here)
		}
		net.agree(roomID, "a", "b")
	})
}

// stateBefore is the state before an event that has its place in the room, as event ids.
func (p *peer) stateBefore(eventID string) []string {
	p.net.t.Helper()
	e := must[storage.Event](p.net.t)(p.db.EventByID(p.net.t.Context(), eventID))
	if e.Status != storage.Accepted {
		p.net.t.Errorf("%s counts as %d at %s", eventID, e.Status, p.name)
	}
	states := must[map[int64][]int64](p.net.t)(p.rooms.StatesAt(p.net.t.Context(), []int64{e.StateBefore}))
	var ids []string
	for _, e := range must[[]storage.Event](p.net.t)(p.db.EventsByPos(p.net.t.Context(), states[e.StateBefore])) {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	return ids
}

// A server whose user was put out is told what was before that also when another of its users
// has left meanwhile.
func TestPutOutWhenAnotherHasLeft(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		b.join(roomID, userOf("b", "carol"), "b")
		net.deliver()
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"missed"}`)
		a.gather()
		clear(a.queues) // the network has lost it
		if err := a.rooms.Kick(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("b", "bob")}); err != nil {
			t.Fatal(err)
		}
		a.gather()
		if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "carol")}); err != nil {
			t.Fatal(err)
		}
		b.flush() // a hears first that carol has left
		net.deliver()
		if got := b.membership(roomID, userOf("b", "bob")); got != "leave" {
			t.Errorf("b has bob as %q", got)
		}
		net.agree(roomID, "a", "b")
	})
}
