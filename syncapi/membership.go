package syncapi

import (
	"context"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// invite is a room that the user is invited to, or knocks at.
type invite struct {
	event    *roomserver.ClientEvent // the user's own member event
	stripped []byte                  // the room's stripped state, a JSON list; nil for none
}

// changes are the user's own member events since the client's token, by room and
// in order.
type changes map[int64][]*roomserver.ClientEvent

// before is the user's membership before a member event, "" for none.
func before(e *roomserver.ClientEvent) string {
	if e.Replaced == nil {
		return ""
	}
	return e.Replaced.Membership()
}

// classify takes up the rooms that the user has come into or left.
func (g *gathering) classify(ctx context.Context, all changes) error {
	var stripped []int64
	var left []*room
	for number, own := range all {
		last := own[len(own)-1]
		switch last.Membership() {
		case "join":
			if g.hides(g.places[number]) {
				g.rooms[number] = nil
			} else {
				g.add(number, g.joinedRoom(number, own))
			}
		case "invite", "knock":
			g.rooms[number] = nil
			if g.allowsInvite(last.Event.Event) {
				stripped = append(stripped, g.addInvite(last)...)
			}
		default:
			left = append(left, g.leftRoom(number, own))
		}
	}
	g.addCompleted()
	if err := g.addLeft(ctx, left); err != nil {
		return err
	}
	return g.loadStripped(ctx, stripped)
}

// hides tells whether the client is not told of a joined room, as it wants all members
// and they are not all known.
func (g *gathering) hides(p place) bool {
	return g.sliding == nil && p.whole > g.upTo && !g.filter.Room.State.LazyLoadMembers
}

// addCompleted takes up the rooms whose members have all become known since the client's
// token. They are new to a client that wants them all; others are told how many they are.
func (g *gathering) addCompleted() {
	if g.view.snapshot.whole <= g.since {
		return
	}
	for number, p := range g.places {
		if p.membership != "join" || p.whole <= g.since || p.whole > g.upTo {
			continue
		}
		if g.sliding != nil || g.filter.Room.State.LazyLoadMembers {
			if r := g.room(number); r != nil {
				r.recounted = true
			}
			continue
		}
		if r := g.room(number); r != nil {
			*r = room{number: number, id: p.roomID, limit: r.limit, load: r.load, fresh: true, joined: true, checked: true, stored: true}
		}
	}
}

// joinedRoom is a room that the user is joined to, and was not all the time, or
// only changed the profile in.
func (g *gathering) joinedRoom(number int64, own []*roomserver.ClientEvent) *room {
	r := &room{number: number, id: own[0].RoomID, from: g.since, fresh: g.fullState}
	for _, e := range own {
		r.checked = r.checked || before(e) != "join" || e.Membership() != "join"
	}
	if before(own[0]) != "join" {
		// The timeline begins before the join: this is where the client learns what
		// there is to read.
		r.fresh, r.joined, r.stored, r.from = true, true, true, 0
	}
	return r
}

// leftRoom is a room that the user has left, is banned from, or has refused to
// come into.
func (g *gathering) leftRoom(number int64, own []*roomserver.ClientEvent) *room {
	r := &room{number: number, id: own[0].RoomID, left: true, from: g.since}
	for _, e := range own {
		switch was := before(e); {
		case was == "join" && e.Membership() != "join":
			r.end = e
		case was != "join" && e.Membership() == "join":
			r.checked = true
		}
	}
	if r.end == nil {
		last := own[len(own)-1]
		r.own = &shown{last.Event, last, last.Membership()}
		r.complete = true
	} else if before(own[0]) != "join" {
		r.fresh, r.stored, r.from = true, true, 0
	}
	return r
}

// addLeft takes up rooms that the user has left, but those that the user has forgotten.
func (g *gathering) addLeft(ctx context.Context, left []*room) error {
	if len(left) == 0 {
		return nil
	}
	memberships, err := g.api.db.Memberships(ctx, g.userID)
	if err != nil {
		return err
	}
	forgotten := map[int64]bool{}
	for _, m := range memberships {
		forgotten[m.Room] = m.Forgotten
	}
	for _, r := range left {
		if forgotten[r.number] {
			g.rooms[r.number] = nil
		} else {
			g.add(r.number, r)
		}
	}
	return nil
}

// allowsInvite tells whether the user is told of an invite or knock: not of those
// from ignored users.
func (g *gathering) allowsInvite(member *matrix.Event) bool {
	return !g.ignores(member.Sender) && g.filter.Room.AllowsRoom(member.RoomID)
}

// ignores tells whether the user ignores another one.
func (g *gathering) ignores(userID string) bool {
	_, ignored := g.ignored[userID]
	return ignored && userID != g.userID
}

// addInvite takes up an invite or a knock. It gives the room's number when its
// stripped state has to be loaded.
func (g *gathering) addInvite(e *roomserver.ClientEvent) (missing []int64) {
	i := &invite{event: e, stripped: e.StrippedState}
	if e.Membership() == "invite" {
		g.answer.invites = append(g.answer.invites, i)
	} else {
		g.answer.knocks = append(g.answer.knocks, i)
	}
	if i.stripped == nil {
		missing = append(missing, e.Room)
		g.rooms[e.Room] = nil
	}
	return missing
}

// loadStripped loads the stripped state of invites and knocks.
func (g *gathering) loadStripped(ctx context.Context, rooms []int64) error {
	if len(rooms) == 0 {
		return nil
	}
	stripped, err := g.api.db.StrippedState(ctx, g.userID, rooms)
	if err != nil {
		return err
	}
	byID := make(map[string][]byte, len(stripped))
	for number, state := range stripped {
		byID[g.places[number].roomID] = state
	}
	for _, list := range [][]*invite{g.answer.invites, g.answer.knocks} {
		for _, i := range list {
			if i.stripped == nil {
				i.stripped = byID[i.event.RoomID]
			}
		}
	}
	return nil
}

// invitedTo are the rooms that the user is invited to or knocks at.
func (g *gathering) invitedTo() (rooms []int64) {
	for number, p := range g.places {
		if invited(p.membership) {
			rooms = append(rooms, number)
		}
	}
	return rooms
}

// memberEvents are the user's own member events in the rooms.
func (g *gathering) memberEvents(ctx context.Context, rooms []int64) ([]storage.Event, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	var positions []int64
	for _, number := range rooms {
		positions = append(positions, int64(g.places[number].pos))
	}
	infos, err := g.api.db.RoomInfos(ctx, rooms)
	if err != nil {
		return nil, err
	}
	return g.api.db.StateEventsAt(ctx, infos, positions)
}

// addInvites takes up invites and knocks that the client does not know of.
func (g *gathering) addInvites(ctx context.Context, rooms []int64) error {
	members, err := g.memberEvents(ctx, rooms)
	if err != nil {
		return err
	}
	var missing []int64
	for i := range members {
		if g.allowsInvite(members[i].Event) {
			missing = append(missing, g.addInvite(roomserver.NewClientEvent(&members[i]))...)
		}
	}
	return g.loadStripped(ctx, missing)
}
