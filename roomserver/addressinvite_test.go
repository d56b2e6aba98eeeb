package roomserver_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// identityServer is [roomserver.Identity] without a network: id.test is the one server.
type identityServer struct {
	signer  *matrix.Signer
	users   map[string]string
	revoked bool
	asked   int
	kept    []roomserver.InvitedRoom
}

func newIdentityServer() *identityServer {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = 77
	return &identityServer{users: map[string]string{}, signer: &matrix.Signer{ServerName: "id.test", KeyID: "ed25519:0", Key: ed25519.NewKeyFromSeed(seed)}}
}

func (s *identityServer) Trusted(server string) error {
	if server != "id.test" {
		return matrix.ServerNotTrusted
	}
	return nil
}

func (s *identityServer) Lookup(_ context.Context, q *roomserver.AddressQuery) (string, error) {
	s.asked++
	return s.users[q.Address], nil
}

func (s *identityServer) key() roomserver.InviteKey {
	return roomserver.InviteKey{Key: base64.RawURLEncoding.EncodeToString(s.signer.Key.Public().(ed25519.PublicKey)), ValidityURL: "https://id.test/valid"}
}

func (s *identityServer) StoreInvite(_ context.Context, q *roomserver.AddressQuery, room *roomserver.InvitedRoom) (*roomserver.StoredInvite, error) {
	s.kept = append(s.kept, *room)
	return &roomserver.StoredInvite{Token: fmt.Sprint("token", len(s.kept)), DisplayName: "for " + strings.ToUpper(q.Address), Keys: []roomserver.InviteKey{s.key()}}, nil
}

func (s *identityServer) KeyValid(_ context.Context, key roomserver.InviteKey) (bool, error) {
	return key == s.key() && !s.revoked, nil
}

func (s *identityServer) Verify(_ context.Context, signed *matrix.Signed) error {
	if !matrix.VerifySignature(s.signer.Key.Public().(ed25519.PublicKey), signed.Message, signed.Signatures["id.test"]["ed25519:0"]) {
		return matrix.Forbidden
	}
	return nil
}

func (s *identityServer) sign(t testing.TB, format string, args ...any) json.RawMessage {
	t.Helper()
	return must[[]byte](t)(s.signer.SignJSON(fmt.Appendf(nil, format, args...)))
}

// proof is what the identity server signs when a user has an address whose invite is kept.
func (s *identityServer) proof(t testing.TB, userID, token string) json.RawMessage {
	t.Helper()
	return s.sign(t, `{"mxid":%q,"token":%q}`, userID, token)
}

// inviteAddress invites an address, and gives the token of the invite.
func (p *peer) inviteAddress(roomID, sender, address string) string {
	p.net.t.Helper()
	err := p.rooms.InviteAddress(p.net.t.Context(), roomID, roomserver.AddressInvite{AddressQuery: roomserver.AddressQuery{
		Server: "id.test", Token: "secret", UserID: sender, Medium: "email", Address: address}})
	if err != nil {
		p.net.t.Fatal(err)
	}
	return fmt.Sprint("token", len(p.net.identity.kept))
}

func (p *peer) bind(userID string, invites ...roomserver.BoundInvite) error {
	return p.rooms.Bound(p.net.t.Context(), &roomserver.Binding{UserID: userID, Invites: invites})
}

// current is the content of a current state event; "" if there is none.
func (p *peer) current(roomID, eventType, stateKey string) string {
	p.net.t.Helper()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(p.net.t.Context(), roomID))
	entry, err := p.db.CurrentStateEvent(p.net.t.Context(), room.Number, eventType, stateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return ""
	} else if err != nil {
		p.net.t.Fatal(err)
	}
	return string(entry.Content)
}

