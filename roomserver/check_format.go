package roomserver

import (
	"encoding/json"

	"beep/matrix"
	"beep/roomserver/authrules"
)

// arrival is an event that another server has sent, or was asked for.
type arrival struct {
	*authrules.Event
	cited []*stateEvent // its auth events, once they are known
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
