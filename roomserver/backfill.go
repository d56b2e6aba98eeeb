package roomserver

import (
	"context"
	"slices"

	"beep/matrix"
	"beep/storage"
)

const (
	// backfillLimit is how many events are fetched at once.
	backfillLimit = 100
	// backfillStep is the distance in the room's order between events that are fetched,
	// where there is room for it.
	backfillStep = 64
	// backfillMore is how many events are fetched beyond those that are needed.
	backfillMore = 10
	// backfillRounds is how often one page is filled up: what comes may be events that
	// are not shown.
	backfillRounds = 10
	// backfillServers is how many servers are asked for what one page lacks.
	backfillServers = 3
)

// backfill fetches what is missing in a gap. It tells whether anything was found, be it by
// somebody else meanwhile.
func (r *Rooms) backfill(ctx context.Context, room *storage.Room, gap []storage.MissingEvent, limit int) (bool, error) {
	leave, err := r.inbound.enter(ctx, room.ID, r.turnWait)
	if err != nil {
		return false, err
	}
	defer leave()
	// Somebody may have done it meanwhile.
	if same, err := r.sameGap(ctx, room.Number, gap); err != nil || !same {
		return true, err
	}
	servers, err := r.largest(ctx, room.Number)
	if err != nil {
		return false, err
	}
	asked := 0
	for _, server := range r.failing.last(servers) {
		if server == r.signer.ServerName || asked == backfillServers {
			continue
		}
		asked++
		found, err := r.backfillFrom(ctx, server, room, gap, min(max(limit, 10), backfillLimit))
		if found || ctx.Err() != nil {
			return found, ctx.Err()
		}
		if err != nil {
			r.failing.note(server, r.remote.Unavailable(err))
			r.log.Info("another server does not give older events", "room", room.ID, "server", server, "error", err)
		}
	}
	// What was given may have been known already, as somebody else was faster.
	same, err := r.sameGap(ctx, room.Number, gap)
	return !same, err
}

// gapWithin are, of all missing events of a room, those before the latest event that has
// some and lies in after <= order <= before: a page that begins before an event begins with
// its gap.
func gapWithin(all []storage.MissingEvent, after, before int64) (gap []storage.MissingEvent) {
	for _, m := range all {
		if m.ChildOrder >= after && m.ChildOrder <= before && (len(gap) == 0 || m.Child == gap[0].Child) {
			gap = append(gap, m)
		}
	}
	return gap
}

func (r *Rooms) backfillFrom(ctx context.Context, server string, room *storage.Room, gap []storage.MissingEvent, limit int) (bool, error) {
	raws, err := r.remote.Backfill(ctx, server, room.ID, missingOf(gap), limit)
	if err != nil {
		return false, err
	}
	return r.newIntake(server, room).fill(ctx, gap, r.checked(ctx, room, raws))
}

// fill places those of the events that come before the child of a gap in its room's order.
// It tells whether there were any.
func (in *intake) fill(ctx context.Context, gap []storage.MissingEvent, events []*matrix.Event) (bool, error) {
	events, err := in.unknown(ctx, events)
	if err != nil {
		return false, err
	}
	// What lies behind events that are known belongs to another gap.
	if events = byAncestry(ancestors(missingOf(gap), events)); len(events) == 0 {
		return false, nil
	}
	if events, err = in.stated(ctx, gap, events); err != nil {
		return false, err
	}
	if err := in.fetchAuth(ctx, events); err != nil {
		return false, err
	}
	err = in.rooms.hot.with(ctx, in.room.ID, func(hot *hotRoom) error {
		// If somebody was faster the places are taken, and whoever asked looks again.
		same, err := in.rooms.sameGap(ctx, in.room.Number, gap)
		if err != nil || !same {
			return err
		}
		if err := in.order(ctx, gap[0].ChildOrder, events); err != nil {
			return err
		}
		_, err = in.place(ctx, hot, events) // policy servers have no say in the past
		return err
	})
	return err == nil, err
}

