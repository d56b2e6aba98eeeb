package tests

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

func TestAliases(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom(bob)
		alias := "#" + srv.UniqueName("street") + ":" + srv.Name
		path := harness.Path("/v3/directory/room/%s", alias)
		alice.Get(path).Fails(404, "M_NOT_FOUND")
		eve.Put(path, object{"room_id": room}).Fails(403, "M_FORBIDDEN")
		bob.Put(path, object{"room_id": room}).OK()
		alice.Put(path, object{"room_id": room}).Fails(409, "M_UNKNOWN")
		found := srv.Client(t).Get(path).OK()
		if found.At("room_id").Str() != room || found.At("servers").String() != `["`+srv.Name+`"]` {
			t.Errorf("alias %s", found.Body)
		}
		list := harness.Path("/v3/rooms/%s/aliases", room)
		if got := alice.Get(list).OK().At("aliases").String(); got != `["`+alias+`"]` {
			t.Errorf("aliases %s", got)
		}
		eve.Get(list).Fails(403, "M_FORBIDDEN")
		eve.Delete(path, nil).Fails(403, "M_FORBIDDEN")
		bob.Delete(path, nil).OK()
		bob.Delete(path, nil).Fails(404, "M_NOT_FOUND")
		alice.Get(path).Fails(404, "M_NOT_FOUND")
	})
}

func TestAliasRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		for _, test := range []struct {
			name, alias string
			status      int
			code        string
		}{
			{"of another server", "#a:elsewhere.test", 400, "M_INVALID_PARAM"},
			{"no alias", "a", 400, "M_INVALID_PARAM"},
			{"no server", "#a", 400, "M_INVALID_PARAM"},
		} {
			t.Run(test.name, func(t *testing.T) {
				alice.For(t).Put(harness.Path("/v3/directory/room/%s", test.alias), object{"room_id": room}).Fails(test.status, test.code)
			})
		}
		alias := harness.Path("/v3/directory/room/%s", "#"+srv.UniqueName("x")+":"+srv.Name)
		srv.Client(t).Put(alias, object{"room_id": room}).Fails(401, "M_MISSING_TOKEN")
		if r := alice.Put(alias, object{"room_id": "!unknown:" + srv.Name}); r.Status != 403 && r.Status != 404 {
			t.Errorf("for an unknown room: status %d %s", r.Status, r.Body)
		}
	})
}

func TestCanonicalAlias(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room, other := alice.CreateRoom(nil), alice.CreateRoom(nil)
		mine, theirs := "#"+srv.UniqueName("mine")+":"+srv.Name, "#"+srv.UniqueName("theirs")+":"+srv.Name
		alice.Put(harness.Path("/v3/directory/room/%s", mine), object{"room_id": room}).OK()
		alice.Put(harness.Path("/v3/directory/room/%s", theirs), object{"room_id": other}).OK()
		set := func(content object) *harness.Response {
			t.Helper()
			return alice.Lax().SetState(room, "m.room.canonical_alias", "", content)
		}
		set(object{"alias": "#nowhere-at-all:" + srv.Name}).Fails(400, "M_BAD_ALIAS")
		set(object{"alias": theirs}).Fails(400, "M_BAD_ALIAS")
		set(object{"alt_aliases": list{theirs}}).Fails(400, "M_BAD_ALIAS")
		set(object{"alias": "not an alias"}).Fails(400, "M_INVALID_PARAM")
		set(object{"alias": mine, "alt_aliases": list{mine}}).OK()
		alice.Delete(harness.Path("/v3/directory/room/%s", mine), nil).OK()
		got := alice.State(room, "m.room.canonical_alias", "").OK().Keys()
		if diff := cmp.Diff([]string(nil), got); diff != "" {
			t.Errorf("the deleted alias is still canonical: %s", diff)
		}
	})
}
