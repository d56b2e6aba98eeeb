package syncapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"beep/roomserver"
	"beep/storage"
)

func TestFilters(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room, other := s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		since := s.sync(alice).NextBatch
		s.say(room, alice, "1")
		for i := range 12 {
			s.send(room, roomserver.Draft{Type: "org.filler", Sender: bob, Content: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))})
		}
		s.say(room, bob, "2")
		s.send(room, roomserver.Draft{Type: "m.room.message", Sender: alice, Content: json.RawMessage(`{"msgtype":"m.image","body":"picture","url":"mxc://hs.example/x"}`)})
		s.setState(room, alice, "m.room.topic", "", `{"topic":"t"}`)
		s.say(other, alice, "other")
		for _, test := range []struct {
			filter   string
			timeline []string
			limited  bool
			state    []string // nil: no section at all
		}{
			{`{"room":{"timeline":{"types":["m.room.message"]}}}`, []string{"1", "2", "picture"}, false, []string{"topic"}},
			{`{"room":{"timeline":{"types":["m.room.message"],"limit":1}}}`, []string{"picture"}, true, []string{"topic"}},
			{`{"room":{"timeline":{"types":["m.room.mess*"],"limit":3}}}`, []string{"1", "2", "picture"}, false, []string{"topic"}},
			{`{"room":{"timeline":{"not_types":["org.filler"],"senders":["` + bob + `"]}}}`, []string{"2"}, false, []string{"topic"}},
			{`{"room":{"timeline":{"not_types":["org.filler"],"not_senders":["` + bob + `"]}}}`, []string{"1", "picture", "topic"}, false, nil},
			{`{"room":{"timeline":{"not_types":["org.*"],"contains_url":true}}}`, []string{"picture"}, false, []string{"topic"}},
			{`{"room":{"timeline":{"not_types":["org.*"],"contains_url":false}}}`, []string{"1", "2", "topic"}, false, nil},
			{`{"room":{"timeline":{"types":[]},"state":{"types":["m.room.topic"]}}}`, []string{}, false, []string{"topic"}},
			{`{"room":{"timeline":{"types":["m.room.message"],"limit":1},"state":{"not_types":["m.room.topic"]}}}`, []string{"picture"}, true, nil},
			{`{"room":{"timeline":{"limit":2},"state":{"types":[]}}}`, []string{"picture", "topic"}, true, nil},
		} {
			a := s.sync(alice, "since", since, "filter", test.filter)
			r := a.Rooms.Join[room]
			equal(t, test.filter+": timeline", r.Timeline.briefs(), test.timeline)
			equal(t, test.filter+": limited", r.Timeline.Limited, test.limited)
			if test.state == nil && r.State != nil {
				t.Errorf("%s: there is a state: %v", test.filter, r.State.briefs())
			} else if test.state != nil && r.State == nil {
				t.Errorf("%s: there is no state", test.filter)
			} else if test.state != nil {
				equal(t, test.filter+": state", r.State.briefs(), test.state)
			}
			first := s.sync(alice, "filter", test.filter).Rooms.Join[room]
			if test.limited {
				equal(t, test.filter+": first timeline", first.Timeline.briefs(), test.timeline)
			}
		}
		for filter, want := range map[string][]string{
			`{"room":{"rooms":["` + room + `"]}}`:     {room},
			`{"room":{"not_rooms":["` + room + `"]}}`: {other},
			`{"room":{"rooms":[]}}`:                   nil,
			`{"room":{"timeline":{"rooms":["` + other + `"]},"state":{"rooms":["` + other + `"]}}}`:   {other},
			`{"room":{"timeline":{"types":["org.never"]},"state":{"types":["org.never"],"limit":1}}}`: nil,
		} {
			var got []string
			for id := range s.sync(alice, "since", since, "filter", filter).Rooms.Join {
				got = append(got, id)
			}
			equal(t, filter, got, want)
		}
	})
}

// A filter that drops nearly everything still finds what it lets pass, if that is
// not too far away, and else says that there may be more.
func TestFilterScans(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.say(room, alice, "far")
		for i := range 50 {
			s.send(room, roomserver.Draft{Type: "org.filler", Sender: alice, Content: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))})
		}
		r := s.sync(alice, "filter", `{"room":{"timeline":{"types":["m.room.message"],"limit":1}}}`).Rooms.Join[room]
		equal(t, "timeline", r.Timeline.briefs(), []string{"far"})
		equal(t, "limited", r.Timeline.Limited, false)
	})
}

