package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

func TestAttackF14SecondCreate(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		create := alice.Get(harness.Path("/v3/rooms/%s/state/m.room.create", room), "format", "event").OK().At("event_id").Str()
		if room != "!"+strings.TrimPrefix(create, "$") {
			t.Errorf("room %s is not named after its create event %s", room, create)
		}
		for _, key := range []string{"", "second"} {
			if r := alice.SetState(room, "m.room.create", key, object{"room_version": "12"}); r.Status != 403 && r.Status != 400 {
				t.Errorf("key %q: status %d %s", key, r.Status, r.Body)
			}
		}
		if r := alice.SendEvent(room, "m.room.create", "1", object{"room_version": "12"}); r.Status != 403 && r.Status != 400 {
			t.Errorf("as a message: status %d %s", r.Status, r.Body)
		}
		if r := alice.Put(harness.Path("/v3/rooms/%s/redact/%s/t", room, create), object{}); r.Status != 403 {
			t.Errorf("redaction of the create event: status %d", r.Status)
		}
		// Nobody chooses the id of a room.
		content := object{"creation_content": object{"room_id": "!mine:" + srv.Name, "creator": "@somebody:else"}}
		other := alice.CreateRoom(content)
		if got := alice.State(other, "m.room.create", "").OK().At("creator").Str(); got != "" && got != alice.UserID {
			t.Errorf("creator %q", got)
		}
	})
}

func TestAttackF15CreatorPower(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		room := alice.CreateRoom(object{"preset": "public_chat", "creation_content": object{"additional_creators": list{carl.UserID}}})
		bob.Join(room)
		carl.Join(room)
		refused := func(what string, r *harness.Response) {
			t.Helper()
			if r.Status != 400 && r.Status != 403 {
				t.Errorf("%s: status %d %s", what, r.Status, r.Body)
			}
		}
		for _, creator := range []*harness.Client{alice, carl} {
			for _, level := range []any{0, 100, 9007199254740991} {
				refused("creator among the users", alice.SetState(room, "m.room.power_levels", "", object{"users": object{creator.UserID: level}}))
			}
		}
		alice.SetState(room, "m.room.power_levels", "", object{"users": object{bob.UserID: 9007199254740991}}).OK()
		for _, creator := range []*harness.Client{alice, carl} {
			for _, action := range []string{"kick", "ban"} {
				refused("a powerful user may "+action+" a creator", bob.Change(action, room, creator))
			}
			refused("a powerful user demotes a creator", bob.SetState(room, "m.room.power_levels", "",
				object{"users": object{bob.UserID: 9007199254740991, creator.UserID: 0}}))
		}
		alice.SetState(room, "m.room.power_levels", "", object{"users": object{}}).OK()
		carl.Change("kick", room, bob).OK()
		for _, creators := range []any{"text", list{5}, list{"nobody"}, list{list{}}, object{}, list{nil}} {
			refused(fmt.Sprint("additional_creators ", creators),
				alice.Post("/v3/createRoom", object{"creation_content": object{"additional_creators": creators}}))
		}
	})
}

func TestAttackF18EventsDefault(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for _, version := range []string{"1", "9", "10", "12"} {
			t.Run(version, func(t *testing.T) {
				alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
				room := alice.CreateRoom(object{"room_version": version, "preset": "public_chat"})
				bob.Join(room)
				levels, _ := alice.State(room, "m.room.power_levels", "").OK().Value().(object)
				levels["events_default"] = 50
				alice.SetState(room, "m.room.power_levels", "", levels).OK()
				message := object{"msgtype": "m.text", "body": "x"}
				bob.SendEvent(room, "m.room.message", "1", message).Fails(403, "M_FORBIDDEN")
				levels["events_default"] = "50"
				r := alice.Lax().SetState(room, "m.room.power_levels", "", levels)
				if version == "10" || version == "12" {
					r.Fails(400, "M_BAD_JSON")
				} else if r.Status != 200 && r.Status != 400 {
					t.Errorf("text as a level: status %d %s", r.Status, r.Body)
				}
				bob.SendEvent(room, "m.room.message", "2", message).Fails(403, "M_FORBIDDEN")
				bob.SendEvent(room, "org.example.x", "3", object{}).Fails(403, "M_FORBIDDEN")
			})
		}
	})
}

