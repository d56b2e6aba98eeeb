package syncapi

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"beep/storage"
	"beep/stream"
)

// match is a room that may be told of, what the rules want of it, and what the connection has
// been sent.
type match struct {
	number     int64
	place      place
	activity   storage.Activity // as far as the user may know it
	direct     bool             // it is a direct chat
	leaving    bool             // the user has left it since the last answer, which knew of it
	removed    bool             // by somebody else: lists go on having it
	lists      listSet
	subscribed bool
	limit      int // of the timeline
	config     *config
	parts      []*required // of the config

	sent  sentRoom
	known bool // the connection has been told of it
	// expanded tells that more of the timeline is wanted than was, widened that more of the state
	// is, where only before was.
	expanded, widened bool
	before            *config
}

// listSet is a set of lists, by number.
type listSet [(maxLists + 63) / 64]uint64

func (s *listSet) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *listSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// last is the position of what moves the room to the top of lists.
func (m *match) last() stream.Pos {
	if m.place.membership == "join" {
		return m.activity.Last
	}
	return m.place.at
}

// bump is what tells clients how to sort the room.
func (m *match) bump() stream.Pos {
	if m.place.membership == "join" {
		return m.activity.Bump
	}
	return m.place.at
}

// matchRooms finds the rooms that the rules name, and what of them is to be told.
func (g *gathering) matchRooms(ctx context.Context, own changes) error {
	s := g.sliding
	all, err := g.candidates(ctx, own)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(s.rules.lists, func(l listRule) bool { return !l.covers(len(all)) }) {
		slices.SortFunc(all, func(a, b *match) int {
			return cmp.Or(cmp.Compare(b.last(), a.last()), cmp.Compare(b.number, a.number))
		})
	}
	about, err := g.aboutRooms(ctx, all)
	if err != nil {
		return err
	}
	for i := range s.rules.lists {
		s.counts = append(s.counts, s.rules.lists[i].fill(i, all, about))
	}
	g.subscribe(all)
	g.settleMatches(all)
	return nil
}

// candidates are all rooms that may be in lists: those that the user has a part in or was put
// out of, and those that the connection knows of and the user has left now.
func (g *gathering) candidates(ctx context.Context, own changes) ([]*match, error) {
	made := make([]match, 0, len(g.places)+len(own))
	known := g.sliding.turn.knows(own)
	for number, p := range g.places {
		made = append(made, match{number: number, place: p})
	}
	for number, events := range own {
		last := events[len(events)-1]
		if keeps(last.Membership()) || !known[number] {
			continue
		}
		m := match{number: number, leaving: true, place: place{roomID: last.RoomID, membership: last.Membership(), pos: last.Pos, at: last.At}}
		if i := slices.IndexFunc(made, func(m match) bool { return m.number == number }); i >= 0 {
			m.removed = true
			made[i] = m
		} else {
			made = append(made, m)
		}
	}
	all, numbers := make([]*match, len(made)), make([]int64, len(made))
	for i := range made {
		all[i], numbers[i] = &made[i], made[i].number
	}
	activities, err := g.api.sessions.active.of(ctx, numbers)
	for i, m := range all {
		_, m.direct = g.direct[m.place.roomID]
		if m.place.membership == "join" {
			m.activity = activities[i]
		} else if !invited(m.place.membership) {
			m.activity.Type = activities[i].Type // which never changes; what does is not for who is gone
		}
	}
	return all, err
}

func invited(membership string) bool { return membership == "invite" || membership == "knock" }

// covers tells whether a list has all of so many rooms in its ranges.
func (l *listRule) covers(rooms int) bool {
	return len(l.ranges) == 0 || slices.ContainsFunc(l.ranges, func(r [2]int64) bool { return r[0] == 0 && r[1] >= int64(rooms)-1 })
}

// has tells whether the i-th room is in a range of the list.
func (l *listRule) has(i int) bool {
	return len(l.ranges) == 0 || slices.ContainsFunc(l.ranges, func(r [2]int64) bool { return r[0] <= int64(i) && int64(i) <= r[1] })
}

// fill puts the rooms into a list that are in its ranges, and gives how many there are in all.
func (l *listRule) fill(number int, all []*match, about *aboutRooms) (count int) {
	for _, m := range all {
		if !l.filters.allow(m, about) {
			continue
		}
		if l.has(count) {
			m.lists.add(number)
			m.take(l.rule)
		}
		count++
	}
	return count
}

// take adds what a rule wants of the room.
func (m *match) take(r rule) {
	m.parts = append(m.parts, r.required)
	m.limit = max(m.limit, r.limit)
}

// subscribe gives the rooms that are named what is wanted of them.
func (g *gathering) subscribe(all []*match) {
	if len(g.sliding.rules.subscriptions) == 0 {
		return
	}
	for _, m := range all {
		if r, ok := g.sliding.rules.subscriptions[m.place.roomID]; ok {
			m.subscribed = true
			m.take(r)
		}
	}
}

