package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
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

// batch are events being added to the end of a room: each follows on the room as the
// earlier ones leave it, is authorised against that, and all are stored in one
// transaction.
type batch struct {
	rooms      *Rooms
	hot        *hotRoom
	new        bool // the room itself is made too
	arrived    bool // the events are other servers', which may be of members that are not known yet
	room       storage.Room
	references []matrix.Reference        // the extremities
	ends       map[string]int64          // as [hotRoom] has them
	state      map[stateName]*stateEvent // what the batch itself changed
	servers    map[string]int64          // as the batch leaves them
	staged     []staged
	policy     *policy // of the room before the batch of a user of this server; nil for none
}

// staged is an event that waits for the batch's commit.
type staged struct {
	*authrules.Event
	draft    Draft
	auth     []*stateEvent  // its auth events
	redacted *storage.Event // what the event redacts, if it does
	relay    bool           // another server's, that this one passes on
	beside   int64          // the state before and after an event that follows not all ends of the room; 0 for others
	outside  []string       // a server that has to be sent the event though it is not in the room
	servers  []string       // which others have to be sent the event
	stored   *storage.Event // once the transaction has given it its place
}

// begin starts a batch in a room that exists.
func (r *Rooms) begin(hot *hotRoom) *batch {
	return &batch{rooms: r, hot: hot, room: hot.room, references: hot.references, ends: hot.ends, state: map[stateName]*stateEvent{}, servers: hot.servers}
}

// beginIntake starts a batch of events that other servers have made.
func (r *Rooms) beginIntake(hot *hotRoom) *batch {
	b := r.begin(hot)
	b.arrived = true
	return b
}

// beginNew starts the batch that makes a room.
func (r *Rooms) beginNew(v matrix.RoomVersion) *batch {
	hot := &hotRoom{state: map[stateName]*stateEvent{}}
	return &batch{rooms: r, hot: hot, new: true, state: map[stateName]*stateEvent{}, room: storage.Room{Version: v, Resident: true}}
}

// current is the state event as the batch leaves it, nil if there is none.
// errMembersUnknown: a partial state does not tell.
func (b *batch) current(ctx context.Context, name stateName) (*stateEvent, error) {
	if e, ok := b.state[name]; ok {
		return e, nil
	}
	if b.new {
		return nil, nil
	}
	e, err := b.hot.current(ctx, &b.rooms.db.Reader, name)
	if e == nil && err == nil && b.room.Partial() && !b.arrived && name.Type == "m.room.member" {
		err = errMembersUnknown
	}
	return e, err
}

// powerLevels are the room's create event and power levels as the batch leaves them.
func (b *batch) powerLevels(ctx context.Context) (*stateEvent, *authrules.PowerLevels, error) {
	create, err := b.current(ctx, createName)
	if err != nil {
		return nil, nil, err
	}
	levels, err := b.current(ctx, powerLevelsName)
	if err != nil {
		return nil, nil, err
	}
	return create, authrules.ReadPowerLevels(create.rules(), levels.rules()), nil
}

// add makes the event and checks it. Nothing is stored before commit.
func (b *batch) add(ctx context.Context, d Draft) (*matrix.Event, error) {
	p := &matrix.Proto{
		Version: b.room.Version, RoomID: b.room.ID, Type: d.Type, StateKey: d.StateKey, Sender: d.Sender,
		Content: d.Content, Redacts: d.Redacts, OriginServerTS: d.OriginServerTS,
		Depth: min(b.room.Depth+1, matrix.MaxSafeInteger), PrevEvents: b.followed(),
	}
	if p.OriginServerTS == 0 {
		p.OriginServerTS = nowMS()
	}
	all, cited, err := b.authorising(ctx, b.room.Version, authrules.NamesOf(p))
	if err != nil {
		return nil, err
	}
	for _, e := range cited {
		p.AuthEvents = append(p.AuthEvents, e.Reference())
	}
	e, err := b.rooms.signer.Build(p)
	if err != nil {
		return nil, err
	}
	s := staged{Event: authrules.New(e), draft: d, auth: cited}
	if err := authrules.Allowed(s.Event, rulesOf(all)); err != nil {
		return nil, err
	}
	if e.Redacts != "" {
		if s.redacted, err = b.redactable(ctx, e); err != nil {
			return nil, err
		}
	}
	return e, b.stage(ctx, s)
}

