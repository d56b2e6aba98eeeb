package tests

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

const slidingPath = "/unstable/org.matrix.simplified_msc3575/sync"

// slider is a connection of sliding sync.
type slider struct {
	*harness.Client
	pos  string
	body object
}

// slides begins a connection with one list of so many rooms.
func slides(c *harness.Client, conn string, rooms, limit int, required ...list) *slider {
	state := list{}
	for _, r := range required {
		state = append(state, r)
	}
	return &slider{c, "", object{"conn_id": conn, "lists": object{"all": object{
		"ranges": list{list{0, rooms - 1}}, "timeline_limit": limit, "required_state": state}}}}
}

// ask is one request, which is answered. One that does not wait has all that was done before.
func (s *slider) ask(timeout string) *harness.Response {
	if timeout == "0" {
		s.Settle()
	}
	query := []string{"timeout", timeout}
	if s.pos != "" {
		query = append(query, "pos", s.pos)
	}
	r := s.Post(slidingPath+harness.Query(query...), s.body).OK()
	s.pos = r.At("pos").Str()
	return r
}

// until asks until an answer satisfies arrived, and gives that answer.
func (s *slider) until(t *testing.T, what string, arrived func(*harness.Response) bool) *harness.Response {
	t.Helper()
	var r *harness.Response
	harness.Await(t, what, func() bool {
		r = s.ask("5000")
		return arrived(r)
	})
	return r
}

func bodiesOf(events harness.JSON) []string { return bodies(events.List()) }

func TestSlidingSync(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		if !alice.Get("/versions").OK().At("unstable_features", "org.matrix.simplified_msc3575").Bool() {
			t.Error("sliding sync is not announced")
		}
		room := alice.PublicRoom(bob)
		numbered(alice, room, 30)
		s := slides(bob, "a", 20, 5, list{"m.room.member", "$ME"}, list{"m.room.create", ""})
		r := s.ask("0")
		got := r.At("rooms", room)
		if diff := cmp.Diff([]string{"25", "26", "27", "28", "29"}, bodiesOf(got.At("timeline"))); diff != "" {
			t.Error(diff)
		}
		if state := named(got.At("required_state")); len(state) != 2 || !slices.Contains(state, "m.room.member/"+bob.UserID) {
			t.Errorf("state %q", state)
		}
		if r.At("lists", "all", "count").Int() != 1 || !got.At("initial").Bool() || !got.At("limited").Bool() || got.At("joined_count").Int() != 2 ||
			got.At("heroes").At(0).At("user_id").Str() != alice.UserID {
			t.Errorf("answer %s", r.Body)
		}
		older := bob.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b", "from", got.At("prev_batch").Str(), "limit", "2").OK()
		if diff := cmp.Diff([]string{"24", "23"}, bodiesOf(older.At("chunk"))); diff != "" {
			t.Error(diff)
		}
		if r := bob.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b", "from", s.pos, "limit", "1").OK(); bodiesOf(r.At("chunk"))[0] != "29" {
			t.Errorf("messages before a position: %s", r.Body)
		}
		event := alice.Text(room, "hi")
		r = s.until(t, "the event", func(r *harness.Response) bool {
			return r.At("rooms", room, "timeline").Find("event_id", event).Exists()
		})
		if got := r.At("rooms", room); got.At("initial").Bool() || got.At("num_live").Int() != 1 {
			t.Errorf("room %s", got)
		}
		srv.Restart(t)
		s.Post(slidingPath+harness.Query("pos", s.pos), s.body).Fails(400, "M_UNKNOWN_POS")
		if s.pos = ""; !s.ask("0").At("rooms", room, "initial").Bool() {
			t.Error("a client does not begin anew after a restart")
		}
		srv.Client(t).Post(slidingPath, object{}).Fails(401, "M_MISSING_TOKEN")
	})
}

