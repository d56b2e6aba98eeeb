package hostile

import (
	"fmt"
	"testing"

	"beep/tests/harness"
)

// However many ends servers give a room, what is sent here follows no more of them than an
// event may, and brings them together again: nobody has a reason to refuse it. One server
// cannot give it any number of them (F10, F11).
func TestManyForks(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		alice := victim.Register(t, "alice")
		s, other := New(t, victim), New(t, victim)
		for _, v := range []string{"1", "12"} {
			theirs := publicRoom(alice, other, v, other.User("bob"))
			room := s.Join(theirs.ID, s.User("bob"))
			s.AwaitEvent(other.Join(theirs.ID, other.User("bob")).Heads()[0].ID) // now both know all of the room
			for _, r := range []*Room{room, theirs} {
				bob := r.s.User("bob")
				draft := r.Draft(bob, "m.room.message", nil, nil)
				state := r.Draft(bob, "m.room.member", &bob, nil)
				var pdus []any
				for j := range 15 {
					draft.Content = jsonOf(t, harness.Object{"msgtype": "m.text", "body": fmt.Sprint("fork ", j)})
					state.Content = jsonOf(t, harness.Object{"membership": "join", "displayname": fmt.Sprint("Bob ", j)})
					e, profile := r.s.Build(draft), r.s.Build(state)
					r.Add(e, profile)
					pdus = append(pdus, e, profile)
				}
				if refused := r.s.Send(pdus...); len(refused) != 0 {
					t.Fatalf("version %s: %v", v, refused)
				}
				seen := 0
				for _, h := range r.Heads() {
					if sees(alice, r.ID, h.ID) {
						seen++
					}
				}
				if seen != 20 {
					t.Errorf("version %s: of 30 events beside each other there are %d", v, seen)
				}
			}
			for n := range 3 {
				e := s.AwaitEvent(alice.Text(room.ID, fmt.Sprint("together ", n)))
				if got, want := len(e.PrevEvents()), 20; got > want || n == 0 && got != want {
					t.Errorf("version %s: alice's event follows %d others", v, got)
				}
			}
			if e := s.AwaitEvent(alice.Text(room.ID, "all together")); len(e.PrevEvents()) != 1 {
				t.Errorf("version %s: the room still has %d ends", v, len(e.PrevEvents()))
			}
			s.Join(room.ID, s.User("carol"))
			usable(t, alice, s, room.ID)
		}
	})
}
