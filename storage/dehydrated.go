package storage

import (
	"context"
	"encoding/json"
)

// DehydratedDevice is a device that nobody is logged in with: what is sent to it waits for
// the user's next one.
type DehydratedDevice struct {
	DeviceID string
	Data     json.RawMessage // how to make a device of it again
}

// DehydratedDevice finds a user's. [ErrNotFound]: there is none.
func (q *Reader) DehydratedDevice(ctx context.Context, userID string) (DehydratedDevice, error) {
	return selectOne(ctx, q, `SELECT device_id, device_data FROM dehydrated_devices WHERE user_id = $1`,
		func(row scanner, d *DehydratedDevice) error { return row.Scan(&d.DeviceID, (*[]byte)(&d.Data)) }, userID)
}

// TakeDehydratedDevice takes a user's away, and gives its id: the device itself is still to
// be removed. [ErrNotFound]: there is none.
func (tx *Tx) TakeDehydratedDevice(ctx context.Context, userID string) (deviceID string, err error) {
	return selectOne(ctx, &tx.Reader, `DELETE FROM dehydrated_devices WHERE user_id = $1 RETURNING device_id`, scanValue[string], userID)
}

// AddDehydratedDevice makes a device the dehydrated one of a user who has none.
func (tx *Tx) AddDehydratedDevice(ctx context.Context, userID string, d DehydratedDevice) error {
	return tx.exec(ctx, `INSERT INTO dehydrated_devices (user_id, device_id, device_data) VALUES ($1, $2, $3)`, userID, d.DeviceID, string(d.Data))
}