// A device's messages come until it says that it has got them, whatever becomes of the connection.
func TestSlidingToDevice(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		send := func(n int) {
			alice.Put(fmt.Sprintf("/v3/sendToDevice/org.example.x/%d", n), object{"messages": object{bob.UserID: object{bob.DeviceID: object{"n": n}}}}).OK()
		}
		extension := object{"enabled": true, "limit": 2}
		s := &slider{bob, "", object{"conn_id": "enc", "extensions": object{"to_device": extension}}}
		received := func(r *harness.Response) (got []int64) {
			for _, e := range r.At("extensions", "to_device", "events").List() {
				got = append(got, e.At("content", "n").Int())
			}
			return got
		}
		is := func(what string, r *harness.Response, want ...int64) {
			t.Helper()
			if diff := cmp.Diff(want, received(r)); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		for n := range 3 {
			send(n)
		}
		first := s.ask("0")
		is("first", first, 0, 1)
		is("not acknowledged", s.ask("0"), 0, 1)
		s.pos = ""
		r := s.ask("0")
		is("anew", r, 0, 1)
		extension["since"] = r.At("extensions", "to_device", "next_batch").Str()
		r = s.ask("60000")
		is("the rest", r, 2)
		srv.Restart(t)
		s.pos = ""
		is("after a restart", s.ask("0"), 2)
		extension["since"] = r.At("extensions", "to_device", "next_batch").Str()
		is("all acknowledged", s.ask("0"))
		delete(extension, "since")
		s.pos = ""
		is("deleted", s.ask("0"))
		send(3)
		is("a new one", s.until(t, "the message", func(r *harness.Response) bool { return len(received(r)) > 0 }), 3)
		for _, junk := range []any{"x", "d-1", "s1", "d99999999999999999999", 5} {
			extension["since"] = junk
			if r := s.Post(slidingPath, s.body); r.Status != 400 {
				t.Errorf("since %v: status %d %s", junk, r.Status, r.Body)
			}
		}
	})
}

func TestSlidingE2EE(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carol := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carol")
		room := alice.PublicRoom(bob)
		s := &slider{bob, "", object{"conn_id": "enc", "extensions": object{"e2ee": object{"enabled": true}}}}
		e2ee := s.ask("0").At("extensions", "e2ee")
		if e2ee.At("device_lists").Exists() || !e2ee.At("device_unused_fallback_key_types").Exists() {
			t.Errorf("e2ee %s", e2ee)
		}
		has := func(who *harness.Client, part string) func(*harness.Response) bool {
			return func(r *harness.Response) bool {
				for _, id := range r.At("extensions", "e2ee", "device_lists", part).List() {
					if id.Str() == who.UserID {
						return true
					}
				}
				return false
			}
		}
		publish(alice, "one")
		s.until(t, "a change of devices", has(alice, "changed"))
		carol.Join(room)
		s.until(t, "a user who came", has(carol, "changed"))
		carol.Leave(room)
		s.until(t, "a user who left", has(carol, "left"))
		upload(bob, object{"one_time_keys": oneTimeKeys(bob, "A", "B"), "fallback_keys": object{curve + ":F": signedKey(bob, "f")}}).OK()
		r := s.until(t, "counts of keys", func(r *harness.Response) bool {
			return r.At("extensions", "e2ee", "device_one_time_keys_count", curve).Int() == 2
		})
		if got := r.At("extensions", "e2ee", "device_unused_fallback_key_types").List(); len(got) != 1 || got[0].Str() != curve {
			t.Errorf("e2ee %s", r.Body)
		}
		claimOf(alice, bob)
		s.until(t, "a key that was claimed", func(r *harness.Response) bool {
			return r.At("extensions", "e2ee", "device_one_time_keys_count", curve).Int() == 1
		})
	})
}

