package roomserver

import (
	"context"

	"beep/roomserver/authrules"
	"beep/storage"
)

// stateAt is a state of a room: a stored one, or one that was made for an event and is
// not stored yet.
type stateAt struct {
	id    int64    // of the stored state; 0 for one that is not
	whole []change // all of it, ordered by key; nil while it is only stored
}

// checkStateBefore is the fifth check on receipt: the room's state before the event
// allows it ("Checks performed on receipt of a PDU", 5). [matrix.Forbidden]: it does
// not, and the event is rejected. In a partial state those members count whom the
// event cites.
func (r *Rooms) checkStateBefore(ctx context.Context, room *storage.Room, a *arrival, before stateAt) error {
	auth, err := r.authorisingAt(ctx, room.Number, before, a.Names())
	if err != nil {
		return err
	}
	return authrules.Allowed(a.Event, a.withMembers(room, auth))
}

// authorisingAt are the events that a state has under these names.
func (r *Rooms) authorisingAt(ctx context.Context, room int64, state stateAt, names []stateName) ([]*authrules.Event, error) {
	keys, err := r.keysOf(ctx, room, names)
	if err != nil {
		return nil, err
	}
	positions, err := r.positionsAt(ctx, state, keys)
	if err != nil {
		return nil, err
	}
	events, err := r.db.EventsByPos(ctx, positions)
	auth := make([]*authrules.Event, len(events))
	for i := range events {
		auth[i] = authrules.New(events[i].Event)
	}
	return auth, err
}

func (r *Rooms) positionsAt(ctx context.Context, state stateAt, keys map[stateName]int64) ([]int64, error) {
	var positions []int64
	if state.id == 0 {
		whole := packed{changes: state.whole}
		for _, key := range keys {
			if pos, found := whole.find(key); found {
				positions = append(positions, pos)
			}
		}
		return positions, nil
	}
	wanted := make([]int64, 0, len(keys))
	for _, key := range keys {
		wanted = append(wanted, key)
	}
	found, err := r.states.lookup(ctx, &r.db.Reader, []int64{state.id}, wanted)
	for _, pos := range found[state.id] {
		positions = append(positions, pos)
	}
	return positions, err
}

// wholeOf is all of a state.
func (r *Rooms) wholeOf(ctx context.Context, s stateAt) ([]change, error) {
	if s.id == 0 {
		return s.whole, nil
	}
	return r.states.whole(ctx, &r.db.Reader, s.id)
}

// stateBefore is the room's state before an event that follows these: their states
// resolved. claimed are what another server says of those whose state is not
// known; nil otherwise.
func (r *Rooms) stateBefore(ctx context.Context, room *storage.Room, previous map[string]storage.KnownEvent, claimed []stateAt) (stateAt, error) {
	var states []stateAt
	seen := map[int64]bool{}
	for _, p := range previous {
		if p.StateAfter != 0 && !seen[p.StateAfter] {
			seen[p.StateAfter] = true
			states = append(states, stateAt{id: p.StateAfter})
		}
	}
	states = append(states, claimed...)
	if len(states) == 1 {
		return states[0], nil
	}
	sets, err := r.sets(ctx, states)
	if err != nil {
		return stateAt{}, err
	}
	resolver, err := r.resolver(ctx, room)
	if err != nil {
		return stateAt{}, err
	}
	whole, err := resolver.resolve(ctx, sets)
	return stateAt{whole: whole}, err
}

func (r *Rooms) sets(ctx context.Context, states []stateAt) ([][]change, error) {
	sets := make([][]change, len(states))
	for i, s := range states {
		whole, err := r.wholeOf(ctx, s)
		if err != nil {
			return nil, err
		}
		sets[i] = whole
	}
	return sets, nil
}