// Somebody is invited by a mail address before they are on Matrix; when they are, they get
// the invite, at the inviting server, at another one, at one that is in the room already.
func TestInviteByAddress(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		for _, v := range matrix.RoomVersions() {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Version: v, Name: "Planning"})
				for _, guest := range []struct {
					at     *peer
					userID string
				}{{a, userOf("a", "bob")}, {b, userOf("b", "bob")}, {b, userOf("b", "carol")}} {
					token := a.inviteAddress(roomID, userOf("a", "alice"), "Somebody@example.org")
					net.deliver()
					const shown = `{"display_name":"…","key_validity_url":"https://id.test/valid",`
					if got := a.current(roomID, "m.room.third_party_invite", token); !strings.HasPrefix(got, shown) || strings.Contains(strings.ToLower(got), "somebody") {
						t.Errorf("the room is told %s", got)
					}
					proof := net.identity.proof(t, guest.userID, token)
					invite := roomserver.BoundInvite{UserID: guest.userID, RoomID: roomID, Sender: userOf("a", "alice"), Signed: proof}
					for range 2 { // an identity server may say it twice
						if err := guest.at.bind(guest.userID, invite); err != nil {
							t.Fatal(err)
						}
					}
					net.deliver()
					want := fmt.Sprintf(`{"membership":"invite","third_party_invite":{"display_name":"…","signed":%s}}`, proof)
					for _, p := range []*peer{a, guest.at} {
						if diff := cmp.Diff(want, p.current(roomID, "m.room.member", guest.userID)); diff != "" {
							t.Errorf("the invite of %s at %s (-want +got):\n%s", guest.userID, p.name, diff)
						}
					}
					if err := guest.at.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: guest.userID}); err != nil {
						t.Fatal(err)
					}
					net.deliver()
					// Who is in the room stays in it, whoever says the same again.
					if err := guest.at.bind(guest.userID, invite); err != nil {
						t.Fatal(err)
					}
					net.deliver()
					if got := a.membership(roomID, guest.userID); got != "join" {
						t.Errorf("at a %s is %s", guest.userID, got)
					}
				}
				net.agree(roomID, "a", "b")
			})
		}
		if kept := net.identity.kept[0]; kept.Name != "Planning" || kept.JoinRule != "invite" {
			t.Errorf("the mail says %+v", kept)
		}
	})
}

// Whose address is known is invited at once, as whoever invites knows the user.
func TestInviteByKnownAddress(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		net.identity.users["strauss@example.org"] = userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), InviteAddresses: []roomserver.AddressInvite{
			{AddressQuery: roomserver.AddressQuery{Server: "id.test", Token: "secret", Medium: "email", Address: "Strauß@Example.org"}}}})
		net.deliver()
		if got := b.membership(roomID, userOf("b", "bob")); got != "invite" || len(net.identity.kept) != 0 {
			t.Errorf("bob is %q, %d invites are kept", got, len(net.identity.kept))
		}
	})
}

// Who proves an address to be theirs when they join needs no other invite.
func TestJoinWithProof(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice")})
		token := a.inviteAddress(roomID, userOf("a", "alice"), "bob@example.org")
		for _, guest := range []*peer{a, b} {
			bob := "@bob:" + guest.name
			proof := net.identity.sign(t, `{"mxid":%q,"token":%q,"sender":"@alice:a.test"}`, bob, token)
			if err := guest.rooms.ProveAddress(t.Context(), roomID, userOf("a", "carol"), proof); !errors.Is(err, matrix.Forbidden) {
				t.Errorf("somebody else's proof: %v", err)
			}
			if err := guest.rooms.ProveAddress(t.Context(), roomID, bob, proof); err != nil {
				t.Fatal(err)
			}
			if err := guest.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: bob, Via: []string{"a.test"}}); err != nil {
				t.Error(err)
			}
		}
	})
}

