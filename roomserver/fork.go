package roomserver

import (
	"context"
	"errors"
	"math"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
	"beep/stream"
)

// The numbers that an event and its type and key have in a resolution while they have
// no position yet.
const (
	unplacedEvent = math.MaxInt64 - 1
	unplacedKey   = math.MaxInt64 - 2
)

// fork is an event that does not simply follow on the end of the room: it came late,
// beside others, was refused, or what comes before it is not known.
type fork struct {
	rooms   *Rooms
	hot     *hotRoom
	event   *arrival
	assumed bool  // the state before it is only assumed
	relay   bool  // this server passes the event on to the others in the room
	draft   Draft // of an event that this server has just made
	status  storage.Status
	pos     stream.Pos // of an event that is stored already as an outlier; 0 otherwise
	before  stateAt
	key     int64    // the number of its type and key; 0 while they have none
	missing []string // which of the events before it are not known
	order   int64    // its place in the room's order, of an event from before a gap; 0 for others

	redaction *storage.Event // of the event, which came before it; nil for none
	redacted  *storage.Event // what the event redacts; nil for nothing
	early     bool           // what the event redacts is not known

	extremities []string   // the room's, with the event
	current     []change   // what the event changes of the current state
	replaced    stream.Pos // what the event replaces in the current state, if it does
}

// place stores an event where the room's graph has it.
func (f *fork) place(ctx context.Context) error {
	f.extremities = f.hot.room.Extremities
	if f.event.StateKey != nil {
		name := stateName{Type: f.event.Type, StateKey: *f.event.StateKey}
		keys, err := f.rooms.keysOf(ctx, f.hot.room.Number, []stateName{name})
		if err != nil {
			return err
		}
		f.key = keys[name]
	}
	if f.status == storage.Accepted && f.event.Redacts != "" {
		power := func() (*authrules.PowerLevels, error) { return f.rooms.powerAt(ctx, f.hot.room.Number, f.before) }
		target, counts, err := f.rooms.redactedBy(ctx, f.hot.room.Number, f.event.Event.Event, power)
		if f.early = errors.Is(err, storage.ErrNotFound); err != nil && !f.early {
			return err
		}
		if counts {
			f.redacted = &target
		}
	}
	if f.status == storage.Accepted && f.order == 0 {
		if err := f.join(ctx); err != nil {
			return err
		}
	}
	return f.commit(ctx)
}

// join makes the event an extremity of the room, and finds what that makes of the
// current state.
func (f *fork) join(ctx context.Context) error {
	covered, err := f.covered(ctx)
	if err != nil {
		return err
	}
	f.extremities = slices.DeleteFunc(slices.Clone(f.extremities), func(id string) bool { return slices.Contains(covered, id) })
	others, err := f.rooms.db.KnownEvents(ctx, f.extremities)
	if err != nil {
		return err
	}
	f.extremities = append(f.extremities, f.event.ID)
	now, err := f.resolved(ctx, others)
	if err != nil {
		return err
	}
	before, err := f.rooms.wholeOf(ctx, stateAt{id: f.hot.room.State})
	if err != nil {
		return err
	}
	f.current = difference(before, now)
	if pos, found := (&packed{changes: before}).find(f.number()); found && f.number() != 0 {
		f.replaced = stream.Pos(pos)
	}
	return nil
}

// maxCovered bounds how many refused events are walked through to see what an event
// follows.
const maxCovered = 200

// covered are the events that the event follows, also behind such as were refused: they
// are no extremities any more.
func (f *fork) covered(ctx context.Context) ([]string, error) {
	covered := f.event.PrevEvents()
	for next := covered; len(next) > 0 && len(covered) < maxCovered; {
		events, err := f.rooms.db.EventsByID(ctx, next)
		if err != nil {
			return nil, err
		}
		next = nil
		for i := range events {
			if events[i].Status == storage.Rejected || events[i].Status == storage.SoftFailed {
				for _, id := range events[i].PrevEvents() {
					if !slices.Contains(covered, id) {
						next = append(next, id)
						covered = append(covered, id)
					}
				}
			}
		}
	}
	return covered, nil
}

// number is that of the event's type and key in resolutions; 0 for no state.
func (f *fork) number() int64 {
	if f.event.StateKey == nil || f.key != 0 {
		return f.key
	}
	return unplacedKey
}

// resolved is the room's current state with the event, which stands in it as
// unplacedEvent.
func (f *fork) resolved(ctx context.Context, others map[string]storage.KnownEvent) ([]change, error) {
	after, err := f.rooms.wholeOf(ctx, f.before)
	if err != nil {
		return nil, err
	}
	if f.event.StateKey != nil {
		after = merge(after, []change{{f.number(), unplacedEvent}})
	}
	var states []stateAt
	seen := map[int64]bool{}
	for _, e := range others {
		if e.StateAfter != 0 && !seen[e.StateAfter] && (f.event.StateKey != nil || e.StateAfter != f.before.id) {
			seen[e.StateAfter] = true
			states = append(states, stateAt{id: e.StateAfter})
		}
	}
	if len(states) == 0 {
		return after, nil
	}
	sets, err := f.rooms.sets(ctx, append(states, stateAt{whole: after}))
	if err != nil {
		return nil, err
	}
	resolver, err := f.rooms.resolver(ctx, &f.hot.room)
	if err != nil {
		return nil, err
	}
	if f.event.StateKey != nil {
		auth := make([]int64, len(f.event.cited))
		for i, e := range f.event.cited {
			auth[i] = e.pos
		}
		resolver.add(unplacedEvent, f.number(), f.event.Event, auth)
	}
	return resolver.resolve(ctx, sets)
}

