package storage

import (
	"context"
	"database/sql"
	"slices"
	"strconv"

	"beep/matrix"
	"beep/stream"
)

// RoomInfo is what /sync needs of a room's row.
type RoomInfo struct {
	ID              string
	Version         matrix.RoomVersion
	Joined, Invited int64 // numbers of members
}

// RoomInfos finds rooms by number.
func (q *Reader) RoomInfos(ctx context.Context, rooms []int64) (map[int64]RoomInfo, error) {
	infos := make(map[int64]RoomInfo, len(rooms))
	if len(rooms) == 0 {
		return infos, nil
	}
	err := q.each(ctx, `SELECT nid, room_id, version, joined, invited FROM rooms WHERE nid = ANY($1)`, func(row scanner) error {
		var number int64
		var r RoomInfo
		var version string
		if err := row.Scan(&number, &r.ID, &version, &r.Joined, &r.Invited); err != nil {
			return err
		}
		r.Version = matrix.RoomVersion(version)
		infos[number] = r
		return nil
	}, Ints(rooms))
	return infos, err
}

// eventRow reads many events of rooms that are known. A first /sync reads
// thousands: the destinations are made once, and integers go through any, which
// is the one way that database/sql copies them without reflection.
type eventRow struct {
	rooms                                                          map[int64]RoomInfo
	pos, room, replaces, redactedBy, changed, order, before, after any
	id                                                             string
	device, txn                                                    sql.NullString
	json                                                           []byte
	dest                                                           []any
}

const (
	eventRowColumns      = `e.pos, e.room, e.event_id, e.replaces, e.redacted_by, e.json`
	currentEventColumns  = eventRowColumns + `, c.changed`
	timelineEventColumns = eventRowColumns + `, e.ord, e.state_before, e.state_after, e.device, e.txn`
)

// readCurrentEvents reads rows of currentEventColumns: state events without their
// place in the room's order and in the history of its state.
func (q *Reader) readCurrentEvents(ctx context.Context, rooms map[int64]RoomInfo, text string, args ...any) ([]Event, error) {
	r := &eventRow{rooms: rooms, order: int64(0), before: int64(0), after: int64(0)}
	r.dest = []any{&r.pos, &r.room, &r.id, &r.replaces, &r.redactedBy, &r.json, &r.changed}
	return r.read(ctx, q, text, args)
}

// readTimelineEvents reads rows of timelineEventColumns: whole events.
func (q *Reader) readTimelineEvents(ctx context.Context, rooms map[int64]RoomInfo, text string, args ...any) ([]Event, error) {
	r := &eventRow{rooms: rooms, changed: int64(0)}
	r.dest = []any{&r.pos, &r.room, &r.id, &r.replaces, &r.redactedBy, &r.json, &r.order, &r.before, &r.after, &r.device, &r.txn}
	return r.read(ctx, q, text, args)
}

func (r *eventRow) read(ctx context.Context, q *Reader, text string, args []any) ([]Event, error) {
	events := make([]Event, 0, 8*len(r.rooms))
	err := q.each(ctx, text, func(row scanner) error {
		if err := row.Scan(r.dest...); err != nil {
			return err
		}
		e, err := r.event()
		if err == nil {
			events = append(events, e)
		}
		return err
	}, args...)
	return events, err
}

func (r *eventRow) event() (Event, error) {
	room := r.room.(int64)
	info := r.rooms[room]
	parsed, err := matrix.ParseTrusted(info.Version, r.id, r.json)
	if err != nil {
		return Event{}, err
	}
	parsed.RoomID = info.ID
	pos, at := stream.Pos(r.pos.(int64)), stream.Pos(r.changed.(int64))
	if at == 0 {
		at = arrivedAt(pos, r.order.(int64))
	}
	return Event{
		Event: parsed, Pos: pos, At: at, Order: r.order.(int64), Room: room,
		StateBefore: r.before.(int64), StateAfter: r.after.(int64),
		Replaces: stream.Pos(r.replaces.(int64)), RedactedBy: stream.Pos(r.redactedBy.(int64)),
		Device: r.device.String, TxnID: r.txn.String,
	}, nil
}

