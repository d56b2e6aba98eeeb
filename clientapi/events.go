package clientapi

import (
	"strconv"
	"time"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
)

// view is how a caller is shown events.
func view(who *account.Caller) roomserver.View {
	return roomserver.View{UserID: who.UserID, Device: who.DeviceID, RoomID: true, Now: time.Now().UnixMilli()}
}

// appendEvents appends a JSON list of events.
func appendEvents(dst []byte, events []*roomserver.ClientEvent, v roomserver.View) []byte {
	dst = append(dst, '[')
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.AppendJSON(dst, v)
	}
	return append(dst, ']')
}

// appendShown appends a JSON list of events with the reader's membership at each.
func appendShown(dst []byte, events []roomserver.Shown, v roomserver.View) []byte {
	dst = append(dst, '[')
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		v.Membership = e.Membership
		dst = e.AppendJSON(dst, v)
	}
	return append(dst, ']')
}

// eventList answers with a bare list of events.
type eventList struct {
	events []*roomserver.ClientEvent
	view   roomserver.View
}

// AppendJSON writes the list.
func (l *eventList) AppendJSON(dst []byte) []byte { return appendEvents(dst, l.events, l.view) }

// eventChunk answers with {"chunk": [events]}.
type eventChunk eventList

// AppendJSON writes the object.
func (c *eventChunk) AppendJSON(dst []byte) []byte {
	return append(appendEvents(append(dst, `{"chunk":`...), c.events, c.view), '}')
}

// oneEvent answers with an event.
type oneEvent struct {
	event *roomserver.ClientEvent
	view  roomserver.View
}

// AppendJSON writes the event.
func (o *oneEvent) AppendJSON(dst []byte) []byte { return o.event.AppendJSON(dst, o.view) }

// rawJSON answers with text that is JSON already.
type rawJSON struct{ text []byte }

// AppendJSON writes the text.
func (r *rawJSON) AppendJSON(dst []byte) []byte { return append(dst, r.text...) }

// eventID answers with the id of the event that was sent.
type eventID struct {
	EventID string `json:"event_id"`
}

// roomID answers with the id of a room.
type roomID struct {
	RoomID string `json:"room_id"`
}

// pageLimit reads the limit of a page: the default, or what is asked for within
// bounds.
func pageLimit(asked *int, usual, most int) (int, error) {
	switch {
	case asked == nil:
		return usual, nil
	case *asked < 0:
		return 0, matrix.InvalidParam.With("limit must not be negative, but is " + strconv.Itoa(*asked))
	}
	return min(max(*asked, 1), most), nil
}
