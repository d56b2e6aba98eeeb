package roomserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// stateAt sets state with the time that the server's clock is to show, in ms.
func (p *peer) stateAt(at int64, roomID, user, eventType, content string) {
	p.net.t.Helper()
	key := ""
	must[string](p.net.t)(p.rooms.SendState(p.net.t.Context(), roomID,
		roomserver.Draft{Type: eventType, StateKey: &key, Sender: user, Content: json.RawMessage(content), OriginServerTS: at}))
}

// An event of state that comes late can bring with it what takes the state away from the
// one event that has it and gives it to a third.
func TestLateStateGivesItToAThird(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		// Bob has power when he joins: what is based on that join is resolved early.
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: "10",
			PowerLevelsOverride: map[string]json.RawMessage{"users": json.RawMessage(`{"@alice:a.test":200,"@bob:a.test":100}`)}})
		if err := a.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "bob")}); err != nil {
			t.Fatal(err)
		}
		b.join(roomID, userOf("b", "bob"), "a")
		c.join(roomID, userOf("c", "carol"), "a")
		net.deliver()
		c.join(roomID, userOf("c", "bob"), "c")
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.power_levels",
			`{"users":{"@alice:a.test":100,"@carol:c.test":100,"@bob:a.test":50,"@bob:b.test":50,"@bob:c.test":50}}`)
		net.deliver()
		net.agree(roomID, "a", "b", "c")
		// The servers are apart from here on. c bans bob of a, whom a gives more power later.
		later := int64(4_000_000_000_000)
		b.stateAt(later, roomID, userOf("b", "bob"), "m.room.topic", `{"topic":"b"}`)
		if err := c.rooms.Ban(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("c", "carol"), Target: userOf("a", "bob")}); err != nil {
			t.Fatal(err)
		}
		c.stateAt(later-1, roomID, userOf("c", "bob"), "m.room.topic", `{"topic":"c"}`)
		a.stateAt(later, roomID, userOf("a", "alice"), "m.room.power_levels",
			`{"users":{"@alice:a.test":100,"@carol:c.test":100,"@bob:a.test":100,"@bob:b.test":50,"@bob:c.test":50}}`)
		a.stateAt(later+1, roomID, userOf("a", "bob"), "m.room.topic", `{"topic":"a"}`)
		c.down = true
		net.deliver()
		net.agree(roomID, "a", "b")
		if got := a.topic(roomID); got != "a" {
			t.Fatalf("before c is heard the topic is %q", got)
		}
		c.down = false
		net.deliver()
		for _, p := range []*peer{a, b} {
			if got := p.topic(roomID); got != "b" {
				t.Errorf("%s has the topic %q", p.name, got)
			}
		}
		say(t, a.rooms, roomID, userOf("a", "alice"), "together again")
		net.deliver()
		net.agree(roomID, "a", "b", "c")
	})
}

// topic is the room's topic at the server.
func (p *peer) topic(roomID string) string {
	p.net.t.Helper()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(p.net.t.Context(), roomID))
	return must[storage.StateEntry](p.net.t)(p.db.CurrentStateEvent(p.net.t.Context(), room.Number, "m.room.topic", "")).ContentString("topic")
}

// Invites come before a server knows the room. What they cite counts all the same once the
// server is in it: states are resolved by it.
func TestInvitesCiteWhatComesLater(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, v := range []matrix.RoomVersion{"1", "10", "12"} {
			net.t = t
			roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Version: v,
				Invite: []string{userOf("b", "bob"), userOf("b", "carol")}})
			b.join(roomID, userOf("b", "bob"), "a") // whose invite is replaced; carol's remains
			net.deliver()
			b.cites(roomID)
		}
	})
}

// cites holds the graph of what the state events in a room cite to be whole.
func (p *peer) cites(roomID string) {
	p.net.t.Helper()
	ctx := context.Background()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(ctx, roomID))
	graph, err := p.db.AuthGraph(ctx, room.Number)
	if err != nil {
		p.net.t.Fatal(err)
	}
	for pos, node := range graph {
		e := must[[]storage.Event](p.net.t)(p.db.EventsByPos(ctx, []int64{pos}))[0]
		var cited []string
		for _, c := range must[[]storage.Event](p.net.t)(p.db.EventsByPos(ctx, node.Auth)) {
			cited = append(cited, c.ID)
		}
		for _, id := range e.AuthEvents() {
			if !slices.Contains(cited, id) {
				p.net.t.Errorf("room version %s: %s, %s of %s, cites %s, which the graph does not have", e.Version, e.ID, e.Type, *e.StateKey, id)
			}
		}
	}
}