func numbers(rooms map[int64]RoomInfo) Ints {
	list := make(Ints, 0, len(rooms))
	for number := range rooms {
		list = append(list, number)
	}
	return list
}

// isLive is the condition that an event has come live: what was fetched later has an
// order between those of two positions.
func isLive(table string) string { return table + ".ord % " + strconv.Itoa(OrderScale) + " = 0" }

// Timelines are the last events of each room with after < pos <= upTo, at most
// limit of each, in no order.
func (q *Reader) Timelines(ctx context.Context, rooms map[int64]RoomInfo, after, upTo stream.Pos, limit int) ([]Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	// The first part finds where each room's last events begin with one step through
	// the index, whatever the room's size.
	return q.readTimelineEvents(ctx, rooms, `WITH begins AS MATERIALIZED (
			SELECT r.nid AS room, COALESCE((SELECT f.ord FROM events f WHERE f.room = r.nid AND f.ord <= $2 AND f.ord > $3 AND `+isLive("f")+`
				ORDER BY f.ord DESC LIMIT 1 OFFSET $4), $3 + 1) AS ord
			FROM rooms r WHERE r.nid = ANY($1))
		SELECT `+timelineEventColumns+` FROM begins b JOIN events e ON e.room = b.room AND e.ord >= b.ord AND e.ord <= $2
			AND `+isLive("e"),
		numbers(rooms), int64(upTo)*OrderScale, int64(after)*OrderScale, limit-1)
}

// TimelinesUntil are, for each of the events at these positions, the event and
// those before it in its room with after < pos, at most limit, in no order. The
// rooms are those of the events.
func (q *Reader) TimelinesUntil(ctx context.Context, rooms map[int64]RoomInfo, last []int64, after stream.Pos, limit int) ([]Event, error) {
	if len(last) == 0 {
		return nil, nil
	}
	return q.readTimelineEvents(ctx, rooms, `WITH begins AS MATERIALIZED (
			SELECT l.room, l.ord AS last, COALESCE((SELECT f.ord FROM events f WHERE f.room = l.room AND f.ord <= l.ord AND f.ord > $2 AND `+isLive("f")+`
				ORDER BY f.ord DESC LIMIT 1 OFFSET $3), $2 + 1) AS ord
			FROM events l WHERE l.pos = ANY($1))
		SELECT `+timelineEventColumns+` FROM begins b JOIN events e ON e.room = b.room AND e.ord >= b.ord AND e.ord <= b.last
			AND `+isLive("e"),
		Ints(last), int64(after)*OrderScale, limit-1)
}

// CurrentStates is the current state of the rooms, in no order.
func (q *Reader) CurrentStates(ctx context.Context, rooms map[int64]RoomInfo) ([]Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return q.readCurrentEvents(ctx, rooms, `SELECT `+currentEventColumns+` FROM current_state c JOIN events e ON e.pos = c.pos
		WHERE c.room = ANY($1)`, numbers(rooms))
}

// CurrentStatesWithoutMembers is the current state of the rooms less their
// m.room.member events, in no order. It takes equally long however many they are.
func (q *Reader) CurrentStatesWithoutMembers(ctx context.Context, rooms map[int64]RoomInfo) ([]Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return q.readCurrentEvents(ctx, rooms, `
		SELECT `+currentEventColumns+` FROM current_state c JOIN events e ON e.pos = c.pos
		WHERE c.room = ANY($1) AND c.type < 'm.room.member'
		UNION ALL SELECT `+currentEventColumns+` FROM current_state c JOIN events e ON e.pos = c.pos
		WHERE c.room = ANY($1) AND c.type > 'm.room.member'`, numbers(rooms))
}

