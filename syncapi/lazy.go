package syncapi

import (
	"container/list"
	"context"
	"sync"

	"beep/storage"
	"beep/stream"
)

// lazy tells whether the client loads members of the room as it needs them (client-server
// API, "Lazy-loading room members").
func (g *gathering) lazy(r *room) bool {
	if r.match != nil {
		return r.match.config.lazy()
	}
	return g.filter.Room.State.LazyLoadMembers
}

// lazyMembers adds to the bases the members that a client with lazy loading needs:
// the senders in the timeline, the heroes, and the user where the state is whole.
func (g *gathering) lazyMembers(ctx context.Context) error {
	if g.sliding == nil && !g.filter.Room.State.LazyLoadMembers || g.filter.Room.State.AllowsNothing() {
		return nil
	}
	var rooms []*room
	var senders, members []int64
	for _, r := range g.order {
		if r.own != nil {
			continue
		}
		events, others := g.needSenders(r), g.needOthers(r)
		if len(events)+len(others) > 0 {
			rooms = append(rooms, r)
			senders, members = append(senders, events...), append(members, others...)
		}
	}
	if len(rooms) == 0 {
		return nil
	}
	infos, err := g.infos(ctx, rooms)
	if err != nil {
		return err
	}
	found, err := g.api.db.SenderMembers(ctx, infos, senders)
	if err != nil {
		return err
	}
	g.addMembers(found)
	if found, err = g.citedMembers(ctx, infos, senders); err != nil {
		return err
	}
	g.addMembers(found)
	found, err = g.api.db.StateEventsAt(ctx, infos, members)
	if err != nil {
		return err
	}
	g.addMembers(found)
	return g.rewind(ctx, rooms, infos)
}

// citedMembers are the members whom the events at these positions cite as their senders, in
// rooms whose members are not all known.
func (g *gathering) citedMembers(ctx context.Context, infos map[int64]storage.RoomInfo, senders []int64) ([]storage.Event, error) {
	partial := map[int64]storage.RoomInfo{}
	for number, info := range infos {
		if g.places[number].whole > g.upTo {
			partial[number] = info
		}
	}
	return g.api.db.CitedMembers(ctx, partial, senders)
}

// needSenders notes whose member events the timeline needs. It gives an event of
// each whose member event has to be looked for.
func (g *gathering) needSenders(r *room) (events []int64) {
	if !g.lazy(r) {
		return nil
	}
	told := map[string]bool{}
	for i := range r.timeline {
		e := r.timeline[i].Event
		if e.Type == "m.room.member" && e.StateKey != nil {
			if g.stateAfter() && r.fresh {
				r.need(*e.StateKey)
				if known := r.base[nameOf(e.Event)]; known == nil || known.At < e.At {
					r.setBase(e) // the client does not look for it in the timeline
				}
			} else if r.match != nil {
				r.need(*e.StateKey)
			}
			told[*e.StateKey] = true // by the timeline, from here on
		}
		if told[e.Sender] {
			continue
		}
		told[e.Sender] = true
		if g.need(r, e.Sender) {
			events = append(events, int64(e.Pos))
		}
	}
	return events
}

// needOthers notes the members that the client needs though they have sent
// nothing. It gives the positions of those member events that have to be loaded.
func (g *gathering) needOthers(r *room) (positions []int64) {
	if r.match != nil {
		return g.heroMembers(r)
	}
	if r.fresh && !r.left && g.need(r, g.userID) {
		positions = append(positions, int64(g.places[r.number].pos))
	}
	if r.summary == nil {
		return positions
	}
	for _, hero := range r.summary.heroes(g.userID) {
		if g.need(r, hero.UserID) {
			positions = append(positions, int64(hero.Pos))
		}
	}
	return positions
}

// need notes that the client needs a member event, unless it has got that before.
// It tells whether the base lacks it.
func (g *gathering) need(r *room, userID string) (missing bool) {
	if !r.fresh && !g.filter.Room.State.IncludeRedundantMembers && g.sent.has(r.number, userID) {
		return false
	}
	r.need(userID)
	return r.base[stateName{"m.room.member", userID}] == nil
}