// commit stores the event, the states around it, and what it changes of the room.
func (f *fork) commit(ctx context.Context) error {
	var w *forkWriting
	err := f.rooms.db.Write(ctx, func(tx *storage.Tx) error {
		w = &forkWriting{Tx: tx, fork: f, room: f.hot.room, servers: f.hot.servers}
		return w.run(ctx)
	})
	if err != nil || f.status == storage.Accepted {
		f.hot.loaded = false // read again what has become of the room
	}
	return err
}

// forkWriting is the transaction that stores a fork.
type forkWriting struct {
	*storage.Tx
	*fork
	room    storage.Room
	servers map[string]int64
	stored  *storage.Event
}

func (w *forkWriting) run(ctx context.Context) error {
	pos, known := w.pos, w.pos != 0
	if !known {
		pos = w.Reserve()
	}
	w.stored = &storage.Event{Event: w.event.Event.Event, Pos: pos, At: pos, Order: -int64(pos), Room: w.room.Number, Status: w.status, Replaces: w.replaced,
		Device: w.draft.Device, TxnID: w.draft.TxnID}
	for _, e := range w.event.cited {
		w.stored.Auth = append(w.stored.Auth, e.pos)
	}
	at := pos
	if known && w.order == 0 {
		at = w.Reserve() // it becomes part of the timeline now
	}
	switch {
	case w.order != 0 && w.status == storage.Accepted:
		w.stored.Order = w.order
	case w.status == storage.Accepted:
		w.stored.At, w.stored.Order = at, int64(at)*storage.OrderScale
	}
	number := at
	if known && w.order != 0 {
		number = w.Reserve() // what was out of band may have a state of its own number
	}
	if err := w.states(ctx, int64(number)); err != nil {
		return err
	}
	if w.assumed && w.status == storage.Accepted {
		w.stored.Status = storage.OutOfBand
	}
	if known {
		if err := w.Admit(ctx, w.stored); err != nil {
			return err
		}
	} else if err := w.InsertEvent(ctx, w.stored); err != nil {
		return err
	}
	if len(w.missing) > 0 {
		order := w.order
		if order == 0 {
			order = int64(at) * storage.OrderScale
		}
		if err := w.AddMissing(ctx, w.room.Number, pos, order, w.missing); err != nil {
			return err
		}
	}
	if err := w.RemoveMissing(ctx, w.room.Number, []string{w.stored.ID}); err != nil {
		return err
	}
	if err := w.redact(ctx); err != nil {
		return err
	}
	if w.status != storage.Accepted || w.order != 0 {
		return nil
	}
	return w.accept(ctx, at)
}

// redact prunes the event if it is redacted, and what it redacts. A redaction of what is
// not known is kept for the day when it comes.
func (w *forkWriting) redact(ctx context.Context) error {
	if w.redaction != nil {
		pruned, err := w.stored.Redacted()
		if err != nil {
			return err
		}
		w.stored.Event, w.stored.RedactedBy = pruned, w.redaction.Pos
		if err := w.RedactEvent(ctx, w.stored.Pos, w.redaction.Pos, pruned.JSON); err != nil {
			return err
		}
	}
	switch {
	case w.redacted != nil:
		return w.rooms.prune(ctx, w.Tx, w.redacted, w.stored)
	case w.early:
		return w.AddEarlyRedaction(ctx, w.stored.Redacts, w.stored.Pos)
	}
	return nil
}

// states stores the states before and after the event, where they are new. number is that of
// the state after it.
func (w *forkWriting) states(ctx context.Context, number int64) error {
	before, err := w.stateID(ctx)
	if err != nil {
		return err
	}
	w.stored.StateBefore, w.stored.StateAfter = before.id, before.id
	if w.stored.StateKey == nil || w.status == storage.Rejected {
		return nil
	}
	if w.key == 0 {
		w.key = int64(w.stored.Pos)
		if err := w.AddStateKeys(ctx, w.room.Number, []storage.StateKey{{Key: w.key, Type: w.stored.Type, StateKey: *w.stored.StateKey}}); err != nil {
			return err
		}
		defer func() { w.fork.key = 0 }() // the closure may run again
	}
	after, err := w.rooms.states.extend(ctx, &w.Reader, before, number, []change{{w.key, int64(w.stored.Pos)}})
	if err != nil {
		return err
	}
	w.stored.StateAfter = after.id
	w.current = w.placed()
	return w.InsertState(ctx, after.row(w.room.Number))
}

