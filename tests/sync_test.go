package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

// named shows events by type and state key, as m.room.member/@alice:server.
func named(events harness.JSON) []string {
	var all []string
	for _, e := range events.List() {
		name := e.At("type").Str()
		if e.At("state_key").Str() != "" {
			name += "/" + e.At("state_key").Str()
		}
		all = append(all, name)
	}
	return all
}

func TestInitialSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		empty := alice.Sync()
		if empty.At("rooms", "join").Exists() && len(empty.At("rooms", "join").Keys()) > 0 {
			t.Errorf("a new user has rooms: %s", empty.Body)
		}
		room := bob.PublicRoom(alice)
		numbered(bob, room, 30)
		alice.Since = ""
		joined := alice.Sync().Joined(room)
		timeline := joined.At("timeline")
		if got := bodies(timeline.At("events").List()); len(got) == 0 || got[len(got)-1] != "29" {
			t.Errorf("timeline %v", got)
		}
		if !timeline.At("limited").Bool() || timeline.At("prev_batch").Str() == "" {
			t.Errorf("timeline %s", timeline)
		}
		want := []string{"m.room.create", "m.room.history_visibility", "m.room.join_rules",
			"m.room.member/" + alice.UserID, "m.room.member/" + bob.UserID, "m.room.power_levels"}
		got := slices.DeleteFunc(named(joined.At("state", "events")), func(name string) bool { return name == "m.room.guest_access" })
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for _, e := range append(joined.At("state", "events").List(), timeline.At("events").List()...) {
			if e.At("room_id").Exists() || e.At("event_id").Str() == "" || !e.At("unsigned", "age").Exists() {
				t.Errorf("event %s", e)
			}
		}
	})
}

// The state is that at the start of the timeline: what the timeline has is not in it.
func TestStateIsThatBeforeTheTimeline(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(object{"topic": "old"})
		alice.SetState(room, "m.room.topic", "", object{"topic": "new"}).OK()
		alice.Text(room, "x")
		joined := alice.Sync("filter", `{"room":{"timeline":{"limit":2}}}`).Joined(room)
		if got := joined.At("state", "events").Find("type", "m.room.topic").At("content", "topic").Str(); got != "old" {
			t.Errorf("topic %q in the state", got)
		}
		if got := joined.At("timeline", "events", 0, "content", "topic").Str(); got != "new" {
			t.Errorf("topic %q in the timeline", got)
		}
		whole := alice.CreateRoom(nil)
		first := alice.Sync("filter", `{"room":{"timeline":{"limit":50}}}`).Joined(whole)
		if n := len(first.At("state", "events").List()); n != 0 || first.At("timeline", "limited").Bool() {
			t.Errorf("a timeline from the very start comes with state: %s", first)
		}
	})
}

func TestIncrementalSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room, quiet := bob.PublicRoom(alice), bob.PublicRoom(alice)
		alice.Sync()
		first := bob.Text(room, "one")
		bob.SetState(room, "m.room.topic", "", object{"topic": "t"}).OK()
		r := alice.Sync()
		joined := r.Joined(room)
		if diff := cmp.Diff([]string{"m.room.message", "m.room.topic"}, named(joined.At("timeline", "events"))); diff != "" {
			t.Error(diff)
		}
		if joined.At("timeline", "limited").Bool() || joined.At("state", "events", 0).Exists() || r.Joined(quiet).Exists() {
			t.Errorf("sync %s", r.Body)
		}
		if got := joined.At("timeline", "events", 0, "event_id").Str(); got != first {
			t.Errorf("event id %s", got)
		}
		if r := alice.Sync(); r.Joined(room).Exists() {
			t.Errorf("the same events came twice: %s", r.Body)
		}
	})
}

func TestLimitedSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		room := bob.PublicRoom(alice)
		alice.Sync()
		bob.SetState(room, "m.room.topic", "", object{"topic": "first"}).OK()
		bob.SetState(room, "m.room.topic", "", object{"topic": "second"}).OK()
		carl.Join(room)
		numbered(bob, room, 5)
		bob.SetState(room, "m.room.name", "", object{"name": "n"}).OK()
		joined := alice.Sync("filter", `{"room":{"timeline":{"limit":3}}}`).Joined(room)
		if diff := cmp.Diff([]string{"3", "4"}, bodies(joined.At("timeline", "events").List())); diff != "" {
			t.Error(diff)
		}
		if !joined.At("timeline", "limited").Bool() {
			t.Error("the timeline is not limited")
		}
		got := named(joined.At("state", "events"))
		slices.Sort(got)
		if diff := cmp.Diff([]string{"m.room.member/" + carl.UserID, "m.room.topic"}, got); diff != "" {
			t.Error(diff)
		}
		if got := joined.At("state", "events").Find("type", "m.room.topic").At("content", "topic").Str(); got != "second" {
			t.Errorf("topic %q", got)
		}
	})
}

