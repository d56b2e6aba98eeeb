package storage

import (
	"context"

	"beep/stream"
)

// DeviceList says what changed of a user's devices and keys last.
type DeviceList struct {
	Pos      stream.Pos // of the last change that clients hear of; 0: none ever
	StreamID int64      // of the last update that other servers were told; 0: none ever
}

func scanDeviceList(row scanner, l *DeviceList) error { return row.Scan(&l.Pos, &l.StreamID) }

// DeviceList finds a user's. [ErrNotFound]: nothing ever changed.
func (q *Reader) DeviceList(ctx context.Context, userID string) (DeviceList, error) {
	return selectOne(ctx, q, `SELECT pos, stream_id FROM device_lists WHERE user_id = $1`, scanDeviceList, userID)
}

// LockDeviceList gives a user's and keeps other transactions that change it waiting until
// the end of this one.
func (tx *Tx) LockDeviceList(ctx context.Context, userID string) (DeviceList, error) {
	return selectOne(ctx, &tx.Reader, `INSERT INTO device_lists (user_id) VALUES ($1)
		ON CONFLICT (user_id) DO UPDATE SET pos = device_lists.pos RETURNING pos, stream_id`, scanDeviceList, userID)
}

// ChangeDeviceList says that the identity keys of a user's devices have changed, and tells
// the clients around.
func (tx *Tx) ChangeDeviceList(ctx context.Context, userID string) error {
	if _, err := tx.LockDeviceList(ctx, userID); err != nil { // of two changes the later has the later position
		return err
	}
	pos := tx.Reserve()
	if err := tx.exec(ctx, `UPDATE device_lists SET pos = $1 WHERE user_id = $2`, pos, userID); err != nil {
		return err
	}
	tx.Publish(stream.Entry{Pos: pos, Kind: stream.DeviceList, User: userID})
	return nil
}

// NextUpdate gives the ids of n new updates for other servers, and of the last one before.
func (tx *Tx) NextUpdate(ctx context.Context, userID string, n int) (ids []int64, before int64, err error) {
	list, err := tx.LockDeviceList(ctx, userID)
	if err != nil {
		return nil, 0, err
	}
	for range n {
		// It is above all former ones even when the database was restored from a backup.
		ids = append(ids, int64(tx.Reserve()))
	}
	return ids, list.StreamID, tx.exec(ctx, `UPDATE device_lists SET stream_id = $1 WHERE user_id = $2`, ids[n-1], userID)
}

// DeviceListsSince are the users, the user or such as are joined to one of the rooms, whose
// devices or keys changed last with after < pos <= upTo.
func (q *Reader) DeviceListsSince(ctx context.Context, userID string, rooms []int64, after, upTo stream.Pos) ([]string, error) {
	return selectAll(ctx, q, `SELECT l.user_id FROM device_lists l WHERE l.pos > $3 AND l.pos <= $4 AND (l.user_id = $1 OR EXISTS (
			SELECT 1 FROM current_state y WHERE y.type = 'm.room.member' AND y.state_key = l.user_id AND y.membership = 'join'
				AND y.room = ANY($2)))`, scanValue[string], userID, Ints(rooms), after, upTo)
}

// MembersSince are the members of the rooms whose membership became what it is with
// after < pos <= upTo; those who are joined, and the others.
func (q *Reader) MembersSince(ctx context.Context, rooms []int64, after, upTo stream.Pos) (joined, gone []string, err error) {
	if len(rooms) == 0 {
		return nil, nil, nil
	}
	err = q.each(ctx, `SELECT DISTINCT c.state_key, c.membership = 'join' FROM current_state c
		WHERE c.room = ANY($1) AND c.type = 'm.room.member' AND c.changed > $2 AND c.changed <= $3 AND c.membership IS NOT NULL`,
		func(row scanner) error {
			var member string
			var in bool
			err := row.Scan(&member, &in)
			if in {
				joined = append(joined, member)
			} else {
				gone = append(gone, member)
			}
			return err
		}, Ints(rooms), after, upTo)
	return joined, gone, err
}

// JoinedMembers are the users who are joined to any of the rooms.
func (q *Reader) JoinedMembers(ctx context.Context, rooms []int64) ([]string, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT DISTINCT state_key FROM current_state
		WHERE room = ANY($1) AND type = 'm.room.member' AND membership = 'join'`, scanValue[string], Ints(rooms))
}

// JoinedToAny are those of the users who are joined to any of the rooms.
func (q *Reader) JoinedToAny(ctx context.Context, rooms []int64, userIDs []string) ([]string, error) {
	if len(rooms) == 0 || len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT DISTINCT state_key FROM current_state WHERE type = 'm.room.member'
		AND state_key = ANY($2) AND membership = 'join' AND room = ANY($1)`, scanValue[string], Ints(rooms), List(userIDs))
}
