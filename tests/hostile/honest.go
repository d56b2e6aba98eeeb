package hostile

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"beep/matrix"
	"beep/tests/harness"
)

// serveHonestly answers what a test does not take over.
func (s *Server) serveHonestly() {
	s.honest = http.NewServeMux()
	handle := func(pattern string, handler http.HandlerFunc) { s.honest.HandleFunc(pattern, handler) }
	handle("/", func(w http.ResponseWriter, _ *http.Request) { s.refuse(w, 404, "M_UNRECOGNIZED") })
	handle(KeysPattern, func(w http.ResponseWriter, _ *http.Request) { s.respond(w, 200, s.Keys(nil)) })
	handle("GET "+V1+"/version", func(w http.ResponseWriter, _ *http.Request) {
		s.respond(w, 200, harness.Object{"server": harness.Object{"name": "hostile", "version": "1"}})
	})
	handle("PUT "+V1+"/send/{txn}", s.takeTransaction)
	for _, membership := range []string{"join", "leave", "knock"} {
		handle("GET "+V1+"/make_"+membership+"/{room}/{user}", s.inRoom(func(r *Room, q *http.Request) any { return r.template(q.PathValue("user"), membership) }))
	}
	handle("PUT "+V2+"/send_join/{room}/{event}", s.inRoom((*Room).takeJoin))
	handle("PUT "+V2+"/send_leave/{room}/{event}", s.inRoom(func(r *Room, q *http.Request) any { r.take(q); return harness.Object{} }))
	handle("PUT "+V1+"/send_knock/{room}/{event}", s.inRoom(func(r *Room, q *http.Request) any {
		r.take(q)
		return harness.Object{"knock_room_state": r.stripped()}
	}))
	handle("PUT "+V2+"/invite/{room}/{event}", s.signInvite)
	handle("GET "+V1+"/event/{event}", s.serveEvent)
	handle("GET "+V1+"/state/{room}", s.inRoom(func(r *Room, q *http.Request) any {
		state := r.stateBefore(q)
		return harness.Object{"pdus": RawEvents(state), "auth_chain": RawEvents(r.AuthChain(state...))}
	}))
	handle("GET "+V1+"/state_ids/{room}", s.inRoom(func(r *Room, q *http.Request) any {
		state := r.stateBefore(q)
		return harness.Object{"pdu_ids": IDs(state), "auth_chain_ids": IDs(r.AuthChain(state...))}
	}))
	handle("GET "+V1+"/event_auth/{room}/{event}", s.inRoom(func(r *Room, q *http.Request) any {
		chain := []*matrix.Event{}
		if e := r.Event(q.PathValue("event")); e != nil {
			chain = r.AuthChain(e)
		}
		return harness.Object{"auth_chain": RawEvents(chain)}
	}))
	handle("GET "+V1+"/backfill/{room}", s.inRoom(func(r *Room, q *http.Request) any {
		limit, _ := strconv.Atoi(q.URL.Query().Get("limit"))
		return harness.Object{"origin": s.Name, "origin_server_ts": now(), "pdus": RawEvents(r.walk(q.URL.Query()["v"], nil, limit))}
	}))
	handle("POST "+V1+"/get_missing_events/{room}", s.inRoom((*Room).missingEvents))
}

// inRoom answers for a room of the server.
func (s *Server) inRoom(answer func(*Room, *http.Request) any) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if r := s.room(q.PathValue("room")); r != nil {
			s.respond(w, 200, answer(r, q))
			return
		}
		s.refuse(w, 404, "M_NOT_FOUND")
	}
}

func (r *Room) template(userID, membership string) any {
	p := r.Draft(userID, "m.room.member", &userID, harness.Object{"membership": membership})
	e, err := r.s.Signer.Build(p)
	if err != nil {
		r.s.t.Error(err)
		return nil
	}
	return harness.Object{"room_version": string(r.Version), "event": json.RawMessage(e.Unsigned())}
}

// take places the event that is the body of a request.
func (r *Room) take(q *http.Request) *matrix.Event {
	var raw json.RawMessage
	err := json.NewDecoder(q.Body).Decode(&raw)
	if err != nil {
		r.s.t.Error(err)
		return nil
	}
	return r.accept(raw)
}

// accept places an event, unless it is there already. It may be called by any goroutine.
func (r *Room) accept(raw []byte) *matrix.Event {
	e, err := matrix.Parse(r.Version, raw)
	if err != nil {
		r.s.t.Errorf("the server under attack sends what is no event: %v in %s", err, raw)
		return nil
	}
	r.mu.Lock()
	_, known := r.after[e.ID]
	r.mu.Unlock()
	if !known {
		r.Add(e)
	}
	return e
}

func (r *Room) takeJoin(q *http.Request) any {
	join := r.take(q)
	if join == nil {
		return nil
	}
	state := r.Before(join).Events()
	return harness.Object{"origin": r.s.Name, "members_omitted": false, "event": json.RawMessage(join.JSON),
		"state": RawEvents(state), "auth_chain": RawEvents(r.AuthChain(append(state, join)...))}
}

