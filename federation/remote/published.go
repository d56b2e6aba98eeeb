package remote

import (
	"context"
	"maps"
	"slices"

	"beep/matrix"
)

// Published is what servers publish of their keys, for this server's answers as a notary:
// each text is an answer of GET /_matrix/key/v2/server, with its server's signatures
// and no others. wanted has, by server, the time (ms) until which the keys should be good;
// there may be a hundred servers. They are asked themselves, no other notary is; of one
// that does not answer, what is stored is given, perhaps nothing.
func (k *KeyRing) Published(ctx context.Context, wanted map[string]int64) ([][]byte, error) {
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
		if len(key.Response) > 0 && !seen[string(key.Response)] {
			seen[string(key.Response)] = true
			answers = append(answers, key.Response)
		}
	}
	return answers, ctx.Err()
}

// fresh tells whether there is a key in use that is good until then, from an answer in the
// first half of its life.
func (k *KeyRing) fresh(of *known, until int64) bool {
	now := k.now().UnixMilli()
	for _, key := range of.keys {
		if key.Expired == 0 && key.ValidUntil >= max(until, now) && now <= key.Fetched+(key.ValidUntil-key.Fetched)/2 {
			return true
		}
	}
	return false
}