// Power levels that say nothing leave the defaults: 50 for state, 0 for messages and
// users, and the creator without a level is the first to feel it before version 12.
func TestAttackF33EmptyPowerLevels(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for version, creator := range map[string]int{"11": 403, "12": 200} {
			alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
			room := alice.CreateRoom(object{"room_version": version, "preset": "public_chat"})
			bob.Join(room)
			alice.SetState(room, "m.room.power_levels", "", object{}).OK()
			if got := alice.SetState(room, "m.room.topic", "", object{"topic": "x"}).Status; got != creator {
				t.Errorf("version %s: the creator gets status %d, expected %d", version, got, creator)
			}
			bob.SetState(room, "m.room.topic", "", object{"topic": "x"}).Fails(403, "M_FORBIDDEN")
			bob.SetState(room, "m.room.power_levels", "", object{"users": object{bob.UserID: 100}}).Fails(403, "M_FORBIDDEN")
			bob.Change("kick", room, alice).Fails(403, "M_FORBIDDEN")
			bob.Text(room, "x")
		}
	})
}

func TestAttackC08RedactedEverywhere(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Sync()
		since := bob.Since
		const secret = "wrong window, sorry"
		message := alice.Text(room, secret)
		state := alice.SetState(room, "org.example.x", "", object{"text": secret}).OK().At("event_id").Str()
		later := alice.SetState(room, "org.example.x", "", object{"text": "later"}).OK().At("event_id").Str()
		alice.Redact(room, message)
		alice.Redact(room, state)
		event := func(id string) string { return harness.Path("/v3/rooms/%s/event/%s", room, id) }
		bob.Since = since
		for name, r := range map[string]*harness.Response{
			"event":              bob.Get(event(message)),
			"state event":        bob.Get(event(state)),
			"prev_content":       bob.Get(event(later)),
			"context":            bob.Get(harness.Path("/v3/rooms/%s/context/%s", room, message)),
			"context around":     bob.Get(harness.Path("/v3/rooms/%s/context/%s", room, later), "limit", "20"),
			"messages":           bob.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b", "limit", "50"),
			"state":              bob.Get(harness.Path("/v3/rooms/%s/state", room)),
			"incremental sync":   bob.Get("/v3/sync", "since", since),
			"initial sync":       bob.Get("/v3/sync", "filter", `{"room":{"timeline":{"limit":50}}}`),
			"sync of the sender": alice.Get("/v3/sync", "filter", `{"room":{"timeline":{"limit":50}}}`),
			"sync, federation":   bob.Unchecked().Get("/v3/sync", "filter", `{"event_format":"federation","room":{"timeline":{"limit":50}}}`),
		} {
			if r.OK(); strings.Contains(string(r.Body), secret) {
				t.Errorf("%s shows what was redacted: %s", name, r.Body)
			}
		}
	})
}

func TestAttackC09OutsidersLearnNothing(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, eve := srv.Register(t, "alice"), srv.Register(t, "eve")
		room := alice.CreateRoom(object{"name": "n"})
		event := alice.Text(room, "x")
		unknown := "!" + strings.Repeat("A", len(room)-1)
		for _, path := range []string{
			"/v3/rooms/%s/members", "/v3/rooms/%s/joined_members", "/v3/rooms/%s/state", "/v3/rooms/%s/state/m.room.name",
			"/v3/rooms/%s/state/m.room.member/" + alice.UserID, "/v3/rooms/%s/messages?dir=b", "/v3/rooms/%s/aliases",
			"/v3/rooms/%s/event/" + event, "/v3/rooms/%s/context/" + event,
		} {
			there, nowhere := eve.Get(harness.Path(path, room)), eve.Get(harness.Path(path, unknown))
			if there.Status != 403 && there.Status != 404 {
				t.Errorf("%s: status %d %s", path, there.Status, there.Body)
			}
			if there.Status != nowhere.Status || string(there.Body) != string(nowhere.Body) {
				t.Errorf("%s: a room that is there is told from one that is not:\n%d %s\n%d %s", path, there.Status, there.Body, nowhere.Status, nowhere.Body)
			}
		}
	})
}

// Many requests that want one room's lock are all answered, and others with them.
func TestAttackC14OneBusyRoom(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room, quiet := alice.CreateRoom(nil), bob.CreateRoom(nil)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				path := harness.Path("/v3/rooms/%s/state/org.example.x/%s", room, fmt.Sprint(i))
				if r, err := alice.Try(t.Context(), "PUT", path, object{"n": i}); err != nil || r.Status != 200 {
					t.Errorf("request %d: %v %v", i, r, err)
				}
			})
		}
		for i := range 10 {
			bob.Text(quiet, fmt.Sprint(i))
		}
		all.Wait()
		states := 0
		for _, e := range alice.Get(harness.Path("/v3/rooms/%s/state", room)).OK().List() {
			if e.At("type").Str() == "org.example.x" {
				states++
			}
		}
		if states != 200 {
			t.Errorf("%d of 200 state events are there", states)
		}
	})
}

