package storage

import (
	"context"
	"slices"

	"beep/stream"
)

// RemoteList says how far the list of a user's devices, of another server, can be believed.
type RemoteList struct {
	UserID   string
	StreamID int64 // of the last update; 0: not known
	Stale    bool  // an update was missed
	Failures int64 // of attempts to renew it, in a row
}

const remoteListSelect = `SELECT user_id, stream_id, stale, failures FROM remote_device_lists `

func scanRemoteList(row scanner, l *RemoteList) error {
	return row.Scan(&l.UserID, &l.StreamID, &l.Stale, &l.Failures)
}

// RemoteLists finds those of the users' lists that are kept, by user.
func (q *Reader) RemoteLists(ctx context.Context, userIDs []string) (map[string]RemoteList, error) {
	lists := make(map[string]RemoteList, len(userIDs))
	if len(userIDs) == 0 {
		return lists, nil
	}
	all, err := selectAll(ctx, q, remoteListSelect+`WHERE user_id = ANY($1)`, scanRemoteList, List(userIDs))
	for _, l := range all {
		lists[l.UserID] = l
	}
	return lists, err
}

// StaleLists are at most limit of the lists that have to be renewed and may be tried by
// now (ms).
func (q *Reader) StaleLists(ctx context.Context, now int64, limit int) ([]RemoteList, error) {
	return selectAll(ctx, q, remoteListSelect+`WHERE stale AND retry_ts <= $1 ORDER BY retry_ts LIMIT $2`, scanRemoteList, now, limit)
}

// RemoteDevices are the devices of the users' lists.
func (q *Reader) RemoteDevices(ctx context.Context, userIDs []string) ([]DeviceKeys, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT user_id, device_id, display_name, keys FROM remote_devices WHERE user_id = ANY($1)
		ORDER BY user_id, device_id`, scanDeviceKeys, List(userIDs))
}

// Changes are the positions of the last changes of the users' devices or keys, by user; 0
// where nothing ever changed.
func (q *Reader) Changes(ctx context.Context, userIDs []string) (map[string]stream.Pos, error) {
	found := make(map[string]stream.Pos, len(userIDs))
	if len(userIDs) == 0 {
		return found, nil
	}
	err := q.each(ctx, `SELECT user_id, pos FROM device_lists WHERE user_id = ANY($1)`, func(row scanner) error {
		var userID string
		var pos stream.Pos
		err := row.Scan(&userID, &pos)
		found[userID] = pos
		return err
	}, List(userIDs))
	return found, err
}

// withUs is the condition that a row c of current_state is of a user who is joined to a
// room in which the server $1 has joined members.
const withUs = ` c.type = 'm.room.member' AND c.membership = 'join' AND EXISTS (
	SELECT 1 FROM room_servers s WHERE s.room = c.room AND s.server = $1 AND s.until = 0) `

// WithUs are those of the users who share a room with users of the server own.
func (q *Reader) WithUs(ctx context.Context, own string, userIDs []string) ([]string, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT DISTINCT c.state_key FROM current_state c WHERE c.state_key = ANY($2) AND`+withUs,
		scanValue[string], own, List(userIDs))
}

// SetRemoteDevices replaces the whole list of a user's devices.
func (tx *Tx) SetRemoteDevices(ctx context.Context, userID string, streamID int64, devices []DeviceKeys) error {
	if err := tx.SetRemoteList(ctx, userID, streamID); err != nil {
		return err
	}
	if err := tx.exec(ctx, `DELETE FROM remote_devices WHERE user_id = $1`, userID); err != nil {
		return err
	}
	rows := make([][]any, len(devices))
	for i, d := range devices {
		rows[i] = []any{userID, d.DeviceID, d.DisplayName, string(d.Keys)}
	}
	return tx.execEach(ctx, `INSERT INTO remote_devices (user_id, device_id, display_name, keys) VALUES ($1, $2, $3, $4)`, rows)
}

// SetRemoteList notes that a user's list is right, as of an update.
func (tx *Tx) SetRemoteList(ctx context.Context, userID string, streamID int64) error {
	return tx.exec(ctx, `INSERT INTO remote_device_lists (user_id, stream_id, stale) VALUES ($1, $2, FALSE)
		ON CONFLICT (user_id) DO UPDATE SET stream_id = excluded.stream_id, stale = FALSE, failures = 0, retry_ts = 0`, userID, streamID)
}

// SetRemoteDevice replaces one device of a user's list; without keys it is removed.
func (tx *Tx) SetRemoteDevice(ctx context.Context, d DeviceKeys) error {
	if d.Keys == nil {
		return tx.exec(ctx, `DELETE FROM remote_devices WHERE user_id = $1 AND device_id = $2`, d.UserID, d.DeviceID)
	}
	return tx.exec(ctx, `INSERT INTO remote_devices (user_id, device_id, display_name, keys) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, device_id) DO UPDATE SET display_name = excluded.display_name, keys = excluded.keys`,
		d.UserID, d.DeviceID, d.DisplayName, string(d.Keys))
}

