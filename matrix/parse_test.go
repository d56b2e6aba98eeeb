package matrix

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var fixedSigner = &Signer{ServerName: "example.org", KeyID: "ed25519:k1", Key: ed25519.NewKeyFromSeed(make([]byte, 32))}

// received is a message event of the version as another server would send it.
func received(t testing.TB, v RoomVersion) *Event {
	t.Helper()
	p := &Proto{Version: v, RoomID: "!room:example.org", Type: "m.room.message", Sender: "@alice:example.org",
		Content: []byte(`{"body":"x","msgtype":"m.text"}`), OriginServerTS: 1, Depth: 7,
		PrevEvents: []Reference{{ID: "$previous:example.org"}}, AuthEvents: []Reference{{ID: "$create:example.org"}}}
	if v.CreateWithoutRoom() {
		p.RoomID = "!0123456789abcdef"
	}
	e, err := fixedSigner.Build(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// with replaces, adds or (nil) removes members of an event.
func with(t testing.TB, event []byte, changes map[string]any) []byte {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(event, &members); err != nil {
		t.Fatal(err)
	}
	for key, value := range changes {
		raw, isRaw := value.(json.RawMessage)
		if !isRaw {
			var err error
			if raw, err = json.Marshal(value); err != nil {
				t.Fatal(err)
			}
		}
		if members[key] = raw; value == nil {
			delete(members, key)
		}
	}
	var text bytes.Buffer
	text.WriteByte('{')
	for i, key := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "%q:%s", key, members[key])
	}
	text.WriteByte('}')
	return text.Bytes()
}

// What one server builds another reads as the same event, whatever spaces and
// order it comes in and whatever is added to unsigned.
func TestParseReadsWhatBuildMakes(t *testing.T) {
	for _, v := range RoomVersions() {
		want := received(t, v)
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, with(t, want.JSON, map[string]any{"unsigned": map[string]int{"age": 5}}), "", "  "); err != nil {
			t.Fatal(err)
		}
		got, err := Parse(v, spaced.Bytes())
		if err != nil {
			t.Errorf("version %s: %v", v, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Event{})); diff != "" {
			t.Errorf("version %s (-want +got):\n%s", v, diff)
		}
		if !got.HashMatches() {
			t.Errorf("version %s: the hash of an untouched event is called wrong", v)
		}
	}
}

// What is no event of the room version is refused, whatever is wrong with it (F01, F05, F06,
// F07, F08, F09, F10).
func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("é", 128) // 256 bytes, 128 characters
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	list := func(n int) []string { return slices.Repeat([]string{"$a"}, n) }
	for name, changes := range map[string]map[string]any{
		"depth 2^53":                   {"depth": raw("9007199254740992")},
		"depth 2^63-1":                 {"depth": raw("9223372036854775807")},
		"depth 1e400":                  {"depth": raw("1e400")},
		"depth in a string":            {"depth": "5"},
		"negative depth":               {"depth": -1},
		"fractional depth":             {"depth": raw("1.0")},
		"null depth":                   {"depth": raw("null")},
		"no depth":                     {"depth": nil},
		"no type":                      {"type": nil},
		"number as type":               {"type": 5},
		"long type":                    {"type": long},
		"long state key":               {"state_key": long},
		"null state key":               {"state_key": raw("null")},
		"state key with NUL":           {"state_key": "a\x00b"},
		"long sender":                  {"sender": "@" + long + ":example.org"},
		"sender that is no user id":    {"sender": "alice"},
		"no sender":                    {"sender": nil},
		"no room":                      {"room_id": nil},
		"room id that is none":         {"room_id": "#a:example.org"},
		"no content":                   {"content": nil},
		"list as content":              {"content": list(1)},
		"list as hashes":               {"hashes": list(1)},
		"string as signatures":         {"signatures": "x"},
		"no prev_events":               {"prev_events": nil},
		"object as prev_events":        {"prev_events": map[string]int{}},
		"numbers as prev_events":       {"prev_events": []int{1}},
		"pairs as prev_events":         {"prev_events": [][]any{{"$a", map[string]string{"sha256": ""}}}},
		"no ids as prev_events":        {"prev_events": []string{"a"}},
		"21 prev_events":               {"prev_events": list(21)},
		"11 auth_events":               {"auth_events": list(11)},
		"no time":                      {"origin_server_ts": nil},
		"time in a string":             {"origin_server_ts": "1"},
		"fraction in content":          {"content": raw(`{"x":[{"y":1.5}]}`)},
		"large integer in content":     {"content": raw(`{"x":9007199254740992}`)},
		"NaN in content":               {"content": raw(`{"x":NaN}`)},
		"Infinity in content":          {"content": raw(`{"x":-Infinity}`)},
		"key twice in content":         {"content": raw(`{"a":1,"a":1}`)},
		"key twice by escape":          {"content": raw(`{"a":1,"\u0061":1}`)},
		"Sender beside sender":         {"Sender": "@mallory:example.org"},
		"STATE_KEY":                    {"STATE_KEY": ""},
		"ſender, with a long s":        {"ſender": "@mallory:example.org"},
		"unpaired surrogate":           {"content": raw(`{"x":"\ud800"}`)},
		"invalid UTF-8":                {"content": raw("{\"x\":\"\xff\"}")},
		"nested too deeply":            {"content": raw(`{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`)},
		"nested a little too deeply":   {"content": raw(`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`)},
		"larger than an event":         {"content": map[string]string{"x": strings.Repeat("a", MaxEventSize)}},
		"much larger, in unsigned too": {"unsigned": map[string]string{"x": strings.Repeat("a", 5*MaxEventSize)}},
	} {
		t.Run(name, func(t *testing.T) {
			text := with(t, received(t, "11").JSON, changes)
			e, err := Parse("11", text)
			var refused *Error
			if !errors.As(err, &refused) || refused.Status != 400 && refused.Status != 413 {
				t.Errorf("gave %v, %v, want a refusal", e, err)
			}
		})
	}
	for _, text := range []string{"", "[]", "null", `"x"`, "{}", "{", `{"type":"m.x"} {}`} {
		if _, err := Parse("11", []byte(text)); err == nil {
			t.Errorf("%q is taken for an event", text)
		}
	}
}

