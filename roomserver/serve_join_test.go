package roomserver_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
)

// A server that does not want the members gets those who joins and after whom the room is
// called, all of the rest of the state, all that authorises these, and the servers in the
// room before.
func TestJoinStateWithoutMembers(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		for _, v := range []matrix.RoomVersion{"1", "6", "10", "12"} {
			for _, name := range []string{"", "Planning"} {
				t.Run(string(v)+name, func(t *testing.T) {
					net.t = t
					roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: v, Name: name})
					b.join(roomID, userOf("b", "bob"), "a")
					net.deliver()
					if err := a.rooms.Invite(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("c", "carol")}); err != nil {
						t.Fatal(err)
					}
					before := a.state(roomID)
					c.join(roomID, userOf("c", "carol"), "a")
					join := must[*roomserver.ClientEvent](t)(c.rooms.StateEvent(t.Context(), must[roomserver.Access](t)(c.rooms.Access(t.Context(), roomID, userOf("c", "carol"))),
						"m.room.member", userOf("c", "carol"))).Event.Event
					answer := must[*roomserver.JoinAnswer](t)(a.rooms.JoinState(t.Context(), join, true))
					if diff := cmp.Diff([]string{"a.test", "b.test"}, answer.Servers); diff != "" {
						t.Errorf("the servers before the join (-want +got):\n%s", diff)
					}
					want := slices.DeleteFunc(before, func(s string) bool {
						return name != "" && strings.HasPrefix(s, "m.room.member|") && !strings.HasPrefix(s, "m.room.member|@carol:c.test|")
					})
					var got []string
					for _, e := range answer.State {
						got = append(got, e.Type+"|"+*e.StateKey+"|"+e.ID)
					}
					slices.Sort(got)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("the state (-want +got):\n%s", diff)
					}
					closed(t, slices.Concat(answer.State, answer.AuthChain), join)
				})
			}
		}
	})
}

// A server that wants the members gets all that authorises the state and the join in the auth
// chain, the create event too where no event cites it.
func TestAuthChainOfJoin(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, v := range []matrix.RoomVersion{"1", "6", "10", "12"} {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: v, Name: "Planning"})
				b.join(roomID, userOf("b", "bob"), "a")
				join := must[*roomserver.ClientEvent](t)(b.rooms.StateEvent(t.Context(), must[roomserver.Access](t)(b.rooms.Access(t.Context(), roomID, userOf("b", "bob"))),
					"m.room.member", userOf("b", "bob"))).Event.Event
				answer := must[*roomserver.JoinAnswer](t)(a.rooms.JoinState(t.Context(), join, false))
				for _, e := range append(slices.Clone(answer.State), join) {
					closed(t, answer.AuthChain, e)
				}
				ids := map[string]bool{}
				for _, e := range answer.AuthChain {
					if ids[e.ID] {
						t.Errorf("%s is there twice", e.ID)
					}
					ids[e.ID] = true
				}
			})
		}
	})
}