// stripped is what a user is shown of the room who is not in it.
func (r *Room) stripped() []harness.Object {
	shown := []harness.Object{}
	state := r.State()
	for _, eventType := range []string{"m.room.create", "m.room.join_rules", "m.room.name"} {
		if e := state.Get(eventType, ""); e != nil {
			shown = append(shown, harness.Object{"type": e.Type, "state_key": "", "sender": e.Sender, "content": json.RawMessage(e.Content)})
		}
	}
	return shown
}

// InviteState is what an invite shows of the room: whole events.
func (r *Room) InviteState() []json.RawMessage {
	state := r.State()
	shown := []json.RawMessage{}
	for _, eventType := range []string{"m.room.create", "m.room.join_rules"} {
		if e := state.Get(eventType, ""); e != nil {
			shown = append(shown, e.JSON)
		}
	}
	return shown
}

func (s *Server) signInvite(w http.ResponseWriter, q *http.Request) {
	var body struct {
		Version matrix.RoomVersion `json:"room_version"`
		Event   json.RawMessage    `json:"event"`
	}
	err := json.NewDecoder(q.Body).Decode(&body)
	if err != nil {
		s.t.Error(err)
		return
	}
	e, err := matrix.Parse(body.Version, body.Event)
	if err == nil {
		e, err = s.Signer.Countersign(e)
	}
	if err != nil {
		s.t.Error(err)
		return
	}
	s.respond(w, 200, harness.Object{"event": json.RawMessage(e.JSON)})
}

func (s *Server) serveEvent(w http.ResponseWriter, q *http.Request) {
	if e := s.Known(q.PathValue("event")); e != nil {
		s.respond(w, 200, harness.Object{"origin": s.Name, "origin_server_ts": now(), "pdus": RawEvents([]*matrix.Event{e})})
		return
	}
	s.refuse(w, 404, "M_NOT_FOUND")
}

// Known is an event of any room of the server; nil if there is none.
func (s *Server) Known(id string) *matrix.Event {
	s.mu.Lock()
	rooms := make([]*Room, 0, len(s.rooms))
	for _, r := range s.rooms {
		rooms = append(rooms, r)
	}
	s.mu.Unlock()
	for _, r := range rooms {
		if e := r.Event(id); e != nil {
			return e
		}
	}
	return nil
}

// stateBefore is the state before the event that a request names, nothing if it has no place.
func (r *Room) stateBefore(q *http.Request) []*matrix.Event {
	e := r.Event(q.URL.Query().Get("event_id"))
	if e == nil {
		return []*matrix.Event{}
	}
	return append([]*matrix.Event{}, r.Before(e).Events()...)
}

func (r *Room) missingEvents(q *http.Request) any {
	var body struct {
		Earliest []string `json:"earliest_events"`
		Latest   []string `json:"latest_events"`
		Limit    int      `json:"limit"`
	}
	if err := json.NewDecoder(q.Body).Decode(&body); err != nil {
		r.s.t.Error(err)
		return nil
	}
	var from []string
	for _, id := range body.Latest {
		if e := r.Event(id); e != nil {
			from = append(from, e.PrevEvents()...)
		}
	}
	found := r.walk(from, body.Earliest, body.Limit)
	slices.Reverse(found)
	return harness.Object{"events": RawEvents(found)}
}

// takeTransaction places events of rooms that the server knows, and keeps EDUs.
func (s *Server) takeTransaction(w http.ResponseWriter, q *http.Request) {
	var body struct {
		PDUs []json.RawMessage `json:"pdus"`
		EDUs []json.RawMessage `json:"edus"`
	}
	if err := json.NewDecoder(q.Body).Decode(&body); err != nil {
		s.t.Error(err)
		return
	}
	results := harness.Object{}
	for _, raw := range body.PDUs {
		parsed, err := harness.ParseJSON(raw)
		if err != nil {
			s.t.Error(err)
			return
		}
		if r := s.room(parsed.At("room_id").Str()); r != nil {
			if e := r.accept(raw); e != nil {
				results[e.ID] = harness.Object{}
			}
		}
	}
	for _, raw := range body.EDUs {
		parsed, err := harness.ParseJSON(raw)
		if err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.edus = append(s.edus, parsed)
		s.mu.Unlock()
	}
	s.respond(w, 200, harness.Object{"pdus": results})
}

// AwaitEvent waits until the server under attack has sent an event.
func (s *Server) AwaitEvent(id string) *matrix.Event {
	s.t.Helper()
	Await(s.t, "event "+id, func() bool { return s.Known(id) != nil })
	return s.Known(id)
}

// EDUs are the EDUs of a type that the server under attack has sent so far.
func (s *Server) EDUs(eduType string) []harness.JSON {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.edus), func(edu harness.JSON) bool { return edu.At("edu_type").Str() != eduType })
}
