package roomserver

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"beep/matrix"
	"beep/storage"
)

const (
	// gapRounds and gapEvents bound what is fetched to close a gap at once; what is
	// left of it is fetched when somebody reads that far back.
	gapRounds = 10
	gapEvents = 50
	// gapAnswer is how many events a server gives at least that has more of them.
	gapAnswer = 10
	// fetchEach is up to how many events of a state are fetched one by one.
	fetchEach = 20
)

// fillGaps fetches what comes between what is known of the room and the events: first
// the events themselves and, where the gap is too large, the state before those that
// follow it. It gives the events with those that were fetched, in order. An event whose
// server does not tell what came directly before it is dropped: that server could
// otherwise put it into any state that it likes.
func (in *intake) fillGaps(ctx context.Context, events []*matrix.Event) ([]*matrix.Event, error) {
	sent := make(map[string]bool, len(events))
	for _, e := range events {
		sent[e.ID] = true
	}
	var open []*matrix.Event
	for round, before, all := 0, 0, false; ; round++ {
		var err error
		if events, err = in.putBack(ctx, events); err != nil {
			return nil, err
		}
		if open, err = in.open(ctx, events); err != nil || len(open) == 0 {
			return events, err
		}
		if all || len(events) == before || round == gapRounds {
			break
		}
		var found []*matrix.Event
		if found, all, err = in.missingEvents(ctx, open); err != nil {
			return nil, err
		}
		before = len(events)
		events = byAncestry(append(found, events...))
	}
	dropped := map[string]bool{}
	for _, e := range open {
		assumed, err := in.assumeState(ctx, e)
		if err != nil {
			return nil, err
		}
		if assumed {
			continue
		}
		if sent[e.ID] {
			dropped[e.ID] = true
		} else if err := in.claimState(ctx, e); err != nil {
			in.rooms.log.Info("the state before an event of another server is not to be had", "event", e.ID, "server", in.origin, "error", err)
		}
	}
	return in.without(dropped, events), ctx.Err()
}

// without leaves out events, and those that follow them.
func (in *intake) without(dropped map[string]bool, events []*matrix.Event) []*matrix.Event {
	return slices.DeleteFunc(events, func(e *matrix.Event) bool {
		if dropped[e.ID] || slices.ContainsFunc(e.PrevEvents(), func(id string) bool { return dropped[id] }) {
			dropped[e.ID] = true
			in.verdicts[e.ID] = matrix.Forbidden.Withf("Your server does not tell what came before %s", e.ID)
		}
		return dropped[e.ID]
	})
}

// open are those of the events that follow what is neither known, with its state, nor
// among them.
func (in *intake) open(ctx context.Context, events []*matrix.Event) ([]*matrix.Event, error) {
	var ids []string
	among := make(map[string]bool, len(events))
	for _, e := range events {
		among[e.ID] = true
		ids = append(ids, e.PrevEvents()...)
	}
	stored, err := in.rooms.db.KnownIn(ctx, in.room.Number, ids)
	if err != nil {
		return nil, err
	}
	var open []*matrix.Event
	for _, e := range events {
		if !in.siblings[e.ID] && slices.ContainsFunc(e.PrevEvents(), func(id string) bool { return !among[id] && stored[id].StateAfter == 0 }) {
			open = append(open, e)
		}
	}
	return open, nil
}

