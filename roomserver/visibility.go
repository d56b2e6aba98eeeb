package roomserver

import (
	"context"

	"beep/storage"
)

// Visible tells for each event, of any rooms, whether the user may see it: the user's
// membership at the event ("leave" if there was none), or "" for an event that must not
// be shown (client-server API, "Room history visibility").
func (r *Rooms) Visible(ctx context.Context, userID string, events []storage.Event) ([]string, error) {
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
	for n, name := range []stateName{{Type: "m.room.history_visibility"}, memberName(userID)} {
		keys, err := r.db.StateKeysByName(ctx, rooms, name.Type, []string{name.StateKey})
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

// spans reads a user's member events in a room, in order: since when the user is
// joined without a break (0 if not joined), and the order up to which the user
// was joined at some time or other.
func spans(history []storage.Event) (joinedSince, lastJoined int64) {
	for i := range history {
		joined := history[i].Membership() == "join"
		switch {
		case joined && joinedSince == 0:
			joinedSince = history[i].Order
		case !joined && joinedSince != 0:
			joinedSince, lastJoined = 0, history[i].Order
		}
	}
	if joinedSince != 0 {
		lastJoined = afterAll
	}
	return joinedSince, lastJoined
}

// maySee are the rules of "Room history visibility".
func maySee(visibility, membership string, joinedLater bool) bool {
	switch {
	case visibility == "world_readable" || membership == "join":
		return true
	case visibility == "joined":
		return false
	case visibility == "invited":
		return membership == "invite"
	}
	return joinedLater // shared, and what is not known
}

type stateContents map[int64]*storage.Event

func (c stateContents) membership(pos int64) string {
	if e := c[pos]; e != nil {
		return e.Membership()
	}
	return "leave"
}

func (c stateContents) visibility(pos int64) string {
	if e := c[pos]; e != nil {
		if v := e.ContentString("history_visibility"); v != "" {
			return v
		}
	}
	return "shared"
}

// stateByPos loads every event that a lookup found.
func (r *Rooms) stateByPos(ctx context.Context, found map[int64]map[int64]int64) (stateContents, error) {
	contents := stateContents{}
	var positions []int64
	for _, keys := range found {
		for _, pos := range keys {
			if _, ok := contents[pos]; !ok {
				contents[pos] = nil
				positions = append(positions, pos)
			}
		}
	}
	events, err := r.db.EventsByPos(ctx, positions)
	for i := range events {
		contents[int64(events[i].Pos)] = &events[i]
	}
	return contents, err
}
