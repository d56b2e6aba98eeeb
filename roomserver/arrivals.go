package roomserver

import (
	"context"
	"errors"
	"sync"
)

// errArriving says that a user of this server is just joining the room.
var errArriving = errors.New("a user of this server is joining the room, and is not there yet")

// arrivals knows the rooms that this server is about to enter, or other things that are
// under way elsewhere.
type arrivals struct {
	mu    sync.Mutex
	rooms map[string]*arrivalOf
}

// arrivalOf is what is under way for one room.
type arrivalOf struct {
	joins int
	ended chan struct{} // closed when the last one has ended
}

func newArrivals() *arrivals { return &arrivals{rooms: map[string]*arrivalOf{}} }

// begin notes a join; end ends it.
func (a *arrivals) begin(roomID string) (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.rooms[roomID]
	if of == nil {
		of = &arrivalOf{ended: make(chan struct{})}
		a.rooms[roomID] = of
	}
	of.joins++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if of.joins--; of.joins == 0 {
			close(of.ended)
			delete(a.rooms, roomID)
		}
	}
}

func (a *arrivals) at(roomID string) *arrivalOf {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rooms[roomID]
}

// await waits for the end of what is under way, if anything is.
func (a *arrivals) await(ctx context.Context, roomID string) error {
	of := a.at(roomID)
	if of == nil {
		return nil
	}
	select {
	case <-of.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// AwaitJoins waits for joins of this server's users to rooms that are under way elsewhere.
// The server that lets a user in may send what happens in the room then before its answer
// to the join has been taken in. An error says that it takes too long: what came is to be
// sent again.
func (r *Rooms) AwaitJoins(ctx context.Context, roomIDs []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.turnWait, errArriving)
	defer cancel()
	for _, id := range roomIDs {
		if err := r.arrivals.await(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
