package storage

import (
	"context"
	"encoding/json"
	"math"

	"beep/stream"
)

// Destination is a server that has not been sent all that is for it. Server "" stands for
// all servers that have no row: they have been sent everything up to its cursor.
type Destination struct {
	Server   string
	Cursor   stream.Pos // everything up to here was sent
	Failures int64      // in a row
	RetryTS  int64      // ms: not to be tried before; 0: at once
	Failing  int64      // ms: since when it fails; 0: it does not
}

// Destinations are all that are stored.
func (q *Reader) Destinations(ctx context.Context) ([]Destination, error) {
	return selectAll(ctx, q, `SELECT server, cursor, failures, retry_ts, failing_ts FROM destinations`,
		func(row scanner, d *Destination) error {
			return row.Scan(&d.Server, &d.Cursor, &d.Failures, &d.RetryTS, &d.Failing)
		})
}

// SetDestinations stores destinations, no server twice.
func (tx *Tx) SetDestinations(ctx context.Context, all []Destination) error {
	rows := make([][]any, len(all))
	for i, d := range all {
		rows[i] = []any{d.Server, d.Cursor, d.Failures, d.RetryTS, d.Failing}
	}
	return tx.execEach(ctx, `INSERT INTO destinations (server, cursor, failures, retry_ts, failing_ts) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (server) DO UPDATE SET cursor = excluded.cursor, failures = excluded.failures, retry_ts = excluded.retry_ts,
			failing_ts = excluded.failing_ts`, rows)
}

// DeleteDestinations forgets servers that have been sent everything.
func (tx *Tx) DeleteDestinations(ctx context.Context, servers []string) error {
	return tx.exec(ctx, `DELETE FROM destinations WHERE server = ANY($1)`, List(servers))
}

// ownEvent is the condition that an event e was made here: it is of a user of the server
// whose name with a colon before it is $1, and stands where it came first (1048576 is
// [OrderScale]). Events of own users that were got from elsewhere are known there.
const ownEvent = ` e.ord = e.pos * 1048576 AND substr(e.sender, length(e.sender) - length($1) + 1) = $1 `

// PendingServers are the servers that something with after < pos <= upTo is for. Own is
// the name of this server; it may be among them.
func (q *Reader) PendingServers(ctx context.Context, own string, after, upTo stream.Pos) ([]string, error) {
	return selectAll(ctx, q, `SELECT s.server FROM events e JOIN room_servers s ON s.room = e.room
			AND e.pos > s.since AND (s.until = 0 OR e.pos <= s.until)
		WHERE e.pos > $2 AND e.pos <= $3 AND`+ownEvent+`
		UNION SELECT s.server FROM outgoing_events o JOIN events e ON e.pos = o.pos JOIN room_servers s ON s.room = e.room
			AND o.at > s.since AND (s.until = 0 OR o.at <= s.until)
		WHERE o.server = '' AND o.at > $2 AND o.at <= $3
		UNION SELECT server FROM outgoing_events WHERE at > $2 AND at <= $3 AND server <> ''
		UNION SELECT server FROM outgoing_edus WHERE pos > $2 AND pos <= $3`, scanValue[string], ":"+own, after, upTo)
}

// PendingEvent is an event that is to be sent to a server.
type PendingEvent struct {
	Pos stream.Pos // which names it
	At  stream.Pos // its place in the log
}

// Pending asks which events are for another server: those of this one's users in the rooms
// that it is in, and what was queued for it.
type Pending struct {
	Own    string // the name of this server
	Server string // the other one
	After  stream.Pos
	UpTo   stream.Pos
	// PerRoom leaves out all but so many of the newest of each room; 0 leaves none out.
	PerRoom int64
	Limit   int64
}