// Nobody is invited by an address who may not be, and no identity server is asked then.
func TestInviteByAddressRefuses(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a := net.at("a")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		if err := a.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "bob")}); err != nil {
			t.Fatal(err)
		}
		right := roomserver.AddressQuery{Server: "id.test", Token: "secret", UserID: userOf("a", "alice"), Medium: "email", Address: "x@example.org"}
		for name, c := range map[string]struct {
			change func(q *roomserver.AddressQuery)
			want   *matrix.Error
		}{
			"a server that is not trusted": {func(q *roomserver.AddressQuery) { q.Server = "evil.test" }, matrix.ServerNotTrusted},
			"who is not in the room":       {func(q *roomserver.AddressQuery) { q.UserID = userOf("a", "carol") }, matrix.Forbidden},
			"who has not the power":        {func(q *roomserver.AddressQuery) { q.UserID = userOf("a", "bob") }, matrix.Forbidden},
			"a medium":                     {func(q *roomserver.AddressQuery) { q.Medium = "pigeon" }, matrix.ThreepidMediumDenied},
			"no address":                   {func(q *roomserver.AddressQuery) { q.Address = "example.org" }, matrix.InvalidParam},
			"a name with the address":      {func(q *roomserver.AddressQuery) { q.Address = "X <x@example.org>" }, matrix.InvalidParam},
			"a long address":               {func(q *roomserver.AddressQuery) { q.Address = strings.Repeat("x", 600) + "@example.org" }, matrix.InvalidParam},
			"a number with a plus":         {func(q *roomserver.AddressQuery) { q.Medium, q.Address = "msisdn", "+923001234567" }, matrix.InvalidParam},
			"a token of two lines":         {func(q *roomserver.AddressQuery) { q.Token = "a\nb" }, matrix.InvalidParam},
		} {
			q := right
			c.change(&q)
			if err := a.rooms.InviteAddress(t.Context(), roomID, roomserver.AddressInvite{AddressQuery: q}); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if net.identity.asked != 0 {
			t.Errorf("%d questions", net.identity.asked)
		}
	})
}

