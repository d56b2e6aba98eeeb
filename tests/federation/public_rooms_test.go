package federation

import (
	"slices"
	"testing"

	"beep/tests/harness"
)

// Users read the room directories of other servers through their own.
func TestPublicRoomsOfAnotherServer(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{}, func(t *testing.T, servers []*harness.Server) {
		alice, bob := servers[0].Register(t, "alice"), servers[1].Register(t, "bob")
		small := alice.CreateRoom(harness.Object{"visibility": "public", "name": "Small"})
		large := alice.CreateRoom(harness.Object{"visibility": "public", "name": "Large"})
		alice.CreateRoom(harness.Object{"visibility": "public", "name": "Inside", "creation_content": harness.Object{"m.federate": false}})
		bob.CreateRoom(harness.Object{"visibility": "public", "name": "Large, but elsewhere"})
		servers[0].Register(t, "carol").Join(large)
		from := harness.Query("server", servers[0].Name)
		all := bob.Get("/v3/publicRooms" + from).OK()
		if got := all.At("chunk").Strings("room_id"); !slices.Equal(got, []string{large, small}) {
			t.Errorf("rooms %s", all.Body)
		}
		first := bob.Get("/v3/publicRooms", "server", servers[0].Name, "limit", "1").OK()
		second := bob.Get("/v3/publicRooms", "server", servers[0].Name, "limit", "1", "since", first.At("next_batch").Str()).OK()
		if got := second.At("chunk").Strings("name"); !slices.Equal(got, []string{"Small"}) {
			t.Errorf("the second page: %s", second.Body)
		}
		found := bob.Post("/v3/publicRooms"+from, harness.Object{"filter": harness.Object{"generic_search_term": "large"}}).OK()
		if got := found.At("chunk").Strings("name"); !slices.Equal(got, []string{"Large"}) || found.At("chunk", 0, "num_joined_members").Int() != 2 {
			t.Errorf("a search: %s", found.Body)
		}
	})
}
