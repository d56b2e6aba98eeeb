package tests

import (
	"fmt"
	"testing"

	"beep/tests/harness"
)

const dehydrated = "/unstable/org.matrix.msc3814.v1/dehydrated_device"

// dehydration is a request that leaves a device, whose keys the user's self-signing key has
// signed.
func dehydration(i *identity, id string) object {
	device := newSigner(i.t(), i.UserID, id)
	keys := object{"user_id": i.UserID, "device_id": id, "algorithms": list{"m.olm.v1.curve25519-aes-sha2"}, "dehydrated": true,
		"keys": object{"ed25519:" + id: device.public}}
	signed := device.sign(keys)
	own := signed["signatures"].(object)[i.UserID].(object)
	for name, signature := range i.self.sign(keys)["signatures"].(object)[i.UserID].(object) {
		own[name] = signature
	}
	return object{"device_id": id, "device_data": object{"algorithm": "m.dehydration.v2", "nonce": "n" + id}, "initial_device_display_name": "left " + id,
		"device_keys": signed, "one_time_keys": oneTimeKeys(i.Client, "1"+id[:1]), "fallback_keys": oneTimeKeys(i.Client, "F"+id[:1])}
}

func (i *identity) t() testing.TB { return i.device.t }

func TestDehydratedDevice(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := newIdentity(t, srv.Register(t, "alice")), srv.Register(t, "bob")
		alice.Post(crossSigning, alice.crossSigning()).OK()
		c := alice.Unchecked()
		c.Get(dehydrated).Fails(404, "M_NOT_FOUND")
		c.Delete(dehydrated, nil).Fails(404, "M_NOT_FOUND")
		const first, second = "a/curve+key", "bother"
		if id := c.Put(dehydrated, dehydration(alice, first)).OK().At("device_id").Str(); id != first {
			t.Errorf("made %q", id)
		}
		if r := c.Get(dehydrated).OK(); r.At("device_id").Str() != first || r.At("device_data", "nonce").Str() != "n"+first {
			t.Errorf("left is %s", r.Body)
		}
		keys := queryDevices(bob.Unchecked(), alice.Client).At("device_keys", alice.UserID, first)
		if !keys.At("dehydrated").Bool() || !keys.At("signatures", alice.UserID, "ed25519:"+alice.self.public).Exists() {
			t.Errorf("others see %s", keys)
		}
		as := &harness.Client{UserID: alice.UserID, DeviceID: first}
		for _, want := range []string{"1a", "Fa"} {
			if key := claimOf(bob, as); key != want {
				t.Errorf("claimed %q, not %q", key, want)
			}
		}

		const messages = 120
		for i := range messages {
			content := object{"n": i}
			bob.Put(fmt.Sprintf("/v3/sendToDevice/x.test/%d", i), object{"messages": object{alice.UserID: object{first: content}}}).OK()
		}
		events := harness.Path(dehydrated+"/%s/events", first)
		for range 2 { // they stay: whoever was interrupted begins again
			var got []harness.JSON
			from, pages := "", 0
			for more := true; more; pages++ {
				r := c.Get(events + from).OK()
				got = append(got, r.At("events").List()...)
				more = r.At("next_batch").Exists()
				from = harness.Query("from", r.At("next_batch").Str())
			}
			if len(got) != messages || pages != 2 {
				t.Fatalf("%d messages on %d pages", len(got), pages)
			}
			for i, e := range got {
				if e.At("content", "n").Int() != int64(i) || e.At("sender").Str() != bob.UserID || e.At("type").Str() != "x.test" {
					t.Errorf("message %d: %s", i, e)
				}
			}
		}
		n, next := 0, ""
		for {
			r := c.Post(events, object{"next_batch": next}).OK()
			if next = r.At("next_batch").Str(); len(r.At("events").List()) == 0 {
				break
			}
			n += len(r.At("events").List())
		}
		if n != messages {
			t.Errorf("asked for by POST: %d messages", n)
		}
		c.Get(events+"?from=x").Fails(400, "M_INVALID_PARAM")
		c.Get(harness.Path(dehydrated+"/%s/events", alice.DeviceID)).Fails(403, "M_FORBIDDEN")
		bob.Unchecked().Get(events).Fails(403, "M_FORBIDDEN")

		c.Put(dehydrated, dehydration(alice, second)).OK()
		c.Get(events).Fails(403, "M_FORBIDDEN")
		all := queryDevices(bob.Unchecked(), alice.Client).At("device_keys", alice.UserID)
		if all.At(first).Exists() || !all.At(second).Exists() || len(alice.Get("/v3/devices").OK().At("devices").List()) != 2 {
			t.Errorf("after the next was made: %s", all)
		}
		if id := c.Delete(dehydrated, nil).OK().At("device_id").Str(); id != second {
			t.Errorf("removed %q", id)
		}
		if queryDevices(bob.Unchecked(), alice.Client).At("device_keys", alice.UserID, second).Exists() {
			t.Error("the keys are there after the device was removed")
		}
		c.Put(dehydrated, dehydration(alice, first)).OK()
		alice.Prove("DELETE", harness.Path("/v3/devices/%s", first), object{}).OK()
		c.Get(dehydrated).Fails(404, "M_NOT_FOUND")
	})
}

func TestDehydrationRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := newIdentity(t, srv.Register(t, "alice"))
		alice.Post(crossSigning, alice.crossSigning()).OK()
		other := newSigner(t, alice.UserID, alice.self.public)
		for name, tc := range map[string]struct {
			change func(object)
			code   string
		}{
			"no id":       {func(o object) { o["device_id"] = "" }, "M_INVALID_PARAM"},
			"an other id": {func(o object) { o["device_id"] = "other" }, "M_BAD_JSON"},
			"a device's id": {func(o object) {
				o["device_id"], o["device_keys"] = alice.DeviceID, alice.device.sign(alice.deviceKeys())
			}, "M_INVALID_PARAM"},
			"no data":         {func(o object) { delete(o, "device_data") }, "M_BAD_JSON"},
			"data a text":     {func(o object) { o["device_data"] = "x" }, "M_BAD_JSON"},
			"no keys":         {func(o object) { delete(o, "device_keys") }, "M_MISSING_PARAM"},
			"wrong signature": {func(o object) { o["device_keys"] = other.sign(o["device_keys"].(object)) }, "M_INVALID_SIGNATURE"},
			"wrong fallback":  {func(o object) { o["fallback_keys"] = oneTimeKeys(alice.Client, "1", "2") }, "M_INVALID_PARAM"},
			"wrong one-time":  {func(o object) { o["one_time_keys"] = object{"x": 5} }, "M_BAD_JSON"},
		} {
			t.Run(name, func(t *testing.T) {
				request := dehydration(alice, "device")
				tc.change(request)
				alice.For(t).Unchecked().Put(dehydrated, request).Fails(400, tc.code)
			})
		}
		alice.Unchecked().Get(dehydrated).Fails(404, "M_NOT_FOUND")
		if n := len(alice.Get("/v3/devices").OK().At("devices").List()); n != 1 {
			t.Errorf("%d devices", n)
		}
	})
}
