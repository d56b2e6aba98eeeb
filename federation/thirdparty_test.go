package federation_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"beep/matrix"
	"beep/roomserver"
)

// What is no exchange of an invite is refused, whoever asks.
func TestExchangeRefusals(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		bob := p.user("bob")
		roomID := s.create(newRoom("Planning", ""))
		signed := fmt.Sprintf(`{"mxid":%q,"token":"t","signatures":{"id.test":{"ed25519:0":"AA"}}}`, bob)
		body := fmt.Sprintf(`{"type":"m.room.member","room_id":%q,"sender":%q,"state_key":%q,
			"content":{"membership":"invite","third_party_invite":{"display_name":"b","signed":%s}}}`, roomID, alice, bob, signed)
		for _, test := range []struct {
			room, body string
			status     int
			code       string
		}{
			{roomID, body, 403, "M_FORBIDDEN"}, // nobody has invited bob's address
			{"!other:" + us, body, 400, "M_INVALID_PARAM"},
			{"!other:" + us, strings.ReplaceAll(body, roomID, "!other:"+us), 404, "M_NOT_FOUND"},
			{roomID, strings.ReplaceAll(body, "m.room.member", "m.room.message"), 400, "M_INVALID_PARAM"},
			{roomID, strings.ReplaceAll(body, alice, bob), 403, "M_FORBIDDEN"},
			{roomID, strings.ReplaceAll(body, bob, alice), 403, "M_FORBIDDEN"},
			{roomID, strings.ReplaceAll(body, signed, "5"), 400, "M_INVALID_PARAM"},
			{roomID, `{}`, 400, "M_BAD_JSON"},
		} {
			a := p.ask(http.MethodPut, target(v1+"/exchange_third_party_invite", test.room), []byte(test.body))
			if a.status != test.status || a.errcode() != test.code {
				s.t.Errorf("%s: %v", test.body, a)
			}
		}
		s.setState(roomID, "m.room.server_acl", `{"allow":["`+us+`"]}`)
		if a := p.ask(http.MethodPut, target(v1+"/exchange_third_party_invite", roomID), []byte(body)); a.status != 403 {
			s.t.Errorf("a server that the room denies: %v", a)
		}
	})
}

// Nothing comes of what a stranger says of somebody's address, whichever of the two methods
// it is sent with.
func TestOnBindRefusals(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		invite := fmt.Sprintf(`{"medium":"email","address":"a@x","mxid":%q,"room_id":"!r:x","sender":%q,"signed":{"mxid":%q,"token":"t","signatures":{}}}`,
			alice, p.user("bob"), alice)
		body := func(invites string) []byte {
			return fmt.Appendf(nil, `{"medium":"email","address":"a@x","mxid":%q,"invites":[%s]}`, alice, invites)
		}
		for _, method := range []string{http.MethodPut, http.MethodPost} {
			p := p
			if method == http.MethodPost { // which only the identity service API has
				p = p.unchecked()
			}
			if a := p.send(method, v1+"/3pid/onbind", body(invite)); a.status != 403 || !strings.Contains(string(a.body), "identity_servers.allow") {
				s.t.Errorf("%s: %v", method, a)
			}
			if a := p.send(method, v1+"/3pid/onbind", body(strings.Repeat(invite+",", 50)+invite)); a.status != 413 {
				s.t.Errorf("%s of too many: %v", method, a)
			}
		}
		if n := p.asked.Load(); n != 0 {
			s.t.Errorf("the server that a stranger names is asked %d times", n)
		}
	})
}

// What the specification lets a server do without is refused as such.
func TestWhatIsNotServed(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		roomID := s.create(roomserver.RoomDraft{})
		for _, request := range []struct{ method, uri string }{
			{http.MethodGet, v1 + "/query/weather"}, {http.MethodGet, v1 + "/query"}, {http.MethodPost, "/_matrix/policy/v1/sign"},
			{http.MethodGet, target("/_matrix/federation/v2/make_join", roomID, p.user("bob"))},
		} {
			a := p.ask(request.method, request.uri, nil)
			if a.status != 404 || a.errcode() != matrix.Unrecognized.Code {
				s.t.Errorf("%s %s: %v", request.method, request.uri, a)
			}
		}
		if a := p.ask(http.MethodPost, target(v1+"/exchange_third_party_invite", roomID), map[string]any{}); a.status != 405 || a.errcode() != "M_UNRECOGNIZED" {
			s.t.Errorf("another method: %v", a)
		}
	})
}
