package hostile

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"sync"

	"beep/matrix"
	"beep/roomserver/authrules"
	"beep/tests/harness"
)

// State is the state of a room.
type State map[authrules.Name]*matrix.Event

// Get is the event of a type and key; nil for none.
func (s State) Get(eventType, stateKey string) *matrix.Event {
	return s[authrules.Name{Type: eventType, StateKey: stateKey}]
}

// Events are all of them, ordered by depth.
func (s State) Events() []*matrix.Event {
	return slices.SortedFunc(maps.Values(s), func(a, b *matrix.Event) int { return int(a.Depth - b.Depth) })
}

// Room is a room as an honest server has it: of its own, or one of the server under attack
// that it has joined. Where forks meet, the state of the last one counts.
type Room struct {
	ID      string
	Version matrix.RoomVersion

	s      *Server
	mu     sync.Mutex
	events map[string]*matrix.Event
	after  map[string]State // the state after each event whose place is known
	heads  []*matrix.Event  // those that no other follows
}

func (s *Server) newRoom(id string, v matrix.RoomVersion) *Room {
	r := &Room{ID: id, Version: v, s: s, events: map[string]*matrix.Event{}, after: map[string]State{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms[id] = r
	return r
}

func (s *Server) room(id string) *Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[id]
}

// Mallory is the user of the server who creates its rooms.
func (s *Server) Mallory() string { return s.User("mallory") }

// NewRoom makes a room that anybody may join.
func (s *Server) NewRoom(v matrix.RoomVersion) *Room {
	s.t.Helper()
	return s.NewRoomWith(v, matrix.NewRoomID(s.Name), nil)
}

// NewRoomWith makes a room that anybody may join, with this id (which room version 12 does
// not let one choose) and these members of the content of its create event.
func (s *Server) NewRoomWith(v matrix.RoomVersion, id string, creation harness.Object) *Room {
	s.t.Helper()
	mallory, empty := s.Mallory(), ""
	content := harness.Object{"room_version": string(v), "org.example.room": rand.Text()} // no two are the same room
	if v.CreatorInContent() {
		content["creator"] = mallory
	}
	maps.Copy(content, creation)
	p := &matrix.Proto{Version: v, RoomID: id, Type: "m.room.create", StateKey: &empty, Sender: mallory, Content: jsonOf(s.t, content),
		OriginServerTS: now(), Depth: 1}
	if v.CreateWithoutRoom() {
		p.RoomID = ""
	}
	create := s.Build(p)
	r := s.newRoom(create.RoomID, v)
	r.Add(create)
	r.SetState(mallory, "m.room.member", mallory, harness.Object{"membership": "join"})
	users := harness.Object{mallory: 100}
	if v.PrivilegedCreators() {
		delete(users, mallory)
	}
	r.SetState(mallory, "m.room.power_levels", "", harness.Object{"users": users})
	r.SetState(mallory, "m.room.join_rules", "", harness.Object{"join_rule": "public"})
	return r
}

// Join joins a room of the server under attack as a user of this one.
func (s *Server) Join(roomID, userID string) *Room {
	s.t.Helper()
	query := url.Values{}
	for _, v := range matrix.RoomVersions() {
		query.Add("ver", string(v))
	}
	made := s.Get(harness.Path(V1+"/make_join/%s/%s", roomID, userID) + "?" + query.Encode()).OK()
	join := s.Build(s.FromTemplate(made, roomID, userID, "join"))
	answer := s.Put(harness.Path(V2+"/send_join/%s/%s", roomID, join.ID), join).OK()
	r := s.room(roomID)
	if r == nil {
		r = s.newRoom(roomID, join.Version)
	}
	state := State{}
	for _, raw := range answer.At("auth_chain").List() {
		r.keep(raw)
	}
	for _, raw := range answer.At("state").List() {
		if e := r.keep(raw); e != nil {
			state[nameOf(e)] = e
		}
	}
	state[nameOf(join)] = join
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[join.ID], r.after[join.ID] = join, state
	r.heads = []*matrix.Event{join}
	return r
}

// FromTemplate is the draft of a membership event that the server under attack proposes.
func (s *Server) FromTemplate(made *Answer, roomID, userID, membership string) *matrix.Proto {
	s.t.Helper()
	v := matrix.RoomVersion(made.At("room_version").Str())
	raw := jsonOf(s.t, made.At("event").Value())
	place, err := matrix.ParseTemplate(v, raw, roomID, userID, membership)
	if err != nil {
		s.t.Fatal(err)
	}
	return &matrix.Proto{Version: v, RoomID: roomID, Type: "m.room.member", StateKey: &userID, Sender: userID,
		Content: jsonOf(s.t, made.At("event", "content").Value()), OriginServerTS: now(), Depth: place.Depth,
		PrevEvents: place.PrevEvents, AuthEvents: place.AuthEvents}
}

// keep remembers an event whose place in the room is not known.
func (r *Room) keep(raw harness.JSON) *matrix.Event {
	r.s.t.Helper()
	e, err := matrix.Parse(r.Version, []byte(raw.String()))
	if err != nil {
		r.s.t.Errorf("the server under attack gives what is no event: %v in %v", err, raw)
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[e.ID] = e
	return e
}

func nameOf(e *matrix.Event) authrules.Name {
	return authrules.Name{Type: e.Type, StateKey: *e.StateKey}
}

// Add places events in the room, so that those drafted from now on follow them.
func (r *Room) Add(events ...*matrix.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		state := r.before(e)
		if e.StateKey != nil {
			state[nameOf(e)] = e
		}
		r.events[e.ID], r.after[e.ID] = e, state
		followed := e.PrevEvents()
		r.heads = append(slices.DeleteFunc(slices.Clone(r.heads), func(h *matrix.Event) bool { return slices.Contains(followed, h.ID) }), e)
	}
}

// before is the state before an event, as a new map.
func (r *Room) before(e *matrix.Event) State {
	state := State{}
	for _, id := range e.PrevEvents() {
		maps.Copy(state, r.after[id])
	}
	return state
}

// Before is the state before an event.
func (r *Room) Before(e *matrix.Event) State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.before(e)
}

