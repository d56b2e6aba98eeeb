package syncapi

import (
	"context"

	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// fromWindow gathers what is new from the window of the log. errWindow: that does
// not reach back so far.
func (g *gathering) fromWindow(ctx context.Context) error {
	own, err := g.ownInWindow()
	if err != nil {
		return err
	}
	if err := g.classify(ctx, own); err != nil {
		return err
	}
	if g.fullState {
		g.addJoined()
	}
	present := map[string]storage.Presence{}
	ok := g.api.db.Log.Range(g.since, g.upTo, func(e *stream.Entry) bool {
		g.take(e, present)
		if g.devices {
			g.takeDevices(e)
		}
		return true
	})
	if !ok {
		return errWindow
	}
	for _, r := range g.order {
		r.complete = !r.stored
	}
	if err := g.addPresent(ctx, present); err != nil {
		return err
	}
	if err := g.addKept(ctx); err != nil {
		return err
	}
	if err := g.finishDevices(ctx, own); err != nil {
		return err
	}
	return g.finish(ctx)
}

// ownInWindow finds the user's own member events.
func (g *gathering) ownInWindow() (changes, error) {
	own := changes{}
	whole := true
	ok := g.api.db.Log.Range(g.since, g.upTo, func(e *stream.Entry) bool {
		for _, event := range eventsOf(e) {
			if event.Type == "m.room.member" && event.StateKey != nil && *event.StateKey == g.userID {
				own[e.Room] = append(own[e.Room], event)
				whole = whole && (event.Replaces == 0 || event.Replaced != nil)
			}
		}
		return whole
	})
	if !ok || !whole {
		return nil, errWindow
	}
	return own, nil
}

// eventsOf are the events that an entry tells of.
func eventsOf(e *stream.Entry) []*roomserver.ClientEvent {
	switch value := e.Value.(type) {
	case *roomserver.ClientEvent:
		return []*roomserver.ClientEvent{value}
	case []*roomserver.ClientEvent:
		return value
	}
	return nil
}

// take takes in one entry of the log.
func (g *gathering) take(e *stream.Entry, present map[string]storage.Presence) {
	switch e.Kind {
	case stream.Event:
		g.takeEvent(e)
	case stream.State:
		r := g.room(e.Room)
		if r != nil && !r.stored && r.own == nil && (r.end == nil || e.Pos <= r.end.At) {
			r.resets = append(r.resets, eventsOf(e)...)
		}
	case stream.Typing:
		if r := g.room(e.Room); r != nil {
			g.addTyping(r, e.Value.([]string))
		}
	case stream.Receipt:
		g.addReceipt(e.Value.(storage.Receipt))
	case stream.AccountData:
		if e.User == g.userID {
			g.addAccountData(e.Value.(storage.AccountData))
		}
	case stream.Presence:
		present[e.User] = e.Value.(storage.Presence)
	}
}

func (g *gathering) takeEvent(e *stream.Entry) {
	r := g.room(e.Room)
	if r == nil || r.end != nil && e.Pos > r.end.At {
		return
	}
	event := e.Value.(*roomserver.ClientEvent)
	if !r.left && !r.joined && event.Type == "m.room.member" && event.StateKey != nil && event.Membership() == "join" && before(event) != "join" {
		g.newcomers[*event.StateKey] = struct{}{}
	}
	if !r.stored && r.own == nil {
		r.events = append(r.events, shown{event.Event, event, ""})
	}
}
