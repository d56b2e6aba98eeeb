package remote

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// shelf is the database, which counts how often it is asked and fails when told to.
type shelf struct {
	*storage.DB
	loaded atomic.Int64
	fault  error
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	return &shelf{DB: storagetest.Open(t, storagetest.SQLiteURL(t))}
}

func (s *shelf) ServerKeys(ctx context.Context, servers []string) ([]matrix.ServerKey, error) {
	s.loaded.Add(1)
	if s.fault != nil {
		return nil, s.fault
	}
	return s.DB.ServerKeys(ctx, servers)
}

// stored is what the database has of a server.
func (s *shelf) stored(t testing.TB, server string) []matrix.ServerKey {
	t.Helper()
	keys, err := s.DB.ServerKeys(t.Context(), []string{server})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newRing(t testing.TB, w *world, o KeyRingOptions) *KeyRing {
	t.Helper()
	if o.Client == nil {
		o.Client = w.client
	}
	if o.Store == nil {
		o.Store = newShelf(t)
	}
	ring, err := NewKeyRing(o)
	if err != nil {
		t.Fatal(err)
	}
	ring.now = w.now
	return ring
}

// published is what a server says of its keys.
type published struct {
	Server     string              `json:"server_name"`
	VerifyKeys map[string]keyEntry `json:"verify_keys"`
	OldKeys    map[string]keyEntry `json:"old_verify_keys"`
	ValidUntil int64               `json:"valid_until_ts"`
}

type keyEntry struct {
	Key     string `json:"key"`
	Expired int64  `json:"expired_ts,omitempty"`
}

func entry(s *matrix.Signer) keyEntry {
	return keyEntry{Key: base64.RawStdEncoding.EncodeToString(s.Key.Public().(ed25519.PublicKey))}
}

// text is the answer, signed by all of these, each in its own name.
func (p published) text(t testing.TB, signers ...*matrix.Signer) string {
	t.Helper()
	text, err := json.Marshal(p)
	for _, s := range signers {
		if err == nil {
			text, err = s.SignJSON(text)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// keyServer is a peer that publishes keys.
type keyServer struct {
	*peer
	signer *matrix.Signer
	text   atomic.Pointer[string]
	asked  atomic.Int64
	status atomic.Int64
}

func newKeyServer(t testing.TB, w *world, host string, seed byte) *keyServer {
	t.Helper()
	s := &keyServer{peer: w.newPeer(t, host)}
	s.signer = newSigner(s.name, seed)
	s.mux.HandleFunc("/_matrix/key/v2/server", func(rw http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		rw.WriteHeader(int(s.status.Load()))
		io.WriteString(rw, *s.text.Load())
	})
	s.status.Store(200)
	s.says(s.usual(w, day).text(t, s.signer))
	return s
}

func (s *keyServer) says(text string) { s.text.Store(&text) }

// usual is an answer with the server's key, good for so long.
func (s *keyServer) usual(w *world, validity time.Duration) published {
	return published{Server: s.name, VerifyKeys: map[string]keyEntry{s.signer.KeyID: entry(s.signer)},
		ValidUntil: w.now().Add(validity).UnixMilli()}
}

// claim is a message that the signer signed, so long ago.
func claim(w *world, s *matrix.Signer, ago time.Duration, strict bool) matrix.Claim {
	message := fmt.Appendf(nil, `{"server":%q,"n":%d}`, s.ServerName, rand.Int())
	return matrix.Claim{Server: s.ServerName, Message: message, Signatures: map[string]string{s.KeyID: s.Sign(message)},
		At: w.now().Add(-ago).UnixMilli(), Strict: strict}
}

func (k *KeyRing) one(t testing.TB, c matrix.Claim) error {
	t.Helper()
	return k.Verify(t.Context(), []matrix.Claim{c})[0]
}

// TestVerify: a signature counts that its server has made. One with the key of a policy server
// is none of these, whoever has that key (F54).
func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "a.test", 2)
	ring := newRing(t, w, KeyRingOptions{})
	good := claim(w, s.signer, hour, true)
	bad := good
	bad.Message = []byte(`{}`)
	stranger := newSigner(s.name, 3) // the same name, another key
	forged := good
	forged.Signatures = map[string]string{s.signer.KeyID: stranger.Sign(good.Message)}
	unknownToo, unknownOnly, badToo := good, good, good
	unknownToo.Signatures = map[string]string{s.signer.KeyID: good.Signatures[s.signer.KeyID], "ed25519:other": "AAAA", "rsa:1": "x", "ed25519:policy_server": "x"}
	unknownOnly.Signatures = map[string]string{"ed25519:other": s.signer.Sign(good.Message)}
	badToo.Signatures = map[string]string{s.signer.KeyID: "AAAA", "ed25519:other": "AAAA"}
	unsigned, otherAlgorithm, policy := good, good, good
	unsigned.Signatures = nil
	otherAlgorithm.Signatures = map[string]string{"rsa:1": "x"}
	policy.Signatures = map[string]string{"ed25519:policy_server": s.signer.Sign(good.Message)}
	errs := ring.Verify(t.Context(), []matrix.Claim{good, bad, forged, unknownToo, unknownOnly, badToo, unsigned, otherAlgorithm, policy})
	for i, want := range []error{nil, matrix.ErrBadSignature, matrix.ErrBadSignature, nil, matrix.ErrNoKey, matrix.ErrBadSignature,
		matrix.ErrUnsigned, matrix.ErrUnsigned, matrix.ErrUnsigned} {
		if !errors.Is(errs[i], want) {
			t.Errorf("claim %d: %v, want %v", i, errs[i], want)
		}
	}
	if len(ring.Verify(t.Context(), nil)) != 0 {
		t.Error("errors of nothing")
	}
}

// TestOneLookUp: however many events of a server come, and however many callers want its keys, it is
// asked once.
func TestOneLookUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := newKeyServer(t, w, "a.test", 2), newKeyServer(t, w, "b.test", 3)
	store := newShelf(t)
	ring := newRing(t, w, KeyRingOptions{Store: store})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			var claims []matrix.Claim
			for range 25 {
				claims = append(claims, claim(w, a.signer, hour, true), claim(w, b.signer, hour, false))
			}
			if err := errors.Join(ring.Verify(t.Context(), claims)...); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if a.asked.Load() != 1 || b.asked.Load() != 1 {
		t.Errorf("asked %d and %d times", a.asked.Load(), b.asked.Load())
	}
	before := store.loaded.Load()
	if err := ring.one(t, claim(w, a.signer, 0, true)); err != nil || store.loaded.Load() != before {
		t.Errorf("a known key: %v, the store was read %d times", err, store.loaded.Load()-before)
	}
}

func TestUnsignedCostsNoLookUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "a.test", 2)
	ring := newRing(t, w, KeyRingOptions{})
	c := claim(w, s.signer, 0, true)
	c.Signatures = map[string]string{"ed25519:policy_server": "x", "rsa:1": "y"}
	future := claim(w, s.signer, -8*day, true)
	if err := ring.one(t, c); !errors.Is(err, matrix.ErrUnsigned) {
		t.Error(err)
	}
	if err := ring.one(t, future); !errors.Is(err, matrix.ErrNoKey) {
		t.Error(err)
	}
	if s.asked.Load() != 0 {
		t.Errorf("asked %d times", s.asked.Load())
	}
}

