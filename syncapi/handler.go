// Package syncapi tells clients what is new: GET /sync, and GET /events and GET
// /initialSync for those from before it. A user's newest events
// come from the window of the log; who has fallen behind, or begins, is served
// from the database, with a number of queries that does not depend on the number
// of rooms.
package syncapi

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/account"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
	"beep/web"
)

const (
	// maxTimeout is the longest that a client may wait.
	maxTimeout = 5 * time.Minute
	// knownRooms is of how many rooms the id and version stay in memory.
	knownRooms = 10_000
)

// Options are what the API stands on.
type Options struct {
	DB       *storage.DB
	Rooms    *roomserver.Rooms
	Accounts *account.Accounts
	Filters  *account.Filters
	Presence *account.Presence
	Typing   *roomserver.Typing
	// Logger takes what happens in the background; nil discards it.
	Logger *slog.Logger
}

// API has the handlers of GET /sync and of the endpoints that were there before it.
type API struct {
	db          *storage.DB
	rooms       *roomserver.Rooms
	accounts    *account.Accounts
	filters     *account.Filters
	presence    *account.Presence
	typing      *roomserver.Typing
	sessions    *sessions
	lazy        *lazyDevices
	inboxes     *inboxes
	infos       *lru.Cache[int64, storage.RoomInfo]
	connections *connections
	started     stream.Pos // what came up to here came before the program was started
}

// New is the API over these parts. Call [API.Run] beside it.
func New(o Options) *API {
	// The constructor fails only for a size that is not positive.
	infos, _ := lru.New[int64, storage.RoomInfo](knownRooms)
	return &API{
		db: o.DB, rooms: o.Rooms, accounts: o.Accounts, filters: o.Filters, presence: o.Presence, typing: o.Typing,
		connections: newConnections(), sessions: newSessions(o.DB), lazy: newLazyDevices(), inboxes: newInboxes(o.DB), infos: infos, started: o.DB.Clock.Current(),
	}
}

// Run wakes the clients that wait, until the context is done.
func (a *API) Run(ctx context.Context) error {
	a.sessions.run(ctx)
	return nil
}

// Routes registers the API.
func (a *API) Routes(rt *web.Router) {
	const v3 = "/_matrix/client/v3"
	web.GET(rt, v3+"/sync", a.user, a.sync, web.LongPoll())
	web.POST(rt, "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", a.user, a.slide, web.LongPoll(), web.MaxBody(maxSlidingBody))
	web.GET(rt, v3+"/keys/changes", a.user, a.keyChanges, web.Limit("other"))
	web.GET(rt, v3+"/events", a.user, a.events, web.LongPoll())
	web.GET(rt, v3+"/events/{eventID}", a.member, a.event)
	web.GET(rt, v3+"/initialSync", a.member, a.initialSync)
	web.GET(rt, v3+"/rooms/{roomID}/initialSync", a.user, a.roomInitialSync)
}

// user is the authentication: guests may sync.
func (a *API) user(r *http.Request) (*account.Caller, error) { return a.accounts.Authenticate(r) }

// member is the authentication of what is not for guests.
func (a *API) member(r *http.Request) (*account.Caller, error) { return a.accounts.AuthenticateUser(r) }

// syncRequest is GET /sync.
type syncRequest struct {
	Filter             string `query:"filter"`
	Since              string `query:"since"`
	FullState          bool   `query:"full_state"`
	SetPresence        string `query:"set_presence"`
	Timeout            int64  `query:"timeout"`
	StateAfter         bool   `query:"use_state_after"`
	UnstableStateAfter bool   `query:"org.matrix.msc4222.use_state_after"`
}

// query is a request that has been understood.
type query struct {
	userID, device string
	filter         *matrix.Filter
	initial        bool       // no since: everything
	token          stream.Pos // since, as the client gave it
	since          stream.Pos // what came up to here is no news
	inbox          stream.Pos // send-to-device messages up to here have arrived
	devices        bool       // messages, device lists and counts of keys are told
	fullState      bool
	stateKey       string // the name of the section with the state
	limit          int    // of a room's timeline
	// peek is a room that the user looks into without being in it; nil for none.
	peek *storage.Room
}

const (
	defaultTimeline = 10
	maxTimeline     = 200
)

// stateAfter tells whether the client wants the state at the end of the timeline.
func (q *query) stateAfter() bool { return q.stateKey != stateBefore }

// The names of the section with the state: before and after the timeline.
const (
	stateBefore        = "state"
	stateAfter         = "state_after"
	stateAfterUnstable = "org.matrix.msc4222.state_after"
)