// placed is what changes of the current state, with the event's own numbers.
func (w *forkWriting) placed() []change {
	changes := slices.Clone(w.current)
	for i := range changes {
		if changes[i].key == unplacedKey {
			changes[i].key = w.key
		}
		if changes[i].pos == unplacedEvent {
			changes[i].pos = int64(w.stored.Pos)
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return int(min(max(a.key-b.key, -1), 1)) })
	return changes
}

// stateID is the state before the event as a stored one.
func (w *forkWriting) stateID(ctx context.Context) (*packed, error) {
	if w.before.id != 0 {
		loaded, err := w.rooms.states.load(ctx, &w.Reader, []int64{w.before.id})
		return loaded[w.before.id], err
	}
	current, err := w.rooms.states.whole(ctx, &w.Reader, w.room.State)
	if err != nil {
		return nil, err
	}
	return w.newState(ctx, difference(current, w.before.whole))
}

// newState stores a state that differs from the room's current one.
func (w *forkWriting) newState(ctx context.Context, changes []change) (*packed, error) {
	loaded, err := w.rooms.states.load(ctx, &w.Reader, []int64{w.room.State})
	if err != nil || len(changes) == 0 {
		return loaded[w.room.State], err
	}
	made, err := w.rooms.states.extend(ctx, &w.Reader, loaded[w.room.State], int64(w.Reserve()), changes)
	if err != nil {
		return nil, err
	}
	return made, w.InsertState(ctx, made.row(w.room.Number))
}

// accept makes the event part of the room.
func (w *forkWriting) accept(ctx context.Context, at stream.Pos) error {
	rendered := NewClientEvent(w.stored)
	rendered.Gap, rendered.Partial = len(w.missing) > 0, w.room.Partial()
	if w.redaction != nil {
		rendered.Redaction = NewClientEvent(w.redaction)
	}
	replaced, resets, err := w.changeState(ctx, at)
	if err != nil {
		return err
	}
	rendered.Replaced, rendered.StrippedState = replaced, w.draft.StrippedState
	if w.draft.StrippedState != nil {
		if err := w.SetStrippedState(ctx, w.room.Number, *w.stored.StateKey, w.draft.StrippedState); err != nil {
			return err
		}
	}
	now, err := w.newState(ctx, w.current)
	if err != nil {
		return err
	}
	w.room.State, w.room.Extremities = now.id, w.extremities
	w.room.Depth = min(max(w.room.Depth, w.stored.Depth), matrix.MaxSafeInteger)
	if err := w.UpdateRoom(ctx, &w.room); err != nil {
		return err
	}
	if err := writeServers(ctx, w.Tx, w.room.Number, w.hot.servers, w.servers, at); err != nil {
		return err
	}
	outside := w.rooms.others(w.stored.Event, append(w.dropped(), w.uninvited(replaced)...))
	if rendered.Servers = outside; w.relay || w.rooms.local(w.stored.Sender) {
		rendered.Servers = w.rooms.others(w.stored.Event, slices.Clone(outside), w.hot.servers, w.servers)
	}
	if err := w.queue(ctx, w.relay, outside); err != nil {
		return err
	}
	w.Publish(stream.Entry{Pos: at, Kind: stream.Event, Room: w.room.Number, User: w.stored.Sender, Value: rendered, Size: 2 * len(w.stored.JSON)})
	if len(resets) > 0 {
		pos := w.Reserve()
		for _, e := range resets {
			e.At = pos
		}
		w.Publish(stream.Entry{Pos: pos, Kind: stream.State, Room: w.room.Number, Value: resets, Size: 1000 * len(resets)})
	}
	return nil
}

// queue has the event sent also where it would not be for whose it is.
func (w *forkWriting) queue(ctx context.Context, relay bool, servers []string) error {
	if relay {
		if err := w.RelayEvent(ctx, w.stored); err != nil {
			return err
		}
	}
	return w.QueueEvent(ctx, w.stored, servers)
}

// dropped are the servers whose last member the event has taken out of the room though
// whoever made it does not know that they were there: forks of the room have met, or a
// user was removed who had come back elsewhere. So this server has to send them the event
// that shows it.
func (w *forkWriting) dropped() []string {
	var dropped []string
	for server := range w.hot.servers {
		if _, still := w.servers[server]; !still && !w.removes(server) {
			dropped = append(dropped, server)
		}
	}
	slices.Sort(dropped)
	return dropped
}

// uninvited is the server outside of the room whose user's invite or knock an event of this
// server ends.
func (w *forkWriting) uninvited(replaced *matrix.Event) []string {
	if replaced == nil || w.stored.Type != "m.room.member" || !w.rooms.local(w.stored.Sender) || !endsInvite(replaced.Membership(), w.event.Event) {
		return nil
	}
	if server := matrix.ServerOf(*w.stored.StateKey); w.hot.servers[server] == 0 {
		return []string{server}
	}
	return nil
}

// removes tells whether the event takes a user of the server out of the room, by the
// membership that this server knows.
func (w *forkWriting) removes(server string) bool {
	return w.stored.Type == "m.room.member" && matrix.ServerOf(*w.stored.StateKey) == server && w.stored.Membership() != "join" &&
		slices.ContainsFunc(w.event.cited, func(e *stateEvent) bool { return e.pos == int64(w.replaced) })
}