// TestPinned: of a server with pinned keys only those count, whatever it publishes, and it is not asked.
func TestPinned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := newKeyServer(t, w, "a.test", 2), newKeyServer(t, w, "b.test", 3)
	store := newShelf(t)
	old := newRing(t, w, KeyRingOptions{Store: store})
	if err := old.one(t, claim(w, a.signer, 0, true)); err != nil { // its own key is stored
		t.Fatal(err)
	}
	pinned := newSigner(a.name, 4)
	pinned.KeyID = "ed25519:pinned"
	ring := newRing(t, w, KeyRingOptions{Store: store, Pinned: func(server string) map[string]ed25519.PublicKey {
		if server != a.name {
			return nil
		}
		return map[string]ed25519.PublicKey{pinned.KeyID: pinned.Key.Public().(ed25519.PublicKey)}
	}})
	asked := a.asked.Load()
	forged := claim(w, a.signer, 0, true)
	forged.Signatures = map[string]string{pinned.KeyID: a.signer.Sign(forged.Message)}
	errs := ring.Verify(t.Context(), []matrix.Claim{claim(w, pinned, 0, true), claim(w, pinned, 1000*day, false), claim(w, a.signer, 0, true), forged, claim(w, b.signer, 0, true)})
	for i, want := range []error{nil, nil, matrix.ErrNoKey, matrix.ErrBadSignature, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("claim %d: %v, want %v", i, errs[i], want)
		}
	}
	if n := a.asked.Load() - asked; n != 0 {
		t.Errorf("the server with pinned keys was asked %d times", n)
	}
}