func TestSlidingEphemeral(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room, other := alice.PublicRoom(bob), alice.PublicRoom(bob)
		event := alice.Text(room, "hi")
		alice.Text(other, "ho")
		tag := harness.Path("/v3/user/%s/rooms/%s/tags/%s", bob.UserID, room, "m.favourite")
		bob.Put(tag, object{"order": 0.5}).OK()
		bob.Put(globalData(bob, "org.example.first"), object{"v": 1}).OK()
		alice.Post(harness.Path("/v3/rooms/%s/receipt/m.read/%s", room, event), object{}).OK()
		bob.Post(harness.Path("/v3/rooms/%s/receipt/m.read.private/%s", room, event), object{}).OK()
		alice.Put(harness.Path("/v3/rooms/%s/typing/%s", room, alice.UserID), object{"typing": true, "timeout": 60000}).OK()
		s := slides(bob, "a", 20, 1)
		if r := s.ask("0"); len(r.At("extensions").Keys()) != 0 {
			t.Errorf("extensions %s", r.At("extensions"))
		}
		enabled := object{"enabled": true}
		s.body["extensions"] = object{"account_data": enabled, "receipts": enabled, "typing": enabled}
		check := func(what string, x harness.JSON) {
			t.Helper()
			receipts := x.At("receipts", "rooms", room)
			if !receipts.At("content", event, "m.read", alice.UserID).Exists() || !receipts.At("content", event, "m.read.private", bob.UserID).Exists() {
				t.Errorf("%s: receipts %s", what, receipts)
			}
			if typing := x.At("typing", "rooms", room, "content", "user_ids"); typing.At(0).Str() != alice.UserID {
				t.Errorf("%s: typing %s", what, typing)
			}
			if !x.At("account_data", "global").Find("type", "org.example.first").Exists() || !x.At("account_data", "rooms", room).Find("type", "m.tag").Exists() {
				t.Errorf("%s: account data %s", what, x.At("account_data"))
			}
		}
		check("begun later", s.ask("0").At("extensions"))
		if r := s.ask("0"); len(r.At("extensions").Keys()) != 0 {
			t.Errorf("extensions %s", r.At("extensions"))
		}
		anew := slides(bob, "b", 20, 1)
		anew.body["extensions"] = s.body["extensions"]
		check("begun at once", anew.ask("0").At("extensions"))

		alice.Put(harness.Path("/v3/rooms/%s/typing/%s", room, alice.UserID), object{"typing": false}).OK()
		s.until(t, "nobody types", func(r *harness.Response) bool {
			typing := r.At("extensions", "typing", "rooms", room, "content", "user_ids")
			return typing.Exists() && len(typing.List()) == 0
		})
		bob.Put(globalData(bob, "org.example.x"), object{"v": 1}).OK()
		s.until(t, "account data", func(r *harness.Response) bool {
			return r.At("extensions", "account_data", "global").Find("type", "org.example.x").Exists()
		})
		bob.Delete(tag, nil).OK()
		s.until(t, "account data of the room", func(r *harness.Response) bool {
			return r.At("extensions", "account_data", "rooms", room).Find("type", "m.tag").Exists()
		})
		next := alice.Text(room, "more")
		alice.Post(harness.Path("/v3/rooms/%s/receipt/m.read/%s", room, next), object{}).OK()
		s.until(t, "a receipt", func(r *harness.Response) bool {
			return r.At("extensions", "receipts", "rooms", room, "content", next, "m.read", alice.UserID).Exists()
		})

		only := slides(bob, "c", 1, 1)
		only.body["room_subscriptions"] = object{other: object{"timeline_limit": 1, "required_state": list{}}}
		only.body["extensions"] = object{"receipts": object{"enabled": true, "lists": list{}, "rooms": list{other}}, "account_data": object{"enabled": true, "lists": list{"none"}, "rooms": list{}}}
		r := only.ask("0")
		if len(r.At("rooms").Keys()) != 2 || r.At("extensions", "receipts").Exists() || len(r.At("extensions", "account_data", "rooms").Keys()) != 0 {
			t.Errorf("extensions for other rooms: %s", r.Body)
		}
	})
}

// What happens in a room after the user has left it, or was banned, is in no answer.
func TestAttackC06SlidingAfterLeave(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		ends := map[string]func(room string){
			"leave": func(room string) { bob.Leave(room) },
			"kick":  func(room string) { alice.Change("kick", room, bob).OK() },
			"ban":   func(room string) { alice.Change("ban", room, bob).OK() },
		}
		for name, end := range ends {
			room := alice.PublicRoom(bob)
			s := slides(bob, name, 20, 20, list{"*", "*"})
			s.body["room_subscriptions"] = object{room: object{"timeline_limit": 20, "required_state": list{list{"*", "*"}}}}
			s.body["extensions"] = object{"receipts": object{"enabled": true}, "typing": object{"enabled": true}, "account_data": object{"enabled": true}}
			s.ask("0")
			end(room)
			secret := "secret-" + name
			alice.SetState(room, "m.room.name", "", object{"name": secret})
			alice.SetState(room, "m.room.topic", "", object{"topic": secret})
			alice.SetState(room, "org.example."+secret, "", object{})
			alice.SetState(room, "m.room.member", alice.UserID, object{"membership": "join", "displayname": secret})
			alice.Post(harness.Path("/v3/rooms/%s/receipt/m.read/%s", room, alice.Text(room, secret)), object{}).OK()
			anew := slides(bob, name+" anew", 20, 20, list{"*", "*"})
			anew.body["room_subscriptions"] = s.body["room_subscriptions"]
			for i, r := range []*harness.Response{s.ask("0"), s.ask("0"), s.ask("0"), anew.ask("0"), anew.ask("0")} {
				if strings.Contains(string(r.Body), secret) {
					t.Errorf("%s: answer %d tells of what came later: %s", name, i, r.Body)
				}
				if i == 0 && r.At("rooms", room, "membership").Str() == "join" || i == 0 && !r.At("rooms", room).Exists() {
					t.Errorf("%s: %s", name, r.Body)
				}
			}
		}
	})
}

