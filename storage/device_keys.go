package storage

import (
	"context"
	"database/sql"
	"encoding/json"
)

// DeviceKeys are the identity keys of a device of this server.
type DeviceKeys struct {
	UserID      string
	DeviceID    string
	DisplayName string          // "" for none
	Keys        json.RawMessage // as uploaded; nil when the device has none
}

func scanDeviceKeys(row scanner, k *DeviceKeys) error {
	var name sql.NullString
	err := row.Scan(&k.UserID, &k.DeviceID, &name, (*[]byte)(&k.Keys))
	k.DisplayName = name.String
	return err
}

const deviceKeysSelect = `SELECT d.user_id, d.device_id, d.display_name, k.keys FROM devices d
	LEFT JOIN device_keys k ON k.user_id = d.user_id AND k.device_id = d.device_id `

// DeviceKeys are the identity keys of those devices of the users that have some, by user
// and device.
func (q *Reader) DeviceKeys(ctx context.Context, userIDs []string) ([]DeviceKeys, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, deviceKeysSelect+`WHERE d.user_id = ANY($1) AND k.keys IS NOT NULL
		ORDER BY d.user_id, d.device_id`, scanDeviceKeys, List(userIDs))
}

// DevicesNamed are those of a user's devices that exist, with or without keys, by id.
func (q *Reader) DevicesNamed(ctx context.Context, userID string, deviceIDs []string) ([]DeviceKeys, error) {
	return selectAll(ctx, q, deviceKeysSelect+`WHERE d.user_id = $1 AND d.device_id = ANY($2) ORDER BY d.device_id`,
		scanDeviceKeys, userID, List(deviceIDs))
}

// KeyHolder is the row of a device that uploads keys.
type KeyHolder struct {
	ID   int64
	Keys json.RawMessage // its identity keys; nil without
}

// LockKeys finds or makes the row of a device's keys, and keeps other transactions that
// change these waiting until the end of this one. [ErrNotFound]: no such device.
func (tx *Tx) LockKeys(ctx context.Context, userID, deviceID string) (KeyHolder, error) {
	// A device that is deleted at the same time must not leave keys behind.
	err := tx.execOne(ctx, `UPDATE devices SET device_id = device_id WHERE user_id = $1 AND device_id = $2`, userID, deviceID)
	if err != nil {
		return KeyHolder{}, err
	}
	return selectOne(ctx, &tx.Reader, `INSERT INTO device_keys (user_id, device_id) VALUES ($1, $2)
		ON CONFLICT (user_id, device_id) DO UPDATE SET counted = device_keys.counted RETURNING id, keys`,
		func(row scanner, h *KeyHolder) error { return row.Scan(&h.ID, (*[]byte)(&h.Keys)) }, userID, deviceID)
}

// SetDeviceKeys replaces the identity keys of a device whose row is locked.
func (tx *Tx) SetDeviceKeys(ctx context.Context, holder int64, keys json.RawMessage) error {
	return tx.exec(ctx, `UPDATE device_keys SET keys = $1 WHERE id = $2`, string(keys), holder)
}

// DeleteDeviceKeys removes all that is kept for devices that are gone: their keys of every
// kind, the messages for them and what they have sent.
func (tx *Tx) DeleteDeviceKeys(ctx context.Context, userID string, deviceIDs []string) error {
	for _, text := range []string{
		`DELETE FROM one_time_keys WHERE device IN (SELECT id FROM device_keys WHERE user_id = $1 AND device_id = ANY($2))`,
		`DELETE FROM fallback_keys WHERE device IN (SELECT id FROM device_keys WHERE user_id = $1 AND device_id = ANY($2))`,
		`DELETE FROM device_keys WHERE user_id = $1 AND device_id = ANY($2)`,
		`DELETE FROM to_device WHERE user_id = $1 AND device_id = ANY($2)`,
		`DELETE FROM to_device_queues WHERE user_id = $1 AND device_id = ANY($2)`,
		`DELETE FROM dehydrated_devices WHERE user_id = $1 AND device_id = ANY($2)`,
		`DELETE FROM to_device_txns WHERE sender = $1 AND device_id = ANY($2)`,
	} {
		if err := tx.exec(ctx, text, userID, List(deviceIDs)); err != nil {
			return err
		}
	}
	return nil
}