// TestValidity: a key proves what was signed in its time (F47).
func TestValidity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "a.test", 2)
	old := newSigner(s.name, 3)
	answer := s.usual(w, 365*day) // counts for seven days
	expired := entry(old)
	expired.Expired = w.now().Add(-10 * day).UnixMilli()
	answer.OldKeys = map[string]keyEntry{old.KeyID: expired}
	s.says(answer.text(t, s.signer))
	ring := newRing(t, w, KeyRingOptions{})
	for _, c := range []struct {
		name   string
		signer *matrix.Signer
		ago    time.Duration
		strict bool
		want   error
	}{
		{"now", s.signer, 0, true, nil},
		{"long ago", s.signer, 1000 * day, true, nil},
		{"in six days", s.signer, -6 * day, true, nil},
		{"in eight days", s.signer, -8 * day, true, matrix.ErrNoKey},
		{"in eight days, in an old room version", s.signer, -8 * day, false, nil},
		{"the old key in its time", old, 11 * day, true, nil},
		{"the old key after its time", old, 9 * day, true, matrix.ErrNoKey},
		{"the old key after its time, in an old room version", old, 9 * day, false, matrix.ErrNoKey},
		{"the old key for a request", old, 0, true, matrix.ErrNoKey},
	} {
		if err := ring.one(t, claim(w, c.signer, c.ago, c.strict)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	// A week later nothing of today's is vouched for; the server is asked, and says the same.
	w.wait(8 * day)
	s.says(s.usual(w, -7*day).text(t, s.signer))
	if err := ring.one(t, claim(w, s.signer, 0, true)); !errors.Is(err, matrix.ErrNoKey) || s.asked.Load() != 2 {
		t.Errorf("a key whose time is over: %v, asked %d times", err, s.asked.Load())
	}
	s.says(s.usual(w, day).text(t, s.signer))
	w.wait(askAgain)
	if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
		t.Errorf("a key that was extended: %v", err)
	}
}

// TestRotation: a key that its server has given up proves nothing that came later (F47).
func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "a.test", 2)
	store := newShelf(t)
	ring := newRing(t, w, KeyRingOptions{Store: store})
	if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
		t.Fatal(err)
	}
	first := s.signer
	before := claim(w, first, 0, true)
	w.wait(hour)
	second := newSigner(s.name, 3)
	s.signer = second
	answer := s.usual(w, day)
	s.says(answer.text(t, second)) // the first key is gone, and not among the old ones either
	if err := ring.one(t, claim(w, second, 0, true)); err != nil {
		t.Fatalf("the new key: %v", err)
	}
	for _, ring := range []*KeyRing{ring, newRing(t, w, KeyRingOptions{Store: store})} {
		if err := ring.one(t, before); err != nil {
			t.Errorf("an event of before: %v", err)
		}
		w.wait(time.Minute)
		if err := ring.one(t, claim(w, first, 0, true)); !errors.Is(err, matrix.ErrNoKey) {
			t.Errorf("the first key after its end: %v", err)
		}
	}
	// The same id with another key: what the server itself says now counts.
	third := newSigner(s.name, 4)
	third.KeyID = second.KeyID
	s.signer = third
	w.wait(2 * day)
	s.says(s.usual(w, day).text(t, third))
	if err := ring.one(t, claim(w, third, 0, true)); err != nil {
		t.Errorf("a key replaced under its id: %v", err)
	}
}