// The limit counts the bytes of the canonical form, and it is exact (F08).
func TestParseSizeIsExact(t *testing.T) {
	e := received(t, "11")
	pad := MaxEventSize - len(with(t, e.JSON, map[string]any{"content": map[string]string{"x": ""}}))
	for more, want := range map[int]bool{0: true, 1: false} {
		text := with(t, e.JSON, map[string]any{"content": map[string]string{"x": strings.Repeat("a", pad+more)}})
		if _, err := Parse("11", text); (err == nil) != want {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
}

// Old room versions take numbers that are not canonical (F05).
func TestParseOldNumbers(t *testing.T) {
	for _, v := range RoomVersions() {
		text := with(t, received(t, v).JSON, map[string]any{"content": json.RawMessage(`{"x":1.5,"y":9007199254740993}`)})
		if _, err := Parse(v, text); (err == nil) != !v.StrictNumbers() {
			t.Errorf("version %s: %v", v, err)
		}
	}
}

// The members that a room version does not know are like any others.
func TestParseMembersOfOtherVersions(t *testing.T) {
	text := with(t, received(t, "11").JSON, map[string]any{"redacts": 5, "event_id": 7, "origin": []int{}})
	if _, err := Parse("11", text); err != nil {
		t.Error(err)
	}
	if _, err := Parse("10", with(t, received(t, "10").JSON, map[string]any{"redacts": 5})); err == nil {
		t.Error("version 10 takes a number for redacts")
	}
}

// An event whose content was changed is left its redacted form (F21).
func TestHashMatches(t *testing.T) {
	for _, v := range RoomVersions() {
		changed, err := Parse(v, with(t, received(t, v).JSON, map[string]any{"content": map[string]string{"body": "forged"}}))
		if err != nil {
			t.Fatal(err)
		}
		if changed.HashMatches() {
			t.Errorf("version %s: the hash of a changed event is called right", v)
		}
		redacted, err := changed.Redacted()
		if err != nil || redacted.ID != changed.ID || string(redacted.Content) != "{}" {
			t.Errorf("version %s: redacted to %s (%v)", v, redacted.JSON, err)
		}
	}
}

// Who has to sign an event depends on what it is and on the room version (F20, F21).
func TestSigners(t *testing.T) {
	member := func(v RoomVersion, content string) *Event {
		key := "@bob:b.test"
		e, err := fixedSigner.Build(&Proto{Version: v, RoomID: "!r:c.test", Type: "m.room.member", StateKey: &key,
			Sender: "@bob:b.test", Content: []byte(content)})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	restricted := `{"membership":"join","join_authorised_via_users_server":"@admin:c.test"}`
	for _, test := range []struct {
		event *Event
		want  []string
	}{
		{received(t, "11"), []string{"example.org"}},
		{member("10", restricted), []string{"b.test", "c.test"}},
		{member("7", restricted), []string{"b.test"}},
		{member("1", `{"membership":"join"}`), []string{"b.test", fixedSigner.ServerName}},
		{member("10", `{"membership":"invite","third_party_invite":{"signed":{}}}`), nil},
		{member("10", `{"membership":"join","third_party_invite":{"signed":{}}}`), []string{"b.test"}},
	} {
		if diff := cmp.Diff(test.want, test.event.Signers()); diff != "" {
			t.Errorf("version %s, %s (-want +got):\n%s", test.event.Version, test.event.Content, diff)
		}
	}
}

// Whatever comes in, what Parse lets pass reads the same again.
func FuzzParse(f *testing.F) {
	for _, v := range RoomVersions() {
		f.Add(string(v), []byte(received(f, v).JSON))
	}
	f.Fuzz(func(t *testing.T, v string, text []byte) {
		e, err := Parse(RoomVersion(v), text)
		if err != nil {
			return
		}
		again, err := Parse(RoomVersion(v), e.JSON)
		if err != nil || again.ID != e.ID || !bytes.Equal(again.JSON, e.JSON) {
			t.Errorf("%s is read as %s, and that as %v (%v)", text, e.JSON, again, err)
		}
		e.HashMatches()
		e.Signers()
		if _, err := e.Redacted(); err != nil {
			t.Errorf("%s cannot be redacted: %v", e.JSON, err)
		}
	})
}
