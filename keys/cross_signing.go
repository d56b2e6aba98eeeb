package keys

import (
	"context"
	"crypto/ed25519"
	stdjson "encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"

	"beep/matrix"
	"beep/storage"
)

// maxCrossSigningKey bounds a cross-signing key, in bytes.
const maxCrossSigningKey = 16 << 10

// errSignature answers to a signature that is wrong or missing.
var errSignature = &matrix.Error{Status: http.StatusBadRequest, Code: "M_INVALID_SIGNATURE", Message: "A signature is wrong or missing"}

// ErrAuthRequired tells that users have to prove who they are before they replace their
// cross-signing keys.
var ErrAuthRequired = errors.New("cross-signing keys are to be replaced")

// CrossSigning are keys that a user publishes ("Cross-signing"). What is absent stays.
type CrossSigning struct {
	MasterKey      stdjson.RawMessage `json:"master_key"`
	SelfSigningKey stdjson.RawMessage `json:"self_signing_key"`
	UserSigningKey stdjson.RawMessage `json:"user_signing_key"`
}

// crossKey is a cross-signing key, taken apart.
type crossKey struct {
	storage.CrossSigningKey
	public ed25519.PublicKey
	signed *matrix.Signed
}

// parseCrossKey checks the form of a user's cross-signing key. Its Key is canonical and
// has no signatures.
func parseCrossKey(raw []byte, userID, usage string) (*crossKey, error) {
	if len(raw) > maxCrossSigningKey {
		return nil, errors.New("too large")
	}
	var object struct {
		UserID string            `json:"user_id"`
		Usage  []string          `json:"usage"`
		Keys   map[string]string `json:"keys"`
	}
	signed, err := matrix.ParseSigned(raw, true)
	if err != nil || json.Unmarshal(raw, &object) != nil {
		return nil, errors.New("not of the form of a cross-signing key")
	}
	if object.UserID != userID || !slices.Contains(object.Usage, usage) || len(object.Keys) != 1 {
		return nil, errors.New("it must be a key of the user, of its usage, with one public key")
	}
	k := &crossKey{CrossSigningKey: storage.CrossSigningKey{UserID: userID, Usage: usage, Key: signed.Message}, signed: signed}
	for name, text := range object.Keys {
		if name != "ed25519:"+text || !validID(text) {
			return nil, errors.New("the name of the public key must be ed25519: and the key itself")
		}
		k.ID = text
	}
	k.public, err = matrix.DecodeVerifyKey(k.ID)
	return k, err
}

// signedBy tells whether a key of the user, named by its id, has signed the object.
func signedBy(s *matrix.Signed, userID, keyID string, key ed25519.PublicKey) bool {
	signature, ok := s.Signatures[userID]["ed25519:"+keyID]
	return ok && matrix.VerifySignature(key, s.Message, signature)
}

// SetCrossSigning publishes keys of a user of this server. [ErrAuthRequired]: there are
// others already and the user has not proven to want this. M_BAD_JSON, M_MISSING_PARAM,
// M_INVALID_SIGNATURE, M_FORBIDDEN.
func (k *Keys) SetCrossSigning(ctx context.Context, userID string, u *CrossSigning, proven bool) error {
	given := map[string]*crossKey{}
	for usage, raw := range map[string]stdjson.RawMessage{
		storage.MasterKey: u.MasterKey, storage.SelfSigningKey: u.SelfSigningKey, storage.UserSigningKey: u.UserSigningKey,
	} {
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		key, err := parseCrossKey(raw, userID, usage)
		if err != nil {
			return matrix.BadJSON.With(usage + "_key: " + err.Error())
		}
		given[usage] = key
	}
	if len(given) == 0 {
		return matrix.MissingParam.With("There is no key in the request")
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error { return k.setCrossSigning(ctx, tx, userID, given, proven) })
}

func (k *Keys) setCrossSigning(ctx context.Context, tx *storage.Tx, userID string, given map[string]*crossKey, proven bool) error {
	if _, err := tx.LockDeviceList(ctx, userID); err != nil {
		return err
	}
	stored, err := crossKeys(ctx, &tx.Reader, userID)
	if err != nil {
		return err
	}
	changed := false
	for usage, key := range given {
		before := stored[usage]
		changed = changed || before == nil || before.ID != key.ID
	}
	if !changed {
		return nil
	}
	if stored[storage.MasterKey] != nil && !proven {
		return ErrAuthRequired
	}
	return k.replaceCrossSigning(ctx, tx, userID, given, stored)
}

