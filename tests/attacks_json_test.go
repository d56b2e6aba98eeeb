package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

func TestAttackF04NumbersThatAreNone(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		before := len(alice.History(room))
		for i, value := range []string{"NaN", "Infinity", "-Infinity", "+1", "01", "0x10", "1.", ".5"} {
			r := alice.SendEvent(room, "org.example.x", fmt.Sprint(i), `{"x":`+value+`}`)
			if r.Status != 400 || r.At("errcode").Str() != "M_NOT_JSON" && r.At("errcode").Str() != "M_BAD_JSON" {
				t.Errorf("%s: status %d %s", value, r.Status, r.Body)
			}
		}
		if after := len(alice.History(room)); after != before {
			t.Errorf("%d events were stored", after-before)
		}
	})
}

func TestAttackF05NumbersOutsideCanonicalJSON(t *testing.T) {
	bad := []string{"1.5", "-0.1", "1e300", "9007199254740992", "-9007199254740992", "18446744073709551616"}
	good := []string{"9007199254740991", "-9007199254740991", "0"}
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room, old := alice.CreateRoom(nil), alice.CreateRoom(object{"room_version": "5"})
		txn := 0
		send := func(room, value, shape string) *harness.Response {
			t.Helper()
			txn++
			return alice.SendEvent(room, "org.example.x", fmt.Sprint(txn), fmt.Sprintf(shape, value))
		}
		for _, shape := range []string{`{"x":%s}`, `{"a":{"b":[{"c":[1,%s]}]}}`} {
			for _, value := range bad {
				send(room, value, shape).Fails(400, "M_BAD_JSON")
			}
			for _, value := range good {
				id := send(room, value, shape).OK().At("event_id").Str()
				got := alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, id)).OK().At("content").String()
				if got != fmt.Sprintf(shape, value) {
					t.Errorf("%s came back as %s", value, got)
				}
			}
		}
		send(old, "1.5", `{"x":%s}`).OK() // room versions before 6 are not strict
		alice.SetState(room, "org.example.x", "", `{"x":1.5}`).Fails(400, "M_BAD_JSON")
		alice.Post("/v3/createRoom", `{"initial_state":[{"type":"a.b","state_key":"","content":{"x":1.5}}]}`).Fails(400, "M_BAD_JSON")
	})
}

func TestAttackF06KeysTwice(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		for i, body := range []string{
			`{"membership":"join","membership":"leave"}`,
			`{"a":{"b":1,"b":2}}`,
			`{"a":[{"b":1,"b":2}]}`,
			`{"a":1,"\u0061":2}`,
		} {
			alice.SendEvent(room, "org.example.x", fmt.Sprint(i), body).Fails(400, "M_BAD_JSON")
		}
		alice.SetState(room, "m.room.member", alice.UserID, `{"membership":"join","membership":"leave"}`).Fails(400, "M_BAD_JSON")
		// Keys that differ in case are two keys, of which one means nothing.
		alice.Lax().SetState(room, "m.room.member", alice.UserID, `{"membership":"join","Membership":"leave"}`).OK()
		alice.Text(room, "still in the room")
		if r := alice.Unchecked().Post("/v3/createRoom", `{"Preset":"public_chat"}`); r.Status == 200 {
			id := r.At("room_id").Str()
			if got := alice.State(id, "m.room.join_rules", "").OK().At("join_rule").Str(); got != "invite" {
				t.Errorf("Preset was read as preset: %s", got)
			}
		}
	})
}

func TestAttackF07TextSurvives(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		bob.Sync()
		for i, text := range []string{"<b>&amp;</b>", "\u2028 and \u2029", "emoji 🐝", "\u007f\u0080", "e\u0301 and é", "tab\tnew\nline\\\"quote", "\u0000nul"} {
			id := alice.SendEvent(room, "org.example.x", fmt.Sprint(i), object{"text": text}).OK().At("event_id").Str()
			if got := bob.Get(harness.Path("/v3/rooms/%s/event/%s", room, id)).OK().At("content", "text").Str(); got != text {
				t.Errorf("%q came back as %q", text, got)
			}
			if got := bob.SyncUntilEvent(room, id).Timeline(room).Find("event_id", id).At("content", "text").Str(); got != text {
				t.Errorf("%q came back as %q in sync", text, got)
			}
		}
		for i, broken := range []string{`"\ud800"`, `"\udc00x"`, `"\ud800\u0041"`, "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\""} {
			r := alice.SendEvent(room, "org.example.x", "broken"+fmt.Sprint(i), `{"text":`+broken+`}`)
			if r.Status != 400 {
				t.Errorf("%q: status %d %s", broken, r.Status, r.Body)
			}
		}
	})
}

