package federation_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

// serverKeys is what a server says of its keys.
type serverKeys struct {
	Server     string                          `json:"server_name"`
	VerifyKeys map[string]struct{ Key string } `json:"verify_keys"`
	OldKeys    map[string]struct {
		Expired int64 `json:"expired_ts"`
	} `json:"old_verify_keys"`
	ValidUntil int64                                 `json:"valid_until_ts"`
	Signatures map[string]map[string]json.RawMessage `json:"signatures"`
}

// signedBy fails the test unless these have signed the text.
func signedBy(t testing.TB, text []byte, signers ...*matrix.Signer) {
	t.Helper()
	signed, err := matrix.ParseSigned(text, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(signed.Signatures) != len(signers) {
		t.Errorf("signatures of %d servers: %v", len(signed.Signatures), signed.Signatures)
	}
	for _, s := range signers {
		if !matrix.VerifySignature(keyOf(s).Key, signed.Message, signed.Signatures[s.ServerName][s.KeyID]) {
			t.Errorf("%s has not signed %s", s.ServerName, text)
		}
	}
}

func TestPublishedKeys(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		a := p.send(http.MethodGet, "/_matrix/key/v2/server", nil)
		signedBy(s.t, a.body, s.signer)
		var keys serverKeys
		a.into(s.t, &keys)
		valid := time.Until(time.UnixMilli(keys.ValidUntil))
		if a.status != 200 || keys.Server != us || len(keys.VerifyKeys) != 1 || keys.VerifyKeys["ed25519:k"].Key == "" ||
			keys.OldKeys["ed25519:old"].Expired != 1e12 || valid < time.Hour || valid > 7*24*time.Hour {
			s.t.Errorf("keys: %v", a)
		}
		// The older form of the path.
		if old := p.unchecked().send(http.MethodGet, "/_matrix/key/v2/server/ed25519:k", nil); old.status != 200 {
			s.t.Errorf("with a key's id: %v", old)
		}
	})
}

// TestNotary: this server tells the keys of others, with its signature beside theirs.
func TestNotary(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p, other := s.newPeer(1), s.newPeer(2)
		ask := func(a answer) map[string]json.RawMessage {
			s.t.Helper()
			var all struct {
				Keys []json.RawMessage `json:"server_keys"`
			}
			a.into(s.t, &all)
			if a.status != 200 || all.Keys == nil {
				s.t.Fatalf("%v", a)
			}
			byName := map[string]json.RawMessage{}
			for _, raw := range all.Keys {
				var keys serverKeys
				s.check(json.Unmarshal(raw, &keys))
				byName[keys.Server] = raw
			}
			return byName
		}
		found := ask(p.send(http.MethodGet, target("/_matrix/key/v2/query", other.name)+"?minimum_valid_until_ts=5", nil))
		signedBy(s.t, found[other.name], s.signer, other.signer)
		signedBy(s.t, ask(p.send(http.MethodGet, target("/_matrix/key/v2/query", us), nil))[us], s.signer)
		body := fmt.Sprintf(`{"server_keys":{%q:{%q:{"minimum_valid_until_ts":%d}},%q:{},%q:{},"127.0.0.1:1":{}}}`, p.name, p.signer.KeyID, time.Now().UnixMilli(), other.name, us)
		found = ask(p.send(http.MethodPost, "/_matrix/key/v2/query", []byte(body)))
		signedBy(s.t, found[p.name], s.signer, p.signer)
		signedBy(s.t, found[other.name], s.signer, other.signer)
		signedBy(s.t, found[us], s.signer)
		if len(found) != 3 {
			s.t.Errorf("keys of %d servers", len(found))
		}
		if found := ask(p.send(http.MethodPost, "/_matrix/key/v2/query", []byte(`{"server_keys":{}}`))); len(found) != 0 {
			s.t.Errorf("keys of nobody: %v", found)
		}
		many := map[string]struct{}{}
		for i := range 200 {
			many[fmt.Sprint("s", i, ".example")] = struct{}{}
		}
		text, err := json.Marshal(map[string]any{"server_keys": many})
		s.check(err)
		if a := p.send(http.MethodPost, "/_matrix/key/v2/query", text); a.status != 413 {
			s.t.Errorf("of many servers: %v", a)
		}
		p.lax = true
		if a := p.send(http.MethodPost, "/_matrix/key/v2/query", []byte(`{"server_keys":{"a b":{}}}`)); a.status != 400 {
			s.t.Errorf("of no server: %v", a)
		}
	})
}

