package syncapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// eventsRequest is GET /events, the event stream from before /sync.
type eventsRequest struct {
	From    string `query:"from"`
	Timeout *int64 `query:"timeout"`
	RoomID  string `query:"room_id"`
}

// usualTimeout is how long a client waits for events that does not say it.
const usualTimeout = 30 * time.Second

// events is GET /events, of all rooms or of one, which guests and others may look into
// (client-server API, "Room previews").
func (a *API) events(ctx context.Context, who *account.Caller, req *eventsRequest) (*eventStream, error) {
	if who.Guest && req.RoomID == "" {
		return nil, matrix.GuestAccessForbidden
	}
	q := &query{userID: who.UserID, device: who.DeviceID, filter: &matrix.Filter{}, stateKey: stateBefore, limit: maxTimeline}
	if req.RoomID != "" {
		if err := a.onlyRoom(ctx, q, req.RoomID); err != nil {
			return nil, err
		}
	}
	q.token = a.db.Clock.Current()
	if req.From != "" {
		var err error
		if q.token, _, err = parseToken(req.From); err != nil {
			return nil, err
		}
	}
	q.since = q.token
	timeout := usualTimeout
	if req.Timeout != nil {
		timeout = time.Duration(min(max(*req.Timeout, 0), maxTimeout.Milliseconds())) * time.Millisecond
	}
	ended := a.presence.Seen(who.UserID, who.DeviceID, "")
	defer ended()
	answer, err := a.awaitAnswer(ctx, q, timeout)
	return (*eventStream)(answer), err
}

// onlyRoom lets the query be of one room alone. [matrix.Forbidden]: the user may not
// read it.
func (a *API) onlyRoom(ctx context.Context, q *query, roomID string) error {
	access, err := a.rooms.Access(ctx, roomID, q.userID)
	if err == nil {
		access, err = a.rooms.Settled(ctx, access)
	}
	if err != nil {
		return err
	}
	if access.Membership != "join" && access.Left == 0 {
		q.peek = &access.Room
	}
	none := map[string]any{"types": []string{}}
	text, err := json.Marshal(map[string]any{
		"presence": none, "account_data": none,
		"room": map[string]any{"rooms": []string{roomID}, "include_leave": access.Left != 0},
	})
	if err != nil {
		return err
	}
	q.filter, err = matrix.ParseFilter(text)
	return err
}

// eventStream is the answer to GET /events: what is new, as one list.
type eventStream answer

// AppendJSON appends start, end and chunk: first the events of rooms, in the order of
// their coming, then what is no event of a room.
func (s *eventStream) AppendJSON(dst []byte) []byte {
	a := (*answer)(s)
	w := newWriter(a, dst)
	w.token(`{"start":`, int64(a.token))
	w.token(`,"end":`, int64(a.upTo))
	w.text(`,"chunk":[`)
	start := len(w.dst)
	for _, e := range a.news() {
		w.comma(len(w.dst) - start)
		w.streamed(&e)
	}
	for _, p := range a.presence {
		w.comma(len(w.dst) - start)
		w.present(p)
	}
	for _, r := range a.joined {
		if r.typed || len(r.receipts) > 0 {
			w.comma(len(w.dst) - start)
			w.ephemeralEvents(r, r.id)
		}
		for _, d := range r.accountData {
			w.comma(len(w.dst) - start)
			w.data(d, r.id)
		}
	}
	for _, d := range a.accountData {
		w.comma(len(w.dst) - start)
		w.data(d, "")
	}
	w.text(`]}`)
	return w.dst
}

// newWriter writes events with the ids of their rooms.
func newWriter(a *answer, dst []byte) *writer {
	view := roomserver.View{UserID: a.userID, Device: a.device, RoomID: true, Now: time.Now().UnixMilli()}
	return &writer{answer: a, dst: slices.Grow(dst, a.size()), view: view}
}

// token appends a token of /sync after the text.
func (w *writer) token(before string, pos int64) {
	w.text(before)
	w.dst = append(strconv.AppendInt(append(w.dst, `"s`...), pos, 10), '"')
}

// streamed is an event of the stream.
type streamed struct {
	*roomserver.ClientEvent
	membership string
	invite     *invite // what it is the member event of; nil for other events
}

// news are the events of rooms that came after the client's token.
func (a *answer) news() []streamed {
	var all []streamed
	for _, r := range slices.Concat(a.joined, a.left) {
		if !r.peeked { // of whose events each has to be visible
			for _, e := range r.state {
				all = append(all, streamed{ClientEvent: e})
			}
		}
		for i := range r.timeline {
			all = append(all, streamed{ClientEvent: r.timeline[i].rendered, membership: r.timeline[i].membership})
		}
	}
	for _, i := range slices.Concat(a.invites, a.knocks) {
		all = append(all, streamed{ClientEvent: i.event, membership: i.event.Membership(), invite: i})
	}
	// A client asks for the state of a room that it comes into.
	all = slices.DeleteFunc(all, func(e streamed) bool { return e.At <= a.token })
	slices.SortStableFunc(all, func(a, b streamed) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Order, b.Order)) })
	return all
}

func (w *writer) streamed(e *streamed) {
	if e.invite != nil {
		w.invited(e.invite)
		return
	}
	w.view.Membership = e.membership
	w.dst = e.AppendJSON(w.dst, w.view)
}

// invited appends the member event of an invite or a knock, with the room's stripped
// state in unsigned.
func (w *writer) invited(i *invite) {
	w.view.Membership = i.event.Membership()
	w.dst = i.event.AppendJSON(w.dst, w.view)
	if i.stripped == nil {
		return
	}
	w.dst = w.dst[:len(w.dst)-len(`}}`)]
	w.text(`,"` + i.event.Membership() + `_room_state":`)
	w.dst = append(append(w.dst, i.stripped...), `}}`...)
}

// eventRequest is GET /events/{eventId}.
type eventRequest struct {
	EventID string `path:"eventID"`
}

// event is GET /events/{eventId}.
func (a *API) event(ctx context.Context, who *account.Caller, req *eventRequest) (*oneEvent, error) {
	found, err := a.db.EventByID(ctx, req.EventID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, matrix.NotFound.With("There is no such event, or you may not see it")
	} else if err != nil {
		return nil, err
	}
	e, membership, err := a.rooms.Event(ctx, found.RoomID, who.UserID, req.EventID)
	view := roomserver.View{UserID: who.UserID, Device: who.DeviceID, Membership: membership, RoomID: true, Now: time.Now().UnixMilli()}
	return &oneEvent{e, view}, err
}

// oneEvent answers with an event.
type oneEvent struct {
	event *roomserver.ClientEvent
	view  roomserver.View
}

// AppendJSON writes the event.
func (o *oneEvent) AppendJSON(dst []byte) []byte { return o.event.AppendJSON(dst, o.view) }