// CountRemoteDevices is how many devices the user's list has.
func (q *Reader) CountRemoteDevices(ctx context.Context, userID string) (int64, error) {
	return selectOne(ctx, q, `SELECT COUNT(*) FROM remote_devices WHERE user_id = $1`, scanValue[int64], userID)
}

// MarkStale notes that a user's list has to be renewed, or kept from now on.
func (tx *Tx) MarkStale(ctx context.Context, userID string) error {
	return tx.exec(ctx, `INSERT INTO remote_device_lists (user_id, stream_id, stale) VALUES ($1, 0, TRUE)
		ON CONFLICT (user_id) DO UPDATE SET stale = TRUE, failures = 0, retry_ts = 0`, userID)
}

// PostponeRenewal notes that a stale list could not be renewed so many times, and is not
// to be tried before a time (ms).
func (tx *Tx) PostponeRenewal(ctx context.Context, userID string, failures, retry int64) error {
	return tx.exec(ctx, `UPDATE remote_device_lists SET failures = $2, retry_ts = $3 WHERE user_id = $1 AND stale`, userID, failures, retry)
}

// RetryRenewals has those of the stale lists tried again at once whose users are chosen.
func (tx *Tx) RetryRenewals(ctx context.Context, choose func(userID string) bool) error {
	userIDs, err := selectAll(ctx, &tx.Reader, `SELECT user_id FROM remote_device_lists WHERE stale AND retry_ts > 0`, scanValue[string])
	if err != nil {
		return err
	}
	userIDs = slices.DeleteFunc(userIDs, func(userID string) bool { return !choose(userID) })
	return tx.exec(ctx, `UPDATE remote_device_lists SET retry_ts = 0 WHERE user_id = ANY($1)`, List(userIDs))
}

// DropRemoteLists removes those of the lists whose users share no room with users of the
// server own: of all of the users, and of members of the rooms.
func (tx *Tx) DropRemoteLists(ctx context.Context, own string, userIDs []string, rooms []int64) error {
	gone, err := selectAll(ctx, &tx.Reader, `SELECT l.user_id FROM remote_device_lists l WHERE (l.user_id = ANY($2)
			OR EXISTS (SELECT 1 FROM current_state m WHERE m.type = 'm.room.member' AND m.state_key = l.user_id AND m.room = ANY($3)))
		AND NOT EXISTS (SELECT 1 FROM current_state c WHERE c.state_key = l.user_id AND`+withUs+`)`,
		scanValue[string], own, List(userIDs), Ints(rooms))
	if err != nil || len(gone) == 0 {
		return err
	}
	if err := tx.exec(ctx, `DELETE FROM remote_devices WHERE user_id = ANY($1)`, List(gone)); err != nil {
		return err
	}
	if err := tx.exec(ctx, `DELETE FROM cross_signing_keys WHERE user_id = ANY($1)`, List(gone)); err != nil {
		return err
	}
	return tx.exec(ctx, `DELETE FROM remote_device_lists WHERE user_id = ANY($1)`, List(gone))
}

// NewServers are the servers but own in a room that are in no other room of the user.
func (q *Reader) NewServers(ctx context.Context, own, userID string, room int64) ([]string, error) {
	return selectAll(ctx, q, `SELECT s.server FROM room_servers s WHERE s.room = $3 AND s.until = 0 AND s.server <> $1 AND NOT EXISTS (
		SELECT 1 FROM room_servers o JOIN current_state c ON c.room = o.room AND c.type = 'm.room.member' AND c.state_key = $2
			AND c.membership = 'join' WHERE o.server = s.server AND o.until = 0 AND o.room <> $3)`, scanValue[string], own, userID, room)
}

// MemberChange says that a member event of a user came into a room.
type MemberChange struct {
	Room   int64
	UserID string
	Joined bool // the user is joined now
}

// SharedRooms are those of the rooms in which servers other than own are.
func (q *Reader) SharedRooms(ctx context.Context, own string, rooms []int64) ([]int64, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT DISTINCT room FROM room_servers WHERE room = ANY($1) AND until = 0 AND server <> $2`,
		scanValue[int64], Ints(rooms), own)
}

// MemberChanges are the users about whom member events came with after < pos <= upTo.
func (q *Reader) MemberChanges(ctx context.Context, after, upTo stream.Pos) ([]MemberChange, error) {
	return selectAll(ctx, q, `SELECT DISTINCT c.room, c.state_key, COALESCE(c.membership = 'join', FALSE) FROM events e
		JOIN current_state c ON c.room = e.room AND c.type = 'm.room.member' AND c.state_key = e.state_key
		WHERE e.pos > $1 AND e.pos <= $2 AND e.type = 'm.room.member'`,
		func(row scanner, m *MemberChange) error { return row.Scan(&m.Room, &m.UserID, &m.Joined) }, after, upTo)
}
