package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

func TestCreateRoomWithEverything(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		creator, guest, other := srv.Register(t, "creator"), srv.Register(t, "invited"), srv.Register(t, "second")
		alias := srv.UniqueName("everything")
		room := creator.CreateRoom(object{
			"name": "Хурал", "topic": "Minutes", "room_alias_name": alias, "preset": "private_chat", "is_direct": true,
			"invite":           list{guest.UserID},
			"creation_content": object{"m.federate": false, "org.example.x": "kept", "additional_creators": list{other.UserID}},
			"initial_state": list{
				object{"type": "m.room.join_rules", "state_key": "", "content": object{"join_rule": "public"}},
				object{"type": "org.example.state", "state_key": "key", "content": object{"n": 1}},
			},
			"power_level_content_override": object{"events_default": 10, "users": object{guest.UserID: 30}},
		})
		for _, test := range []struct {
			eventType, key string
			path           []any
			want           string
		}{
			{"m.room.create", "", []any{"room_version"}, `"12"`},
			{"m.room.create", "", []any{"m.federate"}, `false`},
			{"m.room.create", "", []any{"org.example.x"}, `"kept"`},
			{"m.room.create", "", []any{"additional_creators"}, `["` + other.UserID + `"]`},
			{"m.room.member", creator.UserID, []any{"membership"}, `"join"`},
			{"m.room.member", guest.UserID, []any{"membership"}, `"invite"`},
			{"m.room.member", guest.UserID, []any{"is_direct"}, `true`},
			{"m.room.name", "", []any{"name"}, `"Хурал"`},
			{"m.room.topic", "", []any{"topic"}, `"Minutes"`},
			{"m.room.canonical_alias", "", []any{"alias"}, `"#` + alias + ":" + srv.Name + `"`},
			{"m.room.join_rules", "", []any{"join_rule"}, `"public"`},
			{"m.room.history_visibility", "", []any{"history_visibility"}, `"shared"`},
			{"m.room.guest_access", "", []any{"guest_access"}, `"can_join"`},
			{"m.room.power_levels", "", []any{"events_default"}, `10`},
			{"m.room.power_levels", "", []any{"users", guest.UserID}, `30`},
			{"m.room.power_levels", "", []any{"users", creator.UserID}, `(nothing)`},
			{"org.example.state", "key", []any{"n"}, `1`},
		} {
			if got := creator.State(room, test.eventType, test.key).OK().At(test.path...).String(); got != test.want {
				t.Errorf("%s %v: %s, expected %s", test.eventType, test.path, got, test.want)
			}
		}
	})
}

func TestPresets(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		creator, guest := srv.Register(t, "creator"), srv.Register(t, "invited")
		for _, test := range []struct {
			body                               object
			joinRule, visibility, guests, rank string
		}{
			{object{}, "invite", "shared", "can_join", "(nothing)"},
			{object{"visibility": "public"}, "public", "shared", "forbidden", "(nothing)"},
			{object{"preset": "public_chat"}, "public", "shared", "forbidden", "(nothing)"},
			{object{"preset": "private_chat", "visibility": "public"}, "invite", "shared", "can_join", "(nothing)"},
			{object{"preset": "trusted_private_chat", "room_version": "11"}, "invite", "shared", "can_join", "100"},
		} {
			t.Run(fmt.Sprint(test.body), func(t *testing.T) {
				test.body["invite"] = list{guest.UserID}
				c := creator.For(t)
				room := c.CreateRoom(test.body)
				got := []string{
					c.State(room, "m.room.join_rules", "").OK().At("join_rule").Str(),
					c.State(room, "m.room.history_visibility", "").OK().At("history_visibility").Str(),
					guestAccess(c, room),
					c.State(room, "m.room.power_levels", "").OK().At("users", guest.UserID).String(),
				}
				if diff := cmp.Diff([]string{test.joinRule, test.visibility, test.guests, test.rank}, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	})
}

// guestAccess is what the room says of guests; a room that says nothing forbids them.
func guestAccess(c *harness.Client, room string) string {
	r := c.State(room, "m.room.guest_access", "")
	if r.Status == 404 {
		return "forbidden"
	}
	return r.OK().At("guest_access").Str()
}

func TestTrustedChatMakesCreators(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		creator, guest := srv.Register(t, "creator"), srv.Register(t, "invited")
		room := creator.CreateRoom(object{"preset": "trusted_private_chat", "invite": list{guest.UserID}})
		if got := creator.State(room, "m.room.create", "").OK().At("additional_creators").String(); got != `["`+guest.UserID+`"]` {
			t.Errorf("additional_creators %s", got)
		}
		guest.Join(room)
		guest.SetState(room, "m.room.name", "", object{"name": "ours"}).OK()
	})
}