// State is the current state.
func (r *Room) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := State{}
	for _, h := range r.heads {
		maps.Copy(state, r.after[h.ID])
	}
	return state
}

// Heads are the events that no other follows.
func (r *Room) Heads() []*matrix.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heads)
}

// Draft drafts an event that follows the heads of the room and cites what authorises it. A
// test may change it, and has [Server.Build] make an event of it.
func (r *Room) Draft(sender, eventType string, stateKey *string, content any) *matrix.Proto {
	heads := r.Heads()
	p := &matrix.Proto{Version: r.Version, RoomID: r.ID, Type: eventType, StateKey: stateKey, Sender: sender,
		Content: jsonOf(r.s.t, content), OriginServerTS: now(), PrevEvents: References(heads...)}
	for _, h := range heads {
		p.Depth = max(p.Depth, min(h.Depth+1, matrix.MaxSafeInteger))
	}
	p.AuthEvents = References(r.Authorising(p)...)
	return p
}

// Authorising are the events of the current state that a draft has to cite.
func (r *Room) Authorising(p *matrix.Proto) []*matrix.Event {
	state := r.State()
	var cited []*matrix.Event
	for _, name := range authrules.NamesOf(p) {
		if e := state[name]; e != nil && !(r.Version.CreateWithoutRoom() && name == authrules.CreateName) {
			cited = append(cited, e)
		}
	}
	return cited
}

// Say makes a message and places it; nobody hears of it until it is sent.
func (r *Room) Say(sender, text string) *matrix.Event {
	r.s.t.Helper()
	e := r.s.Build(r.Draft(sender, "m.room.message", nil, harness.Object{"msgtype": "m.text", "body": text}))
	r.Add(e)
	return e
}

// SetState makes a state event and places it; nobody hears of it until it is sent.
func (r *Room) SetState(sender, eventType, stateKey string, content any) *matrix.Event {
	r.s.t.Helper()
	e := r.s.Build(r.Draft(sender, eventType, &stateKey, content))
	r.Add(e)
	return e
}

// Event is an event of the room; nil if it is not known.
func (r *Room) Event(id string) *matrix.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[id]
}

// AuthChain are the events that authorise some events, and those that authorise these.
func (r *Room) AuthChain(events ...*matrix.Event) []*matrix.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	var chain []*matrix.Event
	for next := events; len(next) > 0; next = next[1:] {
		for _, id := range next[0].AuthEvents() {
			if e := r.events[id]; e != nil && !seen[id] {
				seen[id] = true
				chain, next = append(chain, e), append(next, e)
			}
		}
	}
	return chain
}

// walk are the events from some on backwards, at most n, the newest first.
func (r *Room) walk(from, until []string, n int) []*matrix.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	for _, id := range until {
		seen[id] = true
	}
	var found []*matrix.Event
	for queue := from; len(queue) > 0 && len(found) < n; queue = queue[1:] {
		if e := r.events[queue[0]]; e != nil && !seen[e.ID] {
			seen[e.ID] = true
			found, queue = append(found, e), append(queue, e.PrevEvents()...)
		}
	}
	return found
}

// RawEvents are events as they stand in an answer.
func RawEvents(events []*matrix.Event) []json.RawMessage {
	raws := make([]json.RawMessage, len(events))
	for i, e := range events {
		raws[i] = e.JSON
	}
	return raws
}

// IDs are the ids of events.
func IDs(events []*matrix.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}
