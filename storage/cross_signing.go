package storage

import (
	"context"
	"encoding/json"

	"beep/stream"
)

// The usages of cross-signing keys.
const (
	MasterKey      = "master"
	SelfSigningKey = "self_signing"
	UserSigningKey = "user_signing"
)

// CrossSigningKey is a cross-signing key of a user.
type CrossSigningKey struct {
	UserID string
	Usage  string
	ID     string          // the public key, in base64
	Key    json.RawMessage // the signed object
}

// CrossSigningKeys are the keys of the users.
func (q *Reader) CrossSigningKeys(ctx context.Context, userIDs []string) ([]CrossSigningKey, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT user_id, usage, key_id, key FROM cross_signing_keys WHERE user_id = ANY($1)`,
		func(row scanner, k *CrossSigningKey) error {
			return row.Scan(&k.UserID, &k.Usage, &k.ID, (*[]byte)(&k.Key))
		}, List(userIDs))
}

// SetCrossSigningKeys replaces the keys of a user by these.
func (tx *Tx) SetCrossSigningKeys(ctx context.Context, userID string, keys []CrossSigningKey) error {
	if err := tx.exec(ctx, `DELETE FROM cross_signing_keys WHERE user_id = $1`, userID); err != nil {
		return err
	}
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{userID, k.Usage, k.ID, string(k.Key)}
	}
	return tx.execEach(ctx, `INSERT INTO cross_signing_keys (user_id, usage, key_id, key) VALUES ($1, $2, $3, $4)`, rows)
}

// KeySignature is a user's signature of a key.
type KeySignature struct {
	UserID    string // whose key it is of
	KeyID     string // the id of a device, or a public key
	Signer    string
	SignerKey string // as ed25519:ABC
	Signature string
}

// KeySignatures are the signatures of the users' keys that the users themselves or the one
// who asks have made.
func (q *Reader) KeySignatures(ctx context.Context, userIDs []string, asker string) ([]KeySignature, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT user_id, key_id, signer, signer_key, signature FROM key_signatures
		WHERE user_id = ANY($1) AND (signer = user_id OR signer = $2)`,
		func(row scanner, s *KeySignature) error {
			return row.Scan(&s.UserID, &s.KeyID, &s.Signer, &s.SignerKey, &s.Signature)
		}, List(userIDs), asker)
}

// AddKeySignatures stores signatures of one signer, no two of one key by one key. Those of
// keys of others are told to the signer alone.
func (tx *Tx) AddKeySignatures(ctx context.Context, signer string, signatures []KeySignature) error {
	pos := tx.Reserve()
	rows := make([][]any, len(signatures))
	var others []string
	for i, s := range signatures {
		rows[i] = []any{s.UserID, s.KeyID, signer, s.SignerKey, s.Signature, pos}
		if s.UserID != signer {
			others = append(others, s.UserID)
		}
	}
	err := tx.execEach(ctx, `INSERT INTO key_signatures (user_id, key_id, signer, signer_key, signature, pos) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (user_id, key_id, signer, signer_key) DO UPDATE SET signature = excluded.signature, pos = excluded.pos`, rows)
	if err != nil || len(others) == 0 {
		return err
	}
	tx.Publish(stream.Entry{Pos: pos, Kind: stream.DeviceList, User: signer, Value: others, Size: 64 * len(others)})
	return nil
}

// SignedSince are the other users of whose keys the user made signatures with
// after < pos <= upTo.
func (q *Reader) SignedSince(ctx context.Context, signer string, after, upTo stream.Pos) ([]string, error) {
	return selectAll(ctx, q, `SELECT DISTINCT user_id FROM key_signatures WHERE signer = $1 AND pos > $2 AND pos <= $3
		AND user_id <> $1`, scanValue[string], signer, after, upTo)
}

// DeleteAllSignatures removes all signatures of a user's keys and those that the user made.
func (tx *Tx) DeleteAllSignatures(ctx context.Context, userID string) error {
	return tx.exec(ctx, `DELETE FROM key_signatures WHERE user_id = $1 OR signer = $1`, userID)
}

// DeleteSignatures removes the signatures of a user's keys, and those made with them. The
// keys are named by ids of devices and public keys.
func (tx *Tx) DeleteSignatures(ctx context.Context, userID string, keyIDs []string) error {
	if len(keyIDs) == 0 {
		return nil
	}
	signers := make(List, len(keyIDs))
	for i, id := range keyIDs {
		signers[i] = "ed25519:" + id
	}
	if err := tx.exec(ctx, `DELETE FROM key_signatures WHERE user_id = $1 AND key_id = ANY($2)`, userID, List(keyIDs)); err != nil {
		return err
	}
	return tx.exec(ctx, `DELETE FROM key_signatures WHERE signer = $1 AND signer_key = ANY($2)`, userID, signers)
}