func TestRoomVersions(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		creator, member := srv.Register(t, "creator"), srv.Register(t, "member")
		for n := 1; n <= 12; n++ {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				version := fmt.Sprint(n)
				creator, member := creator.For(t), member.For(t)
				room := creator.CreateRoom(object{"room_version": version, "preset": "public_chat", "topic": "t"})
				if got := creator.State(room, "m.room.create", "").OK().At("room_version").Str(); got != version {
					t.Errorf("room version %q", got)
				}
				if hash := !strings.Contains(room, ":"); hash != (n >= 12) {
					t.Errorf("room id %s", room)
				}
				member.Join(room)
				event := member.Text(room, "hello")
				creator.Redact(room, event)
				e := creator.Get(harness.Path("/v3/rooms/%s/event/%s", room, event)).OK()
				if e.At("content").String() != "{}" || !e.At("unsigned", "redacted_because").Exists() {
					t.Errorf("after the redaction: %s", e.Body)
				}
				creator.SetPower(room, map[*harness.Client]int{member: 50})
				member.SetState(room, "m.room.topic", "", object{"topic": "u"}).OK()
				creator.Change("ban", room, member).OK()
				member.Post(harness.Path("/v3/join/%s", room), nil).Fails(403, "M_FORBIDDEN")
				creator.Change("unban", room, member).OK()
				member.Join(room)
			})
		}
	})
}

func TestCreateRoomRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		creator := srv.Register(t, "creator")
		taken := srv.UniqueName("taken")
		creator.CreateRoom(object{"room_alias_name": taken})
		state := func(eventType string, content any) object {
			return object{"initial_state": list{object{"type": eventType, "state_key": "", "content": content}}}
		}
		for _, test := range []struct {
			name   string
			body   any
			status int
			code   string
		}{
			{"version that does not exist", object{"room_version": "13"}, 400, "M_UNSUPPORTED_ROOM_VERSION"},
			{"version that is no text", object{"room_version": 12}, 400, "M_BAD_JSON"},
			{"alias that is taken", object{"room_alias_name": taken}, 400, "M_ROOM_IN_USE"},
			{"alias with a colon", object{"room_alias_name": "a:b"}, 400, "M_INVALID_PARAM"},
			{"unknown preset", object{"preset": "office"}, 400, "M_INVALID_PARAM"},
			{"unknown visibility", object{"visibility": "office"}, 400, "M_INVALID_PARAM"},
			{"invitation of nobody", object{"invite": list{"nobody"}}, 400, "M_INVALID_PARAM"},
			{"name that is no text", object{"name": 5}, 400, "M_BAD_JSON"},
			{"power levels that the rules refuse", object{"power_level_content_override": object{"users": object{"nobody": 5}}}, 400, "M_BAD_JSON"},
			{"state without type", object{"initial_state": list{object{"content": object{}}}}, 400, "M_BAD_JSON"},
			{"state without content", object{"initial_state": list{object{"type": "a.b"}}}, 400, "M_BAD_JSON"},
			{"state that is a second create event", state("m.room.create", object{}), 400, "M_INVALID_ROOM_STATE"},
			{"not JSON", `{"name":`, 400, "M_NOT_JSON"},
			{"not an object", `[]`, 400, "M_BAD_JSON"},
		} {
			t.Run(test.name, func(t *testing.T) {
				creator.For(t).Post("/v3/createRoom", test.body).Fails(test.status, test.code)
			})
		}
		if got := creator.Get("/v3/joined_rooms").OK().At("joined_rooms").List(); len(got) != 1 {
			t.Errorf("refused requests made rooms: %v", got)
		}
	})
}
