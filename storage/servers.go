package storage

import (
	"context"
	"maps"

	"beep/stream"
)

// RoomServer is a server with joined members in a room.
type RoomServer struct {
	Room    int64
	Server  string
	Members int64 // how many are joined
}

// ServersIn are the servers with joined members in the room, this one among them.
func (q *Reader) ServersIn(ctx context.Context, room int64) ([]RoomServer, error) {
	return selectAll(ctx, q, `SELECT room, server, members FROM room_servers WHERE room = $1 AND until = 0`,
		func(row scanner, s *RoomServer) error { return row.Scan(&s.Room, &s.Server, &s.Members) }, room)
}

// ServersCome are those of the servers that came to have joined members in rooms at since or
// later, and still have.
func (q *Reader) ServersCome(ctx context.Context, rooms []int64, servers []string, since stream.Pos) ([]RoomServer, error) {
	return selectAll(ctx, q, `SELECT room, server, members FROM room_servers
		WHERE room = ANY($1) AND server = ANY($2) AND until = 0 AND since >= $3`,
		func(row scanner, s *RoomServer) error { return row.Scan(&s.Room, &s.Server, &s.Members) }, Ints(rooms), List(servers), since)
}

// SetRoomServer says how many members of a server are joined to a room since pos.
func (tx *Tx) SetRoomServer(ctx context.Context, s RoomServer, pos stream.Pos) error {
	if s.Members <= 0 {
		return tx.exec(ctx, `UPDATE room_servers SET members = 0, until = $1 WHERE room = $2 AND server = $3 AND until = 0`,
			pos, s.Room, s.Server)
	}
	// A server that comes back is not sent what was said while it was away.
	return tx.exec(ctx, `INSERT INTO room_servers (room, server, members, since) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room, server) DO UPDATE SET members = excluded.members, until = 0,
			since = CASE WHEN room_servers.until = 0 THEN room_servers.since ELSE excluded.since END`,
		s.Room, s.Server, s.Members, pos)
}

// MissingEvent is an event that is not known here though one that is known follows it.
type MissingEvent struct {
	EventID    string
	Child      stream.Pos
	ChildOrder int64 // the place of the child in the room's order
}

// MissingEvents are the gaps before events of the room, the latest first.
func (q *Reader) MissingEvents(ctx context.Context, room int64) ([]MissingEvent, error) {
	return selectAll(ctx, q, `SELECT event_id, child, ord FROM missing_events WHERE room = $1 ORDER BY ord DESC`,
		func(row scanner, m *MissingEvent) error { return row.Scan(&m.EventID, &m.Child, &m.ChildOrder) }, room)
}

// GapsIn are the places in the order of rooms, by room, of events before which others
// are missing.
func (q *Reader) GapsIn(ctx context.Context, rooms []int64) (map[int64]map[int64]bool, error) {
	gaps := map[int64]map[int64]bool{}
	if len(rooms) == 0 {
		return gaps, nil
	}
	err := q.each(ctx, `SELECT room, ord FROM missing_events WHERE room = ANY($1)`, func(row scanner) error {
		var room, order int64
		err := row.Scan(&room, &order)
		if gaps[room] == nil {
			gaps[room] = map[int64]bool{}
		}
		gaps[room][order] = true
		return err
	}, Ints(rooms))
	return gaps, err
}

