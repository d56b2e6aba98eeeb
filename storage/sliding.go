package storage

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"beep/matrix"
	"beep/stream"
)

// Activity is what it takes to sort and to choose among rooms.
type Activity struct {
	Last      stream.Pos // of the last event that came live
	Bump      stream.Pos // of the last such event of a type that [Bumps]
	Encrypted bool
	Type      string // of the create event; "" for none
}

// bumpTypes are the types of events that move a room up in the lists of clients (MSC4186).
// The index events_bump has the same.
var bumpTypes = []string{"m.room.create", "m.room.message", "m.room.encrypted", "m.sticker", "m.call.invite", "m.poll.start", "m.beacon_info"}

var bumps = "'" + strings.Join(bumpTypes, "', '") + "'"

// Bumps tells whether events of the type are activity for which a client moves a room up.
func Bumps(eventType string) bool { return slices.Contains(bumpTypes, eventType) }

// Activities finds what it takes to sort rooms and to choose among them, by number.
func (q *Reader) Activities(ctx context.Context, rooms []int64) (map[int64]Activity, error) {
	found := make(map[int64]Activity, len(rooms))
	if len(rooms) == 0 {
		return found, nil
	}
	err := q.each(ctx, `SELECT r.nid, r.version,
			COALESCE((SELECT f.ord FROM events f WHERE f.room = r.nid AND f.ord > 0 AND `+isLive("f")+` ORDER BY f.ord DESC LIMIT 1), 0),
			COALESCE((SELECT f.ord FROM events f WHERE f.room = r.nid AND f.ord > 0 AND f.type IN (`+bumps+`) AND `+isLive("f")+`
				ORDER BY f.ord DESC LIMIT 1), 0),
			EXISTS (SELECT 1 FROM current_state c WHERE c.room = r.nid AND c.type = 'm.room.encryption' AND c.state_key = '' AND c.pos <> 0),
			e.event_id, e.json
		FROM rooms r LEFT JOIN current_state s ON s.room = r.nid AND s.type = 'm.room.create' AND s.state_key = ''
			LEFT JOIN events e ON e.pos = s.pos
		WHERE r.nid = ANY($1)`, func(row scanner) error {
		var number int64
		var a Activity
		var version string
		var createID sql.NullString
		var create []byte
		if err := row.Scan(&number, &version, &a.Last, &a.Bump, &a.Encrypted, &createID, &create); err != nil {
			return err
		}
		a.Last, a.Bump = a.Last/OrderScale, a.Bump/OrderScale
		if create != nil {
			parsed, err := matrix.ParseTrusted(matrix.RoomVersion(version), createID.String, create)
			if err != nil {
				return err
			}
			a.Type = parsed.ContentString("type")
		}
		found[number] = a
		return nil
	}, Ints(rooms))
	return found, err
}

// CurrentStatesOf are the events of these types in the current state of the rooms, in no
// order.
func (q *Reader) CurrentStatesOf(ctx context.Context, rooms map[int64]RoomInfo, types []string) ([]Event, error) {
	if len(rooms) == 0 || len(types) == 0 {
		return nil, nil
	}
	return q.readCurrentEvents(ctx, rooms, `SELECT `+currentEventColumns+` FROM current_state c JOIN events e ON e.pos = c.pos
		WHERE c.room = ANY($1) AND c.type = ANY($2)`, numbers(rooms), List(types))
}

// CurrentMembersOf are the current member events of the users in the rooms, in no order.
func (q *Reader) CurrentMembersOf(ctx context.Context, rooms map[int64]RoomInfo, userIDs []string) ([]Event, error) {
	if len(rooms) == 0 || len(userIDs) == 0 {
		return nil, nil
	}
	return q.readCurrentEvents(ctx, rooms, `SELECT `+currentEventColumns+` FROM current_state c JOIN events e ON e.pos = c.pos
		WHERE c.room = ANY($1) AND c.type = 'm.room.member' AND c.state_key = ANY($2)`, numbers(rooms), List(userIDs))
}

// Removals are the rooms that the user was joined to and was then put out of by somebody
// else, and has not forgotten.
func (q *Reader) Removals(ctx context.Context, userID string) ([]Membership, error) {
	type removal struct {
		Membership
		before []byte
		id     string
		v      string
	}
	rows, err := selectAll(ctx, q, `SELECT c.room, r.room_id, c.state_key, c.membership, c.pos, c.changed, r.version, b.event_id, b.json
		FROM current_state c JOIN rooms r ON r.nid = c.room JOIN events e ON e.pos = c.pos JOIN events b ON b.pos = e.replaces
		LEFT JOIN forgotten_rooms f ON f.room = c.room AND f.user_id = c.state_key AND f.pos >= c.pos
		WHERE c.type = 'm.room.member' AND c.state_key = $1 AND c.membership IN ('leave', 'ban') AND e.sender <> $1 AND f.pos IS NULL`,
		func(row scanner, m *removal) error {
			return row.Scan(&m.Room, &m.RoomID, &m.UserID, &m.Membership.Membership, &m.Pos, &m.At, &m.v, &m.id, &m.before)
		}, userID)
	if err != nil {
		return nil, err
	}
	var removed []Membership
	for _, m := range rows {
		before, err := matrix.ParseTrusted(matrix.RoomVersion(m.v), m.id, m.before)
		if err != nil {
			return nil, err
		}
		if before.Membership() == "join" {
			removed = append(removed, m.Membership)
		}
	}
	return removed, nil
}