func TestFullState(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(object{"topic": "t"})
		alice.Sync()
		r := alice.Sync("full_state", "true", "timeout", "30000")
		got := named(r.StateEvents(room))
		for _, want := range []string{"m.room.create", "m.room.topic", "m.room.member/" + alice.UserID} {
			if !slices.Contains(got, want) {
				t.Errorf("%s is missing in %v", want, got)
			}
		}
		if n := len(r.Timeline(room).List()); n != 0 {
			t.Errorf("%d events came again", n)
		}
	})
}

func TestStateAfter(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for query, key := range map[string]string{"use_state_after": "state_after", "org.matrix.msc4222.use_state_after": "org.matrix.msc4222.state_after"} {
			alice := srv.Register(t, "alice")
			room := alice.CreateRoom(object{"topic": "old"})
			c := alice
			if strings.HasPrefix(query, "org.") {
				c = alice.Unchecked() // the specification does not list the unstable name
			}
			first := c.Sync(query, "true").Joined(room)
			if first.At("state").Exists() || first.At(key, "events").Find("type", "m.room.topic").At("content", "topic").Str() != "old" {
				t.Errorf("%s: initial sync %s", query, first)
			}
			alice.SetState(room, "m.room.topic", "", object{"topic": "new"}).OK()
			second := c.Sync(query, "true").Joined(room)
			if got := second.At(key, "events").Find("type", "m.room.topic").At("content", "topic").Str(); got != "new" || second.At("state").Exists() {
				t.Errorf("%s: incremental sync %s", query, second)
			}
			alice.Text(room, "x")
			if third := c.Sync(query, "true").Joined(room); !third.At(key).Exists() || third.At(key, "events", 0).Exists() {
				t.Errorf("%s: a message came with %s", query, third)
			}
		}
	})
}

// A sync with a timeout waits, and ends when something happens.
func TestLongPoll(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := bob.PublicRoom(alice)
		alice.Sync("set_presence", "offline")
		before := alice.Since
		begin := time.Now()
		if r := alice.Sync("timeout", "300", "set_presence", "offline"); r.Joined(room).Exists() || time.Since(begin) < 300*time.Millisecond {
			t.Errorf("after %v: %s", time.Since(begin), r.Body)
		}
		answer := make(chan *harness.Response, 1)
		waiting := alice.For(t)
		go func() {
			r, err := waiting.Try(t.Context(), "GET", "/v3/sync"+harness.Query("since", waiting.Since, "timeout", "60000", "set_presence", "offline"), nil)
			if err != nil {
				t.Error(err)
			}
			answer <- r
		}()
		event := bob.Text(room, "x")
		select {
		case r := <-answer:
			if r == nil || !r.Timeline(room).Find("event_id", event).Exists() {
				t.Errorf("answer %v", r)
			}
		case <-time.After(30 * time.Second):
			t.Error("the waiting client was not woken")
		}
		alice.Since = before
		if r := alice.Sync("timeout", "60000"); !r.Timeline(room).Find("event_id", event).Exists() {
			t.Errorf("an event that is there already: %s", r.Body)
		}
	})
}

func TestInviteInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		bob.Sync()
		name := srv.UniqueName("hall")
		room := alice.CreateRoom(object{"name": "Hall", "topic": "not for everyone to see", "room_alias_name": name, "is_direct": true, "invite": list{bob.UserID}})
		r := bob.SyncUntil("the invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room).Exists() })
		state := r.At("rooms", "invite", room, "invite_state", "events")
		for _, want := range []string{"m.room.create", "m.room.join_rules", "m.room.name", "m.room.canonical_alias", "m.room.member/" + bob.UserID} {
			if !slices.Contains(named(state), want) {
				t.Errorf("%s is missing in %v", want, named(state))
			}
		}
		own := state.Find("type", "m.room.member", "state_key", bob.UserID)
		if own.At("sender").Str() != alice.UserID || own.At("content", "membership").Str() != "invite" || !own.At("content", "is_direct").Bool() {
			t.Errorf("own member event %s", own)
		}
		if again := bob.Sync(); again.At("rooms", "invite", room).Exists() {
			t.Error("the invite came twice")
		}
		bob.Since = ""
		if again := bob.Sync(); !again.At("rooms", "invite", room).Exists() {
			t.Error("the invite is not in an initial sync")
		}
		bob.Leave(room)
		if r := bob.Sync(); !r.At("rooms", "leave", room).Exists() {
			t.Errorf("the declined invite: %s", r.Body)
		}
	})
}

func TestLeaveInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		for _, action := range []string{"leave", "kick", "ban"} {
			t.Run(action, func(t *testing.T) {
				alice, bob := alice.For(t), bob.For(t)
				room := alice.PublicRoom(bob)
				bob.Sync()
				alice.Text(room, "last")
				act(action, room, alice, bob).OK()
				alice.Text(room, "secret")
				alice.SetState(room, "m.room.topic", "", object{"topic": "secret"}).OK()
				r := bob.Sync()
				left := r.At("rooms", "leave", room)
				events := left.At("timeline", "events")
				if diff := cmp.Diff([]string{"m.room.message", "m.room.member/" + bob.UserID}, named(events)); diff != "" {
					t.Error(diff)
				}
				if strings.Contains(string(r.Body), "secret") || r.Joined(room).Exists() {
					t.Errorf("sync %s", r.Body)
				}
				if again := bob.Sync(); again.At("rooms", "leave", room).Exists() {
					t.Errorf("the room came twice: %s", again.Body)
				}
				bob.Since = ""
				if initial := bob.Sync(); initial.At("rooms", "leave", room).Exists() {
					t.Error("an initial sync has a room that was left")
				}
				bob.Since = ""
				if all := bob.Sync("filter", `{"room":{"include_leave":true}}`); !all.At("rooms", "leave", room).Exists() || strings.Contains(string(all.Body), "secret") {
					t.Errorf("with include_leave: %s", all.Body)
				}
			})
		}
	})
}

func TestRejoinInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Sync()
		bob.Leave(room)
		bob.Sync()
		alice.SetState(room, "m.room.topic", "", object{"topic": "while away"}).OK()
		bob.Join(room)
		r := bob.Sync("filter", `{"room":{"timeline":{"limit":1}}}`)
		if got := r.StateEvents(room).Find("type", "m.room.topic").At("content", "topic").Str(); got != "while away" {
			t.Errorf("topic %q after coming back", got)
		}
		if !r.StateEvents(room).Find("type", "m.room.create").Exists() {
			t.Error("a room that is joined comes without its whole state")
		}
	})
}

func TestJoinInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom()
		numbered(alice, room, 30)
		bob.Sync()
		bob.Join(room)
		r := bob.Sync("filter", `{"room":{"timeline":{"limit":5}}}`)
		if !r.StateEvents(room).Find("type", "m.room.create").Exists() || !r.Joined(room).At("timeline", "limited").Bool() {
			t.Errorf("a room that was joined: %s", r.Joined(room))
		}
		if diff := cmp.Diff([]string{"26", "27", "28", "29"}, bodies(r.Timeline(room).List())); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSummary(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.PublicRoom()
		var members []*harness.Client
		for i := range 7 {
			members = append(members, srv.Register(t, fmt.Sprintf("m%d", i)))
			members[i].Join(room)
		}
		invited := srv.Register(t, "invited")
		alice.Change("invite", room, invited).OK()
		summary := alice.Sync().Joined(room).At("summary")
		if summary.At("m.joined_member_count").Int() != 8 || summary.At("m.invited_member_count").Int() != 1 {
			t.Errorf("summary %s", summary)
		}
		var want []string
		for _, m := range members[:5] {
			want = append(want, m.UserID)
		}
		var got []string
		for _, hero := range summary.At("m.heroes").List() {
			got = append(got, hero.Str())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		members[6].Leave(room)
		if got := alice.Sync().Joined(room).At("summary", "m.joined_member_count").Int(); got != 7 {
			t.Errorf("%d members after one has left", got)
		}
	})
}

// Those who have left stand for a room that is empty otherwise.
func TestHeroesOfAnEmptyRoom(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Leave(room)
		if got := alice.Sync().Joined(room).At("summary", "m.heroes").String(); got != `["`+bob.UserID+`"]` {
			t.Errorf("heroes %s", got)
		}
	})
}

