package roomserver

import (
	"context"
	"slices"

	"beep/storage"
)

// VisibleIn is [Rooms.Visible] for events of several rooms, with few queries for
// all of them.
func (r *Rooms) VisibleIn(ctx context.Context, userID string, events []storage.Event) ([]string, error) {
	memberships := make([]string, len(events))
	spans, err := r.spansIn(ctx, userID, events)
	if err != nil {
		return nil, err
	}
	var hard []int
	for i := range events {
		if since := spans[events[i].Room].joinedSince; since != 0 && events[i].Order > since {
			memberships[i] = "join"
		} else {
			hard = append(hard, i)
		}
	}
	if len(hard) == 0 {
		return memberships, nil
	}
	named, err := r.visibilityKeys(ctx, userID, events, hard)
	if err != nil {
		return nil, err
	}
	keys := map[int64][]int64{}
	for _, i := range hard {
		k := named[events[i].Room]
		keys[events[i].StateBefore], keys[events[i].StateAfter] = k[:], k[:]
	}
	found, err := r.states.lookupEach(ctx, &r.db.Reader, keys)
	if err != nil {
		return nil, err
	}
	contents, err := r.stateByPos(ctx, found)
	if err != nil {
		return nil, err
	}
	for _, i := range hard {
		e := &events[i]
		k := named[e.Room]
		before, after := found[e.StateBefore], found[e.StateAfter]
		for _, state := range []map[int64]int64{before, after} {
			if maySee(contents.visibility(state[k[0]]), contents.membership(state[k[1]]), e.Order < spans[e.Room].lastJoined) {
				memberships[i] = contents.membership(after[k[1]])
			}
		}
	}
	return memberships, nil
}

// span is when a user was in a room, as orders: see spans.
type span struct{ joinedSince, lastJoined int64 }

func (r *Rooms) spansIn(ctx context.Context, userID string, events []storage.Event) (map[int64]span, error) {
	history, err := r.db.MemberHistories(ctx, roomsOf(events), userID)
	if err != nil {
		return nil, err
	}
	found := map[int64]span{}
	for len(history) > 0 {
		room := history[0].Room
		n := 1
		for n < len(history) && history[n].Room == room {
			n++
		}
		since, last := spans(history[:n])
		found[room] = span{since, last}
		history = history[n:]
	}
	return found, nil
}

func roomsOf(events []storage.Event) []int64 {
	var rooms []int64
	seen := map[int64]bool{}
	for i := range events {
		if !seen[events[i].Room] {
			seen[events[i].Room] = true
			rooms = append(rooms, events[i].Room)
		}
	}
	return rooms
}

// visibilityKeys are, by room, the numbers of its history visibility and of the
// user's membership in packed states; 0 for what the state never had.
func (r *Rooms) visibilityKeys(ctx context.Context, userID string, events []storage.Event, which []int) (map[int64][2]int64, error) {
	var rooms []int64
	named := map[int64][2]int64{}
	for _, i := range which {
		if _, known := named[events[i].Room]; !known {
			named[events[i].Room] = [2]int64{}
			rooms = append(rooms, events[i].Room)
		}
	}
	for n, name := range []stateName{{"m.room.history_visibility", ""}, {"m.room.member", userID}} {
		keys, err := r.db.StateKeysByName(ctx, rooms, name.eventType, []string{name.stateKey})
		if err != nil {
			return nil, err
		}
		for room, k := range keys {
			both := named[room]
			both[n] = k[0].Key
			named[room] = both
		}
	}
	return named, nil
}

// lookupEach is lookup with keys of its own for each state.
func (s *states) lookupEach(ctx context.Context, q *storage.Reader, keys map[int64][]int64) (map[int64]map[int64]int64, error) {
	results := make(map[int64]map[int64]int64, len(keys))
	next := make(map[int64]int64, len(keys))
	for id := range keys {
		if id != 0 {
			results[id], next[id] = map[int64]int64{}, id
		}
	}
	for len(next) > 0 {
		wanted := make([]int64, 0, len(next))
		for _, at := range next {
			wanted = append(wanted, at)
		}
		loaded, err := s.load(ctx, q, wanted)
		if err != nil {
			return nil, err
		}
		for id, at := range next {
			p := loaded[at]
			for _, key := range keys[id] {
				if _, known := results[id][key]; known {
					continue
				}
				if pos, found := p.find(key); found {
					results[id][key] = pos
				}
			}
			if p.parent == 0 || len(results[id]) == len(keys[id]) {
				delete(next, id)
			} else {
				next[id] = p.parent
			}
		}
	}
	for _, found := range results {
		for key, pos := range found {
			if pos == 0 {
				delete(found, key)
			}
		}
	}
	return results, nil
}

// StatesAt are the positions of the events of stored states, by the id of the
// state: [storage.Event.StateAfter] and its like.
func (r *Rooms) StatesAt(ctx context.Context, ids []int64) (map[int64][]int64, error) {
	changes := make(map[int64][]change, len(ids))
	next := make(map[int64]int64, len(ids))
	for _, id := range ids {
		if id != 0 {
			next[id] = id
		}
	}
	for len(next) > 0 {
		wanted := make([]int64, 0, len(next))
		for _, at := range next {
			wanted = append(wanted, at)
		}
		loaded, err := r.states.load(ctx, &r.db.Reader, wanted)
		if err != nil {
			return nil, err
		}
		for id, at := range next {
			p := loaded[at]
			changes[id] = merge(p.changes, changes[id])
			if p.parent == 0 {
				delete(next, id)
			} else {
				next[id] = p.parent
			}
		}
	}
	positions := make(map[int64][]int64, len(changes))
	for id, all := range changes {
		all = slices.DeleteFunc(all, func(c change) bool { return c.pos == 0 })
		for _, c := range all {
			positions[id] = append(positions[id], c.pos)
		}
	}
	return positions, nil
}
