package syncapi

import (
	"cmp"
	"context"
	"slices"

	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// scanSizes are how many events of a room are looked at, one after the other,
// where the filter and the history's visibility leave too few. scanBudget bounds
// the sum over all rooms.
var scanSizes = [...]int{200, 2000}

const scanBudget = 20_000

// timelines gathers the rooms' timelines.
func (g *gathering) timelines(ctx context.Context) error {
	if g.filter.Room.Timeline.AllowsNothing() {
		return nil
	}
	var rooms, stored []*room
	for _, r := range g.order {
		if r.stored {
			stored = append(stored, r)
		} else {
			rooms = append(rooms, r)
		}
	}
	if err := g.choose(ctx, rooms); err != nil {
		return err
	}
	// Who is in very many rooms gets a little less of each.
	most := max(scanBudget/max(len(stored), 1), defaultTimeline)
	for _, r := range stored {
		r.limit, r.load = min(r.limit, most), min(r.load, most)
	}
	last := 0
	for _, size := range append([]int{0}, scanSizes[:]...) {
		if size > 0 {
			size = min(size, scanBudget/max(len(stored), 1))
			stored = slices.DeleteFunc(stored, func(r *room) bool { return size <= max(r.load+1, last) })
			last = size
		}
		if len(stored) == 0 {
			break
		}
		if err := g.loadTimelines(ctx, stored, size); err != nil {
			return err
		}
		if err := g.choose(ctx, stored); err != nil {
			return err
		}
		stored = slices.DeleteFunc(stored, func(r *room) bool { return r.complete || len(r.timeline) > r.limit })
	}
	gaps, err := g.api.db.GapsIn(ctx, g.numbers(func(r *room) bool { return r.stored }))
	if err != nil {
		return err
	}
	for _, r := range g.order {
		g.cut(r)
		r.cutAtGap(gaps[r.number])
	}
	return g.render(ctx)
}

// loadTimelines loads the last events of the rooms, at most size of each; with 0 as many as
// the room needs at first.
func (g *gathering) loadTimelines(ctx context.Context, rooms []*room, size int) error {
	infos, err := g.infos(ctx, rooms)
	if err != nil {
		return err
	}
	kinds := map[timelineKind]*timelineQuery{}
	for _, r := range rooms {
		kind := timelineKind{r.left, r.timelineFrom() != 0, size}
		if size == 0 {
			kind.size = r.load + 1
		}
		q := kinds[kind]
		if q == nil {
			q = &timelineQuery{map[int64]storage.RoomInfo{}, r.timelineFrom(), nil}
			kinds[kind] = q
		}
		q.rooms[r.number] = infos[r.number]
		q.from = min(q.from, r.timelineFrom())
		if r.left {
			q.ends = append(q.ends, int64(r.end.Pos))
		}
		r.events, r.complete = nil, false
	}
	for kind, q := range kinds {
		if err := g.loadKind(ctx, kind, q); err != nil {
			return err
		}
	}
	return nil
}

// timelineFrom is where the room's timeline begins, if it is not cut off before.
func (r *room) timelineFrom() stream.Pos {
	if r.match != nil && r.match.expanded {
		return 0
	}
	return r.from
}

// timelineKind tells apart timelines that need queries of their own.
type timelineKind struct {
	left, since bool
	size        int
}

// timelineQuery is what is asked for the timelines of one kind.
type timelineQuery struct {
	rooms map[int64]storage.RoomInfo
	from  stream.Pos // the first of all
	ends  []int64
}

func (g *gathering) loadKind(ctx context.Context, kind timelineKind, q *timelineQuery) error {
	var events []storage.Event
	var err error
	if kind.left {
		events, err = g.api.db.TimelinesUntil(ctx, q.rooms, q.ends, q.from, kind.size)
	} else {
		events, err = g.api.db.Timelines(ctx, q.rooms, q.from, g.upTo, kind.size)
	}
	if err != nil {
		return err
	}
	for i := range events {
		r := g.rooms[events[i].Room]
		r.events = append(r.events, shown{Event: &events[i]})
	}
	for number := range q.rooms {
		r := g.rooms[number]
		n := len(r.events)
		r.events = slices.DeleteFunc(r.events, func(e shown) bool { return e.At <= r.timelineFrom() })
		slices.SortFunc(r.events, func(a, b shown) int { return cmp.Compare(a.Order, b.Order) })
		r.complete = n < kind.size || len(r.events) < n
	}
	return nil
}

// choose finds what the user may see and wants of the events that were looked at.
func (g *gathering) choose(ctx context.Context, rooms []*room) error {
	var checked []*room
	for _, r := range rooms {
		if g.mayBeHidden(r) {
			checked = append(checked, r)
			continue
		}
		for i := range r.events {
			r.events[i].membership = "join"
		}
		if n := len(r.events); r.end != nil && n > 0 && r.events[n-1].Pos == r.end.Pos {
			r.events[n-1].membership = r.end.Membership()
		}
	}
	if err := g.check(ctx, checked); err != nil {
		return err
	}
	for _, r := range rooms {
		r.timeline = slices.Grow(r.timeline[:0], min(len(r.events), r.limit+1))
		for _, e := range r.events {
			if e.membership != hidden && g.wants(e.Event) {
				r.timeline = append(r.timeline, e)
			}
		}
	}
	return nil
}

// hidden stands for the membership of an event that the user must not see.
const hidden = "hidden"

// mayBeHidden tells whether the user was perhaps not in the room all the time.
func (g *gathering) mayBeHidden(r *room) bool {
	return r.checked && len(r.events) > 0 && (r.left || r.peeked || r.events[0].At <= g.places[r.number].at)
}

// check finds the user's membership at the events of rooms in which some may be hidden.
func (g *gathering) check(ctx context.Context, rooms []*room) error {
	n := 0
	for _, r := range rooms {
		n += len(r.events)
	}
	events, places := make([]storage.Event, 0, n), make([]*shown, 0, n)
	for _, r := range rooms {
		for i := range r.events {
			events = append(events, *r.events[i].Event)
			places = append(places, &r.events[i])
		}
	}
	if len(events) == 0 {
		return nil
	}
	memberships, err := g.api.rooms.Visible(ctx, g.userID, events)
	if err != nil {
		return err
	}
	if err := g.api.rooms.Erase(ctx, events, memberships); err != nil {
		return err
	}
	var unseen []int64
	for i, membership := range memberships {
		places[i].membership = membership
		if events[i].Event != places[i].Event.Event { // erased
			places[i].Event, places[i].rendered = &events[i], nil
		}
		if membership == "" {
			places[i].membership = hidden
			if events[i].StateKey != nil {
				unseen = append(unseen, int64(events[i].Pos))
			}
		}
	}
	return g.unhide(ctx, unseen, places)
}

// unhide lets the user see those of the hidden events that are the state of a
// room that the user is in: the user is told of them anyway.
func (g *gathering) unhide(ctx context.Context, unseen []int64, events []*shown) error {
	if len(unseen) == 0 {
		return nil
	}
	current, err := g.api.db.CurrentAmong(ctx, unseen)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.membership == hidden && current[e.Pos] && !g.rooms[e.Room].left && !g.rooms[e.Room].peeked {
			e.membership = ""
		}
	}
	return nil
}