// canonical is the canonical JSON of what a server signed: without event_id and unsigned.
func canonical(t *testing.T, event harness.JSON) string {
	t.Helper()
	pdu := maps.Clone(event.Value().(object))
	delete(pdu, "unsigned")
	delete(pdu, "event_id")
	return canonicalValue(t, pdu)
}

func canonicalValue(t *testing.T, value any) string {
	t.Helper()
	switch value := value.(type) {
	case object:
		var parts []string
		keys := make([]string, 0, len(value))
		for key := range value {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			parts = append(parts, canonicalValue(t, key)+":"+canonicalValue(t, value[key]))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case list:
		var parts []string
		for _, element := range value {
			parts = append(parts, canonicalValue(t, element))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

func TestAttackF08LargeEvents(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		alice.Sync()
		numbered(alice, room, 10) // so that the depth of all that follow has two digits
		send := func(n int) *harness.Response {
			return alice.SendEvent(room, "org.example.x", fmt.Sprintf("size-%d", n), object{"text": strings.Repeat("x", n)})
		}
		fits, tooLarge := 60_000, 66_000
		for tooLarge-fits > 1 {
			n := (fits + tooLarge) / 2
			if r := send(n); r.Status == 200 {
				fits = n
			} else {
				r.Fails(413, "M_TOO_LARGE")
				tooLarge = n
			}
		}
		largest := send(fits).OK().At("event_id").Str()
		r := alice.Unchecked().Sync("filter", `{"event_format":"federation","room":{"timeline":{"limit":100}}}`)
		for _, e := range r.Timeline(room).List() {
			if len(e.At("content", "text").Str()) == fits && len(canonical(t, e)) != 65536 {
				t.Errorf("the largest event that is accepted has %d bytes, not 65536", len(canonical(t, e)))
			}
		}
		alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, largest)).OK()
	})
}

func TestAttackF08LongNames(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		for _, test := range []struct {
			text string
			ok   bool
		}{
			{strings.Repeat("x", 255), true},
			{strings.Repeat("x", 256), false},
			{strings.Repeat("ж", 127), true},
			{strings.Repeat("ж", 128), false}, // 128 runes, 256 bytes
		} {
			for _, r := range []*harness.Response{
				alice.SendEvent(room, test.text, "t"+test.text[:200], object{}),
				alice.SetState(room, test.text, "", object{}),
				alice.SetState(room, "org.example.x", test.text, object{}),
			} {
				if ok := r.Status == 200; ok != test.ok || !ok && r.Status != 400 && r.Status != 413 {
					t.Errorf("%d bytes: status %d %s", len(test.text), r.Status, r.Body)
				}
			}
		}
	})
}

func TestAttackF09DeepJSON(t *testing.T) {
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	objects := strings.Repeat(`{"a":`, 50_000) + "1" + strings.Repeat("}", 50_000)
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		for path, method := range map[string]string{
			harness.Path("/v3/rooms/%s/send/org.example.x/1", room):              "PUT",
			harness.Path("/v3/rooms/%s/state/org.example.x", room):               "PUT",
			harness.Path("/v3/user/%s/filter", alice.UserID):                     "POST",
			harness.Path("/v3/user/%s/account_data/org.example.x", alice.UserID): "PUT",
			harness.Path("/v3/profile/%s/org.example.x", alice.UserID):           "PUT",
			"/v3/createRoom": "POST",
			"/v3/login":      "POST",
		} {
			for _, value := range []string{deep, objects, deep[:100_000]} {
				if r := alice.Do(method, path, `{"org.example.x":`+value+`}`); r.Status != 400 && r.Status != 413 {
					t.Errorf("%s: status %d", path, r.Status)
				}
			}
		}
		// The specification has no such limit, so that what people use has to fit.
		nested := strings.Repeat("[", 50) + strings.Repeat("]", 50)
		alice.SendEvent(room, "org.example.x", "2", `{"x":`+nested+`}`).OK()
	})
}

