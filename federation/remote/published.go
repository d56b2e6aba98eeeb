package remote

import (
	"context"
	"maps"
	"slices"

	"beep/matrix"
)

// Wanted is what somebody wants to know of a server's keys.
type Wanted struct {
	KeyIDs     []string // none for all keys
	ValidUntil int64    // ms; until when keys should be good that are still in use
}

// Published is what servers publish of their keys, for this server's answers as a notary:
// each text is an answer of GET /_matrix/key/v2/server, with its server's signatures
// and no others. wanted is by server; there may be a hundred. They are asked themselves, no
// other notary is; of one that does not answer, what is stored is given, perhaps nothing.
func (k *KeyRing) Published(ctx context.Context, wanted map[string]Wanted) ([][]byte, error) {
	if len(wanted) > maxNotaryServers {
		return nil, matrix.TooLarge.Withf("Ask for the keys of at most %d servers", maxNotaryServers)
	}
	names := slices.Sorted(maps.Keys(wanted))
	servers, err := k.load(ctx, names)
	if err != nil {
		return nil, err
	}
	inner, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	k.askAll(inner, names, servers, func(server string, of *known) bool { return k.fresh(of, wanted[server]) })
	stored, err := k.store.ServerKeys(ctx, names)
	if err != nil {
		return nil, err
	}
	// The keys that an answer names have it in common.
	answers, seen := [][]byte{}, map[string]bool{}
	for _, key := range stored {
		ids := wanted[key.Server].KeyIDs
		if len(key.Response) > 0 && !seen[string(key.Response)] && (len(ids) == 0 || slices.Contains(ids, key.ID)) {
			seen[string(key.Response)] = true
			answers = append(answers, key.Response)
		}
	}
	return answers, ctx.Err()
}

// fresh tells whether the keys that are wanted are known, from an answer in the first half
// of its life if they are still in use. One key in use is enough if none is named.
func (k *KeyRing) fresh(of *known, wanted Wanted) bool {
	now := k.now().UnixMilli()
	good := func(key matrix.ServerKey) bool {
		return key.ValidUntil >= max(wanted.ValidUntil, now) && now <= key.Fetched+(key.ValidUntil-key.Fetched)/2
	}
	for _, id := range wanted.KeyIDs {
		if key, ok := of.keys[id]; !ok || key.Expired == 0 && !good(key) {
			return false
		}
	}
	if len(wanted.KeyIDs) > 0 {
		return true
	}
	for _, key := range of.keys {
		if key.Expired == 0 && good(key) {
			return true
		}
	}
	return false
}