// missingEvents asks for the events before others, and gives those that are not known. What
// was not asked for, because none of those leads to it, is dropped. That the server does
// not answer is no error. all tells that there is no use in asking for more.
func (in *intake) missingEvents(ctx context.Context, open []*matrix.Event) (kept []*matrix.Event, all bool, err error) {
	latest := make([]string, len(open))
	wanted := map[string]bool{}
	for i, e := range open {
		latest[i] = e.ID
		for _, id := range e.PrevEvents() {
			wanted[id] = true
		}
	}
	raws, err := in.rooms.remote.MissingEvents(ctx, in.origin, in.room.ID, in.room.Extremities, latest, gapEvents)
	in.heard(err)
	if err != nil {
		in.rooms.log.Info("another server does not tell what came before its events", "room", in.room.ID, "server", in.origin, "error", err)
		return nil, true, ctx.Err()
	}
	found, err := in.unknown(ctx, in.rooms.checked(ctx, in.room, raws))
	if err != nil {
		return nil, true, err
	}
	slices.SortStableFunc(found, func(a, b *matrix.Event) int { return cmp.Compare(b.Depth, a.Depth) })
	for again := true; again; {
		again = false
		found = slices.DeleteFunc(found, func(e *matrix.Event) bool {
			if !wanted[e.ID] {
				return false
			}
			kept, again = append(kept, e), true
			for _, id := range e.PrevEvents() {
				wanted[id] = true
			}
			return true
		})
	}
	return kept, len(raws) < gapAnswer, nil
}

// parse reads events of a room; where it gives no event it says why.
func parse(room *storage.Room, raws []json.RawMessage) (events []*matrix.Event, refused []error) {
	events, refused = make([]*matrix.Event, len(raws)), make([]error, len(raws))
	for i, raw := range raws {
		events[i], refused[i] = checkFormat(room.Version, room.ID, raw)
	}
	return events, refused
}

// checked are those of the events that pass the first three checks on receipt.
func (r *Rooms) checked(ctx context.Context, room *storage.Room, raws []json.RawMessage) []*matrix.Event {
	events, refused := parse(room, raws)
	if r.vouched(ctx, events, refused) != nil {
		return nil
	}
	return known(events)
}

// claimState asks for the states after the missing events that an event follows, and keeps
// what the other server says: they count together with the states of the earlier events
// that are known. Of a server that does not know those events it asks for the state before
// the event itself.
func (in *intake) claimState(ctx context.Context, e *matrix.Event) error {
	stored, err := in.rooms.db.KnownIn(ctx, in.room.Number, e.PrevEvents())
	if err != nil {
		return err
	}
	var states []stateAt
	for _, id := range e.PrevEvents() {
		if stored[id].StateAfter != 0 {
			continue
		}
		state, err := in.claimedState(ctx, id, true)
		if err != nil {
			in.rooms.log.Info("the state after an event is not to be had", "event", id, "server", in.origin, "error", err)
			states = nil
			break
		}
		states = append(states, stateAt{whole: state})
	}
	if states == nil {
		state, err := in.claimedState(ctx, e.ID, false)
		if err != nil {
			return err
		}
		states = []stateAt{{whole: state}}
	}
	in.claimed[e.ID] = states
	return nil
}

// claimedState is the state before an event as the other server tells it, or after it.
func (in *intake) claimedState(ctx context.Context, eventID string, after bool) ([]change, error) {
	state, auth, err := in.rooms.remote.StateIDs(ctx, in.origin, in.room.ID, eventID)
	in.heard(err)
	if err != nil {
		return nil, err
	}
	var own []string
	if after {
		own = []string{eventID} // what it changes, if it is state
	}
	err = in.rooms.fetchState(ctx, in.origin, in.room, eventID, slices.Concat(state, own), auth)
	if in.heard(err); err != nil {
		return nil, err
	}
	places, err := in.rooms.db.StatePlaces(ctx, in.room.Number, slices.Concat(state, own))
	if err != nil {
		return nil, err
	}
	last := places[eventID]
	if after {
		delete(places, eventID)
	}
	claimed := stateOf(places)
	if after && last.Key != 0 && last.Status != storage.Rejected {
		claimed = merge(claimed, []change{{last.Key, last.Pos}})
	}
	keys, err := in.rooms.keysOf(ctx, in.room.Number, []stateName{createName})
	if err != nil {
		return nil, err
	}
	if _, create := (&packed{changes: claimed}).find(keys[createName]); !create {
		return nil, matrix.BadState.Withf("The state at %s that %s tells has no create event", eventID, in.origin)
	}
	return claimed, nil
}