// settleMatches keeps the rooms that are named by rules, with what the connection has been sent
// of them. A room that the user leaves is told of once more in any case.
func (g *gathering) settleMatches(all []*match) {
	s := g.sliding
	s.matched = map[int64]*match{}
	configs := map[listSet]*config{}
	for _, m := range all {
		if m.leaving && len(m.parts) == 0 {
			for _, l := range s.rules.lists {
				m.take(l.rule)
			}
		} else if len(m.parts) == 0 {
			continue
		}
		if m.config = configs[m.lists]; m.config == nil || m.subscribed || m.leaving {
			m.config = s.rules.combine(m.parts)
		}
		if !m.subscribed && !m.leaving {
			configs[m.lists] = m.config
		}
		if m.place.whole <= g.upTo || !m.config.allMembers() {
			s.matched[m.number] = m
		}
	}
	s.departed = s.turn.record(s.matched)
	for _, m := range s.matched {
		m.compare(s.turn.base.configs)
	}
}

// compare finds what is wanted of the room beyond what was.
func (m *match) compare(configs map[uint64]*config) {
	if !m.known || !m.sent.joined {
		return
	}
	m.expanded = m.limit > m.sent.limit
	if m.sent.config == m.config.key {
		m.before = m.config
		return
	}
	m.before = configs[m.sent.config]
	m.widened = m.before == nil || slices.ContainsFunc(m.config.parts, func(r *required) bool {
		return !slices.ContainsFunc(m.before.parts, func(was *required) bool { return was.key == r.key })
	})
}

// aboutRooms is what filters go by beside what is in memory. It is loaded where there is a
// filter for it.
type aboutRooms struct {
	tags     map[int64][]string
	children map[string]map[string]bool // rooms by space
}

func (g *gathering) aboutRooms(ctx context.Context, all []*match) (*aboutRooms, error) {
	var tags, kinds bool
	spaces := map[string]bool{}
	for _, l := range g.sliding.rules.lists {
		f := &l.filters
		tags = tags || f.Tags != nil || f.NotTags != nil
		kinds = kinds || f.IsEncrypted != nil || f.RoomTypes != nil || f.NotRoomTypes != nil
		if f.Spaces != nil {
			for _, id := range *f.Spaces {
				spaces[id] = true
			}
		}
	}
	about := &aboutRooms{}
	var err error
	if tags {
		if about.tags, err = g.api.db.Tags(ctx, g.userID); err != nil {
			return nil, err
		}
	}
	if kinds {
		if err = g.learnInvites(ctx, all); err != nil {
			return nil, err
		}
	}
	about.children, err = g.childrenOf(ctx, spaces, all)
	return about, err
}

// learnInvites finds what invites and knocks tell of their rooms' types and encryption.
func (g *gathering) learnInvites(ctx context.Context, all []*match) error {
	byNumber := map[int64]*match{}
	var numbers []int64
	for _, m := range all {
		if invited(m.place.membership) {
			byNumber[m.number] = m
			numbers = append(numbers, m.number)
		}
	}
	stripped, err := g.api.db.StrippedState(ctx, g.userID, numbers)
	for number, state := range stripped {
		byNumber[number].activity = readStripped(state)
	}
	return err
}

func readStripped(state []byte) (a storage.Activity) {
	var events []struct {
		Type    string          `json:"type"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(state, &events) != nil {
		return a // another server's, which is not checked
	}
	for _, e := range events {
		switch e.Type {
		case "m.room.encryption":
			a.Encrypted = true
		case "m.room.create":
			var create struct {
				Type any `json:"type"`
			}
			if json.Unmarshal(e.Content, &create) == nil {
				a.Type, _ = create.Type.(string)
			}
		}
	}
	return a
}

// childrenOf are the rooms that are directly in the spaces, of those that the user is joined to.
func (g *gathering) childrenOf(ctx context.Context, spaces map[string]bool, all []*match) (map[string]map[string]bool, error) {
	found := map[string]map[string]bool{}
	if len(spaces) == 0 {
		return found, nil
	}
	var numbers []int64
	for _, m := range all {
		if spaces[m.place.roomID] && m.place.membership == "join" {
			numbers = append(numbers, m.number)
		}
	}
	infos, err := g.api.db.RoomInfos(ctx, numbers)
	if err != nil {
		return nil, err
	}
	events, err := g.api.db.CurrentStatesOf(ctx, infos, []string{"m.space.child"})
	for _, e := range events {
		var content struct {
			Via []string `json:"via"`
		}
		if json.Unmarshal(e.Content, &content) != nil || len(content.Via) == 0 {
			continue // taken out of the space again
		}
		if found[e.RoomID] == nil {
			found[e.RoomID] = map[string]bool{}
		}
		found[e.RoomID][*e.StateKey] = true
	}
	return found, err
}

// allow tells whether a room passes the filters.
func (f *roomFilters) allow(m *match, about *aboutRooms) bool {
	is := func(want *bool, has bool) bool { return want == nil || *want == has }
	roomType := func(t *string) bool {
		return t == nil && m.activity.Type == "" || t != nil && *t == m.activity.Type && *t != ""
	}
	tagged := func(tag string) bool { return slices.Contains(about.tags[m.number], tag) }
	in := func(space string) bool { return about.children[space][m.place.roomID] }
	return is(f.IsDM, m.direct) && is(f.IsEncrypted, m.activity.Encrypted) && is(f.IsInvite, m.place.membership == "invite") &&
		among(f.RoomTypes, roomType) && !(f.NotRoomTypes != nil && among(f.NotRoomTypes, roomType)) &&
		among(f.Tags, tagged) && !(f.NotTags != nil && among(f.NotTags, tagged)) && among(f.Spaces, in)
}

// among tells whether something holds for one of a list; without a list it holds.
func among[T any](list *[]T, holds func(T) bool) bool {
	return list == nil || slices.ContainsFunc(*list, holds)
}
