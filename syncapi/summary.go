package syncapi

import (
	"context"
	"strconv"

	"beep/matrix"
	"beep/storage"
)

const (
	sharedSummaries = 5000
	maxHeroes       = 5
)

// summary is a room's summary, alike for all its members.
type summary struct {
	joined, invited int64
	named           bool                 // it has a name or an alias, and needs no heroes
	members         []storage.Membership // the first who are joined or invited, one more than the heroes
	left            []storage.Membership // likewise those who were; loaded where there is but one member
}

// changesSummary tells whether an event may change its room's summary.
func changesSummary(e *matrix.Event) bool {
	if e.StateKey == nil {
		return false
	}
	switch e.Type {
	case "m.room.member":
		return true
	case "m.room.name", "m.room.canonical_alias":
		return *e.StateKey == ""
	}
	return false
}

// summaries gathers the rooms' summaries, where they are new or may have changed.
func (g *gathering) summaries(ctx context.Context) error {
	rooms := g.numbers(func(r *room) bool { return !r.left && (r.fresh || r.recounted || g.summaryChanged(r)) })
	if len(rooms) == 0 {
		return nil
	}
	found, err := g.api.sessions.summaries.get(ctx, rooms, func(missing []int64) (map[int64]summary, error) {
		return g.loadSummaries(ctx, missing)
	})
	for number, s := range found {
		g.rooms[number].summary = &s
	}
	return err
}

func (g *gathering) summaryChanged(r *room) bool {
	for i := range r.events {
		e := &r.events[i]
		if !changesSummary(e.Event.Event) {
			continue
		}
		if r.match != nil { // which has the names of heroes in it
			return true
		}
		if e.rendered == nil || e.Type != "m.room.member" || before(e.rendered) != e.Membership() {
			return true
		}
	}
	if r.complete {
		return false
	}
	for _, e := range r.base {
		if changesSummary(e.Event) {
			return true
		}
	}
	return false
}

func (g *gathering) loadSummaries(ctx context.Context, rooms []int64) (map[int64]summary, error) {
	db := g.api.db
	infos, err := db.RoomInfos(ctx, rooms)
	if err != nil {
		return nil, err
	}
	found := make(map[int64]summary, len(rooms))
	for number, info := range infos {
		found[number] = summary{joined: info.Joined, invited: info.Invited}
	}
	names, err := db.CurrentNames(ctx, infos)
	if err != nil {
		return nil, err
	}
	for i := range names {
		s := found[names[i].Room]
		s.named = s.named || namesRoom(names[i].Event)
		found[names[i].Room] = s
	}
	var unnamed []int64
	for number, s := range found {
		if !s.named {
			unnamed = append(unnamed, number)
		}
	}
	members, err := db.FirstMembers(ctx, unnamed, maxHeroes+1)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		s := found[m.Room]
		s.members = append(s.members, m)
		found[m.Room] = s
	}
	return found, g.loadLeft(ctx, found)
}

// loadLeft adds the members of the past to summaries of rooms with one member only.
func (g *gathering) loadLeft(ctx context.Context, found map[int64]summary) error {
	var alone []int64
	for number, s := range found {
		if !s.named && len(s.members) <= 1 {
			alone = append(alone, number)
		}
	}
	left, err := g.api.db.FirstLeft(ctx, alone, maxHeroes+1)
	for _, m := range left {
		s := found[m.Room]
		s.left = append(s.left, m)
		found[m.Room] = s
	}
	return err
}

// namesRoom tells whether an event gives the room a name that is not empty.
func namesRoom(e *matrix.Event) bool {
	return e.ContentString("name") != "" && e.Type == "m.room.name" ||
		e.ContentString("alias") != "" && e.Type == "m.room.canonical_alias"
}

// heroes are the members after whom the user's client names the room.
func (s *summary) heroes(userID string) []storage.Membership {
	if s.named {
		return nil
	}
	heroes := make([]storage.Membership, 0, maxHeroes)
	for _, list := range [][]storage.Membership{s.members, s.left} {
		for _, m := range list {
			if m.UserID != userID && len(heroes) < maxHeroes {
				heroes = append(heroes, m)
			}
		}
		if len(heroes) > 0 {
			break
		}
	}
	return heroes
}

func (s *summary) append(dst []byte, userID string) []byte {
	dst = strconv.AppendInt(append(dst, `{"m.joined_member_count":`...), s.joined, 10)
	dst = strconv.AppendInt(append(dst, `,"m.invited_member_count":`...), s.invited, 10)
	if !s.named {
		dst = append(dst, `,"m.heroes":[`...)
		for i, hero := range s.heroes(userID) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = matrix.AppendString(dst, hero.UserID)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}
