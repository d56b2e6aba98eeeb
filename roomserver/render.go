package roomserver

import (
	"context"
	"strconv"

	"beep/matrix"
	"beep/storage"
)

// ClientEvent is an event in the form that clients get (client-server API,
// "Room event format"). What is alike for all readers is rendered once.
type ClientEvent struct {
	*storage.Event
	// Replaced is the state event that this one replaced, for unsigned.prev_content;
	// nil when there is none or it is not to be shown.
	Replaced *matrix.Event
	// Redaction is the redaction of this event, for unsigned.redacted_because.
	Redaction *ClientEvent
	// StrippedState is what an invited or knocking user is shown of the room: a JSON
	// list; nil for other events.
	StrippedState []byte
	// Gap tells that events before this one are not known.
	Gap bool
	// Partial tells that not all members of the room are known.
	Partial bool
	// Servers are the other servers that this one has to send the event to: it is of
	// a user of this server, and they were in the room before it or are after it.
	Servers []string

	head []byte // the object up to unsigned
}

// View is for whom and how an event is rendered.
type View struct {
	UserID     string
	Device     string // the device that is told its own transaction ids
	Membership string // the reader's membership at the event, "" to leave it out
	RoomID     bool   // with room_id, which /sync leaves out
	Now        int64  // ms, for unsigned.age
	Federation bool   // the whole event as servers exchange it (event_format)
}

// NewClientEvent renders an event.
func NewClientEvent(e *storage.Event) *ClientEvent {
	c := &ClientEvent{Event: e, head: make([]byte, 0, len(e.Content)+len(e.ID)+len(e.Sender)+len(e.Type)+160)}
	content := e.Content
	if e.Type == "m.room.redaction" && e.Redacts != "" && !e.Version.RedactsInContent() {
		content = withRedacts(content, e.Redacts) // newer clients look there
	}
	out := append(append(c.head, `{"content":`...), content...)
	out = matrix.AppendString(append(out, `,"event_id":`...), e.ID)
	out = strconv.AppendInt(append(out, `,"origin_server_ts":`...), e.OriginServerTS, 10)
	if e.Redacts != "" {
		out = matrix.AppendString(append(out, `,"redacts":`...), e.Redacts) // older clients look here
	}
	out = matrix.AppendString(append(out, `,"sender":`...), e.Sender)
	if e.StateKey != nil {
		out = matrix.AppendString(append(out, `,"state_key":`...), *e.StateKey)
	}
	c.head = matrix.AppendString(append(out, `,"type":`...), e.Type)
	return c
}

func withRedacts(content []byte, target string) []byte {
	if (&matrix.Event{Content: content}).ContentString("redacts") != "" {
		return content
	}
	out := matrix.AppendString([]byte(`{"redacts":`), target)
	if len(content) > 2 {
		out = append(out, ',')
	}
	return append(out, content[1:]...)
}

// AppendJSON appends the event as the view shows it.
func (c *ClientEvent) AppendJSON(dst []byte, v View) []byte {
	if v.Federation {
		dst = append(dst, c.JSON[:len(c.JSON)-1]...)
		if !c.Version.EventIDInEvent() {
			dst = matrix.AppendString(append(dst, `,"event_id":`...), c.ID)
		}
	} else {
		dst = append(dst, c.head...)
		if v.RoomID {
			dst = matrix.AppendString(append(dst, `,"room_id":`...), c.RoomID)
		}
	}
	dst = append(dst, `,"unsigned":{"age":`...)
	dst = strconv.AppendInt(dst, max(v.Now-c.OriginServerTS, 0), 10)
	if v.Membership != "" {
		dst = matrix.AppendString(append(dst, `,"membership":`...), v.Membership)
	}
	if c.Replaced != nil {
		dst = append(append(dst, `,"prev_content":`...), c.Replaced.Content...)
		dst = matrix.AppendString(append(dst, `,"replaces_state":`...), c.Replaced.ID)
	}
	if c.Redaction != nil {
		dst = c.Redaction.AppendJSON(append(dst, `,"redacted_because":`...), View{RoomID: v.RoomID, Now: v.Now, UserID: v.UserID, Device: v.Device})
	}
	if c.TxnID != "" && v.Device != "" && c.Device == v.Device && c.Sender == v.UserID {
		dst = matrix.AppendString(append(dst, `,"transaction_id":`...), c.TxnID)
	}
	return append(dst, "}}"...)
}

// AppendStripped appends the event as stripped state: content, sender, state_key
// and type (client-server API, "Stripped state").
func AppendStripped(dst []byte, e *matrix.Event) []byte {
	dst = append(append(dst, `{"content":`...), e.Content...)
	dst = matrix.AppendString(append(dst, `,"sender":`...), e.Sender)
	if e.StateKey != nil {
		dst = matrix.AppendString(append(dst, `,"state_key":`...), *e.StateKey)
	}
	return append(matrix.AppendString(append(dst, `,"type":`...), e.Type), '}')
}

// Render readies events for clients: it adds what they replaced and what
// redacted them, with one query for all.
func (r *Rooms) Render(ctx context.Context, events []storage.Event) ([]*ClientEvent, error) {
	var others []int64
	for i := range events {
		if events[i].Replaces != 0 {
			others = append(others, int64(events[i].Replaces))
		}
		if events[i].RedactedBy != 0 {
			others = append(others, int64(events[i].RedactedBy))
		}
	}
	found, err := r.db.EventsByPos(ctx, others)
	if err != nil {
		return nil, err
	}
	byPos := make(map[int64]*storage.Event, len(found))
	for i := range found {
		byPos[int64(found[i].Pos)] = &found[i]
	}
	rendered := make([]*ClientEvent, len(events))
	for i := range events {
		c := NewClientEvent(&events[i])
		if e := byPos[int64(c.Replaces)]; e != nil {
			c.Replaced = e.Event
		}
		if e := byPos[int64(c.RedactedBy)]; e != nil {
			c.Redaction = NewClientEvent(e)
		}
		rendered[i] = c
	}
	return rendered, nil
}
