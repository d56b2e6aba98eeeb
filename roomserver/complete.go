package roomserver

import (
	"context"
	"errors"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
	"beep/stream"
)

// completedAtOnce is how many events are read at once that came while a state was partial.
const completedAtOnce = 1000

// completion makes a partial state whole, while nobody else writes to the room. The events
// since the join keep their places in the log and in the room; what changes is the states
// around them, and what they count for where the members decide otherwise. Nothing is seen
// of it before commit, so that it can begin again after a crash.
type completion struct {
	rooms  *Rooms
	hot    *hotRoom
	origin string // the server that gave the whole state
	join   *storage.Event

	room    storage.Room // as it will be
	whole   []change     // the state before the join
	before  *packed      // the same as it is stored
	last    *packed      // the latest state that was stored
	checker *checker
	after   map[string]int64    // by event: the state after it, where that has changed
	refused map[string][]string // by event that was refused: what comes before it
	placed  []storage.Event     // with the states around them as they will be
	again   []*arrival          // events that were refused and should perhaps not be
	ends    []string            // the extremities as they will be
}

// run puts the members under the partial state and what came since the join on top.
func (c *completion) run(ctx context.Context, members []change) error {
	r := c.rooms
	c.room = c.hot.room
	c.room.Whole = 0
	c.checker = r.newChecker(c.room.Number)
	c.after, c.refused = map[string]int64{}, map[string][]string{}
	partial, err := r.states.whole(ctx, &r.db.Reader, c.join.StateBefore)
	if err != nil {
		return err
	}
	c.whole = merge(members, partial)
	if err := c.begin(ctx); err != nil {
		return err
	}
	positions, err := r.db.PlacedSince(ctx, c.room.Number, c.join.Pos)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(positions, completedAtOnce) {
		if err := c.place(ctx, some); err != nil {
			return err
		}
	}
	if err := c.commit(ctx); err != nil {
		return err
	}
	return c.reconsider(ctx)
}

// begin stores the states around the join.
func (c *completion) begin(ctx context.Context) error {
	r := c.rooms
	own, err := r.keysOf(ctx, c.room.Number, []stateName{memberName(c.join.Sender)})
	if err != nil {
		return err
	}
	err = r.db.Write(ctx, func(tx *storage.Tx) error {
		c.before = &packed{id: int64(tx.Reserve()), layer: fullLayer, changes: c.whole}
		if err := tx.InsertState(ctx, c.before.row(c.room.Number)); err != nil {
			return err
		}
		c.last, err = c.store(ctx, tx, c.before, []change{{own[memberName(c.join.Sender)], int64(c.join.Pos)}})
		return err
	})
	if err != nil {
		return err
	}
	join := *c.join
	join.StateBefore, join.StateAfter = c.before.id, c.last.id
	if join.Replaces == 0 {
		pos, _ := c.before.find(own[memberName(c.join.Sender)])
		join.Replaces = stream.Pos(pos)
	}
	c.after[join.ID], c.placed, c.ends = c.last.id, append(c.placed, join), []string{join.ID}
	return nil
}

// store stores a state that differs from another one.
func (c *completion) store(ctx context.Context, tx *storage.Tx, from *packed, changes []change) (*packed, error) {
	made, err := c.rooms.states.extend(ctx, &tx.Reader, from, int64(tx.Reserve()), changes)
	if err != nil {
		return nil, err
	}
	return made, tx.InsertState(ctx, made.row(c.room.Number))
}

// place looks again at events that came after the join.
func (c *completion) place(ctx context.Context, positions []int64) error {
	stored, err := c.rooms.db.EventsByPos(ctx, positions)
	if err != nil {
		return err
	}
	byPos, byID := map[int64]*matrix.Event{}, map[string]*storage.Event{}
	for i := range stored {
		byPos[int64(stored[i].Pos)], byID[stored[i].ID] = stored[i].Event, &stored[i]
	}
	events := make([]*matrix.Event, 0, len(stored))
	for _, pos := range positions {
		if e := byPos[pos]; e != nil {
			events = append(events, e)
		}
	}
	for _, e := range byAncestry(events) {
		if err := c.placeOne(ctx, *byID[e.ID]); err != nil {
			return err
		}
	}
	return nil
}

func (c *completion) placeOne(ctx context.Context, e storage.Event) error {
	if e.ID == c.join.ID {
		return nil
	}
	before, changed, err := c.stateBefore(ctx, &e)
	if err != nil {
		return err
	}
	if changed {
		if err := c.judge(ctx, &e, before); err != nil {
			return err
		}
		if err := c.setStates(ctx, &e, before); err != nil {
			return err
		}
		c.placed = append(c.placed, e)
	}
	c.follow(&e)
	return nil
}

