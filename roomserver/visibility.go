package roomserver

import (
	"context"
	"errors"

	"beep/storage"
)

// Visible tells for each event of a room whether the user may see it: the user's
// membership at the event ("leave" if there was none), or "" for an event that
// must not be shown (client-server API, "Room history visibility").
func (r *Rooms) Visible(ctx context.Context, room int64, userID string, events []storage.Event) ([]string, error) {
	memberships := make([]string, len(events))
	history, err := r.db.MemberHistory(ctx, room, userID)
	if err != nil {
		return nil, err
	}
	joinedSince, lastJoined := spans(history)
	hard := false
	for i := range events {
		if joinedSince != 0 && events[i].Order > joinedSince {
			memberships[i] = "join" // members see all that happens while they are in
		} else {
			hard = true
		}
	}
	if !hard {
		return memberships, nil
	}
	return memberships, r.visibleByState(ctx, room, userID, events, lastJoined, memberships)
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

// visibleByState looks at the state at each event that has no verdict yet.
func (r *Rooms) visibleByState(ctx context.Context, room int64, userID string, events []storage.Event,
	lastJoined int64, memberships []string) error {
	visibilityKey, err := r.keyOf(ctx, room, "m.room.history_visibility", "")
	if err != nil {
		return err
	}
	memberKey, err := r.keyOf(ctx, room, "m.room.member", userID)
	if err != nil {
		return err
	}
	var ids []int64
	for i := range events {
		if memberships[i] == "" {
			ids = append(ids, events[i].StateBefore, events[i].StateAfter)
		}
	}
	found, err := r.states.lookup(ctx, &r.db.Reader, ids, []int64{visibilityKey, memberKey})
	if err != nil {
		return err
	}
	contents, err := r.stateByPos(ctx, found)
	if err != nil {
		return err
	}
	for i := range events {
		if memberships[i] != "" {
			continue
		}
		// An event that changes the visibility, or the reader's own membership, is
		// seen by whoever may see it before or after.
		before, after := found[events[i].StateBefore], found[events[i].StateAfter]
		membership := contents.membership(after[memberKey])
		for _, state := range []map[int64]int64{before, after} {
			if maySee(contents.visibility(state[visibilityKey]), contents.membership(state[memberKey]), events[i].Order < lastJoined) {
				memberships[i] = membership
			}
		}
	}
	return nil
}

// maySee are the rules of "Room history visibility".
func maySee(visibility, membership string, joinedLater bool) bool {
	switch {
	case visibility == "world_readable" || membership == "join":
		return true
	case visibility == "shared":
		return joinedLater
	case visibility == "invited":
		return membership == "invite"
	}
	return false
}

// keyOf is the number of a type and key in packed states, 0 if the room's state
// never had it.
func (r *Rooms) keyOf(ctx context.Context, room int64, eventType, stateKey string) (int64, error) {
	k, err := r.db.StateKeyByName(ctx, room, eventType, stateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	return k.Key, err
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
