package clientapi

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"beep/account"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/tests/contract"
	"beep/web"
)

const v1, v3 = "/_matrix/client/v1", "/_matrix/client/v3"

// step is a request and what its answer must be. In path, as and body, {name}
// stands for what an earlier step kept, or for itself.
type step struct {
	call   string // method and path
	as     string // access token
	body   string
	status int
	want   map[string]string // by gjson path; "-" for what must not be there
	keep   map[string]string // gjson path by name
}

// server is a server of accounts on SQLite.
type server struct {
	t        *testing.T
	accounts *account.Accounts
	dir      string // of the database
	log      *bytes.Buffer
	url      string
	client   *http.Client
	kept     map[string]string
}

var specification = sync.OnceValues(func() (*contract.Spec, error) {
	dir, err := contract.DefaultDir()
	if err != nil {
		return nil, err
	}
	return contract.Load(dir)
})

func newServer(t *testing.T, change func(o *account.Options)) *server {
	t.Helper()
	dbURL := storagetest.SQLiteURL(t)
	o := account.Options{
		DB:                  storagetest.Open(t, dbURL),
		ServerName:          "example.org",
		Hashing:             account.CheapHashing,
		MinPassword:         6,
		AccessTokenLifetime: time.Minute,
		Registration:        account.Registration{Open: true, Guests: true, SharedSecret: "shared secret"},
		Appservices: []account.Appservice{{ID: "irc", Token: "as_token", Sender: "@irc:example.org",
			Users: []account.Namespace{{Exclusive: true, Pattern: regexp.MustCompile(`^@_irc_`)}}}},
	}
	if change != nil {
		change(&o)
	}
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	accounts := account.New(o)
	var log bytes.Buffer
	rt := web.NewRouter(web.Options{Limiter: o.Limiter, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	New(Parts{Accounts: accounts, BaseURL: "https://matrix.example.org"}).accountRoutes(rt)
	front := httptest.NewServer(rt)
	t.Cleanup(front.Close)
	transport := &contract.Transport{Spec: spec, Report: t.Errorf, LaxRequests: true, Allow: []string{"/_synapse/", v3 + "/auth/"}}
	dir := filepath.Dir(strings.TrimPrefix(dbURL, "sqlite:"))
	return &server{t, accounts, dir, &log, front.URL, &http.Client{Transport: transport}, map[string]string{}}
}

func (s *server) fill(text string) string {
	for name, value := range s.kept {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// do makes a request and gives the answer with its body.
func (s *server) do(call, token, contentType, body string) (*http.Response, string) {
	s.t.Helper()
	method, path, _ := strings.Cut(call, " ")
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(text)
}

func (s *server) run(steps []step) {
	s.t.Helper()
	for i, step := range steps {
		call, body := s.fill(step.call), s.fill(step.body)
		resp, text := s.do(call, s.fill(step.as), "application/json", body)
		what := fmt.Sprintf("%d: %s %s is answered %d %s", i, call, body, resp.StatusCode, text)
		if resp.StatusCode != step.status {
			s.t.Fatalf("%s\nwant the status %d", what, step.status)
		}
		for path, want := range step.want {
			got := gjson.Get(text, path)
			if want == "-" && got.Exists() || want != "-" && got.String() != s.fill(want) {
				s.t.Fatalf("%s\nwant %s to be %s", what, path, s.fill(want))
			}
		}
		for name, path := range step.keep {
			value := gjson.Get(text, path)
			if value.String() == "" {
				s.t.Fatalf("%s\nwithout %s", what, path)
			}
			s.kept[name] = value.String()
		}
	}
}

func code(errcode string) map[string]string { return map[string]string{"errcode": errcode} }

// registered are the steps that make a user {user} with the token {token} and the
// device {device}.
func registered(name string) step {
	return step{"POST " + v3 + "/register", "", `{"auth":{"type":"m.login.dummy"},"username":"` + name + `","password":"s3kr1t"}`, 200,
		map[string]string{"user_id": "@" + strings.ToLower(name) + ":example.org"},
		map[string]string{name: "access_token", name + "-device": "device_id"}}
}

func passwordAuth(user, password, session string) string {
	return `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"` + user + `"},"password":"` + password + `","session":"` + session + `"}`
}

func TestAccountScenarios(t *testing.T) {
	login := func(user, password, more string) string {
		return `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"` + user + `"},"password":"` + password + `"` + more + `}`
	}
	whoami := "GET " + v3 + "/account/whoami"
	for name, steps := range map[string][]step{
		"registration": {
			{"POST " + v3 + "/register", "", `{}`, 401, map[string]string{"flows.#": "1", "flows.0.stages.#": "1", "flows.0.stages.0": "m.login.dummy",
				"params": "{}", "completed": "[]", "errcode": "-", "error": "-"}, map[string]string{"session": "session"}},
			{"POST " + v3 + "/register", "", ``, 401, nil, nil},
			{"POST " + v3 + "/register?kind=user", "", `{"username":"Alice","password":"s3kr1t","device_id":"D","initial_device_display_name":"phone","auth":{"type":"m.login.dummy","session":"{session}"}}`,
				200, map[string]string{"user_id": "@alice:example.org", "device_id": "D", "refresh_token": "-", "expires_in_ms": "-", "well_known": "-"}, map[string]string{"token": "access_token"}},
			{whoami, "{token}", "", 200, map[string]string{"user_id": "@alice:example.org", "device_id": "D", "is_guest": "false"}, nil},
			{"GET /_matrix/client/r0/account/whoami?access_token={token}", "", "", 200, nil, nil},
			{"GET " + v3 + "/register/available?username=bob", "", "", 200, map[string]string{"available": "true"}, nil},
			{"GET " + v3 + "/register/available?username=alice", "", "", 400, code("M_USER_IN_USE"), nil},
			{"GET " + v3 + "/register/available?username=a%20b", "", "", 400, code("M_INVALID_USERNAME"), nil},
			{"GET " + v3 + "/register/available?username=_irc_a", "", "", 400, code("M_EXCLUSIVE"), nil},
			{"GET " + v3 + "/register/available", "", "", 400, code("M_MISSING_PARAM"), nil},
			{"POST " + v3 + "/register", "", `{"username":"alice","password":"s3kr1t"}`, 400, code("M_USER_IN_USE"), nil},
			{"POST " + v3 + "/register", "", `{"username":"bob","password":"short"}`, 400, code("M_WEAK_PASSWORD"), nil},
			{"POST " + v3 + "/register?kind=alien", "", `{}`, 400, code("M_INVALID_PARAM"), nil},
			{"POST " + v3 + "/register", "", `{"username":7}`, 400, code("M_BAD_JSON"), nil},
			{"POST " + v3 + "/register", "", "{\"username\":\"a\x81\"}", 400, code("M_NOT_JSON"), nil},
			{"POST " + v3 + "/register", "", `{"inhibit_login":true,"username":"carol","password":"s3kr1t","auth":{"type":"m.login.dummy"}}`, 200,
				map[string]string{"user_id": "@carol:example.org", "access_token": "-", "device_id": "-"}, nil},
			{"POST " + v3 + "/register", "", `{"refresh_token":true,"username":"dave","password":"s3kr1t","auth":{"type":"m.login.dummy"}}`, 200,
				map[string]string{"expires_in_ms": "60000"}, map[string]string{"refresh": "refresh_token"}},
		},
		"guests": {
			{"POST " + v3 + "/register?kind=guest", "", `{"username":"alice","device_id":"D","initial_device_display_name":"browser"}`, 200, nil,
				map[string]string{"guest": "access_token", "id": "user_id", "device": "device_id"}},
			{whoami, "{guest}", "", 200, map[string]string{"is_guest": "true", "user_id": "{id}"}, nil},
			{"GET " + v3 + "/devices/{device}", "{guest}", "", 200, map[string]string{"display_name": "browser"}, nil},
			{"POST " + v3 + "/account/deactivate", "{guest}", `{}`, 403, code("M_GUEST_ACCESS_FORBIDDEN"), nil},
			{"GET " + v3 + "/account/3pid", "{guest}", ``, 403, code("M_GUEST_ACCESS_FORBIDDEN"), nil},
			{"POST " + v3 + "/logout", "{guest}", ``, 200, nil, nil},
			{whoami, "{guest}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
		},
		"login": {
			registered("alice"),
			{"GET " + v3 + "/login", "", "", 200, map[string]string{"flows.#.type": `["m.login.password","m.login.token","m.login.application_service"]`, "flows.1.get_login_token": "true"}, nil},
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", `,"device_id":"D","refresh_token":true`), 200,
				map[string]string{"user_id": "@alice:example.org", "device_id": "D", "expires_in_ms": "60000", `well_known.m\.homeserver.base_url`: "https://matrix.example.org"},
				map[string]string{"first": "access_token", "refresh": "refresh_token"}},
			{whoami, "{first}", "", 200, nil, nil},
			{"POST " + v3 + "/refresh", "", `{"refresh_token":"{refresh}"}`, 200, map[string]string{"expires_in_ms": "60000"}, map[string]string{"second": "access_token", "next": "refresh_token"}},
			{whoami, "{second}", "", 200, nil, nil},
			{whoami, "{first}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/refresh", "", `{"refresh_token":"{refresh}"}`, 401, map[string]string{"errcode": "M_UNKNOWN_TOKEN", "soft_logout": "true"}, nil},
			{"POST " + v3 + "/refresh", "", `{}`, 400, code("M_MISSING_PARAM"), nil},
			{"POST " + v3 + "/login", "", login("@ALICE:example.org", "s3kr1t", `,"device_id":"D"`), 200, map[string]string{"refresh_token": "-", "expires_in_ms": "-"}, nil},
			{whoami, "{second}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/refresh", "", `{"refresh_token":"{next}"}`, 401, map[string]string{"errcode": "M_UNKNOWN_TOKEN", "soft_logout": "-"}, nil},
			{"POST " + v3 + "/login", "", `{"type":"m.login.password","user":"alice","password":"s3kr1t"}`, 200, nil, nil},
			{"POST " + v3 + "/login", "", login("alice", "wrong", ""), 403, code("M_FORBIDDEN"), nil},
			{"POST " + v3 + "/login", "", login("zoe", "wrong", ""), 403, code("M_FORBIDDEN"), nil},
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", `,"device_id":"a b"`), 400, code("M_INVALID_PARAM"), nil},
			{"POST " + v3 + "/login", "", `{"type":"m.login.magic"}`, 400, code("M_UNKNOWN"), nil},
			{"POST " + v3 + "/login", "", `{}`, 400, code("M_MISSING_PARAM"), nil},
			{"POST " + v3 + "/login", "", `{"type":"m.login.token","token":"unknown"}`, 403, code("M_FORBIDDEN"), nil},
		},
		"login token": {
			registered("alice"),
			{"POST " + v1 + "/login/get_token", "{alice}", `{}`, 401, map[string]string{"flows.0.stages.0": "m.login.password"}, map[string]string{"session": "session"}},
			{"POST " + v1 + "/login/get_token", "{alice}", `{"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 200, map[string]string{"expires_in_ms": "120000"}, map[string]string{"token": "login_token"}},
			{"POST " + v1 + "/login/get_token", "{alice}", `{"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 401, nil, nil},
			{"POST " + v3 + "/login", "", `{"type":"m.login.token","token":"{token}"}`, 200, map[string]string{"user_id": "@alice:example.org"}, map[string]string{"other": "access_token"}},
			{"POST " + v3 + "/login", "", `{"type":"m.login.token","token":"{token}"}`, 403, code("M_FORBIDDEN"), nil},
			{whoami, "{other}", "", 200, nil, nil},
		},
		"logout": {
			registered("alice"),
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", ""), 200, nil, map[string]string{"second": "access_token"}},
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", ""), 200, nil, map[string]string{"third": "access_token"}},
			{"POST " + v3 + "/logout", "{second}", `{}`, 200, nil, nil},
			{whoami, "{second}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{"GET " + v3 + "/devices", "{alice}", "", 200, map[string]string{"devices.#": "2"}, nil},
			{"POST " + v3 + "/logout/all", "{third}", ``, 200, nil, nil},
			{whoami, "{third}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{whoami, "{alice}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/logout", "", `{}`, 401, code("M_MISSING_TOKEN"), nil},
			{"POST " + v3 + "/logout?access_token=an/invalid/token", "", `{}`, 401, code("M_UNKNOWN_TOKEN"), nil},
		},
		"devices": {
			registered("alice"),
			registered("eve"),
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", `,"device_id":"a/b","initial_device_display_name":"phone"`), 200, nil, map[string]string{"phone": "access_token"}},
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", `,"device_id":"second"`), 200, nil, nil},
			{"GET " + v3 + "/devices/a%2Fb", "{alice}", "", 200, map[string]string{"device_id": "a/b", "display_name": "phone", "user_id": "-"}, nil},
			{"GET " + v3 + "/devices/second", "{alice}", "", 200, map[string]string{"display_name": "-"}, nil},
			{"GET " + v3 + "/devices/unknown", "{alice}", "", 404, code("M_NOT_FOUND"), nil},
			{"GET " + v3 + "/devices/second", "{eve}", "", 404, code("M_NOT_FOUND"), nil},
			{"PUT " + v3 + "/devices/second", "{alice}", `{"display_name":"tablet"}`, 200, nil, nil},
			{"PUT " + v3 + "/devices/second", "{alice}", `{}`, 200, nil, nil},
			{"GET " + v3 + "/devices/second", "{alice}", "", 200, map[string]string{"display_name": "tablet"}, nil},
			{"PUT " + v3 + "/devices/unknown", "{alice}", `{"display_name":"tablet"}`, 404, code("M_NOT_FOUND"), nil},
			{"PUT " + v3 + "/devices/unknown", "{alice}", `{}`, 404, code("M_NOT_FOUND"), nil},
			{"DELETE " + v3 + "/devices/a%2Fb", "{alice}", "", 401, nil, map[string]string{"session": "session"}},
			{"DELETE " + v3 + "/devices/second", "{alice}", `{"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 403, code("M_FORBIDDEN"), nil},
			{"DELETE " + v3 + "/devices/a%2Fb", "{alice}", `{"auth":` + passwordAuth("alice", "wrong", "{session}") + `}`, 401,
				map[string]string{"errcode": "M_FORBIDDEN", "session": "{session}", "completed": "[]", "params": "{}", "flows.#": "1"}, nil},
			{"DELETE " + v3 + "/devices/a%2Fb", "{alice}", `{"auth":` + passwordAuth("eve", "s3kr1t", "") + `}`, 403, code("M_FORBIDDEN"), nil},
			{whoami, "{phone}", "", 200, nil, nil},
			{"DELETE " + v3 + "/devices/a%2Fb", "{alice}", `{"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 200, nil, nil},
			{whoami, "{phone}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/delete_devices", "{alice}", `{"devices":["second","unknown"]}`, 401, nil, map[string]string{"session": "session"}},
			{"POST " + v3 + "/delete_devices", "{alice}", `{"devices":["second","{alice-device}"],"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 403, code("M_FORBIDDEN"), nil},
			{"POST " + v3 + "/delete_devices", "{alice}", `{"devices":["unknown","second"],"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 200, nil, nil},
			{"GET " + v3 + "/devices", "{alice}", "", 200, map[string]string{"devices.#.device_id": `["{alice-device}"]`}, nil},
		},
		"password": {
			registered("alice"),
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", ""), 200, nil, map[string]string{"second": "access_token"}},
			{"POST " + v3 + "/account/password", "{alice}", `{}`, 400, code("M_MISSING_PARAM"), nil},
			{"POST " + v3 + "/account/password", "{alice}", `{"new_password":"short"}`, 400, code("M_WEAK_PASSWORD"), nil},
			{"POST " + v3 + "/account/password", "{alice}", `{"new_password":"another"}`, 401, map[string]string{"errcode": "-"}, nil},
			{"POST " + v3 + "/account/password", "unknown", `{"new_password":"another"}`, 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/account/password", "{alice}", `{"new_password":"another","logout_devices":false,"auth":` + passwordAuth("alice", "s3kr1t", "") + `}`, 200, nil, nil},
			{whoami, "{second}", "", 200, nil, nil},
			{"POST " + v3 + "/account/password", "{alice}", `{"new_password":"a third","auth":` + passwordAuth("alice", "another", "") + `}`, 200, nil, nil},
			{whoami, "{alice}", "", 200, nil, nil},
			{whoami, "{second}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/login", "", login("alice", "another", ""), 403, code("M_FORBIDDEN"), nil},
			{"POST " + v3 + "/account/password", "", `{"new_password":"a fourth","auth":` + passwordAuth("alice", "a third", "") + `}`, 200, nil, nil},
			{whoami, "{alice}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/login", "", login("alice", "a fourth", ""), 200, nil, nil},
		},
		"deactivation": {
			registered("alice"),
			{"POST " + v3 + "/account/deactivate", "{alice}", `{}`, 401, nil, map[string]string{"session": "session"}},
			{"POST " + v3 + "/account/deactivate", "{alice}", `{"erase":true,"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 403, code("M_FORBIDDEN"), nil},
			{"POST " + v3 + "/account/deactivate", "{alice}", `{"auth":` + passwordAuth("alice", "wrong", "") + `}`, 401, code("M_FORBIDDEN"), nil},
			{"POST " + v3 + "/account/deactivate", "{alice}", `{"auth":` + passwordAuth("alice", "s3kr1t", "{session}") + `}`, 200, map[string]string{"id_server_unbind_result": "success"}, nil},
			{whoami, "{alice}", "", 401, map[string]string{"errcode": "M_UNKNOWN_TOKEN", "soft_logout": "-"}, nil},
			{"POST " + v3 + "/login", "", login("alice", "s3kr1t", ""), 403, code("M_USER_DEACTIVATED"), nil},
			{"POST " + v3 + "/login", "", login("alice", "wrong", ""), 403, code("M_FORBIDDEN"), nil},
			{"POST " + v3 + "/register", "", `{"username":"alice","password":"s3kr1t"}`, 400, code("M_USER_IN_USE"), nil},
			registered("bob"),
			{"POST " + v3 + "/account/deactivate", "", `{"erase":true,"auth":` + passwordAuth("bob", "s3kr1t", "") + `}`, 200, nil, nil},
			{"POST " + v3 + "/login", "", login("bob", "s3kr1t", ""), 403, code("M_FORBIDDEN"), nil},
		},
		"OpenID": {
			registered("alice"),
			{"POST " + v3 + "/user/@alice:example.org/openid/request_token", "{alice}", `{}`, 200,
				map[string]string{"token_type": "Bearer", "matrix_server_name": "example.org", "expires_in": "3600"}, map[string]string{"openid": "access_token"}},
			{"POST " + v3 + "/user/@bob:example.org/openid/request_token", "{alice}", `{}`, 403, code("M_FORBIDDEN"), nil},
			{whoami, "{openid}", "", 401, code("M_UNKNOWN_TOKEN"), nil},
		},
		"third-party identifiers": {
			registered("alice"),
			{"GET " + v3 + "/account/3pid", "{alice}", "", 200, map[string]string{"threepids": "[]"}, nil},
			{"POST " + v3 + "/account/3pid", "{alice}", `{}`, 403, code("M_THREEPID_DENIED"), nil},
			{"POST " + v3 + "/account/3pid/add", "{alice}", `{}`, 403, code("M_THREEPID_DENIED"), nil},
			{"POST " + v3 + "/account/3pid/delete", "{alice}", `{"medium":"email","address":"a@b"}`, 200, map[string]string{"id_server_unbind_result": "no-support"}, nil},
			{"POST " + v3 + "/account/3pid/email/requestToken", "", `{"client_secret":"a.b","email":"a@b","send_attempt":1}`, 400, code("M_THREEPID_MEDIUM_NOT_SUPPORTED"), nil},
			{"POST " + v3 + "/account/3pid/msisdn/requestToken", "", `{"client_secret":"!"}`, 400, code("M_INVALID_PARAM"), nil},
			{"POST " + v3 + "/account/3pid/pigeon/requestToken", "", `{"client_secret":"a"}`, 404, code("M_UNRECOGNIZED"), nil},
			{"POST " + v3 + "/register/email/requestToken", "", `{"client_secret":"a"}`, 403, code("M_THREEPID_DENIED"), nil},
			{"POST " + v3 + "/register/email/requestToken", "", `{"client_secret":"` + strings.Repeat("a", 256) + `"}`, 400, code("M_INVALID_PARAM"), nil},
			{"POST " + v3 + "/account/password/email/requestToken", "", `{"client_secret":"a"}`, 400, code("M_THREEPID_NOT_FOUND"), nil},
		},
		"application services": {
			registered("alice"),
			{"POST " + v3 + "/login", "", `{"type":"m.login.application_service","identifier":{"type":"m.id.user","user":"_irc_bob"}}`, 401, code("M_MISSING_TOKEN"), nil},
			{"POST " + v3 + "/login", "{alice}", `{"type":"m.login.application_service","identifier":{"type":"m.id.user","user":"_irc_bob"}}`, 401, code("M_UNKNOWN_TOKEN"), nil},
			{"POST " + v3 + "/register", "", `{"type":"m.login.application_service","username":"_irc_bob"}`, 401, code("M_MISSING_TOKEN"), nil},
			{"POST " + v3 + "/register", "as_token", `{"type":"m.login.application_service","username":"_irc_bob"}`, 200, map[string]string{"user_id": "@_irc_bob:example.org"}, map[string]string{"bob": "access_token"}},
			{"POST " + v3 + "/login", "as_token", `{"type":"m.login.application_service","identifier":{"type":"m.id.user","user":"_irc_bob"}}`, 200, nil, nil},
			{"POST " + v3 + "/login", "as_token", `{"type":"m.login.application_service","identifier":{"type":"m.id.user","user":"alice"}}`, 400, code("M_EXCLUSIVE"), nil},
			{whoami + "?user_id=@_irc_bob:example.org", "as_token", "", 200, map[string]string{"user_id": "@_irc_bob:example.org", "device_id": "-"}, nil},
			{whoami + "?user_id=@alice:example.org", "as_token", "", 403, code("M_FORBIDDEN"), nil},
			{"PUT " + v3 + "/devices/NEW?user_id=@_irc_bob:example.org", "as_token", `{}`, 201, nil, nil},
			{"PUT " + v3 + "/devices/NEW?user_id=@_irc_bob:example.org", "as_token", `{}`, 200, nil, nil},
			{whoami + "?user_id=@_irc_bob:example.org&device_id=NEW", "as_token", "", 200, map[string]string{"device_id": "NEW"}, nil},
			{"DELETE " + v3 + "/devices/NEW?user_id=@_irc_bob:example.org", "as_token", `{}`, 200, nil, nil},
		},
	} {
		t.Run(name, func(t *testing.T) { newServer(t, nil).run(steps) })
	}
}

func TestLockedAccount(t *testing.T) {
	s := newServer(t, nil)
	s.run([]step{registered("alice")})
	if err := s.accounts.SetLocked(context.Background(), "@alice:example.org", true); err != nil {
		t.Fatal(err)
	}
	locked := map[string]string{"errcode": "M_USER_LOCKED", "soft_logout": "true"}
	s.run([]step{
		{"GET " + v3 + "/account/whoami", "{alice}", "", 401, locked, nil},
		{"GET " + v3 + "/devices", "{alice}", "", 401, locked, nil},
		{"POST " + v3 + "/account/deactivate", "{alice}", `{}`, 401, locked, nil},
		{"POST " + v3 + "/login", "", `{"type":"m.login.password","user":"alice","password":"s3kr1t"}`, 401, locked, nil},
		{"POST " + v3 + "/logout", "{alice}", `{}`, 200, nil, nil},
	})
}

func TestRegistrationTokens(t *testing.T) {
	s := newServer(t, func(o *account.Options) {
		o.Registration.TokenRequired = true
		o.Registration.Terms = []account.Terms{{Name: "privacy", Version: "1.0", Languages: map[string]account.TermsText{
			"en": {Name: "Privacy", URL: "https://example.org/privacy"}}}}
	})
	ctx := context.Background()
	userID, err := s.accounts.CreateUser(ctx, "admin", "s3kr1t", true)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := s.accounts.OpenSession(ctx, userID, account.DeviceRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.kept["admin"] = admin.AccessToken
	const tokens = "/_synapse/admin/v1/registration_tokens"
	validity := "GET " + v1 + "/register/m.login.registration_token/validity"
	s.run([]step{
		{"GET " + tokens, "", "", 401, code("M_MISSING_TOKEN"), nil},
		{"GET " + tokens, "{admin}", "", 200, map[string]string{"registration_tokens": "[]"}, nil},
		{"POST " + tokens + "/new", "{admin}", `{}`, 200, map[string]string{"uses_allowed": "", "expiry_time": "", "pending": "0", "completed": "0"}, map[string]string{"random": "token"}},
		{"POST " + tokens + "/new", "{admin}", `{"token":"a/b"}`, 400, code("M_INVALID_PARAM"), nil},
		{"POST " + tokens + "/new", "{admin}", `{"uses_allowed":"1"}`, 400, code("M_BAD_JSON"), nil},
		{"POST " + tokens + "/new", "{admin}", `{"length":65}`, 400, code("M_INVALID_PARAM"), nil},
		{"POST " + tokens + "/new", "{admin}", `{"expiry_time":1}`, 400, code("M_INVALID_PARAM"), nil},
		{"POST " + tokens + "/new", "{admin}", `{"token":"mine","uses_allowed":1,"expiry_time":4102444800000}`, 200, map[string]string{"token": "mine", "uses_allowed": "1", "expiry_time": "4102444800000"}, nil},
		{"POST " + tokens + "/new", "{admin}", `{"token":"mine"}`, 400, code("M_INVALID_PARAM"), nil},
		{"GET " + tokens + "/mine", "{admin}", "", 200, map[string]string{"uses_allowed": "1"}, nil},
		{"GET " + tokens + "/unknown", "{admin}", "", 404, code("M_NOT_FOUND"), nil},
		{"PUT " + tokens + "/mine", "{admin}", `{"expiry_time":null}`, 200, map[string]string{"uses_allowed": "1", "expiry_time": ""}, nil},
		{"PUT " + tokens + "/mine", "{admin}", `{"uses_allowed":2.5}`, 400, code("M_BAD_JSON"), nil},
		{"PUT " + tokens + "/mine", "{admin}", `{"uses_allowed":-2}`, 400, code("M_INVALID_PARAM"), nil},
		{"PUT " + tokens + "/unknown", "{admin}", `{}`, 404, code("M_NOT_FOUND"), nil},

		{validity + "?token=mine", "", "", 200, map[string]string{"valid": "true"}, nil},
		{validity + "?token=unknown", "", "", 200, map[string]string{"valid": "false"}, nil},
		{validity, "", "", 400, code("M_MISSING_PARAM"), nil},
		{"POST " + v3 + "/register", "", `{"username":"alice","password":"s3kr1t"}`, 401, map[string]string{
			"flows.0.stages": `["m.login.registration_token","m.login.terms"]`, `params.m\.login\.terms.policies.privacy.version`: "1.0",
			`params.m\.login\.terms.policies.privacy.en.url`: "https://example.org/privacy"}, map[string]string{"session": "session"}},
		{"POST " + v3 + "/register", "", `{"auth":{"type":"m.login.terms","session":"{session}"}}`, 401, code("M_FORBIDDEN"), nil},
		{"POST " + v3 + "/register", "", `{"auth":{"type":"m.login.registration_token","token":"wrong","session":"{session}"}}`, 401, code("M_FORBIDDEN"), nil},
		{"POST " + v3 + "/register", "", `{"auth":{"type":"m.login.registration_token","token":"mine","session":"{session}"}}`, 401,
			map[string]string{"completed": `["m.login.registration_token"]`, "errcode": "-"}, nil},
		{"GET " + tokens + "?valid=false", "{admin}", "", 200, map[string]string{"registration_tokens.#": "1", "registration_tokens.0.pending": "1"}, nil},
		{validity + "?token=mine", "", "", 200, map[string]string{"valid": "false"}, nil},
		{"POST " + v3 + "/register", "", `{"auth":{"type":"m.login.terms","session":"{session}"}}`, 200, map[string]string{"user_id": "@alice:example.org"}, map[string]string{"alice": "access_token"}},
		{"GET " + tokens + "/mine", "{admin}", "", 200, map[string]string{"pending": "0", "completed": "1"}, nil},
		{"GET " + tokens, "{alice}", "", 403, code("M_FORBIDDEN"), nil},
		{"DELETE " + tokens + "/mine", "{alice}", "", 403, code("M_FORBIDDEN"), nil},
		{"DELETE " + tokens + "/mine", "{admin}", "", 200, nil, nil},
		{"DELETE " + tokens + "/mine", "{admin}", "", 404, code("M_NOT_FOUND"), nil},
		{"GET " + tokens + "?valid=true", "{admin}", "", 200, map[string]string{"registration_tokens.#.token": `["{random}"]`}, nil},
	})
}

func TestSharedSecret(t *testing.T) {
	s := newServer(t, func(o *account.Options) { o.Registration.Open = false })
	const path = "/_synapse/admin/v1/register"
	register := func(body, signed string, status int, want map[string]string) {
		t.Helper()
		s.run([]step{{"GET " + path, "", "", 200, nil, map[string]string{"nonce": "nonce"}}})
		mac := hmac.New(sha1.New, []byte("shared secret"))
		mac.Write([]byte(s.kept["nonce"] + "\x00" + signed))
		s.kept["mac"] = hex.EncodeToString(mac.Sum(nil))
		s.run([]step{{"POST " + path, "", `{"nonce":"{nonce}","mac":"{mac}",` + body + `}`, status, want, nil}})
	}
	register(`"username":"Alice","password":"s3kr1t","admin":true`, "Alice\x00s3kr1t\x00admin", 200, map[string]string{"user_id": "@alice:example.org"})
	register(`"username":"bob","password":"s3kr1t","admin":true`, "bob\x00s3kr1t\x00notadmin", 403, code("M_FORBIDDEN"))
	register(`"username":"us,er","password":"s3kr1t"`, "us,er\x00s3kr1t\x00notadmin", 400, code("M_INVALID_USERNAME"))
	s.run([]step{
		{"POST " + path, "", `{"nonce":"{nonce}","mac":"{mac}","username":"us,er","password":"s3kr1t"}`, 400, code("M_INVALID_PARAM"), nil},
		{"POST " + v3 + "/register", "", `{}`, 403, code("M_FORBIDDEN"), nil},
		{"GET " + v3 + "/register/available?username=zoe", "", "", 403, code("M_FORBIDDEN"), nil},
		{"GET " + v1 + "/register/m.login.registration_token/validity?token=x", "", "", 403, code("M_FORBIDDEN"), nil},
	})
	if u, err := s.accounts.User(context.Background(), "@alice:example.org"); err != nil || !u.Admin {
		t.Errorf("the user is %+v, %v", u, err)
	}
}

func TestFallbackPages(t *testing.T) {
	s := newServer(t, func(o *account.Options) {
		o.Registration.TokenRequired = true
		o.Registration.Terms = []account.Terms{{Name: "privacy", Version: "1.0", Languages: map[string]account.TermsText{
			"en": {Name: "<b>Privacy</b>", URL: "https://example.org/privacy"}}}}
	})
	ctx := context.Background()
	if _, err := s.accounts.CreateUser(ctx, "alice", "s3kr1t", false); err != nil {
		t.Fatal(err)
	}
	page := func(call, form string, status int, parts ...string) {
		t.Helper()
		resp, text := s.do(call, "", "application/x-www-form-urlencoded", form)
		if resp.StatusCode != status || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			t.Fatalf("%s is answered %d %s: %s", call, resp.StatusCode, resp.Header.Get("Content-Type"), text)
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q is not in\n%s", call, part, text)
			}
		}
		policy := resp.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", web.HashSource(doneScript), web.HashSource(fallbackStyle)} {
			if !strings.Contains(policy, part) {
				t.Errorf("the policy %q lacks %s", policy, part)
			}
		}
		if resp.Header.Get("X-Frame-Options") != "DENY" || strings.Contains(text, "<script>alert") || strings.Contains(text, "<b>Privacy") {
			t.Errorf("the page is %v\n%s", resp.Header, text)
		}
		if !strings.Contains(text, "<style>"+fallbackStyle+"</style>") {
			t.Error("the style is not the one that the policy allows")
		}
	}
	fallback := func(stage, session string) string {
		return v3 + "/auth/" + stage + "/fallback/web?session=" + url.QueryEscape(session)
	}
	s.run([]step{{"POST " + v3 + "/register", "", `{"username":"bob","password":"s3kr1t"}`, 401, nil, map[string]string{"session": "session"}}})
	session := s.kept["session"]
	token, terms := fallback("m.login.registration_token", session), fallback("m.login.terms", session)

	page("GET "+fallback("m.login.registration_token", `"><script>alert(1)</script>`), "", 400)
	page("GET "+fallback("m.login.registration_token", ""), "", 400)
	page("GET "+fallback("m.login.magic", session), "", 400)
	page("GET "+fallback("<script>alert(1)", session), "", 400)
	page("GET "+terms, "", 400) // it is not next
	page("GET "+token, "", 200, `name="session" value="`+session+`"`, `name="token"`)
	page("POST "+token, "session="+session+"&token=wrong", 403, "The registration token is not valid", `name="token"`)
	page("POST "+token, "session=unknown&token=wrong", 400)

	if _, err := s.accounts.NewRegistrationToken(ctx, registrationTokenNamed("mine"), 16); err != nil {
		t.Fatal(err)
	}
	done := []string{"<script>" + doneScript + "</script>", "onAuthDone", `postMessage("authDone", "*")`}
	page("POST "+token, "session="+session+"&token=mine", 200, done...)
	page("GET "+terms, "", 200, "https://example.org/privacy", "&lt;b&gt;Privacy&lt;/b&gt;")
	page("POST "+terms, "session="+session, 200, done...)
	s.run([]step{{"POST " + v3 + "/register", "", `{"auth":{"session":"{session}"}}`, 200, map[string]string{"user_id": "@bob:example.org"}, map[string]string{"token": "access_token"}}})

	s.run([]step{{"POST " + v1 + "/login/get_token", "{token}", `{}`, 401, nil, map[string]string{"session": "session"}}})
	password := fallback("m.login.password", s.kept["session"])
	page("GET "+password, "", 200, "@bob:example.org", `type="password"`)
	page("POST "+password, "session="+s.kept["session"]+"&user=alice&password=wrong", 403, "The user name or the password is wrong")
	page("POST "+password, "session="+s.kept["session"]+"&password=s3kr1t", 200, done...)
	s.run([]step{{"POST " + v1 + "/login/get_token", "{token}", `{"auth":{"session":"{session}"}}`, 200, nil, nil}})
}

func registrationTokenNamed(name string) storage.RegistrationToken {
	return storage.RegistrationToken{Token: name}
}

// TestSecretsAreNotKept looks for passwords and tokens in the database's files and
// in the log.
func TestSecretsAreNotKept(t *testing.T) {
	s := newServer(t, nil)
	s.run([]step{
		{"POST " + v3 + "/register", "", `{"username":"alice","password":"first-secret","refresh_token":true}`, 401, nil, map[string]string{"session": "session"}},
		{"POST " + v3 + "/register", "", `{"auth":{"type":"m.login.dummy","session":"{session}"}}`, 200, nil, map[string]string{"token": "access_token"}},
		{"POST " + v3 + "/account/password", "{token}", `{"new_password":"second-secret","auth":` + passwordAuth("alice", "wrong-secret", "") + `}`, 401, nil, map[string]string{"session": "session"}},
		{"POST " + v3 + "/account/password", "{token}", `{"new_password":"second-secret","auth":` + passwordAuth("alice", "first-secret", "{session}") + `}`, 200, nil, nil},
		{"POST " + v3 + "/login", "", `{"type":"m.login.password","user":"alice","password":"second-secret","refresh_token":true}`, 200, nil, map[string]string{"access": "access_token", "refresh": "refresh_token"}},
		{"GET " + v3 + "/account/whoami?access_token={access}", "", "", 200, nil, nil},
		{"POST " + v3 + "/user/@alice:example.org/openid/request_token", "{token}", `{}`, 200, nil, map[string]string{"openid": "access_token"}},
		{"POST " + v1 + "/login/get_token", "{token}", `{"auth":` + passwordAuth("alice", "second-secret", "") + `}`, 200, nil, map[string]string{"login": "login_token"}},
	})
	kept := s.log.Bytes()
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, content...)
	}
	if !bytes.Contains(kept, []byte("$argon2id$")) {
		t.Fatal("the account is not in the files that were looked at")
	}
	for _, secret := range []string{"first-secret", "second-secret", "wrong-secret",
		s.kept["token"], s.kept["access"], s.kept["refresh"], s.kept["openid"], s.kept["login"]} {
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("%q is kept", secret)
		}
	}
}

func TestGuessesAreLimited(t *testing.T) {
	s := newServer(t, func(o *account.Options) {
		o.Limiter = web.NewLimiter(map[string]web.Rate{account.LimitLogin: {PerSecond: 1e-6, Burst: 100}, "registration": {}, "other": {}}, nil)
	})
	s.run([]step{registered("alice")})
	guess := step{"POST " + v3 + "/login", "", `{"type":"m.login.password","user":"alice","password":"wrong"}`, 403, code("M_FORBIDDEN"), nil}
	for range 10 {
		s.run([]step{guess})
	}
	resp, text := s.do(guess.call, "", "application/json", guess.body)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the eleventh guess is answered %d %v %s", resp.StatusCode, resp.Header, text)
	}
	limited := step{"DELETE " + v3 + "/devices/D", "{alice}", `{"auth":` + passwordAuth("alice", "s3kr1t", "") + `}`, 429, code("M_LIMIT_EXCEEDED"), nil}
	s.run([]step{limited}) // here it can be guessed no more either
}