func TestAttackC15OddJoinRules(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		for _, content := range []object{
			{"join_rule": "org.example.quiz"}, {"join_rule": ""}, {"join_rule": 5}, {"join_rule": list{}}, {},
			{"join_rule": "restricted"}, {"join_rule": "restricted", "allow": 5}, {"join_rule": "restricted", "allow": list{5, object{"type": "x"}, object{}}},
			{"join_rule": "private"},
		} {
			room := alice.CreateRoom(nil)
			alice.Lax().SetState(room, "m.room.join_rules", "", content)
			if r := bob.Post(harness.Path("/v3/join/%s", room), nil); r.Status != 403 && r.Status != 400 {
				t.Errorf("%v: join: status %d %s", content, r.Status, r.Body)
			}
			if r := bob.Post(harness.Path("/v3/knock/%s", room), nil); r.Status != 403 && r.Status != 400 {
				t.Errorf("%v: knock: status %d %s", content, r.Status, r.Body)
			}
			alice.Change("invite", room, bob)
			if r := bob.Lax().Get("/v3/sync"); r.Status != 200 {
				t.Errorf("%v: sync: status %d %s", content, r.Status, r.Body)
			}
		}
	})
}

// What state says of names and pictures is not always text; who reads it gets an answer
// all the same.
func TestAttackC27NamesThatAreNoText(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		for _, junk := range []any{5, object{}, list{}, nil, true} {
			room := alice.PublicRoom(bob)
			lax := alice.Lax()
			lax.SetState(room, "m.room.name", "", object{"name": junk})
			lax.SetState(room, "m.room.avatar", "", object{"url": junk})
			lax.SetState(room, "m.room.canonical_alias", "", object{"alias": junk})
			lax.SetState(room, "m.room.topic", "", object{"topic": junk})
			lax.SetState(room, "m.room.history_visibility", "", object{"history_visibility": junk})
			lax.SetState(room, "m.room.guest_access", "", object{"guest_access": junk})
			lax.SetState(room, "m.room.member", alice.UserID, object{"membership": "join", "displayname": junk, "avatar_url": junk})
			reader := bob.Lax()
			joined := reader.Get("/v3/sync").OK().Joined(room)
			if got := joined.At("summary", "m.heroes").String(); got != `["`+alice.UserID+`"]` && got != "(nothing)" {
				t.Errorf("%v: heroes %s", junk, got)
			}
			members := reader.Get(harness.Path("/v3/rooms/%s/joined_members", room)).OK().At("joined", alice.UserID)
			for _, key := range []string{"display_name", "avatar_url"} {
				if v := members.At(key); v.Exists() && v.Value() != nil && v.Str() == "" {
					t.Errorf("%v: joined_members %s", junk, members)
				}
			}
			reader.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b").OK()
			lax.Change("invite", room, srv.Register(t, "guest"))
		}
	})
}

func TestAttackC28EqualRooms(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		const n = 50
		ids := make([]string, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				r, err := alice.Try(t.Context(), "POST", "/v3/createRoom", object{})
				if err != nil || r.Status != 200 {
					t.Errorf("request %d: %v %v", i, r, err)
					return
				}
				ids[i] = r.At("room_id").Str()
			})
		}
		all.Wait()
		distinct := map[string]bool{}
		for _, id := range ids {
			distinct[id] = true
		}
		if len(distinct) != n || distinct[""] {
			t.Errorf("%d rooms for %d requests", len(distinct), n)
		}
		if joined := alice.Get("/v3/joined_rooms").OK().At("joined_rooms").List(); len(joined) != n {
			t.Errorf("%d rooms joined", len(joined))
		}
	})
}

func TestAttackC21LostUpdates(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		other := alice.Login(nil)
		room := alice.CreateRoom(nil)
		for _, path := range []string{globalData(alice, "m.direct"), roomData(alice, room, "org.example.x")} {
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					value := strings.Repeat(fmt.Sprint(i%10), 1000)
					body := object{"@a:x": list{value}, "@b:x": list{value}, fmt.Sprintf("@%d:x", i): list{value}}
					if r, err := alice.Try(t.Context(), "PUT", path, body); err != nil || r.Status != 200 {
						t.Errorf("request %d: %v %v", i, r, err)
					}
				})
			}
			all.Wait()
			stored := alice.Get(path).OK()
			if len(stored.Keys()) != 3 || stored.At("@a:x").String() != stored.At("@b:x").String() {
				t.Errorf("two writes were mixed: %.300s", stored.Body)
			}
			r := other.Sync()
			events := r.At("account_data", "events")
			if strings.Contains(path, "/rooms/") {
				events = r.Joined(room).At("account_data", "events")
			}
			var synced []harness.JSON
			for _, e := range events.List() {
				if e.At("content", "@a:x").Exists() {
					synced = append(synced, e)
				}
			}
			if len(synced) != 1 || cmp.Diff(stored.String(), synced[0].At("content").String()) != "" {
				t.Errorf("sync tells of another value than is stored")
			}
		}
	})
}
