package federation

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"beep/tests/harness"
)

type object = harness.Object

const curve = "signed_curve25519"

// publish uploads identity keys and one-time keys for the client's device.
func publish(c *harness.Client, oneTime ...string) {
	keys := object{}
	for _, id := range oneTime {
		keys[curve+":"+id] = object{"key": "key" + id, "signatures": object{c.UserID: object{"ed25519:" + c.DeviceID: "signature"}}}
	}
	c.Post("/v3/keys/upload", object{"one_time_keys": keys, "device_keys": object{
		"user_id": c.UserID, "device_id": c.DeviceID, "algorithms": []string{"m.olm.v1.curve25519-aes-sha2"},
		"keys":       object{"ed25519:" + c.DeviceID: "ed" + c.DeviceID},
		"signatures": object{c.UserID: object{"ed25519:" + c.DeviceID: "signature"}},
	}}).OK()
}

// devicesOf are the devices with keys of a user, as another sees them.
func devicesOf(asker, owner *harness.Client) []string {
	r := asker.Post("/v3/keys/query", object{"device_keys": object{owner.UserID: []string{}}}).OK()
	return r.At("device_keys", owner.UserID).Keys()
}

// become waits until something is so.
func become(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this did not happen within a minute: %s", what)
		}
	}
}

func awaitDevices(t *testing.T, asker, owner *harness.Client, want ...string) {
	t.Helper()
	slices.Sort(want)
	become(t, fmt.Sprintf("the devices %v of %s", want, owner.UserID), func() bool { return slices.Equal(devicesOf(asker, owner), want) })
}

func awaitList(c, who *harness.Client, name string) {
	c.SyncUntil(who.UserID+" "+name, func(r *harness.Response) bool {
		return slices.Contains(r.At("device_lists", name).Strings(), who.UserID)
	})
}

// A user's devices are known on another server as they come and go, and what is known there
// is no older than what clients are told of.
func TestDeviceListsOfAnotherServer(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		publish(bob)
		room := alice.CreateRoom(object{"preset": "public_chat", "invite": []string{bob.UserID}})
		bob.SyncUntil("an invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room).Exists() })
		alice.Sync()
		bob.Join(room)
		awaitList(alice, bob, "changed")
		awaitDevices(t, alice, bob, bob.DeviceID)
		tablet := bob.Login(nil)
		publish(tablet)
		awaitList(alice, bob, "changed")
		awaitDevices(t, alice, bob, bob.DeviceID, tablet.DeviceID)
		phone := bob.Login(nil)
		publish(phone)
		awaitDevices(t, alice, bob, bob.DeviceID, tablet.DeviceID, phone.DeviceID)
		alice.Sync()
		tablet.Post("/v3/logout", nil).OK()
		awaitList(alice, bob, "changed")
		awaitDevices(t, alice, bob, bob.DeviceID, phone.DeviceID)
		// While the server is away, what is known of its users is still there.
		if err := servers[1].Kill(); err != nil {
			t.Fatal(err)
		}
		if got := devicesOf(alice, bob); len(got) != 2 {
			t.Errorf("while the other server is away: %v", got)
		}
		if err := servers[1].Start(); err != nil {
			t.Fatal(err)
		}
		bob.Leave(room)
		awaitList(alice, bob, "left")
		laptop := bob.Login(nil)
		publish(laptop)
		awaitDevices(t, alice, bob, bob.DeviceID, phone.DeviceID, laptop.DeviceID)
	})
}

// A server that was away while devices changed ends up with the right list, and its clients
// hear of it.
func TestDeviceListsAfterAnOutage(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		tablet, phone := bob.Login(nil), bob.Login(nil)
		for _, c := range []*harness.Client{bob, tablet, phone} {
			publish(c)
		}
		room := alice.CreateRoom(object{"preset": "public_chat"})
		bob.Post(harness.Path("/v3/join/%s", room)+harness.Query("via", servers[0].Name), nil).OK()
		awaitDevices(t, alice, bob, bob.DeviceID, tablet.DeviceID, phone.DeviceID)
		alice.Sync()
		if err := servers[0].Kill(); err != nil {
			t.Fatal(err)
		}
		laptop := bob.Login(nil)
		publish(laptop)
		tablet.Post("/v3/logout", nil).OK()
		phone.Put(harness.Path("/v3/devices/%s", phone.DeviceID), object{"display_name": "phone"}).OK()
		if err := servers[0].Start(); err != nil {
			t.Fatal(err)
		}
		awaitList(alice, bob, "changed")
		awaitDevices(t, alice, bob, bob.DeviceID, phone.DeviceID, laptop.DeviceID)
	})
}

