package syncapi

import (
	"context"
	"slices"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
)

// initialSyncRequest is GET /initialSync.
type initialSyncRequest struct {
	Limit    *int `query:"limit"`
	Archived bool `query:"archived"`
}

// initialSync is GET /initialSync, which begins what GET /events goes on with.
func (a *API) initialSync(ctx context.Context, who *account.Caller, req *initialSyncRequest) (*wholeState, error) {
	q := &query{userID: who.UserID, device: who.DeviceID, filter: &matrix.Filter{}}
	q.filter.Room.IncludeLeave = req.Archived
	return a.begin(ctx, q, req.Limit)
}

type roomInitialSyncRequest struct {
	RoomID string `path:"roomID"`
	Limit  *int   `query:"limit"`
}

// roomInitialSync is GET /rooms/{roomId}/initialSync.
func (a *API) roomInitialSync(ctx context.Context, who *account.Caller, req *roomInitialSyncRequest) (*roomState, error) {
	q := &query{userID: who.UserID, device: who.DeviceID}
	if err := a.onlyRoom(ctx, q, req.RoomID); err != nil {
		return nil, err
	}
	s, err := a.begin(ctx, q, req.Limit)
	if err != nil {
		return nil, err
	}
	if len(s.joined)+len(s.left) == 0 {
		return nil, matrix.Forbidden.With("You have left the room")
	}
	return (*roomState)(s), nil
}

// begin gathers all that there is, with the last events of each room.
func (a *API) begin(ctx context.Context, q *query, limit *int) (*wholeState, error) {
	// The whole state has the events of the timeline in it, too.
	q.initial, q.stateKey, q.limit = true, stateAfter, defaultTimeline
	if limit != nil {
		if *limit < 0 {
			return nil, matrix.InvalidParam.With("limit must not be negative")
		}
		q.limit = min(*limit, maxTimeline)
	}
	ended := a.presence.Seen(q.userID, q.device, "")
	defer ended()
	answer, err := a.awaitAnswer(ctx, q, 0)
	if err != nil {
		return nil, err
	}
	published, err := a.published(ctx, answer)
	return &wholeState{answer, published}, err
}

// published are the numbers of those rooms that stand in the room directory.
func (a *API) published(ctx context.Context, answer *answer) (map[int64]bool, error) {
	var numbers []int64
	for _, r := range slices.Concat(answer.joined, answer.left) {
		numbers = append(numbers, r.number)
	}
	for _, i := range answer.invites {
		numbers = append(numbers, i.event.Room)
	}
	rooms, err := a.db.Rooms(ctx, numbers)
	published := make(map[int64]bool, len(rooms))
	for i := range rooms {
		published[rooms[i].Number] = rooms[i].Published
	}
	return published, err
}

// wholeState is the answer to GET /initialSync.
type wholeState struct {
	*answer
	published map[int64]bool
}

// AppendJSON appends end, presence, account_data and rooms.
func (s *wholeState) AppendJSON(dst []byte) []byte {
	w := newWriter(s.answer, dst)
	w.token(`{"end":`, int64(s.upTo))
	w.text(`,"presence":[`)
	for i, p := range s.presence {
		w.comma(i)
		w.present(p)
	}
	w.text(`],"account_data":`)
	w.dataList(s.accountData)
	w.text(`,"rooms":[`)
	start := len(w.dst)
	for _, r := range slices.Concat(s.joined, s.left) {
		w.comma(len(w.dst) - start)
		w.roomInfo(r, s.published[r.number])
	}
	for _, i := range s.invites {
		w.comma(len(w.dst) - start)
		w.infoHead(i.event.RoomID, "invite", s.published[i.event.Room])
		w.text(`,"invite":`)
		w.invited(i)
		w.text(`}`)
	}
	w.text(`]}`)
	return w.dst
}

// roomState is the answer to GET /rooms/{roomId}/initialSync: what [wholeState] has of
// the one room.
type roomState wholeState

// AppendJSON appends the room.
func (s *roomState) AppendJSON(dst []byte) []byte {
	w := newWriter(s.answer, dst)
	r := slices.Concat(s.joined, s.left)[0]
	w.roomInfo(r, s.published[r.number])
	return w.dst
}

// membership is the user's in the room, "" for one who only looks into it.
func (r *room) membership() string {
	switch {
	case r.peeked:
		return ""
	case !r.left:
		return "join"
	case r.own != nil:
		return r.own.Event.Membership()
	}
	return r.end.Membership()
}

// infoHead begins what is told of a room.
func (w *writer) infoHead(roomID, membership string, published bool) {
	w.dst = matrix.AppendString(append(w.dst, `{"room_id":`...), roomID)
	if membership != "" {
		w.dst = matrix.AppendString(append(w.dst, `,"membership":`...), membership)
	}
	if published {
		w.text(`,"visibility":"public"`)
	} else {
		w.text(`,"visibility":"private"`)
	}
}

func (w *writer) roomInfo(r *room, published bool) {
	w.infoHead(r.id, r.membership(), published)
	w.dst = matrix.AppendString(append(w.dst, `,"messages":{"start":`...), r.prevBatch(roomserver.TokenAt(w.upTo)).String())
	w.token(`,"end":`, int64(w.upTo))
	w.text(`,"chunk":[`)
	for i, e := range r.timeline {
		w.comma(i)
		w.view.Membership = e.membership
		w.event(e.rendered)
	}
	w.text(`]},"state":[`)
	w.view.Membership = ""
	for i, e := range r.state {
		w.comma(i)
		w.event(e)
	}
	w.text(`],"account_data":`)
	w.dataList(r.accountData)
	w.text(`}`)
}
