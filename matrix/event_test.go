package matrix

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/matrix-org/gomatrixserverlib"
)

func testSigner(t testing.TB) *Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{ServerName: "hs.example", KeyID: "ed25519:k1", Key: key}
}

func ptr(s string) *string { return &s }

// TestBuildAgreesWithLibrary lets gomatrixserverlib check everything about our
// events: canonical form, content hash, event id, signature, redaction (F07).
func TestBuildAgreesWithLibrary(t *testing.T) {
	signer := testSigner(t)
	contents := map[string]string{
		"m.room.message": `{"msgtype":"m.text","body":"سلام <b>&\u2028 \ud83d\ude00 \u0007\"\\","n":-0,"z":{"b":[1,{}],"a":null}}`,
		"m.room.member":  `{"membership":"join","displayname":"Ayesha","join_authorised_via_users_server":"@a:hs.example"}`,
		"m.room.power_levels": `{"users":{"@a:hs.example":100},"invite":50,"events":{"x":1},"notifications":{"room":50},
			"ban":50,"kick":50,"redact":50,"state_default":50,"users_default":0,"events_default":0}`,
		"m.room.join_rules":         `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"!x:y"}],"other":1}`,
		"m.room.history_visibility": `{"history_visibility":"shared","other":1}`,
		"m.room.aliases":            `{"aliases":["#a:hs.example"],"other":1}`,
		"m.room.create":             `{"creator":"@a:hs.example","m.federate":true,"other":{"x":[]}}`,
		"m.room.redaction":          `{"reason":"spam"}`,
	}
	for _, v := range RoomVersions() {
		impl, err := gomatrixserverlib.GetRoomVersion(gomatrixserverlib.RoomVersion(v))
		if err != nil {
			t.Fatal(err)
		}
		roomID := "!room:hs.example"
		if v.CreateWithoutRoom() {
			roomID = "!" + strings.Repeat("A", 43)
		}
		refs := []Reference{{ID: "$prev:hs.example"}}
		if v != "1" && v != "2" {
			refs[0].ID = "$" + strings.Repeat("p", 43)
		}
		for eventType, content := range contents {
			p := &Proto{Version: v, RoomID: roomID, Type: eventType, Sender: "@a:hs.example", Content: []byte(content),
				OriginServerTS: 1700000000123, Depth: 7, PrevEvents: refs, AuthEvents: refs}
			switch eventType {
			case "m.room.message":
			case "m.room.redaction":
				p.Redacts = "$target"
			case "m.room.member":
				p.StateKey = ptr("@a:hs.example")
			default:
				p.StateKey = ptr("")
			}
			if eventType == "m.room.create" {
				p.PrevEvents, p.AuthEvents = nil, nil
				if v.CreateWithoutRoom() {
					p.RoomID = ""
				}
			}
			e, err := signer.Build(p)
			if err != nil {
				t.Fatalf("%s %s: %v", v, eventType, err)
			}
			their, err := impl.NewEventFromUntrustedJSON(e.JSON)
			if err != nil {
				t.Fatalf("%s %s: %v", v, eventType, err)
			}
			if their.Redacted() {
				t.Errorf("%s %s: the content hash is wrong", v, eventType)
			}
			if their.EventID() != e.ID {
				t.Errorf("%s %s: event id %s, theirs %s", v, eventType, e.ID, their.EventID())
			}
			if diff := cmp.Diff(string(their.JSON()), string(e.JSON)); diff != "" {
				t.Errorf("%s %s: canonical form (-theirs +ours)\n%s", v, eventType, diff)
			}
			redacted, err := impl.RedactEventJSON(e.JSON)
			if err != nil {
				t.Fatal(err)
			}
			theirRedacted, err := gomatrixserverlib.CanonicalJSON(redacted)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(theirRedacted), string(v.Redact(e.JSON))); diff != "" {
				t.Errorf("%s %s: redaction (-theirs +ours)\n%s", v, eventType, diff)
			}
			public := signer.Key.Public().(ed25519.PublicKey)
			signed := without(v.Redact(e.JSON), "unsigned")
			if err := gomatrixserverlib.VerifyJSON("hs.example", "ed25519:k1", public, signed); err != nil {
				t.Errorf("%s %s: %v", v, eventType, err)
			}
			if got, want := e.Redacts, p.Redacts; got != want {
				t.Errorf("%s %s: redacts %q, want %q", v, eventType, got, want)
			}
			if eventType == "m.room.create" && v.CreateWithoutRoom() && e.RoomID != "!"+e.ID[1:] {
				t.Errorf("room id %s of create event %s", e.RoomID, e.ID)
			}
			if r := e.Reference(); v == "1" && r.Hash == [32]byte{} {
				t.Error("a reference of version 1 without hash")
			}
		}
	}
}

