package roomserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// Receive takes in events of a room that another server has sent. It gives an error for
// each event that was not taken in, nil for the others: for those, too, that are known
// already, and for those that the room's rules reject, as that is how they are to be
// taken in (server-server API, "Transactions"). The second error says that nothing can be
// said of the events yet, because of a fault of this server or because the other one does
// not answer what is asked about them: it is to send them again.
func (r *Rooms) Receive(ctx context.Context, origin, roomID string, raws []json.RawMessage) ([]error, error) {
	refused, err := r.receive(ctx, origin, roomID, raws)
	switch {
	case err == nil:
		r.patience.restore(origin + " " + roomID)
		return refused, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, errSilent):
		if r.patience.lasts(origin, silencePatience) {
			return nil, badGateway.With("Your server does not answer what is asked about its events").Because(err)
		}
		return refused, nil
	case r.patience.lasts(origin+" "+roomID, faultPatience):
		return nil, err
	}
	r.log.Error("events of another server were not taken in", "room", roomID, "server", origin, "error", err)
	return slices.Repeat([]error{err}, len(raws)), nil
}

// receive is Receive without patience: with errSilent it says what became of the events.
func (r *Rooms) receive(ctx context.Context, origin, roomID string, raws []json.RawMessage) ([]error, error) {
	room, err := r.residentRoom(ctx, roomID)
	if errors.Is(err, matrix.NotFound) {
		return slices.Repeat([]error{errNotInRoom}, len(raws)), nil
	} else if err != nil {
		return nil, err
	}
	events, refused := parse(&room, raws)
	if err := r.vouched(ctx, events, refused); err != nil {
		return nil, err
	}
	leave, err := r.inbound.enter(ctx, roomID, r.turnWait)
	if err != nil {
		return nil, err
	}
	defer leave()
	// Others had their turn before: the room is not what it was.
	if room, err = r.residentRoom(ctx, roomID); errors.Is(err, matrix.NotFound) {
		return slices.Repeat([]error{errNotInRoom}, len(raws)), nil
	} else if err != nil {
		return nil, err
	}
	in := r.newIntake(origin, &room)
	defer r.dismissGuests(ctx, roomID, known(events))
	if err = in.take(ctx, known(events)); err == nil && in.unjudged(known(events)) {
		err = errSilent
	}
	if in.answered && !in.silent {
		r.patience.restore(origin)
	}
	for i, e := range events {
		if e != nil && !in.rejected[e.ID] {
			refused[i] = in.verdicts[e.ID]
		}
	}
	return refused, err
}

// vouched drops the events that are not signed as they have to be, and redacts those
// whose hash is wrong: places in events become nil, and refused says why.
func (r *Rooms) vouched(ctx context.Context, events []*matrix.Event, refused []error) error {
	var signed []*matrix.Event
	var places []int
	for i, e := range events {
		if e == nil {
			continue
		}
		if r.admitSender != nil && !r.local(e.Sender) {
			if err := r.admitSender(ctx, e); err != nil {
				events[i], refused[i] = nil, err
				continue
			}
		}
		signed, places = append(signed, e), append(places, i)
	}
	for n, err := range r.checkSignatures(ctx, signed) {
		i := places[n]
		if err != nil {
			events[i], refused[i] = nil, err
			continue
		}
		if events[i], err = checkHash(events[i]); err != nil {
			events[i], refused[i] = nil, err
		}
	}
	return ctx.Err()
}

func known(events []*matrix.Event) []*matrix.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e *matrix.Event) bool { return e == nil })
}

func (r *Rooms) newIntake(origin string, room *storage.Room) *intake {
	return &intake{rooms: r, origin: origin, room: room, verdicts: map[string]error{}, rejected: map[string]bool{}, claimed: map[string][]stateAt{}, outliers: map[string]struct{}{},
		assumed: map[string]bool{}, siblings: map[string]bool{}, asked: map[string]bool{}, soft: map[string]error{}}
}

// take places events, whose signatures and hashes were checked, in the room's graph, and
// fetches what is missing to judge them.
func (in *intake) take(ctx context.Context, events []*matrix.Event) error {
	fresh, err := in.unknown(ctx, events)
	if err != nil || len(fresh) == 0 {
		return err
	}
	if fresh, err = in.fillGaps(ctx, fresh); err != nil {
		return err
	}
	if err := in.fetchAuth(ctx, fresh); err != nil {
		return err
	}
	for {
		err := in.rooms.hot.with(ctx, in.room.ID, func(hot *hotRoom) error {
			fresh, err = in.place(ctx, hot, fresh)
			return err
		})
		if err != nil || len(fresh) == 0 {
			return err
		}
		fresh = in.askPolicy(ctx, fresh)
	}
}

