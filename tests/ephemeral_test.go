package tests

import (
	"testing"

	"beep/tests/harness"
)

func sendReceipt(c *harness.Client, room, kind, event string, body object) *harness.Response {
	return c.Post(harness.Path("/v3/rooms/%s/receipt/%s/%s", room, kind, event), body)
}

// receipt is what a sync answer tells of a user's receipt at an event.
func receipt(r *harness.Response, room, event, kind, userID string) harness.JSON {
	for _, e := range r.Ephemeral(room).List() {
		if found := e.At("content", event, kind, userID); e.At("type").Str() == "m.receipt" && found.Exists() {
			return found
		}
	}
	return harness.JSON{}
}

func TestReceipts(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom(bob)
		first, second := alice.Text(room, "one"), alice.Text(room, "two")
		alice.Sync()
		bob.Sync()
		sendReceipt(bob, room, "m.read", first, object{}).OK()
		r := alice.SyncUntil("the receipt", func(r *harness.Response) bool { return receipt(r, room, first, "m.read", bob.UserID).Exists() })
		if got := receipt(r, room, first, "m.read", bob.UserID); got.At("ts").Int() == 0 || got.At("thread_id").Exists() {
			t.Errorf("receipt %s", got)
		}
		sendReceipt(bob, room, "m.read", second, object{"thread_id": "main"}).OK()
		r = alice.SyncUntil("the receipt", func(r *harness.Response) bool { return receipt(r, room, second, "m.read", bob.UserID).Exists() })
		if got := receipt(r, room, second, "m.read", bob.UserID).At("thread_id").Str(); got != "main" {
			t.Errorf("thread_id %q", got)
		}
		// Both stay: one for the room and one for the main timeline.
		alice.Since = ""
		r = alice.Sync()
		if !receipt(r, room, first, "m.read", bob.UserID).Exists() || !receipt(r, room, second, "m.read", bob.UserID).Exists() {
			t.Errorf("initial sync: %s", r.Ephemeral(room))
		}
		sendReceipt(eve, room, "m.read", first, object{}).Fails(403, "M_FORBIDDEN")
	})
}

func TestPrivateReceipts(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		event := alice.Text(room, "x")
		alice.Sync()
		bob.Sync()
		sendReceipt(bob, room, "m.read.private", event, object{}).OK()
		bob.SyncUntil("the receipt", func(r *harness.Response) bool {
			return receipt(r, room, event, "m.read.private", bob.UserID).Exists()
		})
		sendReceipt(alice, room, "m.read", event, object{}).OK() // comes after bob's
		r := alice.SyncUntil("the receipt", func(r *harness.Response) bool { return receipt(r, room, event, "m.read", alice.UserID).Exists() })
		if receipt(r, room, event, "m.read.private", bob.UserID).Exists() {
			t.Errorf("alice sees bob's private receipt: %s", r.Body)
		}
		alice.Since = ""
		if r := alice.Sync(); receipt(r, room, event, "m.read.private", bob.UserID).Exists() {
			t.Errorf("alice sees bob's private receipt: %s", r.Body)
		}
	})
}

func TestReceiptRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		event := alice.Text(room, "x")
		for _, test := range []struct {
			name, kind string
			body       object
		}{
			{"unknown type", "m.other", object{}},
			{"empty thread", "m.read", object{"thread_id": ""}},
			{"thread that is no text", "m.read", object{"thread_id": 5}},
			{"thread with a read marker", "m.fully_read", object{"thread_id": "main"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				if r := sendReceipt(alice.For(t), room, test.kind, event, test.body); r.Status != 400 {
					t.Errorf("status %d %s", r.Status, r.Body)
				}
			})
		}
	})
}

func TestReadMarkers(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		first, second := alice.Text(room, "one"), alice.Text(room, "two")
		alice.Sync()
		bob.Sync()
		bob.Post(harness.Path("/v3/rooms/%s/read_markers", room), object{"m.fully_read": first, "m.read": second}).OK()
		r := bob.SyncUntil("the marker", func(r *harness.Response) bool {
			return r.Joined(room).At("account_data", "events").Find("type", "m.fully_read").Exists()
		})
		if got := r.Joined(room).At("account_data", "events").Find("type", "m.fully_read").At("content", "event_id").Str(); got != first {
			t.Errorf("m.fully_read %q", got)
		}
		r = alice.SyncUntil("the receipt", func(r *harness.Response) bool { return receipt(r, room, second, "m.read", bob.UserID).Exists() })
		if r.Joined(room).At("account_data", "events", 0).Exists() {
			t.Error("alice gets bob's marker")
		}
		sendReceipt(bob, room, "m.fully_read", second, object{}).OK()
		if got := bob.Get(roomData(bob, room, "m.fully_read")).OK().At("event_id").Str(); got != second {
			t.Errorf("m.fully_read %q", got)
		}
	})
}

