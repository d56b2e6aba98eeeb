package roomserver

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/matrix-org/gomatrixserverlib"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// Draft is an event that a user of this server wants to send.
type Draft struct {
	Type           string
	StateKey       *string
	Content        json.RawMessage
	Redacts        string // for m.room.redaction
	Sender         string
	Device         string // with TxnID
	TxnID          string // makes repeated sends one event; "" for none
	OriginServerTS int64  // ms; 0 for now
	StrippedState  []byte // for invites and knocks: a JSON list for the invited user
}

// batch are events being added to a room: each is authorised against the room as
// the earlier ones leave it, and all are stored in one transaction.
type batch struct {
	rooms      *Rooms
	hot        *hotRoom
	new        bool // the room itself is made too
	room       storage.Room
	references []matrix.Reference
	state      map[stateName]*stateEvent // what the batch itself changed
	staged     []staged
}

type staged struct {
	*matrix.Event
	pdu      gomatrixserverlib.PDU
	draft    Draft
	redacted *storage.Event // what the event redacts, if it does
	stored   *storage.Event // once the transaction has given it its place
}

// begin starts a batch in a room that exists.
func (r *Rooms) begin(hot *hotRoom) *batch {
	return &batch{rooms: r, hot: hot, room: hot.room, references: hot.references, state: map[stateName]*stateEvent{}}
}

// current is the state event as the batch leaves it, nil if there is none.
func (b *batch) current(ctx context.Context, eventType, stateKey string) (*stateEvent, error) {
	if e, ok := b.state[stateName{eventType, stateKey}]; ok {
		return e, nil
	}
	if b.new {
		return nil, nil
	}
	return b.hot.current(ctx, &b.rooms.db.Reader, eventType, stateKey)
}

// powerLevels are the room's power levels as the batch leaves them.
func (b *batch) powerLevels(ctx context.Context) (*PowerLevels, error) {
	create, err := b.current(ctx, "m.room.create", "")
	if err != nil {
		return nil, err
	}
	levels, err := b.current(ctx, "m.room.power_levels", "")
	if err != nil {
		return nil, err
	}
	if levels == nil {
		return readPowerLevels(create.Event, nil)
	}
	return readPowerLevels(create.Event, levels.Event)
}

// add makes the event and checks it. Nothing is stored before commit.
func (b *batch) add(ctx context.Context, d Draft) (*matrix.Event, error) {
	p := &matrix.Proto{
		Version: b.room.Version, RoomID: b.room.ID, Type: d.Type, StateKey: d.StateKey, Sender: d.Sender,
		Content: d.Content, Redacts: d.Redacts, OriginServerTS: d.OriginServerTS,
		Depth: min(b.room.Depth+1, matrix.MaxSafeInteger), PrevEvents: b.references,
	}
	if p.OriginServerTS == 0 {
		p.OriginServerTS = nowMS()
	}
	auth := authState{}
	for _, name := range authNames(b.room.Version, p) {
		e, err := b.current(ctx, name.eventType, name.stateKey)
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		auth[name] = e
		if name.eventType == "m.room.create" && b.room.Version.CreateWithoutRoom() {
			continue // the room's id says it
		}
		p.AuthEvents = append(p.AuthEvents, e.Reference())
	}
	e, err := b.rooms.signer.Build(p)
	if err != nil {
		return nil, err
	}
	pdu, err := e.PDU()
	if err != nil {
		return nil, err
	}
	if err := authorise(pdu, auth); err != nil {
		return nil, err
	}
	s := staged{Event: e, pdu: pdu, draft: d}
	if e.Redacts != "" {
		if s.redacted, err = b.redactable(ctx, e); err != nil {
			return nil, err
		}
	}
	return e, b.stage(ctx, s)
}

// stage takes the event into the batch's view of the room.
func (b *batch) stage(ctx context.Context, s staged) error {
	e := s.Event
	if e.StateKey != nil {
		name := stateName{e.Type, *e.StateKey}
		before, err := b.current(ctx, e.Type, *e.StateKey)
		if err != nil {
			return err
		}
		now := &stateEvent{Event: e, pdu: s.pdu}
		b.count(before, now)
		b.state[name] = now
	}
	b.staged = append(b.staged, s)
	b.room.Depth, b.room.Extremities = e.Depth, []string{e.ID}
	b.references = []matrix.Reference{e.Reference()}
	return nil
}

// count keeps the room's numbers of members.
func (b *batch) count(before, now *stateEvent) {
	if now.Type != "m.room.member" {
		return
	}
	for _, side := range []struct {
		e    *stateEvent
		step int64
	}{{before, -1}, {now, 1}} {
		if side.e == nil {
			continue
		}
		switch side.e.Membership() {
		case "join":
			b.room.Joined += side.step
		case "invite":
			b.room.Invited += side.step
		}
	}
}