// authorising are the state events of these names, and those of them that an event
// cites as its auth events.
func (b *batch) authorising(ctx context.Context, v matrix.RoomVersion, names []stateName) (all, cited []*stateEvent, err error) {
	for _, name := range names {
		e, err := b.current(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		if e == nil {
			continue
		}
		all = append(all, e)
		if name == createName && v.CreateWithoutRoom() {
			continue // the room's id says it
		}
		cited = append(cited, e)
	}
	return all, cited, nil
}

// stage takes the event into the batch's view of the room.
func (b *batch) stage(ctx context.Context, s staged) error {
	before, sends := b.servers, s.relay || b.rooms.local(s.Sender)
	if s.StateKey != nil {
		name := stateName{Type: s.Type, StateKey: *s.StateKey}
		replaced, err := b.current(ctx, name)
		if err != nil {
			return err
		}
		b.count(replaced, s.Event)
		b.state[name] = &stateEvent{Event: s.Event}
		if server := matrix.ServerOf(*s.StateKey); sends && endsInvite(membershipOf(replaced), s.Event) && before[server] == 0 {
			s.outside = b.rooms.others(s.Event.Event, []string{server})
		}
	}
	if sends {
		s.servers = b.rooms.others(s.Event.Event, slices.Clone(s.outside), before, b.servers)
	}
	b.staged = append(b.staged, s)
	b.room.Depth = max(b.room.Depth, s.Depth)
	b.end(&s)
	return nil
}

// followed are the extremities that the next event follows: as many as an event may. The
// ones after it follow the others.
func (b *batch) followed() []matrix.Reference {
	return b.references[:min(len(b.references), matrix.MaxPrevEvents)]
}

// endsInvite tells whether an event takes an invite or a knock back: the user's server
// has to hear of it though it is not in the room.
func endsInvite(before string, now *authrules.Event) bool {
	return (before == "invite" || before == "knock") && (now.Membership() == "leave" || now.Membership() == "ban")
}

// membershipOf is the membership that a state event tells; "" for none.
func membershipOf(e *stateEvent) string {
	if e == nil {
		return ""
	}
	return e.Membership()
}

// others are the servers in a list and in sets of servers, but this one and the event's
// own.
func (r *Rooms) others(e *matrix.Event, list []string, sets ...map[string]int64) []string {
	for _, set := range sets {
		for server := range set {
			list = append(list, server)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return slices.DeleteFunc(list, func(server string) bool {
		return server == r.signer.ServerName || server == matrix.ServerOf(e.Sender)
	})
}

// count keeps the room's numbers of members, and which servers they are of.
func (b *batch) count(before *stateEvent, now *authrules.Event) {
	if now.Type != "m.room.member" {
		return
	}
	was := ""
	if before != nil {
		was = before.Membership()
	}
	if is := now.Membership(); was != is {
		b.servers = countMembership(&b.room, b.servers, *now.StateKey, was, is, b.rooms.signer.ServerName)
	}
}

// withMembers is a copy of a set of servers in which one has n members more.
func withMembers(servers map[string]int64, server string, n int64) map[string]int64 {
	servers = maps.Clone(servers)
	if servers == nil {
		servers = map[string]int64{}
	}
	if servers[server] += n; servers[server] <= 0 {
		delete(servers, server)
	}
	return servers
}

// commit stores the batch. more runs in the same transaction, after the events.
// [storage.ErrExists]: a transaction id was used before.
func (b *batch) commit(ctx context.Context, more func(tx *storage.Tx, room int64) error) error {
	if len(b.staged) == 0 {
		return nil
	}
	var w *writing
	err := b.rooms.db.Write(ctx, func(tx *storage.Tx) error {
		// The closure may run again: it starts from the batch each time.
		w = &writing{Tx: tx, batch: b, room: b.room, top: b.hot.top, state: make(map[stateName]*stateEvent, len(b.state)), positions: map[string]int64{}}
		if err := w.events(ctx); err != nil {
			return err
		}
		if more != nil {
			return more(tx, w.room.Number)
		}
		return nil
	})
	if err != nil {
		if !errors.Is(err, storage.ErrExists) {
			b.hot.loaded = false // what is stored decides, as the commit itself may have failed late
		}
		return err
	}
	b.hot.room, b.hot.references, b.hot.ends, b.hot.top, b.hot.servers = w.room, b.references, b.ends, w.top, b.servers
	for name, e := range w.state {
		b.hot.remember(name, e)
		delete(b.hot.gone, name)
	}
	for i := range b.staged {
		if redacted := b.staged[i].redacted; redacted != nil && redacted.StateKey != nil {
			delete(b.hot.state, stateName{Type: redacted.Type, StateKey: *redacted.StateKey})
		}
	}
	return nil
}

// writing is a batch's transaction.
type writing struct {
	*storage.Tx
	batch *batch
	room  storage.Room
	top   *packed                   // the state so far
	state map[stateName]*stateEvent // what is stored of it
	last  stream.Pos
	// positions are those of the events stored so far, by id.
	positions map[string]int64
}

// events writes the room, if it is new, and its events.
func (w *writing) events(ctx context.Context) error {
	b := w.batch
	if b.new {
		w.room.Number = int64(w.Reserve())
		if err := w.InsertRoom(ctx, &w.room); err != nil {
			return err
		}
	}
	for i := range b.staged {
		if err := w.event(ctx, &b.staged[i]); err != nil {
			return err
		}
	}
	if err := w.found(ctx); err != nil {
		return err
	}
	w.room.State = w.top.id
	if err := w.UpdateRoom(ctx, &w.room); err != nil {
		return err
	}
	return writeServers(ctx, w.Tx, w.room.Number, b.hot.servers, b.servers, w.last)
}

// writeServers writes what has changed of the servers in a room.
func writeServers(ctx context.Context, tx *storage.Tx, room int64, before, now map[string]int64, pos stream.Pos) error {
	for server := range before {
		if _, still := now[server]; !still {
			if err := tx.SetRoomServer(ctx, storage.RoomServer{Room: room, Server: server}, pos); err != nil {
				return err
			}
		}
	}
	for server, members := range now {
		if before[server] != members {
			if err := tx.SetRoomServer(ctx, storage.RoomServer{Room: room, Server: server, Members: members}, pos); err != nil {
				return err
			}
		}
	}
	return nil
}

// event writes one event: its row, the state that it makes, what it redacts.
func (w *writing) event(ctx context.Context, s *staged) error {
	pos := w.Reserve()
	w.last = pos
	e := &storage.Event{Event: s.Event.Event, Pos: pos, At: pos, Order: int64(pos) * storage.OrderScale, Room: w.room.Number,
		Device: s.draft.Device, TxnID: s.draft.TxnID}
	w.positions[s.ID] = int64(pos)
	for _, auth := range s.auth {
		if at := w.positions[auth.ID]; at != 0 {
			e.Auth = append(e.Auth, at)
		} else {
			e.Auth = append(e.Auth, auth.pos)
		}
	}
	if w.top != nil {
		e.StateBefore, e.StateAfter = w.top.id, w.top.id
	}
	if s.beside != 0 {
		e.StateBefore, e.StateAfter = s.beside, s.beside
	}
	var before *stateEvent
	if e.StateKey != nil {
		var err error
		if before, err = w.change(ctx, s, e); err != nil {
			return err
		}
	}
	s.stored = e
	return w.finish(ctx, s, before)
}

// change makes the event part of the room's state. It gives the one that it replaces.
func (w *writing) change(ctx context.Context, s *staged, e *storage.Event) (before *stateEvent, err error) {
	name := stateName{Type: e.Type, StateKey: *e.StateKey}
	known := false
	if before, known = w.state[name]; !known {
		if before, err = w.batch.stored(ctx, name); err != nil {
			return nil, err
		}
	}
	now := &stateEvent{Event: s.Event, key: int64(e.Pos), pos: int64(e.Pos)}
	if before != nil {
		now.key = before.key
		e.Replaces = stream.Pos(before.pos)
	} else if key, err := w.goneKey(ctx, name); err != nil {
		return nil, err
	} else if key != 0 {
		now.key = key
	}
	if w.top, err = w.batch.rooms.states.extend(ctx, &w.Reader, w.top, int64(e.Pos), []change{{now.key, now.pos}}); err != nil {
		return nil, err
	}
	e.StateAfter = w.top.id
	if err := w.InsertState(ctx, w.top.row(w.room.Number)); err != nil {
		return nil, err
	}
	w.state[name] = now
	return before, w.SetCurrentState(ctx, w.room.Number, stateKeyOf(now, e.Pos))
}

// goneKey is the number of a type and key that the state has no event for, but had one,
// or of which other servers have told; 0 if it has none yet.
func (w *writing) goneKey(ctx context.Context, name stateName) (int64, error) {
	if key := w.batch.hot.gone[name]; key != 0 || w.batch.new {
		return key, nil
	}
	k, err := w.StateKeyByName(ctx, w.room.Number, name.Type, name.StateKey) // it may have come since the room was read
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	return k.Key, err
}

// stateKeyOf is the row of an event that is state since pos.
func stateKeyOf(e *stateEvent, changed stream.Pos) storage.StateKey {
	return storage.StateKey{Key: e.key, Type: e.Type, StateKey: *e.StateKey, Pos: stream.Pos(e.pos), Changed: changed, Membership: e.Membership()}
}

// stored is the state event before the batch.
func (b *batch) stored(ctx context.Context, name stateName) (*stateEvent, error) {
	if b.new {
		return nil, nil
	}
	return b.hot.current(ctx, &b.rooms.db.Reader, name)
}

// finish writes the event's own row and what hangs on it, and publishes it.
func (w *writing) finish(ctx context.Context, s *staged, before *stateEvent) error {
	e := s.stored
	if err := w.InsertEvent(ctx, e); err != nil {
		return err
	}
	if err := w.queue(ctx, s); err != nil {
		return err
	}
	if s.draft.StrippedState != nil {
		if err := w.SetStrippedState(ctx, e.Room, *e.StateKey, s.draft.StrippedState); err != nil {
			return err
		}
	}
	if s.redacted != nil {
		if err := w.batch.redact(ctx, w.Tx, s); err != nil {
			return err
		}
	}
	rendered := NewClientEvent(e)
	if before != nil {
		rendered.Replaced = before.Event.Event
	}
	rendered.Partial = w.room.Partial()
	rendered.StrippedState, rendered.Servers = s.draft.StrippedState, s.servers
	w.Publish(stream.Entry{Pos: e.Pos, Kind: stream.Event, Room: e.Room, User: e.Sender, Value: rendered, Size: 2 * len(e.JSON)})
	return nil
}

// queue has the event sent also where it would not be for whose it is.
func (w *writing) queue(ctx context.Context, s *staged) error {
	if s.relay {
		if err := w.RelayEvent(ctx, s.stored); err != nil {
			return err
		}
	}
	return w.QueueEvent(ctx, s.stored, s.outside)
}
