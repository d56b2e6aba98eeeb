package syncapi

import (
	"context"
	"maps"
	"slices"

	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

// slideFromWindow gathers what is new for the connection from the window of the log, and from the
// database what of it the client has not had. errWindow: the window does not reach back so far.
func (g *gathering) slideFromWindow(ctx context.Context) error {
	own := changes{}
	if !g.initial {
		var err error
		if own, err = g.ownInWindow(); err != nil {
			return err
		}
	}
	if err := g.takeUp(ctx, own, false); err != nil {
		return err
	}
	if g.initial {
		return g.finishSlide(ctx, own, true)
	}
	present := map[string]storage.Presence{} // which nobody is told
	ok := g.api.db.Log.Range(g.since, g.upTo, func(e *stream.Entry) bool {
		g.take(e, present)
		g.takeDevices(e)
		return true
	})
	if !ok {
		return errWindow
	}
	for _, r := range g.order {
		r.complete = !r.stored
	}
	return g.finishSlide(ctx, own, true)
}

// slideFromDatabase gathers what is new for a connection that was away for long.
func (g *gathering) slideFromDatabase(ctx context.Context) error {
	own, err := g.ownInDatabase(ctx)
	if err != nil {
		return err
	}
	if err := g.takeUp(ctx, own, true); err != nil {
		return err
	}
	data, err := g.api.db.AccountDataSince(ctx, g.userID, g.since, g.upTo)
	if err != nil {
		return err
	}
	for _, d := range data {
		g.addAccountData(d)
	}
	if err := g.addEphemeralSince(ctx); err != nil {
		return err
	}
	return g.finishSlide(ctx, own, false)
}

// takeUp takes up the rooms that the rules name: with stored all of them, otherwise those of which
// the log does not have all that is to be told.
func (g *gathering) takeUp(ctx context.Context, own changes, stored bool) error {
	if err := g.matchRooms(ctx, own); err != nil {
		return err
	}
	var invites, removed []int64
	var left []*room
	for number, m := range g.sliding.matched {
		same := m.known && m.sent.member == m.place.pos
		switch {
		case m.place.membership == "join":
			if r := g.joined(m, own[number], stored); r != nil {
				g.add(number, r)
			}
		case same:
		case invited(m.place.membership):
			invites = append(invites, number)
		case len(own[number]) > 0 && m.known:
			left = append(left, g.leaves(m, own[number], stored))
		default:
			removed = append(removed, number)
		}
	}
	if err := g.addInvites(ctx, invites); err != nil {
		return err
	}
	were, err := g.removals(ctx, removed)
	if err != nil {
		return err
	}
	g.recountCompleted()
	return g.addLeft(ctx, append(left, were...))
}

// joined is a room that the user is joined to; nil if the log has all that there is to tell.
func (g *gathering) joined(m *match, own []*roomserver.ClientEvent, stored bool) *room {
	r := g.sliding.room(m, g.since)
	fresh := !m.known || !m.sent.joined || !m.sent.live && m.sent.member != m.place.pos || len(own) > 0 && before(own[0]) != "join"
	for _, e := range own {
		r.checked = r.checked || before(e) != "join" || e.Membership() != "join"
	}
	switch {
	case fresh:
		r.fresh, r.checked, r.stored, r.from = true, true, true, 0
	case !m.sent.live:
		r.checked, r.stored, r.from = true, true, m.sent.upTo
	case m.expanded:
		r.checked, r.stored = true, true
	case stored:
		r.stored = true
	case len(own) == 0 && !m.widened && m.direct == m.sent.direct && !g.asksAnew(m):
		return nil
	}
	return r
}

// live is a room of which the client has got everything up to its last answer; nil if the
// room is none.
func (s *sliding) live(number int64) *room {
	if m := s.matched[number]; m != nil && m.place.membership == "join" && m.sent.live {
		return s.room(m, s.turn.base.upTo)
	}
	return nil
}

// loads are how many events are loaded of the timelines: few different numbers, as each
// takes a query.
var loads = [...]int{1, 20, 50, maxTimeline}

func (s *sliding) room(m *match, since stream.Pos) *room {
	r := &room{number: m.number, id: m.place.roomID, match: m, limit: m.limit, from: since}
	for _, r.load = range loads {
		if r.load >= r.limit {
			break
		}
	}
	return r
}

// leaves is a room that the user has left since the last answer.
func (g *gathering) leaves(m *match, own []*roomserver.ClientEvent, stored bool) *room {
	base := g.sliding.room(m, g.since)
	r := g.leftRoom(m.number, own)
	r.match, r.limit, r.load = base.match, base.limit, base.load
	switch {
	case r.own != nil:
	case r.fresh:
	case !m.sent.live:
		r.checked, r.stored, r.from = true, true, m.sent.upTo
	default:
		r.stored = stored
	}
	return r
}

// removals are rooms that the user was put out of before the client began.
func (g *gathering) removals(ctx context.Context, numbers []int64) ([]*room, error) {
	events, err := g.memberEvents(ctx, numbers)
	if err != nil {
		return nil, err
	}
	rendered, err := g.api.rooms.Render(ctx, events)
	if err != nil {
		return nil, err
	}
	var rooms []*room
	for _, e := range rendered {
		r := g.sliding.room(g.sliding.matched[e.Room], 0)
		r.left, r.fresh, r.checked, r.stored, r.end = true, true, true, true, e
		rooms = append(rooms, r)
	}
	return rooms, nil
}

// recountCompleted takes up the rooms whose members have all become known since the last answer.
func (g *gathering) recountCompleted() {
	if g.view.snapshot.whole <= g.since {
		return
	}
	for number, p := range g.places {
		if p.membership == "join" && p.whole > g.since && p.whole <= g.upTo {
			if r := g.room(number); r != nil {
				r.recounted = true
			}
		}
	}
}

// finishSlide makes the answer of what was collected. In the window are devices and account data, too.
func (g *gathering) finishSlide(ctx context.Context, own changes, window bool) error {
	steps := []func(context.Context) error{
		g.timelines, g.states, g.summaries, g.lazyMembers, g.settleStates,
		func(ctx context.Context) error { return g.finishExtensions(ctx, own, window) },
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, r := range g.order {
		switch {
		case r.left:
			g.answer.left = append(g.answer.left, r)
		case r.told():
			g.answer.joined = append(g.answer.joined, r)
		}
	}
	return nil
}

// told tells whether there is something to tell of the room beside what extensions are for.
func (r *room) told() bool {
	return r.fresh || r.match.expanded || len(r.timeline) > 0 || r.limited || len(r.state) > 0 || r.summary != nil ||
		r.match.direct != r.match.sent.direct || r.changed("m.room.name") || r.changed("m.room.avatar")
}

// changed tells whether the state event of this type, with the empty key, is news.
func (r *room) changed(eventType string) bool {
	e := r.base[stateName{eventType, ""}]
	return e != nil && (r.fresh || e.At > r.from)
}

// requiredStates loads what is wanted of the current state of rooms, and what they are called.
func (g *gathering) requiredStates(ctx context.Context, infos map[int64]storage.RoomInfo) ([]storage.Event, error) {
	members, all, some := map[int64]storage.RoomInfo{}, map[int64]storage.RoomInfo{}, map[int64]storage.RoomInfo{}
	types := []string{"m.room.name", "m.room.avatar"}
	byName, users := map[int64]storage.RoomInfo{}, []string{}
	for number, info := range infos {
		config := g.rooms[number].match.config
		if config.allMembers() {
			members[number] = info
			continue
		}
		if named, any := config.types(); any {
			all[number] = info
		} else {
			some[number] = info
			types = append(types, named...)
		}
		if named := config.members(g.userID); len(named) > 0 {
			byName[number] = info
			users = append(users, named...)
		}
	}
	slices.Sort(types)
	types = slices.DeleteFunc(slices.Compact(types), func(t string) bool { return t == "m.room.member" })
	slices.Sort(users)
	var events []storage.Event
	for _, load := range []func() ([]storage.Event, error){
		func() ([]storage.Event, error) { return g.api.db.CurrentStates(ctx, members) },
		func() ([]storage.Event, error) { return g.api.db.CurrentStatesWithoutMembers(ctx, all) },
		func() ([]storage.Event, error) { return g.api.db.CurrentStatesOf(ctx, some, types) },
		func() ([]storage.Event, error) { return g.api.db.CurrentMembersOf(ctx, byName, slices.Compact(users)) },
	} {
		found, err := load()
		if err != nil {
			return nil, err
		}
		events = append(events, found...)
	}
	return events, nil
}

// requires tells whether a state event is to be sent: what is wanted by type and key, where it
// is news or was not wanted before, and of the members those that the timeline needs.
func (g *gathering) requires(r *room, e *storage.Event) bool {
	m := r.match
	changed := r.fresh || e.At > r.from
	if m.config.wants(e, g.userID) && (changed || m.widened && !m.before.wants(e, g.userID)) {
		return true
	}
	if e.Type != "m.room.member" || !m.config.lazy() {
		return false
	}
	return g.needsMember(r, nameOf(e.Event)) || changed && !r.fresh && !r.limited && !r.left
}

// heroMembers are the positions of the member events after whom the client names the room, of
// those that the base lacks.
func (g *gathering) heroMembers(r *room) (positions []int64) {
	if r.summary == nil {
		return nil
	}
	for _, hero := range r.summary.heroes(g.userID) {
		if r.base[stateName{"m.room.member", hero.UserID}] == nil {
			positions = append(positions, int64(hero.Pos))
		}
	}
	return positions
}

// step is what an answer changes of the connection.
func (s *sliding) step(a *slidingAnswer) *step {
	limited := map[int64]bool{}
	for _, r := range a.joined {
		limited[r.number] = r.limited
	}
	next := &step{rooms: map[int64]sentRoom{}}
	next.upTo, next.extensions, next.configs = a.upTo, s.extensions.set(), s.rules.configs
	for number, m := range s.matched {
		now := sentRoom{config: m.config.key, member: m.place.pos, limit: m.limit, joined: m.place.membership == "join", live: true, direct: m.direct}
		if m.known && m.sent.joined && !limited[number] {
			now.limit = max(m.limit, m.sent.limit)
		}
		if m.leaving && !m.removed {
			next.gone = append(next.gone, number)
		} else if !m.known || now != m.sent {
			next.rooms[number] = now
		}
	}
	maps.Copy(next.rooms, s.departed)
	return next
}
