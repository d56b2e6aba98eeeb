package tests

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

// bodies are the texts of messages, in their order.
func bodies(events []harness.JSON) []string {
	var all []string
	for _, e := range events {
		if body := e.At("content", "body"); body.Exists() {
			all = append(all, body.Str())
		}
	}
	return all
}

// numbered sends n messages "0", "1" and so on, and gives their ids.
func numbered(c *harness.Client, room string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = c.Text(room, fmt.Sprint(i))
	}
	return ids
}

func upTo(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	return texts
}

func TestMessagesPages(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		numbered(alice, room, 25)
		for _, dir := range []string{"b", "f"} {
			for _, limit := range []string{"1", "7", "100"} {
				t.Run(dir+limit, func(t *testing.T) {
					got := pages(t, alice.For(t), room, dir, limit)
					if dir == "b" {
						slices.Reverse(got)
					}
					if diff := cmp.Diff(upTo(25), bodies(got)); diff != "" {
						t.Error(diff)
					}
					if first := got[0].At("type").Str(); first != "m.room.create" {
						t.Errorf("the first event is %s", first)
					}
				})
			}
		}
	})
}

// pages goes through the history of a room, in either direction.
func pages(t *testing.T, c *harness.Client, room, dir, limit string) []harness.JSON {
	t.Helper()
	var all []harness.JSON
	for from := ""; ; {
		query := []string{"dir", dir, "limit", limit}
		if from != "" {
			query = append(query, "from", from)
		}
		page := c.Get(harness.Path("/v3/rooms/%s/messages", room), query...).OK()
		if from != "" && page.At("start").Str() != from {
			t.Errorf("start %q, not %q", page.At("start").Str(), from)
		}
		all = append(all, page.At("chunk").List()...)
		if from = page.At("end").Str(); from == "" {
			return all
		}
	}
}

func TestMessagesFromSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Sync()
		since := bob.Since
		numbered(alice, room, 12)
		timeline := bob.Sync("filter", `{"room":{"timeline":{"limit":5}}}`).Joined(room).At("timeline")
		if !timeline.At("limited").Bool() {
			t.Errorf("the timeline is not limited: %s", timeline)
		}
		path := harness.Path("/v3/rooms/%s/messages", room)
		gap := bob.Get(path, "dir", "b", "from", timeline.At("prev_batch").Str(), "to", since, "limit", "50").OK().At("chunk").List()
		slices.Reverse(gap)
		if diff := cmp.Diff(upTo(12), append(bodies(gap), bodies(timeline.At("events").List())...)); diff != "" {
			t.Error(diff)
		}
		forward := bob.Get(path, "dir", "f", "from", since, "to", timeline.At("prev_batch").Str(), "limit", "50").OK().At("chunk").List()
		if diff := cmp.Diff(bodies(gap), bodies(forward)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMessagesFilter(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		alice.Text(room, "from alice")
		bob.Text(room, "from bob")
		alice.SendEvent(room, "org.example.other", "1", object{"body": "other"}).OK()
		alice.SendEvent(room, "m.room.message", "2", object{"msgtype": "m.image", "body": "picture", "url": "mxc://a/b"}).OK()
		for filter, want := range map[string][]string{
			`{"types":["m.room.message"]}`:                         {"from alice", "from bob", "picture"},
			`{"types":["m.room.*"],"not_types":["m.room.member"]}`: {"from alice", "from bob", "picture"},
			`{"not_types":["m.room.message"]}`:                     {"other"},
			`{"senders":["` + bob.UserID + `"]}`:                   {"from bob"},
			`{"not_senders":["` + bob.UserID + `"]}`:               {"from alice", "other", "picture"},
			`{"contains_url":true}`:                                {"picture"},
			`{"contains_url":false,"types":["m.room.message"]}`:    {"from alice", "from bob"},
			`{"types":[]}`:                                            nil,
			`{"rooms":["!other:room"]}`:                               nil,
			`{"not_rooms":["` + room + `"]}`:                          nil,
			`{"types":["m.room.message"],"senders":["@nobody:here"]}`: nil,
		} {
			chunk := alice.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "f", "limit", "100", "filter", filter).OK().At("chunk")
			if diff := cmp.Diff(want, bodies(chunk.List())); diff != "" {
				t.Errorf("%s: %s", filter, diff)
			}
		}
	})
}

