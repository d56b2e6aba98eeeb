package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/storage"
)

// errNoEventHere answers alike for events that are not known, of another room, or not
// for other servers.
var errNoEventHere = matrix.NotFound.With("There is no such event in the room")

// Event is one event, redacted if the server may not see it. Events that were rejected
// here are not given, and of those that have no place in the room's timeline none but
// parts of its states and auth chains. [matrix.NotFound], [matrix.Forbidden].
func (s *Serving) Event(ctx context.Context, server, eventID string) (*matrix.Event, error) {
	e, err := s.rooms.db.EventByID(ctx, eventID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("There is no such event")
	} else if err != nil {
		return nil, err
	}
	room, err := s.pastRoom(ctx, server, e.RoomID)
	if err != nil {
		return nil, err
	}
	if err := room.reaches(&e); err != nil {
		return nil, err
	}
	if !served(&e) {
		return nil, matrix.NotFound.With("There is no such event")
	}
	shown := []storage.Event{e}
	err = s.show(ctx, room, server, shown)
	return shown[0].Event, err
}

// served tells whether other servers get the event when they ask for it by its id.
func served(e *storage.Event) bool {
	return inGraph(e) || e.Status == storage.Outlier && e.StateKey != nil
}

// inGraph tells whether other servers get the event as part of the room's history. Those
// that have failed softly are part of it where others follow them (server-server API,
// "Soft failure"), and of the states after these.
func inGraph(e *storage.Event) bool {
	return e.Status == storage.Accepted || e.Status == storage.SoftFailed
}

// eventIn finds an event of the room's history. [matrix.NotFound].
func (s *Serving) eventIn(ctx context.Context, room *ServedRoom, eventID string) (*storage.Event, error) {
	e, err := s.rooms.db.EventByID(ctx, eventID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (e.Room != room.Number || !inGraph(&e)) {
		return nil, errNoEventHere
	}
	return &e, err
}

// StateBefore is the state of a room before an event, and the auth chain of the state's
// events, as positions for [Serving.Load] and [Serving.IDs]. They are not to be changed.
type StateBefore struct{ State, AuthChain []int64 }

// StateBefore is the room's state before an event of its history. [matrix.NotFound],
// also where the state is not known; [matrix.Forbidden].
func (s *Serving) StateBefore(ctx context.Context, server, roomID, eventID string) (*StateBefore, error) {
	room, err := s.pastRoom(ctx, server, roomID)
	if err != nil {
		return nil, err
	}
	e, err := s.eventIn(ctx, room, eventID)
	if err != nil {
		return nil, err
	}
	if err := room.reaches(e); err != nil {
		return nil, err
	}
	if room.Partial() || e.StateBefore == 0 && !e.IsState("m.room.create", "") {
		return nil, matrix.NotFound.With("The state before this event is not known here")
	}
	state, err := s.rooms.states.full(ctx, &s.rooms.db.Reader, e.StateBefore)
	if err != nil {
		return nil, err
	}
	chain, ok := s.chains.Get(e.StateBefore)
	if !ok {
		if chain, err = s.authChain(ctx, room, state); err != nil {
			return nil, err
		}
		s.chains.Add(e.StateBefore, chain)
	}
	return &StateBefore{state, chain}, nil
}

// authChain are all events that authorise the state events at the positions, and those
// that authorise these. It reads the graph of the room's auth events once.
func (s *Serving) authChain(ctx context.Context, room *ServedRoom, of []int64) ([]int64, error) {
	graph, err := s.rooms.db.AuthGraph(ctx, room.Number)
	if err != nil {
		return nil, err
	}
	return authChain(graph, of, nil), nil
}

// AuthChain are all events that authorise an event, and those that authorise these, as
// positions for [Serving.Load]. [matrix.NotFound], [matrix.Forbidden].
func (s *Serving) AuthChain(ctx context.Context, server, roomID, eventID string) ([]int64, error) {
	room, err := s.pastRoom(ctx, server, roomID)
	if err != nil {
		return nil, err
	}
	e, err := s.rooms.db.EventByID(ctx, eventID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (e.Room != room.Number || !served(&e)) {
		return nil, errNoEventHere
	} else if err != nil {
		return nil, err
	}
	if err := room.reaches(&e); err != nil {
		return nil, err
	}
	ids := e.AuthEvents()
	if room.Version.CreateWithoutRoom() && !e.IsState("m.room.create", "") {
		ids = append(ids, "$"+room.ID[1:]) // it authorises, though nobody cites it
	}
	places, err := s.rooms.db.StatePlaces(ctx, room.Number, ids)
	if err != nil {
		return nil, err
	}
	cited := make([]int64, 0, len(places))
	for _, p := range places {
		cited = append(cited, p.Pos)
	}
	further, err := s.authChain(ctx, room, cited)
	return unrepeatedPositions(append(cited, further...)), err
}

func unrepeatedPositions(positions []int64) []int64 {
	seen := make(map[int64]bool, len(positions))
	kept := positions[:0]
	for _, pos := range positions {
		if !seen[pos] {
			seen[pos] = true
			kept = append(kept, pos)
		}
	}
	return kept
}

// Load reads the events at positions that another method gave. Whoever passes on many
// calls it for some at a time.
func (s *Serving) Load(ctx context.Context, positions []int64) ([]*matrix.Event, error) {
	stored, err := s.rooms.db.EventsByPos(ctx, positions)
	events := make([]*matrix.Event, len(stored))
	for i := range stored {
		events[i] = stored[i].Event
	}
	return events, err
}

// IDs are the ids of the events at positions that another method gave.
func (s *Serving) IDs(ctx context.Context, positions []int64) ([]string, error) {
	return s.rooms.db.EventIDs(ctx, positions)
}

// EventAt finds the event of the room's timeline whose time is nearest to ts (ms), there
// or later if forward, or else there or earlier. [matrix.NotFound], [matrix.Forbidden].
func (s *Serving) EventAt(ctx context.Context, server, roomID string, ts int64, forward bool) (*matrix.Event, error) {
	const looked = 50 // events, of which the server may see perhaps none
	room, err := s.room(ctx, server, roomID)
	if err != nil {
		return nil, err
	}
	find := s.rooms.db.EventsBeforeTime
	if forward {
		find = s.rooms.db.EventsAfterTime
	}
	events, err := find(ctx, room.Number, ts, looked)
	if err != nil {
		return nil, err
	}
	memberships, err := s.visible(ctx, room, server, events)
	if err != nil {
		return nil, err
	}
	for i, membership := range memberships {
		if membership != "" {
			return events[i].Event, nil
		}
	}
	return nil, matrix.NotFound.With("There is no event in this direction")
}
