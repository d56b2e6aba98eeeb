package roomserver_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/roomserver"
	"beep/storage"
)

// A server speaks for its own users, and in rooms that they are in and that are not
// closed to it (F43, F44).
func TestServingTakesTyping(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("c", "carol")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		other := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		c.join(roomID, carol, "a")
		c.join(other, carol, "a")
		net.deliver()
		typing := roomserver.NewTyping(a.rooms)
		tell := func(origin string, notices ...roomserver.TypingNotice) {
			t.Helper()
			if err := a.serving.TakeTyping(t.Context(), origin, typing, notices); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(roomID string, want ...string) {
			t.Helper()
			if got, _ := typing.In(roomID); cmp.Diff(append([]string{}, want...), got) != "" {
				t.Errorf("typing are %v, not %v", got, want)
			}
		}
		var forged []roomserver.TypingNotice
		for _, of := range [][2]string{{roomID, carol}, {roomID, alice}, {roomID, userOf("b", "alice")}, {roomID, bob + ":1"}, {other, bob},
			{"!unknown:a.test", bob}, {"", ""}, {roomID + "\x00", bob}, {roomID, "@b\x00:b.test"}, {roomID, "bob:b.test"}} {
			forged = append(forged, roomserver.TypingNotice{RoomID: of[0], UserID: of[1], Typing: true})
		}
		tell("b.test", forged...)
		expect(roomID)
		expect(other)
		tell("b.test", append(forged, roomserver.TypingNotice{RoomID: roomID, UserID: bob, Typing: true})...)
		tell("c.test", roomserver.TypingNotice{RoomID: roomID, UserID: carol, Typing: true}, roomserver.TypingNotice{RoomID: other, UserID: carol, Typing: true})
		expect(roomID, bob, carol)
		expect(other, carol)
		tell("b.test", roomserver.TypingNotice{RoomID: roomID, UserID: carol}) // nor may it say that they stop
		tell("c.test", roomserver.TypingNotice{RoomID: other, UserID: carol})
		expect(roomID, bob, carol)
		expect(other)
		setState(t, a.rooms, roomID, alice, "m.room.server_acl", `{"allow":["*"],"deny":["b.test"]}`)
		tell("b.test", roomserver.TypingNotice{RoomID: roomID, UserID: bob})
		expect(roomID, bob, carol)
	})
}

func rr(roomID, userID, eventID, threadID string, ts int64) roomserver.RemoteReceipt {
	return roomserver.RemoteReceipt{RoomID: roomID, UserID: userID, EventID: eventID, ThreadID: threadID, TS: ts}
}

// A server's users read where they are, and nobody reads in another's name (F43).
func TestServingTakesReceipts(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("c", "carol")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		other := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		c.join(roomID, carol, "a")
		net.deliver()
		elsewhere := say(t, a.rooms, other, alice, "elsewhere")
		first := say(t, a.rooms, roomID, alice, "first")
		second := say(t, a.rooms, roomID, alice, "second")
		empty := ""
		refused := b.forge(roomID, bob, "m.room.topic", &empty, `{"topic":"x"}`)
		a.get("b.test", roomID, refused)
		if got := a.status(refused.ID); got != storage.Rejected {
			t.Fatalf("the event has the status %d", got)
		}
		room := must[storage.Room](t)(a.db.RoomByID(t.Context(), roomID))
		tell := func(receipts ...roomserver.RemoteReceipt) {
			t.Helper()
			if err := a.serving.TakeReceipts(t.Context(), "b.test", receipts); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(want ...roomserver.RemoteReceipt) {
			t.Helper()
			got := []roomserver.RemoteReceipt{}
			for _, r := range must[[]storage.Receipt](t)(a.db.ReceiptsOf(t.Context(), []int64{room.Number})) {
				if r.Type != "m.read" {
					t.Errorf("a receipt of type %s", r.Type)
				}
				got = append(got, roomserver.RemoteReceipt{RoomID: roomID, UserID: r.UserID, EventID: r.EventID, ThreadID: r.ThreadID, TS: r.TS})
			}
			if diff := cmp.Diff(append([]roomserver.RemoteReceipt{}, want...), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		tell(rr(roomID, carol, first, "", 1), rr(roomID, alice, first, "", 1), rr(other, bob, elsewhere, "", 1),
			rr(roomID, bob, elsewhere, "", 1), rr(roomID, bob, "$unknown", "", 1), rr(roomID, bob, refused.ID, "", 1),
			rr(roomID, bob, first, "$unknown", 1), rr(roomID, bob, first, elsewhere, 1), rr(roomID, bob, first, "x", 1),
			rr(roomID, bob, "$\x00", "", 1), rr("", "", "", "", 0), rr(roomID, userOf("b", "alice"), first, "", 1))
		expect()
		read := roomserver.RemoteReceipt{RoomID: roomID, UserID: bob, EventID: second, TS: 5}
		thread := roomserver.RemoteReceipt{RoomID: roomID, UserID: bob, EventID: second, ThreadID: first, TS: 0}
		tell(read, rr(roomID, bob, second, first, -7))
		expect(read, thread)
		tell(rr(roomID, bob, first, "", 9)) // never back
		expect(read, thread)
	})
}
