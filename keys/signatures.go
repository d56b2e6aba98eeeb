package keys

import (
	"bytes"
	"context"
	"crypto/ed25519"
	stdjson "encoding/json"

	"beep/matrix"
	"beep/storage"
)

// signed are keys of users with the signatures that somebody may see.
type signed struct {
	devices []storage.DeviceKeys
	cross   map[string]map[string]stdjson.RawMessage // by user and usage
}

// signedKeys are the identity keys and cross-signing keys of users of this server, with the
// signatures that the users have made, and those that the one who asks has.
func (k *Keys) signedKeys(ctx context.Context, q *storage.Reader, userIDs []string, asker string) (*signed, error) {
	devices, err := q.DeviceKeys(ctx, userIDs)
	if err != nil {
		return nil, err
	}
	return k.sign(ctx, q, userIDs, devices, asker)
}

// sign adds the signatures that may be seen, and the cross-signing keys.
func (k *Keys) sign(ctx context.Context, q *storage.Reader, userIDs []string, devices []storage.DeviceKeys, asker string) (*signed, error) {
	cross, err := q.CrossSigningKeys(ctx, userIDs)
	if err != nil {
		return nil, err
	}
	all, err := q.KeySignatures(ctx, userIDs, asker)
	if err != nil {
		return nil, err
	}
	type name struct{ userID, keyID string }
	made := map[name][]storage.KeySignature{}
	for _, s := range all {
		made[name{s.UserID, s.KeyID}] = append(made[name{s.UserID, s.KeyID}], s)
	}
	s := &signed{devices: devices, cross: map[string]map[string]stdjson.RawMessage{}}
	for i, d := range devices {
		if d.Keys == nil {
			continue
		}
		if devices[i].Keys, err = withSignatures(d.Keys, made[name{d.UserID, d.DeviceID}]); err != nil {
			return nil, err
		}
	}
	for _, key := range cross {
		text, err := withSignatures(key.Key, made[name{key.UserID, key.ID}])
		if err != nil {
			return nil, err
		}
		if s.cross[key.UserID] == nil {
			s.cross[key.UserID] = map[string]stdjson.RawMessage{}
		}
		s.cross[key.UserID][key.Usage] = text
	}
	return s, nil
}

// withSignatures is an object with more signatures.
func withSignatures(object []byte, signatures []storage.KeySignature) ([]byte, error) {
	if len(signatures) == 0 {
		return object, nil
	}
	s, err := matrix.ParseSigned(object, true)
	if err != nil {
		return nil, err
	}
	for _, signature := range signatures {
		if s.Signatures[signature.Signer] == nil {
			s.Signatures[signature.Signer] = map[string]string{}
		}
		s.Signatures[signature.Signer][signature.SignerKey] = signature.Signature
	}
	return s.JSON()
}

// Signatures are signed objects by user and by the id of a device or a public key.
type Signatures map[string]map[string]stdjson.RawMessage

// Failures say of which objects the signatures were refused.
type Failures struct {
	Failures map[string]map[string]Failure `json:"failures"`
}

// Failure is why signatures were refused.
type Failure struct {
	Code    string `json:"errcode"`
	Message string `json:"error"`
}

// AddSignatures stores those signatures of a user of this server that are right: of the
// user's own devices by the self-signing key, of the own master key by devices, and of
// others' master keys by the user-signing key. It tells which are not.
func (k *Keys) AddSignatures(ctx context.Context, userID string, all Signatures) (*Failures, error) {
	failures := &Failures{map[string]map[string]Failure{}}
	err := k.db.Write(ctx, func(tx *storage.Tx) error {
		clear(failures.Failures)
		return k.addSignatures(ctx, tx, userID, all, failures)
	})
	return failures, err
}