func TestQueries(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		for field, value := range map[string]string{"displayname": `"Alice"`, "avatar_url": `"mxc://x/y"`, "org.x": `{"a":1}`} {
			_, err := s.accounts.SetProfileField(s.t.Context(), alice, field, json.RawMessage(value))
			s.check(err)
		}
		for _, test := range []struct {
			query  url.Values
			status int
			want   string
		}{
			{url.Values{"user_id": {alice}}, 200, `{"avatar_url":"mxc://x/y","displayname":"Alice","org.x":{"a":1}}`},
			{url.Values{"user_id": {alice}, "field": {"displayname"}}, 200, `{"displayname":"Alice"}`},
			{url.Values{"user_id": {alice}, "field": {"m.tz"}}, 404, ""},
			{url.Values{"user_id": {"@nobody:" + us}}, 404, ""},
			{url.Values{"user_id": {p.user("bob")}}, 404, ""},
			{url.Values{"user_id": {"alice"}}, 404, ""},
			{url.Values{"user_id": {alice + ":1"}}, 404, ""},
			{nil, 400, ""},
		} {
			p.lax = test.query == nil
			a := p.get("/query/profile", test.query)
			text, err := matrix.CanonicalJSON(a.body, false)
			if a.status != test.status || test.want != "" && string(text) != test.want || err != nil {
				s.t.Errorf("%v: %v", test.query, a)
			}
		}
		if a := p.get("/version", nil); a.status != 200 || !strings.Contains(string(a.body), `"1.2.3"`) {
			s.t.Errorf("version: %v", a)
		}
	})
}

func TestDirectories(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		roomID := s.create(newRoom("Open", "open"))
		s.publish(roomID)
		p.join(roomID, p.user("bob"))
		var at struct {
			RoomID  string   `json:"room_id"`
			Servers []string `json:"servers"`
		}
		p.get("/query/directory", url.Values{"room_alias": {"#open:" + us}}).into(s.t, &at)
		if diff := cmp.Diff([]string{us, p.name}, at.Servers); diff != "" || at.RoomID != roomID {
			s.t.Errorf("%+v", at)
		}
		p.lax = true
		for alias, status := range map[string]int{"#closed:" + us: 404, "#open:" + p.name: 404, "open": 400, "": 400} {
			if a := p.get("/query/directory", url.Values{"room_alias": {alias}}); a.status != status {
				s.t.Errorf("%s: %v", alias, a)
			}
		}
		p.lax = false
		space := newRoom("Space", "space")
		space.CreationContent = map[string]json.RawMessage{"type": json.RawMessage(`"m.space"`)}
		spaceID := s.create(space)
		s.publish(spaceID)
		_, err := s.rooms.SendState(s.t.Context(), spaceID, draftChild(roomID))
		s.check(err)
		list := func(a answer) (names []string) {
			var page struct {
				Chunk []struct {
					Name string `json:"name"`
				} `json:"chunk"`
			}
			a.into(s.t, &page)
			for _, r := range page.Chunk {
				names = append(names, r.Name)
			}
			if a.status != 200 {
				s.t.Errorf("%v", a)
			}
			return names
		}
		search := func(body string) []string { return list(p.ask(http.MethodPost, v1+"/publicRooms", []byte(body))) }
		for name, got := range map[string][]string{
			"Open,Space":  list(p.get("/publicRooms", nil)),
			"Open":        list(p.get("/publicRooms", url.Values{"limit": {"1"}})),
			"":            list(p.get("/publicRooms", url.Values{"third_party_instance_id": {"irc"}})),
			"Space":       search(`{"filter":{"room_types":["m.space"]}}`),
			"Open,":       append(search(`{"filter":{"room_types":[null],"generic_search_term":"op"}}`), ""),
			"Open,Space,": append(search(`{}`), ""),
		} {
			if diff := cmp.Diff(name, strings.Join(got, ",")); diff != "" {
				s.t.Errorf("(-want +got):\n%s", diff)
			}
		}
		var h struct {
			Children []struct {
				RoomID string `json:"room_id"`
			} `json:"children"`
		}
		p.get("/hierarchy", url.Values{"suggested_only": {"false"}}, spaceID).into(s.t, &h)
		if len(h.Children) != 1 || h.Children[0].RoomID != roomID {
			s.t.Errorf("hierarchy: %+v", h)
		}
		if a := p.get("/hierarchy", nil, "!unknown:"+us); a.status != 404 {
			s.t.Errorf("hierarchy of an unknown room: %v", a)
		}
	})
}
