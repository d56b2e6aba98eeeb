package roomserver

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// stateName is a state event's type and key.
type stateName = authrules.Name

// stateEvent is a state event as authorisation needs it, with the number of its type
// and key and its position; 0 for an event that is not stored yet. A nil *stateEvent
// says that the state has none.
type stateEvent struct {
	*authrules.Event
	key, pos int64
}

func newStateEvent(e *matrix.Event, key, pos int64) *stateEvent {
	return &stateEvent{Event: authrules.New(e), key: key, pos: pos}
}

// current is the room's current event of the type and key, nil if there is none.
func (hot *hotRoom) current(ctx context.Context, q *storage.Reader, name stateName) (*stateEvent, error) {
	if known, ok := hot.state[name]; ok {
		return known, nil
	}
	entry, err := q.CurrentStateEvent(ctx, hot.room.Number, name.Type, name.StateKey)
	if errors.Is(err, storage.ErrNotFound) {
		hot.remember(name, nil)
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	found := newStateEvent(entry.Event.Event, entry.Key, int64(entry.Pos))
	hot.remember(name, found)
	return found, nil
}

func (hot *hotRoom) remember(name stateName, e *stateEvent) {
	if len(hot.state) >= stateCacheLimit {
		clear(hot.state)
	}
	hot.state[name] = e
}

// rules is the event for [authrules], nil for a nil event.
func (e *stateEvent) rules() *authrules.Event {
	if e == nil {
		return nil
	}
	return e.Event
}

func rulesOf(events []*stateEvent) []*authrules.Event {
	list := make([]*authrules.Event, len(events))
	for i, e := range events {
		list[i] = e.Event
	}
	return list
}
