package syncapi

import (
	"container/list"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"beep/matrix"
	"beep/stream"
)

// What the memory of connections may hold: about 100 bytes a room.
const (
	maxConnections = 20_000 // of all devices
	maxOfDevice    = 10     // of one device
	maxSentRooms   = 1_000_000
)

// connectionKey names a connection: each device has as many as it gives ids.
type connectionKey struct{ userID, deviceID, id string }

func (k connectionKey) device() deviceKey { return deviceKey{k.userID, k.deviceID} }

// sentRoom is what a connection has been sent of a room.
type sentRoom struct {
	config uint64     // with what required state
	upTo   stream.Pos // up to where, if it is not live
	member stream.Pos // the user's member event at the time
	limit  int        // how many of its last events the client has
	joined bool       // the user was joined to it
	live   bool       // it was in a list with the last answer: sent up to that
	direct bool       // it was told as a direct chat
}

// sentUpTo is what a connection has been sent with an answer.
type sentUpTo struct {
	number     stream.Pos // of the answer, 0 before the first one
	upTo       stream.Pos
	extensions extensionSet
	configs    map[uint64]*config
}

func (s *sentUpTo) initial() bool { return s.number == 0 }

// connection is a sync loop of a client. What the last answer has changed counts only when
// the client comes with its position: until then the client may not have got it.
type connection struct {
	key     connectionKey
	id      string // different each time that the client begins anew
	element *list.Element

	mu      sync.Mutex
	base    sentUpTo // the answer that the client has got
	rooms   map[int64]sentRoom
	last    stream.Pos // the number of the newest answer
	pending *step      // what that one has changed; nil when the client has got it
	turn    *turn      // the request under way
	size    int        // what connections.rooms has counted of it
}

// step is what an answer changes of a connection.
type step struct {
	sentUpTo
	rooms map[int64]sentRoom
	gone  []int64 // rooms that are told of no more
}

// connections are those of all clients. They are in memory alone: see docs/decisions/009.
type connections struct {
	mostConnections, mostRooms int

	mu     sync.Mutex
	all    map[connectionKey]*connection
	own    map[deviceKey]int // how many a device has
	recent *list.List        // of *connection, the longest unused first
	rooms  int
}

func newConnections() *connections {
	return &connections{mostConnections: maxConnections, mostRooms: maxSentRooms, all: map[connectionKey]*connection{}, own: map[deviceKey]int{}, recent: list.New()}
}

// turn is one request of a connection.
type turn struct {
	all    *connections
	conn   *connection
	ctx    context.Context
	cancel context.CancelCauseFunc
	given  string   // the position that the client came with
	base   sentUpTo // the connection's
	next   stream.Pos
}

// errSuperseded ends a request whose client has sent another one on the connection.
var errSuperseded = errors.New("another request of the connection has come")

var unknownPos = matrix.UnknownPos.With("The position is not known any more: begin again without one")

// begin takes up a request. It ends one that is under way on the same connection: the client
// has given that up (MSC4186, "Connections").
func (c *connections) begin(ctx context.Context, key connectionKey, pos string) (*turn, error) {
	c.mu.Lock()
	conn := c.all[key]
	if pos == "" {
		if conn != nil {
			conn.supersede(nil)
			c.drop(conn)
		}
		conn = c.add(key)
	} else if conn != nil {
		c.recent.MoveToBack(conn.element)
	}
	c.mu.Unlock()
	if conn == nil {
		return nil, unknownPos
	}
	t := &turn{all: c, conn: conn, given: pos}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	if !conn.resume(t) {
		t.cancel(nil)
		return nil, unknownPos
	}
	return t, nil
}

// add makes a connection. c.mu is held.
func (c *connections) add(key connectionKey) *connection {
	conn := &connection{key: key, id: strconv.FormatUint(rand.Uint64(), 36), rooms: map[int64]sentRoom{}}
	c.all[key] = conn
	conn.element = c.recent.PushBack(conn)
	if c.own[key.device()]++; c.own[key.device()] > maxOfDevice {
		c.drop(c.oldestOf(key.device()))
	}
	c.trim()
	return conn
}

// oldestOf is the connection of a device that was not used for the longest.
func (c *connections) oldestOf(device deviceKey) *connection {
	for e := c.recent.Front(); ; e = e.Next() {
		if conn := e.Value.(*connection); conn.key.device() == device {
			return conn
		}
	}
}

