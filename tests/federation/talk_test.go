package federation

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"beep/tests/harness"
)

// Users of two servers meet in rooms of every version: one is invited, joins, and they
// talk both ways. The one server is killed, misses something, and catches up by itself.
func TestTwoServers(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		rooms := map[string]string{}
		for version := 1; version <= 12; version++ {
			room := alice.CreateRoom(harness.Object{"room_version": fmt.Sprint(version), "name": "Planning", "invite": []string{bob.UserID}})
			rooms[fmt.Sprint(version)] = room
			bob.SyncUntil("an invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room).Exists() })
			bob.Join(room)
			bob.SyncUntilEvent(room, alice.Text(room, "hello"))
			alice.SyncUntilEvent(room, bob.Text(room, "hello yourself"))
		}
		if err := servers[1].Kill(); err != nil {
			t.Fatal(err)
		}
		missed := map[string]string{}
		for version, room := range rooms {
			missed[version] = alice.Text(room, "are you there?")
		}
		if err := servers[1].Start(); err != nil {
			t.Fatal(err)
		}
		for version, room := range rooms {
			await(t, "what was missed in version "+version, func() bool {
				return bob.Get(harness.Path("/v3/rooms/%s/event/%s", room, missed[version])).Status == http.StatusOK
			})
		}
	})
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this did not happen within a minute: %s", what)
		}
	}
}