func (r *room) need(userID string) {
	if r.members == nil {
		r.members = map[string]struct{}{}
	}
	r.members[userID] = struct{}{}
}

// addMembers adds member events to the bases that lack them.
func (g *gathering) addMembers(events []storage.Event) {
	for i := range events {
		if r := g.rooms[events[i].Room]; r.base[nameOf(events[i].Event)] == nil {
			r.setBase(&events[i])
		}
	}
}

// remember notes which member events the client has got with this answer.
func (g *gathering) remember(r *room) {
	if !g.lazy(r) {
		return
	}
	if r.fresh {
		g.sent.forget(r.number) // what the client knew is from before it was away
	}
	for _, e := range r.state {
		if e.Type == "m.room.member" {
			g.sent.add(r.number, *e.StateKey, g.batch)
		}
	}
	for i := range r.timeline {
		if e := r.timeline[i].Event; e.Type == "m.room.member" && e.StateKey != nil {
			g.sent.add(r.number, *e.StateKey, g.batch)
		}
	}
}

// lazyDevices remember which member events devices with lazy loading have got.
// What they forget is sent again.
type lazyDevices struct {
	most    int // members
	mu      sync.Mutex
	devices map[deviceKey]*sentMembers
	recent  *list.List // of *sentMembers, the longest unused first
	members int
}

// maxSentMembers bounds what is remembered of all devices together: about 100
// bytes for each.
const maxSentMembers = 200_000

type deviceKey struct{ userID, deviceID string }

// sentMembers are the members that one device has got.
type sentMembers struct {
	all     *lazyDevices // its mu guards the rest
	key     deviceKey
	element *list.Element
	rooms   map[int64]map[string]stream.Pos // by user the next_batch of the answer that had it
	members int
	newest  stream.Pos // of all these positions
}

func newLazyDevices() *lazyDevices {
	return &lazyDevices{most: maxSentMembers, devices: map[deviceKey]*sentMembers{}, recent: list.New()}
}

// device finds what a device has got with the answers up to its token. What was in
// later answers it never got, or it would have sent a later token.
func (l *lazyDevices) device(key deviceKey, token stream.Pos) *sentMembers {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.devices[key]
	if d == nil {
		d = &sentMembers{all: l, key: key, rooms: map[int64]map[string]stream.Pos{}}
		d.element = l.recent.PushBack(d)
		l.devices[key] = d
	} else {
		l.recent.MoveToBack(d.element)
	}
	if d.newest <= token {
		return d
	}
	for _, users := range d.rooms {
		for userID, batch := range users {
			if batch > token {
				delete(users, userID)
				d.count(-1)
			}
		}
	}
	d.newest = token
	return d
}

func (d *sentMembers) count(change int) {
	d.members += change
	d.all.members += change
}

func (d *sentMembers) has(room int64, userID string) bool {
	d.all.mu.Lock()
	defer d.all.mu.Unlock()
	_, sent := d.rooms[room][userID]
	return sent
}

func (d *sentMembers) forget(room int64) {
	d.all.mu.Lock()
	defer d.all.mu.Unlock()
	if d.dropped() {
		return
	}
	d.count(-len(d.rooms[room]))
	delete(d.rooms, room)
}

func (d *sentMembers) add(room int64, userID string, batch stream.Pos) {
	l := d.all
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.dropped() {
		return
	}
	users := d.rooms[room]
	if users == nil {
		users = map[string]stream.Pos{}
		d.rooms[room] = users
	}
	before := len(users)
	users[userID] = batch
	d.newest = max(d.newest, batch)
	d.count(len(users) - before)
	for l.members > l.most {
		oldest := l.recent.Remove(l.recent.Front()).(*sentMembers)
		delete(l.devices, oldest.key)
		l.members -= oldest.members
	}
}

// dropped tells that there was no room for the device any more.
func (d *sentMembers) dropped() bool { return d.all.devices[d.key] != d }
