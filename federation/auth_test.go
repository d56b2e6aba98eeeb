package federation_test

import (
	"crypto/ed25519"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"beep/federation/xmatrix"
	"beep/matrix"
	"beep/web"
)

// unseeded is what a generator gives that nobody has seeded, as a deployment tool once
// made keys from (CVE-2026-24044).
func unseeded() []byte {
	seed := make([]byte, ed25519.SeedSize)
	rand.New(rand.NewSource(0)).Read(seed)
	return seed
}

// TestAuthentication: nothing is answered to whom the signature does not prove (F46, F48).
func TestAuthentication(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p, other := s.newPeer(1), s.newPeer(2)
		uri := v1 + "/query/profile?" + url.Values{"user_id": {alice}}.Encode()
		good := xmatrix.Sign(p.signer, us, http.MethodGet, uri, nil)
		sign := func(signer *matrix.Signer, destination, method, uri string) string {
			return xmatrix.Sign(signer, destination, method, uri, nil)
		}
		stranger := newSigner(p.name, 9) // the peer's name, with a key of his own
		known := s.newPeer(3)            // its key everybody has
		known.signer.Key = ed25519.NewKeyFromSeed(unseeded())
		for _, test := range []struct {
			name   string
			status int
			header []string
		}{
			{"right", 200, []string{good}},
			{"right without destination", 200, []string{sign(p.signer, "", http.MethodGet, uri)}},
			{"scheme in other letters", 200, []string{strings.Replace(good, "X-Matrix", "x-MATRIX", 1)}},
			{"none", 401, nil},
			{"empty", 401, []string{"X-Matrix "}},
			{"another scheme", 401, []string{"Bearer abc"}},
			{"another destination", 401, []string{sign(p.signer, "other.example", http.MethodGet, uri)}},
			{"destination changed", 401, []string{strings.Replace(sign(p.signer, "other.example", http.MethodGet, uri), "other.example", us, 1)}},
			{"destination in capitals", 401, []string{sign(p.signer, strings.ToUpper(us), http.MethodGet, uri)}},
			{"another method", 401, []string{sign(p.signer, us, http.MethodPut, uri)}},
			{"another path", 401, []string{sign(p.signer, us, http.MethodGet, uri+"&field=displayname")}},
			{"another key", 401, []string{sign(stranger, us, http.MethodGet, uri)}},
			{"another server's name", 401, []string{strings.Replace(good, p.name, other.name, 1)}},
			{"a key that everybody has", 401, []string{sign(known.signer, us, http.MethodGet, uri)}},
			{"our own name", 401, []string{sign(s.signer, us, http.MethodGet, uri)}},
			{"nobody's name", 401, []string{strings.Replace(good, p.name, "127.0.0.1:1", 1)}},
			{"no name", 400, []string{strings.Replace(good, p.name, "a b", 1)}},
			{"a port in letters", 400, []string{strings.Replace(good, p.name, "localhost:http", 1)}},
			{"no name of ours", 400, []string{strings.Replace(good, us, "a b", 1)}},
			{"an unknown key", 401, []string{strings.Replace(good, "ed25519:k", "ed25519:other", 1)}},
			{"twice", 401, []string{good, good}},
			{"a parameter twice", 401, []string{good + `,origin="` + other.name + `"`}},
			{"an open quote", 401, []string{good[:len(good)-1]}},
			{"long", 401, []string{good + `,x="` + strings.Repeat("a", 100_000) + `"`}},
		} {
			if a := p.send(http.MethodGet, uri, nil, test.header...); a.status != test.status {
				s.t.Errorf("%s: %v", test.name, a)
			}
		}
		if n := s.heard.Load(); n != 3 {
			s.t.Errorf("%d requests counted as signs of life, want those 3 that are signed", n)
		}
		p.client = http.DefaultClient // it is net/http that refuses the next one
		huge := p.send(http.MethodGet, uri, nil, good+`,x="`+strings.Repeat("a", 2<<20)+`"`)
		if huge.status != http.StatusRequestHeaderFieldsTooLarge {
			s.t.Errorf("2 MiB of header: %v", huge)
		}
	})
}