// PendingEvents are the first of the events, in the order of the log. It goes through each
// room from its end, event by event: that is the one way that is quick for the rooms where
// nothing is pending, on either engine.
func (q *Reader) PendingEvents(ctx context.Context, p Pending) ([]PendingEvent, error) {
	perRoom := p.PerRoom
	if perRoom <= 0 {
		perRoom = math.MaxInt32
	}
	const before = `(SELECT e.ord FROM events e WHERE e.room = t.room AND e.ord > t.low AND e.ord < t.high AND` + ownEvent + `ORDER BY e.ord DESC LIMIT 1)`
	return selectAll(ctx, q, `WITH RECURSIVE theirs AS MATERIALIZED (
			SELECT s.room, (CASE WHEN s.since > $3 THEN s.since ELSE $3 END) * 1048576 AS low,
				(CASE WHEN s.until > 0 AND s.until < $4 THEN s.until ELSE $4 END) * 1048576 + 1 AS high
			FROM room_servers s WHERE s.server = $2 AND (s.until = 0 OR s.until > $3)),
		steps (room, low, high, n) AS (
			SELECT t.room, t.low, `+before+`, 1 FROM theirs t
			UNION ALL SELECT t.room, t.low, `+before+`, t.n + 1 FROM steps t WHERE t.high IS NOT NULL AND t.n < $5)
		SELECT t.high / 1048576 AS pos, t.high / 1048576 AS at FROM steps t WHERE t.high IS NOT NULL
		UNION SELECT o.pos, o.at FROM outgoing_events o JOIN events e ON e.pos = o.pos
			JOIN theirs t ON t.room = e.room AND o.at * 1048576 > t.low AND o.at * 1048576 < t.high
			WHERE o.server = '' AND o.at > $3 AND o.at <= $4 AND substr(e.sender, length(e.sender) - length($2)) <> ':' || $2
		UNION SELECT o.pos, o.at FROM outgoing_events o WHERE o.server = $2 AND o.at > $3 AND o.at <= $4
		ORDER BY at LIMIT $6`,
		func(row scanner, e *PendingEvent) error { return row.Scan(&e.Pos, &e.At) },
		":"+p.Own, p.Server, p.After, p.UpTo, perRoom, p.Limit)
}

// PDU is an event as other servers get it.
type PDU struct {
	At             stream.Pos // in the log
	OriginServerTS int64
	JSON           json.RawMessage
}

// PDUs finds events by position; they are in the order of the log.
func (q *Reader) PDUs(ctx context.Context, positions []int64) ([]PDU, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT ord / 1048576, ts, json FROM events WHERE pos = ANY($1) ORDER BY ord`,
		func(row scanner, p *PDU) error { return row.Scan(&p.At, &p.OriginServerTS, (*[]byte)(&p.JSON)) }, Ints(positions))
}

// QueueEvent has an event sent to servers that would not get it for being in its room: the
// end of an invite goes to the server of the user who was invited.
func (tx *Tx) QueueEvent(ctx context.Context, e *Event, servers []string) error {
	rows := make([][]any, len(servers))
	for i, server := range servers {
		rows[i] = []any{server, e.At, e.Pos}
	}
	return tx.execEach(ctx, `INSERT INTO outgoing_events (server, at, pos) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, rows)
}

// RelayEvent has an event of another server sent to all others in its room, as that of a
// user who joins through this server.
func (tx *Tx) RelayEvent(ctx context.Context, e *Event) error {
	return tx.QueueEvent(ctx, e, []string{""})
}

// QueuedEDU is an EDU that has to reach servers, as the log has it.
type QueuedEDU struct {
	Servers []string
	Type    string          // edu_type
	Content json.RawMessage // a JSON object
}

// QueueEDU has an EDU sent to other servers that must not be lost: m.direct_to_device,
// m.device_list_update, m.signing_key_update. Each server gets what is queued for it in
// order, with the events, and may get it twice.
func (tx *Tx) QueueEDU(ctx context.Context, e QueuedEDU) error {
	if len(e.Servers) == 0 {
		return nil
	}
	pos := tx.Reserve()
	rows := make([][]any, len(e.Servers))
	for i, server := range e.Servers {
		rows[i] = []any{pos, server, e.Type, string(e.Content)}
	}
	if err := tx.execEach(ctx, `INSERT INTO outgoing_edus (pos, server, type, content) VALUES ($1, $2, $3, $4)`, rows); err != nil {
		return err
	}
	tx.Publish(stream.Entry{Pos: pos, Kind: stream.QueuedEDU, Value: e, Size: len(e.Content) + 32*len(e.Servers)})
	return nil
}

// OutgoingEDU is an EDU that one server has to get.
type OutgoingEDU struct {
	Pos     stream.Pos
	Type    string
	Content string // a JSON object
}

// OutgoingEDUs are the first EDUs for the server with after < pos <= upTo, in order.
func (q *Reader) OutgoingEDUs(ctx context.Context, server string, after, upTo stream.Pos, limit int) ([]OutgoingEDU, error) {
	return selectAll(ctx, q, `SELECT pos, type, content FROM outgoing_edus
		WHERE server = $1 AND pos > $2 AND pos <= $3 ORDER BY pos LIMIT $4`,
		func(row scanner, e *OutgoingEDU) error { return row.Scan(&e.Pos, &e.Type, &e.Content) }, server, after, upTo, limit)
}

