package roomserver

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"beep/stream"
)

const (
	// DefaultTyping is how long somebody types who does not say for how long, and
	// maxTyping how long at most.
	DefaultTyping = 30 * time.Second
	maxTyping     = 2 * time.Minute
	// quietRooms bounds the rooms that are remembered though nobody types there now.
	quietRooms = 10_000
)

// Typing knows who types where (client-server API, "Typing Notifications"). It is
// kept in memory only.
type Typing struct {
	rooms *Rooms
	wake  chan struct{} // has an item when the first end may have changed

	// mu is held while an entry is published: the order of the entries is the order
	// of the changes.
	mu     sync.Mutex
	active map[string]*typingRoom
	ends   typingEnds
	quiet  *lru.LRU[string, stream.Pos] // by room: since when nobody types
}

// typingRoom is a room in which somebody types.
type typingRoom struct {
	number int64
	users  map[string]*typist
	shown  []string   // as it was published last; never changed
	pos    stream.Pos // and where
}

type typist struct {
	roomID, userID string
	until          time.Time
	index          int // in the heap
}

// NewTyping makes the typing notifications of the rooms. Call [Typing.Run] beside it.
func NewTyping(rooms *Rooms) *Typing {
	// The constructor fails only for a size that is not positive.
	quiet, _ := lru.NewLRU[string, stream.Pos](quietRooms, nil)
	return &Typing{rooms: rooms, wake: make(chan struct{}, 1), active: map[string]*typingRoom{}, quiet: quiet}
}

// Start notes that a user types for so long, two minutes at most. A later call
// replaces an earlier one. [matrix.Forbidden] unless the user is joined.
func (t *Typing) Start(ctx context.Context, roomID, userID string, timeout time.Duration) error {
	number, err := t.rooms.Joined(ctx, roomID, userID)
	if err != nil {
		return err
	}
	t.begin(roomID, number, userID, time.Now().Add(min(max(timeout, 0), maxTyping)))
	return nil
}

// begin notes that a user, who is in the room, types until then.
func (t *Typing) begin(roomID string, number int64, userID string, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.active[roomID]
	if room == nil {
		room = &typingRoom{number: number, users: map[string]*typist{}}
		t.active[roomID] = room
	}
	if who := room.users[userID]; who != nil {
		who.until = until
		heap.Fix(&t.ends, who.index)
	} else {
		who = &typist{roomID: roomID, userID: userID, until: until}
		room.users[userID] = who
		heap.Push(&t.ends, who)
		t.publish(roomID, room)
	}
	if t.ends[0].userID == userID {
		t.rouse()
	}
}

// Stop notes that a user types no longer, if the user did.
func (t *Typing) Stop(_ context.Context, roomID, userID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.active[roomID]
	if room == nil || room.users[userID] == nil {
		return
	}
	t.remove(room, room.users[userID])
	t.publish(roomID, room)
}

// In are the users who type in the room, sorted, and the position since when these
// do: 0 where nobody has typed for long. The list is shared: it must not be changed.
func (t *Typing) In(roomID string) (userIDs []string, since stream.Pos) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := t.active[roomID]; room != nil {
		return room.shown, room.pos
	}
	since, _ = t.quiet.Peek(roomID)
	return []string{}, since
}

// Run ends what nobody ends in time, until the context is done.
func (t *Typing) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		case <-timer.C:
		}
		if next, ok := t.expire(time.Now()); ok {
			timer.Reset(time.Until(next))
		} else {
			timer.Stop()
		}
	}
}

// expire ends what is over and gives the time at which something is next.
func (t *Typing) expire(now time.Time) (next time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := map[string]*typingRoom{}
	for len(t.ends) > 0 && !t.ends[0].until.After(now) {
		who := t.ends[0]
		room := t.active[who.roomID]
		t.remove(room, who)
		changed[who.roomID] = room
	}
	for roomID, room := range changed {
		t.publish(roomID, room)
	}
	if len(t.ends) == 0 {
		return time.Time{}, false
	}
	return t.ends[0].until, true
}

func (t *Typing) remove(room *typingRoom, who *typist) {
	delete(room.users, who.userID)
	heap.Remove(&t.ends, who.index)
}

// publish tells the readers who types in the room now.
func (t *Typing) publish(roomID string, room *typingRoom) {
	room.shown = make([]string, 0, len(room.users))
	size := 0
	for userID := range room.users {
		room.shown = append(room.shown, userID)
		size += len(userID)
	}
	slices.Sort(room.shown)
	db := t.rooms.db
	room.pos = db.Clock.Reserve()
	db.Log.Publish(stream.Entry{Pos: room.pos, Kind: stream.Typing, Room: room.number, Value: room.shown, Size: size})
	db.Clock.Done(room.pos)
	if len(room.users) == 0 {
		delete(t.active, roomID)
		t.quiet.Add(roomID, room.pos)
	}
}

// rouse lets Run look when the next end is.
func (t *Typing) rouse() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// typingEnds is a heap of those who type, the first to end at its top.
type typingEnds []*typist

func (e typingEnds) Len() int           { return len(e) }
func (e typingEnds) Less(i, j int) bool { return e[i].until.Before(e[j].until) }

func (e typingEnds) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

// Push serves [heap.Push].
func (e *typingEnds) Push(x any) {
	who := x.(*typist)
	who.index = len(*e)
	*e = append(*e, who)
}

// Pop serves [heap.Pop].
func (e *typingEnds) Pop() any {
	last := len(*e) - 1
	who := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return who
}