// A long poll that is open when the user is put out tells of that, and of nothing after it.
func TestAttackC07SlidingDuringKick(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		for _, action := range []string{"kick", "ban"} {
			room := alice.PublicRoom(bob)
			s := slides(bob, action, 20, 20, list{"m.room.member", "$ME"})
			s.ask("0")
			answers := make(chan *harness.Response, 1)
			go func() {
				r, err := bob.Try(t.Context(), http.MethodPost, slidingPath+harness.Query("timeout", "60000", "pos", s.pos), s.body)
				if err != nil {
					t.Error(err)
				}
				answers <- r
			}()
			alice.Change(action, room, bob).OK()
			alice.Text(room, "secret")
			first := <-answers
			s.pos = first.At("pos").Str()
			got := first.At("rooms", room)
			if !got.At("required_state").Find("state_key", bob.UserID).Exists() || got.At("membership").Str() == "join" {
				t.Errorf("%s: %s", action, first.Body)
			}
			alice.Text(room, "secret")
			for _, r := range []*harness.Response{first, s.ask("0"), s.ask("200")} {
				if strings.Contains(string(r.Body), "secret") {
					t.Errorf("%s: %s", action, r.Body)
				}
			}
		}
	})
}

// However wrong a request is, the answer is 200 or 400.
func TestAttackC20SlidingGarbage(t *testing.T) {
	junk := []string{`null`, `5`, `-1`, `1.5`, `1e400`, `99999999999999999999`, `""`, `"x"`, `true`, `[]`, `{}`, `[[]]`, `[{}]`, `[null]`, `[[0]]`, `[[0,1,2]]`, `[[1,0]]`, `[[-1,5]]`,
		`[["a"]]`, `[["a","b","c"]]`, `[[null,"x"]]`, `[[0,9223372036854775807]]`, `[[0,9223372036854775808]]`, `{"enabled":"yes"}`, `{"is_dm":5}`, `{"tags":5}`, `{"spaces":[5]}`, `{"room_types":["x",5]}`, `"` + strings.Repeat("x", 300) + `"`}
	templates := []string{
		`%s`, `{"lists":%s}`, `{"lists":{"a":%s}}`, `{"lists":{"a":{"timeline_limit":%s}}}`, `{"lists":{"a":{"timeline_limit":1,"ranges":%s}}}`,
		`{"lists":{"a":{"timeline_limit":1,"required_state":%s}}}`, `{"lists":{"a":{"timeline_limit":1,"filters":%s}}}`, `{"room_subscriptions":%s}`,
		`{"room_subscriptions":{"!a:b":%s}}`, `{"room_subscriptions":{"x":{"timeline_limit":%s}}}`, `{"extensions":%s}`, `{"extensions":{"to_device":%s}}`,
		`{"extensions":{"to_device":{"enabled":true,"since":%s}}}`, `{"extensions":{"to_device":{"enabled":true,"limit":%s}}}`, `{"extensions":{"receipts":{"enabled":true,"rooms":%s}}}`,
		`{"conn_id":%s}`, `{"txn_id":%s}`, `{"lists":{"":{"timeline_limit":1,"x":%s}}}`,
	}
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		alice.CreateRoom(nil)
		for _, template := range templates {
			for _, value := range junk {
				body := fmt.Sprintf(template, value)
				r := alice.Post(slidingPath, body)
				if r.Status != 200 && (r.Status != 400 || !strings.HasPrefix(r.At("errcode").Str(), "M_")) {
					t.Errorf("%.200s: status %d %.200s", body, r.Status, r.Body)
				}
			}
		}
		for body, code := range map[string]string{
			`{"lists":{"a":{}}}`:                                                                      "M_MISSING_PARAM",
			`{"lists":{"a":{"timeline_limit":-1}}}`:                                                   "M_INVALID_PARAM",
			`{"lists":{"a":{"timeline_limit":1,"ranges":[[5,4]]}}}`:                                   "M_INVALID_PARAM",
			`{"lists":{"a":{"timeline_limit":1,"ranges":[["0","1"]]}}}`:                               "M_BAD_JSON",
			`{"lists":{` + many(101, `"l%d":{"timeline_limit":1}`) + `}}`:                             "M_INVALID_PARAM",
			`{"room_subscriptions":{` + many(101, `"!%d:x":{"timeline_limit":1}`) + `}}`:              "M_INVALID_PARAM",
			`{"conn_id":"` + strings.Repeat("x", 256) + `"}`:                                          "M_INVALID_PARAM",
			`{"lists":{"a":{"timeline_limit":1,"ranges":[` + many(101, `[%d,5000]`) + `]}}}`:          "M_INVALID_PARAM",
			`{"lists":{"a":{"timeline_limit":1,"required_state":[` + many(501, `["t%d",""]`) + `]}}}`: "M_INVALID_PARAM",
			`{`: "M_NOT_JSON",
		} {
			if r := alice.Post(slidingPath, body); r.Status != 400 || r.At("errcode").Str() != code {
				t.Errorf("%.100s: status %d %.200s, not %s", body, r.Status, r.Body, code)
			}
		}
		for _, query := range [][]string{{"pos", "x"}, {"pos", "s1_x_1"}, {"pos", strings.Repeat("9", 10_000)}, {"timeout", "x"}, {"set_presence", "away"}} {
			if r := alice.Post(slidingPath+harness.Query(query...), object{}); r.Status != 400 {
				t.Errorf("%.100q: status %d %s", query, r.Status, r.Body)
			}
		}
		room := alice.CreateRoom(nil)
		numbered(alice, room, 250)
		s := slides(alice, "a", 1_000_000, 1_000_000)
		if n := len(s.ask("0").At("rooms", room, "timeline").List()); n != 200 {
			t.Errorf("a timeline of %d events", n)
		}
	})
}