// commit stores the batch. more runs in the same transaction, after the events.
// [storage.ErrExists]: a transaction id was used before.
func (b *batch) commit(ctx context.Context, more func(tx *storage.Tx, room int64) error) error {
	if len(b.staged) == 0 {
		return nil
	}
	var top *packed
	var state map[stateName]*stateEvent
	var room storage.Room
	err := b.rooms.db.Write(ctx, func(tx *storage.Tx) error {
		// The closure may run again: it starts from the batch each time.
		room, top, state = b.room, b.hot.top, make(map[stateName]*stateEvent, len(b.state))
		if b.new {
			room.Number = int64(tx.Reserve())
			if err := tx.InsertRoom(ctx, &room); err != nil {
				return err
			}
		}
		for i := range b.staged {
			var err error
			if top, err = b.store(ctx, tx, &b.staged[i], room.Number, top, state); err != nil {
				return err
			}
		}
		room.State = top.id
		if err := tx.UpdateRoom(ctx, &room); err != nil {
			return err
		}
		if more != nil {
			return more(tx, room.Number)
		}
		return nil
	})
	if err != nil {
		if !errors.Is(err, storage.ErrExists) {
			b.hot.loaded = false // what is stored decides, as the commit itself may have failed late
		}
		return err
	}
	b.hot.room, b.hot.references, b.hot.top = room, b.references, top
	for name, e := range state {
		b.hot.remember(name, e)
	}
	for i := range b.staged {
		if redacted := b.staged[i].redacted; redacted != nil && redacted.StateKey != nil {
			delete(b.hot.state, stateName{redacted.Type, *redacted.StateKey})
		}
	}
	return nil
}

// store writes one event: its row, the state that it makes, what it redacts.
func (b *batch) store(ctx context.Context, tx *storage.Tx, s *staged, room int64, top *packed,
	state map[stateName]*stateEvent) (*packed, error) {
	pos := tx.Reserve()
	e := &storage.Event{Event: s.Event, Pos: pos, Order: int64(pos) * storage.OrderScale, Room: room,
		Device: s.draft.Device, TxnID: s.draft.TxnID}
	if top != nil {
		e.StateBefore, e.StateAfter = top.id, top.id
	}
	var before *stateEvent
	if e.StateKey != nil {
		var err error
		name := stateName{e.Type, *e.StateKey}
		known := false
		if before, known = state[name]; !known {
			if before, err = b.stored(ctx, name); err != nil {
				return nil, err
			}
		}
		now := &stateEvent{Event: s.Event, pdu: s.pdu, key: int64(pos), pos: int64(pos)}
		if before != nil {
			now.key = before.key
			e.Replaces = stream.Pos(before.pos)
		}
		if top, err = b.rooms.states.extend(ctx, &tx.Reader, top, int64(pos), change{now.key, now.pos}); err != nil {
			return nil, err
		}
		e.StateAfter = top.id
		if err := tx.InsertState(ctx, top.row(room)); err != nil {
			return nil, err
		}
		key := storage.StateKey{Key: now.key, Type: e.Type, StateKey: *e.StateKey, Pos: pos}
		if e.Type == "m.room.member" {
			key.Membership = e.Membership()
		}
		if err := tx.SetCurrentState(ctx, room, key); err != nil {
			return nil, err
		}
		state[name] = now
	}
	s.stored = e
	return top, b.finish(ctx, tx, s, before)
}

// stored is the state event before the batch.
func (b *batch) stored(ctx context.Context, name stateName) (*stateEvent, error) {
	if b.new {
		return nil, nil
	}
	return b.hot.current(ctx, &b.rooms.db.Reader, name.eventType, name.stateKey)
}

// finish writes the event's own row and what hangs on it, and publishes it.
func (b *batch) finish(ctx context.Context, tx *storage.Tx, s *staged, before *stateEvent) error {
	e := s.stored
	if err := tx.InsertEvent(ctx, e); err != nil {
		return err
	}
	if s.draft.StrippedState != nil {
		if err := tx.SetStrippedState(ctx, e.Room, *e.StateKey, s.draft.StrippedState); err != nil {
			return err
		}
	}
	if s.redacted != nil {
		if err := b.redact(ctx, tx, s); err != nil {
			return err
		}
	}
	rendered := NewClientEvent(e)
	if before != nil {
		rendered.Replaced = before.Event
	}
	rendered.StrippedState = s.draft.StrippedState
	tx.Publish(stream.Entry{Pos: e.Pos, Kind: stream.Event, Room: e.Room, User: e.Sender, Value: rendered, Size: 2 * len(e.JSON)})
	return nil
}
