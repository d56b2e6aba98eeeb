package syncapi

import (
	"context"
	"errors"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// gathering is an answer in the making.
type gathering struct {
	*query
	view
	api    *API
	answer *answer

	rooms     map[int64]*room // by number; nil for rooms of which nothing is told
	order     []*room         // those that are not nil, in the order of their coming
	presence  map[string]storage.Presence
	newcomers map[string]struct{} // who came into a room that the user was in already
	sent      *sentMembers        // what the device has got; nil without lazy loading
	batch     stream.Pos          // what this answer is called in sent
	sliding   *sliding            // nil for /sync
	around                        // whose devices may have changed
}

// room is what is told of a room that the user is in or has left.
type room struct {
	number int64
	id     string
	left   bool
	// fresh tells that the client has no state of the room yet, or wants all of it.
	fresh bool
	// joined tells that the user has come into the room since the client's token.
	joined bool
	// checked tells that the user was not in the room all the time, so that some
	// events may be hidden.
	checked bool
	// peeked tells that the user is not in the room.
	peeked bool
	// stored tells that the timeline comes from the database.
	stored bool
	limit  int // of the timeline
	load   int // how many of its events are loaded at first, limit or a little more
	// sent is what sliding sync is to tell of the room; nil for /sync.
	match *match

	from stream.Pos              // what is told is of from < pos <= end
	end  *roomserver.ClientEvent // the event with which the user left; nil: now
	own  *shown                  // the user's own member event, which is all that is told of the room

	events   []shown // those of the timeline's range that were looked at, in order
	complete bool    // these are all events of the range
	timeline []shown // what of them is shown
	limited  bool

	resets []*roomserver.ClientEvent // what became state though no event of the range brought it

	base    map[stateName]*storage.Event // the state at the end, or what has changed of it
	members map[string]struct{}          // whose member events the client needs to have
	state   []*roomserver.ClientEvent
	summary *summary

	recounted bool // the summary has changed though no event says so

	typed       bool
	typing      []string
	receipts    []storage.Receipt
	accountData []storage.AccountData
}

// shown is an event with the user's membership at it.
type shown struct {
	*storage.Event
	rendered   *roomserver.ClientEvent // nil until it is sure that it will be shown
	membership string                  // "" is not told
}

// stateName is a state event's type and key.
type stateName struct{ eventType, stateKey string }

func nameOf(e *matrix.Event) stateName { return stateName{e.Type, *e.StateKey} }

func newGathering(a *API, q *query, v view) *gathering {
	g := &gathering{
		query: q, view: v, api: a, answer: &answer{query: q, upTo: v.upTo},
		rooms: map[int64]*room{}, presence: map[string]storage.Presence{}, newcomers: map[string]struct{}{},
		around: newAround(),
	}
	if g.filter.Room.State.LazyLoadMembers {
		g.sent = a.lazy.device(deviceKey{q.userID, q.device}, q.token)
		g.batch = v.upTo
	}
	return g
}

// room gives what is being gathered of a room that the user is joined to or looks
// into; nil of a room of which nothing is told.
func (g *gathering) room(number int64) *room {
	if r, known := g.rooms[number]; known {
		return r
	}
	var r *room
	if g.sliding != nil {
		r = g.sliding.live(number)
	} else if p := g.places[number]; p.membership == "join" && !g.hides(p) {
		r = &room{number: number, id: p.roomID, from: g.since, fresh: g.fullState}
	} else if g.peek != nil && g.peek.Number == number {
		r = &room{number: number, id: g.peek.ID, from: g.since, checked: true, peeked: true}
	}
	return g.add(number, r)
}

// add takes up a room, unless it is nil or the filter wants nothing of it.
func (g *gathering) add(number int64, r *room) *room {
	if r != nil && !g.filter.Room.AllowsRoom(r.id) {
		r = nil
	}
	g.rooms[number] = r
	if r != nil {
		if r.match == nil {
			r.limit, r.load = g.limit, g.limit
		}
		g.order = append(g.order, r)
	}
	return r
}

// addJoined takes up all rooms that the user is joined to, and the one that the user
// looks into.
func (g *gathering) addJoined() {
	if g.peek != nil {
		g.room(g.peek.Number)
	}
	for number := range g.places {
		g.room(number)
	}
}

// numbers are the numbers of the rooms that are chosen.
func (g *gathering) numbers(choose func(*room) bool) []int64 {
	var list []int64
	for _, r := range g.order {
		if choose(r) {
			list = append(list, r.number)
		}
	}
	return list
}

// infos finds what it takes to read events of these rooms: their ids and versions,
// which never change.
func (g *gathering) infos(ctx context.Context, rooms []*room) (map[int64]storage.RoomInfo, error) {
	infos := make(map[int64]storage.RoomInfo, len(rooms))
	var missing []int64
	for _, r := range rooms {
		if info, known := g.api.infos.Get(r.number); known {
			infos[r.number] = info
		} else {
			missing = append(missing, r.number)
		}
	}
	loaded, err := g.api.db.RoomInfos(ctx, missing)
	for number, info := range loaded {
		infos[number] = info
		g.api.infos.Add(number, info)
	}
	return infos, err
}

// finish makes the answer of what was collected.
func (g *gathering) finish(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		g.timelines, g.states, g.summaries, g.lazyMembers, g.settleStates, g.finishPresence,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, r := range g.order {
		if r.left {
			g.answer.left = append(g.answer.left, r)
		} else if !r.empty() || g.initial || g.fullState {
			g.finishTyping(r)
			g.answer.joined = append(g.answer.joined, r)
		}
	}
	return nil
}

// empty tells that there is nothing new in the room.
func (r *room) empty() bool {
	return !r.joined && len(r.timeline) == 0 && !r.limited && len(r.state) == 0 && r.summary == nil &&
		!r.typed && len(r.receipts) == 0 && len(r.accountData) == 0
}

// errWindow tells that the window of the log cannot answer.
var errWindow = errors.New("the window does not reach back so far")
