package keys

import (
	"context"
	stdjson "encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"beep/matrix"
	"beep/storage"
)

const (
	// usualWait and longestWait are how long other servers are waited for.
	usualWait   = 10 * time.Second
	longestWait = 30 * time.Second
	// serversAtOnce is how many servers one request asks at the same time.
	serversAtOnce = 20
	// maxDevices is how many devices of a user of another server are believed.
	maxDevices = 1000
	// maxFetched is of how many users a request has the lists fetched one by one. Of more
	// their servers are asked at once, which does not tell where the lists stand in the
	// sequence of updates.
	maxFetched = 20
)

// Remote is all that the keys want of other servers.
type Remote interface {
	// QueryKeys gives keys of users of a server. Wanted has lists of devices by user; an
	// empty list stands for all.
	QueryKeys(ctx context.Context, server string, wanted map[string][]string) (*UserKeys, error)
	// ClaimKeys claims one-time keys of users of a server. Wanted has the algorithm by user
	// and device; the answer has keys by user, device, and algorithm with key id.
	ClaimKeys(ctx context.Context, server string, wanted map[string]map[string]string) (map[string]map[string]map[string]stdjson.RawMessage, error)
	// UserDevices gives a user's devices, with the id of the last update of them.
	UserDevices(ctx context.Context, userID string) (*UserDevices, error)
}

// UserKeys are the keys of several users of another server.
type UserKeys struct {
	DeviceKeys      map[string]map[string]stdjson.RawMessage `json:"device_keys"` // by user and device
	MasterKeys      map[string]stdjson.RawMessage            `json:"master_keys"` // by user
	SelfSigningKeys map[string]stdjson.RawMessage            `json:"self_signing_keys"`
}

// UserDevices are a user's devices and cross-signing keys, as servers tell each other.
type UserDevices struct {
	UserID         string             `json:"user_id"`
	StreamID       int64              `json:"stream_id"`
	Devices        []UserDevice       `json:"devices"`
	MasterKey      stdjson.RawMessage `json:"master_key,omitzero"`       // nil without one
	SelfSigningKey stdjson.RawMessage `json:"self_signing_key,omitzero"` // nil without one
}

// UserDevice is one device.
type UserDevice struct {
	DeviceID    string             `json:"device_id"`
	Keys        stdjson.RawMessage `json:"keys"` // nil without
	DisplayName string             `json:"device_display_name,omitzero"`
}

// waitFor is how long a client's request waits for other servers that says so many ms.
func waitFor(timeout *int64) time.Duration {
	if timeout == nil {
		return usualWait
	}
	return min(time.Duration(max(*timeout, 0))*time.Millisecond, longestWait)
}

// theirDevice checks what another server tells of a device. It gives nil for what is none
// of the user, or has no keys.
func theirDevice(userID, deviceID, name string, raw []byte) *storage.DeviceKeys {
	if !validID(deviceID) || len(raw) == 0 {
		return nil
	}
	d, err := parseDeviceKeys(raw, userID, deviceID, func(string) bool { return true })
	if err != nil {
		return nil
	}
	if len(name) > maxID || strings.IndexByte(name, 0) >= 0 {
		name = ""
	}
	return &storage.DeviceKeys{UserID: userID, DeviceID: deviceID, DisplayName: name, Keys: d.text}
}

// theirDevices are the devices of a user in an answer of another server.
func theirDevices(userID string, answer map[string]stdjson.RawMessage) []storage.DeviceKeys {
	var devices []storage.DeviceKeys
	for _, deviceID := range slices.Sorted(maps.Keys(answer)) {
		raw := answer[deviceID]
		var added struct {
			Unsigned struct {
				Name string `json:"device_display_name"`
			} `json:"unsigned"`
		}
		_ = json.Unmarshal(raw, &added) // without it the device has no name
		if d := theirDevice(userID, deviceID, added.Unsigned.Name, raw); d != nil && len(devices) < maxDevices {
			devices = append(devices, *d)
		}
	}
	return devices
}

// findTheirs adds the keys of users of other servers: what is kept of those who share a
// room with users of this one, and else what their servers say now.
func (k *Keys) findTheirs(ctx context.Context, asker string, theirs []string, wanted map[string][]string, wait time.Duration, found *Found) error {
	if k.remote == nil || len(theirs) == 0 {
		return nil
	}
	near, err := k.db.WithUs(ctx, k.own, theirs)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	kept, err := k.keptLists(ctx, limited, near)
	if err != nil {
		return err
	}
	ask := map[string]map[string][]string{} // by server and user
	for _, userID := range theirs {
		if slices.Contains(kept, userID) {
			continue
		}
		server := matrix.ServerOf(userID)
		if ask[server] == nil {
			ask[server] = map[string][]string{}
		}
		ask[server][userID] = wanted[userID]
		if slices.Contains(near, userID) {
			ask[server][userID] = []string{} // all, to keep them
		}
	}
	devices, err := k.db.RemoteDevices(ctx, kept)
	if err != nil {
		return err
	}
	for _, userID := range kept {
		found.DeviceKeys[userID] = map[string]stdjson.RawMessage{}
	}
	keys, err := k.sign(ctx, &k.db.Reader, kept, devices, asker)
	if err != nil {
		return err
	}
	found.addSigned(keys, wanted, asker)
	return k.askServers(ctx, limited, asker, ask, near, wanted, found)
}