// Who has left and comes back by way of a server that has not heard of that is in the room
// for all, and the server hears what the others say. If that server cannot be told of the
// leave, it lets the user in all the same.
func TestComeBackThroughServerThatMissedTheLeave(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		for _, v := range []matrix.RoomVersion{"6", "10", "12"} {
			for _, mute := range []bool{false, true} {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: v})
				b.join(roomID, userOf("b", "bob"), "a")
				c.join(roomID, userOf("c", "carol"), "a")
				net.deliver()
				c.down = true
				// What the leave cites is newer than what c lets the join cite, and would come later.
				setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.power_levels", `{"users":{`+map[bool]string{false: `"@alice:a.test":100`}[v.PrivilegedCreators()]+`}}`)
				net.deliver()
				if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob")}); err != nil {
					t.Fatal(err)
				}
				net.deliver()
				c.down, a.down, b.mute = false, true, mute
				b.join(roomID, userOf("b", "bob"), "c")
				a.down, b.mute = false, false
				if mute {
					continue // c has let bob in without knowing
				}
				net.deliver()
				for _, p := range []*peer{a, b, c} {
					if got := p.membership(roomID, userOf("b", "bob")); got != "join" {
						t.Errorf("room version %s: %s has bob as %q", v, p.name, got)
					}
				}
				say(t, a.rooms, roomID, userOf("a", "alice"), "welcome back")
				net.deliver()
				net.agree(roomID, "a", "b", "c")
			}
		}
	})
}

// A server that was told that a room is closed, and left it, does not get back in by way of
// one that has not heard of it: the others would not know that it is there.
func TestNoWayBackThroughServerThatMissedMuch(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		c.join(roomID, userOf("c", "carol"), "a")
		net.deliver()
		c.down = true
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.join_rules", `{"join_rule":"invite"}`)
		net.deliver()
		if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob")}); err != nil {
			t.Fatal(err)
		}
		say(t, c.rooms, roomID, userOf("c", "carol"), "alone")
		net.deliver()
		c.down = false
		err := b.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "carol"), Via: []string{"c.test"}})
		if !errors.Is(err, matrix.Forbidden) {
			t.Errorf("carol joins: %v", err)
		}
		net.deliver()
		say(t, a.rooms, roomID, userOf("a", "alice"), "closed")
		net.deliver()
		net.agree(roomID, "a", "c")
	})
}

// What happens in a room right after somebody was let in may be sent before the answer to the
// join has been taken in. It is not lost.
func TestWhatComesBeforeTheAnswerToAJoin(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		b.rooms.SetTurnWait(time.Minute)
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		kicked := make(chan error, 1)
		net.letIn = func() {
			if err := a.rooms.Kick(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("b", "bob")}); err != nil {
				t.Error(err)
			}
			room := must[storage.Room](t)(a.db.RoomByID(t.Context(), roomID))
			kick := must[storage.Event](t)(a.db.EventByID(t.Context(), room.Extremities[0]))
			begun := make(chan bool)
			go func() {
				close(begun)
				err := b.rooms.AwaitJoins(t.Context(), []string{roomID})
				if err == nil {
					_, err = b.rooms.Receive(t.Context(), a.name, roomID, jsonOf([]*matrix.Event{kick.Event}))
				}
				kicked <- err
			}()
			<-begun
		}
		b.join(roomID, userOf("b", "bob"), "a")
		if err := <-kicked; err != nil {
			t.Error(err)
		}
		if got := b.membership(roomID, userOf("b", "bob")); got != "leave" {
			t.Errorf("b has bob as %q", got)
		}
		// Who waits does not wait for ever: it is to be sent again.
		b.rooms.SetTurnWait(time.Millisecond)
		net.letIn = func() {
			if err := b.rooms.AwaitJoins(t.Context(), []string{roomID}); err == nil {
				t.Error("the join has not ended")
			}
		}
		b.join(roomID, userOf("b", "carol"), "a")
	})
}
