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
}

// Query finds the keys of users for a user of this server. Wanted has lists of devices by
// user; an empty list stands for all. M_INVALID_PARAM.
func (k *Keys) Query(ctx context.Context, asker string, wanted map[string][]string) (*Found, error) {
	var own []string
	for userID := range wanted {
		if !matrix.ValidUserID(userID) {
			return nil, matrix.InvalidParam.Withf("%q is not a user id", userID)
		}
		if k.ours(userID) {
			own = append(own, userID)
		}
	}
	found := &Found{Failures: map[string]struct{}{}, DeviceKeys: map[string]map[string]stdjson.RawMessage{}}
	return found, k.findOwn(ctx, own, wanted, found)
}

// findOwn adds the keys of users of this server. Whether there is such a user is not told.
func (k *Keys) findOwn(ctx context.Context, own []string, wanted map[string][]string, found *Found) error {
	devices, err := k.db.DeviceKeys(ctx, own)
	if err != nil {
		return err
	}
	for _, userID := range own {
		found.DeviceKeys[userID] = map[string]stdjson.RawMessage{}
	}
	for _, d := range devices {
		if ids := wanted[d.UserID]; len(ids) == 0 || slices.Contains(ids, d.DeviceID) {
			found.DeviceKeys[d.UserID][d.DeviceID] = withUnsigned(d)
		}
	}
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