// CurrentStatesSince is what has changed in the state of the rooms after the
// position, the event of each type and key that it has now, in no order.
func (q *Reader) CurrentStatesSince(ctx context.Context, rooms map[int64]RoomInfo, after stream.Pos) ([]Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return q.readCurrentEvents(ctx, rooms, `SELECT `+currentEventColumns+` FROM current_state c JOIN events e ON e.pos = c.pos
		WHERE c.room = ANY($1) AND c.changed > $2`, numbers(rooms), after)
}

// CurrentNames are the events that name the rooms: m.room.name and
// m.room.canonical_alias.
func (q *Reader) CurrentNames(ctx context.Context, rooms map[int64]RoomInfo) ([]Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return q.readCurrentEvents(ctx, rooms, `SELECT `+currentEventColumns+` FROM current_state c JOIN events e ON e.pos = c.pos
		WHERE c.room = ANY($1) AND c.type IN ('m.room.name', 'm.room.canonical_alias') AND c.state_key = ''`, numbers(rooms))
}

// SenderMembers are the current member events of the senders of the events at
// these positions.
func (q *Reader) SenderMembers(ctx context.Context, rooms map[int64]RoomInfo, positions []int64) ([]Event, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	return q.readCurrentEvents(ctx, rooms, `SELECT `+currentEventColumns+` FROM events t
		JOIN current_state c ON c.room = t.room AND c.type = 'm.room.member' AND c.state_key = t.sender
		JOIN events e ON e.pos = c.pos WHERE t.pos = ANY($1)`, Ints(positions))
}

// CitedMembers are those of the events which authorise the events at these positions in the
// rooms that are the memberships of their senders.
func (q *Reader) CitedMembers(ctx context.Context, rooms map[int64]RoomInfo, positions []int64) ([]Event, error) {
	if len(rooms) == 0 || len(positions) == 0 {
		return nil, nil
	}
	var cited []int64
	senders := map[RoomUser]bool{}
	err := q.each(ctx, `SELECT room, sender, auth FROM events WHERE pos = ANY($1) AND room = ANY($2)`, func(row scanner) error {
		var sender RoomUser
		var packed []byte
		if err := row.Scan(&sender.Room, &sender.UserID, &packed); err != nil {
			return err
		}
		auth, err := unpack(packed)
		cited, senders[sender] = append(cited, auth...), true
		return err
	}, Ints(positions), numbers(rooms))
	if err != nil {
		return nil, err
	}
	events, err := q.StateEventsAt(ctx, rooms, cited)
	return slices.DeleteFunc(events, func(e Event) bool {
		return e.StateKey == nil || e.Type != "m.room.member" || !senders[RoomUser{e.Room, *e.StateKey}]
	}), err
}

// StateEventsAt are the events at these positions, in no order.
func (q *Reader) StateEventsAt(ctx context.Context, rooms map[int64]RoomInfo, positions []int64) ([]Event, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	return q.readTimelineEvents(ctx, rooms, `SELECT `+timelineEventColumns+` FROM events e WHERE e.pos = ANY($1)`, Ints(positions))
}

// CurrentAmong tells which of the events at these positions are state of their
// room now.
func (q *Reader) CurrentAmong(ctx context.Context, positions []int64) (map[stream.Pos]bool, error) {
	current := map[stream.Pos]bool{}
	if len(positions) == 0 {
		return current, nil
	}
	err := q.each(ctx, `SELECT c.pos FROM events e JOIN current_state c ON c.room = e.room AND c.type = e.type
		AND c.state_key = e.state_key AND c.pos = e.pos WHERE e.pos = ANY($1)`, func(row scanner) error {
		var pos int64
		err := row.Scan(&pos)
		current[stream.Pos(pos)] = true
		return err
	}, Ints(positions))
	return current, err
}

