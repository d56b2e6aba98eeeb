package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
	"beep/stream"
)

// outliersAtOnce is how many outliers one transaction stores at most.
const outliersAtOnce = 1000

// keepOutliers is storeOutliers for a room that this server takes part in.
func (r *Rooms) keepOutliers(ctx context.Context, room *storage.Room, events []*matrix.Event) error {
	return r.hot.with(ctx, room.ID, func(*hotRoom) error { return r.storeOutliers(ctx, room.Number, events) })
}

// storeOutliers keeps state events of a room that are part of an auth chain or of a
// state, after they have been judged by what they cite. Events that cite what is
// neither known nor among them are left out; those that are refused are kept as
// rejected, so that whoever cites them is refused too. Nobody else may write to the room
// meanwhile.
func (r *Rooms) storeOutliers(ctx context.Context, room int64, events []*matrix.Event) error {
	events = byCitation(events)
	c := r.newChecker(room)
	var ids []string
	for _, e := range events {
		ids = append(append(ids, e.ID), authorisedBy(e)...)
	}
	if err := c.load(ctx, ids); err != nil {
		return err
	}
	var judged []*storage.Event
	var early []*matrix.Event
	for _, e := range events {
		if c.status[e.ID] == storage.OutOfBand {
			early = append(early, e)
		}
		if c.known[e.ID] != nil || e.StateKey == nil {
			continue
		}
		a := &arrival{Event: authrules.New(e)}
		status := storage.Outlier
		switch err := c.checkAuthEvents(ctx, a); {
		case errors.Is(err, errUnknownAuth):
			continue
		case errors.Is(err, matrix.Forbidden):
			status = storage.Rejected
		case err != nil:
			return err
		}
		c.known[e.ID], c.status[e.ID] = &stateEvent{Event: a.Event}, status
		judged = append(judged, &storage.Event{Event: e, Room: room, Status: status})
	}
	if err := r.pruneEarly(ctx, room, judged); err != nil {
		return err
	}
	for len(judged) > 0 {
		n := min(len(judged), outliersAtOnce)
		if err := r.insertOutliers(ctx, room, judged[:n], c); err != nil {
			return err
		}
		judged = judged[n:]
	}
	return r.complete(ctx, early, c)
}

// complete notes what those events cite that came out of band, when nothing of it was known.
func (r *Rooms) complete(ctx context.Context, events []*matrix.Event, c *checker) error {
	if len(events) == 0 {
		return nil
	}
	return r.db.Write(ctx, func(tx *storage.Tx) error {
		for _, e := range events {
			if err := tx.SetAuth(ctx, stream.Pos(c.known[e.ID].pos), c.positions(e.AuthEvents())); err != nil {
				return err
			}
		}
		return nil
	})
}

// pruneEarly prunes those of the events whose redaction came before them.
func (r *Rooms) pruneEarly(ctx context.Context, room int64, events []*storage.Event) error {
	bare := make([]*matrix.Event, len(events))
	for i, e := range events {
		bare[i] = e.Event
	}
	redactions, err := r.earlyRedactions(ctx, room, bare)
	for _, e := range events {
		if redaction := redactions[e.ID]; redaction != nil && err == nil {
			e.RedactedBy = redaction.Pos
			e.Event, err = e.Redacted()
		}
	}
	return err
}

func (r *Rooms) insertOutliers(ctx context.Context, room int64, events []*storage.Event, c *checker) error {
	return r.db.Write(ctx, func(tx *storage.Tx) error {
		keys := make([]storage.StateKey, 0, len(events))
		for _, e := range events {
			e.Pos = tx.Reserve()
			e.Order = -int64(e.Pos)
			c.known[e.ID].pos = int64(e.Pos)
			keys = append(keys, storage.StateKey{Key: int64(e.Pos), Type: e.Type, StateKey: *e.StateKey})
		}
		for _, e := range events {
			e.Auth = c.positions(e.AuthEvents())
		}
		if err := tx.AddStateKeys(ctx, room, unrepeated(keys)); err != nil {
			return err
		}
		return tx.InsertEvents(ctx, events)
	})
}

// positions are those of known events.
func (c *checker) positions(ids []string) []int64 {
	positions := make([]int64, 0, len(ids))
	for _, id := range ids {
		if e := c.known[id]; e != nil && e.pos != 0 {
			positions = append(positions, e.pos)
		}
	}
	return positions
}

func unrepeated(keys []storage.StateKey) []storage.StateKey {
	seen := make(map[stateName]bool, len(keys))
	kept := keys[:0]
	for _, k := range keys {
		if name := (stateName{Type: k.Type, StateKey: k.StateKey}); !seen[name] {
			seen[name] = true
			kept = append(kept, k)
		}
	}
	return kept
}

// byCitation orders events so that each comes after those that it cites; an event of
// a circle of citations, which nobody can make honestly, is left out.
func byCitation(events []*matrix.Event) []*matrix.Event {
	return ordered(events, authorisedBy)
}

// authorisedBy are the ids of the events that authorise an event: those that it cites and,
// in room version 12, the create event, which the room's id says.
func authorisedBy(e *matrix.Event) []string {
	ids := e.AuthEvents()
	if e.Version.CreateWithoutRoom() && e.Type != "m.room.create" {
		ids = append(ids, "$"+e.RoomID[1:])
	}
	return ids
}

// byAncestry orders events so that each comes after those that it follows.
func byAncestry(events []*matrix.Event) []*matrix.Event {
	return ordered(events, (*matrix.Event).PrevEvents)
}

// ordered sorts events so that each comes after those of them that it points to, in
// the given order where that leaves a choice. Events that point to each other in a
// circle are left out, and so are repetitions.
func ordered(events []*matrix.Event, pointsTo func(*matrix.Event) []string) []*matrix.Event {
	byID := make(map[string]*matrix.Event, len(events))
	waits := make(map[string]int, len(events))
	followers := make(map[string][]*matrix.Event, len(events))
	unique := make([]*matrix.Event, 0, len(events))
	for _, e := range events {
		if byID[e.ID] == nil {
			byID[e.ID] = e
			unique = append(unique, e)
		}
	}
	var ready []*matrix.Event
	for _, e := range unique {
		for _, id := range pointsTo(e) {
			if byID[id] != nil {
				waits[e.ID]++
				followers[id] = append(followers[id], e)
			}
		}
		if waits[e.ID] == 0 {
			ready = append(ready, e)
		}
	}
	sorted := make([]*matrix.Event, 0, len(unique))
	for len(ready) > 0 {
		e := ready[0]
		ready = ready[1:]
		sorted = append(sorted, e)
		for _, f := range followers[e.ID] {
			if waits[f.ID]--; waits[f.ID] == 0 {
				ready = append(ready, f)
			}
		}
	}
	return sorted
}
