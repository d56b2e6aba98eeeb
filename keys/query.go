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
	if err := k.findOwn(ctx, own, wanted, found, true); err != nil {
		return nil, err
	}
	return found, k.findTheirs(ctx, theirs, wanted, waitFor(timeout), found)
}

func newFound() *Found {
	return &Found{Failures: map[string]struct{}{}, DeviceKeys: map[string]map[string]stdjson.RawMessage{}}
}

// add adds those of the devices that are wanted.
func (f *Found) add(devices []storage.DeviceKeys, wanted map[string][]string) {
	for _, d := range devices {
		if ids := wanted[d.UserID]; len(ids) == 0 || slices.Contains(ids, d.DeviceID) {
			f.DeviceKeys[d.UserID][d.DeviceID] = withUnsigned(d)
		}
	}
}

// findOwn adds the keys of users of this server, with the names of the devices or without.
// Whether there is such a user is not told.
func (k *Keys) findOwn(ctx context.Context, own []string, wanted map[string][]string, found *Found, names bool) error {
	devices, err := k.db.DeviceKeys(ctx, own)
	if err != nil {
		return err
	}
	for _, userID := range own {
		found.DeviceKeys[userID] = map[string]stdjson.RawMessage{}
	}
	if !names {
		for i := range devices {
			devices[i].DisplayName = ""
		}
	}
	found.add(devices, wanted)
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
