package sender_test

import (
	"fmt"
	"testing"
	"time"

	"beep/federation/sender"
	"beep/storage"
)

func (w *world) putPresence(userID, state string) {
	w.t.Helper()
	w.write(func(tx *storage.Tx) error {
		return tx.PutPresence(w.t.Context(), storage.Presence{UserID: userID, State: state}, false)
	})
}

func presenceEDU(userID, state string) string {
	return fmt.Sprintf(`m.presence {"push":[{"user_id":%q,"presence":%q,"last_active_ago":%d,"currently_active":%v}]}`,
		userID, state, time.Now().UnixMilli(), state == "online")
}

// A server that comes to a room is told once who is present there, and nobody else is.
func TestPresenceForNewServers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		room := w.room(near)
		time.Sleep(time.Second)
		w.putPresence(alice, "online")
		w.putPresence(bob, "online") // is not in the room
		time.Sleep(time.Second)
		before := len(w.net.peer(near).edus())
		w.foreignMember(room, "@carol:"+near) // a second one
		w.foreignMember(room, "@dave:"+far)
		w.members(room, 1, far)
		time.Sleep(time.Minute)
		edus := w.net.peer(far).edus()
		if len(edus) != 1 || len(edus[0]) < 60 || edus[0][:60] != presenceEDU(alice, "online")[:60] {
			t.Errorf("the new server got %q", edus)
		}
		equal(t, "EDUs for the other", before, len(w.net.peer(near).edus()))
		w.putPresence(alice, "offline")
		time.Sleep(time.Second)
		w.members(room, 1, "third.example")
		w.foreignMember(room, "@erin:third.example")
		time.Sleep(time.Minute)
		equal(t, "EDUs when nobody is present", []string{}, w.net.peer("third.example").edus())
	})
}

// Who joins is made known to the servers of the room.
func TestPresenceOfNewMembers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.putPresence(alice, "unavailable")
		w.room(near)
		time.Sleep(time.Minute)
		if edus := w.net.peer(near).edus(); len(edus) != 1 {
			t.Errorf("the server got %q", edus)
		}
	})
}

func TestNoPresenceForNewServers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.putPresence(alice, "online") // from times when it was on
		w.stop()
		s := sender.New(sender.Options{DB: w.db, ServerName: own, Send: w.net.send, NoPresence: true})
		w.stop = run(t, s)
		room := w.room(near)
		w.foreignMember(room, "@dave:"+far)
		w.members(room, 1, far)
		time.Sleep(time.Minute)
		equal(t, "EDUs for who was there", []string{}, w.net.peer(near).edus())
		equal(t, "EDUs for who has come", []string{}, w.net.peer(far).edus())
	})
}
