package matrix

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseFilter(t testing.TB, text string) *Filter {
	t.Helper()
	f, err := ParseFilter([]byte(text))
	if err != nil {
		t.Fatalf("ParseFilter(%s): %v", text, err)
	}
	return f
}

func TestEventFilterAllows(t *testing.T) {
	const alice, bob = "@alice:a.example", "@bob:b.example:8448"
	for _, test := range []struct {
		filter       string
		typ, sender  string
		allowed      bool
		allowsNothin bool
	}{
		{filter: `{}`, typ: "m.presence", sender: alice, allowed: true},
		{filter: `{"types":null,"senders":null}`, typ: "m.presence", sender: alice, allowed: true},
		{filter: `{"types":[]}`, typ: "m.presence", sender: alice, allowsNothin: true},
		{filter: `{"senders":[]}`, typ: "m.presence", sender: alice, allowsNothin: true},
		{filter: `{"types":["m.presence"]}`, typ: "m.presence", sender: alice, allowed: true},
		{filter: `{"types":["m.presence"]}`, typ: "m.presence2", sender: alice},
		{filter: `{"not_types":["m.presence"]}`, typ: "m.presence", sender: alice},
		{filter: `{"not_types":["m.presence"]}`, typ: "m.other", sender: alice, allowed: true},
		{filter: `{"types":["m.presence"],"not_types":["m.presence"]}`, typ: "m.presence", sender: alice},
		{filter: `{"types":["m.room.*"]}`, typ: "m.room.message", sender: alice, allowed: true},
		{filter: `{"types":["m.room.*"]}`, typ: "m.room", sender: alice},
		{filter: `{"types":["*"]}`, typ: "", sender: alice, allowed: true},
		{filter: `{"types":["*.call.*"]}`, typ: "m.call.invite", sender: alice, allowed: true},
		{filter: `{"types":["*.call.*"]}`, typ: "m.caller.invite", sender: alice},
		{filter: `{"types":["a*b*b"]}`, typ: "ab", sender: alice},
		{filter: `{"types":["a*b*b"]}`, typ: "abb", sender: alice, allowed: true},
		{filter: `{"types":["a**b"]}`, typ: "ab", sender: alice, allowed: true},
		{filter: `{"types":["*a"]}`, typ: "ba", sender: alice, allowed: true},
		{filter: `{"types":["ab*ba"]}`, typ: "aba", sender: alice},
		{filter: `{"types":["m.[ab]"]}`, typ: "m.a", sender: alice},
		{filter: `{"not_types":["m.*"]}`, typ: "m.presence", sender: alice},
		{filter: `{"not_types":["*"]}`, typ: "m.presence", sender: alice},
		{filter: `{"senders":["@alice:a.example"]}`, typ: "t", sender: alice, allowed: true},
		{filter: `{"senders":["@alice:a.example"]}`, typ: "t", sender: bob},
		{filter: `{"senders":["@alice:a.example"]}`, typ: "t", sender: ""},
		{filter: `{"not_senders":["@bob:b.example:8448"]}`, typ: "t", sender: bob},
		{filter: `{"senders":["@bob:b.example:8448"],"not_senders":["@bob:b.example:8448"]}`, typ: "t", sender: bob},
	} {
		f := parseFilter(t, `{"presence":`+test.filter+`}`)
		if got := f.Presence.Allows(test.typ, test.sender); got != test.allowed {
			t.Errorf("%s: Allows(%q, %q) = %v", test.filter, test.typ, test.sender, got)
		}
		if got := f.Presence.AllowsNothing(); got != test.allowsNothin {
			t.Errorf("%s: AllowsNothing() = %v", test.filter, got)
		}
	}
}

func TestRoomEventFilterAllowsEvent(t *testing.T) {
	const room, other = "!room:a.example", "!mQ3XyzOAm5b0GkOcyL1S5Uc3pKJuIuV8jz0eZqE5bDk"
	for _, test := range []struct {
		filter, room, content string
		allowed               bool
	}{
		{`{}`, room, `{"url":"mxc://a/b"}`, true},
		{`{"contains_url":true}`, room, `{"body":"x","url":"mxc://a/b"}`, true},
		{`{"contains_url":true}`, room, `{"url":null}`, true},
		{`{"contains_url":true}`, room, `{"file":{"url":"mxc://a/b"}}`, false},
		{`{"contains_url":true}`, room, `{}`, false},
		{`{"contains_url":false}`, room, `{"url":"mxc://a/b"}`, false},
		{`{"contains_url":false}`, room, `{"body":"url"}`, true},
		{`{"rooms":["!room:a.example"]}`, room, `{}`, true},
		{`{"rooms":["!room:a.example"]}`, other, `{}`, false},
		{`{"rooms":[]}`, room, `{}`, false},
		{`{"not_rooms":["` + other + `"]}`, other, `{}`, false},
		{`{"not_rooms":["` + other + `"]}`, room, `{}`, true},
		{`{"types":["m.room.message"]}`, room, `{}`, true},
		{`{"types":["m.room.member"]}`, room, `{}`, false},
		{`{"not_senders":["@a:a.example"]}`, room, `{}`, false},
	} {
		f, err := ParseRoomEventFilter([]byte(test.filter))
		if err != nil {
			t.Fatalf("%s: %v", test.filter, err)
		}
		e := &Event{Type: "m.room.message", Sender: "@a:a.example", RoomID: test.room, Content: []byte(test.content)}
		if got := f.AllowsEvent(e); got != test.allowed {
			t.Errorf("%s: AllowsEvent(%s in %s) = %v", test.filter, test.content, test.room, got)
		}
	}
}

