package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"beep/matrix"
	"beep/tests/harness"
)

// message are the fields of a message that follows the heads of a room.
func (r *Room) message(sender, body string) harness.Object {
	return Fields(r.s.t, r.s.Build(r.Draft(sender, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": body})))
}

// A depth beyond all bounds, or that is none, costs that event its place and the others
// nothing; what is sent here afterwards has a depth that others take (F01).
func TestDepthsThatAreNone(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"1", "5", "6", "12"} {
		room := publicRoom(alice, s, string(v), bob)
		for _, depth := range []any{json.Number("9007199254740992"), json.Number("9223372036854775807"), json.Number("9223372036854775808"),
			json.Number("1e400"), json.Number("1.0"), "5", -1, nil, true, harness.List{1}, harness.Object{}} {
			what := fmt.Sprintf("version %s, depth %v", v, depth)
			fields := room.message(bob, what)
			fields["depth"] = depth
			bad := s.Forge(v, fields)
			for _, part := range []string{"content", "sender", "room_id", "origin_server_ts", "prev_events"} {
				broken := room.message(bob, what)
				broken[part] = depth
				if _, isList := depth.(harness.List); !isList || part != "prev_events" {
					s.Send(s.Forge(v, broken))
				}
			}
			before, after := room.Say(bob, what+" before"), room.Say(bob, what+" after")
			refused := s.Send(before, bad, after)
			delete(refused, bad.ID) // its id may be told or not
			if len(refused) != 0 {
				t.Errorf("%s: %v", what, refused)
			}
			hidden(t, alice, room.ID, bad.ID, what)
			shown(t, alice, room.ID, before.ID, what)
			shown(t, alice, room.ID, after.ID, what)
		}
		e := s.AwaitEvent(alice.Text(room.ID, "hello"))
		if e.Depth > matrix.MaxSafeInteger || e.Depth < 1 {
			t.Errorf("version %s: alice's event has the depth %d", v, e.Depth)
		}
	}
}

// A room whose deepest event has the greatest depth that there is goes on: nobody's event is
// deeper, and all of them arrive (F02).
func TestRoomAtTheGreatestDepth(t *testing.T) {
	EachVictim(t, func(t *testing.T, victim *harness.Server) {
		alice := victim.Register(t, "alice")
		s := New(t, victim)
		bob := s.User("bob")
		for _, v := range []string{"1", "6", "12"} {
			room := publicRoom(alice, s, v, bob)
			p := room.Draft(bob, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": "deep"})
			p.Depth = matrix.MaxSafeInteger
			deep := s.Build(p)
			room.Add(deep)
			if refused := s.Send(deep); len(refused) != 0 {
				t.Fatalf("version %s: %v", v, refused)
			}
			for i := range 3 {
				if e := s.AwaitEvent(alice.Text(room.ID, fmt.Sprint(i))); e.Depth != matrix.MaxSafeInteger {
					t.Errorf("version %s: alice's event has the depth %d", v, e.Depth)
				}
				said := room.Say(bob, "and bob")
				s.Send(said)
				shown(t, alice, room.ID, said.ID, "a message at the greatest depth")
			}
			alice.SetState(room.ID, "m.room.topic", "", harness.Object{"topic": "deep"}).OK()
			s.Join(room.ID, s.User("carol"))
		}
	})
}

// One PDU of fifty that is nothing does not keep the others out (F03).
func TestOneOfFiftyPDUs(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	room := publicRoom(alice, s, "11", bob)
	for what, bad := range map[string]any{
		"null": nil, "a number": 5, "a list": harness.List{}, "a text": `"x"`, "nothing": harness.Object{}, "a list of lists": strings.Repeat("[", 300) + strings.Repeat("]", 300),
		"a room only": harness.Object{"room_id": room.ID}, "a room that is a number": harness.Object{"room_id": 5},
		"members that are null": harness.Object{"room_id": room.ID, "type": nil, "sender": nil, "content": nil},
		"a room alike":          harness.Object{"Room_id": room.ID, "ROOM_ID": room.ID},
	} {
		var pdus []any
		var good []*matrix.Event
		for i := range 50 {
			if i == 25 {
				pdus = append(pdus, bad)
				continue
			}
			good = append(good, room.Say(bob, fmt.Sprintf("%s %d", what, i)))
			pdus = append(pdus, good[len(good)-1])
		}
		if refused := s.Send(pdus...); len(refused) != 0 {
			t.Errorf("%s: %v", what, refused)
		}
		for _, e := range []*matrix.Event{good[0], good[24], good[25], good[48]} {
			shown(t, alice, room.ID, e.ID, what)
		}
	}
	if a := s.Transaction(slices.Repeat([]any{room.Say(bob, "x")}, 51), nil); a.Status != 400 {
		t.Errorf("51 PDUs (F10): %d %s", a.Status, a.Body)
	}
	if a := s.Transaction(nil, slices.Repeat([]any{harness.Object{"edu_type": "x", "content": harness.Object{}}}, 101)); a.Status != 400 {
		t.Errorf("101 EDUs (F10): %d %s", a.Status, a.Body)
	}
}

// A body that is no JSON, or has two readings, is refused as a whole, before anything in it
// counts (F04, F06, F07).
func TestBodiesThatAreNoJSON(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	room := publicRoom(alice, s, "6", bob)
	good := room.Say(bob, "good")
	for what, value := range map[string]string{
		"NaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity", "a plus sign": "+1", "a leading zero": "01", "a hexadecimal": "0x10",
		"a key twice": `{"a":1,"a":2}`, "a key twice, escaped": `{"a":1,"\u0061":2}`, "a lone surrogate": `"\ud800"`, "invalid UTF-8": "\"\xff\"",
		"an overlong zero": "\"\xc0\x80\"", "a surrogate in UTF-8": "\"\xed\xa0\x80\"", "a control character": "\"\n\"", "nothing": "",
	} {
		for _, body := range []string{
			fmt.Sprintf(`{"pdus":[%s],"x":%s}`, good.JSON, value),
			fmt.Sprintf(`{"pdus":[%s,{"room_id":%q,"content":{"x":%s}}]}`, good.JSON, room.ID, value),
			fmt.Sprintf(`{"pdus":[%s],"edus":[{"edu_type":"m.typing","content":{"room_id":%s}}]}`, good.JSON, value),
		} {
			a := s.Put(V1+"/send/no-json-"+fmt.Sprintf("%x", what), body)
			if a.Status != 400 || a.At("errcode").Str() != "M_NOT_JSON" && a.At("errcode").Str() != "M_BAD_JSON" {
				t.Errorf("%s: %d %s", what, a.Status, a.Body)
			}
			s.Put(harness.Path(V2+"/send_join/%s/%s", room.ID, "$x"), fmt.Sprintf(`{"type":"m.room.member","x":%s}`, value)).Refused(what, 400)
			s.Post(harness.Path(V1+"/get_missing_events/%s", room.ID), fmt.Sprintf(`{"latest_events":[],"earliest_events":[],"limit":%s}`, value)).Refused(what, 400)
		}
		hidden(t, alice, room.ID, good.ID, what)
	}
	for what, twice := range map[string]string{
		"type":       `{"type":"m.room.power_levels",`,
		"membership": `{"content":{"membership":"join","membership":"ban"},`,
		"sender":     `{"sender":"` + alice.UserID + `",`,
	} {
		text := strings.Replace(string(good.JSON), "{", twice, 1)
		if a := s.Transaction([]any{text}, nil); a.Status != 400 {
			t.Errorf("two of %s: %d %s", what, a.Status, a.Body)
		}
	}
	if refused := s.Send(good); len(refused) != 0 {
		t.Error(refused)
	}
	shown(t, alice, room.ID, good.ID, "the same event in JSON")
}

// Events with members that a careless reader takes for others are none (F06).
func TestMembersThatLookLikeOthers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"1", "6", "12"} {
		room := publicRoom(alice, s, string(v), bob)
		for name, value := range map[string]any{
			"Sender": alice.UserID, "SENDER": alice.UserID, "ſender": alice.UserID, "Type": "m.room.power_levels", "State_key": "", "STATE_KEY": "",
			"Room_ID": "!x", "Content": harness.Object{}, "Prev_events": harness.List{}, "AUTH_EVENTS": harness.List{}, "Depth": 1,
			"Origin_server_ts": 1, "Hashes": harness.Object{}, "Redacts": "$x",
		} {
			fields := room.message(bob, name)
			fields[name] = value
			e := s.Forge(v, fields)
			s.Send(e)
			hidden(t, alice, room.ID, e.ID, name)
		}
		// In the content such a member is one that means nothing.
		p := room.Draft(bob, "m.room.member", &bob, nil)
		p.Content = []byte(`{"membership":"join","Membership":"leave","MEMBERSHIP":"ban","member\u017fhip":"ban"}`)
		e := s.Build(p)
		room.Add(e)
		s.Send(e, room.Say(bob, "still in"))
		shown(t, alice, room.ID, room.Heads()[0].ID, "a message of who is in the room by the right member")
	}
}

// Numbers beyond those of canonical JSON are good in rooms of the versions that have them, and
// nowhere else (F05).
func TestNumbersOfOldRooms(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"1", "5", "6", "12"} {
		room := publicRoom(alice, s, string(v), bob)
		for _, number := range []string{"1.5", "-0.5", "1e3", "9007199254740992", "-9007199254740992", "12345678901234567890123"} {
			fields := room.message(bob, number)
			fields["content"].(harness.Object)["deep"] = harness.List{harness.Object{"x": harness.List{json.Number(number)}}}
			e := s.Forge(v, fields)
			s.Send(e)
			if got := sees(alice, room.ID, e.ID); got == v.StrictNumbers() {
				t.Errorf("version %s: %s: shown %v", v, number, got)
			}
		}
		usable(t, alice, s, room.ID)
	}
}

