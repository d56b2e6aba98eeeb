package roomserver_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream/bubbletest"
)

// What a server sends, and does not answer questions about, is to be sent again: its event may
// be the last for long. It is not asked to for ever, and not each time anew.
func TestSilentServerIsToSendAgain(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		net := newNetwork(t, 2, storagetest.SQLiteURL)
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		last := func(body string) *matrix.Event { // of two events the second
			say(t, a.rooms, roomID, userOf("a", "alice"), "before "+body)
			id := say(t, a.rooms, roomID, userOf("a", "alice"), body)
			return must[storage.Event](t)(a.db.EventByID(t.Context(), id)).Event
		}
		sent := func(e *matrix.Event) (refused, err error) {
			errs, err := b.rooms.Receive(t.Context(), a.name, roomID, jsonOf([]*matrix.Event{e}))
			if err == nil {
				refused = errs[0]
			}
			return refused, err
		}
		heard := last("heard")
		a.mute = true
		for range 14 {
			if _, err := sent(heard); err == nil || b.status(heard.ID) != -1 {
				t.Fatalf("of a silent server: %v, status %d", err, b.status(heard.ID))
			}
			time.Sleep(time.Minute)
		}
		a.mute = false
		if refused, err := sent(heard); refused != nil || err != nil || b.status(heard.ID) != storage.Accepted {
			t.Errorf("it answers again: %v, %v, status %d", refused, err, b.status(heard.ID))
		}
		a.mute = true
		for i := range 3 {
			lost := last(fmt.Sprint("lost ", i))
			_, err := sent(lost)
			if first := i == 0; first != (err != nil) {
				t.Errorf("event %d of a silent server: %v", i, err)
			}
			time.Sleep(16 * time.Minute)
			if refused, err := sent(lost); err != nil || !errors.Is(refused, matrix.Forbidden) {
				t.Errorf("event %d of a server that is silent for long: %v, %v", i, refused, err)
			}
		}
	})
}
