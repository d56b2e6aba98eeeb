package remote

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"beep/matrix"
)

// Store keeps the keys of other servers.
type Store interface {
	// ServerKeys gives the keys that are stored of the servers, in any order.
	ServerKeys(ctx context.Context, servers []string) ([]matrix.ServerKey, error)
	// SaveServerKeys stores keys, each in the place of the one of that server with that
	// id. A key without Response leaves the Response that is stored as it is.
	SaveServerKeys(ctx context.Context, keys []matrix.ServerKey) error
}

// Notary is a server that is trusted to tell the keys of others.
type Notary struct {
	Server string
	// Keys are its own keys by id. If there are none, it is asked for them.
	Keys map[string]ed25519.PublicKey
}

// KeyRingOptions are what a [KeyRing] needs.
type KeyRingOptions struct {
	Client *Client
	Store  Store
	// Own are this server's keys, those of former times with Expired.
	Own []matrix.ServerKey
	// Notaries are asked for keys that their server does not give. Usually there are none.
	Notaries []Notary
	// Compromised are keys that prove nothing, beside those that are known to all.
	Compromised []ed25519.PublicKey
	// Pinned gives the only keys, by id, that count for a server, at all times; nil if it
	// may have any. It may be nil, and its answers may change.
	Pinned func(server string) map[string]ed25519.PublicKey
	// Logger takes what goes wrong with the store; nil discards it.
	Logger *slog.Logger
}

const (
	// maxKeyServers bounds the servers whose keys are in memory.
	maxKeyServers = 4096
	// maxServerKeys bounds the keys of one of them.
	maxServerKeys = 64
	// fetchTimeout bounds the search for the missing keys of one call.
	fetchTimeout = time.Minute
	// fetchesAtOnce bounds the servers that one call asks at the same time.
	fetchesAtOnce = 64
)

// KeyRing knows the keys of servers and checks signatures. It is safe for concurrent use.
type KeyRing struct {
	client   *Client
	store    Store
	notaries []Notary
	own      *known
	banned   map[string]bool // by the keys' bytes
	pinned   func(server string) map[string]ed25519.PublicKey
	logger   *slog.Logger
	now      func() time.Time
	turns    *turns
	servers  *lru.Cache[string, *known]
}

// known is what is known of one server. It is never changed, only replaced.
type known struct {
	keys     map[string]matrix.ServerKey // by id; without the responses
	direct   attempts                    // to ask the server
	notaries map[string]attempts         // to ask notaries about it, by their names
}

// attempts tell when to ask again.
type attempts struct {
	failures int // in a row
	next     time.Time
	spent    time.Time // with nothing asked until then, all questions in a row are free again
	fault    error     // of the last one
}

// NewKeyRing makes a key ring.
func NewKeyRing(o KeyRingOptions) (*KeyRing, error) {
	servers, err := lru.New[string, *known](maxKeyServers)
	if err != nil {
		return nil, err
	}
	k := &KeyRing{client: o.Client, store: o.Store, notaries: o.Notaries, logger: o.Logger, now: time.Now,
		turns: newTurns(), servers: servers, banned: compromised(o.Compromised), pinned: o.Pinned}
	if k.logger == nil {
		k.logger = slog.New(slog.DiscardHandler)
	}
	if k.pinned == nil {
		k.pinned = func(string) map[string]ed25519.PublicKey { return nil }
	}
	k.own = &known{keys: map[string]matrix.ServerKey{}}
	for _, key := range o.Own {
		if key.Expired == 0 {
			key.ValidUntil = math.MaxInt64
		}
		k.own.keys[key.ID] = key
	}
	return k, nil
}

// Verify checks claims: the error of each is nil if the server signed the message with a
// key that was its own at the time, otherwise [matrix.ErrUnsigned], [matrix.ErrNoKey],
// [matrix.ErrBadSignature], or what the store or the context says. All of the server's
// signatures by known keys have to be right ("Validating hashes and signatures on
// received events"). Keys that are missing are fetched: once for all claims about a
// server, and for all callers who want them at the same time.
func (k *KeyRing) Verify(ctx context.Context, claims []matrix.Claim) []error {
	errs := make([]error, len(claims))
	names := make([]string, len(claims))
	for i := range claims {
		names[i] = claims[i].Server
	}
	servers, err := k.load(ctx, names)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	if missing := k.missing(claims, servers); len(missing) > 0 {
		k.fetch(ctx, missing, servers)
	}
	k.checkAll(claims, servers, errs)
	if ctx.Err() != nil {
		for i := range errs {
			if errs[i] != nil {
				errs[i] = context.Cause(ctx)
			}
		}
	}
	return errs
}