// TestSignedBody: the signature is about the body too, whatever spaces and order it has.
func TestSignedBody(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		uri := v1 + "/publicRooms"
		signed, err := matrix.CanonicalJSON([]byte(`{"limit":1,"filter":{"generic_search_term":"a"}}`), false)
		s.check(err)
		authorization := xmatrix.Sign(p.signer, us, http.MethodPost, uri, signed)
		for body, status := range map[string]int{
			string(signed): 200,
			`{ "limit" : 1,` + "\n\t" + `"filter":{"generic_search_term":"\u0061"}}`: 200,
			`{"limit":2,"filter":{"generic_search_term":"a"}}`:                       401,
			`{"limit":1,"filter":{"generic_search_term":"a"},"since":""}`:            401,
			`{}`: 401,
		} {
			if a := p.send(http.MethodPost, uri, []byte(body), authorization); a.status != status {
				s.t.Errorf("%s: %v", body, a)
			}
		}
		p.lax = true
		for _, body := range []string{`{"limit":1,"limit":1}`, `{"limit":NaN}`, `{"a":Infinity}`, `{"a":-Infinity}`, `{"a":"` + "\xff" + `"}`, `{"a":"\ud800"}`, `{"a":1}}`, `[`, `x`} {
			if a := p.ask(http.MethodPost, uri, []byte(body)); a.status != 400 {
				s.t.Errorf("%s: %v", body, a)
			}
		}
		if a := p.ask(http.MethodPost, uri, []byte(strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000))); a.status != 400 {
			s.t.Errorf("deep: %v", a)
		}
		if a := p.ask(http.MethodPost, uri, []byte(`{"a":"`+strings.Repeat("a", 2<<20)+`"}`)); a.status != 413 {
			s.t.Errorf("2 MiB: %v", a)
		}
	})
}

// TestBodyInPieces: a body may come without its length.
func TestBodyInPieces(t *testing.T) {
	eachServer(t, options{}, func(s *server) {
		p := s.newPeer(1)
		for size, status := range map[int]int{10: 200, 2 << 20: 413} {
			body := `{"limit":1,"x":"` + strings.Repeat("x", size) + `"}`
			uri := v1 + "/publicRooms"
			r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+uri, io.MultiReader(strings.NewReader(body)))
			s.check(err)
			r.Header.Set("Authorization", xmatrix.Sign(p.signer, us, http.MethodPost, uri, []byte(body)))
			resp, err := http.DefaultClient.Do(r)
			s.check(err)
			resp.Body.Close()
			if resp.StatusCode != status {
				s.t.Errorf("%d bytes: %s", size, resp.Status)
			}
		}
	})
}

// TestClosedFederation: a server outside is refused before anything is asked of it.
func TestClosedFederation(t *testing.T) {
	eachServer(t, options{allow: []string{"127.0.0.1:1", "*.gov.pk"}}, func(s *server) {
		p := s.newPeer(1)
		if a := p.get("/query/profile", url.Values{"user_id": {alice}}); a.status != 403 || a.errcode() != "M_FORBIDDEN" || p.asked.Load() != 0 {
			s.t.Errorf("%v; the keys were fetched %d times", a, p.asked.Load())
		}
		if a := p.get("/version", nil); a.status != 200 {
			s.t.Errorf("what needs no authentication: %v", a)
		}
	})
}

// TestRateLimit: each server has a limit of its own.
func TestRateLimit(t *testing.T) {
	rates := map[string]web.Rate{"federation": {PerSecond: 0.001, Burst: 3}, "other": {}}
	eachServer(t, options{rates: rates}, func(s *server) {
		p, other := s.newPeer(1), s.newPeer(2)
		for i := range 4 {
			a := p.get("/query/directory", url.Values{"room_alias": {"#a:" + us}})
			if (i < 3) != (a.status == 404) || i == 3 && a.status != 429 {
				s.t.Errorf("request %d: %v", i, a)
			}
		}
		if a := other.get("/query/directory", url.Values{"room_alias": {"#a:" + us}}); a.status != 404 {
			s.t.Errorf("another server: %v", a)
		}
		if a := p.get("/version", nil); a.status != 200 {
			s.t.Errorf("what needs no authentication: %v", a)
		}
	})
}
