package roomserver

import (
	"context"
	"errors"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// errUnknownAuth tells that an event cannot be judged, as an auth event of it is not known.
var errUnknownAuth = errors.New("an auth event is not known")

// checkAuthEvents is the fourth check on receipt: the event is allowed by the events
// that it cites, and cites those that the rules select ("Checks performed on receipt of
// a PDU", 4, and the authorisation rules about auth_events). An event that it refuses is
// rejected; errUnknownAuth is no verdict.
func (c *checker) checkAuthEvents(ctx context.Context, a *arrival) error {
	cited, err := c.cited(ctx, a)
	if err != nil {
		return err
	}
	a.cited = cited
	names := a.Names()
	seen := make([]stateName, 0, len(cited))
	for _, e := range cited {
		name := stateName{Type: e.Type, StateKey: *e.StateKey}
		switch {
		case slices.Contains(seen, name):
			return matrix.Forbidden.Withf("The event cites two events for %s", name.Type)
		case !slices.Contains(names, name) || name == createName && a.Version.CreateWithoutRoom():
			return matrix.Forbidden.Withf("The event cites %s %q, which does not authorise it", name.Type, name.StateKey)
		}
		seen = append(seen, name)
	}
	all := rulesOf(cited)
	if a.Version.CreateWithoutRoom() && a.Type != "m.room.create" {
		create, err := c.event(ctx, "$"+a.RoomID[1:])
		if err != nil {
			return err
		}
		all = append(all, create.Event)
	}
	return authrules.Allowed(a.Event, all)
}

// cited finds the auth events of an event. [matrix.Forbidden]: one was rejected, is no
// state, or of another room.
func (c *checker) cited(ctx context.Context, a *arrival) ([]*stateEvent, error) {
	ids := a.AuthEvents()
	if err := c.load(ctx, ids); err != nil {
		return nil, err
	}
	cited := make([]*stateEvent, 0, len(ids))
	for _, id := range ids {
		e, err := c.event(ctx, id)
		if err != nil {
			return nil, err
		}
		cited = append(cited, e)
	}
	return cited, nil
}

// checker knows the events of a room that others cite, while arrivals are checked.
type checker struct {
	rooms  *Rooms
	room   int64
	known  map[string]*stateEvent
	status map[string]storage.Status
}

func (r *Rooms) newChecker(room int64) *checker {
	return &checker{rooms: r, room: room, known: map[string]*stateEvent{}, status: map[string]storage.Status{}}
}

// load reads events that are not known yet.
func (c *checker) load(ctx context.Context, ids []string) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return c.known[id] != nil })
	events, err := c.rooms.db.EventsByID(ctx, ids)
	for i := range events {
		c.add(&events[i])
	}
	return err
}

func (c *checker) add(e *storage.Event) {
	found := newStateEvent(e.Event, 0, int64(e.Pos))
	c.known[e.ID], c.status[e.ID] = found, e.Status
	if e.Room != c.room || e.StateKey == nil {
		c.status[e.ID] = storage.Rejected // for whoever cites it
	}
}

// event is a state event of the room that others may cite.
func (c *checker) event(ctx context.Context, id string) (*stateEvent, error) {
	if c.known[id] == nil {
		if err := c.load(ctx, []string{id}); err != nil {
			return nil, err
		}
	}
	switch e := c.known[id]; {
	case e == nil:
		return nil, errUnknownAuth
	case c.status[id] == storage.Rejected:
		return nil, matrix.Forbidden.Withf("The event cites %s, which cannot authorise anything", id)
	default:
		return e, nil
	}
}
