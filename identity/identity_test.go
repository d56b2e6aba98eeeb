package identity_test

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"beep/identity"
	"beep/identity/identitytest"
	"beep/matrix"
	"beep/outbound"
	"beep/outbound/outboundtest"
	"beep/roomserver"
)

const alice = "@alice:hs.example"

// setUp starts an identity server that a client may ask.
func setUp(t *testing.T) (*identitytest.Server, *identity.Client, *roomserver.AddressQuery) {
	t.Helper()
	ca := outboundtest.NewCA(t)
	server := identitytest.New(t, ca)
	dialer, err := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CAFiles: []string{ca.File}})
	if err != nil {
		t.Fatal(err)
	}
	client := identity.New(identity.Options{Servers: []string{strings.ToUpper(server.Name), "other.example"}, Dialer: dialer, UserAgent: "test"})
	return server, client, &roomserver.AddressQuery{Server: server.Name, Token: identitytest.Token(alice), UserID: alice,
		Medium: "email", Address: "bob@example.org"}
}

// The identity server is asked about a hash, never about the address itself.
func TestLookup(t *testing.T) {
	server, client, q := setUp(t)
	server.Has("bob@example.org", "@bob:hs.example")
	if userID, err := client.Lookup(t.Context(), q); err != nil || userID != "@bob:hs.example" {
		t.Errorf("bob is %q, %v", userID, err)
	}
	q.Address = "nobody@example.org"
	if userID, err := client.Lookup(t.Context(), q); err != nil || userID != "" {
		t.Errorf("nobody is %q, %v", userID, err)
	}
	for _, r := range server.Requests() {
		if strings.Contains(r.Body, "example.org") {
			t.Errorf("it learned an address: %+v", r)
		}
	}
}

func TestStoreInvite(t *testing.T) {
	server, client, q := setUp(t)
	stored, err := client.StoreInvite(t.Context(), q, &roomserver.InvitedRoom{RoomID: "!r:hs.example", Name: "Planning"})
	if err != nil || stored.UserID != "" || stored.Token == "" || stored.DisplayName != "b…" || len(stored.Keys) != 1 {
		t.Fatalf("%+v, %v", stored, err)
	}
	if valid, err := client.KeyValid(t.Context(), stored.Keys[0]); err != nil || !valid {
		t.Errorf("the key is %v, %v", valid, err)
	}
	server.Revoke()
	if valid, err := client.KeyValid(t.Context(), stored.Keys[0]); err != nil || valid {
		t.Errorf("the revoked key is %v, %v", valid, err)
	}
	server.Has(q.Address, "@bob:hs.example")
	stored, err = client.StoreInvite(t.Context(), q, &roomserver.InvitedRoom{RoomID: "!r:hs.example"})
	if err != nil || stored.UserID != "@bob:hs.example" {
		t.Errorf("whose address it is by now: %+v, %v", stored, err)
	}
}