// sameGap tells whether everything that is missing before the child of a gap still is.
func (r *Rooms) sameGap(ctx context.Context, room int64, gap []storage.MissingEvent) (bool, error) {
	all, err := r.db.MissingEvents(ctx, room)
	now, then := missingOf(slices.DeleteFunc(all, func(m storage.MissingEvent) bool { return m.Child != gap[0].Child })), missingOf(gap)
	slices.Sort(now)
	slices.Sort(then)
	return slices.Equal(now, then), err
}

// stated are the events with the states before the oldest of them: the one that is known
// after them as far as none of them changes it, otherwise what the other server tells. If
// that tells nothing, only the events are left whose state is known.
func (in *intake) stated(ctx context.Context, gap []storage.MissingEvent, events []*matrix.Event) ([]*matrix.Event, error) {
	run, state, err := in.unchanging(ctx, gap, events)
	if err != nil {
		return nil, err
	}
	if len(run) < len(events) {
		if err = in.claimStates(ctx, events); err == nil || ctx.Err() != nil || len(run) == 0 {
			return events, err
		}
		in.rooms.log.Info("another server tells no state of older events", "room", in.room.ID, "server", in.origin, "error", err)
		clear(in.claimed)
	}
	in.claimed[run[0].ID] = []stateAt{state}
	return run, nil
}

// claimStates asks for the states before the events that follow what is not known.
func (in *intake) claimStates(ctx context.Context, events []*matrix.Event) error {
	open, err := in.open(ctx, events)
	for _, e := range open {
		if err == nil {
			err = in.claimState(ctx, e)
		}
	}
	return err
}

// unchanging are those of the events, oldest first, that a gap's child follows one by one
// and that change no state: before each of them it is what it is before the child.
func (in *intake) unchanging(ctx context.Context, gap []storage.MissingEvent, events []*matrix.Event) (run []*matrix.Event, state stateAt, err error) {
	children, err := in.rooms.db.EventsByPos(ctx, []int64{int64(gap[0].Child)})
	if err != nil || len(children) == 0 || len(children[0].PrevEvents()) != 1 || children[0].StateBefore == 0 {
		return nil, stateAt{}, err
	}
	byID := make(map[string]*matrix.Event, len(events))
	for _, e := range events {
		byID[e.ID] = e
	}
	for e := byID[gap[0].EventID]; e != nil && e.StateKey == nil && len(e.PrevEvents()) == 1; e = byID[e.PrevEvents()[0]] {
		delete(byID, e.ID)
		run = append(run, e)
	}
	slices.Reverse(run)
	return run, stateAt{id: children[0].StateBefore}, nil
}

// missingOf are the ids of the events that are missing.
func missingOf(gap []storage.MissingEvent) []string {
	ids := make([]string, len(gap))
	for i, m := range gap {
		ids[i] = m.EventID
	}
	return ids
}

// ancestors are those of the events that were asked for, or that these lead back to.
func ancestors(from []string, events []*matrix.Event) []*matrix.Event {
	byID := make(map[string]*matrix.Event, len(events))
	for _, e := range events {
		byID[e.ID] = e
	}
	var found []*matrix.Event
	for next := from; len(next) > 0; {
		var further []string
		for _, id := range next {
			if e := byID[id]; e != nil {
				delete(byID, id)
				found, further = append(found, e), append(further, e.PrevEvents()...)
			}
		}
		next = further
	}
	return found
}

// order gives the events, oldest first, their places in the room's order before a child.
func (in *intake) order(ctx context.Context, child int64, events []*matrix.Event) error {
	previous, err := in.rooms.db.EventsBackward(ctx, in.room.Number, child, beforeAll, 1)
	if err != nil {
		return err
	}
	floor := int64(beforeAll)
	if len(previous) > 0 {
		floor = previous[0].Order
	}
	n := int64(len(events))
	step := min(backfillStep, (child-floor-1)/n)
	if step < 1 {
		return matrix.BadState.Withf("There is no place left for older events of %s", in.room.ID)
	}
	in.orders = make(map[string]int64, n)
	for i, e := range events {
		order := child - (n-int64(i))*step
		if order%storage.OrderScale == 0 {
			order++ // such places are for events that arrive live
		}
		in.orders[e.ID] = order
	}
	return nil
}
