package roomserver

import (
	"context"
	"errors"
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
	references []matrix.Reference // the extremities
	top        *packed            // the current state
	state      map[stateName]*stateEvent
}

// stateName is a state event's type and key.
type stateName struct{ eventType, stateKey string }

// with runs fn while nobody else writes to the room. [matrix.Forbidden]: the
// room is not known here.
func (h *hotRooms) with(ctx context.Context, roomID string, fn func(*hotRoom) error) error {
	hot, err := h.enter(ctx, roomID)
	if err != nil {
		return err
	}
	defer h.leave(roomID, hot)
	if !hot.loaded {
		if err := hot.load(ctx, h.db, roomID); err != nil {
			return err
		}
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
	references := make([]matrix.Reference, 0, len(events))
	for _, e := range events {
		references = append(references, e.Reference())
	}
	hot.room, hot.top, hot.references = room, top, references
	hot.state = map[stateName]*stateEvent{}
	hot.loaded = true
	return nil
}
