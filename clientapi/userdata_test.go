package clientapi_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/account"
	"beep/clientapi"
	"beep/config"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/web"
)

// userData is a server with users: alice made a public room and said something
// there, bob joined it, carol is in no room, guest is a guest.
type userData struct {
	t       *testing.T
	handler http.Handler
	tokens  map[string]string // by user
	replace *strings.Replacer // names in scenarios

	typing *roomserver.Typing
	room   string
}

func newUserData(t *testing.T, db *storage.DB, parts clientapi.Parts) *userData {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const server = "hs.example"
	parts.Accounts = account.New(account.Options{DB: db, ServerName: server, Hashing: account.CheapHashing,
		Registration: account.Registration{Open: true, Guests: true}})
	parts.Rooms = roomserver.New(roomserver.Options{DB: db, DefaultVersion: "12", Logger: slog.New(slog.DiscardHandler),
		Signer: &matrix.Signer{ServerName: server, KeyID: "ed25519:k", Key: key}})
	parts.Filters = account.NewFilters(db)
	parts.Presence = account.NewPresence(db, "hs.example", true, nil)
	parts.Typing = roomserver.NewTyping(parts.Rooms)
	router := web.NewRouter(web.Options{})
	clientapi.New(parts).Routes(router)
	u := &userData{t: t, handler: router, tokens: map[string]string{}}
	for _, name := range []string{"alice", "bob", "carol"} {
		u.register(name, "", fmt.Sprintf(`{"username":%q,"password":"secret","auth":{"type":"m.login.dummy"}}`, name))
	}
	guest := u.register("guest", "?kind=guest", `{}`)
	room := u.made("alice", "POST", "/v3/createRoom", `{"preset":"public_chat"}`, "room_id")
	event := u.made("alice", "PUT", "/v3/rooms/"+url.PathEscape(room)+"/send/m.room.message/1", `{"msgtype":"m.text","body":"hi"}`, "event_id")
	other := u.made("alice", "POST", "/v3/createRoom", `{}`, "room_id")
	u.made("bob", "POST", "/v3/join/"+url.PathEscape(room), ``, "room_id")
	u.replace = strings.NewReplacer("ALICE", "@alice:"+server, "BOB", "@bob:"+server, "CAROL", "@carol:"+server,
		"VISITOR", guest, "ROOM", url.PathEscape(room), "OTHER", url.PathEscape(other), "EVENT", url.PathEscape(event))
	u.typing, u.room = parts.Typing, room
	return u
}

func (u *userData) register(name, query, body string) (userID string) {
	u.t.Helper()
	_, answer := u.do("", "POST", "/v3/register"+query, body)
	var session struct {
		AccessToken string `json:"access_token"`
		UserID      string `json:"user_id"`
	}
	if err := json.Unmarshal(answer, &session); err != nil || session.AccessToken == "" {
		u.t.Fatalf("register %s: %s", name, answer)
	}
	u.tokens[name] = session.AccessToken
	return session.UserID
}

// made makes a request that has to succeed, and gives a member of the answer.
func (u *userData) made(who, method, path, body, member string) string {
	u.t.Helper()
	status, answer := u.do(who, method, path, body)
	var members map[string]string
	if err := json.Unmarshal(answer, &members); status != 200 || err != nil || members[member] == "" {
		u.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return members[member]
}

func (u *userData) do(who, method, path, body string) (status int, answer []byte) {
	if !strings.HasPrefix(path, "/.well-known") {
		path = "/_matrix/client" + path
	}
	r := httptest.NewRequestWithContext(u.t.Context(), method, path, strings.NewReader(body))
	if token := u.tokens[who]; token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	u.handler.ServeHTTP(w, r)
	return w.Code, bytes.TrimSpace(w.Body.Bytes())
}

// step is a request and what has to come back: the body of a success, or the code
// of an error. "" is any body.
type step struct {
	who, method, path, body string
	status                  int
	want                    string
}

func (u *userData) run(steps []step) {
	u.t.Helper()
	for _, s := range steps {
		path := u.replace.Replace(s.path)
		status, answer := u.do(s.who, s.method, path, u.replace.Replace(s.body))
		name := fmt.Sprintf("%s: %s %s %.60s", s.who, s.method, s.path, s.body)
		if status != s.status {
			u.t.Errorf("%s: %d %s, want %d", name, status, answer, s.status)
			continue
		}
		var got any
		if err := json.Unmarshal(answer, &got); err != nil {
			u.t.Errorf("%s: %v in %s", name, err, answer)
			continue
		}
		if s.status >= 400 {
			got, s.want = got.(map[string]any)["errcode"], `"`+s.want+`"`
		} else if s.want == "" {
			continue
		}
		var want any
		if err := json.Unmarshal([]byte(u.replace.Replace(s.want)), &want); err != nil {
			u.t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			u.t.Errorf("%s: %s", name, diff)
		}
	}
}

func eachUserData(t *testing.T, steps []step) {
	t.Helper()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) { newUserData(t, db, clientapi.Parts{}).run(steps) })
}

