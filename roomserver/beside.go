package roomserver

import (
	"context"
	"errors"
	"maps"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// besides tells whether the event is new, follows on some of several ends of the room, and
// changes neither state nor other events. The room's current state stays what it is then:
// the states that it is resolved from are the same as before. So are most events of a
// server that was cut off for some time.
func (in *intake) besides(b *batch, a *arrival) bool {
	return in.plain(a) && a.StateKey == nil && a.Redacts == "" && b.besideState(a) != 0
}

// besideState is the state after the ends of the room that the event follows; 0 if it
// follows something else, or if they differ.
func (b *batch) besideState(a *arrival) int64 {
	state := int64(0)
	for _, id := range a.PrevEvents() {
		after := b.ends[id]
		if after == 0 || state != 0 && state != after {
			return 0
		}
		state = after
	}
	return state
}

// beside stages an event at an end of the room beside others.
func (in *intake) beside(ctx context.Context, b *batch, a *arrival) error {
	state := b.besideState(a)
	if in.besideChecker == nil {
		in.besideChecker, in.besideAuth = in.rooms.newChecker(in.room.Number), map[besideKey][]*authrules.Event{}
	}
	err := in.besideChecker.checkAuthEvents(ctx, a)
	if err == nil {
		err = in.checkBeside(ctx, b, state, a)
	}
	if err == nil {
		err = b.checkCurrent(ctx, a)
	}
	if err == nil {
		err = in.checkPolicy(ctx, b, a.Event.Event)
	}
	if errors.Is(err, matrix.Forbidden) {
		return in.aside(ctx, b, a) // which rejects it, or lets it fail softly
	} else if err != nil {
		return err
	}
	return b.stage(ctx, staged{Event: a.Event, draft: in.draft, auth: a.cited, relay: in.relay, beside: state})
}

// besideKey names what authorises events beside others: where they are no state, it is
// the same for all of a sender at a state.
type besideKey struct {
	state  int64
	sender string
}

// checkBeside is checkStateBefore for events beside others, which come in numbers.
func (in *intake) checkBeside(ctx context.Context, b *batch, state int64, a *arrival) error {
	key := besideKey{state, a.Sender}
	auth, known := in.besideAuth[key]
	if !known {
		var err error
		if auth, err = in.rooms.authorisingAt(ctx, in.room.Number, stateAt{id: state}, a.Names()); err != nil {
			return err
		}
		in.besideAuth[key] = auth
	}
	return authrules.Allowed(a.Event, a.withMembers(&b.room, auth))
}

// checkCurrent is checkCurrentState for an event that waits for the batch's commit.
func (b *batch) checkCurrent(ctx context.Context, a *arrival) error {
	all, _, err := b.authorising(ctx, a.Version, a.Names())
	if err != nil {
		return err
	}
	return authrules.Allowed(a.Event, a.withMembers(&b.room, rulesOf(all)))
}

// end makes an event an end of the room, in place of those that it follows. The next one
// made here follows this one first, if it was made here too.
func (b *batch) end(s *staged) {
	previous := s.PrevEvents()
	followed := func(id string) bool { return slices.Contains(previous, id) }
	left := slices.DeleteFunc(slices.Clone(b.references), func(r matrix.Reference) bool { return followed(r.ID) })
	b.ends = maps.Clone(b.ends)
	maps.DeleteFunc(b.ends, func(id string, _ int64) bool { return followed(id) })
	if s.beside == 0 {
		b.references = append([]matrix.Reference{s.Reference()}, left...)
	} else {
		b.references = append(left, s.Reference())
		b.ends[s.ID] = s.beside
	}
	b.room.Extremities = make([]string, len(b.references))
	for i, r := range b.references {
		b.room.Extremities[i] = r.ID
	}
}

// found takes note that events beside others were missing to events that are known.
func (w *writing) found(ctx context.Context) error {
	var ids []string
	for i := range w.batch.staged {
		if s := &w.batch.staged[i]; s.beside != 0 {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return w.RemoveMissing(ctx, w.room.Number, ids)
}

// endsOf are the states after the ends of a room that has several.
func endsOf(events []storage.Event) map[string]int64 {
	if len(events) < 2 {
		return nil
	}
	ends := make(map[string]int64, len(events))
	for i := range events {
		ends[events[i].ID] = events[i].StateAfter
	}
	return ends
}
