package storage

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Device is a user's device.
type Device struct {
	UserID      string
	ID          string
	DisplayName string // "" for none
	Created     int64  // ms
	Seen        Seen
}

// Seen is when and where a device was last heard of.
type Seen struct {
	At    int64 // ms
	IP    string
	Agent string // the client's User-Agent
}

const deviceColumns = `user_id, device_id, display_name, created_ts, seen_ts, seen_ip, seen_agent`

func scanDevice(row scanner, d *Device) error {
	var name sql.NullString
	err := row.Scan(&d.UserID, &d.ID, &name, &d.Created, &d.Seen.At, &d.Seen.IP, &d.Seen.Agent)
	d.DisplayName = name.String
	return err
}

// Device finds a user's device.
func (q *Reader) Device(ctx context.Context, userID, deviceID string) (Device, error) {
	return selectOne(ctx, q, `SELECT `+deviceColumns+` FROM devices WHERE user_id = $1 AND device_id = $2`,
		scanDevice, userID, deviceID)
}

// Devices are all devices of a user, by id.
func (q *Reader) Devices(ctx context.Context, userID string) ([]Device, error) {
	return selectAll(ctx, q, `SELECT `+deviceColumns+` FROM devices WHERE user_id = $1 ORDER BY device_id`, scanDevice, userID)
}

// InsertDevice makes a device unless the user has it already; it tells whether it was made.
func (tx *Tx) InsertDevice(ctx context.Context, d *Device) (made bool, err error) {
	n, err := tx.execCount(ctx, `INSERT INTO devices (`+deviceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (user_id, device_id) DO NOTHING`,
		d.UserID, d.ID, orNull(d.DisplayName), d.Created, d.Seen.At, d.Seen.IP, d.Seen.Agent)
	return n > 0, err
}

// RenameDevice sets a device's display name. [ErrNotFound]: no such device.
func (tx *Tx) RenameDevice(ctx context.Context, userID, deviceID, name string) error {
	return tx.execOne(ctx, `UPDATE devices SET display_name = $1 WHERE user_id = $2 AND device_id = $3`,
		orNull(name), userID, deviceID)
}

// DeleteDevices removes those of the devices that exist, with their tokens. It gives their
// ids and the hashes of the access tokens that are gone.
func (tx *Tx) DeleteDevices(ctx context.Context, userID string, deviceIDs []string) (ids []string, gone []Hash, err error) {
	ids, err = selectAll(ctx, &tx.Reader, `DELETE FROM devices WHERE user_id = $1 AND device_id = ANY($2) RETURNING device_id`,
		scanValue[string], userID, List(deviceIDs))
	if err != nil {
		return nil, nil, err
	}
	err = tx.exec(ctx, `DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = ANY($2)`, userID, List(deviceIDs))
	if err != nil {
		return nil, nil, err
	}
	gone, err = selectAll(ctx, &tx.Reader, `DELETE FROM access_tokens WHERE user_id = $1 AND device_id = ANY($2) RETURNING hash`,
		scanHash, userID, List(deviceIDs))
	return ids, gone, err
}

// DeleteDevicesExcept removes all devices of a user but the one to keep ("" keeps none),
// with their tokens. It gives their ids and the hashes of the access tokens that are gone.
func (tx *Tx) DeleteDevicesExcept(ctx context.Context, userID, keep string) (ids []string, gone []Hash, err error) {
	ids, err = selectAll(ctx, &tx.Reader, `DELETE FROM devices WHERE user_id = $1 AND device_id <> $2 RETURNING device_id`,
		scanValue[string], userID, keep)
	if err != nil {
		return nil, nil, err
	}
	err = tx.exec(ctx, `DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id <> $2`, userID, keep)
	if err != nil {
		return nil, nil, err
	}
	gone, err = selectAll(ctx, &tx.Reader, `DELETE FROM access_tokens WHERE user_id = $1 AND device_id <> $2 RETURNING hash`,
		scanHash, userID, keep)
	return ids, gone, err
}

// SeenBatch is how many devices one call of [Tx.UpdateSeen] takes.
const SeenBatch = 20

// UpdateSeen notes when and where devices were last heard of; of each only UserID,
// ID and Seen count. At most [SeenBatch] at once; a device that is gone stays gone.
func (tx *Tx) UpdateSeen(ctx context.Context, devices []Device) error {
	args := make([]any, 0, 5*SeenBatch)
	for _, d := range devices {
		args = append(args, d.UserID, d.ID, d.Seen.At, d.Seen.IP, d.Seen.Agent)
	}
	for len(args) < 5*SeenBatch {
		args = append(args, "", "", int64(0), "", "") // matches no device
	}
	return tx.exec(ctx, updateSeen, args...)
}

var updateSeen = updateSeenText()

func updateSeenText() string {
	var rows []string
	for i := range SeenBatch {
		n := 5 * i
		rows = append(rows, fmt.Sprintf("($%d, $%d, CAST($%d AS BIGINT), $%d, $%d)", n+1, n+2, n+3, n+4, n+5))
	}
	return `UPDATE devices SET seen_ts = v.column3, seen_ip = v.column4, seen_agent = v.column5
		FROM (VALUES ` + strings.Join(rows, ", ") + `) AS v
		WHERE devices.user_id = v.column1 AND devices.device_id = v.column2`
}
