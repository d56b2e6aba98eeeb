package storage

import (
	"context"
	"database/sql"

	"beep/matrix"
	"beep/stream"
)

// OrderScale is the distance in [Event.Order] between two neighbouring positions,
// so that events which are fetched later find a place between them.
const OrderScale = 1 << 20

// Status says what an event counts for (server-server API, "Checks performed on
// receipt of a PDU").
type Status int64

// The statuses. Only accepted and out-of-band events are in a timeline.
const (
	Accepted Status = iota
	// SoftFailed: allowed by the state before it, but not by the room's current state.
	SoftFailed
	// Rejected: refused by the authorisation rules.
	Rejected
	// Outlier: known for its own sake, as part of an auth chain or of a state; the
	// state before it is not known.
	Outlier
	// OutOfBand: an invite or knock of a user of this server, or its end, in a room
	// that the server has no part in; or how its last user there was put out of the room,
	// when nobody tells what came before that.
	OutOfBand
)

// Event is an event with its place in the log, in its room and in its history
// of state.
type Event struct {
	*matrix.Event
	Pos         stream.Pos // which names it; in the log unless it was known before it came
	At          stream.Pos // in the log: when it came, or became state
	Order       int64      // in the room; Pos*OrderScale for what arrived live; negative outside of the timeline
	Status      Status
	Room        int64      // the room's number
	StateBefore int64      // the room's state before the event
	StateAfter  int64      // and after it: the same unless the event is state
	Replaces    stream.Pos // the state event that it replaced; 0 if none
	RedactedBy  stream.Pos // the redaction; 0 if none
	Device      string     // the sender's device, with TxnID; "" when not known
	TxnID       string     // the sender's transaction id; "" when it gave none
	Auth        []int64    // positions of the auth events; for InsertEvent only, reads leave it nil
}

// InTimeline tells whether the event is or was in a timeline. Others were refused, or are
// known for what refers to them: no user is shown them, but where they are the room's state.
func (e *Event) InTimeline() bool { return e.Status == Accepted || e.Status == OutOfBand }

// Live tells whether the event is or was in the log, at At. Others are in no timeline, or
// were fetched to stand between such as are.
func (e *Event) Live() bool { return e.Order > 0 && e.Order%OrderScale == 0 }

const eventColumns = `e.pos, e.ord, e.room, r.room_id, r.version, e.event_id, e.state_before, e.state_after,
	e.replaces, e.redacted_by, e.status, e.device, e.txn, e.json`

const eventTables = ` FROM events e JOIN rooms r ON r.nid = e.room `

func scanEvent(row scanner, e *Event) error { return scanEventAnd(row, e) }

// scanEventAnd reads an event and the columns that follow it.
func scanEventAnd(row scanner, e *Event, more ...any) error {
	var roomID, version, eventID string
	var device, txn sql.NullString
	var stored []byte
	err := row.Scan(append([]any{&e.Pos, &e.Order, &e.Room, &roomID, &version, &eventID, &e.StateBefore, &e.StateAfter,
		&e.Replaces, &e.RedactedBy, &e.Status, &device, &txn, &stored}, more...)...)
	if err != nil {
		return err
	}
	e.Device, e.TxnID = device.String, txn.String
	if e.Event, err = matrix.ParseTrusted(matrix.RoomVersion(version), eventID, stored); err != nil {
		return err
	}
	e.RoomID = roomID
	e.At = arrivedAt(e.Pos, e.Order)
	return nil
}

// arrivedAt is the place in the log of an event with this order.
func arrivedAt(pos stream.Pos, order int64) stream.Pos {
	if order > 0 && order%OrderScale == 0 {
		return stream.Pos(order / OrderScale)
	}
	return pos
}

const insertEvent = `INSERT INTO events (pos, ord, room, event_id, type, state_key, sender, ts,
		state_before, state_after, replaces, redacted_by, device, txn, status, auth, json)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`

// InsertEvent stores an event. [ErrExists]: its id is known, or its sender's device
// has used its transaction id for another event of the type in the room.
func (tx *Tx) InsertEvent(ctx context.Context, e *Event) error {
	return tx.exec(ctx, insertEvent, e.row()...)
}

// InsertEvents stores many events.
func (tx *Tx) InsertEvents(ctx context.Context, events []*Event) error {
	rows := make([][]any, len(events))
	for i, e := range events {
		rows[i] = e.row()
	}
	return tx.execEach(ctx, insertEvent, rows)
}

