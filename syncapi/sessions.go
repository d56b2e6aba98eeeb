package syncapi

import (
	"container/list"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
	"beep/web"
)

// What the memory of users who sync may hold: about 100 bytes a place.
const (
	maxSessions = 20_000
	maxPlaces   = 400_000
)

// loadTime is how long the loading of a user may take.
const loadTime = 10 * time.Second

// session is a user who syncs, or did lately. Its fields belong to sessions.mu,
// but for userID and ready.
type session struct {
	userID string
	ready  chan struct{} // closed when state or err is there

	state   *snapshot // as of sessions.cursor; nil while it is being loaded
	err     error
	pending []*stream.Entry // what came while it was being loaded
	dead    bool            // the log was not followed: state is of no use any more
	last    stream.Pos      // nothing after this one has concerned the user yet
	waiters []*waiter
	users   int           // requests under way
	idle    *list.Element // in sessions.idle, when there are none
}

// waiter is a request that waits.
type waiter struct {
	wake  chan struct{}
	first stream.Pos // the first position that may concern it; 0 for none yet
}

// sessions follow the log for everybody who syncs: they keep up to date who is in
// which room, and wake whom something new concerns. All of it is as of cursor.
type sessions struct {
	db        *storage.DB
	summaries *shared[int64, summary]
	presence  *shared[string, storage.Presence]
	counts    *shared[deviceKey, storage.KeyCounts]
	active    *activities

	most   int // sessions in memory
	mu     sync.Mutex
	cursor stream.Pos
	users  map[string]*session
	rooms  map[int64][]*session // who is joined or looks in, of those in users
	idle   *list.List           // sessions that nobody uses, the longest unused first
	places int
}

func newSessions(db *storage.DB) *sessions {
	return &sessions{
		db: db, most: maxSessions, summaries: newShared[int64, summary](sharedSummaries), presence: newShared[string, storage.Presence](sharedPresence),
		counts: newShared[deviceKey, storage.KeyCounts](sharedCounts), active: newActivities(db),
		cursor: db.Clock.Current(), users: map[string]*session{}, rooms: map[int64][]*session{}, idle: list.New(),
	}
}

// run follows the log until the context is done.
func (n *sessions) run(ctx context.Context) {
	for {
		n.mu.Lock()
		n.advance()
		after := n.cursor
		n.mu.Unlock()
		if _, err := n.db.Clock.Wait(ctx, after); err != nil {
			return
		}
	}
}

// advance reads the log up to now. It is called with mu held, by whoever needs
// to know the present: nobody waits for anybody.
func (n *sessions) advance() {
	upTo := n.db.Clock.Current()
	if upTo <= n.cursor {
		return
	}
	ok := n.db.Log.Range(n.cursor, upTo, func(e *stream.Entry) bool {
		n.apply(e)
		return true
	})
	n.cursor = upTo
	if !ok {
		n.reset()
	}
}

// reset forgets everything, as entries of the log were lost.
func (n *sessions) reset() {
	for _, s := range n.users {
		s.dead = true
		n.wake(s, n.cursor)
	}
	n.summaries.clear(n.cursor)
	n.presence.clear(n.cursor)
	n.counts.clear(n.cursor)
	n.active.clear()
	clear(n.users)
	clear(n.rooms)
	n.idle.Init()
	n.places = 0
}

// apply takes in one entry of the log.
func (n *sessions) apply(e *stream.Entry) {
	switch e.Kind {
	case stream.Event:
		n.applyEvent(e, e.Value.(*roomserver.ClientEvent))
	case stream.State:
		for _, event := range e.Value.([]*roomserver.ClientEvent) {
			n.applyEvent(&stream.Entry{Pos: e.Pos, Room: e.Room, Value: event}, event)
		}
	case stream.Whole:
		n.applyWhole(e)
	case stream.Typing:
		n.wakeRoom(e.Room, e.Pos)
	case stream.Receipt:
		if r, ok := e.Value.(storage.Receipt); ok && r.Type == privateReceipt {
			n.wakeUser(e.User, e.Pos)
		} else {
			n.wakeRoom(e.Room, e.Pos)
		}
	case stream.AccountData:
		n.own(e.User, e)
		n.wakeUser(e.User, e.Pos)
	case stream.Presence:
		n.presence.put(e.User, e.Value.(storage.Presence), e.Pos)
		n.wakeAround(e.User, e.Pos)
	case stream.DeviceList:
		if e.Value != nil { // for the user alone
			n.wakeUser(e.User, e.Pos)
		} else {
			n.wakeAround(e.User, e.Pos)
		}
	case stream.ToDevice:
		for userID := range e.Value.(storage.ToDevice).Devices {
			n.wakeUser(userID, e.Pos)
		}
	case stream.KeyCounts:
		for _, c := range e.Value.([]storage.KeyCounts) {
			n.counts.put(deviceKey{c.UserID, c.DeviceID}, c, e.Pos)
			n.wakeUser(c.UserID, e.Pos)
		}
	}
}

