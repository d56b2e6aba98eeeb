package tests

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"beep/tests/harness"
)

const curve = "signed_curve25519"

// deviceKeys are identity keys of the client's device, as they would be if text were one.
func deviceKeys(c *harness.Client, text string) object {
	return object{
		"user_id": c.UserID, "device_id": c.DeviceID, "algorithms": list{"m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"},
		"keys":       object{"curve25519:" + c.DeviceID: "curve" + text, "ed25519:" + c.DeviceID: "ed" + text},
		"signatures": object{c.UserID: object{"ed25519:" + c.DeviceID: "signature" + text}},
	}
}

func signedKey(c *harness.Client, text string) object {
	return object{"key": text, "signatures": object{c.UserID: object{"ed25519:" + c.DeviceID: "signature"}}}
}

// oneTimeKeys are keys with these ids.
func oneTimeKeys(c *harness.Client, ids ...string) object {
	keys := object{}
	for _, id := range ids {
		keys[curve+":"+id] = signedKey(c, "key"+id)
	}
	return keys
}

func upload(c *harness.Client, fields object) *harness.Response {
	return c.Post("/v3/keys/upload", fields)
}

func publish(c *harness.Client, text string) {
	upload(c, object{"device_keys": deviceKeys(c, text)}).OK()
}

func queryDevices(asker *harness.Client, users ...*harness.Client) *harness.Response {
	wanted := object{}
	for _, u := range users {
		wanted[u.UserID] = list{}
	}
	return asker.Post("/v3/keys/query", object{"device_keys": wanted}).OK()
}

// claimOf claims a key of a device and gives its name without the algorithm; "" for none.
func claimOf(asker, owner *harness.Client) string {
	r := asker.Post("/v3/keys/claim", object{"one_time_keys": object{owner.UserID: object{owner.DeviceID: curve}}}).OK()
	keys := r.At("one_time_keys", owner.UserID, owner.DeviceID)
	if len(keys.Keys()) == 0 {
		return ""
	}
	return strings.TrimPrefix(keys.Keys()[0], curve+":")
}

func TestDeviceKeys(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		tablet := alice.Login(object{"initial_device_display_name": "tablet"})
		if r := queryDevices(bob, alice); len(r.At("device_keys", alice.UserID).Keys()) != 0 {
			t.Errorf("before any were uploaded: %s", r.Body)
		}
		publish(alice, "one")
		publish(tablet, "two")
		r := queryDevices(bob, alice)
		got := r.At("device_keys", alice.UserID, tablet.DeviceID)
		if got.At("keys", "ed25519:"+tablet.DeviceID).Str() != "edtwo" || got.At("unsigned", "device_display_name").Str() != "tablet" ||
			got.At("signatures", alice.UserID, "ed25519:"+tablet.DeviceID).Str() != "signaturetwo" || len(r.At("device_keys", alice.UserID).Keys()) != 2 {
			t.Errorf("keys %s", r.Body)
		}
		r = bob.Post("/v3/keys/query", object{"device_keys": object{alice.UserID: list{alice.DeviceID, "UNKNOWN"}}}).OK()
		if ids := r.At("device_keys", alice.UserID).Keys(); !slices.Equal(ids, []string{alice.DeviceID}) {
			t.Errorf("keys of one device: %s", r.Body)
		}
		publish(tablet, "three")
		if r := queryDevices(bob, alice); r.At("device_keys", alice.UserID, tablet.DeviceID, "keys", "ed25519:"+tablet.DeviceID).Str() != "edthree" {
			t.Errorf("after a new upload: %s", r.Body)
		}
		tablet.Post("/v3/logout", nil).OK()
		if r := queryDevices(bob, alice); r.At("device_keys", alice.UserID, tablet.DeviceID).Exists() {
			t.Errorf("after the logout: %s", r.Body)
		}
	})
}

