package keys

import (
	"context"
	stdjson "encoding/json"
	"errors"

	"beep/matrix"
	"beep/storage"
)

var errNotOurs = matrix.InvalidParam.With("Only users of this server can be asked for")

// ServeDevices gives another server all devices of a user of this one that have keys.
// M_INVALID_PARAM for users of others, M_NOT_FOUND.
func (k *Keys) ServeDevices(ctx context.Context, userID string) (*UserDevices, error) {
	if !matrix.ValidUserID(userID) || !k.ours(userID) {
		return nil, errNotOurs
	}
	if _, err := k.db.User(ctx, userID); errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("There is no such user")
	} else if err != nil {
		return nil, err
	}
	// Whoever gets an older id than the devices are of asks once more; the other way round
	// something would be missed.
	list, err := k.db.DeviceList(ctx, userID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	keys, err := k.signedKeys(ctx, &k.db.Reader, []string{userID}, "")
	if err != nil {
		return nil, err
	}
	answer := &UserDevices{
		UserID: userID, StreamID: list.StreamID, Devices: make([]UserDevice, len(keys.devices)),
		MasterKey: keys.cross[userID][storage.MasterKey], SelfSigningKey: keys.cross[userID][storage.SelfSigningKey],
	}
	for i, d := range keys.devices {
		answer.Devices[i] = UserDevice{DeviceID: d.DeviceID, Keys: d.Keys}
	}
	return answer, nil
}

// ServedKeys are keys as other servers get them.
type ServedKeys struct {
	DeviceKeys      map[string]map[string]stdjson.RawMessage `json:"device_keys"` // by user and device
	MasterKeys      map[string]stdjson.RawMessage            `json:"master_keys"` // by user
	SelfSigningKeys map[string]stdjson.RawMessage            `json:"self_signing_keys"`
}

// ServeQuery is [Keys.Query] for another server, which is told of users of this one only.
// M_INVALID_PARAM for others.
func (k *Keys) ServeQuery(ctx context.Context, wanted map[string][]string) (*ServedKeys, error) {
	own := make([]string, 0, len(wanted))
	for userID := range wanted {
		if !matrix.ValidUserID(userID) || !k.ours(userID) {
			return nil, errNotOurs
		}
		own = append(own, userID)
	}
	found := newFound()
	if err := k.findOwn(ctx, own, wanted, found, ""); err != nil {
		return nil, err
	}
	return &ServedKeys{found.DeviceKeys, found.MasterKeys, found.SelfSigningKeys}, nil
}

// ServedClaims are claimed keys as other servers get them.
type ServedClaims struct {
	// OneTimeKeys is by user, device, and algorithm with key id.
	OneTimeKeys map[string]map[string]map[string]stdjson.RawMessage `json:"one_time_keys"`
}

// ServeClaim is [Keys.Claim] for another server, which gets keys of users of this one only.
// M_INVALID_PARAM for others.
func (k *Keys) ServeClaim(ctx context.Context, wanted map[string]map[string]string) (*ServedClaims, error) {
	var claims []storage.KeyClaim
	for userID, devices := range wanted {
		if !matrix.ValidUserID(userID) || !k.ours(userID) {
			return nil, errNotOurs
		}
		claims = append(claims, claimsOf(userID, devices)...)
	}
	claimed := newClaimed()
	if err := k.claimOwn(ctx, claims, claimed); err != nil {
		return nil, err
	}
	return &ServedClaims{claimed.OneTimeKeys}, nil
}