// TestFaultyKeyAnswers: keys count that their server has signed, and that it alone can sign
// with (F46, F47).
func TestFaultyKeyAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "a.test", 2)
	other := newSigner("b.test", 3)
	compromisedSeed := make([]byte, ed25519.SeedSize)
	rand.New(rand.NewSource(0)).Read(compromisedSeed)
	known := &matrix.Signer{ServerName: s.name, KeyID: "ed25519:ess", Key: ed25519.NewKeyFromSeed(compromisedSeed)}
	vectorSeed, err := matrix.DecodeBase64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
	if err != nil {
		t.Fatal(err)
	}
	vector := &matrix.Signer{ServerName: s.name, KeyID: "ed25519:1", Key: ed25519.NewKeyFromSeed(vectorSeed)}
	configured := newSigner(s.name, 9)
	with := func(change func(*published)) published {
		p := s.usual(w, day)
		change(&p)
		return p
	}
	only := func(signer *matrix.Signer) published {
		return with(func(p *published) { p.VerifyKeys = map[string]keyEntry{signer.KeyID: entry(signer)} })
	}
	good := s.usual(w, day).text(t, s.signer)
	weak := base64.RawStdEncoding.EncodeToString(append([]byte{1}, make([]byte, 31)...))
	for i, c := range []struct {
		name string
		text string
		by   *matrix.Signer // whose signature must not hold
	}{
		{"not JSON", `x`, s.signer}, {"empty", ``, s.signer}, {"a list", `[]`, s.signer}, {"null", `null`, s.signer},
		{"unsigned", s.usual(w, day).text(t), s.signer},
		{"signed by another", s.usual(w, day).text(t, other), s.signer},
		{"a wrong signature", strings.Replace(good, `"valid_until_ts":`, `"valid_until_ts":1`, 1), s.signer},
		{"for another server", with(func(p *published) { p.Server = other.ServerName }).text(t, &matrix.Signer{ServerName: other.ServerName, KeyID: s.signer.KeyID, Key: s.signer.Key}), s.signer},
		{"signed with an old key only", with(func(p *published) {
			p.OldKeys = map[string]keyEntry{s.signer.KeyID: {Key: entry(s.signer).Key, Expired: w.now().Add(day).UnixMilli()}}
			p.VerifyKeys = map[string]keyEntry{"ed25519:x": entry(other)}
		}).text(t, s.signer), s.signer},
		{"10 MB", good[:len(good)-1] + `,"x":"` + strings.Repeat("x", 10<<20) + `"}`, s.signer},
		{"twice a member", good[:len(good)-1] + `,"valid_until_ts":9007199254740991}`, s.signer},
		{"no valid_until_ts", `{"server_name":"` + s.name + `"}`, s.signer},
		{"a compromised key", only(known).text(t, known), known},
		{"the key of the test vectors", only(vector).text(t, vector), vector},
		{"a key that is configured as compromised", only(configured).text(t, configured), configured},
		{"a key of another length", with(func(p *published) { p.VerifyKeys[s.signer.KeyID] = keyEntry{Key: "AAAA"} }).text(t, s.signer), s.signer},
		{"a weak key", with(func(p *published) { p.VerifyKeys = map[string]keyEntry{s.signer.KeyID: {Key: weak}} }).text(t, s.signer), s.signer},
		{"a key that is no string", strings.Replace(good, entry(s.signer).Key+`"`, `"`, 1), s.signer},
	} {
		store := newShelf(t)
		ring := newRing(t, w, KeyRingOptions{Store: store, Compromised: []ed25519.PublicKey{configured.Key.Public().(ed25519.PublicKey)}})
		s.says(c.text)
		if err := ring.one(t, claim(w, c.by, hour, true)); !errors.Is(err, matrix.ErrNoKey) {
			t.Errorf("%d %s: %v", i, c.name, err)
		}
		if n := len(store.stored(t, s.name)); n != 0 {
			t.Errorf("%d %s: %d keys were stored", i, c.name, n)
		}
		s.says(good)
		w.wait(askAgain)
		if err := ring.one(t, claim(w, s.signer, hour, true)); err != nil {
			t.Errorf("%d %s, afterwards: %v", i, c.name, err)
		}
	}
	if !Compromised(known.Key.Public().(ed25519.PublicKey)) || Compromised(s.signer.Key.Public().(ed25519.PublicKey)) {
		t.Error("Compromised does not know which keys are")
	}
}

// TestStoredCompromisedKey: a key that was stored before it was known to be compromised (F46).
func TestStoredCompromisedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSigner("down.test:1", 2)
	public := s.Key.Public().(ed25519.PublicKey)
	store := newShelf(t)
	if err := store.SaveServerKeys(t.Context(), []matrix.ServerKey{{Server: s.ServerName, ID: s.KeyID, Key: public, ValidUntil: w.now().Add(day).UnixMilli()}}); err != nil {
		t.Fatal(err)
	}
	if err := newRing(t, w, KeyRingOptions{Store: store}).one(t, claim(w, s, 0, true)); err != nil {
		t.Errorf("a stored key: %v", err)
	}
	banning := newRing(t, w, KeyRingOptions{Store: store, Compromised: []ed25519.PublicKey{public}})
	if err := banning.one(t, claim(w, s, 0, true)); !errors.Is(err, matrix.ErrNoKey) {
		t.Errorf("a key that was found out: %v", err)
	}
}