func TestParseFilterReadsEverything(t *testing.T) {
	f := parseFilter(t, `{
		"event_format":"federation", "event_fields":["type","content.body"], "unknown":{"x":[1.5]},
		"presence":{"limit":7}, "account_data":{"types":["m.direct"]},
		"room":{"include_leave":true, "rooms":["!a:b"], "not_rooms":["!c:d"],
			"state":{"lazy_load_members":true,"include_redundant_members":true},
			"timeline":{"limit":0,"unread_thread_notifications":true},
			"ephemeral":{"limit":1000000,"rooms":["!e:f"]},
			"account_data":{"types":[]}}}`)
	type seen struct {
		Federation, IncludeLeave, Lazy, Redundant, Threads bool
		Presence, Timeline, Ephemeral, None                int
		AccountData, RoomA, RoomC, RoomE, NoAccountData    bool
		Fields                                             string
	}
	got := seen{
		Federation: f.Federation, IncludeLeave: f.Room.IncludeLeave,
		Lazy: f.Room.State.LazyLoadMembers, Redundant: f.Room.State.IncludeRedundantMembers,
		Threads:  f.Room.Timeline.UnreadThreadNotifications,
		Presence: f.Presence.LimitOr(10), Timeline: f.Room.Timeline.LimitOr(10),
		Ephemeral: f.Room.Ephemeral.LimitOr(10), None: f.Room.State.LimitOr(10),
		AccountData: f.AccountData.AllowsType("m.direct"), RoomA: f.Room.AllowsRoom("!a:b"), RoomC: f.Room.AllowsRoom("!c:d"),
		RoomE: f.Room.Ephemeral.AllowsRoom("!e:f"), NoAccountData: f.Room.AccountData.AllowsNothing(),
		Fields: string(f.Fields.Append(nil, []byte(`{"content":{"body":"x","y":1},"type":"t","z":2}`))),
	}
	want := seen{true, true, true, true, true, 7, 0, MaxFilterLimit, 10, true, true, false, true, true,
		`{"content":{"body":"x"},"type":"t"}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseFilterRefuses(t *testing.T) {
	many := func(n int, format string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(format, i)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	for _, test := range []struct {
		text string
		want *Error
	}{
		{``, NotJSON},
		{`x`, NotJSON},
		{`{`, NotJSON},
		{`{}x`, NotJSON},
		{"{\"event_format\":\"\xff\"}", NotJSON},
		{`null`, BadJSON},
		{`[]`, BadJSON},
		{`"66696p"`, BadJSON},
		{`{"presence":{},"presence":{}}`, BadJSON},
		{`{"presence":"not_an_object"}`, BadJSON},
		{`{"room":{"timeline":"not_an_object"}}`, BadJSON},
		{`{"room":{"timeline":{"rooms":"not_a_list"}}}`, BadJSON},
		{`{"room":{"timeline":{"types":[0]}}}`, BadJSON},
		{`{"room":{"timeline":{"limit":"10"}}}`, BadJSON},
		{`{"room":{"timeline":{"limit":1.5}}}`, BadJSON},
		{`{"room":{"timeline":{"limit":1e400}}}`, BadJSON},
		{`{"room":{"timeline":{"contains_url":"yes"}}}`, BadJSON},
		{`{"room":{"include_leave":1}}`, BadJSON},
		{`{"room":{"timeline":{"limit":-1}}}`, InvalidParam},
		{`{"room":{"timeline":{"rooms":["not_a_room_id"]}}}`, InvalidParam},
		{`{"room":{"rooms":["@a:b"]}}`, InvalidParam},
		{`{"room":{"timeline":{"senders":["not_a_sender_id"]}}}`, InvalidParam},
		{`{"presence":{"not_senders":["@a"]}}`, InvalidParam},
		{`{"event_format":"xml"}`, InvalidParam},
		{`{"event_fields":["` + strings.Repeat("a", 256) + `"]}`, InvalidParam},
		{`{"event_fields":` + many(257, `"a%d"`) + `}`, InvalidParam},
		{`{"presence":{"types":["` + strings.Repeat("a", 256) + `"]}}`, InvalidParam},
		{`{"presence":{"not_types":` + many(101, `"a%d*"`) + `}}`, InvalidParam},
		{`{"x":"` + strings.Repeat("a", MaxFilterSize) + `"}`, TooLarge},
	} {
		_, err := ParseFilter([]byte(test.text))
		if !errors.Is(err, test.want) {
			t.Errorf("%.80s: %v, want %s", test.text, err, test.want.Code)
		}
	}
}

// TestParseFilterDeep sees that nesting is refused before it costs anything.
func TestParseFilterDeep(t *testing.T) {
	for _, open := range []string{`[`, `{"a":`} {
		text := `{"x":` + strings.Repeat(open, 60_000/len(open))
		if _, err := ParseFilter([]byte(text)); !errors.Is(err, NotJSON) {
			t.Errorf("%.20s: %v", text, err)
		}
	}
}

func TestFields(t *testing.T) {
	const event = `{"content":{"a.b":{"c":1},"body":"x","list":[{"q":1}],"m\\foo":2},"sender":"@a:b","type":"t"}`
	for _, test := range []struct{ fields, want string }{
		{`null`, event},
		{`[]`, event},
		{`["type"]`, `{"type":"t"}`},
		{`["missing","content.missing"]`, `{"content":{}}`},
		{`["content"]`, `{"content":{"a.b":{"c":1},"body":"x","list":[{"q":1}],"m\\foo":2}}`},
		{`["content","content.body"]`, `{"content":{"a.b":{"c":1},"body":"x","list":[{"q":1}],"m\\foo":2}}`},
		{`["content.body","content.body.deeper"]`, `{"content":{"body":"x"}}`},
		{`["content.body.deeper","type.x"]`, `{"content":{}}`},
		{`["content.list.q"]`, `{"content":{}}`},
		{`["content.a\\.b.c","sender"]`, `{"content":{"a.b":{"c":1}},"sender":"@a:b"}`},
		{`["content.m\\\\foo"]`, `{"content":{"m\\foo":2}}`},
		{`["content.m\\foo"]`, `{"content":{"m\\foo":2}}`},
	} {
		f := parseFilter(t, `{"event_fields":`+test.fields+`}`)
		if got := string(f.Fields.Append(nil, []byte(event))); got != test.want {
			t.Errorf("%s: %s, want %s", test.fields, got, test.want)
		}
	}
}

// FuzzParseFilter looks for filters that are accepted and then fail: by a panic,
// by an answer that contradicts another, or by an event that is no longer JSON.
func FuzzParseFilter(f *testing.F) {
	for _, seed := range []string{
		`{"room":{"state":{"types":["m.room.*"],"not_rooms":["!726s6s6q:example.com"]},"timeline":{"limit":10}}}`,
		`{"presence":{"types":["*a*"],"not_senders":["@a:b"]},"event_fields":["content.a\\.b"],"event_format":"client"}`,
		`{"types":["**"],"contains_url":true}`,
	} {
		f.Add(seed, "m.room.message", "@a:b")
	}
	event := []byte(`{"content":{"a":{"b":[1]},"url":null},"type":"t"}`)
	f.Fuzz(func(t *testing.T, text, eventType, sender string) {
		for _, format := range []string{`%s`, `{"presence":%s}`, `{"room":{"timeline":%s}}`} {
			filter, err := ParseFilter(fmt.Appendf(nil, format, text))
			if err != nil {
				var told *Error
				if !errors.As(err, &told) || told.Status < 400 || told.Status >= 500 {
					t.Fatalf("%v is not for the client", err)
				}
				continue
			}
			for _, e := range []*EventFilter{&filter.Presence, &filter.Room.Timeline.EventFilter} {
				if e.AllowsNothing() && e.Allows(eventType, sender) {
					t.Fatal("a filter allows nothing and an event")
				}
				if e.Allows(eventType, sender) && !e.AllowsType(eventType) {
					t.Fatal("a filter allows an event and not its type")
				}
				if n := e.LimitOr(1); n < 0 || n > MaxFilterLimit {
					t.Fatalf("limit %d", n)
				}
			}
			if _, err := CanonicalJSON(filter.Fields.Append(nil, event), true); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkEventFilter(b *testing.B) {
	f := parseFilter(b, `{"room":{"timeline":{"types":["m.room.message","m.room.encrypted","org.example.*"],"not_senders":["@a:b"]}}}`)
	e := &Event{Type: "m.room.encrypted", Sender: "@c:d", RoomID: "!r:x"}
	b.ReportAllocs()
	for b.Loop() {
		if !f.Room.Timeline.AllowsEvent(e) {
			b.Fatal("not allowed")
		}
	}
}