// askServers asks other servers for keys, and keeps those of users who are near. It waits
// as long as limited says.
func (k *Keys) askServers(ctx, limited context.Context, asker string, ask map[string]map[string][]string, near []string, wanted map[string][]string, found *Found) error {
	before, err := k.db.Changes(ctx, near)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	devices := map[string][]storage.DeviceKeys{}
	cross := map[string][]storage.CrossSigningKey{}
	var group errgroup.Group
	group.SetLimit(serversAtOnce)
	for server, users := range ask {
		group.Go(func() error {
			answer, err := k.remote.QueryKeys(limited, server, users)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				found.Failures[server] = struct{}{}
				for userID := range users {
					if slices.Contains(near, userID) {
						k.awaited.Store(userID, nil)
					}
				}
				k.logger.Debug("another server was asked for keys and did not tell", slog.String("server", server), slog.Any("error", err))
				return nil
			}
			for userID := range users {
				devices[userID] = theirDevices(userID, answer.DeviceKeys[userID])
				cross[userID] = theirCrossKeys(userID, answer.MasterKeys[userID], answer.SelfSigningKeys[userID])
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := k.addTold(ctx, asker, devices, cross, wanted, found); err != nil {
		return err
	}
	var keep []string
	for _, userID := range near {
		if _, told := devices[userID]; told {
			keep = append(keep, userID)
		}
	}
	if len(keep) == 0 {
		return nil
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		for _, userID := range keep {
			if err := k.keep(ctx, tx, userID, 0, devices[userID], cross[userID], before[userID]); err != nil {
				return err
			}
		}
		return nil
	})
}

// addTold adds what other servers have told just now.
func (k *Keys) addTold(ctx context.Context, asker string, devices map[string][]storage.DeviceKeys, cross map[string][]storage.CrossSigningKey,
	wanted map[string][]string, found *Found) error {
	told := slices.Collect(maps.Keys(devices))
	made, err := k.db.KeySignatures(ctx, told, asker)
	if err != nil {
		return err
	}
	for _, userID := range told {
		found.DeviceKeys[userID] = map[string]stdjson.RawMessage{}
		found.add(devices[userID], wanted)
		for _, key := range cross[userID] {
			ofKey := slices.DeleteFunc(slices.Clone(made), func(s storage.KeySignature) bool { return s.UserID != userID || s.KeyID != key.ID })
			text, err := withSignatures(key.Key, ofKey)
			if err != nil {
				return err
			}
			if key.Usage == storage.MasterKey {
				found.MasterKeys[userID] = text
			} else {
				found.SelfSigningKeys[userID] = text
			}
		}
	}
	return nil
}

// theirCrossKeys are the cross-signing keys of a user of another server that can be
// believed, with the user's own signatures.
func theirCrossKeys(userID string, master, selfSigning []byte) []storage.CrossSigningKey {
	first, err := parseCrossKey(master, userID, storage.MasterKey)
	if err != nil {
		return nil
	}
	keys := []*crossKey{first}
	second, err := parseCrossKey(selfSigning, userID, storage.SelfSigningKey)
	if err == nil && signedBy(second.signed, userID, first.ID, first.public) {
		keys = append(keys, second)
	}
	var all []storage.CrossSigningKey
	for _, key := range keys {
		if len(key.signed.Signatures[userID]) > 0 {
			key.signed.Signatures = ownSignatures(key.signed.Signatures, userID, func(string) bool { return true })
			if key.Key, err = key.signed.JSON(); err != nil {
				continue
			}
		}
		all = append(all, key.CrossSigningKey)
	}
	return all
}

// claimTheirs claims keys of users of other servers.
func (k *Keys) claimTheirs(ctx context.Context, wanted map[string]map[string]map[string]string, wait time.Duration, claimed *Claimed) {
	if k.remote == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(serversAtOnce)
	for server, users := range wanted {
		group.Go(func() error {
			answer, err := k.remote.ClaimKeys(ctx, server, users)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				claimed.Failures[server] = struct{}{}
				k.logger.Debug("another server was asked for one-time keys and gave none", slog.String("server", server), slog.Any("error", err))
				return nil
			}
			for userID, devices := range answer {
				for deviceID, keys := range devices {
					claimed.addTheirs(userID, deviceID, users[userID][deviceID], keys)
				}
			}
			return nil
		})
	}
	_ = group.Wait() // none of them fails
}

// addTheirs adds the key that another server has given out, if it is one of the algorithm.
func (c *Claimed) addTheirs(userID, deviceID, algorithm string, keys map[string]stdjson.RawMessage) {
	for name, key := range keys {
		if strings.HasPrefix(name, algorithm+":") && len(key) <= maxOneTimeKey {
			if text, err := matrix.CanonicalJSON(key, true); err == nil && isOneTimeKey(text) {
				c.add(userID, deviceID, name, text)
				return
			}
		}
	}
}
