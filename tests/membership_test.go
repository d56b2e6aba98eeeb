package tests

import (
	"testing"

	"beep/tests/harness"
)

// A room with the join rule knock, of which alice is the creator: what each of the
// changes comes to, from each membership that bob can have.
func TestMembershipTransitions(t *testing.T) {
	actions := []string{"invite", "join", "leave", "kick", "ban", "unban", "knock"}
	// What bob's membership is afterwards; "!" is a refusal with 403.
	table := map[string][]string{
		"none":   {"invite", "!", "!", "!", "ban", "!", "knock"},
		"invite": {"invite", "join", "leave", "leave", "ban", "!", "!"},
		"join":   {"!", "join", "leave", "leave", "ban", "!", "!"},
		"leave":  {"invite", "!", "leave", "!", "ban", "!", "knock"},
		"ban":    {"!", "!", "!", "!", "ban", "leave", "!"},
		"knock":  {"invite", "!", "leave", "leave", "ban", "!", "knock"},
	}
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		for before, results := range table {
			for i, action := range actions {
				t.Run(before+" "+action, func(t *testing.T) {
					alice, bob := alice.For(t), srv.Register(t, "bob")
					room := alice.CreateRoom(object{"initial_state": list{joinRule("knock")}})
					bringTo(before, room, alice, bob)
					r := act(action, room, alice, bob)
					if results[i] == "!" {
						if r.Status != 403 {
							t.Errorf("status %d %s", r.Status, r.Body)
						}
						return
					}
					r.OK()
					if got := alice.State(room, "m.room.member", bob.UserID).OK().At("membership").Str(); got != results[i] {
						t.Errorf("membership %q, expected %q", got, results[i])
					}
				})
			}
		}
	})
}

func joinRule(rule string) object {
	return object{"type": "m.room.join_rules", "state_key": "", "content": object{"join_rule": rule}}
}

// act lets bob, or alice with bob, do an action.
func act(action, room string, alice, bob *harness.Client) *harness.Response {
	switch action {
	case "join", "leave":
		return bob.Post(harness.Path("/v3/rooms/%s/%s", room, action), nil)
	case "knock":
		return bob.Post(harness.Path("/v3/knock/%s", room), nil)
	}
	return alice.Change(action, room, bob)
}

// bringTo gives bob a membership.
func bringTo(membership, room string, alice, bob *harness.Client) {
	steps := map[string][]string{
		"invite": {"invite"}, "join": {"invite", "join"}, "leave": {"invite", "join", "leave"}, "ban": {"ban"}, "knock": {"knock"},
	}
	for _, step := range steps[membership] {
		act(step, room, alice, bob).OK()
	}
}

func TestMembershipNeedsPower(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, carl := srv.Register(t, "alice"), srv.Register(t, "carl")
		for _, test := range []struct {
			before, action string
			status         int
		}{
			{"none", "invite", 200}, {"join", "kick", 403}, {"join", "ban", 403}, {"invite", "kick", 403}, {"ban", "unban", 403}, {"knock", "invite", 200},
		} {
			t.Run(test.before+" "+test.action, func(t *testing.T) {
				alice, carl, bob := alice.For(t), carl.For(t), srv.Register(t, "bob")
				room := alice.CreateRoom(object{"invite": list{carl.UserID}, "initial_state": list{joinRule("knock")}})
				carl.Join(room)
				bringTo(test.before, room, alice, bob)
				if r := carl.Change(test.action, room, bob); r.Status != test.status {
					t.Errorf("status %d %s", r.Status, r.Body)
				}
			})
		}
	})
}

func TestMembershipRequests(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.CreateRoom(nil)
		unknown := "!thereisnosuchroom:" + srv.Name
		for _, test := range []struct {
			name   string
			who    *harness.Client
			path   string
			body   any
			status int
			code   string
		}{
			{"invite without a user", alice, harness.Path("/v3/rooms/%s/invite", room), object{}, 400, "M_MISSING_PARAM"},
			{"invite of no user id", alice, harness.Path("/v3/rooms/%s/invite", room), object{"user_id": "bob"}, 400, "M_INVALID_PARAM"},
			{"invite by an outsider", eve, harness.Path("/v3/rooms/%s/invite", room), object{"user_id": bob.UserID}, 403, "M_FORBIDDEN"},
			{"invite to an unknown room", eve, harness.Path("/v3/rooms/%s/invite", unknown), object{"user_id": bob.UserID}, 403, "M_FORBIDDEN"},
			{"join of no room", bob, harness.Path("/v3/join/%s", "room"), nil, 400, "M_INVALID_PARAM"},
			{"join by an unknown alias", bob, harness.Path("/v3/join/%s", "#nowhere-at-all:"+srv.Name), nil, 404, "M_NOT_FOUND"},
			{"reason that is no text", bob, harness.Path("/v3/join/%s", room), object{"reason": 5}, 400, "M_BAD_JSON"},
			{"without token", srv.Client(t), harness.Path("/v3/join/%s", room), nil, 401, "M_MISSING_TOKEN"},
		} {
			t.Run(test.name, func(t *testing.T) {
				test.who.For(t).Post(test.path, test.body).Fails(test.status, test.code)
			})
		}
	})
}

