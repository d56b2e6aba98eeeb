package federation

import (
	"context"
	"encoding/base64"
	stdjson "encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"beep/federation/remote"
	"beep/matrix"
	"beep/web"
)

// keysValid is how long others may take it that this server's keys are still in use.
const keysValid = 24 * time.Hour

// publishedKeys is what a server says of its keys (server-server API, "Publishing Keys").
type publishedKeys struct {
	ServerName string                `json:"server_name"`
	VerifyKeys map[string]verifyKey  `json:"verify_keys"`
	OldKeys    map[string]expiredKey `json:"old_verify_keys"`
	ValidUntil int64                 `json:"valid_until_ts"` // ms
}

type verifyKey struct {
	Key string `json:"key"`
}

type expiredKey struct {
	Key     string `json:"key"`
	Expired int64  `json:"expired_ts"` // ms
}

// signedText is an answer that has its signatures already.
type signedText []byte

// AppendJSON serves package web.
func (s signedText) AppendJSON(dst []byte) []byte { return append(dst, s...) }

type serverKeysRequest struct {
	KeyID string `path:"keyID,optional"` // all keys are told whatever it says
}

// serverKeys is GET /key/v2/server.
func (a *API) serverKeys(context.Context, web.Nobody, *serverKeysRequest) (*signedText, error) {
	text, err := a.ownKeys()
	return (*signedText)(&text), err
}

// ownKeys is what this server publishes, signed.
func (a *API) ownKeys() ([]byte, error) {
	published := publishedKeys{ServerName: a.Signer.ServerName, VerifyKeys: map[string]verifyKey{}, OldKeys: map[string]expiredKey{},
		ValidUntil: time.Now().Add(keysValid).UnixMilli()}
	for _, k := range a.OwnKeys {
		key := base64.RawStdEncoding.EncodeToString(k.Key)
		if k.Expired != 0 {
			published.OldKeys[k.ID] = expiredKey{key, k.Expired}
		} else {
			published.VerifyKeys[k.ID] = verifyKey{key}
		}
	}
	text, err := json.Marshal(published)
	if err != nil {
		return nil, err
	}
	return a.Signer.SignJSON(text)
}

type keysAnswer struct {
	ServerKeys []stdjson.RawMessage `json:"server_keys"`
}

type queryKeysRequest struct {
	Server     string `path:"server"`
	KeyID      string `path:"keyID,optional"`
	ValidUntil int64  `query:"minimum_valid_until_ts"`
}

// queryKeys is GET /key/v2/query/{serverName}.
func (a *API) queryKeys(ctx context.Context, _ web.Nobody, req *queryKeysRequest) (*keysAnswer, error) {
	return a.notarised(ctx, map[string]remote.Wanted{req.Server: {ValidUntil: req.ValidUntil}})
}

type queryManyKeysRequest struct {
	Body struct {
		ServerKeys map[string]map[string]struct {
			ValidUntil int64 `json:"minimum_valid_until_ts"`
		} `json:"server_keys"`
	}
}

// queryManyKeys is POST /key/v2/query. A server's answer that has a key that is asked for
// comes with all of its keys.
func (a *API) queryManyKeys(ctx context.Context, _ web.Nobody, req *queryManyKeysRequest) (*keysAnswer, error) {
	wanted := make(map[string]remote.Wanted, len(req.Body.ServerKeys))
	for server, keys := range req.Body.ServerKeys {
		w := remote.Wanted{KeyIDs: slices.Collect(maps.Keys(keys))}
		for _, key := range keys {
			w.ValidUntil = max(w.ValidUntil, key.ValidUntil)
		}
		wanted[server] = w
	}
	return a.notarised(ctx, wanted)
}

// notarised is what servers publish of their keys, with this server's signature beside
// their own.
func (a *API) notarised(ctx context.Context, wanted map[string]remote.Wanted) (*keysAnswer, error) {
	answer := &keysAnswer{[]stdjson.RawMessage{}}
	for server := range wanted {
		if !matrix.ValidServerName(server) {
			return nil, matrix.InvalidParam.Withf("%q is not the name of a server", server)
		}
	}
	if _, own := wanted[a.Signer.ServerName]; own {
		delete(wanted, a.Signer.ServerName)
		text, err := a.ownKeys()
		if err != nil {
			return nil, err
		}
		answer.ServerKeys = append(answer.ServerKeys, text)
	}
	if len(wanted) == 0 {
		return answer, nil
	}
	published, err := a.Keys.Published(ctx, wanted)
	for _, text := range published {
		signed, failed := a.Signer.SignJSON(text)
		if failed != nil {
			return nil, failed
		}
		answer.ServerKeys = append(answer.ServerKeys, signed)
	}
	return answer, err
}