func TestEventForms(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		since := s.sync(alice).NextBatch
		s.say(room, alice, "hi")
		s.client.Transport = s // the specification has no schema for what follows
		_, body := s.get(alice, "since", since, "filter", `{"event_fields":["content.body","sender","unsigned.membership"]}`)
		for text, want := range map[string]bool{
			`{"content":{"body":"hi"},"sender":"` + alice + `","unsigned":{"membership":"join"}}`: true, `"msgtype"`: false, `"event_id"`: false,
		} {
			if strings.Contains(string(body), text) != want {
				t.Errorf("%s is %v in %s", text, !want, body)
			}
		}
		_, body = s.get(alice, "since", since, "filter", `{"event_format":"federation"}`)
		for _, key := range []string{"auth_events", "prev_events", "depth", "hashes", "signatures", "room_id", "unsigned"} {
			if !strings.Contains(string(body), `"`+key+`":`) {
				t.Errorf("an event as servers exchange it has no %s: %s", key, body)
			}
		}
	})
}

func TestUnsigned(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		old := s.setState(room, alice, "m.room.topic", "", `{"topic":"old"}`)
		since := s.sync(alice).NextBatch
		s.send(room, roomserver.Draft{Type: "m.room.message", Sender: alice, Device: "PHONE", TxnID: "t1", Content: json.RawMessage(`{"body":"1"}`)})
		s.setState(room, alice, "m.room.topic", "", `{"topic":"new"}`)
		gone := s.say(room, alice, "gone")
		s.send(room, roomserver.Draft{Type: "m.room.redaction", Sender: alice, Redacts: gone, Content: json.RawMessage(`{"redacts":"` + gone + `"}`)})
		for _, params := range [][]string{{"since", since}, {"filter", `{"room":{"timeline":{"limit":4}}}`}} {
			events := s.sync(alice, params...).Rooms.Join[room].Timeline.Events
			equal(t, "transaction id", events[0].Unsigned.TransactionID, "t1")
			equal(t, "membership", events[0].Unsigned.Membership, "join")
			if events[0].Unsigned.Age == nil {
				t.Error("an event has no age")
			}
			equal(t, "previous content", string(events[1].Unsigned.PrevContent), `{"topic":"old"}`)
			equal(t, "replaced state", events[1].Unsigned.ReplacesState, old)
			equal(t, "redacted content", string(events[2].Content), `{}`)
			if because := events[2].Unsigned.Because; because == nil || because.Type != "m.room.redaction" {
				t.Errorf("a redacted event is so because of %v", because)
			}
			for who, events := range map[string][]event{
				"another device": s.parse(s.getAs(t.Context(), s.token(alice, "TABLET"), params...)).Rooms.Join[room].Timeline.Events,
				"another user":   s.sync(bob, params...).Rooms.Join[room].Timeline.Events,
			} {
				equal(t, "transaction id of "+who, events[0].Unsigned.TransactionID, "")
			}
		}
		name := s.setState(room, alice, "m.room.name", "", `{"name":"bad word"}`)
		s.send(room, roomserver.Draft{Type: "m.room.redaction", Sender: alice, Redacts: name, Content: json.RawMessage(`{"redacts":"` + name + `"}`)})
		for _, e := range s.sync(alice, "filter", `{"room":{"timeline":{"limit":1}}}`).Rooms.Join[room].State.Events {
			if e.Type == "m.room.name" && (string(e.Content) != `{}` || e.Unsigned.Because == nil) {
				t.Errorf("redacted state is %s because of %v", e.Content, e.Unsigned.Because)
			}
		}
	})
}

// ephemeral gives the contents of ephemeral events of a type.
func (r syncedRoom) ephemeral(eventType string) (contents []string) {
	for _, e := range r.Ephemeral.Events {
		if e.Type == eventType {
			contents = append(contents, string(e.Content))
		}
	}
	return contents
}

