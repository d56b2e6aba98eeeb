package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"

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

// ToDeviceQueue is what waits for a device.
type ToDeviceQueue struct {
	UserID   string
	DeviceID string
	Messages int64
	Bytes    int64 // of their senders, types and contents
}

// ToDeviceQueues are the queues of all devices of the users, empty ones too.
func (q *Reader) ToDeviceQueues(ctx context.Context, userIDs []string) ([]ToDeviceQueue, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT d.user_id, d.device_id, COALESCE(w.messages, 0), COALESCE(w.bytes, 0) FROM devices d
		LEFT JOIN to_device_queues w ON w.user_id = d.user_id AND w.device_id = d.device_id WHERE d.user_id = ANY($1)`,
		func(row scanner, w *ToDeviceQueue) error {
			return row.Scan(&w.UserID, &w.DeviceID, &w.Messages, &w.Bytes)
		}, List(userIDs))
}

// AddToDevice stores messages for devices of this server, and tells these. No two of one
// batch are for one device. Pos of the messages is not looked at. It is called once in a
// transaction: no two transactions lock devices in another order.
func (tx *Tx) AddToDevice(ctx context.Context, batches [][]ToDeviceMessage) error {
	type device struct{ userID, deviceID string }
	grown := map[device]*ToDeviceQueue{}
	var rows [][]any
	for _, batch := range batches {
		if len(batch) == 0 {
			continue
		}
		pos := tx.Reserve()
		entry := ToDevice{Devices: make(map[string][]string, len(batch))}
		for _, m := range batch {
			rows = append(rows, []any{m.UserID, m.DeviceID, pos, m.Sender, m.Type, string(m.Content)})
			entry.Devices[m.UserID] = append(entry.Devices[m.UserID], m.DeviceID)
			w := grown[device{m.UserID, m.DeviceID}]
			if w == nil {
				w = &ToDeviceQueue{UserID: m.UserID, DeviceID: m.DeviceID}
				grown[device{m.UserID, m.DeviceID}] = w
			}
			w.Messages++
			w.Bytes += int64(len(m.Sender) + len(m.Type) + len(m.Content))
		}
		tx.Publish(stream.Entry{Pos: pos, Kind: stream.ToDevice, Value: entry, Size: 100 * len(batch)})
	}
	err := tx.execEach(ctx, `INSERT INTO to_device (user_id, device_id, pos, sender, type, content) VALUES ($1, $2, $3, $4, $5, $6)`, rows)
	if err != nil {
		return err
	}
	queues := slices.SortedFunc(maps.Values(grown), func(a, b *ToDeviceQueue) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.DeviceID, b.DeviceID))
	})
	rows = rows[:0]
	for _, w := range queues {
		rows = append(rows, []any{w.UserID, w.DeviceID, w.Messages, w.Bytes})
	}
	return tx.execEach(ctx, `INSERT INTO to_device_queues (user_id, device_id, messages, bytes) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, device_id) DO UPDATE SET messages = to_device_queues.messages + excluded.messages,
			bytes = to_device_queues.bytes + excluded.bytes`, rows)
}

// DeleteToDevice removes the messages for a device up to a position: it has got them.
func (tx *Tx) DeleteToDevice(ctx context.Context, userID, deviceID string, upTo stream.Pos) error {
	var messages, bytes int64
	err := tx.each(ctx, `DELETE FROM to_device WHERE user_id = $1 AND device_id = $2 AND pos <= $3
		RETURNING OCTET_LENGTH(sender) + OCTET_LENGTH(type) + OCTET_LENGTH(content)`, func(row scanner) error {
		var size int64
		err := row.Scan(&size)
		messages, bytes = messages+1, bytes+size
		return err
	}, userID, deviceID, upTo)
	if err != nil || messages == 0 {
		return err
	}
	return tx.exec(ctx, `UPDATE to_device_queues SET messages = messages - $1, bytes = bytes - $2 WHERE user_id = $3 AND device_id = $4`,
		messages, bytes, userID, deviceID)
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
