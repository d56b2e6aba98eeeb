package keys

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/go-json-experiment/json"

	"beep/matrix"
	"beep/storage"
)

const (
	// maxDeviceKeys bounds the identity keys of a device, in bytes.
	maxDeviceKeys = 16 << 10
	// maxOneTimeKey bounds a one-time key, in bytes.
	maxOneTimeKey = 4 << 10
	// maxOneTimeKeys is how many one-time keys of a device wait to be claimed at most.
	maxOneTimeKeys = 1000
	// maxFallbackKeys is how many algorithms may have a fallback key.
	maxFallbackKeys = 10
)

// Upload is what a device publishes ("Uploading keys"). What is absent stays as it is.
type Upload struct {
	DeviceKeys   stdjson.RawMessage            `json:"device_keys"`
	OneTimeKeys  map[string]stdjson.RawMessage `json:"one_time_keys"`
	FallbackKeys map[string]stdjson.RawMessage `json:"fallback_keys"`
}

// parsed is an upload that was checked.
type parsed struct {
	device   *deviceKeys // nil: none
	oneTime  []storage.OneTimeKey
	fallback []storage.OneTimeKey
}

// Upload stores the keys of a device of this server, and gives the numbers of its one-time
// keys that nobody has claimed. M_BAD_JSON, M_INVALID_PARAM, M_NOT_FOUND.
func (k *Keys) Upload(ctx context.Context, userID, deviceID string, u *Upload) (map[string]int64, error) {
	if deviceID == "" {
		return nil, matrix.InvalidParam.With("Only a device can have keys, and the request names none")
	}
	p, err := u.parse(userID, deviceID)
	if err != nil {
		return nil, err
	}
	var counts storage.KeyCounts
	if p.device == nil && len(p.oneTime)+len(p.fallback) == 0 {
		counts, err = k.db.KeyCounts(ctx, userID, deviceID)
		return Counted(counts.OneTime), err
	}
	err = k.db.Write(ctx, func(tx *storage.Tx) (err error) {
		counts, err = k.upload(ctx, tx, userID, deviceID, p)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("The user has no such device").Because(err)
	}
	return Counted(counts.OneTime), err
}

// Counted are numbers of one-time keys as clients are told: with those that every client
// looks for, even if there are none.
func Counted(counts map[string]int64) map[string]int64 {
	told := map[string]int64{"signed_curve25519": 0}
	maps.Copy(told, counts)
	return told
}

func (u *Upload) parse(userID, deviceID string) (*parsed, error) {
	p := &parsed{}
	if len(u.DeviceKeys) > 0 && !bytes.Equal(u.DeviceKeys, []byte("null")) {
		var err error
		if p.device, err = parseDeviceKeys(u.DeviceKeys, userID, deviceID, isKeyOf(deviceID)); err != nil {
			return nil, matrix.BadJSON.With("device_keys: " + err.Error())
		}
	}
	var err error
	if p.oneTime, err = parseOneTimeKeys(u.OneTimeKeys); err != nil {
		return nil, matrix.BadJSON.With("one_time_keys: " + err.Error())
	}
	if p.fallback, err = parseOneTimeKeys(u.FallbackKeys); err != nil {
		return nil, matrix.BadJSON.With("fallback_keys: " + err.Error())
	}
	if len(p.oneTime) > maxOneTimeKeys || len(p.fallback) > maxFallbackKeys {
		return nil, matrix.InvalidParam.Withf("A device may have %d one-time keys and %d fallback keys", maxOneTimeKeys, maxFallbackKeys)
	}
	seen := map[string]bool{}
	for _, key := range p.fallback {
		if seen[key.Algorithm] {
			return nil, matrix.InvalidParam.With("fallback_keys: one key for each algorithm")
		}
		seen[key.Algorithm] = true
	}
	return p, nil
}

// deviceKeys are the identity keys of a device (client-server API, DeviceKeys).
type deviceKeys struct {
	UserID     string                       `json:"user_id"`
	DeviceID   string                       `json:"device_id"`
	Algorithms *[]string                    `json:"algorithms"`
	Keys       map[string]string            `json:"keys"`
	Signatures map[string]map[string]string `json:"signatures"`

	text stdjson.RawMessage // canonical, without what others have signed
}

// isKeyOf chooses the ed25519 key of a device.
func isKeyOf(deviceID string) func(keyID string) bool {
	return func(keyID string) bool { return keyID == "ed25519:"+deviceID }
}

// parseDeviceKeys checks the form of a device's keys, and leaves those of the user's
// signatures that are chosen. Whether they are right other clients have to know, who check
// it in any case.
func parseDeviceKeys(raw []byte, userID, deviceID string, signatures func(keyID string) bool) (*deviceKeys, error) {
	if len(raw) > maxDeviceKeys {
		return nil, errors.New("too large")
	}
	signed, err := matrix.ParseSigned(raw, true)
	if err != nil {
		return nil, err
	}
	var d deviceKeys
	switch err := json.Unmarshal(raw, &d); {
	case err != nil:
		return nil, errors.New("not of the form of device keys")
	case d.UserID != userID || d.DeviceID != deviceID:
		return nil, errors.New("the keys of another device")
	case d.Algorithms == nil || d.Keys == nil || d.Signatures == nil:
		return nil, errors.New("algorithms, keys and signatures are required")
	}
	signed.Signatures = ownSignatures(signed.Signatures, userID, signatures)
	d.text, err = signed.JSON()
	return &d, err
}

// ownSignatures are those of the user's signatures whose keys are chosen.
func ownSignatures(all map[string]map[string]string, userID string, choose func(keyID string) bool) map[string]map[string]string {
	own := map[string]string{}
	for keyID, signature := range all[userID] {
		if choose(keyID) {
			own[keyID] = signature
		}
	}
	return map[string]map[string]string{userID: own}
}

// parseOneTimeKeys checks the form of one-time or fallback keys: texts, or objects with a
// key and signatures.
func parseOneTimeKeys(raw map[string]stdjson.RawMessage) ([]storage.OneTimeKey, error) {
	all := make([]storage.OneTimeKey, 0, len(raw))
	for name, value := range raw {
		algorithm, id, _ := strings.Cut(name, ":")
		if !validID(algorithm) || !validID(id) {
			return nil, errors.New("a name is not algorithm:id")
		}
		if len(value) > maxOneTimeKey {
			return nil, errors.New("a key is too large")
		}
		text, err := matrix.CanonicalJSON(value, true)
		if err != nil {
			return nil, err
		}
		if !isOneTimeKey(text) {
			return nil, errors.New("a key is neither a text nor an object with key and signatures")
		}
		all = append(all, storage.OneTimeKey{Algorithm: algorithm, ID: id, Key: text})
	}
	return all, nil
}

func isOneTimeKey(text []byte) bool {
	if text[0] == '"' {
		return len(text) > len(`""`)
	}
	var object struct {
		Key        string                       `json:"key"`
		Signatures map[string]map[string]string `json:"signatures"`
	}
	return text[0] == '{' && json.Unmarshal(text, &object) == nil && object.Key != "" && object.Signatures != nil
}

// upload stores what was uploaded.
func (k *Keys) upload(ctx context.Context, tx *storage.Tx, userID, deviceID string, p *parsed) (counts storage.KeyCounts, err error) {
	holder, err := tx.LockKeys(ctx, userID, deviceID)
	if err != nil {
		return counts, err
	}
	changed := false
	if p.device != nil && !bytes.Equal(holder.Keys, p.device.text) {
		if changed, err = k.replaceDeviceKeys(ctx, tx, holder, p.device); err != nil {
			return counts, err
		}
	}
	added, err := newOneTimeKeys(ctx, tx, holder.ID, p.oneTime)
	if err != nil {
		return counts, err
	}
	if err := tx.AddOneTimeKeys(ctx, holder.ID, added); err != nil {
		return counts, err
	}
	if err := tx.PutFallbackKeys(ctx, holder.ID, p.fallback); err != nil {
		return counts, err
	}
	if !changed && len(added)+len(p.fallback) == 0 {
		return tx.KeyCounts(ctx, userID, deviceID)
	}
	all, err := tx.PublishKeyCounts(ctx, []int64{holder.ID})
	if err != nil {
		return counts, err
	}
	counts = all[0]
	var total int64
	for _, n := range counts.OneTime {
		total += n
	}
	if total > maxOneTimeKeys || len(counts.OneTime)+len(counts.Unused) > 2*maxFallbackKeys {
		return counts, matrix.InvalidParam.Withf("A device may have %d one-time keys, of %d algorithms", maxOneTimeKeys, maxFallbackKeys)
	}
	return counts, nil
}

// replaceDeviceKeys stores new identity keys. It tells whether the device begins anew with
// them: then what was signed with the former keys is of no use.
func (k *Keys) replaceDeviceKeys(ctx context.Context, tx *storage.Tx, holder storage.KeyHolder, d *deviceKeys) (anew bool, err error) {
	if holder.Keys != nil {
		var before deviceKeys
		anew = json.Unmarshal(holder.Keys, &before) != nil || !maps.Equal(before.Keys, d.Keys)
	}
	if anew {
		if err := tx.DeleteClaimableKeys(ctx, holder.ID); err != nil {
			return anew, err
		}
		if err := tx.DeleteSignatures(ctx, d.UserID, []string{d.DeviceID}); err != nil {
			return anew, err
		}
	}
	if err := tx.SetDeviceKeys(ctx, holder.ID, d.text); err != nil {
		return anew, err
	}
	return anew, k.DevicesChanged(ctx, tx, d.UserID, []string{d.DeviceID})
}

// newOneTimeKeys are those of the uploaded keys that the device does not have, nor had
// lately. A client that got no answer uploads the same keys once more. M_INVALID_PARAM for
// another key under the same id.
func newOneTimeKeys(ctx context.Context, tx *storage.Tx, holder int64, uploaded []storage.OneTimeKey) ([]storage.OneTimeKey, error) {
	if len(uploaded) == 0 {
		return nil, nil
	}
	type name struct{ algorithm, id string }
	ids := make([]string, len(uploaded))
	for i, key := range uploaded {
		ids[i] = key.ID
	}
	stored, err := tx.OneTimeKeys(ctx, holder, ids)
	if err != nil {
		return nil, err
	}
	known := make(map[name]storage.OneTimeKey, len(stored))
	for _, key := range stored {
		known[name{key.Algorithm, key.ID}] = key
	}
	var added []storage.OneTimeKey
	for _, key := range uploaded {
		before, there := known[name{key.Algorithm, key.ID}]
		if there && len(before.Key) > 0 && !bytes.Equal(before.Key, key.Key) {
			return nil, matrix.InvalidParam.Withf("There is another one-time key %s:%s already", key.Algorithm, key.ID)
		}
		if !there {
			added = append(added, key)
		}
	}
	return added, nil
}
