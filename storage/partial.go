package storage

import (
	"context"
	"math"

	"beep/stream"
)

// NotYet is the position in [Room.Whole] of a room whose state is partial.
const NotYet stream.Pos = math.MaxInt64

// Partial tells whether some of the room's members are not known yet.
func (r *Room) Partial() bool { return r.Whole == NotYet }

// PartialRoom is a room whose state is partial, and what it takes to get the rest.
type PartialRoom struct {
	Room   int64
	RoomID string
	Join   stream.Pos // of the join before which the state is partial
	Via    string     // the server that let the user in
}

const partialSelect = `SELECT p.room, r.room_id, p.join_pos, p.via FROM partial_rooms p JOIN rooms r ON r.nid = p.room `

func scanPartialRoom(row scanner, p *PartialRoom) error {
	return row.Scan(&p.Room, &p.RoomID, &p.Join, &p.Via)
}

// PartialRooms are all rooms whose state has to be completed.
func (q *Reader) PartialRooms(ctx context.Context) ([]PartialRoom, error) {
	return selectAll(ctx, q, partialSelect+`ORDER BY p.join_pos`, scanPartialRoom)
}

// PartialRoom is one of [Reader.PartialRooms]. [ErrNotFound]: there is nothing to complete.
func (q *Reader) PartialRoom(ctx context.Context, room int64) (PartialRoom, error) {
	return selectOne(ctx, q, partialSelect+`WHERE p.room = $1`, scanPartialRoom, room)
}

// SetPartialRoom notes that a room's state has to be completed.
func (tx *Tx) SetPartialRoom(ctx context.Context, p PartialRoom) error {
	return tx.exec(ctx, `INSERT INTO partial_rooms (room, join_pos, via) VALUES ($1, $2, $3)
		ON CONFLICT (room) DO UPDATE SET join_pos = excluded.join_pos, via = excluded.via`, p.Room, p.Join, p.Via)
}

// RemovePartialRoom notes that there is nothing to complete after a join.
func (tx *Tx) RemovePartialRoom(ctx context.Context, room int64, join stream.Pos) error {
	return tx.exec(ctx, `DELETE FROM partial_rooms WHERE room = $1 AND join_pos = $2`, room, join)
}

// OutOfBandKeys are the numbers of the types and keys of the room's current state whose
// events are out of band: users of this server were told of them apart from the room.
func (q *Reader) OutOfBandKeys(ctx context.Context, room int64) ([]int64, error) {
	return selectAll(ctx, q, `SELECT c.key FROM current_state c JOIN events e ON e.pos = c.pos WHERE c.room = $1 AND e.status = $2`,
		scanValue[int64], room, OutOfBand)
}

// PlacedSince are the positions of the events that got a place in the room's graph after
// the event at since: those in its timeline, and those that were refused. They are in the
// order of their coming.
func (q *Reader) PlacedSince(ctx context.Context, room int64, since stream.Pos) ([]int64, error) {
	return selectAll(ctx, q, `SELECT pos FROM events WHERE room = $1 AND state_before <> 0
			AND (ord > $2 AND status = $4 OR pos > $3 AND status IN ($5, $6))
		ORDER BY CASE WHEN ord > 0 THEN ord ELSE pos * 1048576 END`,
		scanValue[int64], room, int64(since)*OrderScale, since, Accepted, SoftFailed, Rejected)
}