// What is not the device's own, or not of the form of keys, is refused as a whole.
func TestUploadRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		with := func(key string, value any) object {
			keys := deviceKeys(alice, "x")
			if keys[key] = value; value == nil {
				delete(keys, key)
			}
			return object{"device_keys": keys, "one_time_keys": oneTimeKeys(alice, "refused")}
		}
		deep := strings.Repeat("[", 90) + strings.Repeat("]", 90)
		for name, body := range map[string]any{
			"another user":       with("user_id", bob.UserID),
			"another device":     with("device_id", "OTHER"),
			"no keys":            with("keys", nil),
			"no signatures":      with("signatures", nil),
			"no algorithms":      with("algorithms", nil),
			"a key no text":      with("keys", object{"ed25519:" + alice.DeviceID: 5}),
			"a key an object":    with("keys", object{"ed25519:" + alice.DeviceID: object{}}),
			"a signature a list": with("signatures", object{alice.UserID: list{}}),
			"algorithms a text":  with("algorithms", "m.olm"),
			"large":              with("more", strings.Repeat("x", 100_000)),
			"a fraction":         with("more", 1.5),
			"device_keys a list": object{"device_keys": list{}},
			"deep":               `{"device_keys":{"more":` + deep + deep + `}}`,
			"no algorithm":       object{"one_time_keys": object{"x": "y"}},
			"no id":              object{"one_time_keys": object{"alg:": "y"}},
			"a number":           object{"one_time_keys": object{"alg:x": 5}},
			"an object":          object{"one_time_keys": object{"alg:x": object{"key": "x"}}},
			"a large key":        object{"one_time_keys": object{"alg:x": strings.Repeat("x", 5000)}},
			"a long name":        object{"one_time_keys": object{"alg:" + strings.Repeat("x", 300): "x"}},
			"two fallback keys":  object{"fallback_keys": oneTimeKeys(alice, "1", "2")},
			"one_time_keys text": object{"one_time_keys": "x"},
		} {
			t.Run(name, func(t *testing.T) {
				if r := upload(alice.For(t).Unchecked(), nil); r.Status != 200 {
					t.Fatalf("an empty upload: %d %s", r.Status, r.Body)
				}
				r := alice.For(t).Unchecked().Post("/v3/keys/upload", body)
				if r.Status != 400 || !strings.HasPrefix(r.At("errcode").Str(), "M_") {
					t.Errorf("status %d %s", r.Status, r.Body)
				}
			})
		}
		r := queryDevices(bob, alice)
		if len(r.At("device_keys", alice.UserID).Keys()) != 0 || claimOf(bob, alice) != "" {
			t.Errorf("something of it was stored: %s", r.Body)
		}
	})
}

func TestOneTimeKeys(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		r := upload(alice, object{"device_keys": deviceKeys(alice, "x"), "one_time_keys": oneTimeKeys(alice, "zzz")}).OK()
		if r.At("one_time_key_counts", curve).Int() != 1 {
			t.Errorf("counts %s", r.Body)
		}
		upload(alice, object{"one_time_keys": oneTimeKeys(alice, "aaa")}).OK()
		upload(alice, object{"one_time_keys": oneTimeKeys(alice, "aaa")}).OK() // the answer was lost
		changed := object{curve + ":aaa": signedKey(alice, "another")}
		upload(alice, object{"one_time_keys": changed}).Fails(400, "M_INVALID_PARAM")
		fallback := signedKey(alice, "last")
		fallback["fallback"] = true
		upload(alice, object{"fallback_keys": object{curve + ":fff": fallback}}).OK()

		counts := func(r *harness.Response) (int64, int) {
			return r.At("device_one_time_keys_count", curve).Int(), len(r.At("device_unused_fallback_key_types").List())
		}
		r = alice.Sync()
		if n, unused := counts(r); n != 2 || unused != 1 {
			t.Errorf("sync tells %d keys, %d unused fallback keys: %s", n, unused, r.Body)
		}
		for i, want := range []struct {
			id     string
			n      int64
			unused int
		}{{"zzz", 1, 1}, {"aaa", 0, 1}, {"fff", 0, 0}} {
			if got := claimOf(bob, alice); got != want.id {
				t.Errorf("claim %d gave %q, not %q", i, got, want.id)
			}
			// The device hears of it at once.
			alice.SyncUntil("the counts", func(r *harness.Response) bool {
				n, unused := counts(r)
				return n == want.n && unused == want.unused
			})
		}
		if got := claimOf(bob, alice); got != "fff" {
			t.Errorf("the fallback key is used again, but the claim gave %q", got)
		}
		upload(alice, object{"one_time_keys": oneTimeKeys(alice, "zzz", "aaa")}).OK()
		if got := claimOf(bob, alice); got != "fff" {
			t.Errorf("a key that was given out before was given out once more: %q", got)
		}
		if r := upload(alice, object{}).OK(); r.At("one_time_key_counts", curve).Int() != 0 {
			t.Errorf("counts %s", r.Body)
		}
		// With other identity keys the device begins anew.
		upload(alice, object{"one_time_keys": oneTimeKeys(alice, "old")}).OK()
		upload(alice, object{"device_keys": deviceKeys(alice, "y"), "one_time_keys": oneTimeKeys(alice, "new")}).OK()
		if got := []string{claimOf(bob, alice), claimOf(bob, alice)}; !slices.Equal(got, []string{"new", ""}) {
			t.Errorf("after a new identity: %q", got)
		}
	})
}

