package hostile

import (
	"slices"
	"testing"

	"beep/tests/harness"
)

// A room that says it follows on another one gets nothing of what belongs to that: neither
// aliases nor its place in the directory, nor what users have set for it (F55f).
func TestRoomsThatClaimAPredecessor(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	for name, tombstone := range map[string]harness.Object{
		"without a tombstone": nil, "a tombstone that names another room": {"body": "moved", "replacement_room": "!other:" + victim.Name},
		"a tombstone that names a number": {"body": "moved", "replacement_room": 5}, "a tombstone that names an object": {"body": "moved", "replacement_room": harness.Object{}},
		"a tombstone that names nothing": {"body": "moved"},
	} {
		alice := victim.Register(t, "alice").Lax()
		local := victim.UniqueName("old")
		alias := "#" + local + ":" + victim.Name
		old := alice.CreateRoom(harness.Object{"preset": "public_chat", "visibility": "public", "room_alias_name": local, "name": local})
		user := harness.Path("/v3/user/%s", alice.UserID)
		alice.Put(user+harness.Path("/rooms/%s/tags/m.favourite", old), harness.Object{"order": 0.5}).OK()
		direct := harness.Object{s.User("bob"): harness.List{old}}
		alice.Put(user+"/account_data/m.direct", direct).OK()
		if tombstone != nil {
			alice.SetState(old, "m.room.tombstone", "", tombstone).OK()
		}
		rules := alice.Get("/v3/pushrules/").OK().String()
		claim := harness.Object{"predecessor": harness.Object{"room_id": old, "event_id": "$last"}}
		evil := s.NewRoomWith("11", "!evil"+local+":"+s.Name, claim)
		alice.Post(harness.Path("/v3/join/%s", evil.ID)+harness.Query("via", s.Name), nil).OK()
		made := alice.CreateRoom(harness.Object{"preset": "public_chat", "creation_content": claim})
		s.AwaitEvent(alice.Text(evil.ID, "I am in"))
		if got := alice.Get(harness.Path("/v3/directory/room/%s", alias)).OK().At("room_id").Str(); got != old {
			t.Errorf("%s: the alias leads to %s", name, got)
		}
		listed := alice.Get("/v3/publicRooms", "limit", "1000").OK().At("chunk").Strings("room_id")
		if !slices.Contains(listed, old) || slices.Contains(listed, evil.ID) || slices.Contains(listed, made) {
			t.Errorf("%s: the directory has %v", name, listed)
		}
		for _, room := range []string{evil.ID, made} {
			if tags := alice.Get(user + harness.Path("/rooms/%s/tags", room)).OK().At("tags"); len(tags.Keys()) != 0 {
				t.Errorf("%s: tags %v", name, tags)
			}
			alice.Put(harness.Path("/v3/directory/room/%s", alias), harness.Object{"room_id": room}).Fails(409, "M_UNKNOWN")
		}
		if got := alice.Get(user + "/account_data/m.direct").OK().At(s.User("bob")).String(); got != `["`+old+`"]` {
			t.Errorf("%s: m.direct has %s", name, got)
		}
		if got := alice.Get("/v3/pushrules/").OK().String(); got != rules {
			t.Errorf("%s: push rules %s", name, got)
		}
	}
}