func (e *Event) row() []any {
	var device, txn, stateKey any
	if e.TxnID != "" {
		device, txn = e.Device, e.TxnID
	}
	if e.StateKey != nil {
		stateKey = *e.StateKey
	}
	return []any{e.Pos, e.Order, e.Room, e.ID, e.Type, stateKey, e.Sender, e.OriginServerTS,
		e.StateBefore, e.StateAfter, e.Replaces, e.RedactedBy, device, txn, e.Status, pack(e.Auth), e.JSON}
}

// RedactEvent replaces the event at pos by its pruned form. by is the redaction.
func (tx *Tx) RedactEvent(ctx context.Context, pos, by stream.Pos, pruned []byte) error {
	return tx.exec(ctx, `UPDATE events SET json = $1, redacted_by = $2 WHERE pos = $3`, pruned, by, pos)
}

// EventByID finds an event of any room.
func (q *Reader) EventByID(ctx context.Context, eventID string) (Event, error) {
	return selectOne(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.event_id = $1`, scanEvent, eventID)
}

// EventsByID finds those of the events that are stored, in no order.
func (q *Reader) EventsByID(ctx context.Context, eventIDs []string) ([]Event, error) {
	if len(eventIDs) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.event_id = ANY($1)`, scanEvent, List(eventIDs))
}

// EventsByPos finds the events at these positions, in order of position.
func (q *Reader) EventsByPos(ctx context.Context, positions []int64) ([]Event, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.pos = ANY($1) ORDER BY e.pos`, scanEvent, Ints(positions))
}

// EventsButMembers is [Reader.EventsByPos] without m.room.member events.
func (q *Reader) EventsButMembers(ctx context.Context, positions []int64) ([]Event, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.pos = ANY($1) AND e.type <> 'm.room.member' ORDER BY e.pos`,
		scanEvent, Ints(positions))
}

// EventByTransaction finds the event that the device sent under this transaction id.
func (q *Reader) EventByTransaction(ctx context.Context, room int64, sender, device, eventType, txnID string) (string, error) {
	return selectOne(ctx, q, `SELECT event_id FROM events WHERE room = $1 AND sender = $2 AND device = $3 AND type = $4 AND txn = $5`,
		scanValue[string], room, sender, device, eventType, txnID)
}

// EventsBackward are the events of the room with after < order < before, latest first, at most limit.
func (q *Reader) EventsBackward(ctx context.Context, room, before, after int64, limit int) ([]Event, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.room = $1 AND e.ord < $2 AND e.ord > $3
		ORDER BY e.ord DESC LIMIT $4`, scanEvent, room, before, after, limit)
}

// EventsForward are the events of the room with after < order < before, earliest first, at most limit.
func (q *Reader) EventsForward(ctx context.Context, room, after, before int64, limit int) ([]Event, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.room = $1 AND e.ord > $2 AND e.ord < $3
		ORDER BY e.ord LIMIT $4`, scanEvent, room, after, before, limit)
}

// StateChanges are the state events of the rooms with after < pos <= upTo, by room
// and in order.
func (q *Reader) StateChanges(ctx context.Context, rooms []int64, after, upTo stream.Pos) ([]Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.room = ANY($1) AND e.ord > $2 AND e.ord <= $3
		AND e.state_key IS NOT NULL ORDER BY e.room, e.ord`,
		scanEvent, Ints(rooms), int64(after)*OrderScale, int64(upTo)*OrderScale)
}

// MembershipChanges are the user's own member events with after < pos <= upTo, in order.
func (q *Reader) MembershipChanges(ctx context.Context, userID string, after, upTo stream.Pos) ([]Event, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.type = 'm.room.member' AND e.state_key = $1
		AND e.pos > $2 AND e.pos <= $3 AND e.ord > 0 ORDER BY e.pos`, scanEvent, userID, after, upTo)
}

// MemberHistory are all member events of one user in one room, in order.
func (q *Reader) MemberHistory(ctx context.Context, room int64, userID string) ([]Event, error) {
	return selectAll(ctx, q, `SELECT `+eventColumns+eventTables+`WHERE e.type = 'm.room.member' AND e.state_key = $1
		AND e.room = $2 AND e.ord > 0 ORDER BY e.ord`, scanEvent, userID, room)
}