// stateBefore is the state before an event, and whether it is another one now.
func (c *completion) stateBefore(ctx context.Context, e *storage.Event) (state stateAt, changed bool, err error) {
	if e.StateBefore == c.join.StateBefore {
		return stateAt{id: c.before.id}, true, nil
	}
	previous, err := c.previous(ctx, e.PrevEvents())
	if err != nil {
		return stateAt{}, false, err
	}
	known := 0
	for id, p := range previous {
		if _, is := c.after[id]; is {
			changed = true
		}
		if p.StateAfter != 0 {
			known++
		}
	}
	if !changed {
		return stateAt{}, false, nil
	}
	if known < len(e.PrevEvents()) {
		// What another server has claimed of the events that are not known is in the state.
		whole, err := c.rooms.wholeOf(ctx, stateAt{id: e.StateBefore})
		return stateAt{whole: merge(c.whole, whole)}, true, err
	}
	state, err = c.rooms.stateBefore(ctx, &c.room, previous, nil)
	return state, true, err
}

// previous are events with the states after them as they will be.
func (c *completion) previous(ctx context.Context, ids []string) (map[string]storage.KnownEvent, error) {
	previous, err := c.rooms.db.KnownIn(ctx, c.room.Number, ids)
	for id, p := range previous {
		if state, changed := c.after[id]; changed {
			p.StateAfter = state
			previous[id] = p
		}
	}
	return previous, err
}

// judge sets what an event counts for. What has been redacted cannot be judged any more.
func (c *completion) judge(ctx context.Context, e *storage.Event, before stateAt) error {
	if e.RedactedBy != 0 {
		return nil
	}
	a := &arrival{Event: authrules.New(e.Event)}
	verdict := c.checker.checkAuthEvents(ctx, a)
	if verdict == nil {
		verdict = c.rooms.checkStateBefore(ctx, &c.room, a, before)
	}
	switch {
	case errors.Is(verdict, matrix.Forbidden):
		e.Status, e.Order = storage.Rejected, -int64(e.Pos)
	case verdict == nil && e.Status != storage.Accepted:
		c.again = append(c.again, a)
	case verdict != nil && !errors.Is(verdict, errUnknownAuth):
		return verdict
	}
	c.checker.add(e)
	return nil
}

// setStates stores the states around an event where they are new.
func (c *completion) setStates(ctx context.Context, e *storage.Event, before stateAt) error {
	id, err := c.stored(ctx, before)
	if err != nil {
		return err
	}
	e.StateBefore, e.StateAfter = id, id
	if e.StateKey == nil || e.Status == storage.Rejected {
		c.after[e.ID] = id
		return nil
	}
	r, name := c.rooms, stateName{Type: e.Type, StateKey: *e.StateKey}
	keys, err := r.keysOf(ctx, c.room.Number, []stateName{name})
	if err != nil {
		return err
	}
	if e.Replaces == 0 && e.Status == storage.Accepted {
		found, err := r.states.lookup(ctx, &r.db.Reader, []int64{id}, []int64{keys[name]})
		if err != nil {
			return err
		}
		e.Replaces = stream.Pos(found[id][keys[name]])
	}
	from, err := r.states.load(ctx, &r.db.Reader, []int64{id})
	if err != nil {
		return err
	}
	err = r.db.Write(ctx, func(tx *storage.Tx) error {
		c.last, err = c.store(ctx, tx, from[id], []change{{keys[name], int64(e.Pos)}})
		return err
	})
	e.StateAfter, c.after[e.ID] = c.last.id, c.last.id
	return err
}

// stored is the id of a state, which it stores if it is not stored yet.
func (c *completion) stored(ctx context.Context, s stateAt) (int64, error) {
	if s.id != 0 {
		return s.id, nil
	}
	last, err := c.rooms.states.whole(ctx, &c.rooms.db.Reader, c.last.id)
	if err != nil {
		return 0, err
	}
	changes := difference(last, s.whole)
	if len(changes) == 0 {
		return c.last.id, nil
	}
	err = c.rooms.db.Write(ctx, func(tx *storage.Tx) error {
		c.last, err = c.store(ctx, tx, c.last, changes)
		return err
	})
	return c.last.id, err
}

// follow keeps the extremities.
func (c *completion) follow(e *storage.Event) {
	if e.Status != storage.Accepted {
		c.refused[e.ID] = e.PrevEvents()
		return
	}
	if !e.Live() {
		return // it came to fill a gap
	}
	covered := map[string]bool{}
	for next := e.PrevEvents(); len(next) > 0; {
		id := next[0]
		if next = next[1:]; !covered[id] {
			covered[id] = true
			next = append(next, c.refused[id]...)
		}
	}
	c.ends = append(slices.DeleteFunc(c.ends, func(id string) bool { return covered[id] }), e.ID)
}