// FirstMembers are the first limit members of each room, by room and position,
// of those who are joined or invited.
func (q *Reader) FirstMembers(ctx context.Context, rooms []int64, limit int) ([]Membership, error) {
	return q.firstMembers(ctx, `WITH ends AS MATERIALIZED (
			SELECT r.nid, r.room_id, r.whole, COALESCE((SELECT f.pos FROM current_state f WHERE f.room = r.nid AND f.pos > 0
				AND f.type = 'm.room.member' AND f.membership IN ('join', 'invite')
				ORDER BY f.pos LIMIT 1 OFFSET $2), 9223372036854775807) AS pos
			FROM rooms r WHERE r.nid = ANY($1))
		SELECT c.room, b.room_id, c.state_key, c.membership, c.pos, c.changed, 0, b.whole FROM ends b JOIN current_state c ON c.room = b.nid
			AND c.pos > 0 AND c.pos <= b.pos AND c.type = 'm.room.member' AND c.membership IN ('join', 'invite')
		ORDER BY c.room, c.pos`, rooms, limit)
}

// FirstLeft are the first limit users of each room, by room and position, of
// those who were members or are banned.
func (q *Reader) FirstLeft(ctx context.Context, rooms []int64, limit int) ([]Membership, error) {
	return q.firstMembers(ctx, `WITH ends AS MATERIALIZED (
			SELECT r.nid, r.room_id, r.whole, COALESCE((SELECT f.pos FROM current_state f WHERE f.room = r.nid AND f.pos > 0
				AND f.type = 'm.room.member' AND f.membership IN ('leave', 'ban')
				ORDER BY f.pos LIMIT 1 OFFSET $2), 9223372036854775807) AS pos
			FROM rooms r WHERE r.nid = ANY($1))
		SELECT c.room, b.room_id, c.state_key, c.membership, c.pos, c.changed, 0, b.whole FROM ends b JOIN current_state c ON c.room = b.nid
			AND c.pos > 0 AND c.pos <= b.pos AND c.type = 'm.room.member' AND c.membership IN ('leave', 'ban')
		ORDER BY c.room, c.pos`, rooms, limit)
}

func (q *Reader) firstMembers(ctx context.Context, text string, rooms []int64, limit int) ([]Membership, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, text, scanMembership, Ints(rooms), limit-1)
}

// MemberHistories are all member events of one user in several rooms, by room
// and in order.
func (q *Reader) MemberHistories(ctx context.Context, rooms []int64, userID string) ([]Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.type = 'm.room.member' AND e.state_key = $1
		AND e.room = ANY($2) AND e.ord > 0 ORDER BY e.room, e.ord`, scanEvent, userID, Ints(rooms))
}

// PresenceAround is the presence of the user and of those who are joined to a
// room that the user is joined to, where it changed last with after < pos <= upTo.
func (q *Reader) PresenceAround(ctx context.Context, userID string, after, upTo stream.Pos) ([]Presence, error) {
	return selectAll(ctx, q, presenceSelect+`WHERE pos > $2 AND pos <= $3 AND (user_id = $1 OR user_id IN (
		SELECT y.state_key FROM current_state x JOIN current_state y ON y.room = x.room
			AND y.type = 'm.room.member' AND y.membership = 'join'
		WHERE x.type = 'm.room.member' AND x.state_key = $1 AND x.membership = 'join')) ORDER BY pos`,
		scanPresence, userID, after, upTo)
}

// smallRoom is up to how many members a room's presence includes those who are offline.
const smallRoom = 100

// PresenceOfMembers is the presence of those who are joined to the rooms, in no order;
// in large rooms of those alone who are not offline.
func (q *Reader) PresenceOfMembers(ctx context.Context, rooms []int64) ([]Presence, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT DISTINCT c.state_key, COALESCE(p.presence, 'offline'), COALESCE(p.status_msg, ''),
			COALESCE(p.last_active_ts, 0), COALESCE(p.pos, 0)
		FROM current_state c JOIN rooms r ON r.nid = c.room LEFT JOIN presence p ON p.user_id = c.state_key
		WHERE c.room = ANY($1) AND c.type = 'm.room.member' AND c.membership = 'join'
			AND (p.presence <> 'offline' OR r.joined <= $2)`, scanPresence, Ints(rooms), smallRoom)
}