func TestReasonsAreShown(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.CreateRoom(nil)
		for _, step := range []struct {
			who    *harness.Client
			action string
		}{{alice, "invite"}, {bob, "join"}, {alice, "kick"}, {alice, "ban"}, {alice, "unban"}} {
			body := object{"reason": "because of " + step.action}
			if step.who == alice {
				body["user_id"] = bob.UserID
			}
			step.who.Post(harness.Path("/v3/rooms/%s/%s", room, step.action), body).OK()
			if got := alice.State(room, "m.room.member", bob.UserID).OK().At("reason").Str(); got != "because of "+step.action {
				t.Errorf("%s: reason %q", step.action, got)
			}
		}
	})
}

func TestJoinByAlias(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		name := srv.UniqueName("plaza")
		room := alice.CreateRoom(object{"preset": "public_chat", "room_alias_name": name})
		if got := bob.Post(harness.Path("/v3/join/%s", "#"+name+":"+srv.Name), nil).OK().At("room_id").Str(); got != room {
			t.Errorf("room id %q", got)
		}
		if got := bob.Get("/v3/joined_rooms").OK().At("joined_rooms").String(); got != `["`+room+`"]` {
			t.Errorf("joined rooms %s", got)
		}
		bob.Join(room)
		alice.SetState(room, "m.room.join_rules", "", object{"join_rule": "invite"}).OK()
		bob.Leave(room)
		bob.Post(harness.Path("/v3/join/%s", room), nil).Fails(403, "M_FORBIDDEN")
	})
}

// The change is the same through PUT /state, which may carry further keys.
func TestMembershipThroughState(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.CreateRoom(nil)
		alice.SetState(room, "m.room.member", bob.UserID, object{"membership": "invite"}).OK()
		bob.SetState(room, "m.room.member", bob.UserID, object{"membership": "join", "displayname": "Bob here", "org.example.x": 1}).OK()
		got := alice.State(room, "m.room.member", bob.UserID).OK()
		if got.At("membership").Str() != "join" || got.At("displayname").Str() != "Bob here" || got.At("org.example.x").Int() != 1 {
			t.Errorf("member %s", got.Body)
		}
		bob.SetState(room, "m.room.member", alice.UserID, object{"membership": "leave"}).Fails(403, "M_FORBIDDEN")
		bob.SetState(room, "m.room.member", alice.UserID, object{"membership": "join"}).Fails(403, "M_FORBIDDEN")
		alice.SetState(room, "m.room.member", bob.UserID, object{"membership": "ban"}).OK()
		alice.SetState(room, "m.room.member", bob.UserID, object{"membership": "leave"}).OK()
		if r := alice.SetState(room, "m.room.member", bob.UserID, object{"membership": "chief"}); r.Status != 400 && r.Status != 403 {
			t.Errorf("a membership that does not exist: status %d %s", r.Status, r.Body)
		}
	})
}

func TestForget(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		forget := harness.Path("/v3/rooms/%s/forget", room)
		left := func() bool {
			t.Helper()
			bob.Since = ""
			return bob.Sync("filter", `{"room":{"include_leave":true}}`).At("rooms", "leave", room).Exists()
		}
		bob.Post(forget, nil).Fails(400, "M_UNKNOWN")
		bob.Leave(room)
		if !left() {
			t.Error("the room that was left is not in sync")
		}
		bob.Post(forget, nil).OK()
		if left() {
			t.Error("the room that was forgotten is in sync")
		}
		bob.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b").Fails(403, "M_FORBIDDEN")
		bob.Join(room)
		bob.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b").OK()
	})
}

func TestDoubleJoinIsOneEvent(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Join(room)
		joins := 0
		for _, e := range alice.History(room) {
			if e.At("type").Str() == "m.room.member" && e.At("state_key").Str() == bob.UserID {
				joins++
			}
		}
		if joins != 1 {
			t.Errorf("%d join events", joins)
		}
	})
}