// failure says why an event of this server has not become part of the room; nil if it has.
func (in *intake) failure(eventID string) error {
	return cmp.Or(in.verdicts[eventID], in.soft[eventID])
}

// intake is a number of events on their way into a room.
type intake struct {
	rooms    *Rooms
	origin   string // the server to ask for what is missing
	room     *storage.Room
	verdicts map[string]error          // of the events that were rejected or cannot be judged
	rejected map[string]bool           // those that were stored as rejected
	claimed  map[string][]stateAt      // by event, the states before it that the origin says are so
	assumed  map[string]bool           // events whose state before them is none that anybody has claimed: it is assumed
	siblings map[string]bool           // events that follow the same as a known one; claimed has the state before that
	history  []*matrix.Event           // what lies behind gaps; nil while nobody was asked
	outliers map[string]struct{}       // those of the events that are stored, and have no place in the graph
	relay    bool                      // this server passes the events on to the others in the room
	orders   map[string]int64          // places in the room's order, of events from before a gap
	redacted map[string]*storage.Event // by event id: the redactions of events that came before these
	soft     map[string]error          // of the events that failed softly
	policy   *policy                   // which has to be asked about what was not placed
	asked    map[string]bool           // the events about which a policy server was asked
	draft    Draft                     // of the one event, if this server has just made it

	answered, silent bool // the origin did, or did not, answer what was asked

	// What is known of the room while events beside others are checked.
	besideChecker *checker
	besideAuth    map[besideKey][]*authrules.Event
}

// unknown are those of the events that have no place in the graph yet, each after those
// that it follows.
func (in *intake) unknown(ctx context.Context, events []*matrix.Event) ([]*matrix.Event, error) {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	stored, err := in.rooms.db.KnownEvents(ctx, ids)
	fresh := slices.DeleteFunc(slices.Clone(events), func(e *matrix.Event) bool {
		known, found := stored[e.ID]
		unplaced := found && (known.Status == storage.Outlier || known.Status == storage.OutOfBand)
		if unplaced {
			in.outliers[e.ID] = struct{}{}
		}
		return found && !unplaced
	})
	return byAncestry(fresh), err
}

// place judges the events and stores them. Those that simply follow on the end of the
// room, or merely lengthen a branch of it, go into one transaction; the others have one each.
// It gives those that are left, when a policy server has to be asked about the first of them.
func (in *intake) place(ctx context.Context, hot *hotRoom, events []*matrix.Event) (left []*matrix.Event, err error) {
	if !hot.room.Resident {
		for _, e := range events {
			in.verdicts[e.ID] = errNotInRoom
		}
		return nil, nil
	}
	// Others may have placed some of them while something was fetched.
	if events, err = in.unknown(ctx, events); err != nil {
		return nil, err
	}
	if in.redacted, err = in.rooms.earlyRedactions(ctx, in.room.Number, events); err != nil {
		return nil, err
	}
	b := in.rooms.beginIntake(hot)
	for i, e := range events {
		a := &arrival{Event: authrules.New(e)}
		follows, err := in.follows(ctx, b, a)
		if err != nil {
			return nil, err
		}
		switch {
		case follows:
			err = in.append(ctx, b, a)
		case in.besides(b, a):
			err = in.beside(ctx, b, a)
		default:
			err = in.aside(ctx, b, a)
		}
		var told *matrix.Error
		switch {
		case err == nil:
		case errors.Is(err, errUnsigned):
			return events[i:], b.commit(ctx, nil)
		case errors.Is(err, errUnknownAuth), errors.As(err, &told) && told.Status < 500:
			in.verdicts[e.ID] = err
		default:
			return nil, err
		}
	}
	return nil, b.commit(ctx, nil)
}

// follows tells whether the event is new, follows on the end of the room as the batch
// leaves it, and has nothing to do with redactions but of what is stored.
func (in *intake) follows(ctx context.Context, b *batch, a *arrival) (bool, error) {
	previous := a.PrevEvents()
	if !in.plain(a) || len(previous) != len(b.room.Extremities) ||
		slices.ContainsFunc(previous, func(id string) bool { return !slices.Contains(b.room.Extremities, id) }) {
		return false, nil
	}
	if a.Redacts == "" {
		return true, nil
	}
	target, err := in.rooms.db.KnownIn(ctx, in.room.Number, []string{a.Redacts})
	return len(target) > 0, err
}