// However many claim at the same time, each gets another key.
func TestClaimsAtOnce(t *testing.T) {
	const askers, each = 8, 10
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		var ids []string
		for i := range askers * each {
			ids = append(ids, fmt.Sprintf("K%03d", i))
		}
		upload(alice, object{"one_time_keys": oneTimeKeys(alice, ids...)}).OK()
		var mu sync.Mutex
		var got []string
		var group sync.WaitGroup
		for range askers {
			group.Go(func() {
				for range each {
					id := claimOf(bob, alice)
					mu.Lock()
					got = append(got, id)
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if slices.Sort(got); !slices.Equal(got, ids) {
			t.Errorf("claimed were %v", got)
		}
	})
}

// inDeviceList tells whether a sync names a user in device_lists.
func inDeviceList(r *harness.Response, name string, who *harness.Client) bool {
	for _, id := range r.At("device_lists", name).List() {
		if id.Str() == who.UserID {
			return true
		}
	}
	return false
}

func TestDeviceLists(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom(bob)
		alice.Sync()
		eve.Sync()
		since := alice.Since
		changed := func(c *harness.Client, who *harness.Client) {
			t.Helper()
			c.SyncUntil("a change of "+who.UserID, func(r *harness.Response) bool { return inDeviceList(r, "changed", who) })
		}
		publish(bob, "x")
		changed(alice, bob)
		bob.Put(harness.Path("/v3/devices/%s", bob.DeviceID), object{"display_name": "phone"}).OK()
		changed(alice, bob)
		publish(bob, "x") // the same
		other := bob.Login(nil)
		publish(other, "y")
		changed(alice, bob)
		other.Post("/v3/logout", nil).OK()
		changed(alice, bob)
		publish(alice, "z") // one's own
		changed(alice, alice)
		if r := eve.Sync(); r.At("device_lists").Exists() {
			t.Errorf("somebody who shares no room is told: %s", r.At("device_lists"))
		}
		eve.Join(room)
		changed(alice, eve)
		r := eve.SyncUntil("the members", func(r *harness.Response) bool { return r.At("device_lists").Exists() })
		if !inDeviceList(r, "changed", alice) || !inDeviceList(r, "changed", bob) {
			t.Errorf("who comes into a room is told of %s", r.At("device_lists"))
		}
		bob.Leave(room)
		alice.SyncUntil("bob left", func(r *harness.Response) bool {
			return inDeviceList(r, "left", bob) && !inDeviceList(r, "changed", bob)
		})
		publish(bob, "secret")
		if r := alice.Sync(); inDeviceList(r, "changed", bob) {
			t.Error("alice is told of a change of bob, who has left")
		}
		got := alice.Get("/v3/keys/changes", "from", since, "to", alice.Since).OK()
		if ids := got.At("changed").Strings(); !slices.Contains(ids, alice.UserID) || !slices.Contains(ids, eve.UserID) || slices.Contains(ids, bob.UserID) {
			t.Errorf("changes %s", got.Body)
		}
		if ids := got.At("left").Strings(); !slices.Equal(ids, []string{bob.UserID}) {
			t.Errorf("changes %s", got.Body)
		}
		alice.Get("/v3/keys/changes", "from", "nonsense", "to", alice.Since).Fails(400, "M_INVALID_PARAM")
		// The same from the database, for a client that was away.
		alice.Leave(room)
		got = alice.Get("/v3/keys/changes", "from", since, "to", alice.Since).OK()
		if ids := got.At("left").Strings(); !slices.Contains(ids, eve.UserID) {
			t.Errorf("changes after alice has left: %s", got.Body)
		}
		r = alice.SyncUntil("eve left", func(r *harness.Response) bool { return r.At("device_lists").Exists() })
		if !inDeviceList(r, "left", eve) || inDeviceList(r, "left", alice) {
			t.Errorf("alice has left: %s", r.At("device_lists"))
		}
	})
}

