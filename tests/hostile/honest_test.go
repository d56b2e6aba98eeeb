package hostile

import (
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

// A hostile server that does nothing wrong takes part in rooms of every version, its own and
// those of the server under attack: what the other tests change is all that is wrong with it.
func TestHonestUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range matrix.RoomVersions() {
		theirs := alice.CreateRoom(harness.Object{"preset": "public_chat", "room_version": string(v)})
		joined := s.Join(theirs, bob)
		if refused := s.Send(joined.Say(bob, "hello")); len(refused) != 0 {
			t.Fatalf("version %s: %v", v, refused)
		}
		s.AwaitEvent(alice.Text(theirs, "hello yourself"))
		missed := joined.Say(bob, "missed")
		if refused := s.Send(joined.Say(bob, "after that")); len(refused) != 0 {
			t.Fatalf("version %s: %v", v, refused)
		}
		alice.Get(harness.Path("/v3/rooms/%s/event/%s", theirs, missed.ID)).OK()

		ours := s.NewRoom(v)
		ours.Say(s.Mallory(), "before")
		alice.Post(harness.Path("/v3/join/%s", ours.ID)+harness.Query("via", s.Name), nil).OK()
		s.AwaitEvent(alice.Text(ours.ID, "I am in"))
		if refused := s.Send(ours.Say(s.Mallory(), "welcome")); len(refused) != 0 {
			t.Fatalf("version %s: %v", v, refused)
		}
		if said := alice.History(ours.ID); len(said) < 8 {
			t.Errorf("version %s: alice sees %v", v, said)
		}
	}
}