// trim forgets the connections that there is no room for.
func (c *connections) trim() {
	for len(c.all) > c.mostConnections || c.rooms > c.mostRooms && len(c.all) > 1 {
		c.drop(c.recent.Front().Value.(*connection))
	}
}

// drop forgets a connection. c.mu is held.
func (c *connections) drop(conn *connection) {
	delete(c.all, conn.key)
	if c.own[conn.key.device()]--; c.own[conn.key.device()] == 0 {
		delete(c.own, conn.key.device())
	}
	c.recent.Remove(conn.element)
	c.rooms -= conn.size
	conn.size = 0
}

// supersede makes another request the one under way.
func (conn *connection) supersede(by *turn) {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.turn != nil {
		conn.turn.cancel(errSuperseded)
	}
	conn.turn = by
}

// resume lets a request go on from the position that it came with: what the connection's
// last answer had counts from now on, or is forgotten if the client has not got it.
func (conn *connection) resume(t *turn) bool {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	number, ok := conn.parse(t.given)
	switch {
	case !ok:
		return false
	case number == conn.base.number:
		conn.pending = nil
	case conn.pending != nil && number == conn.pending.number:
		conn.base = conn.pending.sentUpTo
		maps.Copy(conn.rooms, conn.pending.rooms)
		for _, room := range conn.pending.gone {
			delete(conn.rooms, room)
		}
		conn.pending = nil
	default:
		return false
	}
	if conn.turn != nil {
		conn.turn.cancel(errSuperseded)
	}
	conn.last++
	conn.turn, t.base, t.next = t, conn.base, conn.last
	return true
}

// parse reads a position, which must be one of this connection; "" stands for its beginning.
func (conn *connection) parse(pos string) (number stream.Pos, ok bool) {
	if pos == "" {
		return 0, true
	}
	_, rest, _ := strings.Cut(pos, "_")
	id, text, _ := strings.Cut(rest, "_")
	n, err := strconv.ParseInt(text, 10, 64)
	return stream.Pos(n), err == nil && n > 0 && id == conn.id
}

// end ends the request.
func (t *turn) end() {
	t.cancel(nil)
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	if t.conn.turn == t {
		t.conn.turn = nil
	}
}

// record fills in what the connection has been sent of rooms, and gives those that it was told
// of with the last answer though they are not among these.
func (t *turn) record(matched map[int64]*match) (departed map[int64]sentRoom) {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	departed = map[int64]sentRoom{}
	for number, sent := range t.conn.rooms {
		if m := matched[number]; m != nil {
			m.sent, m.known = sent, true
		} else if sent.live {
			sent.live, sent.upTo = false, t.base.upTo
			departed[number] = sent
		}
	}
	return departed
}

// knows tells which of the rooms the connection has been told of.
func (t *turn) knows(rooms changes) map[int64]bool {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	known := map[int64]bool{}
	for number := range rooms {
		_, known[number] = t.conn.rooms[number]
	}
	return known
}

// members are the members that the connection has got with the answers up to its position.
func (t *turn) members(lazy *lazyDevices) *sentMembers {
	return lazy.device(deviceKey{t.conn.key.userID, t.conn.key.deviceID + "\x00" + t.conn.key.id}, t.base.number)
}

// settle makes an answer the connection's last one, and gives it its position; but not if another
// request has come meanwhile.
func (t *turn) settle(a *slidingAnswer) bool {
	s := a.sliding.step(a)
	s.number = t.next
	a.pos = position(s.upTo, t.conn.id, s.number)
	t.conn.mu.Lock()
	if t.conn.turn != t {
		t.conn.mu.Unlock()
		return false
	}
	t.conn.pending = s
	// The rules of two answers are kept: elements of required states take about as much as rooms.
	size := len(t.conn.rooms) + len(s.rooms) + 2*a.sliding.rules.size
	t.conn.mu.Unlock()
	t.all.count(t.conn, size)
	return true
}

// count notes how many rooms a connection has.
func (c *connections) count(conn *connection, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[conn.key] != conn {
		return
	}
	c.rooms += size - conn.size
	conn.size = size
	c.trim()
}

// unchanged is the answer to a request that another one has superseded: nobody should read it,
// and whoever does has lost nothing.
func (t *turn) unchanged() (*slidingAnswer, error) {
	if t.given == "" {
		return nil, unknownPos
	}
	return &slidingAnswer{answer: &answer{query: &query{filter: &matrix.Filter{}}}, pos: t.given}, nil
}