// TestKeyLookUpsBackOff: a server that fails is asked for its keys less and less often (F52).
func TestKeyLookUpsBackOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "down.test", 2)
	s.status.Store(503)
	ring := newRing(t, w, KeyRingOptions{})
	for i, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		err := ring.one(t, claim(w, s.signer, 0, true))
		if _, ok := errors.AsType[*PeerError](err); !ok || !errors.Is(err, matrix.ErrNoKey) {
			t.Fatalf("%v", err)
		}
		w.wait(wait - 10*time.Second)
		ring.one(t, claim(w, s.signer, 0, true))
		if n := s.asked.Load(); n != int64(i+1) {
			t.Fatalf("after %d failures it is asked within %s", n-1, wait)
		}
		w.wait(20 * time.Second)
	}
	s.status.Store(200)
	if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
		t.Errorf("back again: %v", err)
	}
}

// TestMadeUpKeys: nobody can make this server flood another one (F52).
func TestMadeUpKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "victim.test", 2)
	ring := newRing(t, w, KeyRingOptions{})
	for i := range 100 {
		c := claim(w, s.signer, 0, true)
		c.Signatures = map[string]string{fmt.Sprint("ed25519:", i): "AAAA"}
		if err := ring.one(t, c); !errors.Is(err, matrix.ErrNoKey) {
			t.Fatal(err)
		}
	}
	if n := s.asked.Load(); n != asksInARow {
		t.Errorf("asked %d times", n)
	}
	s.signer = newSigner(s.name, 5)
	s.says(s.usual(w, day).text(t, s.signer))
	w.wait(askAgain)
	for range 2 {
		if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
			t.Errorf("a new key a minute later: %v", err)
		}
	}
	c := claim(w, s.signer, 0, true)
	c.Signatures = map[string]string{"ed25519:x": "AAAA"}
	if ring.one(t, c); s.asked.Load() != asksInARow+1 {
		t.Errorf("a minute gives back more than one question: asked %d times", s.asked.Load())
	}
}

// TestNewKeysAtOnce: a server that changes its key just after it was asked is believed at once.
func TestNewKeysAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "a.test", 2)
	ring := newRing(t, w, KeyRingOptions{})
	for seed := range byte(asksInARow) {
		s.signer = newSigner(s.name, 10+seed)
		s.says(s.usual(w, day).text(t, s.signer))
		if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
			t.Errorf("key %d: %v", seed, err)
		}
	}
}

func TestKeysAreStored(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t)
		s := newKeyServer(t, w, "a.test", 2)
		store := &shelf{DB: db}
		if err := newRing(t, w, KeyRingOptions{Store: store}).one(t, claim(w, s.signer, 0, true)); err != nil {
			t.Fatal(err)
		}
		s.server.Close()
		ring := newRing(t, w, KeyRingOptions{Store: store})
		if err := ring.one(t, claim(w, s.signer, 0, true)); err != nil {
			t.Errorf("after a restart: %v", err)
		}
		keys := store.stored(t, s.name)
		if len(keys) != 1 || keys[0].ID != s.signer.KeyID || keys[0].ValidUntil == 0 || keys[0].Fetched == 0 ||
			!keys[0].Key.Equal(s.signer.Key.Public()) || !strings.Contains(string(keys[0].Response), entry(s.signer).Key) {
			t.Errorf("stored is %+v", keys)
		}
		store.fault = errors.New("the disk is full")
		errs := newRing(t, w, KeyRingOptions{Store: store}).Verify(t.Context(), []matrix.Claim{claim(w, s.signer, 0, true)})
		if !errors.Is(errs[0], store.fault) {
			t.Errorf("a store that fails: %v", errs[0])
		}
	})
}

