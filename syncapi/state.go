package syncapi

import (
	"cmp"
	"context"
	"slices"

	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// The state of a room in an answer is made from its base: the whole state at the
// end of the timeline, or what has changed of it since the client's token. For the
// state before the timeline, each event of the timeline is taken back: what it
// replaced takes its place. Where forks of a room's history were resolved, state has
// changed without an event, too; if the timeline has an event that lost against what
// became state later, the timeline begins after it.

// states gathers the bases.
func (g *gathering) states(ctx context.Context) error {
	var whole, changed, left, leftChanged []*room
	for _, r := range g.order {
		switch {
		case r.own != nil:
			if r.match != nil {
				r.setBase(r.own.Event)
			}
		case r.complete && !r.expanded() && (!r.whole() || r.fresh && r.wholeHistory()):
			r.base = changesAmong(r.events, r.resets)
		case r.whole() && !r.left:
			whole = append(whole, r)
		case r.whole():
			left = append(left, r)
		case r.left:
			leftChanged = append(leftChanged, r)
		default:
			changed = append(changed, r)
		}
	}
	if err := g.wholeStates(ctx, whole); err != nil {
		return err
	}
	if err := g.leftStates(ctx, left); err != nil {
		return err
	}
	if err := g.leftChanges(ctx, leftChanged); err != nil {
		return err
	}
	if err := g.changedStates(ctx, changed); err != nil {
		return err
	}
	g.findNewcomers()
	return nil
}

// whole tells that all of the state is looked at, not only what has changed.
func (r *room) whole() bool { return r.fresh || r.match != nil && r.match.widened }

// expanded tells that the timeline begins before what is new.
func (r *room) expanded() bool { return r.match != nil && r.match.expanded }

// findNewcomers finds who came into rooms whose news are from the database.
func (g *gathering) findNewcomers() {
	for _, r := range g.order {
		if !r.stored || r.left || r.joined {
			continue
		}
		for name, e := range r.base {
			if name.eventType == "m.room.member" && e.At > r.from && e.Membership() == "join" {
				g.newcomers[name.stateKey] = struct{}{}
			}
		}
	}
}

// wholeHistory tells that all there is of the room was looked at.
func (r *room) wholeHistory() bool {
	return r.from == 0 && len(r.events) > 0 && r.events[0].Type == "m.room.create"
}

// changesAmong is the latest event of each type and key.
func changesAmong(events []shown, resets []*roomserver.ClientEvent) map[stateName]*storage.Event {
	base := map[stateName]*storage.Event{}
	for i := range events {
		if e := events[i].Event; e.StateKey != nil {
			base[nameOf(e.Event)] = e
		}
	}
	for _, e := range resets {
		if known := base[nameOf(e.Event.Event)]; known == nil || known.At < e.At {
			base[nameOf(e.Event.Event)] = e.Event
		}
	}
	return base
}

func (r *room) setBase(e *storage.Event) {
	if r.base == nil {
		r.base = map[stateName]*storage.Event{}
	}
	r.base[nameOf(e.Event)] = e
}

func (g *gathering) setBases(events []storage.Event) {
	for i := range events {
		g.rooms[events[i].Room].setBase(&events[i])
	}
}

// wholeStates loads the current state of rooms, without the members if the client
// asks for those that it needs.
func (g *gathering) wholeStates(ctx context.Context, rooms []*room) error {
	if len(rooms) == 0 || g.filter.Room.State.AllowsNothing() {
		return nil
	}
	infos, err := g.infos(ctx, rooms)
	if err != nil {
		return err
	}
	load := g.api.db.CurrentStates
	switch {
	case g.sliding != nil:
		load = g.requiredStates
	case g.filter.Room.State.LazyLoadMembers:
		load = g.api.db.CurrentStatesWithoutMembers
	}
	events, err := load(ctx, infos)
	if err != nil {
		return err
	}
	g.setBases(events)
	return g.rewind(ctx, rooms, infos)
}

// first is where what is told of the first of the rooms begins.
func (g *gathering) first(rooms []*room) stream.Pos {
	from := g.upTo
	for _, r := range rooms {
		from = min(from, r.from)
	}
	return from
}

// changedStates loads what has changed of the current state of rooms.
func (g *gathering) changedStates(ctx context.Context, rooms []*room) error {
	if len(rooms) == 0 {
		return nil
	}
	infos, err := g.infos(ctx, rooms)
	if err != nil {
		return err
	}
	events, err := g.api.db.CurrentStatesSince(ctx, infos, g.first(rooms))
	if err != nil {
		return err
	}
	g.setBases(events)
	if err := g.rewind(ctx, rooms, infos); err != nil {
		return err
	}
	for _, r := range rooms {
		for name, e := range r.base {
			if e.At <= r.from {
				delete(r.base, name)
			}
		}
	}
	return nil
}

// leftStates loads the state of rooms at the time when the user left.
func (g *gathering) leftStates(ctx context.Context, rooms []*room) error {
	if len(rooms) == 0 || g.filter.Room.State.AllowsNothing() {
		return nil
	}
	infos, err := g.infos(ctx, rooms)
	if err != nil {
		return err
	}
	var ids []int64
	for _, r := range rooms {
		ids = append(ids, r.end.StateAfter)
	}
	states, err := g.api.rooms.StatesAt(ctx, ids)
	if err != nil {
		return err
	}
	var positions []int64
	for _, state := range states {
		positions = append(positions, state...)
	}
	events, err := g.api.db.StateEventsAt(ctx, infos, positions)
	g.setBases(events)
	return err
}

// leftChanges loads what changed of the state of rooms until the user left.
func (g *gathering) leftChanges(ctx context.Context, rooms []*room) error {
	var list []int64
	for _, r := range rooms {
		list = append(list, r.number)
	}
	events, err := g.api.db.StateChanges(ctx, list, g.first(rooms), g.upTo)
	if err != nil {
		return err
	}
	g.setBases(slices.DeleteFunc(events, func(e storage.Event) bool {
		r := g.rooms[e.Room]
		return e.At > r.end.At || e.At <= r.from
	}))
	return nil
}

// rewind takes back what happened in rooms after the end: the database is newer
// than the answer.
func (g *gathering) rewind(ctx context.Context, rooms []*room, infos map[int64]storage.RoomInfo) error {
	for {
		late := map[stream.Pos]*storage.Event{}
		for _, r := range rooms {
			end := r.endPos(g.upTo)
			for name, e := range r.base {
				switch {
				case e.At <= end:
				case e.Replaces == 0:
					delete(r.base, name)
				default:
					late[e.Replaces] = e
				}
			}
		}
		if len(late) == 0 {
			return nil
		}
		events, err := g.load(ctx, infos, late)
		if err != nil {
			return err
		}
		for pos, e := range late {
			r := g.rooms[e.Room]
			if earlier := events[pos]; earlier != nil {
				r.base[nameOf(e.Event)] = earlier
			} else {
				delete(r.base, nameOf(e.Event))
			}
		}
	}
}

// endPos is the position up to which the user is told of the room.
func (r *room) endPos(upTo stream.Pos) stream.Pos {
	if r.end != nil {
		return r.end.At
	}
	return upTo
}

// load loads the events at the positions that are the keys.
func (g *gathering) load(ctx context.Context, infos map[int64]storage.RoomInfo, wanted map[stream.Pos]*storage.Event) (map[stream.Pos]*storage.Event, error) {
	positions := make([]int64, 0, len(wanted))
	for pos := range wanted {
		positions = append(positions, int64(pos))
	}
	events, err := g.api.db.StateEventsAt(ctx, infos, positions)
	if err != nil {
		return nil, err
	}
	found := make(map[stream.Pos]*storage.Event, len(events))
	for i := range events {
		found[events[i].Pos] = &events[i]
	}
	return found, nil
}

// settleStates makes the rooms' states of the bases: it takes back the timelines,
// for clients that want the state before them, and applies the filter.
func (g *gathering) settleStates(ctx context.Context) error {
	replaced := map[stream.Pos]*storage.Event{}
	var rooms []*room
	for _, r := range g.order {
		if len(r.base) == 0 {
			continue
		}
		rooms = append(rooms, r)
		if !g.stateAfter() {
			r.dropOverruled()
			g.takeBack(r, replaced)
		}
	}
	redactions := map[stream.Pos]*storage.Event{}
	if err := g.loadReplaced(ctx, rooms, replaced, redactions); err != nil {
		return err
	}
	for _, r := range rooms {
		for _, e := range r.base {
			if g.filter.Room.State.AllowsEvent(e.Event) && g.needs(r, e) {
				r.state = append(r.state, roomserver.NewClientEvent(e))
			}
		}
		slices.SortFunc(r.state, func(a, b *roomserver.ClientEvent) int { return cmp.Compare(a.At, b.At) })
		for _, e := range r.state {
			if by := redactions[e.RedactedBy]; by != nil {
				e.Redaction = roomserver.NewClientEvent(by)
			}
		}
	}
	for _, r := range g.order {
		g.remember(r)
	}
	return nil
}

// dropOverruled cuts off the timeline up to the last event that lost against what is
// state now: a client would take it for state.
func (r *room) dropOverruled() {
	seen := map[stateName]bool{}
	for i := len(r.timeline) - 1; i >= 0; i-- {
		e := r.timeline[i].Event
		if e.StateKey == nil || seen[nameOf(e.Event)] {
			continue
		}
		seen[nameOf(e.Event)] = true
		if now := r.base[nameOf(e.Event)]; now != nil && now.ID != e.ID && now.At > e.At {
			r.timeline, r.limited = r.timeline[i+1:], true
			return
		}
	}
}

// takeBack takes the timeline out of the base. What has to be loaded in the place
// of something comes into replaced.
func (g *gathering) takeBack(r *room, replaced map[stream.Pos]*storage.Event) {
	taken := map[stateName]bool{}
	for i := range r.timeline {
		e := r.timeline[i].Event
		if e.StateKey == nil || taken[nameOf(e.Event)] {
			continue
		}
		name := nameOf(e.Event)
		taken[name] = true
		if r.base[name] == nil {
			continue // a member whom the client does not need
		}
		delete(r.base, name)
		if e.Replaces != 0 && (r.fresh || e.Replaces > g.since || g.needsMember(r, name)) {
			replaced[e.Replaces] = e
		}
	}
}

// loadReplaced loads what is to come into the bases, and the redactions of what is
// in them.
func (g *gathering) loadReplaced(ctx context.Context, rooms []*room, replaced, redactions map[stream.Pos]*storage.Event) error {
	wanted := map[stream.Pos]*storage.Event{}
	for pos, e := range replaced {
		wanted[pos] = e
	}
	for _, r := range rooms {
		for _, e := range r.base {
			if e.RedactedBy != 0 {
				wanted[e.RedactedBy] = e
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	infos, err := g.infos(ctx, rooms)
	if err != nil {
		return err
	}
	found, err := g.load(ctx, infos, wanted)
	if err != nil {
		return err
	}
	for pos, e := range found {
		if by := replaced[pos]; by != nil {
			g.rooms[e.Room].base[nameOf(e.Event)] = e
		} else {
			redactions[pos] = e
		}
	}
	return nil
}

// needs tells whether a state event is to be sent: of the members, a client that
// loads them as it needs them gets only these, and what has changed.
func (g *gathering) needs(r *room, e *storage.Event) bool {
	if r.match != nil {
		return g.requires(r, e)
	}
	return !g.lazy(r) || e.Type != "m.room.member" || !r.fresh && e.At > g.since || g.needsMember(r, nameOf(e.Event))
}

// needsMember tells whether the name is that of a member whom the client needs.
func (g *gathering) needsMember(r *room, name stateName) bool {
	_, needed := r.members[name.stateKey]
	return needed && name.eventType == "m.room.member"
}