// wants tells whether an event has a place in a timeline.
func (g *gathering) wants(e *storage.Event) bool {
	return g.filter.Room.Timeline.AllowsEvent(e.Event) && (e.StateKey != nil || !g.ignores(e.Sender))
}

// cut leaves the last events of the timeline, as many as the client wants.
func (g *gathering) cut(r *room) {
	if n := len(r.timeline); n > r.limit {
		r.timeline, r.limited = r.timeline[n-r.limit:], true
	} else {
		r.limited = !r.complete
	}
	if r.joined && (len(r.timeline) == 0 || r.timeline[0].Type != "m.room.create") {
		// A client that was in the room before must not take this for what followed.
		r.limited = true
	}
	if r.own != nil {
		r.limited = true // what was before the user may perhaps see after a join
		if g.wants(r.own.Event) {
			r.timeline = []shown{*r.own}
		}
	}
}

// cutAtGap lets the timeline begin at the last event before which others are missing: a
// client would take what is before it for what it follows.
func (r *room) cutAtGap(gaps map[int64]bool) {
	for i := len(r.timeline) - 1; i >= 0; i-- {
		e := &r.timeline[i]
		if gaps[e.Order] || e.rendered != nil && e.rendered.Gap {
			r.timeline, r.limited = r.timeline[i:], true
			return
		}
	}
}

// render readies what came from the database for clients.
func (g *gathering) render(ctx context.Context) error {
	n := 0
	for _, r := range g.order {
		n += len(r.timeline)
	}
	events, places := make([]storage.Event, 0, n), make([]*shown, 0, n)
	for _, r := range g.order {
		for i := range r.timeline {
			if e := &r.timeline[i]; e.rendered == nil {
				events = append(events, *e.Event)
				places = append(places, e)
			}
		}
	}
	if len(events) == 0 {
		return nil
	}
	rendered, err := g.api.rooms.Render(ctx, events)
	for i, e := range rendered {
		places[i].rendered = e
	}
	return err
}

// prevBatch is the place before the timeline, for GET /messages.
func (r *room) prevBatch(upTo roomserver.Token) roomserver.Token {
	switch {
	case len(r.timeline) > 0:
		return roomserver.TokenBefore(r.timeline[0].Event)
	case r.end != nil:
		return roomserver.TokenAt(r.end.At)
	}
	return upTo
}