// Text of every kind arrives as it was sent, with its hash and its id (F07).
func TestTextOfEveryKind(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []string{"1", "12"} {
		room := publicRoom(alice, s, v, bob)
		for _, text := range []string{"<b>&amp;</b>", "\u2028\u2029", "\u0000\u0001\u001f\u007f\u0080", "🐝\U0010ffff", "\ufffd", "e\u0301é", "\"\\/\b\f\n\r\t"} {
			e := room.Say(bob, text)
			if refused := s.Send(e); len(refused) != 0 {
				t.Errorf("%q: %v", text, refused)
			}
			if got := alice.Unchecked().Get(harness.Path("/v3/rooms/%s/event/%s", room.ID, e.ID)).At("content", "body").Str(); got != text {
				t.Errorf("%q came as %q", text, got)
			}
			again := s.Get(harness.Path(V1+"/event/%s", e.ID)).OK().At("pdus", 0)
			if back, err := matrix.Parse(room.Version, []byte(again.String())); err != nil || back.ID != e.ID || !bytes.Equal(back.JSON, e.JSON) {
				t.Errorf("%q comes back as %v: %v", text, again, err)
			}
			answer := alice.SendEvent(room.ID, "org.example.text", fmt.Sprintf("%x", text), harness.Object{"text": text}).OK().At("event_id").Str()
			if e := s.AwaitEvent(answer); !e.HashMatches() || e.ContentString("text") != text {
				t.Errorf("%q left as %s", text, e.JSON)
			}
		}
	}
}