func TestLazyMembers(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl, dave := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl"), srv.Register(t, "dave")
		room := alice.CreateRoom(object{"preset": "public_chat", "name": "named, so that heroes are not needed"})
		for _, m := range []*harness.Client{bob, carl, dave} {
			m.Join(room)
		}
		members := func(r *harness.Response) []string {
			var all []string
			for _, e := range r.StateEvents(room).List() {
				if e.At("type").Str() == "m.room.member" {
					all = append(all, e.At("state_key").Str())
				}
			}
			slices.Sort(all)
			return all
		}
		filter := `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}`
		carl.Text(room, "x")
		if diff := cmp.Diff([]string{alice.UserID, carl.UserID}, members(alice.Sync("filter", filter))); diff != "" {
			t.Errorf("initial: %s", diff)
		}
		dave.Text(room, "y")
		if diff := cmp.Diff([]string{dave.UserID}, members(alice.Sync("filter", filter))); diff != "" {
			t.Errorf("incremental: %s", diff)
		}
		full := `{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true},"timeline":{"limit":1}}}`
		dave.Text(room, "z")
		if diff := cmp.Diff([]string{dave.UserID}, members(alice.Sync("filter", full))); diff != "" {
			t.Errorf("redundant: %s", diff)
		}
	})
}

func TestSyncFilters(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room, other := alice.CreateRoom(object{"topic": "t"}), alice.CreateRoom(nil)
		alice.Text(room, "x")
		alice.SendEvent(room, "org.example.other", "1", object{"body": "other"}).OK()
		alice.Put(globalData(alice, "org.example.x"), object{"n": 1}).OK()
		alice.Put(roomData(alice, room, "org.example.x"), object{"n": 1}).OK()
		path := harness.Path("/v3/user/%s/filter", alice.UserID)
		for _, test := range []struct {
			name   string
			filter object
			check  func(r *harness.Response) bool
		}{
			{"types of the timeline", object{"room": object{"timeline": object{"types": list{"m.room.message"}}}}, func(r *harness.Response) bool {
				return slices.Equal(named(r.Timeline(room)), []string{"m.room.message"})
			}},
			{"types of the state", object{"room": object{"state": object{"types": list{"m.room.topic"}}, "timeline": object{"limit": 1}}}, func(r *harness.Response) bool {
				return slices.Equal(named(r.StateEvents(room)), []string{"m.room.topic"})
			}},
			{"rooms", object{"room": object{"rooms": list{other}}}, func(r *harness.Response) bool {
				return !r.Joined(room).Exists() && r.Joined(other).Exists()
			}},
			{"not rooms", object{"room": object{"not_rooms": list{other}}}, func(r *harness.Response) bool {
				return r.Joined(room).Exists() && !r.Joined(other).Exists()
			}},
			{"account data", object{"account_data": object{"not_types": list{"*"}}}, func(r *harness.Response) bool {
				return !r.At("account_data", "events", 0).Exists() && r.Joined(room).At("account_data", "events", 0).Exists()
			}},
			{"account data of rooms", object{"room": object{"account_data": object{"types": list{}}}}, func(r *harness.Response) bool {
				return r.At("account_data", "events", 0).Exists() && !r.Joined(room).At("account_data", "events", 0).Exists()
			}},
			{"presence", object{"presence": object{"types": list{}}}, func(r *harness.Response) bool {
				return !r.At("presence", "events", 0).Exists()
			}},
			{"event fields", object{"event_fields": list{"type", "content.body"}}, func(r *harness.Response) bool {
				return r.Timeline(room).Find("type", "m.room.message").String() == `{"content":{"body":"x"},"type":"m.room.message"}`
			}},
		} {
			t.Run(test.name, func(t *testing.T) {
				c := alice.For(t)
				if test.name == "event fields" {
					c = c.Unchecked() // events with less than the schema wants
				}
				id := c.Post(path, test.filter).OK().At("filter_id").Str()
				c.Since = ""
				if r := c.Sync("filter", id); !test.check(r) {
					t.Errorf("sync %s", r.Body)
				}
			})
		}
	})
}

func TestFilterStore(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		path := harness.Path("/v3/user/%s/filter", alice.UserID)
		filter := object{"room": object{"timeline": object{"limit": 7}}}
		id := alice.Post(path, filter).OK().At("filter_id").Str()
		if strings.HasPrefix(id, "{") {
			t.Errorf("filter id %q", id)
		}
		if got := alice.Get(path + "/" + id).OK().String(); got != `{"room":{"timeline":{"limit":7}}}` {
			t.Errorf("filter %s", got)
		}
		alice.Get(path+"/9999999").Fails(404, "M_NOT_FOUND")
		bob.Get(path+"/"+id).Fails(403, "M_FORBIDDEN")
		bob.Post(path, filter).Fails(403, "M_FORBIDDEN")
		alice.Post(path, object{"room": object{"timeline": object{"limit": "many"}}}).Fails(400, "M_BAD_JSON")
		if r := alice.Get("/v3/sync", "filter", "9999999"); r.Status != 400 && r.Status != 404 {
			t.Errorf("sync with an unknown filter: status %d %s", r.Status, r.Body)
		}
	})
}

