package keys

import (
	"context"
	stdjson "encoding/json"
	"slices"
	"time"

	"beep/matrix"
	"beep/storage"
)

// claimBatch is how many keys are given out in one transaction.
const claimBatch = 500

// Claimed are keys that were given out. Failures are the servers that could not be asked.
type Claimed struct {
	Failures map[string]struct{} `json:"failures"`
	// OneTimeKeys is by user, device, and algorithm with key id.
	OneTimeKeys map[string]map[string]map[string]stdjson.RawMessage `json:"one_time_keys"`
}

// Claim gives out a key for each device. Wanted has the algorithm by user and device.
// Other servers are waited for so many ms, or the usual time for nil. M_INVALID_PARAM.
func (k *Keys) Claim(ctx context.Context, wanted map[string]map[string]string, timeout *int64) (*Claimed, error) {
	claimed := newClaimed()
	var own []storage.KeyClaim
	theirs := map[string]map[string]map[string]string{} // by server, user and device
	for userID, devices := range wanted {
		if !matrix.ValidUserID(userID) {
			return nil, matrix.InvalidParam.Withf("%q is not a user id", userID)
		}
		if k.ours(userID) {
			own = append(own, claimsOf(userID, devices)...)
			continue
		}
		server := matrix.ServerOf(userID)
		if theirs[server] == nil {
			theirs[server] = map[string]map[string]string{}
		}
		theirs[server][userID] = devices
	}
	if err := k.claimOwn(ctx, own, claimed); err != nil {
		return nil, err
	}
	k.claimTheirs(ctx, theirs, waitFor(timeout), claimed)
	return claimed, nil
}

func newClaimed() *Claimed {
	return &Claimed{Failures: map[string]struct{}{}, OneTimeKeys: map[string]map[string]map[string]stdjson.RawMessage{}}
}

// claimsOf are the claims on a user's devices.
func claimsOf(userID string, devices map[string]string) []storage.KeyClaim {
	var claims []storage.KeyClaim
	for deviceID, algorithm := range devices {
		if validID(deviceID) && validID(algorithm) {
			claims = append(claims, storage.KeyClaim{UserID: userID, DeviceID: deviceID, Algorithm: algorithm})
		}
	}
	return claims
}

// claimOwn gives out keys of users of this server.
func (k *Keys) claimOwn(ctx context.Context, claims []storage.KeyClaim, claimed *Claimed) error {
	for batch := range slices.Chunk(claims, claimBatch) {
		keys, err := k.claimTogether(ctx, batch)
		if err != nil {
			return err
		}
		for claim, key := range keys {
			claimed.add(claim.UserID, claim.DeviceID, key.Algorithm+":"+key.ID, key.Key)
		}
	}
	return nil
}

func (k *Keys) claimTogether(ctx context.Context, claims []storage.KeyClaim) (keys map[storage.KeyClaim]storage.OneTimeKey, err error) {
	k.claiming.Lock()
	defer k.claiming.Unlock()
	err = k.db.Write(ctx, func(tx *storage.Tx) (err error) {
		keys, err = tx.ClaimKeys(ctx, claims, time.Now().UnixMilli())
		return err
	})
	return keys, err
}

func (c *Claimed) add(userID, deviceID, name string, key stdjson.RawMessage) {
	if c.OneTimeKeys[userID] == nil {
		c.OneTimeKeys[userID] = map[string]map[string]stdjson.RawMessage{}
	}
	c.OneTimeKeys[userID][deviceID] = map[string]stdjson.RawMessage{name: key}
}
