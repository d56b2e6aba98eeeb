package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"beep/matrix"
)

const (
	// keyTimeout bounds one question for keys.
	keyTimeout = 25 * time.Second
	// maxNotaryAnswer bounds a notary's answer, in bytes.
	maxNotaryAnswer = 4 << 20
	// maxNotaryServers bounds the servers that a notary is asked about at once.
	maxNotaryServers = 100

	// A server that answers is asked once in askAgain in the long run, and so many times
	// in a row: whoever sends us made-up key ids makes us ask their server no more often,
	// and a new key is found at once by whoever meets it.
	askAgain   = time.Minute
	asksInARow = 5
	// How long one that does not answer is left alone, doubled with each further time.
	askAgainFailed    = 30 * time.Second
	maxAskAgainFailed = 15 * time.Minute
)

// after is when to ask again after an attempt that ended so. A refusal, or an answer that
// is none, comes from a server that is there.
func (a attempts) after(err error, now time.Time) attempts {
	if Unavailable(err) {
		wait := min(askAgainFailed<<min(a.failures, 10), maxAskAgainFailed)
		return attempts{failures: a.failures + 1, next: now.Add(wait), spent: a.spent, fault: err}
	}
	if a.spent.Before(now) {
		a.spent = now
	}
	spent := a.spent.Add(askAgain)
	return attempts{next: spent.Add(-(asksInARow - 1) * askAgain), spent: spent, fault: err}
}

// fetch looks for the keys that are missing: at the servers themselves, then at notaries.
// What it finds it puts into servers.
func (k *KeyRing) fetch(ctx context.Context, missing map[string][]*matrix.Claim, servers map[string]*known) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	k.askAll(ctx, slices.Collect(maps.Keys(missing)), servers, func(server string, of *known) bool {
		return k.decided(missing[server], of)
	})
	for i := range k.notaries {
		for server, claims := range missing {
			if k.decided(claims, servers[server]) {
				delete(missing, server)
			}
		}
		for batch := range slices.Chunk(slices.Sorted(maps.Keys(missing)), maxNotaryServers) {
			k.askNotary(ctx, &k.notaries[i], batch, missing, servers)
		}
	}
}

// askAll asks several servers at once for their keys, those of which not enough is known.
// What it finds it puts into servers.
func (k *KeyRing) askAll(ctx context.Context, names []string, servers map[string]*known, enough func(string, *known) bool) {
	results := make([]*known, len(names))
	var group errgroup.Group
	group.SetLimit(fetchesAtOnce)
	for i, server := range names {
		of := servers[server]
		group.Go(func() error {
			results[i] = k.ask(ctx, server, of, func(of *known) bool { return enough(server, of) })
			return nil
		})
	}
	group.Wait()
	for i, server := range names {
		servers[server] = results[i]
	}
}

// decided tells whether asking further is in vain.
func (k *KeyRing) decided(claims []*matrix.Claim, of *known) bool {
	return !slices.ContainsFunc(claims, func(c *matrix.Claim) bool { return k.wants(c, of) })
}

// newest is what memory has of a server, or else of.
func (k *KeyRing) newest(server string, of *known) *known {
	if newer, ok := k.servers.Get(server); ok {
		return newer
	}
	return of
}

// ask asks a server for its keys, unless enough is known or it was asked just now. It
// gives what is known then; of is what was known before.
func (k *KeyRing) ask(ctx context.Context, server string, of *known, enough func(*known) bool) *known {
	done, err := k.turns.take(ctx, server)
	if err != nil {
		return of
	}
	defer done()
	of = k.newest(server, of)
	if enough(of) || k.now().Before(of.direct.next) {
		return of
	}
	answer, err := k.askServer(ctx, server)
	if ctx.Err() != nil {
		return of
	}
	next := &known{of.keys, of.direct.after(err, k.now()), of.notaries}
	if err == nil {
		next.keys = k.learn(ctx, of.keys, answer.keys, true)
	}
	k.servers.Add(server, next)
	return next
}

// askServer is GET /_matrix/key/v2/server. The connection proves that the answer is the
// server's.
func (k *KeyRing) askServer(ctx context.Context, server string) (*serverKeys, error) {
	var text jsontext.Value
	err := k.client.do(ctx, server, call{
		method: http.MethodGet, target: "/_matrix/key/v2/server", unsigned: true, limit: maxKeys, timeout: keyTimeout,
	}, &text)
	if err != nil {
		return nil, err
	}
	answer, err := readServerKeys(text, k.banned, k.now())
	if err != nil {
		return nil, &AnswerError{server, err}
	}
	if answer.server != server {
		return nil, &AnswerError{server, fmt.Errorf("the keys of %q", answer.server)}
	}
	return answer, nil
}

// learn adds keys to those that are known, and stores what is new.
func (k *KeyRing) learn(ctx context.Context, old, fresh map[string]matrix.ServerKey, direct bool) map[string]matrix.ServerKey {
	merged, changed := merge(old, fresh, direct, k.now())
	if len(changed) > 0 {
		if err := k.store.SaveServerKeys(ctx, changed); err != nil {
			k.logger.ErrorContext(ctx, "keys of another server could not be stored", "server", changed[0].Server, "error", err)
		}
	}
	for id, key := range merged {
		key.Response = nil // for the store alone
		merged[id] = key
	}
	bound(merged)
	return merged
}

