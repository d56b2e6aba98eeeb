package tests

import (
	"net/http"
	"strings"
	"testing"

	"beep/tests/harness"
)

func TestUnknownEndpoints(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "lost")
		for _, test := range []struct {
			method, path string
			status       int
		}{
			{"GET", "/v3/no/such/endpoint", 404},
			{"GET", "/v99/sync", 404},
			{"GET", "/_matrix/nothing", 404},
			{"GET", "/_matrix/client/v3/sync/", 404},
			{"PATCH", "/v3/sync", 405},
			{"POST", "/v3/account/whoami", 405},
			{"DELETE", "/versions", 405},
		} {
			c.Do(test.method, test.path, nil).Fails(test.status, "M_UNRECOGNIZED")
		}
	})
}

// What is wrong with a body is told alike on every route that takes one.
func TestBrokenBodies(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "broken")
		room := c.CreateRoom(nil)
		routes := map[string]string{
			"/v3/createRoom": "POST",
			"/v3/login":      "POST",
			harness.Path("/v3/rooms/%s/send/m.room.message/t1", room):             "PUT",
			harness.Path("/v3/rooms/%s/state/m.room.topic/", room):                "PUT",
			harness.Path("/v3/rooms/%s/invite", room):                             "POST",
			harness.Path("/v3/user/%s/filter", c.UserID):                          "POST",
			harness.Path("/v3/user/%s/account_data/org.example.x", c.UserID):      "PUT",
			harness.Path("/v3/profile/%s/displayname", c.UserID):                  "PUT",
			harness.Path("/v3/presence/%s/status", c.UserID):                      "PUT",
			harness.Path("/v3/rooms/%s/typing/%s", room, c.UserID):                "PUT",
			harness.Path("/v3/user/%s/rooms/%s/tags/u.x", c.UserID, room):         "PUT",
			harness.Path("/v3/directory/room/%s", "#broken-body:"+srv.Name):       "PUT",
			harness.Path("/v3/rooms/%s/redact/%s/t2", room, c.Text(room, "keep")): "PUT",
		}
		for path, method := range routes {
			for _, test := range []struct{ body, code string }{
				{`{"a":`, "M_NOT_JSON"},
				{`{"a":1}x`, "M_NOT_JSON"},
				{`nonsense`, "M_NOT_JSON"},
				{`{'a':1}`, "M_NOT_JSON"},
				{"{\"a\":\"\xff\"}", "M_NOT_JSON"},
				{`{"a":NaN}`, "M_NOT_JSON"},
				{`[]`, "M_BAD_JSON"},
				{`"text"`, "M_BAD_JSON"},
				{`{"a":1,"a":2}`, "M_BAD_JSON"},
			} {
				if r := c.Do(method, path, test.body); r.Status != 400 || r.At("errcode").Str() != test.code {
					t.Errorf("%s %s with %q: status %d %s, expected 400 %s", method, path, test.body, r.Status, r.Body, test.code)
				}
			}
		}
	})
}

func TestMissingToken(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		for path, method := range map[string]string{
			"/v3/sync": "GET", "/v3/createRoom": "POST", "/v3/joined_rooms": "GET", "/v3/devices": "GET", "/v3/logout": "POST",
			"/v3/rooms/!a:b/state": "GET", "/v3/rooms/!a:b/send/m.room.message/1": "PUT", "/v3/user/@a:b/filter": "POST",
			"/v3/rooms/!a:b/messages?dir=b": "GET", "/v3/profile/@a:b/displayname": "PUT",
		} {
			c.Do(method, path, object{}).Fails(401, "M_MISSING_TOKEN")
		}
		for _, header := range []string{"Bearer", "Bearer ", "Basic abc", "token"} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL()+"/_matrix/client/v3/account/whoami", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", header)
			r, err := c.Send(req)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != 401 || !strings.HasPrefix(r.At("errcode").Str(), "M_") {
				t.Errorf("%q: status %d %s", header, r.Status, r.Body)
			}
		}
	})
}

func TestQueryErrors(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "query")
		room := c.CreateRoom(nil)
		messages := harness.Path("/v3/rooms/%s/messages", room)
		for _, test := range []struct {
			path  string
			query []string
			code  string
		}{
			{messages, nil, "M_MISSING_PARAM"},
			{messages, []string{"dir", "x"}, "M_INVALID_PARAM"},
			{messages, []string{"dir", "b", "limit", "many"}, "M_INVALID_PARAM"},
			{messages, []string{"dir", "b", "limit", "-1"}, "M_INVALID_PARAM"},
			{messages, []string{"dir", "b", "from", "garbage"}, "M_INVALID_PARAM"},
			{messages, []string{"dir", "b", "filter", "{"}, "M_NOT_JSON"},
			{messages, []string{"dir", "b", "filter", `{"types":5}`}, "M_BAD_JSON"},
			{"/v3/sync", []string{"since", "garbage"}, "M_INVALID_PARAM"},
			{"/v3/sync", []string{"timeout", "soon"}, "M_INVALID_PARAM"},
			{"/v3/sync", []string{"filter", "{"}, "M_NOT_JSON"},
			{"/v3/sync", []string{"filter", `{"room":5}`}, "M_BAD_JSON"},
			{"/v3/sync", []string{"set_presence", "busy"}, "M_INVALID_PARAM"},
			{"/v3/sync", []string{"full_state", "perhaps"}, "M_INVALID_PARAM"},
			{harness.Path("/v3/rooms/%s/members", room), []string{"at", "garbage"}, "M_INVALID_PARAM"},
		} {
			if r := c.Get(test.path, test.query...); r.Status != 400 || r.At("errcode").Str() != test.code {
				t.Errorf("%s %v: status %d %s, expected 400 %s", test.path, test.query, r.Status, r.Body, test.code)
			}
		}
	})
}

func TestUnsupportedParts(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "threepid")
		c.Post("/v3/account/3pid/email/requestToken", object{"client_secret": "s", "email": "a@example.org", "send_attempt": 1}).Fails(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
		if got := c.Get("/v3/account/3pid").OK().At("threepids").String(); got != "[]" {
			t.Errorf("threepids %s", got)
		}
		byAddress := object{"id_server": "identity.example.org", "id_access_token": "x", "medium": "email", "address": "a@example.org"}
		refusal := c.Post(harness.Path("/v3/rooms/%s/invite", c.CreateRoom(nil)), byAddress).Fails(403, "M_SERVER_NOT_TRUSTED")
		if !strings.Contains(refusal.At("error").Str(), "identity_servers.allow") {
			t.Errorf("the operator is not told what to do: %s", refusal.Body)
		}
	})
}