// Logging out, and a new password, take the keys of the devices with them.
func TestKeysGoWithDevices(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		alice.PublicRoom(bob)
		var devices []*harness.Client
		for i := range 3 {
			c := alice.Login(nil)
			upload(c, object{"device_keys": deviceKeys(c, fmt.Sprint(i)), "one_time_keys": oneTimeKeys(c, "1")}).OK()
			devices = append(devices, c)
		}
		bob.Sync()
		alice.Prove("DELETE", harness.Path("/v3/devices/%s", devices[0].DeviceID), object{}).OK()
		bob.SyncUntil("the change", func(r *harness.Response) bool { return inDeviceList(r, "changed", alice) })
		if got := claimOf(bob, devices[0]); got != "" {
			t.Errorf("a device that is gone gives out %q", got)
		}
		if got := claimOf(bob, devices[1]); got != "1" {
			t.Errorf("a device that is there gives out %q", got)
		}
		alice.Prove("POST", "/v3/account/password", object{"new_password": "a new password 1"}).OK()
		bob.SyncUntil("the change", func(r *harness.Response) bool { return inDeviceList(r, "changed", alice) })
		if ids := queryDevices(bob, alice).At("device_keys", alice.UserID).Keys(); len(ids) != 0 {
			t.Errorf("after the new password there are %v", ids)
		}
	})
}

func sendToDevice(c *harness.Client, txn string, messages object) *harness.Response {
	return c.Put(harness.Path("/v3/sendToDevice/%s/%s", "m.test", txn), object{"messages": messages})
}

// received are the bodies of the messages in a sync.
func received(r *harness.Response) []string {
	return r.At("to_device", "events").Strings("content", "body")
}

