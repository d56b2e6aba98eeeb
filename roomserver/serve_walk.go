package roomserver

import (
	"cmp"
	"context"
	"slices"

	"beep/matrix"
	"beep/storage"
)

const (
	// MaxBackfill and MaxMissing bound the events that one answer gives.
	MaxBackfill = 100
	MaxMissing  = 50
	// maxWalkStarts bounds the events that a walk begins or ends with.
	maxWalkStarts = 500
	// maxWalked bounds the events that a walk goes through, also such as it does not
	// give; maxWalkRounds its queries for events by id, and maxWalkPages those for a
	// part of the timeline.
	maxWalked     = 2000
	maxWalkRounds = 400
	maxWalkPages  = 20
)

// walk goes back through the events of one room along their prev_events. What was
// rejected here, and what has no place in the history, is passed through and not given.
// It ends at what is not known and never leaves the room.
type walk struct {
	serving       *Serving
	room          *ServedRoom
	known         map[string]*storage.Event // events of the room
	asked         map[string]bool           // what has been looked up, known or not
	page          int                       // how much of the timeline is read ahead
	rounds, pages int
	walked        int
}

func (s *Serving) walk(room *ServedRoom, page int) *walk {
	return &walk{serving: s, room: room, known: map[string]*storage.Event{}, asked: map[string]bool{}, page: page}
}

// load makes those of the events known that are of the room, with one query, and reads
// the part of the timeline before the latest of them with another: there most of the
// next steps lead.
func (w *walk) load(ctx context.Context, ids []string) error {
	missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return w.asked[id] })
	if len(missing) == 0 || w.rounds == maxWalkRounds {
		return nil
	}
	w.rounds++
	db := w.serving.rooms.db
	found, err := db.EventsByID(ctx, missing)
	if err != nil {
		return err
	}
	for _, id := range missing {
		w.asked[id] = true
	}
	latest := w.add(found)
	if latest <= beforeAll || w.pages == maxWalkPages {
		return nil
	}
	w.pages++
	page, err := db.EventsBackward(ctx, w.room.Number, latest, beforeAll, w.page)
	w.add(page)
	return err
}

// add keeps those of the events that are of the room. It gives the greatest order of them.
func (w *walk) add(events []storage.Event) (latest int64) {
	for i := range events {
		if e := &events[i]; e.Room == w.room.Number {
			w.known[e.ID], w.asked[e.ID] = e, true
			latest = max(latest, e.Order)
		}
	}
	return latest
}

// step takes the event for walked. It is nil if it is not known, or the walk was long.
func (w *walk) step(id string) *storage.Event {
	e := w.known[id]
	if e == nil || w.walked == maxWalked {
		return nil
	}
	w.walked++
	return e
}

// arrived is the place of an event among all events of the room, also of one that is
// not in the timeline.
func arrived(e *storage.Event) int64 {
	if e.Order > 0 {
		return e.Order
	}
	return int64(e.Pos) * storage.OrderScale
}

// Backfill gives events of a room and those before them, at most limit, the latest
// first, as the server may see them. [matrix.Forbidden], [matrix.InvalidParam].
func (s *Serving) Backfill(ctx context.Context, server, roomID string, from []string, limit int) ([]*matrix.Event, error) {
	room, err := s.room(ctx, server, roomID)
	if err != nil {
		return nil, err
	}
	if len(from) > maxWalkStarts || limit < 1 {
		return nil, matrix.InvalidParam.Withf("Give up to %d events, and a limit", maxWalkStarts)
	}
	limit = min(limit, MaxBackfill)
	w := s.walk(room, limit)
	var taken []storage.Event
	seen := map[string]bool{}
	var open []*storage.Event
	for next := from; len(taken) < limit; {
		if open, err = w.widen(ctx, open, next, seen); err != nil {
			return nil, err
		}
		if len(open) == 0 {
			break
		}
		e := slices.MaxFunc(open, func(a, b *storage.Event) int { return cmp.Compare(arrived(a), arrived(b)) })
		open = slices.DeleteFunc(open, func(o *storage.Event) bool { return o == e })
		if inGraph(e) {
			taken = append(taken, *e)
		}
		next = e.PrevEvents()
	}
	return s.shown(ctx, room, server, taken)
}

// widen adds those of the events with these ids that were not seen yet.
func (w *walk) widen(ctx context.Context, open []*storage.Event, ids []string, seen map[string]bool) ([]*storage.Event, error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return seen[id] || !matrix.ValidEventID(id) })
	if err := w.load(ctx, ids); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		if e := w.step(id); e != nil {
			open = append(open, e)
		}
	}
	return open, nil
}

// MissingQuery says which events of a room are missing.
type MissingQuery struct {
	Earliest []string // known: nothing of them and before them is wanted
	Latest   []string // whose earlier events are wanted
	Limit    int      // MaxMissing at most
	MinDepth int64    // of the events that are wanted
}

// MissingEvents gives the events before the latest, those nearest to them if there are
// too many; the earliest first, as the server may see them. [matrix.Forbidden],
// [matrix.InvalidParam].
func (s *Serving) MissingEvents(ctx context.Context, server, roomID string, q MissingQuery) ([]*matrix.Event, error) {
	room, err := s.pastRoom(ctx, server, roomID)
	if err != nil {
		return nil, err
	}
	if len(q.Latest) > maxWalkStarts || len(q.Earliest) > maxWalkStarts || q.Limit < 0 {
		return nil, matrix.InvalidParam.Withf("Give up to %d events each", maxWalkStarts)
	}
	limit := min(q.Limit, MaxMissing)
	w := s.walk(room, limit)
	seen := map[string]bool{}
	for _, id := range q.Earliest {
		seen[id] = true
	}
	level, err := w.widen(ctx, nil, q.Latest, seen)
	if err != nil {
		return nil, err
	}
	for _, e := range level {
		if err := room.reaches(e); err != nil {
			return nil, err
		}
	}
	var taken []storage.Event
	for len(level) > 0 && len(taken) < limit {
		var ids []string
		for _, e := range level {
			ids = append(ids, e.PrevEvents()...)
		}
		if level, err = w.widen(ctx, nil, ids, seen); err != nil {
			return nil, err
		}
		level = slices.DeleteFunc(level, func(e *storage.Event) bool { return e.Depth < q.MinDepth })
		for _, e := range level {
			if inGraph(e) && len(taken) < limit {
				taken = append(taken, *e)
			}
		}
	}
	slices.Reverse(taken)
	return s.shown(ctx, room, server, taken)
}

// shown are the events as the server may see them.
func (s *Serving) shown(ctx context.Context, room *ServedRoom, server string, stored []storage.Event) ([]*matrix.Event, error) {
	err := s.show(ctx, room, server, stored)
	events := make([]*matrix.Event, len(stored))
	for i := range stored {
		events[i] = stored[i].Event
	}
	return events, err
}