func TestTyping(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		since := s.sync(bob).NextBatch
		s.check(s.typing.Start(s.Context(), room, alice, roomserver.DefaultTyping))
		want := []string{`{"user_ids":["` + alice + `"]}`}
		a := s.sync(bob, "since", since)
		equal(t, "typing", a.Rooms.Join[room].ephemeral("m.typing"), want)
		equal(t, "typing at first", s.sync(bob).Rooms.Join[room].ephemeral("m.typing"), want)
		equal(t, "sections with typing filtered out", s.sync(bob, "since", since, "filter", `{"room":{"ephemeral":{"not_types":["m.typing"]}}}`).sections(room), nil)
		equal(t, "sections once told", s.sync(bob, "since", a.NextBatch).sections(room), nil)
		before := s.sync(carol).NextBatch
		s.join(room, carol)
		equal(t, "typing for who has just come", s.sync(carol, "since", before).Rooms.Join[room].ephemeral("m.typing"), want)
		since = s.sync(bob).NextBatch
		s.typing.Stop(s.Context(), room, alice)
		equal(t, "typing at last", s.sync(bob, "since", since).Rooms.Join[room].ephemeral("m.typing"), []string{`{"user_ids":[]}`})
		equal(t, "nobody types", s.sync(bob).Rooms.Join[room].ephemeral("m.typing"), nil)
	})
}

func TestReceipts(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob, carol)
		first, second := s.say(room, alice, "1"), s.say(room, alice, "2")
		since := s.sync(alice).NextBatch
		mark := func(userID string, m roomserver.ReadMarkers) {
			t.Helper()
			s.check(s.rooms.MarkRead(s.Context(), room, userID, m))
		}
		mark(bob, roomserver.ReadMarkers{Read: first})
		mark(carol, roomserver.ReadMarkers{Read: first, ReadPrivate: second, FullyRead: second})
		mark(bob, roomserver.ReadMarkers{Read: second})
		mark(bob, roomserver.ReadMarkers{Read: second, ThreadID: roomserver.MainThread})
		type receipts map[string]map[string]map[string]struct {
			ThreadID string `json:"thread_id"`
		}
		read := func(contents []string) (all []string) {
			for _, content := range contents {
				var parsed receipts
				s.check(json.Unmarshal([]byte(content), &parsed))
				for id, types := range parsed {
					for receiptType, users := range types {
						for userID, r := range users {
							body := map[string]string{first: "1", second: "2"}[id]
							all = append(all, strings.TrimSpace(fmt.Sprint(localpart(userID), " ", receiptType, " ", body, " ", r.ThreadID)))
						}
					}
				}
			}
			slices.Sort(all)
			return all
		}
		public := []string{"bob m.read 2", "bob m.read 2 main", "carol m.read 1"}
		private := append(public, "carol m.read.private 2")
		for _, params := range [][]string{{"since", since}, nil} {
			equal(t, "alice sees", read(s.sync(alice, params...).Rooms.Join[room].ephemeral("m.receipt")), public)
			equal(t, "carol sees", read(s.sync(carol, params...).Rooms.Join[room].ephemeral("m.receipt")), private)
			r := s.sync(carol, params...).Rooms.Join[room]
			equal(t, "carol's marker", string(r.AccountData.Events[0].Content), `{"event_id":"`+second+`"}`)
			equal(t, "bob's account data", len(s.sync(bob, params...).Rooms.Join[room].AccountData.Events), 0)
		}
		none := `{"room":{"ephemeral":{"types":[]},"account_data":{"types":[]}}}`
		equal(t, "sections with all filtered out", s.sync(carol, "since", since, "filter", none).sections(room), nil)
		since = s.sync(alice).NextBatch
		mark(carol, roomserver.ReadMarkers{ReadPrivate: s.say(room, carol, "3")})
		since = s.sync(alice, "since", since).NextBatch
		mark(carol, roomserver.ReadMarkers{ReadPrivate: s.say(room, carol, "4")})
		equal(t, "alice sees of private receipts", s.sync(alice, "since", since).Rooms.Join[room].ephemeral("m.receipt"), nil)

		before := s.sync(dave).NextBatch
		s.join(room, dave)
		equal(t, "who has just come sees", read(s.sync(dave, "since", before).Rooms.Join[room].ephemeral("m.receipt")), public)
	})
}

