package tests

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

func TestStateKeys(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		for _, key := range []string{"", "plain", "with/slash", "with space", "#hash?query&%", "日本", `"'\`} {
			content := object{"key": key}
			id := alice.SetState(room, "org.example.keys", key, content).OK().At("event_id").Str()
			if got := alice.State(room, "org.example.keys", key).OK().At("key").Str(); got != key {
				t.Errorf("key %q came back as %q", key, got)
			}
			e := alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, id)).OK()
			if !e.At("state_key").Exists() || e.At("state_key").Str() != key {
				t.Errorf("event %s", e.Body)
			}
		}
		path := harness.Path("/v3/rooms/%s/state/org.example.empty", room)
		alice.Put(path, object{"n": 1}).OK()
		if got := alice.Get(path + "/").OK().At("n").Int(); got != 1 {
			t.Errorf("with a slash: %d", got)
		}
		alice.Put(path+"/", object{"n": 2}).OK()
		if got := alice.Get(path).OK().At("n").Int(); got != 2 {
			t.Errorf("without a slash: %d", got)
		}
	})
}

func TestStateTypeWithSlash(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		alice.SetState(room, "org/example", "", object{"n": 1}).OK()
		if got := alice.State(room, "org/example", "").OK().At("n").Int(); got != 1 {
			t.Errorf("n is %d", got)
		}
		alice.State(room, "org", "example").Fails(404, "M_NOT_FOUND")
	})
}

func TestStateEvent(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, eve := srv.Register(t, "alice"), srv.Register(t, "eve")
		room := alice.CreateRoom(object{"topic": "t"})
		path := harness.Path("/v3/rooms/%s/state/m.room.topic", room)
		e := alice.Get(path, "format", "event").OK()
		if e.At("type").Str() != "m.room.topic" || e.At("sender").Str() != alice.UserID || e.At("content", "topic").Str() != "t" ||
			e.At("room_id").Str() != room {
			t.Errorf("event %s", e.Body)
		}
		if got := alice.Get(path, "format", "content").OK().At("topic").Str(); got != "t" {
			t.Errorf("topic %q", got)
		}
		if r := alice.Get(path, "format", "other"); r.Status != 400 {
			t.Errorf("status %d %s", r.Status, r.Body)
		}
		alice.State(room, "m.room.avatar", "").Fails(404, "M_NOT_FOUND")
		eve.State(room, "m.room.topic", "").Fails(403, "M_FORBIDDEN")
	})
}

func TestStateNeedsPower(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom(bob)
		levels := object{
			"users": object{bob.UserID: 20}, "state_default": 50, "events": object{"org.example.low": 20, "org.example.high": 21},
		}
		alice.SetState(room, "m.room.power_levels", "", levels).OK()
		for _, test := range []struct {
			name      string
			who       *harness.Client
			eventType string
			key       string
			content   object
			status    int
		}{
			{"enough", bob, "org.example.low", "", object{}, 200},
			{"one less than needed", bob, "org.example.high", "", object{}, 403},
			{"the default", bob, "org.example.other", "", object{}, 403},
			{"the key of oneself", bob, "org.example.low", bob.UserID, object{}, 200},
			{"the key of another user", bob, "org.example.low", alice.UserID, object{}, 403},
			{"the key of another user, by the creator", alice, "org.example.low", bob.UserID, object{}, 403},
			{"not in the room", eve, "org.example.low", "", object{}, 403},
			{"a second create event", alice, "m.room.create", "", object{"room_version": "12"}, 403},
		} {
			t.Run(test.name, func(t *testing.T) {
				r := test.who.For(t).SetState(room, test.eventType, test.key, test.content)
				if test.status == 200 {
					r.OK()
				} else {
					r.Fails(test.status, "M_FORBIDDEN")
				}
			})
		}
	})
}

func TestPowerLevelRules(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		levels := func(bobLevel, carlLevel int, more object) object {
			content := object{"users": object{bob.UserID: bobLevel, carl.UserID: carlLevel}, "events": object{"m.room.power_levels": 50}}
			for key, value := range more {
				content[key] = value
			}
			return content
		}
		for _, test := range []struct {
			name    string
			content object
			status  int
		}{
			{"nothing changed", levels(50, 50, nil), 200},
			{"raising oneself", levels(51, 50, nil), 403},
			{"raising another to one's own level", levels(50, 50, object{"ban": 50}), 200},
			{"raising another above oneself", levels(50, 51, nil), 403},
			{"lowering an equal", levels(50, 40, nil), 403},
			{"lowering oneself", levels(40, 50, nil), 200},
			{"raising a need above oneself", levels(50, 50, object{"kick": 51}), 403},
			{"raising a need to one's own level", levels(50, 50, object{"invite": 50}), 200},
			{"a level that is no number", levels(50, 50, object{"kick": "50"}), 400},
			{"users that are no object", object{"users": list{}}, 400},
		} {
			t.Run(test.name, func(t *testing.T) {
				alice, bob, carl := alice.For(t), bob.For(t), carl.For(t)
				room := alice.PublicRoom(bob, carl)
				alice.SetState(room, "m.room.power_levels", "", levels(50, 50, nil)).OK()
				if r := bob.Lax().SetState(room, "m.room.power_levels", "", test.content); r.Status != test.status {
					t.Errorf("status %d %s", r.Status, r.Body)
				}
			})
		}
	})
}

func TestWholeState(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, eve := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "eve")
		room := alice.PublicRoom(bob)
		alice.SetState(room, "m.room.topic", "", object{"topic": "before"}).OK()
		path := harness.Path("/v3/rooms/%s/state", room)
		state := bob.Get(path).OK()
		types := map[string]int{}
		for _, e := range state.List() {
			if e.At("type").Str() == "m.room.guest_access" {
				continue // a preset may leave it out, which means the same
			}
			types[e.At("type").Str()]++
			if e.At("room_id").Str() != room {
				t.Errorf("event without its room: %s", e)
			}
		}
		want := map[string]int{"m.room.create": 1, "m.room.member": 2, "m.room.power_levels": 1, "m.room.join_rules": 1,
			"m.room.history_visibility": 1, "m.room.topic": 1}
		if diff := cmp.Diff(want, types); diff != "" {
			t.Error(diff)
		}
		eve.Get(path).Fails(403, "M_FORBIDDEN")

		bob.Leave(room)
		alice.SetState(room, "m.room.topic", "", object{"topic": "after"}).OK()
		alice.SetState(room, "m.room.name", "", object{"name": "after"}).OK()
		left := bob.Get(path).OK()
		if got := left.Find("type", "m.room.topic").At("content", "topic").Str(); got != "before" {
			t.Errorf("topic %q after leaving", got)
		}
		if got := bob.State(room, "m.room.topic", "").OK().At("topic").Str(); got != "before" {
			t.Errorf("topic %q after leaving", got)
		}
		bob.State(room, "m.room.name", "").Fails(404, "M_NOT_FOUND")
		if got := left.Find("type", "m.room.member", "state_key", bob.UserID).At("content", "membership").Str(); got != "leave" {
			t.Errorf("own membership %q after leaving", got)
		}
	})
}

func TestSameStateAgain(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		first := alice.SetState(room, "m.room.topic", "", object{"topic": "t"}).OK().At("event_id").Str()
		second := alice.SetState(room, "m.room.topic", "", object{"topic": "u"}).OK().At("event_id").Str()
		if first == second {
			t.Error("another content gave the same event")
		}
		e := alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, second)).OK()
		if e.At("unsigned", "prev_content", "topic").Str() != "t" || e.At("unsigned", "replaces_state").Str() != first {
			t.Errorf("unsigned %s", e.At("unsigned"))
		}
	})
}