func TestAttackM23NUL(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		const text = "before\x00after"
		id := alice.SendEvent(room, "org.example.x", "1", object{"text": text, "\x00key": 1}).OK().At("event_id").Str()
		content := alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, id)).OK().At("content")
		if content.At("text").Str() != text || content.At("\x00key").Int() != 1 {
			t.Errorf("content %s", content)
		}
		alice.Put(globalData(alice, "org.example.x"), object{"text": text}).OK()
		if got := alice.Get(globalData(alice, "org.example.x")).OK().At("text").Str(); got != text {
			t.Errorf("account data %q", got)
		}
		alice.Put(profilePath(alice, "org.example.x"), object{"org.example.x": text}).OK()
		if got := alice.Get(profilePath(alice, "org.example.x")).OK().At("org.example.x").Str(); got != text {
			t.Errorf("profile %q", got)
		}
		// In names it is refused or kept, but breaks nothing.
		for _, r := range []*harness.Response{
			alice.SendEvent(room, "org.example\x00x", "2", object{}),
			alice.SendEvent(room, "org.example.x", "txn\x00", object{}),
			alice.SetState(room, "org.example.x", "key\x00", object{}),
			alice.State(room, "org.example.x", "\x00"),
			alice.Put(globalData(alice, "org.example\x00x"), object{}),
			alice.Get(globalData(alice, "\x00")),
			alice.Put(profilePath(alice, "displayname"), object{"displayname": "a\x00b"}),
			alice.Get(harness.Path("/v3/profile/%s", "@a\x00b:"+srv.Name)),
			alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, "$\x00")),
			alice.Get(harness.Path("/v3/devices/%s", "\x00")),
			alice.Get(harness.Path("/v3/directory/room/%s", "#\x00:"+srv.Name)),
			alice.Post("/v3/login", harness.PasswordLogin("a\x00b", "x", nil)),
			alice.Post("/v3/login", object{"type": "m.login.token", "token": "\x00"}),
			alice.Post("/v3/register", object{"username": "a\x00b", "password": "long enough", "auth": dummy}),
			alice.Post("/v3/refresh", object{"refresh_token": "\x00"}),
		} {
			if r.Status >= 500 {
				t.Errorf("status %d %s", r.Status, r.Body)
			}
		}
	})
}

func TestAttackM22Injection(t *testing.T) {
	values := []string{`'; DROP TABLE users; --`, `" OR ""="`, `\`, `\'`, `%`, `_`, `$1`, `?1`, `:x`, "`", `/* */`, "\x1b[31m"}
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		for i, v := range values {
			txn := fmt.Sprint(i) + v
			id := alice.SendEvent(room, "org.example.x"+v, txn, object{v: v}).OK().At("event_id").Str()
			e := alice.Get(harness.Path("/v3/rooms/%s/event/%s", room, id)).OK()
			if e.At("type").Str() != "org.example.x"+v || e.At("content", v).Str() != v || e.At("unsigned", "transaction_id").Str() != txn {
				t.Errorf("%q: event %s", v, e.Body)
			}
			alice.SetState(room, "org.example.x", v, object{"v": v}).OK()
			if got := alice.State(room, "org.example.x", v).OK().At("v").Str(); got != v {
				t.Errorf("%q: state %q", v, got)
			}
			alice.Put(globalData(alice, "org.example."+v), object{"v": v}).OK()
			if got := alice.Get(globalData(alice, "org.example."+v)).OK().At("v").Str(); got != v {
				t.Errorf("%q: account data %q", v, got)
			}
			alice.Put(profilePath(alice, "displayname"), object{"displayname": v}).OK()
			if got := alice.Get(profilePath(alice, "displayname")).OK().At("displayname").Str(); got != v {
				t.Errorf("%q: display name %q", v, got)
			}
			filter := object{"room": object{"timeline": object{"types": list{v}, "not_types": list{v + "x"}}}}
			filterID := alice.Post(harness.Path("/v3/user/%s/filter", alice.UserID), filter).OK().At("filter_id").Str()
			alice.Get("/v3/sync", "filter", filterID).OK()
			if got := alice.Get(harness.Path("/v3/rooms/%s/messages", room), "dir", "b", "filter", `{"types":[`+canonicalValue(t, "org.example.x"+v)+`]}`).OK(); v != "%" && len(got.At("chunk").List()) != 1 {
				t.Errorf("%q: filter found %s", v, got.Body)
			}
		}
		state := alice.Get(harness.Path("/v3/rooms/%s/state", room)).OK()
		found := map[string]bool{}
		for _, e := range state.List() {
			if e.At("type").Str() == "org.example.x" {
				found[e.At("state_key").Str()] = true
			}
		}
		want := map[string]bool{}
		for _, v := range values {
			want[v] = true
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Error(diff)
		}
	})
}