// commit makes the whole state the room's.
func (c *completion) commit(ctx context.Context) error {
	r := c.rooms
	ends, err := c.previous(ctx, c.ends)
	if err != nil {
		return err
	}
	state, err := r.stateBefore(ctx, &c.room, ends, nil)
	if err != nil {
		return err
	}
	if c.room.State, err = c.stored(ctx, state); err != nil {
		return err
	}
	c.room.Extremities = c.ends
	was, err := r.states.whole(ctx, &r.db.Reader, c.hot.room.State)
	if err != nil {
		return err
	}
	now, err := r.wholeOf(ctx, stateAt{id: c.room.State})
	if err != nil {
		return err
	}
	changes := difference(was, now)
	events, err := c.involved(ctx, was, changes)
	if err != nil {
		return err
	}
	defer func() { c.hot.loaded = false }()
	return r.db.Write(ctx, func(tx *storage.Tx) error {
		w := &completionWriting{Tx: tx, completion: c, room: c.room}
		return w.run(ctx, was, changes, events)
	})
}

// involved loads the events that become state, and those whose place they take.
func (c *completion) involved(ctx context.Context, was, changes []change) (map[int64]*storage.Event, error) {
	positions := positionsOf(changes)
	for _, ch := range changes {
		if pos, found := (&packed{changes: was}).find(ch.key); found {
			positions = append(positions, pos)
		}
	}
	found, err := c.rooms.db.EventsByPos(ctx, positions)
	events := make(map[int64]*storage.Event, len(found))
	for i := range found {
		events[int64(found[i].Pos)] = &found[i]
	}
	return events, err
}

// reconsider lets those of the refused events in that the whole state allows. They come
// to the end of the room.
func (c *completion) reconsider(ctx context.Context) error {
	in := c.rooms.newIntake(c.origin, &c.room)
	for _, a := range c.again {
		if err := c.hot.reload(ctx, c.rooms.db, c.room.ID); err != nil {
			return err
		}
		in.asked[a.ID] = true // nobody is asked while the room is held up
		err := c.rooms.checkCurrentState(ctx, c.hot, a)
		if err == nil {
			err = in.fork(ctx, c.hot, &arrival{Event: a.Event})
		}
		if err != nil && !errors.Is(err, matrix.Forbidden) && !errors.Is(err, errUnknownAuth) {
			return err
		}
	}
	return nil
}

// completionWriting is the transaction of a completion.
type completionWriting struct {
	*storage.Tx
	*completion
	room storage.Room
}

func (w *completionWriting) run(ctx context.Context, was, changes []change, events map[int64]*storage.Event) error {
	for i := range w.placed {
		if err := w.Admit(ctx, &w.placed[i]); err != nil {
			return err
		}
	}
	if err := w.currentState(ctx, was, changes, events); err != nil {
		return err
	}
	servers, err := w.count(ctx)
	if err != nil {
		return err
	}
	w.room.Whole = w.Reserve()
	if err := writeServers(ctx, w.Tx, w.room.Number, w.hot.servers, servers, w.room.Whole); err != nil {
		return err
	}
	if err := w.UpdateRoom(ctx, &w.room); err != nil {
		return err
	}
	w.Publish(stream.Entry{Pos: w.room.Whole, Kind: stream.Whole, Room: w.room.Number, Value: []*ClientEvent(nil)})
	return nil
}

// currentState writes what changes of the current state. The members who were there before
// the join are there since the join, as if they had always been known: of them clients are
// told by and by. What else has changed, since the whole state resolves forks in another way,
// they are told now.
func (w *completionWriting) currentState(ctx context.Context, was, changes []change, events map[int64]*storage.Event) error {
	var resets []*ClientEvent
	var rows []storage.StateKey
	at := w.Reserve()
	for _, c := range changes {
		e := events[c.pos]
		if e == nil {
			if err := w.ClearCurrentState(ctx, w.room.Number, c.key, at); err != nil {
				return err
			}
			continue
		}
		row := storage.StateKey{Key: c.key, Type: e.Type, StateKey: *e.StateKey, Pos: e.Pos, Changed: w.join.At}
		if e.Type == "m.room.member" {
			row.Membership = e.Membership()
		}
		old, had := (&packed{changes: was}).find(c.key)
		if pos, before := (&packed{changes: w.whole}).find(c.key); had || !before || pos != c.pos {
			row.Changed = at
			e.At = at
			resets = append(resets, reset(e, events[old]))
		}
		rows = append(rows, row)
	}
	if len(resets) > 0 {
		w.Publish(stream.Entry{Pos: at, Kind: stream.State, Room: w.room.Number, Value: resets, Size: 1000 * len(resets)})
	}
	return w.SetCurrentStates(ctx, w.room.Number, rows)
}

// count counts the room's members anew, and gives the servers that they are of.
func (w *completionWriting) count(ctx context.Context) (map[string]int64, error) {
	members, err := w.Members(ctx, w.room.Number, []string{"join", "invite"})
	if err != nil {
		return nil, err
	}
	servers := map[string]int64{}
	w.room.Joined, w.room.Invited = 0, 0
	for _, m := range members {
		if m.Membership == "invite" {
			w.room.Invited++
			continue
		}
		w.room.Joined++
		servers[matrix.ServerOf(m.UserID)]++
	}
	w.room.Resident = servers[w.rooms.signer.ServerName] > 0
	return servers, nil
}