// many are so many texts with a number in them, with commas between them.
func many(n int, format string) string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(texts, ",")
}

// Names and pictures that are no text are left out, and the rest of the answer is as ever.
func TestAttackC27SlidingNames(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		fine := alice.PublicRoom(bob)
		for i, junk := range []any{5, object{}, list{}, nil, true} {
			room := alice.PublicRoom(bob)
			lax := alice.Lax()
			s := slides(bob.Lax(), fmt.Sprint(i), 20, 20, list{"*", "*"})
			s.ask("0")
			lax.SetState(room, "m.room.name", "", object{"name": "before"})
			lax.SetState(room, "m.room.name", "", object{"name": junk})
			lax.SetState(room, "m.room.avatar", "", object{"url": junk})
			lax.SetState(room, "m.room.member", alice.UserID, object{"membership": "join", "displayname": junk, "avatar_url": junk})
			anew := slides(bob.Lax(), fmt.Sprint(i, " anew"), 20, 20)
			for _, r := range []*harness.Response{s.ask("0"), anew.ask("0")} {
				got := r.At("rooms", room)
				hero := got.At("heroes").At(0)
				if got.At("name").Value() != nil || got.At("avatar").Value() != nil || hero.At("user_id").Str() != alice.UserID || len(hero.Keys()) != 1 {
					t.Errorf("%v: %s", junk, got)
				}
			}
			if !anew.again(t).At("rooms", fine, "initial").Bool() {
				t.Errorf("%v: the other room is not told of", junk)
			}
		}
	})
}

// again is the answer to the client's first request once more.
func (s *slider) again(t *testing.T) *harness.Response {
	t.Helper()
	s.pos = ""
	return s.ask("0")
}