// TestHostileNames: no name makes the store fail for all the others.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t)
		s := newKeyServer(t, w, "a.test", 2)
		answer := s.usual(w, day)
		for _, id := range []string{"ed25519:\x00", "ed25519:a b", "ed25519:\u202e", "ed25519:", "ed25519:" + strings.Repeat("x", maxKeyID), "rsa:1", ""} {
			answer.VerifyKeys[id] = entry(newSigner("x", 3))
		}
		s.says(answer.text(t, s.signer))
		claims := []matrix.Claim{claim(w, s.signer, 0, true)}
		for _, name := range []string{"", "\x00", "a\x00.test", "\xff", "x/y", strings.Repeat("x", 500)} {
			signer := *s.signer
			signer.ServerName = name
			claims = append(claims, claim(w, &signer, 0, true))
		}
		store := &shelf{DB: db}
		for i, err := range newRing(t, w, KeyRingOptions{Store: store}).Verify(t.Context(), claims) {
			if want := i == 0; (err == nil) != want || !want && !errors.Is(err, matrix.ErrNoKey) {
				t.Errorf("%q: %v", claims[i].Server, err)
			}
		}
		if keys := store.stored(t, s.name); len(keys) != 1 {
			t.Errorf("stored are %+v", keys)
		}
	})
}

func TestOwnKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now, old := newSigner(us, 1), newSigner(us, 2)
	ring := newRing(t, w, KeyRingOptions{Own: []matrix.ServerKey{
		{Server: us, ID: now.KeyID, Key: now.Key.Public().(ed25519.PublicKey)},
		{Server: us, ID: old.KeyID, Key: old.Key.Public().(ed25519.PublicKey), Expired: w.now().Add(-day).UnixMilli()},
	}})
	errs := ring.Verify(t.Context(), []matrix.Claim{
		claim(w, now, 0, true), claim(w, old, 2*day, true), claim(w, old, 0, true), claim(w, newSigner(us, 3), 0, true),
	})
	for i, want := range []error{nil, nil, matrix.ErrNoKey, matrix.ErrNoKey} {
		if !errors.Is(errs[i], want) {
			t.Errorf("claim %d: %v", i, errs[i])
		}
	}
	if w.dns.Asked(us) != 0 {
		t.Error("this server looks for itself")
	}
}

func TestVerifyEndsWithTheContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "hanging.test")
	arrived := make(chan struct{}, 1)
	p.mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	ring := newRing(t, w, KeyRingOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	errs := ring.Verify(ctx, []matrix.Claim{claim(w, newSigner(p.name, 2), 0, true)})
	if !errors.Is(errs[0], context.Canceled) {
		t.Errorf("%v", errs[0])
	}
	// That somebody gave up says nothing about the server.
	if of, ok := ring.servers.Get(p.name); !ok || of.direct.failures != 0 {
		t.Errorf("%+v", of)
	}
}

func TestMemoryOfOneServerIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "many.test", 2)
	answer := s.usual(w, day)
	answer.OldKeys = map[string]keyEntry{}
	for i := range 400 {
		answer.OldKeys[fmt.Sprint("ed25519:o", i)] = keyEntry{Key: entry(newSigner("x", byte(i%200+3))).Key, Expired: 5}
	}
	s.says(answer.text(t, s.signer))
	ring := newRing(t, w, KeyRingOptions{})
	ring.one(t, claim(w, s.signer, 0, true))
	if of, ok := ring.servers.Get(s.name); !ok || len(of.keys) != maxServerKeys {
		t.Errorf("%d keys in memory", len(of.keys))
	}
}

func TestClosedFederationAsksNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "outside.test", 2)
	shut := errors.New("not on the list")
	client := w.newClient(t, Options{Gate: func(context.Context, string) error { return shut }})
	err := newRing(t, w, KeyRingOptions{Client: client}).one(t, claim(w, s.signer, 0, true))
	if !errors.Is(err, shut) || !errors.Is(err, matrix.ErrNoKey) || s.asked.Load() != 0 {
		t.Errorf("%v, asked %d times", err, s.asked.Load())
	}
}

func TestPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newKeyServer(t, w, "a.test", 2)
	foreign := newSigner("foreign.test", 6)
	s.says(s.usual(w, day).text(t, s.signer, foreign))
	ring := newRing(t, w, KeyRingOptions{})
	ask := func(until time.Duration, keys ...string) []string {
		t.Helper()
		answers, err := ring.Published(t.Context(), map[string]Wanted{s.name: {keys, w.now().Add(until).UnixMilli()}, "dead.test:1": {}})
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{}
		for _, answer := range answers {
			texts = append(texts, string(answer))
		}
		return texts
	}
	texts := ask(0)
	if len(texts) != 1 || strings.Contains(texts[0], "foreign.test") {
		t.Fatalf("%q", texts)
	}
	if _, err := readServerKeys([]byte(texts[0]), nil, w.now()); err != nil {
		t.Error(err)
	}
	w.wait(11 * hour)
	if ask(hour); s.asked.Load() != 1 {
		t.Errorf("in the first half of its life the answer is fetched again")
	}
	if ask(20 * hour); s.asked.Load() != 2 {
		t.Errorf("an answer that is not good for long enough is not fetched again")
	}
	w.wait(7 * hour)
	first := s.signer.KeyID
	s.signer = newSigner(s.name, 3)
	s.says(s.usual(w, day).text(t, s.signer))
	if texts := ask(0); len(texts) != 2 || s.asked.Load() != 3 {
		t.Errorf("%d answers, asked %d times", len(texts), s.asked.Load())
	}
	if texts := ask(0, first); len(texts) != 1 || !strings.Contains(texts[0], first) {
		t.Errorf("asked for the first key it answers %q", texts)
	}
	s.signer = newSigner(s.name, 4)
	s.says(s.usual(w, day).text(t, s.signer))
	before := s.asked.Load()
	if texts := ask(0, s.signer.KeyID); len(texts) != 1 || s.asked.Load() != before+1 {
		t.Errorf("asked for a key that is new it answers %q", texts)
	}
	if ask(0, s.signer.KeyID); s.asked.Load() != before+1 {
		t.Error("a key that is known is fetched again")
	}
	s.server.Close()
	w.wait(2 * day)
	if texts := ask(0); len(texts) != 3 {
		t.Errorf("of a server that is gone: %d answers", len(texts))
	}
	many := map[string]Wanted{}
	for i := range maxNotaryServers + 1 {
		many[fmt.Sprint("s", i)] = Wanted{}
	}
	if _, err := ring.Published(t.Context(), many); !errors.Is(err, matrix.TooLarge) {
		t.Errorf("too many servers: %v", err)
	}
}

func FuzzServerKeys(f *testing.F) {
	signer := newSigner("a.test", 2)
	p := published{Server: "a.test", VerifyKeys: map[string]keyEntry{signer.KeyID: entry(signer)}, ValidUntil: 1 << 50}
	f.Add([]byte(p.text(f, signer)))
	f.Add([]byte(`{"server_name":"a","verify_keys":{"ed25519:1":{"key":5}},"old_verify_keys":[],"signatures":{"a":{}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		answer, err := readServerKeys(text, nil, time.Now())
		if err != nil {
			return
		}
		again, err := readServerKeys(answer.response, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(answer.keys)), slices.Sorted(maps.Keys(again.keys))); diff != "" {
			t.Error(diff)
		}
	})
}

// BenchmarkVerifyCached is a transaction of 50 events of five servers whose keys are known.
func BenchmarkVerifyCached(b *testing.B) {
	w := newWorld(b)
	var claims []matrix.Claim
	var stored []matrix.ServerKey
	for i := range 5 {
		s := newSigner(fmt.Sprintf("s%d.test", i), byte(i+2))
		stored = append(stored, matrix.ServerKey{Server: s.ServerName, ID: s.KeyID, Key: s.Key.Public().(ed25519.PublicKey), ValidUntil: w.now().Add(day).UnixMilli()})
		for range 10 {
			c := claim(w, s, 0, true)
			c.Message = append(c.Message, strings.Repeat(" ", 900)...)
			c.Signatures[s.KeyID] = s.Sign(c.Message)
			claims = append(claims, c)
		}
	}
	store := newShelf(b)
	if err := store.SaveServerKeys(b.Context(), stored); err != nil {
		b.Fatal(err)
	}
	ring := newRing(b, w, KeyRingOptions{Store: store})
	for b.Loop() {
		if err := errors.Join(ring.Verify(b.Context(), claims)...); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequest is a signed request to another server and its answer.
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b)
	p := w.newPeer(b, "peer.test")
	p.answer("/", http.StatusOK, `{"pdus":{}}`)
	pdus := []json.RawMessage{json.RawMessage(`{"content":{"body":"` + strings.Repeat("x", 900) + `"}}`)}
	for b.Loop() {
		if _, err := w.client.SendTransaction(b.Context(), p.name, &Transaction{ID: "1", PDUs: pdus}); err != nil {
			b.Fatal(err)
		}
	}
}