func (n *sessions) applyEvent(e *stream.Entry, event *roomserver.ClientEvent) {
	n.active.take(e, event.Event.Event)
	if changesSummary(event.Event.Event) {
		n.summaries.drop(e.Room, e.Pos)
	}
	n.wakeRoom(e.Room, e.Pos) // those who were in the room before
	if event.Type == "m.room.member" && event.StateKey != nil {
		n.own(*event.StateKey, e)
		n.wakeUser(*event.StateKey, e.Pos)
	}
}

// applyWhole takes in that all members of a room are known.
func (n *sessions) applyWhole(e *stream.Entry) {
	n.summaries.drop(e.Room, e.Pos)
	for _, s := range n.users {
		if s.state == nil {
			s.pending = append(s.pending, e)
		}
	}
	for _, s := range n.rooms[e.Room] {
		n.change(s, e)
	}
	n.wakeRoom(e.Room, e.Pos)
}

// wakeAround wakes whom something about a user concerns: all who share a room with the user.
func (n *sessions) wakeAround(userID string, pos stream.Pos) {
	s := n.users[userID]
	if s == nil || s.state == nil {
		// Whom it concerns only the database knows. Those who read the entry find out.
		for _, s := range n.users {
			n.wake(s, pos)
		}
		return
	}
	n.wakeUser(userID, pos)
	for room, p := range s.state.places {
		if p.membership == "join" {
			n.wakeRoom(room, pos)
		}
	}
}

// own brings a user's snapshot up to date with an entry about that user.
func (n *sessions) own(userID string, e *stream.Entry) {
	s := n.users[userID]
	switch {
	case s == nil:
	case s.state == nil:
		s.pending = append(s.pending, e)
	default:
		n.change(s, e)
	}
}

func (n *sessions) change(s *session, e *stream.Entry) {
	if e.Kind == stream.Whole {
		if p, known := s.state.places[e.Room]; known {
			p.whole = e.Pos
			places := maps.Clone(s.state.places)
			places[e.Room] = p
			s.state = s.state.in(places)
		}
		return
	}
	switch value := e.Value.(type) {
	case storage.AccountData:
		s.state = s.state.knowing(value)
	case *roomserver.ClientEvent:
		to := place{roomID: value.RoomID, membership: value.Membership(), pos: value.Pos, at: e.Pos, whole: s.state.places[e.Room].whole}
		if value.Partial {
			to.whole = storage.NotYet
		}
		n.move(s, e.Room, to, removes(value))
	}
}

// removes tells whether a member event puts somebody out of a room who was in it.
func removes(e *roomserver.ClientEvent) bool {
	return !keeps(e.Membership()) && before(e) == "join" && e.Sender != *e.StateKey
}

// move sets the user's place in a room.
func (n *sessions) move(s *session, room int64, to place, removed bool) {
	before := s.state.joined(room)
	places := maps.Clone(s.state.places)
	if keeps(to.membership) || removed {
		places[room] = to
	} else {
		delete(places, room)
	}
	n.places += len(places) - len(s.state.places)
	s.state = s.state.in(places)
	switch now := s.state.joined(room); {
	case now && !before:
		n.rooms[room] = append(n.rooms[room], s)
	case before && !now:
		n.unlist(s, room)
	}
}

// keeps tells whether somebody with this membership has a part in the room.
func keeps(membership string) bool {
	return membership == "join" || membership == "invite" || membership == "knock"
}

func (n *sessions) unlist(s *session, room int64) {
	members := n.rooms[room]
	if i := slices.Index(members, s); i >= 0 {
		last := len(members) - 1
		members[i], members[last] = members[last], nil
		members = members[:last]
	}
	if len(members) == 0 {
		delete(n.rooms, room)
	} else {
		n.rooms[room] = members
	}
}

// peek has the session woken by what happens in a room that the user is not in, until
// unpeek.
func (n *sessions) peek(s *session, room int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rooms[room] = append(n.rooms[room], s)
}

func (n *sessions) unpeek(s *session, room int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unlist(s, room)
}

func (n *sessions) wakeRoom(room int64, pos stream.Pos) {
	for _, s := range n.rooms[room] {
		n.wake(s, pos)
	}
}

func (n *sessions) wakeUser(userID string, pos stream.Pos) {
	if s := n.users[userID]; s != nil {
		n.wake(s, pos)
	}
}

