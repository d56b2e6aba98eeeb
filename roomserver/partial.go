package roomserver

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"beep/matrix"
	"beep/storage"
)

// A server that lets a user in may leave out most members of the room. Then the room's state
// is partial: nothing but members is missing, and until they are there
//   - events of other servers count as if the members whom they cite were in the state;
//   - what takes a member who is not known waits, or is for another server to do;
//   - every server that the other one has named is taken to be in the room.
// [Rooms.Run] fetches the whole state. With it all that came meanwhile is judged again, and
// the states around it are made anew ([completion]).

const (
	// membersPatience is how long a request waits for the members of a room.
	membersPatience = time.Minute
	// completing is how many rooms are completed at the same time.
	completing = 4
	// firstPause and longestPause are between two attempts to get a room's whole state.
	firstPause   = time.Second
	longestPause = 10 * time.Minute
	// maxPartialServers bounds the servers that are taken to be in a room because another
	// one said so.
	maxPartialServers = 20_000
)

// errMembersUnknown tells that a room's state is partial, and that more of it is needed.
var errMembersUnknown = matrix.ServiceUnavailable.With("This server has joined the room just now, and does not know all its members yet; try again")

// errAskAnother sends servers away that ask for what only the whole state can tell.
var errAskAnother = matrix.UnableToAuthoriseJoin.With("This server has joined the room just now, and does not know all its members yet; ask another one")

// partialRooms are the rooms whose state has to be completed, as far as there is something
// to do for them.
type partialRooms struct {
	slots chan struct{} // whoever completes a room holds an item
	poke  chan struct{} // has an item when there are new rooms

	mu      sync.Mutex
	running bool
	fresh   []storage.PartialRoom
	changed chan struct{} // closed and replaced when a room has been completed
}

func newPartialRooms() *partialRooms {
	return &partialRooms{slots: make(chan struct{}, completing), poke: make(chan struct{}, 1), changed: make(chan struct{})}
}

func (p *partialRooms) setRunning(running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = running
}

// isRunning tells whether somebody completes rooms.
func (p *partialRooms) isRunning() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

func (p *partialRooms) add(room storage.PartialRoom) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh = append(p.fresh, room)
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

func (p *partialRooms) take() []storage.PartialRoom {
	p.mu.Lock()
	defer p.mu.Unlock()
	rooms := p.fresh
	p.fresh = nil
	return rooms
}

// next is closed when the next room has been completed.
func (p *partialRooms) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *partialRooms) completed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Run completes the rooms whose state is partial, those from before a restart among them,
// until the context is done. While it does not run, joins wait for the whole state.
func (r *Rooms) Run(ctx context.Context) error {
	if r.remote == nil {
		<-ctx.Done()
		return nil
	}
	rooms, err := r.db.PartialRooms(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	r.partial.setRunning(true)
	defer r.partial.setRunning(false)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		for _, room := range rooms {
			all.Go(func() { r.completeRoom(ctx, room) })
		}
		select {
		case <-r.partial.poke:
			rooms = r.partial.take()
		case <-ctx.Done():
			return nil
		}
	}
}

