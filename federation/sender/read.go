package sender

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// follow reads the log.
func (s *Sender) follow(ctx context.Context) {
	s.mu.Lock()
	after := s.read
	s.mu.Unlock()
	var batch []*stream.Entry
	for {
		upTo, err := s.db.Clock.Wait(ctx, after)
		if err != nil {
			return
		}
		batch = batch[:0]
		ok := s.db.Log.Range(after, upTo, func(e *stream.Entry) bool { batch = append(batch, e); return true })
		if ok {
			s.take(ctx, batch, upTo)
		} else if !s.skip(ctx, after, upTo) {
			return
		}
		clear(batch)
		after = upTo
	}
}

// skip passes over a part of the log that is not in memory: whom something in it is for finds it
// in the database. It tells whether it came to an end.
func (s *Sender) skip(ctx context.Context, after, upTo stream.Pos) bool {
	s.audiences.Purge()
	for {
		servers, err := s.db.PendingServers(ctx, s.own, after, upTo)
		if err == nil {
			s.leave(ctx, servers, upTo)
			return true
		}
		if ctx.Err() == nil {
			s.log.Error("what is to be sent to other servers could not be read; trying again", "error", err)
		}
		select {
		case <-time.After(databasePause):
		case <-ctx.Done():
			return false
		}
	}
}

// leave leaves to the database what is for the servers up to a position.
func (s *Sender) leave(ctx context.Context, servers []string, upTo stream.Pos) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range servers {
		if server != s.own {
			d := s.destination(server)
			d.cast()
			s.wake(ctx, d)
		}
	}
	clear(s.typing)
	s.read = upTo
}

// take puts what is new to its destinations.
func (s *Sender) take(ctx context.Context, batch []*stream.Entry, upTo stream.Pos) {
	around := s.prepare(ctx, batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range batch {
		switch v := e.Value.(type) {
		case *roomserver.ClientEvent:
			s.takeEvent(ctx, e.Pos, v)
			s.takeJoin(e.Pos, v)
		case storage.QueuedEDU:
			i := item{pos: e.Pos, json: edu(v.Type, v.Content), edu: true, queued: true}
			for _, server := range v.Servers {
				s.put(ctx, server, i)
			}
		case []string:
			if e.Kind == stream.Typing {
				s.takeTyping(ctx, e.Room, v)
			}
		case storage.Receipt:
			s.takeReceipt(ctx, v)
		case storage.Presence:
			s.takePresence(ctx, v, around[v.UserID])
		}
	}
	s.read = upTo
}

func (s *Sender) takeEvent(ctx context.Context, pos stream.Pos, e *roomserver.ClientEvent) {
	if len(e.Servers) == 0 {
		return
	}
	i := item{pos: pos, json: json.RawMessage(e.JSON), ts: e.OriginServerTS}
	relayed := matrix.ServerOf(e.Sender) != s.own
	member := ""
	if e.Type == "m.room.member" && e.StateKey != nil {
		member = matrix.ServerOf(*e.StateKey)
	}
	for _, server := range e.Servers {
		i.queued = relayed || member == server
		s.put(ctx, server, i)
	}
}

// put gives a destination something that it must get.
func (s *Sender) put(ctx context.Context, server string, i item) {
	if server == s.own {
		return
	}
	d := s.destination(server)
	d.push(i)
	s.wake(ctx, d)
}

// wake sees to it that somebody works for the destination, unless it is to be left alone.
func (s *Sender) wake(ctx context.Context, d *destination) {
	if d.busy {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	} else if d.retry.IsZero() {
		s.start(ctx, d)
	}
}

// prepare finds out whom the news of a batch are for: it makes sure that the servers of
// the rooms with news are known, and gives the servers around the users whose presence
// changed.
func (s *Sender) prepare(ctx context.Context, batch []*stream.Entry) map[string][]string {
	var rooms []int64
	var users []string
	for _, e := range batch {
		switch v := e.Value.(type) {
		case *roomserver.ClientEvent:
			if v.Type == "m.room.member" {
				s.audiences.Remove(e.Room)
			}
		case []*roomserver.ClientEvent:
			s.audiences.Remove(e.Room)
		case []string:
			if e.Kind == stream.Typing && (slices.ContainsFunc(v, s.ours) || s.typingIn(e.Room)) {
				rooms = append(rooms, e.Room)
			}
		case storage.Receipt:
			if s.public(v) {
				rooms = append(rooms, e.Room)
			}
		case storage.Presence:
			if s.ours(v.UserID) {
				users = append(users, v.UserID)
			}
		}
	}
	if len(rooms)+len(users) == 0 {
		return nil
	}
	if err := s.loadAudiences(ctx, rooms); err != nil && ctx.Err() == nil {
		s.log.Warn("the servers of rooms could not be read; they miss who types or has read", "error", err)
	}
	around, err := s.db.ServersAround(ctx, s.own, users)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the servers around users could not be read; they miss a change of presence", "error", err)
	}
	return around
}

// ours tells whether a user is of this server.
func (s *Sender) ours(userID string) bool { return matrix.ServerOf(userID) == s.own }

func (s *Sender) typingIn(room int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.typing[room] != nil
}

// loadAudiences makes sure that the servers of the rooms are in memory.
func (s *Sender) loadAudiences(ctx context.Context, rooms []int64) error {
	rooms = slices.DeleteFunc(rooms, s.audiences.Contains)
	found, err := s.db.Audiences(ctx, s.own, rooms)
	if err != nil {
		return err
	}
	for room, a := range found {
		s.audiences.Add(room, a)
	}
	return nil
}