func (n *sessions) wake(s *session, pos stream.Pos) {
	if s.last == pos {
		return // through another room that they share
	}
	s.last = pos
	for _, w := range s.waiters {
		if w.first == 0 {
			w.first = pos
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// acquire gives a user's session, which release gives back.
func (n *sessions) acquire(ctx context.Context, userID string) (*session, error) {
	const attempts = 20
	for attempt := 1; ; attempt++ {
		s, isNew := n.enter(userID)
		if isNew {
			// Others may wait for it too: whoever came first must not end it by leaving.
			alone, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTime)
			n.load(alone, s)
			cancel()
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			n.release(s)
			return nil, ctx.Err()
		}
		n.mu.Lock()
		err, dead := s.err, s.dead
		n.mu.Unlock()
		if err == nil && !dead {
			return s, nil
		}
		n.release(s)
		if err != nil {
			return nil, err
		}
		if attempt == attempts {
			return nil, matrix.ServiceUnavailable.Because(errors.New("the log moves on too fast to follow it"))
		}
	}
}

func (n *sessions) enter(userID string) (s *session, isNew bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s = n.users[userID]
	if s == nil {
		n.advance()
		s = &session{userID: userID, ready: make(chan struct{})}
		n.users[userID] = s
		isNew = true
	}
	s.users++
	if s.idle != nil {
		n.idle.Remove(s.idle)
		s.idle = nil
	}
	return s, isNew
}

// release ends the use of a session. It stays in memory while there is room.
func (n *sessions) release(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.users--
	if s.users > 0 || s.dead || n.users[s.userID] != s {
		return
	}
	s.idle = n.idle.PushBack(s)
	for oldest := n.idle.Front(); oldest != nil && (len(n.users) > n.most || n.places > maxPlaces); oldest = n.idle.Front() {
		n.idle.Remove(oldest)
		n.forget(oldest.Value.(*session))
	}
}

func (n *sessions) forget(s *session) {
	for room, p := range s.state.places {
		if p.membership == "join" {
			n.unlist(s, room)
		}
	}
	n.places -= len(s.state.places)
	delete(n.users, s.userID)
}

// load reads a session's state from the database. What the log tells meanwhile
// waits in pending.
func (n *sessions) load(ctx context.Context, s *session) {
	state, err := n.read(ctx, s.userID)
	n.settle(s, state, err)
}

// settle ends the loading of a session.
func (n *sessions) settle(s *session, state *snapshot, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer close(s.ready)
	n.advance()
	if err != nil || s.dead {
		s.err = err
		if n.users[s.userID] == s {
			delete(n.users, s.userID)
		}
		return
	}
	s.state, s.last = state, n.cursor // nobody could tell until now what concerns the user
	n.places += len(state.places)
	for room, p := range state.places {
		if p.membership == "join" {
			n.rooms[room] = append(n.rooms[room], s)
		}
	}
	for _, e := range s.pending {
		n.change(s, e)
	}
	s.pending = nil
}

// read reads a user's state. It may be newer than the cursor was, but when read
// returns the clock has reached all of it: pending has the last word on every room
// that has changed since the session was entered.
func (n *sessions) read(ctx context.Context, userID string) (*snapshot, error) {
	memberships, err := n.db.Memberships(ctx, userID)
	if err != nil {
		return nil, err
	}
	data, err := n.db.AccountDataOf(ctx, userID, []string{ignoredUserList, directChats})
	if err != nil {
		return nil, err
	}
	state := &snapshot{}
	newest := stream.Pos(0)
	for _, d := range data {
		newest = max(newest, d.Pos)
		state = state.knowing(d)
	}
	places := map[int64]place{}
	gone := false
	for _, m := range memberships {
		newest = max(newest, m.At)
		if keeps(m.Membership) {
			places[m.Room] = place{m.RoomID, m.Membership, m.Pos, m.At, m.Whole}
		}
		gone = gone || !keeps(m.Membership)
	}
	if gone {
		removals, err := n.db.Removals(ctx, userID)
		if err != nil {
			return nil, err
		}
		for _, m := range removals {
			newest = max(newest, m.At)
			places[m.Room] = place{roomID: m.RoomID, membership: m.Membership, pos: m.Pos, at: m.At}
		}
	}
	_, err = n.db.Clock.Wait(ctx, newest-1)
	return state.in(places), err
}

// view is what a request sees: a user's state, and the position that it is of.
type view struct {
	*snapshot
	upTo  stream.Pos
	quiet bool // nothing in after < pos <= upTo concerns the user
	dead  bool
}

// look takes the user's state as of now.
func (n *sessions) look(s *session, after stream.Pos) view {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.advance()
	return view{s.state, n.cursor, s.last <= after, s.dead}
}

// wait returns when something after the position may concern the session, with
// the position of the first such thing; or with 0 when time is up, the client has
// gone or the server stops.
func (n *sessions) wait(ctx context.Context, s *session, after stream.Pos, timeUp <-chan time.Time) (first stream.Pos) {
	w := &waiter{wake: make(chan struct{}, 1)}
	n.mu.Lock()
	if s.dead || s.last > after {
		n.mu.Unlock()
		return after + 1
	}
	s.waiters = append(s.waiters, w)
	n.mu.Unlock()
	select {
	case <-w.wake:
	case <-timeUp:
	case <-ctx.Done():
	case <-web.ShuttingDown(ctx):
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(s.waiters, w); i >= 0 {
		s.waiters = slices.Delete(s.waiters, i, i+1)
	}
	if s.dead {
		return after + 1 // what was lost may have concerned it
	}
	return w.first
}
