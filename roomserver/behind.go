package roomserver

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// gapsLooked bounds the missing events that are looked at.
const gapsLooked = 100

// putBack takes out of the events those that come before others that are known here, behind
// a gap, and puts them into their place there: they were late, and do not end the room.
// They would bring back its state of long ago. Where a gap may have some of the events, it
// is filled first as far as they reach. What is left after that are events beside the
// known ones.
func (in *intake) putBack(ctx context.Context, events []*matrix.Event) ([]*matrix.Event, error) {
	if in.room.Partial() {
		return in.leaveBehind(ctx, events)
	}
	for range gapRounds {
		if len(events) == 0 || in.origin == in.rooms.signer.ServerName || in.recent(events) {
			return events, nil
		}
		gap, depth, err := in.gapAbove(ctx, events)
		if err != nil || len(gap) == 0 {
			return events, err
		}
		found, err := in.fillWith(ctx, gap, events)
		if !found && err == nil {
			limit := min(depth-lowest(events)+backfillMore, backfillLimit)
			found, err = in.rooms.backfillFrom(ctx, in.origin, in.room, gap, int(limit))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !found {
			in.rooms.log.Info("another server does not tell what lies before known events", "room", in.room.ID, "server", in.origin, "error", err)
			return events, nil
		}
		if events, err = in.unknown(ctx, events); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// leaveBehind leaves out those of the events that come before others that are known here,
// behind a gap: while the room's state is partial, old states would have to be fetched for
// them with all members. They are fetched again when somebody reads that far back. What is
// left then are events beside those behind the gap, as servers make them that have not heard
// of a join yet. The state before these is often that before the join, and need not be
// fetched.
func (in *intake) leaveBehind(ctx context.Context, events []*matrix.Event) ([]*matrix.Event, error) {
	gaps, err := in.rooms.db.MissingEvents(ctx, in.room.Number)
	if err != nil || len(gaps) == 0 || in.origin == in.rooms.signer.ServerName || in.recent(events) {
		return events, err
	}
	gaps = gaps[:min(len(gaps), gapsLooked)]
	if in.history == nil {
		raws, err := in.rooms.remote.Backfill(ctx, in.origin, in.room.ID, missingOf(gaps), gapEvents)
		if err != nil {
			in.rooms.log.Info("another server does not tell what lies before known events", "room", in.room.ID, "server", in.origin, "error", err)
		}
		in.history = append([]*matrix.Event{}, in.rooms.checked(ctx, in.room, raws)...)
	}
	behind := map[string]*matrix.Event{}
	for _, e := range ancestors(missingOf(gaps), slices.Concat(in.history, events)) {
		behind[e.ID] = e
	}
	events = slices.DeleteFunc(slices.Clone(events), func(e *matrix.Event) bool { return behind[e.ID] != nil })
	return events, errors.Join(in.findSiblings(ctx, gaps, behind, events), ctx.Err())
}

// findSiblings finds the events that follow the same ones as the child of a gap does, or as
// those do behind the gap since when the state has not changed: the state before them is
// the same.
func (in *intake) findSiblings(ctx context.Context, gaps []storage.MissingEvent, behind map[string]*matrix.Event, events []*matrix.Event) error {
	positions := make([]int64, len(gaps))
	for i, m := range gaps {
		positions[i] = int64(m.Child)
	}
	children, err := in.rooms.db.EventsByPos(ctx, positions)
	for i := range children {
		if children[i].StateBefore == 0 || children[i].Status != storage.Accepted {
			continue
		}
		for previous := children[i].PrevEvents(); ; {
			for _, e := range events {
				if sameIDs(previous, e.PrevEvents()) {
					in.claimed[e.ID], in.siblings[e.ID] = []stateAt{{id: children[i].StateBefore}}, true
				}
			}
			if len(previous) != 1 || behind[previous[0]] == nil || behind[previous[0]].StateKey != nil {
				break
			}
			e := behind[previous[0]]
			delete(behind, e.ID) // they may be in a circle
			previous = e.PrevEvents()
		}
	}
	return err
}

// sameIDs tells whether two lists have the same ids, in whatever order.
func sameIDs(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(id string) bool { return !slices.Contains(b, id) })
}

// recent tells whether all of the events follow the end of the room, as nearly all do that
// servers send.
func (in *intake) recent(events []*matrix.Event) bool {
	after := slices.Clone(in.room.Extremities)
	for _, e := range events {
		// The create event follows nothing, and so not the end of the room either.
		if len(e.PrevEvents()) == 0 || slices.ContainsFunc(e.PrevEvents(), func(id string) bool { return !slices.Contains(after, id) }) {
			return false
		}
		after = append(after, e.ID)
	}
	return true
}

// lowest is the least depth that the events and what they follow directly may have.
func lowest(events []*matrix.Event) int64 {
	return slices.MinFunc(events, func(a, b *matrix.Event) int { return cmp.Compare(a.Depth, b.Depth) }).Depth - 1
}

// gapAbove is the gap before the deepest event of those that the events may come before,
// and the depth of that event.
func (in *intake) gapAbove(ctx context.Context, events []*matrix.Event) (gap []storage.MissingEvent, depth int64, err error) {
	all, err := in.rooms.db.MissingEvents(ctx, in.room.Number)
	if err != nil || len(all) == 0 {
		return nil, 0, err
	}
	all = all[:min(len(all), gapsLooked)]
	positions := make([]int64, len(all))
	for i, m := range all {
		positions[i] = int64(m.Child)
	}
	children, err := in.rooms.db.EventsByPos(ctx, positions)
	if err != nil || len(children) == 0 {
		return nil, 0, err
	}
	child := slices.MaxFunc(children, func(a, b storage.Event) int { return cmp.Compare(a.Depth, b.Depth) })
	if child.Depth <= lowest(events) {
		return nil, 0, nil
	}
	return slices.DeleteFunc(all, func(m storage.MissingEvent) bool { return m.Child != child.Pos }), child.Depth, nil
}

// fillWith is fill with such of the events as are missing there. That it cannot be done so
// is no error.
func (in *intake) fillWith(ctx context.Context, gap []storage.MissingEvent, events []*matrix.Event) (bool, error) {
	if len(ancestors(missingOf(gap), events)) == 0 {
		return false, nil
	}
	filling := in.rooms.newIntake(in.origin, in.room)
	filling.verdicts, filling.rejected = in.verdicts, in.rejected
	found, err := filling.fill(ctx, gap, events)
	in.silent = in.silent || filling.silent
	if err != nil {
		in.rooms.log.Info("events from before a gap cannot be placed", "room", in.room.ID, "server", in.origin, "error", err)
	}
	return found, ctx.Err()
}

// assumeState lets an event that takes the last user of this server out of the room count
// as if it followed the room's current state, when what it follows is not to be had: those
// who are still in the room tell this server nothing of it any more. It has to be allowed
// by that state like any other. It stays out of band, so that it is judged anew when this
// server is in the room again and hears what came before it.
func (in *intake) assumeState(ctx context.Context, e *matrix.Event) (bool, error) {
	r := in.rooms
	if e.Type != "m.room.member" || e.StateKey == nil || !r.local(*e.StateKey) || r.local(e.Sender) || e.Membership() != "leave" && e.Membership() != "ban" {
		return false, nil
	}
	servers, err := serversIn(ctx, r.db, in.room.Number)
	if err != nil || servers[r.signer.ServerName] != 1 {
		return false, err
	}
	member, err := r.db.MembershipIn(ctx, in.room.Number, *e.StateKey)
	if err != nil || member.Membership != "join" {
		if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		return false, err
	}
	room, err := r.db.RoomByID(ctx, in.room.ID)
	if err != nil {
		return false, err
	}
	in.claimed[e.ID], in.assumed[e.ID] = []stateAt{{id: room.State}}, true
	return true, nil
}