func TestAccountData(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		since := s.sync(alice).NextBatch
		s.setAccountData(alice, "", "org.a", map[string]int{"n": 1})
		s.setAccountData(alice, "", "org.b", map[string]int{"n": 2})
		s.setAccountData(alice, "", "org.a", map[string]int{"n": 3})
		s.setAccountData(alice, room, "org.r", map[string]int{"n": 4})
		for _, params := range [][]string{{"since", since}, nil} {
			a := s.sync(alice, params...)
			got := map[string]string{}
			for _, e := range append(a.AccountData.Events, a.Rooms.Join[room].AccountData.Events...) {
				if e.Type != "m.push_rules" { // which every user has
					got[e.Type] += string(e.Content)
				}
			}
			equal(t, "account data", got, map[string]string{"org.a": `{"n":3}`, "org.b": `{"n":2}`, "org.r": `{"n":4}`})
			a = s.sync(alice, append(params, "filter", `{"account_data":{"types":["org.b"]},"room":{"account_data":{"types":[]}}}`)...)
			equal(t, "filtered account data", a.AccountData.briefs(), []string{"org.b"})
			equal(t, "filtered account data of the room", a.Rooms.Join[room].AccountData.briefs(), []string{})
		}
		if a := s.sync(bob, "since", since); len(a.AccountData.Events)+len(a.Rooms.Join) > 0 {
			t.Errorf("bob is told of alice's account data: %v", a)
		}
		s.leave(room, alice)
		since = s.sync(alice).NextBatch
		s.join(room, alice)
		equal(t, "account data of a room that was joined again", s.sync(alice, "since", since).Rooms.Join[room].AccountData.briefs(), []string{"org.r"})
	})
}

// present puts a user's presence into the database, as account.Presence does.
func (s *server) present(userID, state string) {
	s.Helper()
	s.write(func(tx *storage.Tx) error {
		return tx.PutPresence(s.Context(), storage.Presence{UserID: userID, State: state, LastActive: 1}, false)
	})
}

// presences are the users whose presence an answer tells, with their state.
func (a *synced) presences() map[string]string {
	got := map[string]string{}
	for _, e := range a.Presence.Events {
		got[localpart(e.Sender)] += e.text("presence")
	}
	return got
}

func TestPresence(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room, other := s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{Creator: carol})
		s.join(room, bob)
		since := s.sync(alice).NextBatch
		for _, id := range []string{alice, bob, carol} {
			s.present(id, "online")
		}
		s.present(bob, "unavailable")
		want := map[string]string{"alice": "online", "bob": "unavailable"}
		equal(t, "presence", s.sync(alice, "since", since).presences(), want)
		equal(t, "presence at first", s.sync(alice).presences(), want)
		equal(t, "filtered presence", s.sync(alice, "since", since, "filter", `{"presence":{"not_senders":["`+bob+`"]}}`).presences(), map[string]string{"alice": "online"})
		equal(t, "no presence", s.sync(alice, "since", since, "filter", `{"presence":{"types":[]}}`).presences(), map[string]string{})

		since = s.sync(alice).NextBatch
		s.present(carol, "unavailable")
		equal(t, "presence of strangers", s.sync(alice, "since", since).presences(), map[string]string{})
		s.join(room, carol)
		a := s.sync(alice, "since", since)
		equal(t, "presence of who has just come", a.presences(), map[string]string{"carol": "unavailable"})
		equal(t, "presence once told", s.sync(alice, "since", a.NextBatch).presences(), map[string]string{})
		since = s.sync(dave).NextBatch
		s.join(other, dave)
		equal(t, "presence for who has just come", s.sync(dave, "since", since).presences(), map[string]string{"carol": "unavailable"})
		s.present(dave, "online")
		since = s.sync(alice).NextBatch
		s.join(room, dave)
		equal(t, "presence of before", s.sync(alice, "since", since).presences(), map[string]string{"dave": "online"})
		s.leave(room, dave)
		s.present(bob, "offline")
		equal(t, "offline users at first", s.sync(alice).presences(), map[string]string{"alice": "online", "carol": "unavailable"})
	})
}