func TestTyping(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom(bob)
		alice.Sync()
		path := harness.Path("/v3/rooms/%s/typing/%s", room, bob.UserID)
		typing := func(want string) {
			t.Helper()
			alice.SyncUntil("typing "+want, func(r *harness.Response) bool {
				e := r.Ephemeral(room).Find("type", "m.typing")
				return e.Exists() && e.At("content", "user_ids").String() == want
			})
		}
		bob.Put(path, object{"typing": true, "timeout": 30000}).OK()
		typing(`["` + bob.UserID + `"]`)
		bob.Put(path, object{"typing": false}).OK()
		typing(`[]`)
		bob.Put(path, object{"typing": true, "timeout": 100}).OK()
		typing(`["` + bob.UserID + `"]`)
		typing(`[]`) // by itself
		bob.Leave(room)
		bob.Put(path, object{"typing": true}).Fails(403, "M_FORBIDDEN")
		eve.Put(harness.Path("/v3/rooms/%s/typing/%s", room, eve.UserID), object{"typing": true}).Fails(403, "M_FORBIDDEN")
		eve.Put(harness.Path("/v3/rooms/%s/typing/%s", room, alice.UserID), object{"typing": true}).Fails(403, "M_FORBIDDEN")
	})
}

func TestPresence(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		alice.PublicRoom(bob)
		alice.Sync("set_presence", "offline")
		path := harness.Path("/v3/presence/%s/status", bob.UserID)
		bob.Put(path, object{"presence": "unavailable", "status_msg": "at lunch"}).OK()
		r := alice.SyncUntil("the presence", func(r *harness.Response) bool {
			return r.At("presence", "events").Find("sender", bob.UserID).At("content", "status_msg").Str() == "at lunch"
		}, "set_presence", "offline")
		e := r.At("presence", "events").Find("sender", bob.UserID)
		if e.At("type").Str() != "m.presence" || e.At("content", "presence").Str() != "unavailable" {
			t.Errorf("event %s", e)
		}
		got := alice.Get(path).OK()
		if got.At("presence").Str() != "unavailable" || got.At("status_msg").Str() != "at lunch" {
			t.Errorf("status %s", got.Body)
		}
		if r := eve.Get(path); r.Status != 403 && r.Status != 404 {
			t.Errorf("somebody who shares no room: status %d %s", r.Status, r.Body)
		}
		alice.Put(path, object{"presence": "offline"}).Fails(403, "M_FORBIDDEN")
		if r := bob.Put(path, object{"presence": "busy"}); r.Status != 400 {
			t.Errorf("a state that does not exist: status %d %s", r.Status, r.Body)
		}
	})
}

// A sync makes its user online unless it says otherwise.
func TestPresenceBySync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		alice.PublicRoom(bob)
		alice.Sync("set_presence", "offline")
		bob.Sync("set_presence", "online")
		alice.SyncUntil("bob online", func(r *harness.Response) bool {
			return r.At("presence", "events").Find("sender", bob.UserID).At("content", "presence").Str() == "online"
		}, "set_presence", "offline")
		bob.Sync("set_presence", "unavailable")
		alice.SyncUntil("bob unavailable", func(r *harness.Response) bool {
			return r.At("presence", "events").Find("sender", bob.UserID).At("content", "presence").Str() == "unavailable"
		}, "set_presence", "offline")
	})
}

func TestPresenceSwitchedOff(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "presence: {enabled: false}"}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		alice.Sync()
		bob.Sync("set_presence", "online")
		event := bob.Text(room, "x")
		if r := alice.SyncUntilEvent(room, event); r.At("presence", "events", 0).Exists() {
			t.Errorf("presence %s", r.At("presence"))
		}
	})
}
