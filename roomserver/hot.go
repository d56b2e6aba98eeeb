package roomserver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"beep/matrix"
	"beep/storage"
)

// hotLimit is how many rooms stay in memory between two events.
const hotLimit = 1000

// stateCacheLimit bounds the state events that a hot room remembers.
const stateCacheLimit = 500

// hotRooms are the rooms that were written to lately, and their locks: one
// writer per room at a time.
type hotRooms struct {
	db    *storage.DB
	mu    sync.Mutex
	rooms map[string]*hotRoom
}

func newHotRooms(db *storage.DB) *hotRooms {
	return &hotRooms{db: db, rooms: map[string]*hotRoom{}}
}

// hotRoom is what the next event of a room needs. Whoever holds gate owns it.
type hotRoom struct {
	gate   chan struct{}
	users  int  // who hold or await the gate; guarded by hotRooms.mu
	loaded bool // false at first, and after a failed write: then it is read again

	room       storage.Room
	references []matrix.Reference // the extremities, the oldest first
	ends       map[string]int64   // the states after them, if there are several; not to be changed
	top        *packed            // the current state
	state      map[stateName]*stateEvent
	gone       map[stateName]int64 // the numbers of what the state had and has no more
	servers    map[string]int64    // with joined members, and how many; not to be changed
}

// with runs fn while nobody else writes to the room. [matrix.Forbidden]: the
// room is not known here.
func (h *hotRooms) with(ctx context.Context, roomID string, fn func(*hotRoom) error) error {
	hot, err := h.enter(ctx, roomID)
	if err != nil {
		return err
	}
	defer h.leave(roomID, hot)
	if err := hot.reload(ctx, h.db, roomID); err != nil {
		return err
	}
	return fn(hot)
}

func (h *hotRooms) enter(ctx context.Context, roomID string) (*hotRoom, error) {
	h.mu.Lock()
	hot := h.rooms[roomID]
	if hot == nil {
		hot = &hotRoom{gate: make(chan struct{}, 1)}
		h.rooms[roomID] = hot
	}
	hot.users++
	h.mu.Unlock()
	select {
	case hot.gate <- struct{}{}:
		return hot, nil
	case <-ctx.Done():
		h.mu.Lock()
		hot.users--
		h.mu.Unlock()
		return nil, ctx.Err()
	}
}

func (h *hotRooms) leave(roomID string, hot *hotRoom) {
	<-hot.gate
	h.mu.Lock()
	defer h.mu.Unlock()
	hot.users--
	if hot.users == 0 && (!hot.loaded || len(h.rooms) > hotLimit) {
		delete(h.rooms, roomID)
	}
}

// alone is with for what does not go by the memory of the room, but changes it: it need not
// be known here.
func (h *hotRooms) alone(ctx context.Context, roomID string, fn func() error) error {
	hot, err := h.enter(ctx, roomID)
	if err != nil {
		return err
	}
	defer h.leave(roomID, hot)
	hot.loaded = false
	return fn()
}

// reload reads the room again if it has changed behind the memory of it.
func (hot *hotRoom) reload(ctx context.Context, db *storage.DB, roomID string) error {
	if hot.loaded {
		return nil
	}
	return hot.load(ctx, db, roomID)
}

func (hot *hotRoom) load(ctx context.Context, db *storage.DB, roomID string) error {
	room, err := db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) {
		return errNotInRoom
	} else if err != nil {
		return err
	}
	rows, err := db.States(ctx, []int64{room.State})
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return errors.New("the current state of room " + roomID + " is not stored")
	}
	top, err := unpack(rows[0])
	if err != nil {
		return err
	}
	events, err := db.EventsByID(ctx, room.Extremities)
	if err != nil {
		return err
	}
	if hot.gone, err = goneKeys(ctx, db, room.Number); err != nil {
		return err
	}
	if hot.servers, err = serversIn(ctx, db, room.Number); err != nil {
		return err
	}
	slices.SortFunc(events, func(a, b storage.Event) int { return cmp.Compare(a.Pos, b.Pos) })
	references := make([]matrix.Reference, 0, len(events))
	for _, e := range events {
		references = append(references, e.Reference())
	}
	hot.room, hot.top, hot.references, hot.ends = room, top, references, endsOf(events)
	hot.state = map[stateName]*stateEvent{}
	hot.loaded = true
	return nil
}

func goneKeys(ctx context.Context, db *storage.DB, room int64) (map[stateName]int64, error) {
	keys, err := db.GoneStateKeys(ctx, room)
	gone := make(map[stateName]int64, len(keys))
	for _, k := range keys {
		gone[stateName{Type: k.Type, StateKey: k.StateKey}] = k.Key
	}
	return gone, err
}

func serversIn(ctx context.Context, db *storage.DB, room int64) (map[string]int64, error) {
	servers, err := db.ServersIn(ctx, room)
	members := make(map[string]int64, len(servers))
	for _, s := range servers {
		members[s.Server] = s.Members
	}
	return members, err
}
