package remote

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

// notary is a peer that tells the keys of others.
type notary struct {
	*keyServer
	answers atomic.Pointer[[]string]
	queries atomic.Int64
	last    atomic.Pointer[string]
}

func newNotary(t testing.TB, w *world, host string) *notary {
	n := &notary{keyServer: newKeyServer(t, w, host, 8)}
	n.mux.HandleFunc("POST /_matrix/key/v2/query", func(rw http.ResponseWriter, r *http.Request) {
		n.queries.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		text := string(body)
		n.last.Store(&text)
		fmt.Fprintf(rw, `{"server_keys":[%s]}`, strings.Join(*n.answers.Load(), ","))
	})
	n.tells()
	return n
}

func (n *notary) tells(answers ...string) { n.answers.Store(&answers) }

func (n *notary) pinned() Notary {
	return Notary{Server: n.name, Keys: map[string]ed25519.PublicKey{n.signer.KeyID: n.signer.Key.Public().(ed25519.PublicKey)}}
}

// dead is a server that nobody listens for.
func dead(host string, seed byte) *keyServer {
	name := host + ":1"
	return &keyServer{peer: &peer{name: name}, signer: newSigner(name, seed)}
}

func TestNotary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := newNotary(t, w, "notary.test")
	a, b := dead("a.test", 2), dead("b.test", 3)
	n.tells(`{"x":1}`, a.usual(w, day).text(t, a.signer, n.signer), b.usual(w, day).text(t, b.signer, n.signer))
	for name, one := range map[string]Notary{"with its keys known": n.pinned(), "with its keys fetched": {Server: n.name}} {
		ring := newRing(t, w, KeyRingOptions{Notaries: []Notary{dead("other-notary.test", 7).notary(), one}})
		before := n.queries.Load()
		claims := []matrix.Claim{claim(w, a.signer, hour, true), claim(w, b.signer, 2*hour, true), claim(w, a.signer, 3*hour, false)}
		if err := errors.Join(ring.Verify(t.Context(), claims)...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n.queries.Load()-before != 1 {
			t.Errorf("%s: %d queries", name, n.queries.Load()-before)
		}
		want := fmt.Sprintf(`{"server_keys":{"a.test:1":{"ed25519:k2":{"minimum_valid_until_ts":%d}},"b.test:1":{"ed25519:k3":{"minimum_valid_until_ts":%d}}}}`, claims[0].At, claims[1].At)
		if diff := cmp.Diff(want, *n.last.Load()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if n.asked.Load() != 1 {
		t.Errorf("the notary was asked for its own keys %d times", n.asked.Load())
	}
}

func (s *keyServer) notary() Notary {
	return Notary{Server: s.name, Keys: map[string]ed25519.PublicKey{"ed25519:x": s.signer.Key.Public().(ed25519.PublicKey)}}
}

// TestNotaryPoisoning: nothing but what is signed by both the server and the notary counts, and
// never against what is known (F47).
func TestNotaryPoisoning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := newNotary(t, w, "notary.test")
	victim := dead("victim.test", 2)
	evil := newSigner(victim.name, 3)
	evilAnswer := victim.usual(w, day)
	evilAnswer.VerifyKeys = map[string]keyEntry{evil.KeyID: entry(evil)}
	impostor := newSigner(n.name, 7)
	impostor.KeyID = n.signer.KeyID
	otherName := newSigner("other.test", 8)
	for name, answer := range map[string]string{
		"without the server's signature":          evilAnswer.text(t, n.signer),
		"without the notary's signature":          evilAnswer.text(t, evil),
		"with another key for the notary's":       evilAnswer.text(t, evil, impostor),
		"with the notary's key in another's name": evilAnswer.text(t, evil, otherName),
		"for a server that was not asked for": func() string {
			p, signer := evilAnswer, *evil
			p.Server, signer.ServerName = "somebody.test", "somebody.test"
			return p.text(t, &signer, n.signer)
		}(),
		"changed after the signatures": strings.Replace(evilAnswer.text(t, evil, n.signer), `"valid_until_ts":`, `"valid_until_ts":1`, 1),
	} {
		n.tells(answer)
		store := newShelf(t)
		ring := newRing(t, w, KeyRingOptions{Store: store, Notaries: []Notary{n.pinned()}})
		if err := ring.one(t, claim(w, evil, hour, true)); !errors.Is(err, matrix.ErrNoKey) || len(store.stored(t, evil.ServerName)) != 0 {
			t.Errorf("%s: %v, %d keys stored", name, err, len(store.stored(t, evil.ServerName)))
		}
	}
}

// TestNotaryReplacesNothing: a notary cannot replace or revive a key that the server itself has given (F47).
func TestNotaryReplacesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := newNotary(t, w, "notary.test")
	s := newKeyServer(t, w, "a.test", 2)
	old := newSigner(s.name, 3)
	answer := s.usual(w, day)
	answer.OldKeys = map[string]keyEntry{old.KeyID: {Key: entry(old).Key, Expired: w.now().Add(-10 * day).UnixMilli()}}
	s.says(answer.text(t, s.signer))
	ring := newRing(t, w, KeyRingOptions{Notaries: []Notary{n.pinned()}})
	if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
		t.Fatal(err)
	}
	s.status.Store(500)
	w.wait(2 * day)
	evil, late := newSigner(s.name, 4), newSigner(s.name, 5)
	evil.KeyID = s.signer.KeyID
	lie := s.usual(w, day)
	lie.VerifyKeys = map[string]keyEntry{evil.KeyID: entry(evil), old.KeyID: entry(old), late.KeyID: entry(late)}
	n.tells(lie.text(t, evil, n.signer))
	if err := ring.one(t, claim(w, late, 0, true)); err != nil || n.queries.Load() != 1 {
		t.Fatalf("a key that only the notary knows: %v", err)
	}
	for name, c := range map[string]matrix.Claim{
		"a replaced key": claim(w, evil, 3*hour, false), "an old key": claim(w, old, 0, true),
	} {
		if err := ring.one(t, c); err == nil {
			t.Errorf("%s holds", name)
		}
	}
	if err := ring.one(t, claim(w, s.signer, 2*day, true)); err != nil {
		t.Errorf("the server's key: %v", err)
	}
	// What the notary extends rightly is extended.
	s.says("")
	truth := s.usual(w, day)
	n.tells(truth.text(t, s.signer, n.signer))
	w.wait(askAgain)
	if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
		t.Errorf("the server's key, extended: %v", err)
	}
}

func TestNotaryBacksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := newNotary(t, w, "notary.test")
	a := dead("a.test", 2)
	ring := newRing(t, w, KeyRingOptions{Notaries: []Notary{n.pinned()}})
	for range 3 * asksInARow {
		if err := ring.one(t, claim(w, a.signer, 0, true)); !errors.Is(err, matrix.ErrNoKey) {
			t.Fatal(err)
		}
	}
	if n.queries.Load() != asksInARow {
		t.Errorf("%d queries", n.queries.Load())
	}
	n.tells(a.usual(w, day).text(t, a.signer, n.signer))
	w.wait(askAgain)
	if err := ring.one(t, claim(w, a.signer, 0, true)); err != nil || n.queries.Load() != asksInARow+1 {
		t.Errorf("a minute later: %v, %d queries", err, n.queries.Load())
	}
}

func TestManyServersInBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := newNotary(t, w, "notary.test")
	var claims []matrix.Claim
	var answers []string
	for i := range maxNotaryServers + 5 {
		s := dead(fmt.Sprintf("s%d.test", i), 2)
		claims = append(claims, claim(w, s.signer, hour, true))
		answers = append(answers, s.usual(w, day).text(t, s.signer, n.signer))
	}
	n.tells(answers...)
	errs := newRing(t, w, KeyRingOptions{Notaries: []Notary{n.pinned()}}).Verify(t.Context(), claims)
	if err := errors.Join(errs...); err != nil || n.queries.Load() != 2 {
		t.Errorf("%d queries, %v", n.queries.Load(), err)
	}
}