// TestRedactKeepsSigned: from version 11 on third_party_invite.signed outlives
// redaction, and nothing else of third_party_invite does.
func TestRedactKeepsSigned(t *testing.T) {
	event := `{"content":{"membership":"invite","third_party_invite":{"display_name":"x","signed":{"mxid":"@b:c"}}},"type":"m.room.member"}`
	for v, want := range map[RoomVersion]string{
		"10": `{"content":{"membership":"invite"},"type":"m.room.member"}`,
		"11": `{"content":{"membership":"invite","third_party_invite":{"signed":{"mxid":"@b:c"}}},"type":"m.room.member"}`,
	} {
		if got := string(v.Redact([]byte(event))); got != want {
			t.Errorf("version %s: %s", v, got)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	signer := testSigner(t)
	long := strings.Repeat("é", 128) // 256 bytes, 128 characters
	for name, tc := range map[string]struct {
		proto Proto
		want  *Error
	}{
		"float":            {Proto{Version: "12", Content: []byte(`{"x":1.5}`)}, BadJSON},
		"large integer":    {Proto{Version: "6", Content: []byte(`{"x":[9007199254740992]}`)}, BadJSON},
		"not an object":    {Proto{Version: "12", Content: []byte(`[]`)}, BadJSON},
		"NaN":              {Proto{Version: "1", Content: []byte(`{"x":NaN}`)}, BadJSON},
		"key twice":        {Proto{Version: "12", Content: []byte(`{"a":1,"a":1}`)}, BadJSON},
		"invalid UTF-8":    {Proto{Version: "12", Content: []byte("{\"a\":\"\xff\"}")}, BadJSON},
		"lone surrogate":   {Proto{Version: "12", Content: []byte(`{"a":"\ud800"}`)}, BadJSON},
		"deep":             {Proto{Version: "12", Content: []byte(strings.Repeat(`{"a":`, 100_000))}, BadJSON},
		"long type":        {Proto{Version: "12", Type: long, Content: []byte(`{}`)}, TooLarge},
		"NUL in a key":     {Proto{Version: "12", StateKey: ptr("a\x00b"), Content: []byte(`{}`)}, InvalidParam},
		"long state key":   {Proto{Version: "12", StateKey: &long, Content: []byte(`{}`)}, TooLarge},
		"event over 65536": {Proto{Version: "12", Content: []byte(`{"b":"` + strings.Repeat("x", 65536) + `"}`)}, TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.proto
			p.Sender, p.RoomID = "@a:hs.example", "!r"
			if p.Type == "" {
				p.Type = "m.room.message"
			}
			if _, err := signer.Build(&p); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// TestSizeLimitIsExact builds events of exactly the limit and one byte more (F08).
func TestSizeLimitIsExact(t *testing.T) {
	signer := testSigner(t)
	build := func(n int) (*Event, error) {
		return signer.Build(&Proto{Version: "12", RoomID: "!r", Type: "m.room.message", Sender: "@a:hs.example",
			Content: []byte(`{"b":"` + strings.Repeat("x", n) + `"}`)})
	}
	small, err := build(0)
	if err != nil {
		t.Fatal(err)
	}
	room := MaxEventSize - len(small.JSON)
	if e, err := build(room); err != nil || len(e.JSON) != MaxEventSize {
		t.Errorf("an event of the limit: %v", err)
	}
	if _, err := build(room + 1); !errors.Is(err, TooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}

// What has two readings has no canonical form (F04, F05, F06, F07).
func TestCanonicalJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":2}`:                          `{"a":2,"b":1}`,
		` { "one" : 1 , "two" : "Two" } `:        `{"one":1,"two":"Two"}`,
		`{"本":2,"日":1}`:                          `{"日":1,"本":2}`,
		`{"a":"\u65E5"}`:                         `{"a":"日"}`,
		`{"a":null,"b":[true,false,{}]}`:         `{"a":null,"b":[true,false,{}]}`,
		`{"\u0062":1,"a\"":2,"a#":3}`:            `{"a\"":2,"a#":3,"b":1}`,
		`{"x":-0,"y":-12}`:                       `{"x":0,"y":-12}`,
		`"\/\u001f\u007f\b\f\n\r\t\ud83d\ude00"`: "\"/\\u001f\u007f\\b\\f\\n\\r\\t\U0001F600\"",
	} {
		got, err := CanonicalJSON([]byte(in), true)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{``, `{`, `{"a"}`, `{"a":1,}`, `[1,]`, `01`, `1.`, `1e`, `--1`, `+1`, `.5`, `tru`, `"a`, "\"\n\"",
		`{"a":1}x`, `"\x"`, `"\ud800\u0041"`, `"\udc00"`, `1.0`, `1e3`, `9007199254740992`, `-9007199254740992`} {
		if got, err := CanonicalJSON([]byte(in), true); err == nil {
			t.Errorf("%q became %s", in, got)
		}
	}
	if got, err := CanonicalJSON([]byte(`[1.50,1e3,9007199254740993]`), false); err != nil || string(got) != `[1.50,1e3,9007199254740993]` {
		t.Errorf("lenient numbers: %s, %v", got, err)
	}
}

func FuzzCanonicalJSON(f *testing.F) {
	for _, seed := range []string{`{"b":[1,"x\u00e9"],"a":{"\n":null}}`, `{"a":1,"\u0061":2}`, `-0`, `"\ud83d\ude00"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		once, err := CanonicalJSON(in, true)
		if err != nil {
			return
		}
		if !json.Valid(once) {
			t.Fatalf("%q became %q, which is not JSON", in, once)
		}
		twice, err := CanonicalJSON(once, true)
		if err != nil || string(twice) != string(once) {
			t.Fatalf("not stable: %q, then %q, %v", once, twice, err)
		}
		var ours, theirs any
		if json.Unmarshal(in, &theirs) == nil && json.Unmarshal(once, &ours) == nil {
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Fatalf("meaning changed: %s", diff)
			}
		}
	})
}

func FuzzParseTrusted(f *testing.F) {
	f.Add([]byte(`{"auth_events":[],"content":{},"prev_events":[],"sender":"@a:b","type":"x"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, v := range []RoomVersion{"1", "12"} {
			if _, err := ParseTrusted(v, "$id", in); err != nil {
				continue
			}
			v.Redact(in)
		}
	})
}

func TestIdentifiers(t *testing.T) {
	for id, want := range map[string]bool{
		"@a:hs.example": true, "@:hs.example": true, "@a:[::1]:8448": true, "@a:1.2.3.4": true, "@A b:x": true,
		"a:x": false, "@a": false, "@a:": false, "@a:x:y": false, "@a:x:123456": false, "@a\x00:x": false,
		"@" + strings.Repeat("a", 253) + ":x": false, "@" + strings.Repeat("a", 252) + ":x": true, "@a:x/y": false,
	} {
		if got := ValidUserID(id); got != want {
			t.Errorf("ValidUserID(%q) = %v", id, got)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	signer := testSigner(b)
	p := &Proto{Version: "12", RoomID: "!" + strings.Repeat("A", 43), Type: "m.room.message", Sender: "@a:hs.example",
		Content: []byte(`{"msgtype":"m.text","body":"` + strings.Repeat("x", 200) + `"}`), Depth: 9,
		PrevEvents: []Reference{{ID: "$" + strings.Repeat("p", 43)}}, AuthEvents: []Reference{{ID: "$" + strings.Repeat("p", 43)}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signer.Build(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseTrusted(b *testing.B) {
	signer := testSigner(b)
	refs := []Reference{{ID: "$" + strings.Repeat("p", 43)}, {ID: "$" + strings.Repeat("q", 43)}, {ID: "$" + strings.Repeat("r", 43)}}
	e, err := signer.Build(&Proto{Version: "11", RoomID: "!r:x", Type: "m.room.message", Sender: "@a:hs.example",
		Content: []byte(`{"msgtype":"m.text","body":"` + strings.Repeat("x", 200) + `"}`), PrevEvents: refs, AuthEvents: refs})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTrusted(e.Version, e.ID, e.JSON); err != nil {
			b.Fatal(err)
		}
	}
}
