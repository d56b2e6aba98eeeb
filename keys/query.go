package keys

import (
	"context"
	stdjson "encoding/json"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// Found is what was found of users' keys. Failures are the servers that could not be asked.
type Found struct {
	Failures   map[string]struct{}                      `json:"failures"`
	DeviceKeys map[string]map[string]stdjson.RawMessage `json:"device_keys"` // by user and device
	// Cross-signing keys by user. Nobody but the user sees a user-signing key.
	MasterKeys      map[string]stdjson.RawMessage `json:"master_keys"`
	SelfSigningKeys map[string]stdjson.RawMessage `json:"self_signing_keys"`
	UserSigningKeys map[string]stdjson.RawMessage `json:"user_signing_keys,omitempty"`
}

// Query finds the keys of users for a user of this server. Wanted has lists of devices by
// user; an empty list stands for all. Other servers are waited for so many ms, or the
// usual time for nil. M_INVALID_PARAM.
func (k *Keys) Query(ctx context.Context, asker string, wanted map[string][]string, timeout *int64) (*Found, error) {
	var own, theirs []string
	for userID := range wanted {
		if !matrix.ValidUserID(userID) {
			return nil, matrix.InvalidParam.Withf("%q is not a user id", userID)
		}
		if k.ours(userID) {
			own = append(own, userID)
		} else {
			theirs = append(theirs, userID)
		}
	}
	found := newFound()
	if err := k.findOwn(ctx, own, wanted, found, asker); err != nil {
		return nil, err
	}
	return found, k.findTheirs(ctx, asker, theirs, wanted, waitFor(timeout), found)
}

func newFound() *Found {
	return &Found{
		Failures: map[string]struct{}{}, DeviceKeys: map[string]map[string]stdjson.RawMessage{},
		MasterKeys: map[string]stdjson.RawMessage{}, SelfSigningKeys: map[string]stdjson.RawMessage{}, UserSigningKeys: map[string]stdjson.RawMessage{},
	}
}

// addSigned adds keys as the one who asks may see them.
func (f *Found) addSigned(s *signed, wanted map[string][]string, asker string) {
	f.add(s.devices, wanted)
	for userID, keys := range s.cross {
		for usage, key := range keys {
			switch {
			case usage == storage.MasterKey:
				f.MasterKeys[userID] = key
			case usage == storage.SelfSigningKey:
				f.SelfSigningKeys[userID] = key
			case userID == asker:
				f.UserSigningKeys[userID] = key
			}
		}
	}
}

// add adds those of the devices that are wanted.
func (f *Found) add(devices []storage.DeviceKeys, wanted map[string][]string) {
	for _, d := range devices {
		if ids := wanted[d.UserID]; len(ids) == 0 || slices.Contains(ids, d.DeviceID) {
			f.DeviceKeys[d.UserID][d.DeviceID] = withUnsigned(d)
		}
	}
}

// findOwn adds the keys of users of this server. Another server asks as "", and is not told
// the names of devices. Whether there is such a user is not told.
func (k *Keys) findOwn(ctx context.Context, own []string, wanted map[string][]string, found *Found, asker string) error {
	keys, err := k.signedKeys(ctx, &k.db.Reader, own, asker)
	if err != nil {
		return err
	}
	for _, userID := range own {
		found.DeviceKeys[userID] = map[string]stdjson.RawMessage{}
	}
	if asker == "" {
		for i := range keys.devices {
			keys.devices[i].DisplayName = ""
		}
	}
	found.addSigned(keys, wanted, asker)
	return nil
}

// withUnsigned are a device's keys with what the server adds to them.
func withUnsigned(d storage.DeviceKeys) stdjson.RawMessage {
	out := append(make([]byte, 0, len(d.Keys)+100), d.Keys[:len(d.Keys)-1]...)
	out = append(out, `,"unsigned":{`...)
	if d.DisplayName != "" {
		out = matrix.AppendString(append(out, `"device_display_name":`...), d.DisplayName)
	}
	return append(out, `}}`...)
}