// AwaitMembers returns when all members of the room are known, which they nearly always
// are. It does not wait for those of a room that this server has left.
func (r *Rooms) AwaitMembers(ctx context.Context, roomID string) error {
	patience := time.NewTimer(membersPatience)
	defer patience.Stop()
	for {
		next := r.partial.next()
		room, err := r.db.RoomByID(ctx, roomID)
		if errors.Is(err, storage.ErrNotFound) || err == nil && !(room.Partial() && room.Resident) {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-next:
		case <-patience.C:
			return errMembersUnknown
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// with is [hotRooms.with] for what users of this server do: where it takes a member who is
// not known yet, it is done when all are.
func (r *Rooms) with(ctx context.Context, roomID string, fn func(*hotRoom) error) error {
	err := r.hot.with(ctx, roomID, fn)
	if !errors.Is(err, errMembersUnknown) {
		return err
	}
	if err := r.AwaitMembers(ctx, roomID); err != nil {
		return err
	}
	return r.hot.with(ctx, roomID, fn)
}

// completeRoom tries until the room's state is whole, or this server has left the room.
func (r *Rooms) completeRoom(ctx context.Context, p storage.PartialRoom) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := r.completeSomehow(ctx, p)
		if err == nil {
			r.partial.completed()
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("the members of a room are not to be had; trying again", "room", p.RoomID, "after", pause, "error", err)
		select {
		case <-time.After(pause + rand.N(pause)):
		case <-ctx.Done():
			return
		}
	}
}

// completeSomehow asks one server after the other for the state: first the one that has
// let the user in.
func (r *Rooms) completeSomehow(ctx context.Context, p storage.PartialRoom) error {
	select {
	case r.partial.slots <- struct{}{}:
		defer func() { <-r.partial.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	join, err := r.db.EventsByPos(ctx, []int64{int64(p.Join)})
	if err != nil {
		return err
	}
	others, err := r.largest(ctx, p.Room)
	if err != nil {
		return err
	}
	servers := append([]string{p.Via}, slices.DeleteFunc(others, func(server string) bool { return server == p.Via || server == r.signer.ServerName })...)
	return r.anywhere(ctx, servers[:min(len(servers), maxVia)], func(server string) error {
		if over, err := r.completionOver(ctx, p); over || err != nil {
			return err
		}
		return r.completeFrom(ctx, server, p, &join[0])
	})
}

// completionOver tells whether there is nothing to complete any more.
func (r *Rooms) completionOver(ctx context.Context, p storage.PartialRoom) (bool, error) {
	now, err := r.db.PartialRoom(ctx, p.Room)
	if errors.Is(err, storage.ErrNotFound) || err == nil && now.Join != p.Join {
		return true, nil
	} else if err != nil {
		return false, err
	}
	room, err := r.db.RoomByID(ctx, p.RoomID)
	if err != nil || room.Resident {
		return false, err
	}
	return true, r.db.Write(ctx, func(tx *storage.Tx) error { return tx.RemovePartialRoom(ctx, p.Room, p.Join) })
}

// completeFrom completes the room with the state that another server gives.
func (r *Rooms) completeFrom(ctx context.Context, server string, p storage.PartialRoom, join *storage.Event) error {
	state, chain, err := r.remote.State(ctx, server, p.RoomID, join.ID)
	if err != nil {
		return err
	}
	room, err := r.db.RoomByID(ctx, p.RoomID)
	if err != nil {
		return err
	}
	events := r.checked(ctx, &room, state)
	authorising := citedBy(events, r.checked(ctx, &room, chain))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// In parts, so that whoever speaks in the room does not have to wait for long.
	for some := range slices.Chunk(byCitation(slices.Concat(authorising, events)), outliersAtOnce) {
		if err := r.keepOutliers(ctx, &room, some); err != nil {
			return err
		}
	}
	members, err := r.membersIn(ctx, &room, events)
	if err != nil {
		return err
	}
	return r.hot.with(ctx, p.RoomID, func(hot *hotRoom) error {
		if over, err := r.completionOver(ctx, p); over || err != nil {
			return err
		}
		c := &completion{rooms: r, hot: hot, origin: server, join: join}
		if err := c.run(ctx, members); err != nil {
			return err
		}
		return r.db.Write(ctx, func(tx *storage.Tx) error { return tx.RemovePartialRoom(ctx, p.Room, p.Join) })
	})
}

// membersIn are the members in a state that another server gave. A state without the room's
// create event is none.
func (r *Rooms) membersIn(ctx context.Context, room *storage.Room, state []*matrix.Event) ([]change, error) {
	create, err := r.db.CurrentStateEvent(ctx, room.Number, createName.Type, createName.StateKey)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(state, func(e *matrix.Event) bool { return e.ID == create.ID }) {
		return nil, badGateway.With("The other server gave a state without the room's create event")
	}
	var members []string
	for _, e := range state {
		if e.Type == "m.room.member" {
			members = append(members, e.ID)
		}
	}
	places, err := r.db.StatePlaces(ctx, room.Number, members)
	return stateOf(places), err
}
