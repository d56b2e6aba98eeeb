package stateres

import (
	"encoding/json"
	"slices"
	"testing"

	"beep/matrix"
	"beep/roomserver/authrules"
)

// room is a room's events with numbers, as a room server would have them stored.
type room struct {
	tb      testing.TB
	version matrix.RoomVersion
	id      string
	numbers map[string]int64
	events  map[int64]*authrules.Event
	keys    map[authrules.Name]int64
	nodes   map[int64]Node

	loads, loaded, asked int // calls of Load, events they gave, calls of Keys
}

func newRoom(tb testing.TB, v matrix.RoomVersion, id string) *room {
	return &room{tb: tb, version: v, id: id, numbers: map[string]int64{}, events: map[int64]*authrules.Event{},
		keys: map[authrules.Name]int64{}, nodes: map[int64]Node{}}
}

// number is the event's number, given when it is first heard of.
func (r *room) number(id string) int64 {
	if r.numbers[id] == 0 {
		r.numbers[id] = int64(len(r.numbers) + 1)
	}
	return r.numbers[id]
}

func (r *room) add(id string, raw json.RawMessage) {
	r.tb.Helper()
	text, err := matrix.CanonicalJSON(raw, r.version.StrictNumbers())
	if err != nil {
		r.tb.Fatal(err)
	}
	e, err := matrix.ParseTrusted(r.version, id, text)
	if err != nil {
		r.tb.Fatal(err)
	}
	number := r.number(id)
	r.events[number] = authrules.New(e)
	var node Node
	if e.StateKey != nil {
		name := authrules.Name{Type: e.Type, StateKey: *e.StateKey}
		if r.keys[name] == 0 {
			r.keys[name] = int64(len(r.keys) + 1)
		}
		node.Key = r.keys[name]
	}
	for _, cited := range e.AuthEvents() {
		node.Auth = append(node.Auth, r.number(cited))
	}
	r.nodes[number] = node
}

func (r *room) set(ids []string) []Entry {
	set := make([]Entry, len(ids))
	for i, id := range ids {
		set[i] = Entry{r.nodes[r.numbers[id]].Key, r.numbers[id]}
	}
	slices.SortFunc(set, byKey)
	return set
}

func (r *room) ids(set []Entry) []string {
	ids := make([]string, len(set))
	for i, entry := range set {
		ids[i] = r.events[entry.Event].ID
	}
	slices.Sort(ids)
	return ids
}

type loader = func([]int64) (map[int64]*authrules.Event, error)

// parseAnew is Load without a cache.
func (r *room) parseAnew(events []int64) (map[int64]*authrules.Event, error) {
	found := make(map[int64]*authrules.Event, len(events))
	for _, number := range events {
		if e := r.events[number]; e != nil {
			parsed, err := matrix.ParseTrusted(r.version, e.ID, e.JSON)
			if err != nil {
				return nil, err
			}
			found[number] = authrules.New(parsed)
		}
	}
	return found, nil
}

func (r *room) input() Input {
	return Input{
		Version: r.version, Room: r.id,
		Graph: func(event int64) Node { return r.nodes[event] },
		Load: func(events []int64) (map[int64]*authrules.Event, error) {
			r.loads++
			found := make(map[int64]*authrules.Event, len(events))
			for _, number := range events {
				if e := r.events[number]; e != nil {
					r.loaded++
					found[number] = e
				}
			}
			return found, nil
		},
		Keys: func(names []authrules.Name) (map[authrules.Name]int64, error) {
			r.asked++
			found := make(map[authrules.Name]int64, len(names))
			for _, name := range names {
				if key := r.keys[name]; key != 0 {
					found[name] = key
				}
			}
			return found, nil
		},
	}
}

// draft is an event in the making. Auth are ids, which need not exist.
type draft struct {
	id, eventType, sender, content string
	stateKey                       *string
	ts                             int64
	auth                           []string
	room                           string // "": the room it is added to
}

// put adds an event without prev_events.
func (r *room) put(d draft) {
	r.tb.Helper()
	auth := make([]any, len(d.auth))
	for i, id := range d.auth {
		auth[i] = id
		if r.version.EventIDInEvent() {
			auth[i] = []any{id, map[string]string{}}
		}
	}
	event := map[string]any{
		"type": d.eventType, "sender": d.sender, "content": json.RawMessage(d.content), "origin_server_ts": d.ts,
		"depth": d.ts, "prev_events": []any{}, "auth_events": auth, "room_id": r.id,
	}
	if d.stateKey != nil {
		event["state_key"] = *d.stateKey
	}
	if d.room != "" {
		event["room_id"] = d.room
	}
	if d.id == "$create" && r.version.CreateWithoutRoom() {
		delete(event, "room_id")
	}
	raw, err := json.Marshal(event)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.add(d.id, raw)
}

// state puts a state event.
func (r *room) state(id, eventType, stateKey, sender, content string, ts int64, auth ...string) {
	r.tb.Helper()
	r.put(draft{id: id, eventType: eventType, stateKey: &stateKey, sender: sender, content: content, ts: ts, auth: auth})
}

const alice, bob = "@alice:a.test", "@bob:b.test"

// base is the ids of a small room's state: alice made it, bob is a moderator.
var base = []string{"$create", "$alice", "$levels", "$rules", "$bob"}

// newBase is a room with the state base.
func newBase(tb testing.TB, v matrix.RoomVersion) *room {
	tb.Helper()
	r := newRoom(tb, v, "!room:a.test")
	levels, create := `{"users":{"`+alice+`":100,"`+bob+`":50}}`, []string{"$create"}
	if v.CreateWithoutRoom() {
		r.id, create, levels = "!create", nil, `{"users":{"`+bob+`":50}}`
	}
	r.state("$create", "m.room.create", "", alice, `{"creator":"`+alice+`","room_version":"`+string(v)+`"}`, 1)
	r.state("$alice", "m.room.member", alice, alice, `{"membership":"join"}`, 2, create...)
	r.state("$levels", "m.room.power_levels", "", alice, levels, 3, append(create, "$alice")...)
	r.state("$rules", "m.room.join_rules", "", alice, `{"join_rule":"public"}`, 4, append(create, "$alice", "$levels")...)
	r.state("$bob", "m.room.member", bob, bob, `{"membership":"join"}`, 5, append(create, "$levels", "$rules")...)
	return r
}
