package roomserver

import (
	"encoding/json"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/storage"
)

// arrival is an event that another server has sent, or was asked for.
type arrival struct {
	*authrules.Event
	cited []*stateEvent // its auth events, once they are known
}

// withMembers adds to the events that authorise an arrival by a state of the room those
// members whom it cites and the state knows nothing of, as long as that is partial.
func (a *arrival) withMembers(room *storage.Room, auth []*authrules.Event) []*authrules.Event {
	if !room.Partial() {
		return auth
	}
	auth = slices.Clip(auth)
	for _, e := range a.cited {
		known := func(other *authrules.Event) bool { return other.IsState(e.Type, *e.StateKey) }
		if e.Type == "m.room.member" && !slices.ContainsFunc(auth, known) {
			auth = append(auth, e.Event)
		}
	}
	return auth
}

// checkFormat is the first check on receipt of an event: it is a valid event of the
// room's version, and of the room ("Checks performed on receipt of a PDU", 1).
func checkFormat(v matrix.RoomVersion, roomID string, raw json.RawMessage) (*matrix.Event, error) {
	e, err := matrix.Parse(v, raw)
	if err != nil {
		return nil, err
	}
	if e.RoomID != roomID {
		return nil, matrix.InvalidParam.Withf("The event %s is of another room", e.ID)
	}
	return e, nil
}
