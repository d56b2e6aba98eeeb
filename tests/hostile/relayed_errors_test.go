package hostile

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"beep/tests/harness"
)

// ownErrors are codes by which a client learns something about its own session.
var ownErrors = []string{"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_LOCKED", "M_USER_DEACTIVATED", "M_USER_SUSPENDED", "M_CONSENT_NOT_GIVEN"}

// harmless fails the test if an answer to a client has anything in it that another server
// has said about the client's session.
func harmless(t *testing.T, what string, r *harness.Response) {
	t.Helper()
	code := r.At("errcode").Str()
	if r.Status == http.StatusUnauthorized || r.Status < 400 || code == "" || slices.Contains(ownErrors, code) {
		t.Errorf("%s: a client is told %d %.300s", what, r.Status, r.Body)
	}
	for _, key := range r.Keys() {
		if !slices.Contains([]string{"errcode", "error", "room_version"}, key) {
			t.Errorf("%s: a client is given %q of another server: %.300s", what, key, r.Body)
		}
	}
	if !strings.HasPrefix(code, "M_") {
		t.Errorf("%s: a client is given the code %q", what, code)
	}
}

// Whatever error another server answers a request of this one with, no user of this server is
// logged out by it, or told to do something about the session (F55e).
func TestErrorsOfOthersEndNoSession(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	own := alice.PublicRoom()
	room := s.NewRoom("11")
	alias := "#room:" + s.Name
	join := harness.Path("/v3/join/%s", room.ID) + harness.Query("via", s.Name)
	calls := map[string]func() *harness.Response{
		"join":          func() *harness.Response { return alice.Post(join, nil) },
		"join by alias": func() *harness.Response { return alice.Post(harness.Path("/v3/join/%s", alias), nil) },
		"knock": func() *harness.Response {
			return alice.Post(harness.Path("/v3/knock/%s", room.ID)+harness.Query("via", s.Name), nil)
		},
		"invite": func() *harness.Response {
			return alice.Post(harness.Path("/v3/rooms/%s/invite", own), harness.Object{"user_id": s.User("bob")})
		},
		"profile":            func() *harness.Response { return alice.Get(harness.Path("/v3/profile/%s", s.User("bob"))) },
		"field of a profile": func() *harness.Response { return alice.Get(harness.Path("/v3/profile/%s/displayname", s.User("bob"))) },
		"directory":          func() *harness.Response { return alice.Get(harness.Path("/v3/directory/room/%s", alias)) },
		"public rooms":       func() *harness.Response { return alice.Get("/v3/publicRooms", "server", s.Name) },
		"search for rooms": func() *harness.Response {
			return alice.Post("/v3/publicRooms"+harness.Query("server", s.Name), harness.Object{"filter": harness.Object{"generic_search_term": "x"}})
		},
	}
	more := `"error":"go away","soft_logout":true,"flows":[],"session":"x","consent_uri":"https://evil.test/","info_uri":"x","retry_after_ms":1e99`
	answers := []string{`{"errcode":5,` + more + `}`, `{"errcode":["M_FORBIDDEN"],"error":{}}`, `{"errcode":"M_FORBIDDEN",` + more + `}`,
		`{"errcode":"M_NOT_FOUND",` + more + `}`, `{"errcode":"M_EVIL\u0000",` + more + `}`, `[]`, `null`, `<html>`, ``}
	for _, code := range ownErrors {
		answers = append(answers, fmt.Sprintf(`{"errcode":%q,%s}`, code, more))
	}
	for _, late := range []bool{false, true} { // the last request of several is the one that fails
		for i, answer := range answers {
			for _, status := range []int{401, 403} {
				s.Handle("/", func(w http.ResponseWriter, r *http.Request) {
					if late && !strings.Contains(r.URL.Path, "/send_") {
						s.honest.ServeHTTP(w, r)
						return
					}
					s.respond(w, status, answer)
				})
				for name, call := range calls {
					if !late || name == "join" || i == 0 && name == "knock" {
						harmless(t, fmt.Sprintf("%s, answered with %d %.40s", name, status, answer), call())
					}
				}
			}
		}
	}
	alice.Get("/v3/account/whoami").OK()
	alice.Text(own, "still logged in")
}

// Whoever declines an invite is out, whatever the other server says to it (F55e).
func TestErrorsOfOthersKeepNobodyIn(t *testing.T) {
	t.Parallel()
	victim := Victim(t)
	s := New(t, victim)
	alice := victim.Register(t, "alice")
	room := s.NewRoom("11")
	s.offer(s.Build(room.invite(alice.UserID)), `[]`).OK()
	alice.SyncUntil("the invite", func(r *harness.Response) bool { return r.At("rooms", "invite", room.ID).Exists() })
	s.Answer("/", 401, `{"errcode":"M_UNKNOWN_TOKEN","soft_logout":true}`)
	alice.Leave(room.ID)
	alice.SyncUntil("the end of the invite", func(r *harness.Response) bool { return r.At("rooms", "leave", room.ID).Exists() })
}
