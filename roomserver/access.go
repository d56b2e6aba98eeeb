package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// Access is what a user may read of a room: all of it up to now while joined or where
// anybody may read it, and what was there up to the time of leaving after that.
type Access struct {
	Room       storage.Room
	UserID     string
	Membership string     // join, leave, ban; "" for one who peeks into a world-readable room
	Left       stream.Pos // of the event that ended the reading; 0 while it lasts
	State      int64      // the state that the user may read
}

// Access tells what the user may read. [matrix.Forbidden] for rooms that the user
// never was in, unless anybody may read them, and for unknown rooms alike.
func (r *Rooms) Access(ctx context.Context, roomID, userID string) (Access, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) {
		return Access{}, errNotInRoom
	} else if err != nil {
		return Access{}, err
	}
	a := Access{Room: room, UserID: userID, State: room.State}
	m, err := r.db.MembershipIn(ctx, room.Number, userID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return Access{}, err
	}
	if m.Membership == "join" {
		a.Membership = "join"
		return a, nil
	}
	if (m.Membership == "leave" || m.Membership == "ban") && !m.Forgotten {
		left, err := r.left(ctx, room.Number, userID)
		if err != nil {
			return Access{}, err
		}
		if left != nil && r.peek(ctx, room.Number) != nil {
			a.Left, a.State = left.At, left.StateAfter
		}
		if left != nil {
			a.Membership = m.Membership
			return a, nil
		}
	}
	return a, r.peek(ctx, room.Number)
}

// left is the event that ended the user's last time in the room, nil if the user
// never was in it.
func (r *Rooms) left(ctx context.Context, room int64, userID string) (*storage.Event, error) {
	history, err := r.db.MemberHistory(ctx, room, userID)
	if err != nil {
		return nil, err
	}
	for i := len(history) - 1; i > 0; i-- {
		if history[i-1].Membership() == "join" && history[i].Membership() != "join" {
			return &history[i], nil
		}
	}
	return nil, nil
}

// peek refuses unless anybody may read the room.
func (r *Rooms) peek(ctx context.Context, room int64) error {
	e, err := r.db.CurrentStateEvent(ctx, room, "m.room.history_visibility", "")
	if errors.Is(err, storage.ErrNotFound) || err == nil && e.ContentString("history_visibility") != "world_readable" {
		return errNotInRoom
	}
	return err
}

// Settled is the access as of when all members of the room are known: it waits for them.
func (r *Rooms) Settled(ctx context.Context, a Access) (Access, error) {
	if !a.Room.Partial() || a.Left != 0 {
		return a, nil
	}
	if err := r.AwaitMembers(ctx, a.Room.ID); err != nil {
		return a, err
	}
	return r.Access(ctx, a.Room.ID, a.UserID)
}

// State is the state that the access shows.
func (r *Rooms) State(ctx context.Context, a Access) ([]*ClientEvent, error) {
	a, err := r.Settled(ctx, a)
	if err != nil {
		return nil, err
	}
	if a.Left == 0 {
		entries, err := r.db.CurrentState(ctx, a.Room.Number)
		return r.renderEntries(ctx, entries, err)
	}
	return r.stateAt(ctx, a.State)
}

// renderEntries renders current state, without what it replaced.
func (r *Rooms) renderEntries(_ context.Context, entries []storage.StateEntry, err error) ([]*ClientEvent, error) {
	if err != nil {
		return nil, err
	}
	events := make([]*ClientEvent, len(entries))
	for i := range entries {
		events[i] = NewClientEvent(&entries[i].Event)
	}
	return events, nil
}

// stateAt is the whole of a stored state.
func (r *Rooms) stateAt(ctx context.Context, state int64) ([]*ClientEvent, error) {
	positions, err := r.states.full(ctx, &r.db.Reader, state)
	if err != nil {
		return nil, err
	}
	events, err := r.db.EventsByPos(ctx, positions)
	if err != nil {
		return nil, err
	}
	rendered := make([]*ClientEvent, len(events))
	for i := range events {
		rendered[i] = NewClientEvent(&events[i])
	}
	return rendered, nil
}

