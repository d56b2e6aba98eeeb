package tests

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

// listed are the ids of the rooms of a page of the room directory.
func listed(r *harness.Response) []string { return r.OK().At("chunk").Strings("room_id") }

func TestPublicRooms(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		word := srv.UniqueName("word")
		room := alice.CreateRoom(object{"visibility": "public", "name": "The " + word, "topic": "t", "room_alias_name": word})
		space := alice.CreateRoom(object{"visibility": "public", "name": word, "creation_content": object{"type": "m.space"}})
		alice.CreateRoom(object{"preset": "public_chat", "name": word + " that is not published"})
		bob.Join(room)
		search := func(body object) *harness.Response {
			t.Helper()
			body["filter"].(object)["generic_search_term"] = word
			return bob.Post("/v3/publicRooms", body)
		}
		found := search(object{"filter": object{}})
		if diff := cmp.Diff([]string{room, space}, listed(found)); diff != "" {
			t.Error(diff)
		}
		want := object{"room_id": room, "name": "The " + word, "topic": "t", "canonical_alias": "#" + word + ":" + srv.Name,
			"join_rule": "public", "num_joined_members": found.At("chunk", 0, "num_joined_members").Value(), "world_readable": false, "guest_can_join": false}
		if diff := cmp.Diff(want, found.At("chunk", 0).Value()); diff != "" || found.At("chunk", 0, "num_joined_members").Int() != 2 {
			t.Errorf("%s: %s", found.At("chunk", 0), diff)
		}
		first := search(object{"filter": object{}, "limit": 1})
		second := search(object{"filter": object{}, "limit": 1, "since": first.At("next_batch").Str()})
		back := search(object{"filter": object{}, "limit": 1, "since": second.At("prev_batch").Str()})
		for i, r := range []*harness.Response{first, second, back} {
			if got, want := listed(r), []string{room, space, room}[i:i+1]; !slices.Equal(got, want) {
				t.Errorf("page %d: %v", i, got)
			}
		}
		if got := listed(search(object{"filter": object{"room_types": list{"m.space"}}})); !slices.Equal(got, []string{space}) {
			t.Errorf("spaces: %v", got)
		}
		if got := listed(search(object{"filter": object{"room_types": list{nil}}})); !slices.Equal(got, []string{room}) {
			t.Errorf("rooms without a type: %v", got)
		}
		if got := listed(search(object{"filter": object{}, "third_party_instance_id": "irc"})); len(got) != 0 {
			t.Errorf("of another network: %v", got)
		}
		stranger := srv.Client(t)
		if page := stranger.Get("/v3/publicRooms", "limit", "1", "server", srv.Name); len(listed(page)) != 1 || page.At("next_batch").Str() == "" {
			t.Errorf("a page for strangers: %s", page.Body)
		}
		stranger.Get("/v3/publicRooms", "server", "elsewhere.test").Fails(401, "M_MISSING_TOKEN")
		stranger.Post("/v3/publicRooms", nil).Fails(401, "M_MISSING_TOKEN")
		bob.Get("/v3/publicRooms", "limit", "-1").Fails(400, "M_INVALID_PARAM")
		bob.Get("/v3/publicRooms", "since", "x").Fails(400, "M_INVALID_PARAM")
		bob.Get("/v3/publicRooms", "server", "no name").Fails(400, "M_INVALID_PARAM")
	})
}

func TestPublishRoom(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom(bob)
		path := harness.Path("/v3/directory/list/room/%s", room)
		visibility := func(want string) {
			t.Helper()
			if got := srv.Client(t).Get(path).OK().At("visibility").Str(); got != want {
				t.Errorf("visibility %s, not %s", got, want)
			}
		}
		visibility("private")
		for _, who := range []*harness.Client{bob, eve} {
			who.Put(path, object{"visibility": "public"}).Fails(403, "M_FORBIDDEN")
		}
		visibility("private")
		alice.Put(path, object{}).OK()
		visibility("public")
		alice.Put(path, object{"visibility": "private"}).OK()
		visibility("private")
		alice.SetPower(room, map[*harness.Client]int{bob: 50})
		bob.Put(path, object{"visibility": "public"}).OK()
		visibility("public")
		bob.Leave(room)
		bob.Put(path, object{"visibility": "private"}).Fails(403, "M_FORBIDDEN")
		visibility("public")
		unknown := harness.Path("/v3/directory/list/room/%s", "!unknown:"+srv.Name)
		alice.Get(unknown).Fails(404, "M_NOT_FOUND")
		alice.Put(unknown, object{"visibility": "public"}).Fails(404, "M_NOT_FOUND")
		srv.Client(t).Put(path, object{"visibility": "private"}).Fails(401, "M_MISSING_TOKEN")
		bad, err := alice.Unchecked().Try(t.Context(), "PUT", path, object{"visibility": "secret"})
		if err != nil {
			t.Fatal(err)
		}
		bad.Fails(400, "M_INVALID_PARAM")
	})
}