// crossKeys are the cross-signing keys of a user of this server, by usage.
func crossKeys(ctx context.Context, q *storage.Reader, userID string) (map[string]*crossKey, error) {
	all, err := q.CrossSigningKeys(ctx, []string{userID})
	if err != nil {
		return nil, err
	}
	keys := map[string]*crossKey{}
	for _, stored := range all {
		if keys[stored.Usage], err = parseCrossKey(stored.Key, userID, stored.Usage); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// replaceCrossSigning stores the keys that are given in place of those that are stored.
func (k *Keys) replaceCrossSigning(ctx context.Context, tx *storage.Tx, userID string, given, stored map[string]*crossKey) error {
	master := given[storage.MasterKey]
	newMaster := master != nil && (stored[storage.MasterKey] == nil || stored[storage.MasterKey].ID != master.ID)
	if master == nil {
		master = stored[storage.MasterKey]
	}
	if master == nil {
		return matrix.MissingParam.With("There is no master key yet")
	}
	var keys []storage.CrossSigningKey
	var gone, ids []string
	var signatures []storage.KeySignature
	for _, usage := range []string{storage.MasterKey, storage.SelfSigningKey, storage.UserSigningKey} {
		key, before := given[usage], stored[usage]
		if key == nil && (usage == storage.MasterKey || !newMaster) {
			key = before // a new master key has not signed it, else
		}
		if before != nil && (key == nil || key.ID != before.ID) {
			gone = append(gone, before.ID)
		}
		if key == nil {
			continue
		}
		if key == given[usage] && usage != storage.MasterKey {
			if !signedBy(key.signed, userID, master.ID, master.public) {
				return errSignature.With("The " + usage + " key is not signed by the master key")
			}
			signatures = append(signatures, signatureOf(userID, key.ID, key.signed, master.ID))
		}
		keys, ids = append(keys, key.CrossSigningKey), append(ids, key.ID)
	}
	if used, err := tx.DevicesNamed(ctx, userID, ids); err != nil {
		return err
	} else if len(used) > 0 {
		return matrix.Forbidden.With("A device has this public key as its id")
	}
	if err := tx.DeleteSignatures(ctx, userID, gone); err != nil {
		return err
	}
	if err := tx.SetCrossSigningKeys(ctx, userID, keys); err != nil {
		return err
	}
	if key := given[storage.MasterKey]; key != nil {
		own, err := deviceSigners(ctx, &tx.Reader, userID)
		if err != nil {
			return err
		}
		for deviceID, public := range own {
			if signedBy(key.signed, userID, deviceID, public) {
				signatures = append(signatures, signatureOf(userID, key.ID, key.signed, deviceID))
			}
		}
	}
	if len(signatures) > 0 {
		if err := tx.AddKeySignatures(ctx, userID, signatures); err != nil {
			return err
		}
	}
	if err := tx.ChangeDeviceList(ctx, userID); err != nil {
		return err
	}
	return k.tellSigningKeys(ctx, tx, userID)
}

// RemoveUser removes the cross-signing keys, signatures and backups of a user who was
// deactivated.
func (k *Keys) RemoveUser(ctx context.Context, userID string) error {
	if err := k.deleteBackups(ctx, userID); err != nil {
		return err
	}
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		if err := tx.SetCrossSigningKeys(ctx, userID, nil); err != nil {
			return err
		}
		return tx.DeleteAllSignatures(ctx, userID)
	})
}

// signatureOf is the signature of an object by a key of the user.
func signatureOf(userID, keyID string, s *matrix.Signed, signer string) storage.KeySignature {
	name := "ed25519:" + signer
	return storage.KeySignature{UserID: userID, KeyID: keyID, Signer: userID, SignerKey: name, Signature: s.Signatures[userID][name]}
}

// deviceSigners are the ed25519 keys of a user's devices, by device.
func deviceSigners(ctx context.Context, q *storage.Reader, userID string) (map[string]ed25519.PublicKey, error) {
	devices, err := q.DeviceKeys(ctx, []string{userID})
	if err != nil {
		return nil, err
	}
	signers := map[string]ed25519.PublicKey{}
	for _, d := range devices {
		if key := deviceSigner(d); key != nil {
			signers[d.DeviceID] = key
		}
	}
	return signers, nil
}

// deviceSigner is the ed25519 key of a device; nil for one that has none.
func deviceSigner(d storage.DeviceKeys) ed25519.PublicKey {
	var keys deviceKeys
	if json.Unmarshal(d.Keys, &keys) != nil {
		return nil
	}
	public, err := matrix.DecodeVerifyKey(keys.Keys["ed25519:"+d.DeviceID])
	if err != nil {
		return nil
	}
	return public
}

// tellSigningKeys tells the servers around the user which cross-signing keys the user has.
func (k *Keys) tellSigningKeys(ctx context.Context, tx *storage.Tx, userID string) error {
	if !k.federation {
		return nil
	}
	around, err := tx.ServersAround(ctx, k.own, []string{userID})
	if err != nil || len(around[userID]) == 0 {
		return err
	}
	signed, err := k.signedKeys(ctx, &tx.Reader, []string{userID}, "")
	if err != nil {
		return err
	}
	content, err := json.Marshal(signingUpdate{userID, signed.cross[userID][storage.MasterKey], signed.cross[userID][storage.SelfSigningKey]})
	if err != nil {
		return err
	}
	return tx.QueueEDU(ctx, storage.QueuedEDU{Servers: around[userID], Type: "m.signing_key_update", Content: content})
}

// signingUpdate is the content of m.signing_key_update.
type signingUpdate struct {
	UserID         string             `json:"user_id"`
	MasterKey      stdjson.RawMessage `json:"master_key,omitzero"`
	SelfSigningKey stdjson.RawMessage `json:"self_signing_key,omitzero"`
}

// TakeSigningKeys takes in m.signing_key_update of another server. What is kept of the user
// is asked for anew.
func (k *Keys) TakeSigningKeys(ctx context.Context, origin string, contents []stdjson.RawMessage) error {
	updates := map[string][]listUpdate{}
	for _, raw := range contents {
		var u signingUpdate
		if json.Unmarshal(raw, &u) == nil && matrix.ValidUserID(u.UserID) && matrix.ServerOf(u.UserID) == origin {
			updates[u.UserID] = []listUpdate{{UserID: u.UserID, StreamID: math.MaxInt64}} // which follows on nothing
		}
	}
	return k.takeChanges(ctx, updates)
}