func TestSendToDevice(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		tablet := bob.Login(nil)
		to := func(device, body string) object { return object{bob.UserID: object{device: object{"body": body}}} }
		bob.Sync()
		tablet.Sync()
		sendToDevice(alice, "1", to(bob.DeviceID, "one")).OK()
		sendToDevice(alice, "2", to("*", "two")).OK()
		sendToDevice(alice, "1", to(bob.DeviceID, "one")).OK() // the answer was lost
		sendToDevice(alice, "3", to("UNKNOWN", "three")).OK()
		sendToDevice(alice, "4", object{bob.UserID: object{"*": object{"body": "all"}, tablet.DeviceID: object{"body": "tablet"}}}).OK()

		before := bob.Since
		r := bob.Sync()
		if got := received(r); !slices.Equal(got, []string{"one", "two", "all"}) {
			t.Errorf("bob gets %q", got)
		}
		if e := r.At("to_device", "events", 0); e.At("type").Str() != "m.test" || e.At("sender").Str() != alice.UserID || len(e.Keys()) != 3 {
			t.Errorf("message %s", e)
		}
		after := bob.Since
		bob.Since = before
		if got := received(bob.Sync()); len(got) != 3 {
			t.Errorf("a client that got no answer gets %q", got)
		}
		bob.Since = after
		if got := received(bob.Sync()); len(got) != 0 {
			t.Errorf("after the acknowledgement: %q", got)
		}
		bob.Since = "" // they are gone now
		if got := received(bob.Sync()); len(got) != 0 {
			t.Errorf("in a first sync after the acknowledgement: %q", got)
		}
		if got := received(tablet.Sync()); !slices.Equal(got, []string{"two", "tablet"}) {
			t.Errorf("the tablet gets %q", got)
		}
		fresh := bob.Login(nil)
		sendToDevice(alice, "5", to(fresh.DeviceID, "fresh")).OK()
		if got := received(fresh.Sync()); !slices.Equal(got, []string{"fresh"}) {
			t.Errorf("in a first sync: %q", got)
		}
		// A client that waits is woken.
		tablet.Sync()
		waited := make(chan []string)
		go func() {
			r, err := tablet.Try(t.Context(), "GET", "/v3/sync"+harness.Query("since", tablet.Since, "timeout", "60000"), nil)
			if err != nil {
				t.Error(err)
			}
			waited <- received(r)
		}()
		sendToDevice(alice, "6", to(tablet.DeviceID, "wake up")).OK()
		if got := <-waited; !slices.Equal(got, []string{"wake up"}) {
			t.Errorf("who waits gets %q", got)
		}
	})
}

// A long queue comes in order, some at a time, each message once.
func TestToDeviceQueue(t *testing.T) {
	const n = 250
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Sync()
		var want []string
		for i := range n {
			want = append(want, fmt.Sprint(i))
			sendToDevice(alice, fmt.Sprint(i), object{bob.UserID: object{bob.DeviceID: object{"body": want[i]}}}).OK()
		}
		event := alice.Text(room, "in between")
		for _, first := range []bool{false, true} {
			if first {
				bob = bob.Login(nil)
				for i := range n {
					sendToDevice(alice, "again"+fmt.Sprint(i), object{bob.UserID: object{bob.DeviceID: object{"body": want[i]}}}).OK()
				}
			}
			var got []string
			var events int
			for range 3 {
				r := bob.Sync()
				page := received(r)
				if len(page) > 100 || r.At("next_batch").Str() == "" {
					t.Errorf("%d messages at once", len(page))
				}
				got = append(got, page...)
				if r.Timeline(room).Find("event_id", event).Exists() {
					events++
				}
			}
			if !slices.Equal(got, want) || events != 1 {
				t.Errorf("the first sync %v: got %d messages, %d events: %v", first, len(got), events, got)
			}
			if got := received(bob.Sync()); len(got) != 0 {
				t.Errorf("after all were received: %v", got)
			}
		}
	})
}

func TestSendToDeviceRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		for name, test := range map[string]struct {
			body   any
			status int
			code   string
		}{
			"no messages":    {object{}, 400, "M_MISSING_PARAM"},
			"no user":        {object{"messages": object{"alice": object{"*": object{}}}}, 400, "M_INVALID_PARAM"},
			"a text":         {object{"messages": object{alice.UserID: object{"*": "x"}}}, 400, "M_BAD_JSON"},
			"a list":         {object{"messages": object{alice.UserID: object{"*": list{}}}}, 400, "M_BAD_JSON"},
			"large content":  {object{"messages": object{alice.UserID: object{"*": object{"x": strings.Repeat("x", 70_000)}}}}, 413, "M_TOO_LARGE"},
			"devices a list": {object{"messages": object{alice.UserID: list{}}}, 400, "M_BAD_JSON"},
		} {
			t.Run(name, func(t *testing.T) {
				alice.For(t).Unchecked().Put("/v3/sendToDevice/m.test/1", test.body).Fails(test.status, test.code)
			})
		}
		if got := alice.Sync().At("to_device"); got.Exists() {
			t.Errorf("something of it arrived: %s", got)
		}
	})
}