// DeleteDelivered forgets what was queued for the servers and, by the destinations that are
// stored, has reached them; and the events to pass on that no destination lacks any more.
func (tx *Tx) DeleteDelivered(ctx context.Context, servers []string) error {
	err := tx.exec(ctx, `DELETE FROM outgoing_edus WHERE server = ANY($1) AND pos <= COALESCE(
		(SELECT d.cursor FROM destinations d WHERE d.server = outgoing_edus.server),
		(SELECT d.cursor FROM destinations d WHERE d.server = ''))`, List(servers))
	if err != nil {
		return err
	}
	err = tx.exec(ctx, `DELETE FROM outgoing_events WHERE server = ANY($1) AND at <= COALESCE(
		(SELECT d.cursor FROM destinations d WHERE d.server = outgoing_events.server),
		(SELECT d.cursor FROM destinations d WHERE d.server = ''))`, List(servers))
	if err != nil {
		return err
	}
	return tx.exec(ctx, `DELETE FROM outgoing_events WHERE server = '' AND at <= (SELECT MIN(d.cursor) FROM destinations d)`)
}

// GiveUp forgets at most limit of what was queued up to a position for servers, and as many
// of the events to pass on that are kept for none but them. It tells how many rows it were.
func (tx *Tx) GiveUp(ctx context.Context, servers []string, upTo stream.Pos, limit int) (int64, error) {
	var all int64
	for _, text := range []string{
		`DELETE FROM outgoing_edus WHERE (server, pos) IN (
			SELECT server, pos FROM outgoing_edus WHERE server = ANY($1) AND pos <= $2 LIMIT $3)`,
		`DELETE FROM outgoing_events WHERE (server, at) IN (
			SELECT server, at FROM outgoing_events WHERE server = ANY($1) AND at <= $2 LIMIT $3)`,
		`DELETE FROM outgoing_events WHERE (server, at) IN (
			SELECT server, at FROM outgoing_events WHERE server = '' AND at <= $2
				AND at <= (SELECT MIN(d.cursor) FROM destinations d WHERE d.server <> ALL($1)) LIMIT $3)`,
	} {
		n, err := tx.execCount(ctx, text, List(servers), upTo, limit)
		if err != nil {
			return all, err
		}
		all += n
	}
	return all, nil
}

// Audience are the other servers in a room.
type Audience struct {
	RoomID  string
	Servers []string
}

// Audiences are the servers but own with joined members in the rooms, by room number.
func (q *Reader) Audiences(ctx context.Context, own string, rooms []int64) (map[int64]Audience, error) {
	found := make(map[int64]Audience, len(rooms))
	if len(rooms) == 0 {
		return found, nil
	}
	err := q.each(ctx, `SELECT r.nid, r.room_id, COALESCE(s.server, '') FROM rooms r
		LEFT JOIN room_servers s ON s.room = r.nid AND s.until = 0 AND s.server <> $2 WHERE r.nid = ANY($1)`, func(row scanner) error {
		var room int64
		var roomID, server string
		err := row.Scan(&room, &roomID, &server)
		a := Audience{RoomID: roomID, Servers: found[room].Servers}
		if server != "" {
			a.Servers = append(a.Servers, server)
		}
		found[room] = a
		return err
	}, Ints(rooms), own)
	return found, err
}

// ServersAround are, by user, the servers but own that have members in a room that the
// user is joined to.
func (q *Reader) ServersAround(ctx context.Context, own string, userIDs []string) (map[string][]string, error) {
	found := make(map[string][]string, len(userIDs))
	if len(userIDs) == 0 {
		return found, nil
	}
	err := q.each(ctx, `SELECT DISTINCT c.state_key, s.server FROM current_state c JOIN room_servers s ON s.room = c.room AND s.until = 0
		WHERE c.type = 'm.room.member' AND c.state_key = ANY($1) AND c.membership = 'join' AND c.pos <> 0 AND s.server <> $2`,
		func(row scanner) error {
			var userID, server string
			err := row.Scan(&userID, &server)
			found[userID] = append(found[userID], server)
			return err
		}, List(userIDs), own)
	return found, err
}
