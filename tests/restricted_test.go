package tests

import (
	"testing"

	"beep/tests/harness"
)

// restricted is a join rule that lets the members of rooms in.
func restricted(rule string, rooms ...string) object {
	allow := list{}
	for _, room := range rooms {
		allow = append(allow, object{"type": "m.room_membership", "room_id": room})
	}
	return object{"join_rule": rule, "allow": allow}
}

func TestRestrictedRooms(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for _, version := range []string{"8", "10", "12"} {
			for _, rule := range []string{"restricted", "knock_restricted"} {
				if version == "8" && rule == "knock_restricted" {
					continue // known from version 10 on
				}
				t.Run(version+" "+rule, func(t *testing.T) {
					alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
					house := alice.PublicRoom(bob)
					room := alice.CreateRoom(object{"room_version": version})
					alice.SetState(room, "m.room.join_rules", "", restricted(rule, house)).OK()
					eve.Post(harness.Path("/v3/join/%s", room), nil).Fails(403, "M_FORBIDDEN")
					bob.Join(room)
					if got := alice.State(room, "m.room.member", bob.UserID).OK().At("join_authorised_via_users_server").Str(); got != alice.UserID {
						t.Errorf("authorised by %q", got)
					}
					// A member who changes the name needs nobody's authority again.
					bob.SetState(room, "m.room.member", bob.UserID, object{"membership": "join", "displayname": "B"}).OK()
					bob.Leave(house)
					bob.Leave(room)
					bob.Post(harness.Path("/v3/join/%s", room), nil).Fails(403, "M_FORBIDDEN")
					alice.Change("invite", room, bob).OK()
					bob.Join(room)
					knock := eve.Post(harness.Path("/v3/knock/%s", room), nil)
					if rule == "knock_restricted" {
						knock.OK()
					} else {
						knock.Fails(403, "M_FORBIDDEN")
					}
				})
			}
		}
	})
}

// Only a member with the power to invite can vouch for one who joins.
func TestRestrictedNeedsOneWhoCanInvite(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		house := alice.PublicRoom(bob, carl)
		room := alice.CreateRoom(object{"power_level_content_override": object{"invite": 50}})
		alice.SetState(room, "m.room.join_rules", "", restricted("restricted", house)).OK()
		bob.Join(room)
		alice.Leave(room)
		r := carl.Post(harness.Path("/v3/join/%s", room), nil)
		if r.Status < 400 || r.Status > 403 {
			t.Errorf("status %d %s", r.Status, r.Body)
		}
	})
}

// Clients cannot vouch for themselves.
func TestRestrictedAuthorityIsTheServers(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, eve := srv.Register(t, "alice"), srv.Register(t, "eve")
		house := alice.PublicRoom()
		room := alice.CreateRoom(nil)
		alice.SetState(room, "m.room.join_rules", "", restricted("restricted", house)).OK()
		content := object{"membership": "join", "join_authorised_via_users_server": alice.UserID}
		eve.SetState(room, "m.room.member", eve.UserID, content).Fails(403, "M_FORBIDDEN")
		if got := alice.Get(harness.Path("/v3/rooms/%s/joined_members", room)).OK().At("joined").Keys(); len(got) != 1 {
			t.Errorf("members %v", got)
		}
	})
}

func TestKnock(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		alias := srv.UniqueName("door")
		room := alice.CreateRoom(object{"name": "Door", "room_alias_name": alias, "initial_state": list{joinRule("knock")}})
		alice.Sync()
		bob.Sync()
		r := bob.Post(harness.Path("/v3/knock/%s", "#"+alias+":"+srv.Name), object{"reason": "let me in"}).OK()
		if r.At("room_id").Str() != room {
			t.Errorf("room id %s", r.Body)
		}
		knocked := bob.SyncUntil("the knock", func(r *harness.Response) bool { return r.At("rooms", "knock", room).Exists() })
		state := knocked.At("rooms", "knock", room, "knock_state", "events")
		if state.Find("type", "m.room.name").At("content", "name").Str() != "Door" || !state.Find("type", "m.room.create").Exists() {
			t.Errorf("knock_state %s", state)
		}
		e := alice.Sync().Timeline(room).Find("type", "m.room.member", "state_key", bob.UserID)
		if e.At("content", "membership").Str() != "knock" || e.At("content", "reason").Str() != "let me in" {
			t.Errorf("alice sees %s", e)
		}
		alice.Change("invite", room, bob).OK()
		bob.SyncUntil("the invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room).Exists() })
		bob.Join(room)

		closed := alice.CreateRoom(nil)
		bob.Post(harness.Path("/v3/knock/%s", closed), nil).Fails(403, "M_FORBIDDEN")
	})
}
