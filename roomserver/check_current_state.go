package roomserver

import (
	"context"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// checkCurrentState is the last check on receipt: the room's current state allows the
// event ("Checks performed on receipt of a PDU", 6). [matrix.Forbidden]: it does not,
// and the event fails softly: nobody here sees it, unless others build upon it.
func (r *Rooms) checkCurrentState(ctx context.Context, hot *hotRoom, a *arrival) error {
	auth, err := hot.authorising(ctx, &r.db.Reader, a.Names())
	if err != nil {
		return err
	}
	return authrules.Allowed(a.Event, a.withMembers(&hot.room, auth))
}

// authorising are the events of the current state under these names.
func (hot *hotRoom) authorising(ctx context.Context, q *storage.Reader, names []stateName) ([]*authrules.Event, error) {
	auth := make([]*authrules.Event, 0, len(names))
	for _, name := range names {
		e, err := hot.current(ctx, q, name)
		if err != nil {
			return nil, err
		}
		if e != nil {
			auth = append(auth, e.Event)
		}
	}
	return auth, nil
}

// checkRedacted fails a redaction softly of what is in another room: it never counts, and
// clients must not be shown redactions that do not ("Handling redactions" of the room
// versions). [matrix.Forbidden].
func (r *Rooms) checkRedacted(ctx context.Context, room *storage.Room, a *arrival) error {
	if a.Redacts == "" {
		return nil
	}
	known, err := r.db.KnownEvents(ctx, []string{a.Redacts})
	if err != nil {
		return err
	}
	if target, found := known[a.Redacts]; found && target.Room != room.Number {
		return matrix.Forbidden.With("What the event redacts is in another room")
	}
	return nil
}

// maxEnds bounds the extremities of a room that are one server's.
const maxEnds = matrix.MaxPrevEvents

// checkEnds fails an event softly whose server gives the room one end after the other. A
// server's event follows those before it; who sends a great many beside each other makes
// all servers in the room resolve as many states, over and over. [matrix.Forbidden].
func (r *Rooms) checkEnds(ctx context.Context, hot *hotRoom, e *authrules.Event) error {
	if len(hot.room.Extremities) < maxEnds || r.local(e.Sender) {
		return nil
	}
	ends, err := r.db.EventsByID(ctx, hot.room.Extremities)
	if err != nil {
		return err
	}
	followed, server, n := e.PrevEvents(), matrix.ServerOf(e.Sender), 0
	for i := range ends {
		if matrix.ServerOf(ends[i].Sender) == server && !slices.Contains(followed, ends[i].ID) {
			n++
		}
	}
	if n >= maxEnds {
		return matrix.Forbidden.Withf("The room has %d ends that are of %s", n, server)
	}
	return nil
}
