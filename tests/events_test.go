package tests

import (
	"slices"
	"testing"

	"beep/tests/harness"
)

func TestEventStream(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, guest := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.RegisterGuest(t)
		room := alice.PublicRoom(bob)
		bob.Put(harness.Path("/v3/presence/%s/status", bob.UserID), object{"presence": "online", "status_msg": "here"}).OK()
		bob.Sync() // waits until all of this can be seen
		begun := bob.Get("/v3/initialSync", "limit", "1").OK()
		if own := begun.At("presence").Find("sender", bob.UserID); own.At("content", "status_msg").Str() != "here" {
			t.Errorf("presence %s", begun.At("presence"))
		}
		if joined := begun.At("rooms").Find("room_id", room); joined.At("membership").Str() != "join" || len(joined.At("messages", "chunk").List()) != 1 {
			t.Errorf("room %s", joined)
		}
		said := alice.Text(room, "hello")
		seen := map[string]bool{}
		for from := begun.At("end").Str(); !seen[said]; {
			r := bob.Get("/v3/events", "from", from, "timeout", "30000").OK()
			for _, id := range r.At("chunk").Strings("event_id") {
				seen[id] = true
			}
			if r.At("start").Str() != from || r.At("end").Str() == from {
				t.Fatalf("from %s: %s", from, r.Body)
			}
			from = r.At("end").Str()
		}
		if e := bob.Get(harness.Path("/v3/events/%s", said)).OK(); e.At("room_id").Str() != room || e.At("content", "body").Str() != "hello" {
			t.Errorf("event %s", e.Body)
		}
		guest.Get("/v3/events", "timeout", "0").Fails(403, "M_GUEST_ACCESS_FORBIDDEN")
		guest.Get("/v3/initialSync").Fails(403, "M_GUEST_ACCESS_FORBIDDEN")
		guest.Get("/v3/events", "timeout", "0", "room_id", room).Fails(403, "M_FORBIDDEN")
		guest.Get(harness.Path("/v3/rooms/%s/initialSync", room)).Fails(403, "M_FORBIDDEN")
		alice.SetState(room, "m.room.history_visibility", "", object{"history_visibility": "world_readable"}).OK()
		alice.Sync()
		preview := guest.Get(harness.Path("/v3/rooms/%s/initialSync", room)).OK()
		said = alice.Text(room, "for all")
		r := guest.Get("/v3/events", "room_id", room, "from", preview.At("messages", "end").Str(), "timeout", "30000").OK()
		if got := r.At("chunk").Strings("event_id"); !slices.Equal(got, []string{said}) {
			t.Errorf("a guest reads %s", r.Body)
		}
		bob.Get("/v3/events", "from", "x").Fails(400, "M_INVALID_PARAM")
		bob.Get("/v3/rooms/!unknown:"+srv.Name+"/initialSync").Fails(403, "M_FORBIDDEN")
	})
}