// A server that asks for the invite of its user gets nothing signed but what the user of
// this server wanted, with the proof (F22 to F25).
func TestExchangeRefuses(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a := net.at("a")
		for _, v := range []matrix.RoomVersion{"1", "11", "12"} {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Version: v, Invite: []string{userOf("a", "carol")}})
				token := a.inviteAddress(roomID, userOf("a", "alice"), "bob@example.org")
				signed := func(format string, args ...any) string { return string(net.identity.sign(t, format, args...)) }
				good := signed(`{"mxid":"@bob:b.test","token":%q}`, token)
				request := func(signed string, changes ...string) json.RawMessage {
					text := fmt.Sprintf(`{"type":"m.room.member","room_id":%q,"sender":"@alice:a.test","state_key":"@bob:b.test",
						"content":{"membership":"invite","third_party_invite":{"display_name":"x","signed":%s}}}`, roomID, signed)
					return json.RawMessage(strings.NewReplacer(changes...).Replace(text))
				}
				before := a.state(roomID)
				for name, c := range map[string]struct {
					origin string
					raw    json.RawMessage
					want   *matrix.Error
				}{
					"another type":           {"b.test", request(good, "m.room.member", "m.room.power_levels"), matrix.InvalidParam},
					"another membership":     {"b.test", request(good, `"invite"`, `"join"`), matrix.InvalidParam},
					"another room":           {"b.test", request(good, roomID, "!other:a.test"), matrix.InvalidParam},
					"another server's user":  {"c.test", request(good), matrix.Forbidden},
					"this server's user":     {"b.test", request(signed(`{"mxid":"@bob:a.test","token":%q}`, token), "@bob:b.test", "@bob:a.test"), matrix.Forbidden},
					"another server's name":  {"b.test", request(good, "@alice:a.test", "@alice:b.test"), matrix.Forbidden},
					"who did not invite":     {"b.test", request(good, "@alice:a.test", "@carol:a.test"), matrix.Forbidden},
					"another user's proof":   {"b.test", request(signed(`{"mxid":"@eve:b.test","token":%q}`, token)), matrix.Forbidden},
					"another invite's proof": {"b.test", request(signed(`{"mxid":"@bob:b.test","token":"none"}`)), matrix.Forbidden},
					"another sender's proof": {"b.test", request(signed(`{"mxid":"@bob:b.test","token":%q,"sender":"@eve:a.test"}`, token)), matrix.Forbidden},
					"more than a proof":      {"b.test", request(signed(`{"mxid":"@bob:b.test","token":%q,"more":1}`, token)), matrix.Forbidden},
					"a wrong signature":      {"b.test", request(strings.Replace(good, token, token+"0", 1)), matrix.Forbidden},
					"no proof":               {"b.test", request(`null`), matrix.InvalidParam},
					"many signatures":        {"b.test", request(`{"mxid":"@bob:b.test","token":"t","signatures":{"x":{"0":"","1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":""}}}`), matrix.InvalidParam},
					"a large proof":          {"b.test", request(`{"mxid":"@bob:b.test","token":"t","signatures":{"x":{"0":"` + strings.Repeat("A", 9000) + `"}}}`), matrix.InvalidParam},
					"no object":              {"b.test", json.RawMessage(`[]`), matrix.BadJSON},
					"members twice":          {"b.test", request(good, `"sender"`, `"type":"m.room.member","sender"`), matrix.BadJSON},
					"a name in capitals":     {"b.test", request(good, `"membership"`, `"Membership"`), matrix.InvalidParam},
				} {
					if err := a.rooms.Exchange(t.Context(), c.origin, roomID, c.raw); !errors.Is(err, c.want) {
						t.Errorf("%s: %v", name, err)
					}
				}
				if err := a.rooms.Exchange(t.Context(), "b.test", "!unknown:a.test", request(good, roomID, "!unknown:a.test")); !errors.Is(err, matrix.NotFound) {
					t.Errorf("an unknown room: %v", err)
				}
				net.identity.revoked = true
				if err := a.rooms.Exchange(t.Context(), "b.test", roomID, request(good)); !errors.Is(err, matrix.Forbidden) {
					t.Errorf("a revoked key: %v", err)
				}
				net.identity.revoked = false
				if diff := cmp.Diff(before, a.state(roomID)); diff != "" {
					t.Errorf("the room has changed:\n%s", diff)
				}
				// What else the request has does not come into the event.
				if err := a.rooms.Exchange(t.Context(), "b.test", roomID, request(good, `"membership"`, `"displayname":"Boss","membership"`)); err != nil {
					t.Fatal(err)
				}
				want := fmt.Sprintf(`{"membership":"invite","third_party_invite":{"display_name":"…","signed":%s}}`, good)
				if diff := cmp.Diff(want, a.current(roomID, "m.room.member", "@bob:b.test")); diff != "" {
					t.Errorf("the invite (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// Nobody knows who tells of a binding: without the signature of an identity server nothing
// comes of it, and no server is asked for anything (F55i).
func TestBindingRefuses(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice")})
		token := a.inviteAddress(roomID, userOf("a", "alice"), "bob@example.org")
		bob := userOf("b", "bob")
		right := roomserver.BoundInvite{UserID: bob, RoomID: roomID, Sender: userOf("a", "alice"), Signed: net.identity.proof(t, bob, token)}
		before := a.state(roomID)
		for name, change := range map[string]func(i *roomserver.BoundInvite){
			"unsigned": func(i *roomserver.BoundInvite) { i.Signed = json.RawMessage(`{"mxid":"@bob:b.test","token":"t"}`) },
			"signed by nobody": func(i *roomserver.BoundInvite) {
				i.Signed = json.RawMessage(strings.Replace(string(i.Signed), "id.test", "evil.test", 1))
			},
			"for another":            func(i *roomserver.BoundInvite) { i.UserID = userOf("b", "carol") },
			"another's proof":        func(i *roomserver.BoundInvite) { i.Signed = net.identity.proof(t, userOf("b", "carol"), token) },
			"a room that is none":    func(i *roomserver.BoundInvite) { i.RoomID = "" },
			"a sender who is none":   func(i *roomserver.BoundInvite) { i.Sender = "@alice" },
			"a server that is not":   func(i *roomserver.BoundInvite) { i.Sender = "@alice:nowhere.test" },
			"the server of the room": func(i *roomserver.BoundInvite) { i.RoomID, i.Sender = "!x:a.test", userOf("b", "alice") },
		} {
			invite := right
			change(&invite)
			if err := b.bind(bob, invite); err == nil {
				t.Errorf("%s is taken", name)
			}
		}
		for _, userID := range []string{"", "@bob:a.test", "@nobody:b.test"} {
			if err := b.bind(userID, right); err == nil {
				t.Errorf("%q is told of it", userID)
			}
		}
		if diff := cmp.Diff(before, a.state(roomID)); diff != "" {
			t.Errorf("the room has changed:\n%s", diff)
		}
		if err := b.bind(bob, right); err != nil {
			t.Error(err)
		}
	})
}