// Nothing goes to servers that the operator has not named, wherever their names come from.
func TestUntrusted(t *testing.T) {
	server, client, q := setUp(t)
	for _, name := range []string{"", "localhost", server.Name + "0", "x@" + server.Name, server.Name + "/x", "127.0.0.1"} {
		q.Server = name
		if _, err := client.Lookup(t.Context(), q); !errors.Is(err, matrix.ServerNotTrusted) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, address := range []string{"", "http://" + server.Name + "/x", "https://localhost/x", "https://u:p@" + server.Name + "/x",
		"https:" + server.Name, "//" + server.Name, "https://" + server.Name + "%00/"} {
		if _, err := client.KeyValid(t.Context(), roomserver.InviteKey{Key: "k", ValidityURL: address}); !errors.Is(err, matrix.ServerNotTrusted) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if n := len(server.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// What an identity server says wrongly is no word about the client's session (F55e), nor
// taken for an answer.
func TestHostileAnswers(t *testing.T) {
	const key, url = "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw", "https://other.example/valid"
	invite := func(token, name, keys string) string {
		return `{"token":"` + token + `","display_name":"` + name + `","public_keys":[` + keys + `]}`
	}
	oneKey := `{"public_key":"` + key + `","key_validity_url":"` + url + `"}`
	for _, c := range []struct {
		name, path string
		status     int
		body       string
		want       *matrix.Error
	}{
		{"another user's token", "/account", 200, `{"user_id":"@eve:hs.example"}`, matrix.Forbidden},
		{"an unknown token", "/account", 401, `{"errcode":"M_UNKNOWN_TOKEN","soft_logout":true}`, matrix.Forbidden},
		{"no terms accepted", "/account", 403, `{"errcode":"M_TERMS_NOT_SIGNED"}`, &matrix.Error{Status: 403, Code: "M_TERMS_NOT_SIGNED"}},
		{"no JSON", "/account", 200, `<html>`, matrix.Unknown},
		{"a list", "/account", 200, `[]`, matrix.Unknown},
		{"a code that is none", "/account", 400, `{"errcode":5}`, matrix.Unknown},
		{"a redirect", "/account", 302, ``, matrix.Unknown},
		{"too much", "/account", 200, `{"user_id":"` + strings.Repeat("x", 1<<20) + `"}`, matrix.Unknown},
		{"no hashes", "/hash_details", 200, `{"lookup_pepper":"x","algorithms":["none"]}`, matrix.Unknown},
		{"a pepper that never fits", "/hash_details", 200, `{"lookup_pepper":"x","algorithms":["sha256"]}`, matrix.Unknown},
		{"a user who is none", "/lookup", 200, `{"mappings":{"0yNk5zNcGztramtm71-A2dImBr8CxlePGOgBrnYgpoQ":"bob"}}`, matrix.Unknown},
		{"an unsupported medium", "/store-invite", 400, `{"errcode":"M_UNRECOGNIZED"}`, matrix.ThreepidMediumDenied},
		{"in use by nobody", "/store-invite", 400, `{"errcode":"M_THREEPID_IN_USE"}`, matrix.Unknown},
		{"a token that is none", "/store-invite", 200, invite("a/b", "b", oneKey), matrix.Unknown},
		{"no token", "/store-invite", 200, invite("", "b", oneKey), matrix.Unknown},
		{"a long name", "/store-invite", 200, invite("t", strings.Repeat("b", 2000), oneKey), matrix.Unknown},
		{"no keys", "/store-invite", 200, invite("t", "b", ""), matrix.Unknown},
		{"many keys", "/store-invite", 200, invite("t", "b", strings.Repeat(oneKey+",", 20)+oneKey), matrix.Unknown},
		{"a key that is none", "/store-invite", 200, invite("t", "b", `{"public_key":"AA","key_validity_url":"`+url+`"}`), matrix.Unknown},
		{"a key that is checked elsewhere", "/store-invite", 200, invite("t", "b", strings.Replace(oneKey, "other", "else", 1)), matrix.Unknown},
		{"what is right", "/store-invite", 200, invite("t", "b", oneKey), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client, q := setUp(t)
			server.Alter(c.path, identitytest.Answer{Status: c.status, Body: c.body})
			_, err := client.Lookup(t.Context(), q)
			if err == nil {
				_, err = client.StoreInvite(t.Context(), q, &roomserver.InvitedRoom{RoomID: "!r:hs.example"})
			}
			var told *matrix.Error
			errors.As(err, &told)
			switch {
			case c.want == nil && err != nil, c.want != nil && (told == nil || told.Code != c.want.Code):
				t.Errorf("%v", err)
			case told != nil && told.Status == http.StatusUnauthorized:
				t.Errorf("a client would believe to be logged out: %v", err)
			}
		})
	}
}

// What nobody knows the sender of counts by the signature of an identity server.
func TestVerify(t *testing.T) {
	server, client, _ := setUp(t)
	read := func(text string) *matrix.Signed {
		t.Helper()
		signed, err := matrix.ParseSigned([]byte(text), true)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	good := string(server.Sign(`{"mxid":"@bob:hs.example","token":"t"}`))
	if err := client.Verify(t.Context(), read(good)); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"other content":           strings.Replace(good, "bob", "eve", 1),
		"another server's name":   strings.Replace(good, server.Name, "evil.example", 1),
		"a key that is not known": strings.Replace(good, "ed25519:0", "ed25519:1", 1),
		"a path for a key":        strings.Replace(good, "ed25519:0", "ed25519:../../x", 1),
		"no signature":            `{"mxid":"@bob:hs.example","token":"t"}`,
	} {
		if err := client.Verify(t.Context(), read(text)); !errors.Is(err, matrix.Forbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range server.Requests() {
		if !strings.HasPrefix(r.Path, "/pubkey/ed25519:") || strings.Contains(r.Path, "..") {
			t.Errorf("it was asked %+v", r)
		}
	}
}