func TestMessagesLazyMembers(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		room := alice.PublicRoom(bob, carl)
		bob.Text(room, "hello")
		page := alice.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b", "limit", "1", "filter", `{"lazy_load_members":true}`).OK()
		if got := page.At("state").Strings("state_key"); !slices.Equal(got, []string{bob.UserID}) {
			t.Errorf("members %v", got)
		}
	})
}

func TestContext(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, eve := srv.Register(t, "alice"), srv.Register(t, "eve")
		room := alice.CreateRoom(nil)
		ids := numbered(alice, room, 9)
		alice.SetState(room, "m.room.topic", "", object{"topic": "later"}).OK()
		path := harness.Path("/v3/rooms/%s/context/%s", room, ids[4])
		r := alice.Get(path, "limit", "4").OK()
		before, after := bodies(r.At("events_before").List()), bodies(r.At("events_after").List())
		if len(before)+len(after) != 4 || r.At("event", "event_id").Str() != ids[4] {
			t.Errorf("before %v, after %v", before, after)
		}
		if diff := cmp.Diff([]string{"3", "2"}, before); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"5", "6"}, after); diff != "" {
			t.Error(diff)
		}
		if r.At("state").Find("type", "m.room.topic").Exists() || !r.At("state").Find("type", "m.room.create").Exists() {
			t.Error("the state is not that at the last event")
		}
		messages := harness.Path("/v3/rooms/%s/messages", room)
		older := alice.Get(messages, "dir", "b", "from", r.At("start").Str(), "limit", "2").OK().At("chunk").List()
		if diff := cmp.Diff([]string{"1", "0"}, bodies(older)); diff != "" {
			t.Error(diff)
		}
		newer := alice.Get(messages, "dir", "f", "from", r.At("end").Str(), "limit", "2").OK().At("chunk").List()
		if diff := cmp.Diff([]string{"7", "8"}, bodies(newer)); diff != "" {
			t.Error(diff)
		}
		none := alice.Get(path, "limit", "0").OK()
		if len(none.At("events_before").List())+len(none.At("events_after").List()) != 0 {
			t.Errorf("limit 0: %s", none.Body)
		}
		if r := eve.Get(path); r.Status != 403 && r.Status != 404 {
			t.Errorf("an outsider: status %d", r.Status)
		}
		alice.Get(harness.Path("/v3/rooms/%s/context/%s", room, "$unknown")).Fails(404, "M_NOT_FOUND")
	})
}

func TestEventOfAnotherRoom(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room, other := alice.CreateRoom(nil), alice.CreateRoom(nil)
		event := alice.Text(other, "x")
		alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, event)).Fails(404, "M_NOT_FOUND")
		alice.Get(harness.Path("/v3/rooms/%s/context/%s", room, event)).Fails(404, "M_NOT_FOUND")
		alice.Get(harness.Path("/v3/rooms/%s/event/%s", other, event)).OK()
	})
}

func TestMembersAt(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		room := alice.PublicRoom(bob)
		alice.Sync()
		then := alice.Since
		alice.Change("invite", room, carl).OK()
		bob.Leave(room)
		path := harness.Path("/v3/rooms/%s/members", room)
		for _, test := range []struct {
			query []string
			want  string
		}{
			{nil, "alice=join bob=leave carl=invite"},
			{[]string{"at", then}, "alice=join bob=join"},
			{[]string{"membership", "join"}, "alice=join"},
			{[]string{"not_membership", "leave"}, "alice=join carl=invite"},
			{[]string{"at", then, "membership", "leave"}, ""},
		} {
			var got []string
			for _, e := range alice.Get(path, test.query...).OK().At("chunk").List() {
				name, _, _ := strings.Cut(e.At("state_key").Str()[1:], "-")
				got = append(got, name+"="+e.At("content", "membership").Str())
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("%v: %s", test.query, diff)
			}
		}
		if r := alice.Get(path, "membership", "chief"); r.Status != 400 {
			t.Errorf("a membership that does not exist: status %d", r.Status)
		}
	})
}

