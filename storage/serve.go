package storage

import (
	"context"

	"beep/stream"
)

// ServedRoom is a room as another server finds it.
type ServedRoom struct {
	Room
	Members int64      // how many members of that server are joined
	Since   stream.Pos // since when some were the last time, without a break; 0 when none ever were
	Until   stream.Pos // when the last of them was gone; 0 while there are some
	// ACL is the room's m.room.server_acl, 0 for none, and ACLRedactedBy its redaction.
	ACL, ACLRedactedBy stream.Pos
}

// andMore scans further columns behind those of somebody else's scan function.
type andMore struct {
	row  scanner
	more []any
}

// Scan serves [scanner].
func (a andMore) Scan(dest ...any) error { return a.row.Scan(append(dest, a.more...)...) }

// ServedRooms finds those of the rooms that are known, as the server finds them, in no
// order.
func (q *Reader) ServedRooms(ctx context.Context, roomIDs []string, server string) ([]ServedRoom, error) {
	if len(roomIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+roomColumns+`, COALESCE(s.members, 0), COALESCE(s.since, 0), COALESCE(s.until, 0), COALESCE(c.pos, 0), COALESCE(e.redacted_by, 0)
		FROM rooms r LEFT JOIN room_servers s ON s.room = r.nid AND s.server = $2
		LEFT JOIN current_state c ON c.room = r.nid AND c.type = 'm.room.server_acl' AND c.state_key = ''
		LEFT JOIN events e ON e.pos = c.pos WHERE r.room_id = ANY($1)`, func(row scanner, s *ServedRoom) error {
		return scanRoom(andMore{row, []any{&s.Members, &s.Since, &s.Until, &s.ACL, &s.ACLRedactedBy}}, &s.Room)
	}, List(roomIDs), server)
}

// EventIDs are the ids of the events at these positions, in order of position.
func (q *Reader) EventIDs(ctx context.Context, positions []int64) ([]string, error) {
	if len(positions) == 0 {
		return []string{}, nil
	}
	return selectAll(ctx, q, `SELECT event_id FROM events WHERE pos = ANY($1) ORDER BY pos`, scanValue[string], Ints(positions))
}

// EventsAfterTime are the first events of the room's timeline that were sent at ts (ms)
// or later, the earliest first.
func (q *Reader) EventsAfterTime(ctx context.Context, room, ts int64, limit int) ([]Event, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.room = $1 AND e.ord > 0 AND e.status = 0 AND e.ts >= $2
		ORDER BY e.ts, e.ord LIMIT $3`, scanEvent, room, ts, limit)
}

// EventsBeforeTime are the last events of the room's timeline that were sent at ts (ms)
// or earlier, the latest first.
func (q *Reader) EventsBeforeTime(ctx context.Context, room, ts int64, limit int) ([]Event, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.room = $1 AND e.ord > 0 AND e.status = 0 AND e.ts <= $2
		ORDER BY e.ts DESC, e.ord DESC LIMIT $3`, scanEvent, room, ts, limit)
}

// MemberKeysOf are the numbers that the memberships of a server's users have in the
// room's packed states, at most limit, the oldest first. The name of a server has no
// character that means something to LIKE, but users of others may match as well.
func (q *Reader) MemberKeysOf(ctx context.Context, room int64, server string, limit int) ([]StateKey, error) {
	return selectAll(ctx, q, `SELECT key, type, state_key, pos, COALESCE(membership, '') FROM current_state
		WHERE room = $1 AND type = 'm.room.member' AND state_key LIKE '%:' || CAST($2 AS TEXT) ORDER BY key LIMIT $3`,
		scanStateKey, room, server, limit)
}

