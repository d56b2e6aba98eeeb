package hostile

import (
	"strings"
	"testing"

	"beep/tests/harness"
)

// What other servers say of their users and rooms comes to clients in the form that it has to
// have, or not at all.
func TestOddAnswersForClients(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	bob := s.User("bob")
	for name, profile := range map[string]string{
		"numbers": `{"displayname":5,"avatar_url":7,"m.tz":9}`, "objects": `{"displayname":{},"avatar_url":[]}`, "null": `{"displayname":null,"avatar_url":null}`,
		"an address that is none": `{"displayname":"B","avatar_url":"https://evil.test/"}`, "a long name": `{"displayname":"` + strings.Repeat("x", 100_000) + `"}`,
		"fields twice": `{"own.field":1,"own.field":2,"displayname":"B"}`, "a list": `[]`, "null itself": `null`, "deep": `{"own.field":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		"half a character": `{"displayname":"\ud800"}`, "NUL": `{"displayname":"a\u0000b"}`, "large numbers": `{"own.field":1e400,"displayname":"B"}`,
	} {
		s.Answer("GET "+V1+"/query/profile", 200, profile)
		for _, path := range []string{"/v3/profile/%s", "/v3/profile/%s/displayname", "/v3/profile/%s/avatar_url", "/v3/profile/%s/m.tz", "/v3/profile/%s/own.field"} {
			if r := alice.Get(harness.Path(path, bob)); r.Status != 200 && r.Status != 404 && r.Status != 502 {
				t.Errorf("%s: %s: status %d %.200s", name, path, r.Status, r.Body)
			}
		}
	}
	room := `{"room_id":"!r:x","num_joined_members":1,"world_readable":true,"guest_can_join":false`
	for name, page := range map[string]string{
		"nothing": `{}`, "null": `{"chunk":null}`, "texts": `{"chunk":["x",5,null,[]]}`, "numbers": `{"chunk":[` + room + `,"name":5}]}`,
		"negative":                `{"chunk":[{"room_id":"!r:x","num_joined_members":-5,"world_readable":true,"guest_can_join":false}],"total_room_count_estimate":-1}`,
		"an alias that is none":   `{"chunk":[` + room + `,"canonical_alias":"x"}]}`,
		"an address that is none": `{"chunk":[` + room + `,"avatar_url":"https://evil.test/"}]}`,
		"a rule that is none":     `{"chunk":[` + room + `,"join_rule":"<script>"}]}`,
		"tokens":                  `{"chunk":[],"next_batch":"` + strings.Repeat("x", 100_000) + `","prev_batch":5}`,
		"many":                    `{"chunk":[` + strings.Repeat(room+`},`, 20_000) + room + `}]}`,
	} {
		s.Answer("GET "+V1+"/publicRooms", 200, page)
		if r := alice.Get("/v3/publicRooms", "server", s.Name); r.Status != 200 && r.Status != 502 {
			t.Errorf("%s: status %d %.200s", name, r.Status, r.Body)
		}
	}
	for name, answer := range map[string]string{
		"nothing": `{}`, "no room": `{"room_id":"x","servers":[]}`, "servers": `{"room_id":"!r:x","servers":["/","a b",""]}`, "many": `{"room_id":"!r:x","servers":["a.test"` + strings.Repeat(`,"a.test"`, 50_000) + `]}`,
		"a number": `{"room_id":"!r:x","servers":[5]}`, "null": `{"room_id":"!r:x","servers":null}`, "NUL": `{"room_id":"!r\u0000:x","servers":[]}`,
	} {
		s.Answer("GET "+V1+"/query/directory", 200, answer)
		if r := alice.Get(harness.Path("/v3/directory/room/%s", "#a:"+s.Name)); r.Status != 200 && r.Status != 502 {
			t.Errorf("%s: status %d %.200s", name, r.Status, r.Body)
		}
	}
}
