package storage

import (
	"context"
	"encoding/json"

	"beep/stream"
)

// ToDevice is a message for devices of this server, as the log has it: without its content.
type ToDevice struct {
	Devices map[string][]string // by user
}

// ToDeviceMessage is a message for one device.
type ToDeviceMessage struct {
	UserID   string
	DeviceID string
	Sender   string
	Type     string
	Content  json.RawMessage // a JSON object
	Pos      stream.Pos      // which orders a device's messages
}

// ToDeviceMessages are the first messages for a device with after < pos <= upTo, in order.
func (q *Reader) ToDeviceMessages(ctx context.Context, userID, deviceID string, after, upTo stream.Pos, limit int) ([]ToDeviceMessage, error) {
	return selectAll(ctx, q, `SELECT user_id, device_id, sender, type, content, pos FROM to_device
		WHERE user_id = $1 AND device_id = $2 AND pos > $3 AND pos <= $4 ORDER BY pos LIMIT $5`,
		func(row scanner, m *ToDeviceMessage) error {
			return row.Scan(&m.UserID, &m.DeviceID, &m.Sender, &m.Type, (*[]byte)(&m.Content), &m.Pos)
		}, userID, deviceID, after, upTo, limit)
}

// HasToDevice tells whether there are messages for a device up to a position.
func (q *Reader) HasToDevice(ctx context.Context, userID, deviceID string, upTo stream.Pos) (bool, error) {
	return selectOne(ctx, q, `SELECT EXISTS (SELECT 1 FROM to_device WHERE user_id = $1 AND device_id = $2 AND pos <= $3)`,
		scanValue[bool], userID, deviceID, upTo)
}

// MaxToDevice is how many messages may wait for one device.
const MaxToDevice = 10_000

// Reachable are the devices of the users, by user, that have room for another message.
func (q *Reader) Reachable(ctx context.Context, userIDs []string) (map[string][]string, error) {
	found := make(map[string][]string, len(userIDs))
	if len(userIDs) == 0 {
		return found, nil
	}
	err := q.each(ctx, `SELECT d.user_id, d.device_id FROM devices d WHERE d.user_id = ANY($1) AND NOT EXISTS (
		SELECT 1 FROM to_device t WHERE t.user_id = d.user_id AND t.device_id = d.device_id ORDER BY t.pos LIMIT 1 OFFSET $2)`,
		func(row scanner) error {
			var userID, deviceID string
			err := row.Scan(&userID, &deviceID)
			found[userID] = append(found[userID], deviceID)
			return err
		}, List(userIDs), MaxToDevice-1)
	return found, err
}

// AddToDevice stores messages for devices of this server, no two for one device, and tells
// these. Pos of the messages is not looked at.
func (tx *Tx) AddToDevice(ctx context.Context, messages []ToDeviceMessage) error {
	if len(messages) == 0 {
		return nil
	}
	pos := tx.Reserve()
	rows := make([][]any, len(messages))
	entry := ToDevice{Devices: make(map[string][]string, len(messages))}
	for i, m := range messages {
		rows[i] = []any{m.UserID, m.DeviceID, pos, m.Sender, m.Type, string(m.Content)}
		entry.Devices[m.UserID] = append(entry.Devices[m.UserID], m.DeviceID)
	}
	err := tx.execEach(ctx, `INSERT INTO to_device (user_id, device_id, pos, sender, type, content) VALUES ($1, $2, $3, $4, $5, $6)`, rows)
	if err != nil {
		return err
	}
	tx.Publish(stream.Entry{Pos: pos, Kind: stream.ToDevice, Value: entry, Size: 100 * len(messages)})
	return nil
}

// DeleteToDevice removes the messages for a device up to a position: it has got them.
func (tx *Tx) DeleteToDevice(ctx context.Context, userID, deviceID string, upTo stream.Pos) error {
	return tx.exec(ctx, `DELETE FROM to_device WHERE user_id = $1 AND device_id = $2 AND pos <= $3`, userID, deviceID, upTo)
}

// ToDeviceTxn names what was sent: by a client's device with a transaction id, or, with
// DeviceID "", by a user of another server with a message_id.
type ToDeviceTxn struct{ Sender, DeviceID, Type, TxnID string }

// AddToDeviceTxn notes that something was sent at a time (ms). It tells whether that is new.
func (tx *Tx) AddToDeviceTxn(ctx context.Context, t ToDeviceTxn, now int64) (isNew bool, err error) {
	n, err := tx.execCount(ctx, `INSERT INTO to_device_txns (sender, device_id, type, txn, ts) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT DO NOTHING`, t.Sender, t.DeviceID, t.Type, t.TxnID, now)
	return n > 0, err
}

// ForgetToDeviceTxns forgets at most limit of what was sent before a time (ms), the oldest
// first, and tells how many.
func (tx *Tx) ForgetToDeviceTxns(ctx context.Context, before int64, limit int) (int64, error) {
	return tx.execCount(ctx, `DELETE FROM to_device_txns WHERE (sender, device_id, type, txn) IN (
		SELECT sender, device_id, type, txn FROM to_device_txns WHERE ts < $1 ORDER BY ts LIMIT $2)`, before, limit)
}