// LastMemberEvents are the latest events of the room's timeline about memberships of a server's
// users, at this order or before, at most limit. Users of others may be among them, as for
// [Reader.MemberKeysOf].
func (q *Reader) LastMemberEvents(ctx context.Context, room int64, server string, order int64, limit int) ([]Event, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.room = $1 AND e.type = 'm.room.member'
		AND e.state_key LIKE '%:' || CAST($2 AS TEXT) AND e.ord > 0 AND e.ord <= $3 ORDER BY e.ord DESC LIMIT $4`,
		scanEvent, room, server, order, limit)
}

// RoomUser is a user in a room.
type RoomUser struct {
	Room   int64
	UserID string
}

func scanRoomUser(row scanner, u *RoomUser) error { return row.Scan(&u.Room, &u.UserID) }

// InvitedOf are the users of a server who are invited to one of the rooms. Users of
// others may be among them, as for [Reader.MemberKeysOf].
func (q *Reader) InvitedOf(ctx context.Context, rooms []int64, server string) ([]RoomUser, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT room, state_key FROM current_state WHERE room = ANY($1) AND type = 'm.room.member'
		AND membership = 'invite' AND state_key LIKE '%:' || CAST($2 AS TEXT)`, scanRoomUser, Ints(rooms), server)
}

// JoinedAmong are those of the users who are joined to those of the rooms.
func (q *Reader) JoinedAmong(ctx context.Context, rooms []int64, userIDs []string) ([]RoomUser, error) {
	if len(rooms) == 0 || len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT room, state_key FROM current_state WHERE room = ANY($1) AND type = 'm.room.member'
		AND state_key = ANY($2) AND membership = 'join'`, scanRoomUser, Ints(rooms), List(userIDs))
}

// JoinedAnywhere are those of the users who are joined to a room that is known here.
func (q *Reader) JoinedAnywhere(ctx context.Context, userIDs []string) ([]string, error) {
	if len(userIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT DISTINCT state_key FROM current_state
		WHERE type = 'm.room.member' AND state_key = ANY($1) AND membership = 'join'`, scanValue[string], List(userIDs))
}

// DirectoryPlace is the place of a room in the room directory, whose largest rooms come
// first.
type DirectoryPlace struct{ Joined, Room int64 }

// PublishedAfter are the rooms of the directory that come after a place, at most limit.
func (q *Reader) PublishedAfter(ctx context.Context, place DirectoryPlace, limit int) ([]Room, error) {
	return selectAll(ctx, q, `SELECT `+roomColumns+` FROM rooms r WHERE r.published = 1 AND r.resident = 1
		AND r.joined <= $1 AND (r.joined < $1 OR r.nid > $2) ORDER BY r.joined DESC, r.nid LIMIT $3`, scanRoom, place.Joined, place.Room, limit)
}

// PublishedBefore are the rooms of the directory that come before a place, the nearest
// first, at most limit.
func (q *Reader) PublishedBefore(ctx context.Context, place DirectoryPlace, limit int) ([]Room, error) {
	return selectAll(ctx, q, `SELECT `+roomColumns+` FROM rooms r WHERE r.published = 1 AND r.resident = 1
		AND r.joined >= $1 AND (r.joined > $1 OR r.nid < $2) ORDER BY r.joined, r.nid DESC LIMIT $3`, scanRoom, place.Joined, place.Room, limit)
}

// CountPublished is how many rooms the directory has.
func (q *Reader) CountPublished(ctx context.Context) (int64, error) {
	return selectOne(ctx, q, `SELECT COUNT(*) FROM rooms WHERE published = 1 AND resident = 1`, scanValue[int64])
}

// CurrentStateOf are the current events of these types with an empty state key in the
// rooms, in no order.
func (q *Reader) CurrentStateOf(ctx context.Context, rooms []int64, types []string) ([]StateEntry, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+eventColumns+`, c.key`+stateTables+
		`WHERE c.room = ANY($1) AND c.type = ANY($2) AND c.state_key = ''`, scanStateEntry, Ints(rooms), List(types))
}

// EventOrder is where an event stands.
type EventOrder struct {
	Room  int64
	Order int64 // [Event.Order]
}

// EventOrders are the places of those of the events that are known, by id.
func (q *Reader) EventOrders(ctx context.Context, eventIDs []string) (map[string]EventOrder, error) {
	orders := make(map[string]EventOrder, len(eventIDs))
	if len(eventIDs) == 0 {
		return orders, nil
	}
	err := q.each(ctx, `SELECT event_id, room, ord FROM events WHERE event_id = ANY($1)`, func(row scanner) error {
		var id string
		var o EventOrder
		err := row.Scan(&id, &o.Room, &o.Order)
		orders[id] = o
		return err
	}, List(eventIDs))
	return orders, err
}