// The bounds of an event are exact, and count bytes (F08).
func TestLargeEventsOfOthers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"1", "12"} {
		room := publicRoom(alice, s, string(v), bob)
		sized := func(size int) *Forged {
			fields := room.message(bob, "")
			pad := size - len(s.Forge(v, fields).JSON)
			fields["content"].(harness.Object)["body"] = strings.Repeat("x", pad)
			e := s.Forge(v, fields)
			if len(e.JSON) != size {
				t.Fatalf("%d bytes, not %d", len(e.JSON), size)
			}
			return e
		}
		with := func(name, value string) *Forged {
			fields := room.message(bob, "x")
			fields[name] = value
			return s.Forge(v, fields)
		}
		long := func(prefix string, n int) string { // n bytes, and fewer characters
			rest := n - len(prefix)
			return prefix + strings.Repeat("é", rest/2) + strings.Repeat("x", rest%2)
		}
		for what, test := range map[string]struct {
			e    *Forged
			good bool
		}{
			"65,536 bytes":             {sized(65536), true},
			"65,537 bytes":             {sized(65537), false},
			"a type of 255 bytes":      {with("type", long("m.", 255)), true},
			"a type of 256 bytes":      {with("type", long("m.", 256)), false},
			"a sender of 256 bytes":    {with("sender", "@"+long("b", 255-1-len(s.Name))+":"+s.Name), false},
			"a state key of 256 bytes": {with("state_key", long("k", 256)), false},
			"a room id of 256 bytes":   {with("room_id", long("!", 256)), false},
		} {
			refused := s.Send(test.e)
			if got := sees(alice, room.ID, test.e.ID); got != test.good {
				t.Errorf("version %s: %s: shown %v (%v)", v, what, got, refused)
			}
		}
		usable(t, alice, s, room.ID)
	}
}

