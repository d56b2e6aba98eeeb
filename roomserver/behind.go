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

// recent tells whether all of the events follow the end of the room, as nearly all do that
// servers send.
func (in *intake) recent(events []*matrix.Event) bool {
	after := slices.Clone(in.room.Extremities)
	for _, e := range events {
		if slices.ContainsFunc(e.PrevEvents(), func(id string) bool { return !slices.Contains(after, id) }) {
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
// by that state like any other.
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
	in.claimed[e.ID] = []stateAt{{id: room.State}}
	return true, nil
}