func TestProfileAPI(t *testing.T) {
	const alice, name = "/v3/profile/ALICE", "/v3/profile/ALICE/displayname"
	const member = "/v3/rooms/ROOM/state/m.room.member/ALICE"
	long := strings.Repeat("é", 256)
	eachUserData(t, []step{
		{"", "GET", alice, ``, 200, `{"displayname":"alice"}`},
		{"", "GET", name, ``, 200, `{"displayname":"alice"}`},
		{"", "GET", alice + "/avatar_url", ``, 404, "M_NOT_FOUND"},
		{"", "GET", "/v3/profile/@nobody:hs.example", ``, 404, "M_NOT_FOUND"},
		{"", "GET", "/v3/profile/nonsense/displayname", ``, 404, "M_NOT_FOUND"},
		{"", "GET", alice + "/Bad", ``, 400, "M_INVALID_PARAM"},
		{"", "PUT", name, `{"displayname":"A"}`, 401, "M_MISSING_TOKEN"},
		{"bob", "PUT", name, `{"displayname":"A"}`, 403, "M_FORBIDDEN"},
		{"bob", "DELETE", name, ``, 403, "M_FORBIDDEN"},
		{"alice", "PUT", name, `{"displayname":"A <&> \u0007","other":1}`, 200, `{}`},
		{"", "GET", name, ``, 200, `{"displayname":"A <&> \u0007"}`},
		{"bob", "GET", member, ``, 200, `{"displayname":"A <&> \u0007","membership":"join"}`},
		{"alice", "PUT", name, `{"displayname":"` + long + `"}`, 200, `{}`},
		{"alice", "PUT", name, `{"displayname":"` + long + `e"}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", name, `{"displayname":null}`, 400, "M_BAD_JSON"},
		{"alice", "PUT", name, `{"displayname":["A"]}`, 400, "M_BAD_JSON"},
		{"alice", "PUT", name, `{"Displayname":"A"}`, 400, "M_MISSING_PARAM"},
		{"alice", "PUT", name, `"A"`, 400, "M_BAD_JSON"},
		{"alice", "PUT", name, `{`, 400, "M_NOT_JSON"},
		{"alice", "PUT", alice + "/avatar_url", `{"avatar_url":"mxc://hs.example/a"}`, 200, `{}`},
		{"alice", "PUT", alice + "/avatar_url", `{"avatar_url":"` + strings.Repeat("x", 1001) + `"}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", alice + "/avatar_url", `{"avatar_url":""}`, 200, `{}`},
		{"alice", "DELETE", name, ``, 200, `{}`},
		{"alice", "DELETE", name, ``, 200, `{}`},
		{"bob", "GET", member, ``, 200, `{"membership":"join"}`},
		{"alice", "PUT", alice + "/m.tz", `{"m.tz":"Asia/Ulaanbaatar"}`, 200, `{}`},
		{"alice", "PUT", alice + "/m.tz", `{"m.tz":8}`, 400, "M_BAD_JSON"},
		{"alice", "PUT", alice + "/org.example.a-b_1", `{"org.example.a-b_1":null}`, 200, `{}`},
		{"alice", "PUT", alice + "/1a", `{"1a":null}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", alice + "/" + strings.Repeat("a", 256), `{}`, 400, "M_MISSING_PARAM"},
		{"alice", "PUT", alice + "/" + strings.Repeat("a", 256), `{"` + strings.Repeat("a", 256) + `":1}`, 400, "M_KEY_TOO_LARGE"},
		{"alice", "DELETE", alice + "/" + strings.Repeat("a", 256), ``, 400, "M_KEY_TOO_LARGE"},
		{"alice", "PUT", alice + "/org.example.big", `{"org.example.big":"` + strings.Repeat("a", 64<<10) + `"}`, 400, "M_PROFILE_TOO_LARGE"},
		{"", "GET", alice, ``, 200, `{"m.tz":"Asia/Ulaanbaatar","org.example.a-b_1":null}`},
		{"guest", "PUT", "/v3/profile/VISITOR/displayname", `{"displayname":"G"}`, 200, `{}`},
		{"guest", "PUT", "/v3/profile/VISITOR/avatar_url", `{"avatar_url":"mxc://hs.example/a"}`, 403, "M_GUEST_ACCESS_FORBIDDEN"},
		{"guest", "DELETE", "/v3/profile/VISITOR/displayname", ``, 200, `{}`},
	})
}

func TestAccountDataAPI(t *testing.T) {
	const direct, room = "/v3/user/ALICE/account_data/m.direct", "/v3/user/ALICE/rooms/ROOM/account_data/org.example.x"
	const tags = "/v3/user/ALICE/rooms/ROOM/tags"
	eachUserData(t, []step{
		{"alice", "GET", direct, ``, 404, "M_NOT_FOUND"},
		{"alice", "PUT", direct, `{ "BOB" : ["!a:b"], "n": 1.50 }`, 200, `{}`},
		{"alice", "GET", direct, ``, 200, `{"BOB":["!a:b"],"n":1.5}`},
		{"alice", "PUT", direct, `{}`, 200, `{}`},
		{"alice", "GET", direct, ``, 200, `{}`},
		{"bob", "GET", direct, ``, 403, "M_FORBIDDEN"},
		{"bob", "PUT", direct, `{}`, 403, "M_FORBIDDEN"},
		{"guest", "PUT", "/v3/user/VISITOR/account_data/m.direct", `{}`, 403, "M_GUEST_ACCESS_FORBIDDEN"},
		{"alice", "PUT", direct, `[]`, 400, "M_BAD_JSON"},
		{"alice", "PUT", direct, `{"a":1,"a":2}`, 400, "M_BAD_JSON"},
		{"alice", "PUT", direct, ``, 400, "M_NOT_JSON"},
		{"alice", "PUT", direct, `{"a":"` + strings.Repeat("x", 256<<10) + `"}`, 413, "M_TOO_LARGE"},
		{"alice", "PUT", "/v3/user/ALICE/account_data/" + strings.Repeat("x", 256), `{}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", "/v3/user/ALICE/account_data/m.push_rules", `{}`, 405, "M_BAD_JSON"},
		{"alice", "PUT", "/v3/user/ALICE/rooms/ROOM/account_data/m.fully_read", `{}`, 405, "M_BAD_JSON"},
		{"alice", "PUT", room, `{"a":1}`, 200, `{}`},
		{"alice", "GET", room, ``, 200, `{"a":1}`},
		{"alice", "GET", "/v3/user/ALICE/account_data/org.example.x", ``, 404, "M_NOT_FOUND"},
		{"alice", "PUT", "/v3/user/ALICE/rooms/@alice:x/account_data/org.example.x", `{}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", "/v3/user/ALICE/rooms/!nowhere/account_data/org.example.x", `{}`, 404, "M_NOT_FOUND"},
		{"carol", "PUT", "/v3/user/CAROL/rooms/ROOM/account_data/org.example.x", `{}`, 404, "M_NOT_FOUND"},

		{"alice", "GET", tags, ``, 200, `{"tags":{}}`},
		{"alice", "DELETE", tags + "/u.x", ``, 200, `{}`},
		{"alice", "PUT", tags + "/u.x", `{"order":0.25,"more":"<"}`, 200, `{}`},
		{"alice", "PUT", tags + "/m.favourite", `{}`, 200, `{}`},
		{"alice", "PUT", tags + "/u.y", `{"order":1}`, 200, `{}`},
		{"alice", "DELETE", tags + "/u.y", `{}`, 200, `{}`},
		{"alice", "GET", tags, ``, 200, `{"tags":{"m.favourite":{},"u.x":{"order":0.25,"more":"<"}}}`},
		{"alice", "GET", "/v3/user/ALICE/rooms/ROOM/account_data/m.tag", ``, 200, `{"tags":{"m.favourite":{},"u.x":{"order":0.25,"more":"<"}}}`},
		{"alice", "PUT", tags + "/u.y", `{"order":2}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", tags + "/u.y", `{"order":"0.5"}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", tags + "/u.y", `{"order":null}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", tags + "/" + strings.Repeat("t", 256), `{}`, 400, "M_INVALID_PARAM"},
		{"bob", "GET", tags, ``, 403, "M_FORBIDDEN"},
		{"carol", "GET", "/v3/user/CAROL/rooms/ROOM/tags", ``, 404, "M_NOT_FOUND"},
		{"alice", "PUT", "/v3/user/ALICE/rooms/ROOM/account_data/m.tag", `{"tags":[1]}`, 200, `{}`},
		{"alice", "GET", tags, ``, 200, `{"tags":{}}`},
		{"alice", "PUT", tags + "/u.z", `{}`, 200, `{}`},
		{"alice", "GET", tags, ``, 200, `{"tags":{"u.z":{}}}`},
	})
}

func TestFilterAPI(t *testing.T) {
	const filters = "/v3/user/ALICE/filter"
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		u := newUserData(t, db, clientapi.Parts{})
		const definition = `{"room": {"timeline": {"limit": 10}}, "x.y": 1}`
		id := u.made("alice", "POST", u.replace.Replace(filters), definition, "filter_id")
		if again := u.made("alice", "POST", u.replace.Replace(filters), `{"x.y":1,"room":{"timeline":{"limit":10}}}`, "filter_id"); again != id {
			t.Errorf("the same filter is %s and %s", id, again)
		}
		u.run([]step{
			{"alice", "GET", filters + "/" + id, ``, 200, definition},
			{"bob", "GET", filters + "/" + id, ``, 403, "M_FORBIDDEN"},
			{"bob", "GET", "/v3/user/BOB/filter/" + id, ``, 404, "M_NOT_FOUND"},
			{"bob", "POST", filters, `{}`, 403, "M_FORBIDDEN"},
			{"alice", "POST", filters, `{"room":{"state":"x"}}`, 400, "M_BAD_JSON"},
			{"alice", "POST", filters, `{"room":{"timeline":{"senders":["x"]}}}`, 400, "M_INVALID_PARAM"},
			{"alice", "POST", filters, strings.Repeat("[", 30_000), 400, "M_BAD_JSON"},
			{"alice", "POST", filters, `{"a":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "M_TOO_LARGE"},
		})
	})
}

func TestPresenceAPI(t *testing.T) {
	const alice = "/v3/presence/ALICE/status"
	eachUserData(t, []step{
		{"bob", "GET", alice, ``, 200, `{"presence":"offline"}`},
		{"bob", "PUT", alice, `{"presence":"online"}`, 403, "M_FORBIDDEN"},
		{"alice", "PUT", alice, `{}`, 400, "M_MISSING_PARAM"},
		{"alice", "PUT", alice, `{"presence":"busy"}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", alice, `{"presence":"online","status_msg":5}`, 400, "M_BAD_JSON"},
		{"alice", "PUT", alice, `{"presence":"online","status_msg":null}`, 200, `{}`},
		{"alice", "PUT", alice, `{"presence":"unavailable","status_msg":"lunch"}`, 200, `{}`},
		{"bob", "GET", alice, ``, 200, ``},
		{"carol", "GET", alice, ``, 403, "M_FORBIDDEN"},
		{"carol", "GET", "/v3/presence/@nobody:hs.example/status", ``, 403, "M_FORBIDDEN"},
		{"carol", "GET", "/v3/presence/CAROL/status", ``, 200, `{"presence":"offline"}`},
	})
}

func TestTypingAPI(t *testing.T) {
	const alice = "/v3/rooms/ROOM/typing/ALICE"
	eachUserData(t, []step{
		{"alice", "PUT", alice, `{"typing":true,"timeout":30000}`, 200, `{}`},
		{"alice", "PUT", alice, `{"typing":true}`, 200, `{}`},
		{"alice", "PUT", alice, `{"typing":true,"timeout":9223372036854775807}`, 200, `{}`},
		{"alice", "PUT", alice, `{"typing":false}`, 200, `{}`},
		{"alice", "PUT", alice, `{}`, 400, "M_MISSING_PARAM"},
		{"alice", "PUT", alice, `{"typing":"yes"}`, 400, "M_BAD_JSON"},
		{"alice", "PUT", alice, `{"typing":true,"timeout":-1}`, 400, "M_INVALID_PARAM"},
		{"alice", "PUT", "/v3/rooms/ROOM/typing/BOB", `{"typing":true}`, 403, "M_FORBIDDEN"},
		{"carol", "PUT", "/v3/rooms/ROOM/typing/CAROL", `{"typing":true}`, 403, "M_FORBIDDEN"},
		{"carol", "PUT", "/v3/rooms/ROOM/typing/CAROL", `{"typing":false}`, 403, "M_FORBIDDEN"},
		{"carol", "PUT", "/v3/rooms/!nowhere/typing/CAROL", `{"typing":true}`, 403, "M_FORBIDDEN"},
	})
}

func TestReceiptsAPI(t *testing.T) {
	const receipt, markers = "/v3/rooms/ROOM/receipt/", "/v3/rooms/ROOM/read_markers"
	const fullyRead = "/v3/user/BOB/rooms/ROOM/account_data/m.fully_read"
	eachUserData(t, []step{
		{"bob", "POST", receipt + "m.read/EVENT", ``, 200, `{}`},
		{"bob", "POST", receipt + "m.read/EVENT", `{}`, 200, `{}`},
		{"bob", "POST", receipt + "m.read/EVENT", `{"thread_id":"main"}`, 200, `{}`},
		{"bob", "POST", receipt + "m.read/EVENT", `{"thread_id":"$x"}`, 400, "M_INVALID_PARAM"},
		{"bob", "POST", receipt + "m.read/EVENT", `{"thread_id":""}`, 400, "M_INVALID_PARAM"},
		{"bob", "POST", receipt + "m.read/EVENT", `{"thread_id":1}`, 400, "M_BAD_JSON"},
		{"bob", "POST", receipt + "m.read.private/EVENT", `{}`, 200, `{}`},
		{"bob", "POST", receipt + "not.m.read/EVENT", `{}`, 400, "M_INVALID_PARAM"},
		{"bob", "POST", receipt + "m.read/nothing", `{}`, 400, "M_INVALID_PARAM"},
		{"bob", "POST", receipt + "m.read/$nothing", `{}`, 404, "M_NOT_FOUND"},
		{"alice", "POST", "/v3/rooms/OTHER/receipt/m.read/EVENT", `{}`, 404, "M_NOT_FOUND"},
		{"carol", "POST", receipt + "m.read/EVENT", `{}`, 403, "M_FORBIDDEN"},
		{"guest", "POST", receipt + "m.read/EVENT", `{}`, 403, "M_GUEST_ACCESS_FORBIDDEN"},

		{"bob", "POST", markers, `{}`, 200, `{}`},
		{"bob", "GET", fullyRead, ``, 404, "M_NOT_FOUND"},
		{"bob", "POST", markers, `{"m.fully_read":"$nothing","m.read":"EVENT"}`, 404, "M_NOT_FOUND"},
		{"bob", "POST", markers, `{"m.fully_read":5}`, 400, "M_BAD_JSON"},
		{"bob", "POST", receipt + "m.fully_read/EVENT", `{"thread_id":"main"}`, 400, "M_INVALID_PARAM"},
		{"bob", "POST", receipt + "m.fully_read/EVENT", ``, 200, `{}`},
		{"bob", "GET", fullyRead, ``, 200, ``},
		{"carol", "POST", markers, `{}`, 403, "M_FORBIDDEN"},
	})
}

func TestDiscoveryAPI(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLiteURL(t))
	const client, server, support = "/.well-known/matrix/client", "/.well-known/matrix/server", "/.well-known/matrix/support"
	u := newUserData(t, db, clientapi.Parts{})
	u.run([]step{
		{"", "GET", client, ``, 404, "M_NOT_FOUND"},
		{"", "GET", server, ``, 404, "M_NOT_FOUND"},
		{"", "GET", support, ``, 404, "M_NOT_FOUND"},
		{"", "GET", "/versions", ``, 200, ``},
		{"", "GET", "/v3/capabilities", ``, 401, "M_MISSING_TOKEN"},
		{"alice", "GET", "/v3/capabilities", ``, 200, `{"capabilities":{
			"m.room_versions":{"default":"12","available":{"1":"stable","2":"stable","3":"stable","4":"stable","5":"stable","6":"stable",
				"7":"stable","8":"stable","9":"stable","10":"stable","11":"stable","12":"stable"}},
			"m.change_password":{"enabled":true},"m.profile_fields":{"enabled":true},"m.set_displayname":{"enabled":true},
			"m.set_avatar_url":{"enabled":true},"m.3pid_changes":{"enabled":false},"m.get_login_token":{"enabled":true},
			"m.forget_forced_upon_leave":{"enabled":false}}}`},
	})
	u = newUserData(t, storagetest.Open(t, storagetest.SQLiteURL(t)), clientapi.Parts{BaseURL: "https://m.example.org", WellKnown: config.WellKnown{
		Client: map[string]any{"org.example.x": map[string]any{"on": true}},
		Server: "m.example.org:443",
		Support: config.Support{Page: "https://example.org/help",
			Contacts: []config.Contact{{Role: "m.role.admin", EmailAddress: "admin@example.org"}}},
	}})
	u.run([]step{
		{"", "GET", client, ``, 200, `{"m.homeserver":{"base_url":"https://m.example.org"},"org.example.x":{"on":true}}`},
		{"", "GET", server, ``, 200, `{"m.server":"m.example.org:443"}`},
		{"", "GET", support, ``, 200, `{"contacts":[{"role":"m.role.admin","email_address":"admin@example.org"}],"support_page":"https://example.org/help"}`},
	})
}

// Whoever is out of a room types no longer.
func TestTypingEndsWithMembership(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		u := newUserData(t, db, clientapi.Parts{})
		for _, out := range []step{
			{"bob", "POST", "/v3/rooms/ROOM/leave", `{}`, 200, `{}`},
			{"alice", "POST", "/v3/rooms/ROOM/kick", `{"user_id":"BOB"}`, 200, `{}`},
			{"alice", "POST", "/v3/rooms/ROOM/ban", `{"user_id":"BOB"}`, 200, `{}`},
		} {
			u.run([]step{
				{"bob", "POST", "/v3/join/ROOM", `{}`, 200, ""},
				{"bob", "PUT", "/v3/rooms/ROOM/typing/BOB", `{"typing":true,"timeout":60000}`, 200, `{}`},
			})
			if typing, _ := u.typing.In(u.room); len(typing) != 1 {
				t.Errorf("%s: typing before: %v", out.path, typing)
			}
			out.body = u.replace.Replace(out.body)
			u.run([]step{out})
			if typing, _ := u.typing.In(u.room); len(typing) != 0 {
				t.Errorf("%s: typing after: %v", out.path, typing)
			}
		}
	})
}