// AddMissing notes that the event at child, whose place is order, follows events that
// are not known.
func (tx *Tx) AddMissing(ctx context.Context, room int64, child stream.Pos, order int64, eventIDs []string) error {
	rows := make([][]any, len(eventIDs))
	for i, id := range eventIDs {
		rows[i] = []any{room, id, child, order}
	}
	return tx.execEach(ctx, `INSERT INTO missing_events (room, event_id, child, ord) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, rows)
}

// RemoveMissing notes that these events are known now, or will never be.
func (tx *Tx) RemoveMissing(ctx context.Context, room int64, eventIDs []string) error {
	return tx.exec(ctx, `DELETE FROM missing_events WHERE room = $1 AND event_id = ANY($2)`, room, List(eventIDs))
}

// KnownEvent is what the graph of a room has of an event.
type KnownEvent struct {
	ID         string
	Pos        stream.Pos
	Room       int64
	Status     Status
	StateAfter int64 // 0 where the state is not known
}

// KnownEvents finds those of the events that are stored, by id.
func (q *Reader) KnownEvents(ctx context.Context, eventIDs []string) (map[string]KnownEvent, error) {
	known := make(map[string]KnownEvent, len(eventIDs))
	if len(eventIDs) == 0 {
		return known, nil
	}
	err := q.each(ctx, `SELECT event_id, pos, room, status, state_after FROM events WHERE event_id = ANY($1)`, func(row scanner) error {
		var e KnownEvent
		err := row.Scan(&e.ID, &e.Pos, &e.Room, &e.Status, &e.StateAfter)
		if e.Status == OutOfBand {
			e.StateAfter = 0 // what its users are shown: nobody knows whether it is so
		}
		known[e.ID] = e
		return err
	}, List(eventIDs))
	return known, err
}

// KnownIn is [Reader.KnownEvents] for events of one room: those of others are not known there.
func (q *Reader) KnownIn(ctx context.Context, room int64, eventIDs []string) (map[string]KnownEvent, error) {
	known, err := q.KnownEvents(ctx, eventIDs)
	maps.DeleteFunc(known, func(_ string, e KnownEvent) bool { return e.Room != room })
	return known, err
}

// AuthNode is a state event in the graph of a room's auth events.
type AuthNode struct {
	Key    int64   // the number of its type and key in packed states
	Auth   []int64 // positions of its auth events
	Status Status
}

// AuthGraph is the graph of the auth events of all state events of a room, whatever
// their status, by position.
func (q *Reader) AuthGraph(ctx context.Context, room int64) (map[int64]AuthNode, error) {
	graph := map[int64]AuthNode{}
	names := map[int64]stateName{}
	err := q.each(ctx, `SELECT pos, auth, status, type, state_key FROM events
		WHERE room = $1 AND state_key IS NOT NULL`, func(row scanner) error {
		var pos int64
		var packed []byte
		var n AuthNode
		var name stateName
		err := row.Scan(&pos, &packed, &n.Status, &name.eventType, &name.stateKey)
		if err == nil {
			n.Auth, err = unpack(packed)
		}
		graph[pos], names[pos] = n, name
		return err
	}, room)
	if err != nil {
		return nil, err
	}
	numbers, err := q.stateNumbers(ctx, room)
	for pos, n := range graph {
		n.Key = numbers[names[pos]]
		graph[pos] = n
	}
	return graph, err
}

// stateName is what a number in packed states stands for.
type stateName struct{ eventType, stateKey string }

// stateNumbers are the numbers of all types and keys of a room. Events are not joined with
// them in SQL: of a room that grew a moment ago PostgreSQL expects next to no rows, and goes
// through all of them for each event.
func (q *Reader) stateNumbers(ctx context.Context, room int64) (map[stateName]int64, error) {
	numbers := map[stateName]int64{}
	err := q.each(ctx, `SELECT type, state_key, key FROM current_state WHERE room = $1`, func(row scanner) error {
		var name stateName
		var number int64
		err := row.Scan(&name.eventType, &name.stateKey, &number)
		numbers[name] = number
		return err
	}, room)
	return numbers, err
}

// Admit gives an event that is stored as an outlier its place: its status, its order,
// the states around it, what it replaces and what it cites.
func (tx *Tx) Admit(ctx context.Context, e *Event) error {
	return tx.exec(ctx, `UPDATE events SET status = $1, ord = $2, state_before = $3, state_after = $4, replaces = $5, auth = $6 WHERE pos = $7`,
		e.Status, e.Order, e.StateBefore, e.StateAfter, e.Replaces, pack(e.Auth), e.Pos)
}

// SetAuth notes the auth events of an event that was stored when they were not known.
func (tx *Tx) SetAuth(ctx context.Context, pos stream.Pos, auth []int64) error {
	return tx.exec(ctx, `UPDATE events SET auth = $1 WHERE pos = $2`, pack(auth), pos)
}

// AddEarlyRedaction keeps a redaction for an event that is not known yet.
func (tx *Tx) AddEarlyRedaction(ctx context.Context, eventID string, redaction stream.Pos) error {
	return tx.exec(ctx, `INSERT INTO early_redactions (event_id, redaction) VALUES ($1, $2) ON CONFLICT DO NOTHING`, eventID, redaction)
}

// EarlyRedactions are the redactions that came before their events, by event id.
func (q *Reader) EarlyRedactions(ctx context.Context, eventIDs []string) (map[string][]int64, error) {
	found := map[string][]int64{}
	if len(eventIDs) == 0 {
		return found, nil
	}
	err := q.each(ctx, `SELECT event_id, redaction FROM early_redactions WHERE event_id = ANY($1) ORDER BY redaction`, func(row scanner) error {
		var id string
		var pos int64
		err := row.Scan(&id, &pos)
		found[id] = append(found[id], pos)
		return err
	}, List(eventIDs))
	return found, err
}

// StatePlace is where a state event stands in packed states.
type StatePlace struct {
	Pos    int64
	Key    int64 // 0 when the room's states never had its type and key
	Status Status
}

// StatePlaces finds those of the room's state events that are stored, by id.
func (q *Reader) StatePlaces(ctx context.Context, room int64, eventIDs []string) (map[string]StatePlace, error) {
	found := make(map[string]StatePlace, len(eventIDs))
	if len(eventIDs) == 0 {
		return found, nil
	}
	names := make(map[string]stateName, len(eventIDs))
	err := q.each(ctx, `SELECT event_id, room, pos, status, type, state_key FROM events
		WHERE event_id = ANY($1) AND state_key IS NOT NULL`, func(row scanner) error {
		var id string
		var in int64
		var p StatePlace
		var name stateName
		err := row.Scan(&id, &in, &p.Pos, &p.Status, &name.eventType, &name.stateKey)
		if in == room {
			found[id], names[id] = p, name
		}
		return err
	}, List(eventIDs))
	if err != nil {
		return nil, err
	}
	numbers, err := q.stateNumbers(ctx, room)
	for id, p := range found {
		p.Key = numbers[names[id]]
		found[id] = p
	}
	return found, err
}

// AddStateKeys gives types and keys their numbers in packed states, if they have none.
// The room's state has no event for them yet.
func (tx *Tx) AddStateKeys(ctx context.Context, room int64, keys []StateKey) error {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{room, k.Type, k.StateKey, k.Key, 0, k.Key}
	}
	return tx.execEach(ctx, `INSERT INTO current_state (room, type, state_key, key, pos, changed)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (room, type, state_key) DO NOTHING`, rows)
}

// ClearCurrentState takes what has the number out of the room's current state.
func (tx *Tx) ClearCurrentState(ctx context.Context, room, key int64, changed stream.Pos) error {
	return tx.exec(ctx, `UPDATE current_state SET pos = 0, changed = $1, membership = NULL WHERE room = $2 AND key = $3`, changed, room, key)
}
