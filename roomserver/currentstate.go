package roomserver

import (
	"context"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// changeState writes what an event changed of the room's current state, which is
// more than the event itself where forks were resolved. It gives the event that it
// replaced, and those that became state, or stayed it, though the timeline shows
// something else.
func (w *forkWriting) changeState(ctx context.Context, at stream.Pos) (replaced *matrix.Event, resets []*ClientEvent, err error) {
	old, err := w.oldPositions(ctx)
	if err != nil {
		return nil, nil, err
	}
	events, err := w.involved(ctx, old)
	if err != nil {
		return nil, nil, err
	}
	changed := false // under the event's own key
	for _, c := range w.current {
		before, now := events[old[c.key]], events[c.pos]
		if err := w.setState(ctx, c, now, at); err != nil {
			return nil, nil, err
		}
		w.countMember(before, now)
		changed = changed || c.key == w.key
		switch {
		case c.pos == int64(w.stored.Pos):
			if before != nil {
				replaced = before.Event
			}
		case now != nil:
			resets = append(resets, reset(now, before))
		}
	}
	if w.stored.StateKey != nil && !changed && w.key != 0 && old[w.key] != 0 {
		// The event lost against what is there, and clients are to be told which holds.
		winner := events[old[w.key]]
		if err := w.setState(ctx, change{w.key, old[w.key]}, winner, at); err != nil {
			return nil, nil, err
		}
		resets = append(resets, reset(winner, w.stored))
	}
	return replaced, resets, nil
}

// oldPositions are those of the current state under the keys that change, and under
// the event's own.
func (w *forkWriting) oldPositions(ctx context.Context) (map[int64]int64, error) {
	keys := make([]int64, 0, len(w.current)+1)
	for _, c := range w.current {
		keys = append(keys, c.key)
	}
	if w.key != 0 {
		keys = append(keys, w.key)
	}
	found, err := w.rooms.states.lookup(ctx, &w.Reader, []int64{w.room.State}, keys)
	old := found[w.room.State]
	if old == nil {
		old = map[int64]int64{}
	}
	return old, err
}

// involved loads the events that go and come, by position.
func (w *forkWriting) involved(ctx context.Context, old map[int64]int64) (map[int64]*storage.Event, error) {
	var positions []int64
	for _, pos := range old {
		positions = append(positions, pos)
	}
	for _, c := range w.current {
		if c.pos != 0 && c.pos != int64(w.stored.Pos) {
			positions = append(positions, c.pos)
		}
	}
	found, err := w.EventsByPos(ctx, positions)
	events := map[int64]*storage.Event{int64(w.stored.Pos): w.stored}
	for i := range found {
		events[int64(found[i].Pos)] = &found[i]
	}
	return events, err
}

// setState writes one row of the current state.
func (w *forkWriting) setState(ctx context.Context, c change, e *storage.Event, at stream.Pos) error {
	if e == nil {
		return w.ClearCurrentState(ctx, w.room.Number, c.key, at)
	}
	k := storage.StateKey{Key: c.key, Type: e.Type, StateKey: *e.StateKey, Pos: e.Pos, Changed: at}
	if e.Type == "m.room.member" {
		k.Membership = e.Membership()
	}
	return w.SetCurrentState(ctx, w.room.Number, k)
}

// countMember keeps the room's numbers of members.
func (w *forkWriting) countMember(before, now *storage.Event) {
	was, is, userID := "", "", ""
	if before != nil && before.Type == "m.room.member" {
		was, userID = before.Membership(), *before.StateKey
	}
	if now != nil && now.Type == "m.room.member" {
		is, userID = now.Membership(), *now.StateKey
	}
	if userID != "" && was != is {
		w.servers = countMembership(&w.room, w.servers, userID, was, is, w.rooms.signer.ServerName)
	}
}

// reset is an event as state that no event of the timeline brought.
func reset(now, before *storage.Event) *ClientEvent {
	e := *now
	c := NewClientEvent(&e)
	if before != nil {
		c.Replaced = before.Event
	}
	return c
}

// countMembership counts a change of a user's membership, and gives the servers that
// are in the room then. self is this server's name.
func countMembership(room *storage.Room, servers map[string]int64, userID, was, is, self string) map[string]int64 {
	step := func(membership string) int64 {
		switch membership {
		case is:
			return 1
		case was:
			return -1
		}
		return 0
	}
	room.Joined += step("join")
	room.Invited += step("invite")
	if n := step("join"); n != 0 {
		servers = withMembers(servers, matrix.ServerOf(userID), n)
		room.Resident = servers[self] > 0
	}
	return servers
}