// An event may follow twenty and cite ten others, and not one more (F10).
func TestManyReferences(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	for _, v := range []matrix.RoomVersion{"1", "12"} {
		room := publicRoom(alice, s, string(v), bob)
		var beside []*matrix.Event
		var pdus []any
		for i := range 21 {
			e := s.Build(room.Draft(bob, "m.room.message", nil, harness.Object{"body": fmt.Sprint(i), "msgtype": "m.text"}))
			beside, pdus = append(beside, e), append(pdus, e)
		}
		s.Send(pdus...)
		for n, good := range map[int]bool{20: true, 21: false} {
			p := room.Draft(bob, "m.room.message", nil, harness.Object{"body": "all", "msgtype": "m.text"})
			p.PrevEvents = References(beside[:n]...)
			p.Depth++
			e := s.Build(p)
			s.Send(e)
			if got := sees(alice, room.ID, e.ID); got != good {
				t.Errorf("version %s: %d events before: shown %v", v, n, got)
			}
		}
		p := room.Draft(bob, "m.room.message", nil, harness.Object{"body": "cites", "msgtype": "m.text"})
		p.AuthEvents = append(p.AuthEvents, References(beside[:11-len(p.AuthEvents)]...)...)
		e := s.Build(p)
		s.Send(e)
		hidden(t, alice, room.ID, e.ID, "11 auth events")
		usable(t, alice, s, room.ID)
	}
}

// What is nested deeply is refused wherever it comes, and costs nothing (F09).
func TestDeepNestingFromOthers(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	alice := victim.Register(t, "alice")
	s := New(t, victim)
	bob := s.User("bob")
	room := publicRoom(alice, s, "11", bob)
	for _, deep := range []string{strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		strings.Repeat("[", 100_000)} {
		for _, body := range []string{`{"pdus":[{"room_id":"` + room.ID + `","content":{"x":` + deep + `}}]}`, `{"edus":[{"edu_type":"m.typing","content":{"x":` + deep + `}}]}`, deep} {
			s.Put(V1+"/send/deep", body).Refused("a transaction", 400)
		}
		s.Put(harness.Path(V2+"/invite/%s/%s", room.ID, "$x"), `{"room_version":"11","event":`+deep+`}`).Refused("an invite", 400)
		s.Post(harness.Path(V1+"/get_missing_events/%s", room.ID), `{"latest_events":`+deep+`}`).Refused("a question", 400)
	}
	// An event within the bounds of its size, nested beyond those of its depth.
	fields := room.message(bob, "x")
	fields["content"].(harness.Object)["x"] = json.RawMessage(strings.Repeat("[", 500) + strings.Repeat("]", 500))
	e := s.Forge("11", fields)
	s.Send(e)
	hidden(t, alice, room.ID, e.ID, "a nested event")
	// The same in what the server under attack asks for.
	missed := room.Say(bob, "missed")
	s.Answer(missingPattern, 200, `{"events":[{"content":{"x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}}]}`)
	s.Send(room.Say(bob, "after"))
	s.Handle(missingPattern, nil)
	s.Send(missed)
	shown(t, alice, room.ID, missed.ID, "the event that was missed")
	usable(t, alice, s, room.ID)
}