func (a *API) query(ctx context.Context, who *account.Caller, req *syncRequest) (*query, error) {
	q := &query{userID: who.UserID, device: who.DeviceID, devices: true, fullState: req.FullState, stateKey: stateBefore}
	if err := checkPresence(req.SetPresence); err != nil {
		return nil, err
	}
	switch {
	case req.StateAfter:
		q.stateKey = stateAfter
	case req.UnstableStateAfter:
		q.stateKey = stateAfterUnstable
	}
	var err error
	if q.initial = req.Since == ""; !q.initial {
		if q.token, q.inbox, err = parseToken(req.Since); err != nil {
			return nil, err
		}
	}
	q.since = q.token
	if q.filter, err = a.filters.Get(ctx, who.UserID, req.Filter); err != nil {
		return nil, err
	}
	q.limit = min(q.filter.Room.Timeline.LimitOr(defaultTimeline), maxTimeline)
	return q, nil
}

func checkPresence(presence string) error {
	switch presence {
	case "", account.Online, account.Offline, account.Unavailable:
		return nil
	}
	return matrix.InvalidParam.With("set_presence must be online, unavailable or offline")
}

// parseToken reads a token of /sync: s and the position. Where send-to-device messages are
// left for the next answer, _ and the position up to which the device has got them follow.
func parseToken(text string) (pos, inbox stream.Pos, err error) {
	number, second, limited := strings.Cut(text[1:], "_")
	n, err := strconv.ParseUint(number, 10, 63)
	m := n
	if err == nil && limited {
		m, err = strconv.ParseUint(second, 10, 63)
	}
	if text[0] != 's' || err != nil || n >= math.MaxInt64/storage.OrderScale || m > n {
		return 0, 0, matrix.InvalidParam.Withf("%q is not a token of /sync", text)
	}
	return stream.Pos(n), stream.Pos(m), nil
}

// sync is GET /sync.
func (a *API) sync(ctx context.Context, who *account.Caller, req *syncRequest) (*answer, error) {
	q, err := a.query(ctx, who, req)
	if err != nil {
		return nil, err
	}
	if !q.initial && q.device != "" {
		if err := a.inboxes.acknowledge(ctx, deviceKey{q.userID, q.device}, q.inbox); err != nil {
			return nil, err
		}
	}
	ended := a.presence.Seen(who.UserID, who.DeviceID, req.SetPresence)
	defer ended()
	wait := min(max(req.Timeout, 0), maxTimeout.Milliseconds())
	if q.initial || q.fullState {
		wait = 0
	}
	return a.awaitAnswer(ctx, q, time.Duration(wait)*time.Millisecond)
}

// awaitAnswer answers as soon as there is something to tell, or when time is up.
func (a *API) awaitAnswer(ctx context.Context, q *query, timeout time.Duration) (*answer, error) {
	var answer *answer
	err := a.await(ctx, q, timeout, func(v view) (bool, error) {
		var err error
		answer, err = a.answer(ctx, q, v)
		return err == nil && !answer.empty(), err
	})
	return answer, err
}

// await looks for an answer each time that something may concern the user, until there is one
// or time is up.
func (a *API) await(ctx context.Context, q *query, timeout time.Duration, look func(view) (found bool, err error)) error {
	timeUp := time.NewTimer(timeout)
	defer timeUp.Stop()
	last := timeout == 0
	for {
		err := a.follow(ctx, q, timeUp.C, &last, look)
		if !errors.Is(err, errDead) {
			return err
		}
	}
}

// errDead tells that the session has lost sight of the log.
var errDead = errors.New("the session is dead")

// follow is await for as long as the user's session lives. last is set when there
// is no time left to wait.
func (a *API) follow(ctx context.Context, q *query, timeUp <-chan time.Time, last *bool, look func(view) (bool, error)) error {
	s, err := a.sessions.acquire(ctx, q.userID)
	if err != nil {
		return err
	}
	defer a.sessions.release(s)
	if q.peek != nil {
		a.sessions.peek(s, q.peek.Number)
		defer a.sessions.unpeek(s, q.peek.Number)
	}
	for {
		v := a.sessions.look(s, q.since)
		if v.dead {
			return errDead
		}
		// A token from the future is from before a backup was restored.
		q.since = min(q.since, v.upTo)
		found, err := look(v)
		if err != nil || *last || found {
			return err
		}
		q.since = v.upTo
		first := a.sessions.wait(ctx, s, q.since, timeUp)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if *last = first == 0; !*last {
			q.since = max(q.since, first-1)
		}
	}
}

// answer gathers what is new for the user as of the view.
func (a *API) answer(ctx context.Context, q *query, v view) (*answer, error) {
	g := newGathering(a, q, v)
	var err error
	switch {
	case q.initial:
		err = g.everything(ctx)
	case v.quiet && !q.fullState && q.peek == nil && !q.backlog():
	default:
		if err = g.fromWindow(ctx); errors.Is(err, errWindow) {
			g = newGathering(a, q, v)
			err = g.fromDatabase(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	if !g.devices {
		return g.answer, nil
	}
	return g.answer, g.addCounts(ctx)
}