// A list that could not be had when an update of it came is fetched when its server is back,
// without a client that asks for it.
func TestDeviceListOfAServerThatCameBack(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{Wired: true}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		room := alice.CreateRoom(object{"preset": "public_chat"})
		alice.Sync()
		bob.Post(harness.Path("/v3/join/%s", room)+harness.Query("via", servers[0].Name), nil).OK()
		awaitList(alice, bob, "changed")
		servers[1].Cut()
		publish(bob) // it tells, but cannot be asked
		awaitList(alice, bob, "changed")
		r := alice.Post("/v3/keys/query", object{"timeout": 100, "device_keys": object{bob.UserID: []string{}}}).OK()
		if !r.At("failures", servers[1].Name).Exists() {
			t.Errorf("of a server that cannot be asked: %s", r.Body)
		}
		servers[1].Mend()
		become(t, "alice hears of bob's devices once more", func() bool {
			bob.Text(room, "I am here")
			return slices.Contains(alice.Sync().At("device_lists", "changed").Strings(), bob.UserID)
		})
		if got := devicesOf(alice, bob); !slices.Equal(got, []string{bob.DeviceID}) {
			t.Errorf("bob has %v", got)
		}
	})
}

func TestClaimsFromAnotherServer(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		publish(bob, "1", "2")
		var got []string
		for range 3 {
			r := alice.Post("/v3/keys/claim", object{"one_time_keys": object{bob.UserID: object{bob.DeviceID: curve, "UNKNOWN": curve}}}).OK()
			got = append(got, r.At("one_time_keys", bob.UserID, bob.DeviceID).Keys()...)
		}
		if slices.Sort(got); !slices.Equal(got, []string{curve + ":1", curve + ":2"}) {
			t.Errorf("claimed were %v", got)
		}
		if err := servers[1].Kill(); err != nil {
			t.Fatal(err)
		}
		r := alice.Post("/v3/keys/claim", object{"timeout": 2000, "one_time_keys": object{bob.UserID: object{bob.DeviceID: curve}}}).OK()
		if !r.At("failures", servers[1].Name).Exists() {
			t.Errorf("of a server that is away: %s", r.Body)
		}
		if err := servers[1].Start(); err != nil {
			t.Fatal(err)
		}
	})
}

// Messages reach devices of another server in order and once, also if that was away.
func TestToDeviceAcrossServers(t *testing.T) {
	const before, during = 5, 5
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		bob.Sync()
		var want []string
		send := func(n int) {
			for range n {
				text := fmt.Sprint(len(want))
				want = append(want, text)
				alice.Put(harness.Path("/v3/sendToDevice/m.test/%s", text), object{"messages": object{bob.UserID: object{"*": object{"body": text}}}}).OK()
			}
		}
		send(before)
		var got []string
		receive := func() {
			t.Helper()
			become(t, fmt.Sprintf("%d messages", len(want)), func() bool {
				r := bob.Sync()
				for _, e := range r.At("to_device", "events").List() {
					if e.At("sender").Str() != alice.UserID || e.At("type").Str() != "m.test" {
						t.Errorf("message %s", e)
					}
				}
				got = append(got, r.At("to_device", "events").Strings("content", "body")...)
				return len(got) >= len(want)
			})
		}
		receive()
		if err := servers[1].Kill(); err != nil {
			t.Fatal(err)
		}
		send(during)
		if err := servers[1].Start(); err != nil {
			t.Fatal(err)
		}
		receive()
		if !slices.Equal(got, want) {
			t.Errorf("bob got %v, not %v", got, want)
		}
	})
}