// merge joins what is known of a server with a new answer. An answer of the server itself
// is the last word: a key with other bytes takes the place of the old one, and a key that
// it no longer names ends now. A notary's answer adds keys and extends them, and never
// replaces one: a notary that lies, or that repeats what was once true, does no harm to
// servers that are known.
func merge(old, fresh map[string]matrix.ServerKey, direct bool, now time.Time) (merged map[string]matrix.ServerKey, changed []matrix.ServerKey) {
	merged = maps.Clone(old)
	if merged == nil {
		merged = map[string]matrix.ServerKey{}
	}
	for id, key := range fresh {
		before, ok := old[id]
		if ok && bytes.Equal(before.Key, key.Key) {
			key.ValidUntil = max(key.ValidUntil, before.ValidUntil)
			if !direct && before.Expired != 0 {
				key.Expired = before.Expired
			}
		} else if ok && !direct {
			continue
		}
		merged[id] = key
		changed = append(changed, key)
	}
	if !direct {
		return merged, changed
	}
	for id, key := range old {
		if _, named := fresh[id]; !named && key.Expired == 0 && key.ValidUntil > now.UnixMilli() {
			key.ValidUntil = now.UnixMilli()
			merged[id] = key
			changed = append(changed, key)
		}
	}
	return merged, changed
}

// bound leaves the newest of a server's keys.
func bound(keys map[string]matrix.ServerKey) {
	if len(keys) <= maxServerKeys {
		return
	}
	byAge := slices.SortedFunc(maps.Values(keys), func(a, b matrix.ServerKey) int { return cmp.Compare(b.Fetched, a.Fetched) })
	for _, key := range byAge[maxServerKeys:] {
		delete(keys, key.ID)
	}
}

// askNotary asks a notary for the keys of a batch of servers.
func (k *KeyRing) askNotary(ctx context.Context, notary *Notary, batch []string, missing map[string][]*matrix.Claim, servers map[string]*known) {
	// No server has such a name: it is the turn of this notary.
	done, err := k.turns.take(ctx, "notary "+notary.Server)
	if err != nil {
		return
	}
	defer done()
	criteria := map[string]map[string]minimumValid{}
	for _, server := range batch {
		of := k.newest(server, servers[server])
		servers[server] = of
		if !k.decided(missing[server], of) && !k.now().Before(of.notaries[notary.Server].next) {
			criteria[server] = keyCriteria(missing[server])
		}
	}
	if len(criteria) == 0 {
		return
	}
	answers, err := k.queryNotary(ctx, notary, criteria)
	if ctx.Err() != nil {
		return
	}
	for server := range criteria {
		servers[server] = k.learnFrom(ctx, notary, server, servers[server], answers[server], err)
	}
}

type minimumValid struct {
	ValidUntil int64 `json:"minimum_valid_until_ts"`
}

// keyCriteria are the keys that are wanted of a server, and until when they should be valid.
func keyCriteria(claims []*matrix.Claim) map[string]minimumValid {
	criteria := map[string]minimumValid{}
	for _, claim := range claims {
		for id := range claim.Signatures {
			if countsForServer(id) && len(id) <= maxKeyID {
				criteria[id] = minimumValid{max(criteria[id].ValidUntil, claim.At)}
			}
		}
	}
	return criteria
}

// learnFrom adds a notary's answers about a server; err is what went wrong instead.
func (k *KeyRing) learnFrom(ctx context.Context, notary *Notary, server string, of *known, answers []*serverKeys, err error) *known {
	done, turnErr := k.turns.take(ctx, server)
	if turnErr != nil {
		return of
	}
	defer done()
	of = k.newest(server, of)
	next := &known{of.keys, of.direct, map[string]attempts{}}
	maps.Copy(next.notaries, of.notaries)
	next.notaries[notary.Server] = of.notaries[notary.Server].after(err, k.now())
	for _, answer := range answers {
		next.keys = k.learn(ctx, next.keys, answer.keys, false)
	}
	k.servers.Add(server, next)
	return next
}

// queryNotary is POST /_matrix/key/v2/query. Answers count that are about a server that was
// asked for, signed by that server, and by the notary.
func (k *KeyRing) queryNotary(ctx context.Context, notary *Notary, criteria map[string]map[string]minimumValid) (map[string][]*serverKeys, error) {
	keys := notary.Keys
	if len(keys) == 0 {
		keys = k.notaryKeys(ctx, notary.Server)
	}
	if len(keys) == 0 {
		return nil, errors.New("the keys of the notary are not known")
	}
	body, err := json.Marshal(map[string]any{"server_keys": criteria})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Servers []jsontext.Value `json:"server_keys"`
	}
	err = k.client.do(ctx, notary.Server, call{
		method: http.MethodPost, target: "/_matrix/key/v2/query", body: body,
		unsigned: true, limit: maxNotaryAnswer, timeout: keyTimeout,
	}, &answer)
	byServer := map[string][]*serverKeys{}
	for _, text := range answer.Servers {
		one, err := readServerKeys(text, k.banned, k.now())
		if err != nil {
			continue // the others may be right
		}
		if _, asked := criteria[one.server]; asked && one.signedBy(notary.Server, keys) {
			byServer[one.server] = append(byServer[one.server], one)
		}
	}
	return byServer, err
}

// notaryKeys are the keys that a notary has now, as it says itself.
func (k *KeyRing) notaryKeys(ctx context.Context, server string) map[string]ed25519.PublicKey {
	servers, err := k.load(ctx, []string{server})
	if err != nil {
		k.logger.ErrorContext(ctx, "the keys of a notary could not be read", "server", server, "error", err)
		return nil
	}
	valid := func(of *known) map[string]ed25519.PublicKey {
		keys := map[string]ed25519.PublicKey{}
		for id, key := range of.keys {
			if key.ValidAt(k.now().UnixMilli(), true) {
				keys[id] = key.Key
			}
		}
		return keys
	}
	return valid(k.ask(ctx, server, servers[server], func(of *known) bool { return len(valid(of)) > 0 }))
}
