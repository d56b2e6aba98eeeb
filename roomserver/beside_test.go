package roomserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
)

// outgoing takes out of the queue what a server has for another one, as it is sent at once.
func (p *peer) outgoing(to *peer) []json.RawMessage {
	p.gather()
	var raws []json.RawMessage
	for _, e := range p.queues[to.name] {
		raws = append(raws, e.JSON)
	}
	delete(p.queues, to.name)
	return raws
}

// ends are the extremities of a room.
func (p *peer) ends(roomID string) []string {
	p.net.t.Helper()
	room, err := p.db.RoomByID(p.net.t.Context(), roomID)
	if err != nil {
		p.net.t.Fatal(err)
	}
	slices.Sort(room.Extremities)
	return room.Extremities
}

// A branch of a room that comes at once is judged event by event: what follows on a state
// of its own is judged by that, what somebody says who was removed here meanwhile is not
// heard, and the room has the ends that it has for whoever sent the branch.
func TestBranchAtOnce(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("b", "carol")
		for _, v := range []matrix.RoomVersion{"1", "6", "11", "12"} {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", Version: v,
					PowerLevelsOverride: map[string]json.RawMessage{"events": json.RawMessage(`{"m.room.topic":0}`)}})
				b.join(roomID, bob, "a")
				b.join(roomID, carol, "a")
				net.deliver()
				a.down, b.down = true, true
				say(t, a.rooms, roomID, alice, "a")
				if err := a.rooms.Ban(t.Context(), roomID, roomserver.MemberChange{Sender: alice, Target: carol}); err != nil {
					t.Fatal(err)
				}
				var want []string
				for i := range 4 {
					for j := range 3 {
						text := fmt.Sprint("b", i, j)
						say(t, b.rooms, roomID, bob, text)
						say(t, b.rooms, roomID, carol, "unheard")
						want = append(want, text)
					}
					setState(t, b.rooms, roomID, bob, "m.room.topic", fmt.Sprintf(`{"topic":"%d"}`, i))
				}
				refused, err := a.rooms.Receive(t.Context(), b.name, roomID, b.outgoing(a))
				if err = errors.Join(append(refused, err)...); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(append([]string{"a"}, want...), bodies(t, a.rooms, roomID, alice)); diff != "" {
					t.Errorf("what is heard at a (-want +got):\n%s", diff)
				}
				if refused, err = b.rooms.Receive(t.Context(), a.name, roomID, a.outgoing(b)); errors.Join(append(refused, err)...) != nil {
					t.Fatal(refused, err)
				}
				net.agree(roomID, "a", "b")
				if diff := cmp.Diff(a.ends(roomID), b.ends(roomID)); diff != "" || len(a.ends(roomID)) != 2 {
					t.Errorf("the ends of the room (-a +b):\n%s", diff)
				}
				a.down, b.down = false, false
				say(t, b.rooms, roomID, bob, "together")
				net.deliver()
				if got := a.ends(roomID); len(got) != 1 || !slices.Equal(got, b.ends(roomID)) {
					t.Errorf("the room ends in %q and %q", got, b.ends(roomID))
				}
				net.agree(roomID, "a", "b")
			})
		}
	})
}
