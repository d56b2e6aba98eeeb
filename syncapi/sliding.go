package syncapi

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/stream"
)

// Simplified sliding sync (MSC4186, in the form of its unstable endpoint): the client names
// rooms by lists and subscriptions, the connection knows what of them it was sent, and an answer
// is a gathering like that of /sync whose rooms begin each where the client left off.

// slidingRequest is POST /sync of simplified sliding sync.
type slidingRequest struct {
	Pos         string `query:"pos"`
	Timeout     int64  `query:"timeout"`
	SetPresence string `query:"set_presence"`
	Body        slidingBody
}

type slidingBody struct {
	ConnID        string                  `json:"conn_id"`
	TxnID         string                  `json:"txn_id"`
	Lists         map[string]listRequest  `json:"lists"`
	Subscriptions map[string]roomsRequest `json:"room_subscriptions"`
	Extensions    extensions              `json:"extensions"`
}

// sliding is what a gathering for sliding sync has besides that of /sync.
type sliding struct {
	turn       *turn
	rules      *rules
	extensions *extensions
	matched    map[int64]*match
	counts     []int              // of the rooms in each list
	departed   map[int64]sentRoom // what was told of rooms that are in no list any more
}

// slide is POST /sync of simplified sliding sync.
func (a *API) slide(ctx context.Context, who *account.Caller, req *slidingRequest) (*slidingAnswer, error) {
	if err := checkPresence(req.SetPresence); err != nil {
		return nil, err
	}
	rules, err := newRules(&req.Body)
	if err != nil {
		return nil, err
	}
	inbox, err := req.Body.Extensions.ToDevice.since()
	if err != nil {
		return nil, err
	}
	turn, err := a.connections.begin(ctx, connectionKey{who.UserID, who.DeviceID, req.Body.ConnID}, req.Pos)
	if err != nil {
		return nil, err
	}
	defer turn.end()
	if inbox > 0 && who.DeviceID != "" {
		if err := a.inboxes.acknowledge(ctx, deviceKey{who.UserID, who.DeviceID}, min(inbox, a.db.Clock.Current())); err != nil {
			return nil, err
		}
	}
	ended := a.presence.Seen(who.UserID, who.DeviceID, req.SetPresence)
	defer ended()
	s := &sliding{turn: turn, rules: rules, extensions: &req.Body.Extensions}
	answer, err := a.awaitSliding(turn.ctx, s, a.slidingQuery(who, s, inbox), req.Timeout)
	if errors.Is(context.Cause(turn.ctx), errSuperseded) || err == nil && !turn.settle(answer) {
		return turn.unchanged()
	}
	if err != nil {
		return nil, err
	}
	answer.txnID = req.Body.TxnID
	return answer, nil
}

func (a *API) slidingQuery(who *account.Caller, s *sliding, inbox stream.Pos) *query {
	base := &s.turn.base
	return &query{
		userID: who.UserID, device: who.DeviceID, filter: &matrix.Filter{}, stateKey: stateAfter,
		initial: base.initial(), token: base.upTo, since: base.upTo, inbox: inbox, devices: s.extensions.ToDevice.Enabled,
	}
}

// awaitSliding answers as soon as there is something to tell, or when time is up.
func (a *API) awaitSliding(ctx context.Context, s *sliding, q *query, timeout int64) (*slidingAnswer, error) {
	if q.initial {
		timeout = 0
	}
	var answer *slidingAnswer
	seen := stream.Pos(0) // nothing up to here is news
	wait := min(max(timeout, 0), maxTimeout.Milliseconds())
	err := a.await(ctx, q, time.Duration(wait)*time.Millisecond, func(v view) (bool, error) {
		if answer != nil && !a.mayTell(s, q, v, seen) {
			answer.upTo, seen = v.upTo, v.upTo
			return false, nil
		}
		var err error
		answer, err = a.answerSliding(ctx, *s, *q, v)
		seen = v.upTo
		return err == nil && !answer.empty(), err
	})
	return answer, err
}

// mayTell tells whether something after a position may be for the client: it saves looking
// at all rooms for what the client does not want to hear of.
func (a *API) mayTell(s *sliding, q *query, v view, after stream.Pos) bool {
	found := false
	ok := a.db.Log.Range(after, v.upTo, func(e *stream.Entry) bool {
		found = s.concerns(q, v.snapshot, e)
		return !found
	})
	return !ok || found
}

func (s *sliding) concerns(q *query, now *snapshot, e *stream.Entry) bool {
	switch e.Kind {
	case stream.Event, stream.State, stream.Whole:
		_, known := now.places[e.Room]
		return known || slices.ContainsFunc(eventsOf(e), func(event *roomserver.ClientEvent) bool {
			return event.StateKey != nil && *event.StateKey == q.userID
		})
	case stream.Typing:
		return s.extensions.Typing.Enabled && now.joined(e.Room)
	case stream.Receipt:
		return s.extensions.Receipts.Enabled && now.joined(e.Room)
	case stream.AccountData:
		return e.User == q.userID
	case stream.DeviceList:
		return s.extensions.E2EE.Enabled
	case stream.KeyCounts:
		return s.extensions.E2EE.Enabled
	case stream.ToDevice:
		return s.extensions.ToDevice.Enabled
	}
	return false
}

// answerSliding gathers what is new for the connection as of the view.
func (a *API) answerSliding(ctx context.Context, s sliding, q query, v view) (*slidingAnswer, error) {
	q.since = min(s.turn.base.upTo, v.upTo)
	gather := func(from func(*gathering, context.Context) error) (*gathering, error) {
		slides := s
		g := newGathering(a, &q, v)
		g.sliding = &slides
		g.sent, g.batch = s.turn.members(a.lazy), s.turn.next
		return g, from(g, ctx)
	}
	g, err := gather((*gathering).slideFromWindow)
	if errors.Is(err, errWindow) {
		g, err = gather((*gathering).slideFromDatabase)
	}
	if err != nil {
		return nil, err
	}
	if err := g.finishKeyCounts(ctx); err != nil {
		return nil, err
	}
	return &slidingAnswer{answer: g.answer, sliding: g.sliding, rooms: g.order}, nil
}

// finishKeyCounts adds the numbers of the device's keys, and that they are news to a client
// that has just begun to ask for them.
func (g *gathering) finishKeyCounts(ctx context.Context) error {
	if !g.sliding.extensions.E2EE.Enabled {
		return nil
	}
	err := g.addCounts(ctx)
	g.answer.counted = g.answer.counted || g.device != "" && g.sliding.begins(extensionE2EE)
	return err
}

// position is what an answer's pos says: the client may use it where it may use a token of /sync.
func position(upTo stream.Pos, connection string, number stream.Pos) string {
	return "s" + strconv.FormatInt(int64(upTo), 10) + "_" + connection + "_" + strconv.FormatInt(int64(number), 10)
}
