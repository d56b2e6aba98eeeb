package clientapi

import (
	"context"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
)

type messagesRequest struct {
	RoomID string `path:"roomID"`
	From   string `query:"from"`
	To     string `query:"to"`
	Dir    string `query:"dir"`
	Limit  *int   `query:"limit"`
	Filter string `query:"filter"`
}

// messagesAnswer is a page of a timeline.
type messagesAnswer struct {
	page  roomserver.Page
	state []*roomserver.ClientEvent
	view  roomserver.View
}

// AppendJSON writes chunk, start, end and state.
func (m *messagesAnswer) AppendJSON(dst []byte) []byte {
	dst = appendShown(append(dst, `{"chunk":`...), m.page.Events, m.view)
	dst = matrix.AppendString(append(dst, `,"start":`...), m.page.Start.String())
	if m.page.More {
		dst = matrix.AppendString(append(dst, `,"end":`...), m.page.End.String())
	}
	if len(m.state) > 0 {
		dst = appendEvents(append(dst, `,"state":`...), m.state, m.view)
	}
	return append(dst, '}')
}

// messages is GET /rooms/{roomId}/messages.
func (a *API) messages(ctx context.Context, who *account.Caller, req *messagesRequest) (*messagesAnswer, error) {
	filter, err := parseRoomFilter(req.Filter)
	if err != nil {
		return nil, err
	}
	q, err := a.pageQuery(req, filter)
	if err != nil {
		return nil, err
	}
	access, err := a.rooms.Access(ctx, req.RoomID, who.UserID)
	if err != nil {
		return nil, err
	}
	answer := &messagesAnswer{view: view(who)}
	if !filter.AllowsRoom(req.RoomID) {
		answer.page.Start = q.From
		return answer, nil
	}
	if answer.page, err = a.rooms.Messages(ctx, access, q); err != nil {
		return nil, err
	}
	if filter.LazyLoadMembers && len(answer.page.Events) > 0 {
		events := answer.page.Events
		answer.state, err = a.rooms.MembersAt(ctx, events[0].ClientEvent.Event, senders(events))
	}
	return answer, err
}

func (a *API) pageQuery(req *messagesRequest, filter *matrix.RoomEventFilter) (q roomserver.PageQuery, err error) {
	switch req.Dir {
	case "b":
		q.Backwards = true
	case "f":
	case "":
		return q, matrix.MissingParam.With("dir is missing: b for backwards, f for forwards")
	default:
		return q, matrix.InvalidParam.With("dir must be b or f")
	}
	if q.From, err = a.rooms.FirstToken(req.From, q.Backwards); err != nil {
		return q, err
	}
	if req.To != "" {
		if q.To, err = roomserver.ParseToken(req.To); err != nil {
			return q, err
		}
	}
	if q.Limit, err = pageLimit(req.Limit, filter.LimitOr(10), matrix.MaxFilterLimit); err != nil {
		return q, err
	}
	q.Keep = filter.AllowsEvent
	return q, nil
}

// parseRoomFilter reads a RoomEventFilter from a query parameter; none keeps all.
func parseRoomFilter(text string) (*matrix.RoomEventFilter, error) {
	if text == "" {
		return &matrix.RoomEventFilter{}, nil
	}
	return matrix.ParseRoomEventFilter([]byte(text))
}

// senders are the users who sent the events, each once.
func senders(events []roomserver.Shown) []string {
	seen := map[string]bool{}
	ids := []string{}
	for _, e := range events {
		if !seen[e.Sender] {
			seen[e.Sender] = true
			ids = append(ids, e.Sender)
		}
	}
	return ids
}

type eventRequest struct {
	RoomID  string `path:"roomID"`
	EventID string `path:"eventID"`
}

// event is GET /rooms/{roomId}/event/{eventId}.
func (a *API) event(ctx context.Context, who *account.Caller, req *eventRequest) (*oneEvent, error) {
	e, membership, err := a.rooms.Event(ctx, req.RoomID, who.UserID, req.EventID)
	if err != nil {
		return nil, err
	}
	v := view(who)
	v.Membership = membership
	return &oneEvent{e, v}, nil
}

type contextRequest struct {
	RoomID  string `path:"roomID"`
	EventID string `path:"eventID"`
	Limit   *int   `query:"limit"`
	Filter  string `query:"filter"`
}

// contextAnswer are the events around an event.
type contextAnswer struct {
	*roomserver.Context
	view roomserver.View
}

// AppendJSON writes event, events_before, events_after, start, end and state.
func (c *contextAnswer) AppendJSON(dst []byte) []byte {
	v := c.view
	v.Membership = c.Event.Membership
	dst = c.Event.AppendJSON(append(dst, `{"event":`...), v)
	dst = appendShown(append(dst, `,"events_before":`...), c.Before, c.view)
	dst = appendShown(append(dst, `,"events_after":`...), c.After, c.view)
	dst = matrix.AppendString(append(dst, `,"start":`...), c.Start.String())
	dst = matrix.AppendString(append(dst, `,"end":`...), c.End.String())
	return append(appendEvents(append(dst, `,"state":`...), c.State, c.view), '}')
}

// eventContext is GET /rooms/{roomId}/context/{eventId}.
func (a *API) eventContext(ctx context.Context, who *account.Caller, req *contextRequest) (*contextAnswer, error) {
	filter, err := parseRoomFilter(req.Filter)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(req.Limit, 10, 100)
	if err != nil {
		return nil, err
	}
	if req.Limit != nil && *req.Limit == 0 {
		limit = 0 // the event and the state alone
	}
	if !filter.LazyLoadMembers {
		if err := a.rooms.AwaitMembers(ctx, req.RoomID); err != nil {
			return nil, err
		}
	}
	found, err := a.rooms.Context(ctx, req.RoomID, who.UserID, req.EventID, limit, filter.AllowsEvent)
	if err != nil {
		return nil, err
	}
	if filter.LazyLoadMembers {
		found.State = onlyMembersOf(found)
	}
	return &contextAnswer{found, view(who)}, nil
}

// onlyMembersOf leaves out the members who sent none of the events.
func onlyMembersOf(c *roomserver.Context) []*roomserver.ClientEvent {
	sent := map[string]bool{c.Event.Sender: true}
	for _, events := range [][]roomserver.Shown{c.Before, c.After} {
		for _, e := range events {
			sent[e.Sender] = true
		}
	}
	kept := []*roomserver.ClientEvent{}
	for _, e := range c.State {
		if e.Type != "m.room.member" || sent[*e.StateKey] {
			kept = append(kept, e)
		}
	}
	return kept
}