// fetchState makes the events of a state and its auth chain known, as outliers. That the
// other server does not give all of them is an error: nobody knows what a part of a state
// is like.
func (r *Rooms) fetchState(ctx context.Context, server string, room *storage.Room, eventID string, state, auth []string) error {
	all := slices.Concat(auth, state)
	stored, err := r.db.KnownEvents(ctx, all)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(all, func(id string) bool { _, found := stored[id]; return found })
	slices.Sort(missing)
	missing = slices.Compact(missing)
	if len(missing) == 0 {
		return nil
	}
	raws, err := r.fetchAll(ctx, server, room, eventID, missing)
	if err != nil {
		return err
	}
	events, refused := parse(room, raws)
	events = wanted(events, missing)
	if len(known(events)) < len(missing) {
		return matrix.BadState.Withf("%s gives %d of %d events of the state at %s", server, len(known(events)), len(missing), eventID)
	}
	if err := r.vouched(ctx, events, refused); err != nil {
		return err
	}
	return r.keepOutliers(ctx, room, known(events))
}

// fetchAll asks for events of a state and its auth chain.
func (r *Rooms) fetchAll(ctx context.Context, server string, room *storage.Room, eventID string, ids []string) ([]json.RawMessage, error) {
	if len(ids) <= fetchEach {
		return r.fetchEvents(ctx, server, ids)
	}
	events, chain, err := r.remote.State(ctx, server, room.ID, eventID)
	if err != nil {
		return nil, err
	}
	var own []json.RawMessage
	if slices.Contains(ids, eventID) {
		own, err = r.fetchEvents(ctx, server, []string{eventID})
	}
	return slices.Concat(chain, events, own), err
}

// fetchEvents asks for events one by one.
func (r *Rooms) fetchEvents(ctx context.Context, server string, ids []string) ([]json.RawMessage, error) {
	raws := make([]json.RawMessage, len(ids))
	for i, id := range ids {
		var err error
		if raws[i], err = r.remote.Event(ctx, server, id); err != nil {
			return nil, err
		}
	}
	return raws, nil
}

// wanted has nil for events that were not asked for, and for repetitions.
func wanted(events []*matrix.Event, ids []string) []*matrix.Event {
	asked := make(map[string]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	for i, e := range events {
		if e == nil || !asked[e.ID] {
			events[i] = nil
			continue
		}
		delete(asked, e.ID)
	}
	return events
}

// fetchAuth makes the auth events of events known, which are not among them.
func (in *intake) fetchAuth(ctx context.Context, events []*matrix.Event) error {
	among := make(map[string]bool, len(events))
	for _, e := range events {
		among[e.ID] = true
	}
	for _, e := range events {
		stored, err := in.rooms.db.KnownEvents(ctx, e.AuthEvents())
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(e.AuthEvents(), func(id string) bool { _, found := stored[id]; return !found && !among[id] }) {
			continue
		}
		raws, err := in.rooms.remote.EventAuth(ctx, in.origin, in.room.ID, e.ID)
		in.heard(err)
		if err != nil {
			in.rooms.log.Info("another server does not tell what authorises its event", "event", e.ID, "server", in.origin, "error", err)
			continue
		}
		chain := citedBy([]*matrix.Event{e}, in.rooms.checked(ctx, in.room, raws))
		if err := in.rooms.keepOutliers(ctx, in.room, chain); err != nil {
			return err
		}
	}
	return nil
}

// citedBy are those of the events that authorise some others, directly or by way of each
// other: what another server adds to these was not asked for.
func citedBy(others, events []*matrix.Event) []*matrix.Event {
	byID := make(map[string]*matrix.Event, len(events))
	for _, e := range events {
		byID[e.ID] = e
	}
	var cited []*matrix.Event
	for next := slices.Clone(others); len(next) > 0; next = next[1:] {
		for _, id := range authorisedBy(next[0]) {
			if e := byID[id]; e != nil {
				delete(byID, id)
				cited, next = append(cited, e), append(next, e)
			}
		}
	}
	return cited
}