func TestJoinedMembers(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob, carl := srv.Register(t, "alice"), srv.Register(t, "bob"), srv.Register(t, "carl")
		bob.Put(profilePath(bob, "displayname"), object{"displayname": "Bob"}).OK()
		room := alice.PublicRoom(bob)
		alice.Change("invite", room, carl).OK()
		path := harness.Path("/v3/rooms/%s/joined_members", room)
		joined := alice.Get(path).OK().At("joined")
		if len(joined.Keys()) != 2 || joined.At(bob.UserID, "display_name").Str() != "Bob" {
			t.Errorf("joined %s", joined)
		}
		carl.Get(path).Fails(403, "M_FORBIDDEN")
	})
}

// The same transaction gives the same event; what makes it another one is the device,
// the room or the type.
func TestTransactions(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		phone := alice.Login(nil)
		room, other := alice.CreateRoom(nil), alice.CreateRoom(nil)
		content := object{"msgtype": "m.text", "body": "x"}
		id := func(c *harness.Client, room, eventType, txnID string) string {
			t.Helper()
			return c.SendEvent(room, eventType, txnID, content).OK().At("event_id").Str()
		}
		first := id(alice, room, "m.room.message", "txn")
		if again := id(alice, room, "m.room.message", "txn"); again != first {
			t.Error("the same transaction gave another event")
		}
		others := []string{
			id(alice, room, "m.room.message", "txn2"), id(alice, other, "m.room.message", "txn"),
			id(alice, room, "org.example.other", "txn"), id(phone, room, "m.room.message", "txn"),
		}
		seen := map[string]bool{first: true}
		for _, id := range others {
			if seen[id] {
				t.Error("another transaction gave the same event")
			}
			seen[id] = true
		}
		e := alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, first)).OK()
		if got := e.At("unsigned", "transaction_id").Str(); got != "txn" {
			t.Errorf("transaction_id %q", got)
		}
		if phone.Get(harness.Path("/v3/rooms/%s/event/%s", room, first)).OK().At("unsigned", "transaction_id").Exists() {
			t.Error("another device is told the transaction_id")
		}
	})
}

// What was answered can be read at once, whatever else the server is doing.
func TestReadAfterWrite(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		stop := make(chan struct{})
		var others sync.WaitGroup
		for range 8 {
			other := srv.Register(t, "busy").Unchecked()
			room := other.CreateRoom(nil)
			others.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if r, err := other.Try(t.Context(), "PUT", harness.Path("/v3/rooms/%s/send/org.example.x/%s", room, fmt.Sprint(i)), object{}); err != nil || r.Status != 200 {
						t.Errorf("%v %v", r, err)
						return
					}
				}
			})
		}
		for i := range 30 {
			room := alice.PublicRoom(bob)
			id := bob.Text(room, "x")
			newest := func(dir string) []harness.JSON {
				return alice.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", dir, "limit", "100").OK().At("chunk").List()
			}
			back, forward := newest("b"), newest("f")
			if len(back) != len(forward) || back[0].At("event_id").Str() != id {
				t.Errorf("room %d: /messages shows %d of %d events", i, len(back), len(forward))
			}
			alice.Get(harness.Path("/v3/rooms/%s/context/%s", room, id)).OK()
			if n := len(alice.Get(harness.Path("/v3/rooms/%s/joined_members", room)).OK().At("joined").Keys()); n != 2 {
				t.Errorf("room %d: %d members", i, n)
			}
		}
		close(stop)
		others.Wait()
	})
}