func (k *Keys) addSignatures(ctx context.Context, tx *storage.Tx, userID string, all Signatures, failures *Failures) error {
	if _, err := tx.LockDeviceList(ctx, userID); err != nil {
		return err
	}
	targets, err := signable(ctx, tx, userID, all)
	if err != nil {
		return err
	}
	var made []storage.KeySignature
	var devices []string
	ownMaster := false
	for ownerID, objects := range all {
		for keyID, raw := range objects {
			target := targets[signee{ownerID, keyID}]
			signatures, refused := target.check(userID, ownerID, keyID, raw)
			if refused != nil {
				failures.add(ownerID, keyID, refused)
				continue
			}
			made = append(made, signatures...)
			switch {
			case ownerID != userID || len(signatures) == 0:
			case target.device:
				devices = append(devices, keyID)
			default:
				ownMaster = true
			}
		}
	}
	if len(made) == 0 {
		return nil
	}
	if err := tx.AddKeySignatures(ctx, userID, made); err != nil {
		return err
	}
	if ownMaster {
		if err := k.tellSigningKeys(ctx, tx, userID); err != nil {
			return err
		}
		if len(devices) == 0 {
			return tx.ChangeDeviceList(ctx, userID)
		}
	}
	return k.DevicesChanged(ctx, tx, userID, devices)
}

func (f *Failures) add(userID, keyID string, err *matrix.Error) {
	if f.Failures[userID] == nil {
		f.Failures[userID] = map[string]Failure{}
	}
	f.Failures[userID][keyID] = Failure{err.Code, err.Message}
}

// signee names a key that is signed.
type signee struct{ userID, keyID string }

// target is a key that may be signed, and who may.
type target struct {
	object  []byte // as it is stored
	device  bool
	signers map[string]ed25519.PublicKey // by name, as ed25519:ABC
}

// signable are the keys that the user may sign, of those that are named.
func signable(ctx context.Context, tx *storage.Tx, userID string, all Signatures) (map[signee]*target, error) {
	own, err := crossKeys(ctx, &tx.Reader, userID)
	if err != nil {
		return nil, err
	}
	devices, err := tx.DeviceKeys(ctx, []string{userID})
	if err != nil {
		return nil, err
	}
	targets := map[signee]*target{}
	byDevices := map[string]ed25519.PublicKey{}
	for _, d := range devices {
		t := &target{object: d.Keys, device: true, signers: map[string]ed25519.PublicKey{}}
		if key := deviceSigner(d); key != nil {
			byDevices["ed25519:"+d.DeviceID] = key
		}
		if key := own[storage.SelfSigningKey]; key != nil {
			t.signers["ed25519:"+key.ID] = key.public
		}
		targets[signee{userID, d.DeviceID}] = t
	}
	if key := own[storage.MasterKey]; key != nil {
		targets[signee{userID, key.ID}] = &target{object: key.Key, signers: byDevices}
	}
	if own[storage.UserSigningKey] == nil {
		return targets, nil
	}
	others := make([]string, 0, len(all))
	for ownerID := range all {
		if ownerID != userID && matrix.ValidUserID(ownerID) {
			others = append(others, ownerID)
		}
	}
	keys, err := tx.CrossSigningKeys(ctx, others)
	for _, key := range keys {
		if key.Usage == storage.MasterKey {
			signer := own[storage.UserSigningKey]
			targets[signee{key.UserID, key.ID}] = &target{object: key.Key, signers: map[string]ed25519.PublicKey{"ed25519:" + signer.ID: signer.public}}
		}
	}
	return targets, err
}

// check gives the new signatures of an object, all of which must be right.
func (t *target) check(signer, ownerID, keyID string, raw []byte) ([]storage.KeySignature, *matrix.Error) {
	if t == nil {
		return nil, matrix.NotFound.With("You have no such key to sign, or none to sign it with")
	}
	given, err := matrix.ParseSigned(raw, true)
	if err != nil {
		return nil, matrix.BadJSON.With("This is no signed object")
	}
	stored, err := matrix.ParseSigned(t.object, true)
	if err != nil || !bytes.Equal(stored.Message, given.Message) {
		return nil, matrix.InvalidParam.With("This is not the key as it was published")
	}
	var made []storage.KeySignature
	for name, signature := range given.Signatures[signer] {
		if stored.Signatures[signer][name] == signature {
			continue // it came with the key
		}
		public, may := t.signers[name]
		if !may || !matrix.VerifySignature(public, given.Message, signature) {
			return nil, errSignature.With("The signature by " + name + " is wrong, or that key may not sign this one")
		}
		made = append(made, storage.KeySignature{UserID: ownerID, KeyID: keyID, Signer: signer, SignerKey: name, Signature: signature})
	}
	if len(given.Signatures[signer]) == 0 {
		return nil, errSignature.With("There is no signature of yours")
	}
	return made, nil
}