// StateEvent is one event of the state that the access shows.
// [matrix.NotFound]: the state has none of the type and key.
func (r *Rooms) StateEvent(ctx context.Context, a Access, eventType, stateKey string) (*ClientEvent, error) {
	var e storage.Event
	var err error
	if eventType == "m.room.member" && stateKey != a.UserID {
		if a, err = r.Settled(ctx, a); err != nil {
			return nil, err
		}
	}
	if a.Left == 0 {
		var entry storage.StateEntry
		entry, err = r.db.CurrentStateEvent(ctx, a.Room.Number, eventType, stateKey)
		e = entry.Event
	} else {
		e, err = r.stateEventAt(ctx, a.Room.Number, a.State, eventType, stateKey)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("The room's state has no such event")
	} else if err != nil {
		return nil, err
	}
	return NewClientEvent(&e), nil
}

func (r *Rooms) stateEventAt(ctx context.Context, room, state int64, eventType, stateKey string) (storage.Event, error) {
	key, err := r.db.StateKeyByName(ctx, room, eventType, stateKey)
	if err != nil {
		return storage.Event{}, err
	}
	found, err := r.states.lookup(ctx, &r.db.Reader, []int64{state}, []int64{key.Key})
	if err != nil {
		return storage.Event{}, err
	}
	pos, ok := found[state][key.Key]
	if !ok {
		return storage.Event{}, storage.ErrNotFound
	}
	events, err := r.db.EventsByPos(ctx, []int64{pos})
	if err != nil {
		return storage.Event{}, err
	}
	if len(events) == 0 {
		return storage.Event{}, storage.ErrNotFound
	}
	return events[0], nil
}

// MembersQuery chooses among the members of a room (GET /members).
type MembersQuery struct {
	At            Token  // the state at this place in the timeline; 0 for what the access shows
	Membership    string // only these, unless ""
	NotMembership string // all but these
}

// Members are the member events of the room. [matrix.Forbidden] for users who
// only peek.
func (r *Rooms) Members(ctx context.Context, a Access, q MembersQuery) ([]*ClientEvent, error) {
	if a.Membership == "" {
		return nil, errNotInRoom
	}
	a, err := r.Settled(ctx, a)
	if err != nil {
		return nil, err
	}
	state := a.State
	if q.At != 0 {
		at, err := r.stateUpTo(ctx, a.Room.Number, q.At)
		if err != nil {
			return nil, err
		}
		if a.Left == 0 || at < state {
			state = at
		}
	}
	var events []*ClientEvent
	if a.Left == 0 && state == a.Room.State {
		events, err = r.currentMembers(ctx, a.Room.Number)
	} else {
		events, err = r.stateAt(ctx, state)
	}
	members := []*ClientEvent{}
	for _, e := range events {
		m := e.Membership()
		if e.Type == "m.room.member" && (q.Membership == "" || m == q.Membership) && (q.NotMembership == "" || m != q.NotMembership) {
			members = append(members, e)
		}
	}
	return members, err
}

func (r *Rooms) currentMembers(ctx context.Context, room int64) ([]*ClientEvent, error) {
	entries, err := r.db.CurrentStateOfType(ctx, room, "m.room.member")
	return r.renderEntries(ctx, entries, err)
}

// stateUpTo is the room's state after the last event before the token.
func (r *Rooms) stateUpTo(ctx context.Context, room int64, at Token) (int64, error) {
	events, err := r.db.EventsBackward(ctx, room, int64(at)+1, beforeAll, 1)
	if err != nil {
		return 0, err
	}
	if len(events) == 0 {
		return 0, nil
	}
	return events[0].StateAfter, nil
}

// Event is one event, if the user may see it. [matrix.NotFound] otherwise.
func (r *Rooms) Event(ctx context.Context, roomID, userID, eventID string) (*ClientEvent, string, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, "", matrix.NotFound.With("There is no such event, or you may not see it")
	} else if err != nil {
		return nil, "", err
	}
	e, err := r.db.EventByID(ctx, eventID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (e.Room != room.Number || !e.InTimeline()) {
		return nil, "", matrix.NotFound.With("There is no such event, or you may not see it")
	} else if err != nil {
		return nil, "", err
	}
	memberships, err := r.Visible(ctx, userID, []storage.Event{e})
	if err != nil {
		return nil, "", err
	}
	if memberships[0] == "" {
		return nil, "", matrix.NotFound.With("There is no such event, or you may not see it")
	}
	shown := []storage.Event{e}
	if err := r.Erase(ctx, shown, memberships); err != nil {
		return nil, "", err
	}
	rendered, err := r.Render(ctx, shown)
	if err != nil {
		return nil, "", err
	}
	return rendered[0], memberships[0], nil
}
