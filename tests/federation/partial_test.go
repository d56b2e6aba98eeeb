package federation

import (
	"net/http"
	"slices"
	"testing"

	"beep/tests/harness"
)

// lazily is a filter for clients that load members as they need them.
var lazily = []string{"filter", `{"room":{"state":{"lazy_load_members":true}}}`}

// Who joins a room reads and speaks before its members are known here, also when the server
// is killed meanwhile. Clients that want all members hear of the room when all are known.
func TestJoinBeforeMembersAreKnown(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{Front: true}, func(t *testing.T, servers []*harness.Server) {
		alice, carol, dave := servers[0].Register(t, "alice"), servers[0].Register(t, "carol"), servers[0].Register(t, "dave")
		bob := servers[1].Register(t, "bob")
		room := alice.CreateRoom(harness.Object{"preset": "public_chat", "name": "Planning"})
		carol.Join(room)
		dave.Join(room)
		release := servers[0].Hold("/_matrix/federation/v1/state/")
		defer release()
		eager := bob.Login(nil)
		eager.Sync()
		bob.Post(harness.Path("/v3/join/%s", room)+harness.Query("via", servers[0].Name), nil).OK()

		first := bob.Sync(lazily...)
		if !first.Timeline(room).Find("state_key", bob.UserID).Exists() || !first.StateEvents(room).Find("type", "m.room.name").Exists() {
			t.Errorf("the first sync: %s", first.Body)
		}
		heard := func(event string) *harness.Response {
			return bob.SyncUntil("event "+event, func(r *harness.Response) bool { return r.Timeline(room).Find("event_id", event).Exists() }, lazily...)
		}
		welcome := heard(carol.Text(room, "welcome"))
		if !welcome.StateEvents(room).Find("state_key", carol.UserID).Exists() {
			t.Errorf("who speaks is not told: %s", welcome.Body)
		}
		alice.SyncUntilEvent(room, bob.Text(room, "thanks"))
		if r := eager.Sync(); r.Joined(room).Exists() {
			t.Errorf("a client that wants all members is told of the room: %s", r.Body)
		}
		if err := servers[1].Kill(); err != nil {
			t.Fatal(err)
		}
		missed := alice.Text(room, "are you there?")
		if err := servers[1].Start(); err != nil {
			t.Fatal(err)
		}
		heard(missed)
		heard(dave.Text(room, "hello"))
		alice.SyncUntilEvent(room, bob.Text(room, "yes"))
		if r := eager.Sync(); r.Joined(room).Exists() {
			t.Errorf("after the restart a client that wants all members is told of the room: %s", r.Body)
		}

		release()
		all := eager.SyncUntil("the room", func(r *harness.Response) bool { return r.Joined(room).Exists() })
		for _, who := range []*harness.Client{alice, carol, dave} {
			if !all.StateEvents(room).Find("state_key", who.UserID).Exists() {
				t.Errorf("the state lacks %s: %s", who.UserID, all.Body)
			}
		}
		counted := bob.SyncUntil("the number of members", func(r *harness.Response) bool { return r.Joined(room).At("summary").Exists() }, lazily...)
		if n := counted.Joined(room).At("summary", "m.joined_member_count").Int(); n != 4 {
			t.Errorf("there are %d members: %s", n, counted.Body)
		}
		if counted.StateEvents(room).Find("state_key", alice.UserID).Exists() {
			t.Errorf("a client that loads members as it needs them is sent all: %s", counted.Body)
		}
		if members := bob.Get(harness.Path("/v3/rooms/%s/joined_members", room)).OK().At("joined").Keys(); len(members) != 4 {
			t.Errorf("the members are %q", members)
		}
		if here, there := ids(bob, room), ids(alice, room); !slices.Equal(here, there) {
			t.Errorf("the state here is %q, there %q", here, there)
		}
	})
}

// ids are those of the events in the room's state.
func ids(c *harness.Client, room string) []string {
	found := c.Get(harness.Path("/v3/rooms/%s/state", room)).OK().Strings("event_id")
	slices.Sort(found)
	return found
}

// A request for members waits for them, and who leaves waits for nothing.
func TestLeaveBeforeMembersAreKnown(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{Front: true}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		room := alice.CreateRoom(harness.Object{"preset": "public_chat"})
		release := servers[0].Hold("/_matrix/federation/v1/state/")
		defer release()
		bob.Post(harness.Path("/v3/join/%s", room)+harness.Query("via", servers[0].Name), nil).OK()
		bob.Leave(room)
		alice.SyncUntil("the leave", func(r *harness.Response) bool {
			return r.Timeline(room).Find("state_key", bob.UserID).At("content", "membership").Str() == "leave"
		})
		if r := bob.Get(harness.Path("/v3/rooms/%s/joined_members", room)); r.Status != http.StatusForbidden {
			t.Errorf("who has left sees the members: %s", r.Body)
		}
		bob.Post(harness.Path("/v3/join/%s", room)+harness.Query("via", servers[0].Name), nil).OK()
		release()
		if members := bob.Get(harness.Path("/v3/rooms/%s/joined_members", room)).OK().At("joined").Keys(); len(members) != 2 {
			t.Errorf("the members are %q", members)
		}
	})
}
