package sender

import (
	"context"
	"errors"
	"time"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

const (
	// meetDelay is how long after a join servers are told who is there: the server that has
	// joined has to have taken the room in before, and others have to have heard of the join.
	meetDelay = 500 * time.Millisecond
	// maxMeetings bounds the joins that wait for that; of further ones nobody is told.
	maxMeetings = 1000
	// maxPresent bounds the users whose presence is told at once.
	maxPresent = 5000
)

// meeting is a join by which servers may come to share a room that did not before.
type meeting struct {
	room   int64
	userID string
	pos    stream.Pos // of the join
}

// takeJoin notes a join. It is called with mu held.
func (s *Sender) takeJoin(pos stream.Pos, e *roomserver.ClientEvent) {
	if s.noPresence || e.Type != "m.room.member" || e.StateKey == nil || e.Membership() != "join" || len(s.meetings) == maxMeetings ||
		e.Replaced != nil && e.Replaced.Membership() == "join" {
		return
	}
	s.meetings = append(s.meetings, meeting{e.Room, *e.StateKey, pos})
	select {
	case s.met <- struct{}{}:
	default:
	}
}

// greet tells servers of the presence of users whom they newly share a room with: it would
// otherwise reach them when it changes.
func (s *Sender) greet(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.met:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(meetDelay):
		}
		s.mu.Lock()
		meetings := s.meetings
		s.meetings = nil
		s.mu.Unlock()
		if err := s.introduce(ctx, meetings); err != nil && ctx.Err() == nil {
			s.log.Warn("who is present could not be read; servers that have come to a room hear of it when it changes", "error", err)
		}
	}
}

// introduce tells servers that have come to rooms who of this one is present there, and
// those that were there who of this one has come.
func (s *Sender) introduce(ctx context.Context, meetings []meeting) error {
	var ours, theirs []meeting
	for _, m := range meetings {
		if s.ours(m.userID) {
			ours = append(ours, m)
		} else {
			theirs = append(theirs, m)
		}
	}
	return errors.Join(s.introduceUsers(ctx, ours), s.introduceRooms(ctx, theirs))
}

func (s *Sender) introduceUsers(ctx context.Context, joins []meeting) error {
	if len(joins) == 0 {
		return nil
	}
	var rooms []int64
	var users []string
	for _, j := range joins {
		rooms, users = append(rooms, j.room), append(users, j.userID)
	}
	present := map[string]storage.Presence{}
	stored, err := s.db.PresenceOf(ctx, users)
	if err != nil {
		return err
	}
	for _, p := range stored {
		if p.State != "offline" {
			present[p.UserID] = p
		}
	}
	audiences, err := s.db.Audiences(ctx, s.own, rooms)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range joins {
		if p, found := present[j.userID]; found {
			s.takePresence(ctx, p, audiences[j.room].Servers)
		}
	}
	return nil
}

func (s *Sender) introduceRooms(ctx context.Context, joins []meeting) error {
	if len(joins) == 0 {
		return nil
	}
	var rooms []int64
	var servers []string
	since := joins[0].pos
	for _, j := range joins {
		rooms, servers, since = append(rooms, j.room), append(servers, matrix.ServerOf(j.userID)), min(since, j.pos)
	}
	come, err := s.db.ServersCome(ctx, rooms, servers, since)
	if err != nil || len(come) == 0 {
		return err
	}
	joined := map[int64][]string{}
	rooms = rooms[:0]
	for _, c := range come {
		if joined[c.Room] == nil {
			rooms = append(rooms, c.Room)
		}
		joined[c.Room] = append(joined[c.Room], c.Server)
	}
	present, err := s.db.PresentIn(ctx, s.own, rooms, maxPresent)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range present {
		s.takePresence(ctx, p.Presence, joined[p.Room])
	}
	return nil
}