func TestIgnoredUsers(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		alice.SetPower(room, map[*harness.Client]int{bob: 50})
		alice.Sync()
		alice.Put(globalData(alice, "m.ignored_user_list"), object{"ignored_users": object{bob.UserID: object{}}}).OK()
		bob.Text(room, "ignored")
		bob.SetState(room, "m.room.topic", "", object{"topic": "state is shown"}).OK()
		invite := bob.CreateRoom(object{"invite": list{alice.UserID}})
		alice.Text(room, "own")
		for _, since := range []string{alice.Since, ""} {
			alice.Since = since
			r := alice.Sync()
			if diff := cmp.Diff([]string{"own"}, bodies(r.Timeline(room).List())); diff != "" {
				t.Errorf("since %q: %s", since, diff)
			}
			if !slices.Contains(append(named(r.Timeline(room)), named(r.StateEvents(room))...), "m.room.topic") {
				t.Errorf("since %q: state of an ignored user is missing", since)
			}
			if r.At("rooms", "invite", invite).Exists() {
				t.Errorf("since %q: the invite of an ignored user is shown", since)
			}
		}
		alice.Put(globalData(alice, "m.ignored_user_list"), object{"ignored_users": object{}}).OK()
		alice.Sync()
		bob.Text(room, "heard again")
		if diff := cmp.Diff([]string{"heard again"}, bodies(alice.Sync().Timeline(room).List())); diff != "" {
			t.Error(diff)
		}
	})
}

// Each device is told its own transaction ids and no other's.
func TestTransactionIDInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		phone := alice.Login(nil)
		room := alice.CreateRoom(nil)
		alice.Sync()
		phone.Sync()
		event := alice.SendEvent(room, "m.room.message", "mine", object{"msgtype": "m.text", "body": "x"}).OK().At("event_id").Str()
		if got := alice.SyncUntilEvent(room, event).Timeline(room).Find("event_id", event).At("unsigned", "transaction_id").Str(); got != "mine" {
			t.Errorf("transaction_id %q", got)
		}
		if phone.SyncUntilEvent(room, event).Timeline(room).Find("event_id", event).At("unsigned", "transaction_id").Exists() {
			t.Error("another device is told the transaction_id")
		}
	})
}

func TestPrevContentInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(object{"topic": "old"})
		alice.Sync()
		event := alice.SetState(room, "m.room.topic", "", object{"topic": "new"}).OK().At("event_id").Str()
		unsigned := alice.SyncUntilEvent(room, event).Timeline(room).Find("event_id", event).At("unsigned")
		if unsigned.At("prev_content", "topic").Str() != "old" || unsigned.At("replaces_state").Str() == "" {
			t.Errorf("unsigned %s", unsigned)
		}
	})
}

func TestRedactionInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Sync()
		since := bob.Since
		event := alice.Text(room, "a secret")
		bob.SyncUntilEvent(room, event)
		redaction := alice.Redact(room, event)
		e := bob.SyncUntilEvent(room, redaction).Timeline(room).Find("event_id", redaction)
		if e.At("content", "redacts").Str() != event || e.At("type").Str() != "m.room.redaction" {
			t.Errorf("redaction %s", e)
		}
		// One who comes later never sees what was redacted.
		bob.Since = since
		r := bob.Sync()
		if strings.Contains(string(r.Body), "a secret") || !r.Timeline(room).Find("event_id", event).At("unsigned", "redacted_because").Exists() {
			t.Errorf("sync %s", r.Body)
		}
	})
}

// The stream of a user goes on over a restart of the server, with the same tokens.
func TestRestart(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Sync()
		content := object{"msgtype": "m.text", "body": "0"}
		first := alice.SendEvent(room, "m.room.message", "txn", content).OK().At("event_id").Str()
		srv.Restart(t)
		if again := alice.SendEvent(room, "m.room.message", "txn", content).OK().At("event_id").Str(); again != first {
			t.Errorf("after the restart the same transaction gave another event")
		}
		second := alice.Text(room, "1")
		r := bob.SyncUntilEvent(room, second)
		if diff := cmp.Diff([]string{"0", "1"}, bodies(r.Timeline(room).List())); diff != "" {
			t.Error(diff)
		}
	})
}