// load gives what is known of the servers, from memory or from the store.
func (k *KeyRing) load(ctx context.Context, names []string) (map[string]*known, error) {
	servers := map[string]*known{}
	var absent []string
	for _, server := range names {
		if _, seen := servers[server]; seen {
			continue
		}
		of, ok := k.servers.Get(server)
		switch {
		case server == k.client.ServerName():
			of = k.own
		case !matrix.ValidServerName(server):
			of = &known{}
		case !ok:
			of = &known{}
			absent = append(absent, server)
		}
		servers[server] = of
	}
	if len(absent) == 0 {
		return servers, nil
	}
	stored, err := k.store.ServerKeys(ctx, absent)
	if err != nil {
		return nil, err
	}
	for server, keys := range k.group(stored) {
		servers[server] = &known{keys: keys}
	}
	for _, server := range absent {
		// Another call may have been faster, and know more by now.
		if of, ok, _ := k.servers.PeekOrAdd(server, servers[server]); ok {
			servers[server] = of
		}
	}
	return servers, nil
}

// group puts stored keys in order, without those that have been found out.
func (k *KeyRing) group(stored []matrix.ServerKey) map[string]map[string]matrix.ServerKey {
	servers := map[string]map[string]matrix.ServerKey{}
	for _, key := range stored {
		if k.banned[string(key.Key)] {
			continue
		}
		if servers[key.Server] == nil {
			servers[key.Server] = map[string]matrix.ServerKey{}
		}
		key.Response = nil
		servers[key.Server][key.ID] = key
	}
	for _, keys := range servers {
		bound(keys)
	}
	return servers
}

// missing gives, by server, the claims that no key can decide yet.
func (k *KeyRing) missing(claims []matrix.Claim, servers map[string]*known) map[string][]*matrix.Claim {
	missing := map[string][]*matrix.Claim{}
	for i := range claims {
		claim := &claims[i]
		if claim.Server != k.client.ServerName() && matrix.ValidServerName(claim.Server) && k.wants(claim, servers[claim.Server]) {
			missing[claim.Server] = append(missing[claim.Server], claim)
		}
	}
	return missing
}

// wants tells whether asking the server may decide a claim that is undecided so far. It
// cannot if there is no signature, the key is known to have expired before, the time is so
// far ahead that no key would be good for it, or it is not for the server to say.
func (k *KeyRing) wants(claim *matrix.Claim, of *known) bool {
	if claim.Strict && claim.At > k.now().Add(maxKeyValidity).UnixMilli() || k.pinned(claim.Server) != nil {
		return false
	}
	undecided := false
	for id := range claim.Signatures {
		if !countsForServer(id) {
			continue
		}
		key, ok := of.keys[id]
		if ok && key.ValidAt(claim.At, claim.Strict) {
			return false
		}
		undecided = undecided || !ok || key.Expired == 0
	}
	return undecided
}

// countsForServer tells whether a key may be one of the server's own: an ed25519 key, and
// not the one that signs in the place of a policy server.
func countsForServer(keyID string) bool {
	return strings.HasPrefix(keyID, ed25519Prefix) && keyID != policyKey
}

// fewClaims is how many claims are checked without the help of other processors.
const fewClaims = 8

// checkAll checks the signatures, which is a matter of computing only.
func (k *KeyRing) checkAll(claims []matrix.Claim, servers map[string]*known, errs []error) {
	workers := min(runtime.GOMAXPROCS(0), len(claims)/fewClaims+1)
	var group errgroup.Group
	for w := range workers {
		group.Go(func() error {
			for i := w; i < len(claims); i += workers {
				errs[i] = k.check(&claims[i], servers[claims[i].Server])
			}
			return nil
		})
	}
	group.Wait()
}

// check decides one claim ("Checking for a signature").
func (k *KeyRing) check(claim *matrix.Claim, of *known) error {
	verdict, pinned := matrix.ErrUnsigned, k.pinned(claim.Server)
	for id, signature := range claim.Signatures {
		if !countsForServer(id) {
			continue
		}
		key, ok := of.keys[id]
		if pinned != nil {
			key.Key, ok = pinned[id]
			key.ValidUntil, key.Expired = math.MaxInt64, 0
		}
		switch {
		case !ok || !key.ValidAt(claim.At, claim.Strict):
			if verdict == matrix.ErrUnsigned {
				verdict = matrix.ErrNoKey
			}
		case !matrix.VerifySignature(key.Key, claim.Message, signature):
			return fmt.Errorf("%s, %s: %w", claim.Server, id, matrix.ErrBadSignature)
		default:
			verdict = nil
		}
	}
	switch verdict {
	case nil:
		return nil
	case matrix.ErrNoKey:
		if fault := of.direct.fault; fault != nil {
			return fmt.Errorf("%s: %w: %w", claim.Server, verdict, fault)
		}
	}
	return fmt.Errorf("%s: %w", claim.Server, verdict)
}