// plain tells whether an event is new, has its place at an end of the room, and was not
// redacted before it came.
func (in *intake) plain(a *arrival) bool {
	_, stored := in.outliers[a.ID]
	return !stored && in.orders == nil && in.claimed[a.ID] == nil && in.redacted[a.ID] == nil
}

// append stages an event at the end of the room, or rejects it.
func (in *intake) append(ctx context.Context, b *batch, a *arrival) error {
	all, _, err := b.authorising(ctx, a.Version, a.Names())
	if err != nil {
		return err
	}
	c := in.rooms.newChecker(in.room.Number)
	for _, s := range b.staged {
		if s.StateKey != nil {
			c.known[s.ID] = &stateEvent{Event: s.Event}
		}
	}
	for _, e := range all {
		c.known[e.ID] = e
	}
	if err = c.checkAuthEvents(ctx, a); err == nil {
		err = authrules.Allowed(a.Event, a.withMembers(&b.room, rulesOf(all)))
	}
	if err == nil {
		err = in.checkPolicy(ctx, b, a.Event.Event)
	}
	if err == nil {
		return in.stage(ctx, b, a)
	}
	if errors.Is(err, matrix.Forbidden) {
		return in.aside(ctx, b, a) // which rejects it, or has it fail softly
	}
	return err
}

// aside places an event by itself, after what is staged. The batch begins anew.
func (in *intake) aside(ctx context.Context, b *batch, a *arrival) error {
	if err := b.commit(ctx, nil); err != nil {
		return err
	}
	in.besideChecker, in.besideAuth = nil, nil // what they know may change
	verdict := in.fork(ctx, b.hot, a)
	if err := b.hot.reload(ctx, in.rooms.db, in.room.ID); err != nil {
		return err
	}
	*b = *in.rooms.beginIntake(b.hot)
	return verdict
}

// stage stages another server's event, with what it redacts.
func (in *intake) stage(ctx context.Context, b *batch, a *arrival) error {
	s := staged{Event: a.Event, draft: in.draft, auth: a.cited, relay: in.relay}
	if a.Redacts != "" {
		power := func() (*authrules.PowerLevels, error) {
			_, levels, err := b.powerLevels(ctx)
			return levels, err
		}
		target, counts, err := in.rooms.redactedBy(ctx, in.room.Number, a.Event.Event, power)
		if err != nil {
			return err
		}
		if counts {
			s.redacted = &target
		}
	}
	return b.stage(ctx, s)
}

// fork places an event that does not simply follow on the end of the room.
func (in *intake) fork(ctx context.Context, hot *hotRoom, a *arrival) error {
	r, c := in.rooms, in.rooms.newChecker(in.room.Number)
	previous, err := r.db.KnownIn(ctx, in.room.Number, append(a.PrevEvents(), a.ID))
	if err != nil {
		return err
	}
	f := &fork{rooms: r, hot: hot, event: a, pos: previous[a.ID].Pos, relay: in.relay, draft: in.draft, redaction: in.redacted[a.ID], assumed: in.assumed[a.ID]}
	delete(previous, a.ID)
	for _, id := range a.PrevEvents() {
		if previous[id].StateAfter == 0 {
			f.missing = append(f.missing, id)
		}
	}
	if in.siblings[a.ID] {
		f.missing = nil // the gap before the other one is this one's too
	}
	if len(f.missing) > 0 && in.claimed[a.ID] == nil {
		return matrix.Forbidden.Withf("The events before %s are not known", a.ID)
	}
	if f.assumed {
		f.missing = nil // nobody tells it while this server is out
	}
	if f.before, err = r.stateBefore(ctx, in.room, previous, in.claimed[a.ID]); err != nil {
		return err
	}
	verdict := c.checkAuthEvents(ctx, a)
	if verdict == nil {
		verdict = r.checkStateBefore(ctx, &hot.room, a, f.before)
	}
	f.order = in.orders[a.ID]
	switch {
	case errors.Is(verdict, matrix.Forbidden):
		f.status, in.rejected[a.ID] = storage.Rejected, true
	case verdict != nil:
		return verdict
	case f.order == 0:
		soft := r.checkEnds(ctx, hot, a.Event)
		if soft == nil {
			soft = r.checkCurrentState(ctx, hot, a)
		}
		if soft == nil {
			soft = r.checkRedacted(ctx, &hot.room, a)
		}
		if soft == nil {
			soft = in.checkPolicy(ctx, r.beginIntake(hot), a.Event.Event)
		}
		if errors.Is(soft, matrix.Forbidden) {
			f.status, in.soft[a.ID] = storage.SoftFailed, soft
		} else if soft != nil {
			return soft
		}
	}
	if err := f.place(ctx); err != nil {
		return err
	}
	return verdict
}
