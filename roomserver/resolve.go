package roomserver

import (
	"context"
	"slices"

	"beep/roomserver/authrules"
	"beep/roomserver/stateres"
	"beep/storage"
)

// resolution resolves states of one room.
type resolution struct {
	rooms *Rooms
	room  *storage.Room
	graph map[int64]stateres.Node
	// extra are events that are not stored yet, under numbers of their own.
	extra map[int64]*authrules.Event
	keys  map[stateName]int64 // of what extra has and the room never had
}

// resolver prepares to resolve states of the room; it reads the graph of the room's
// auth events once.
func (r *Rooms) resolver(ctx context.Context, room *storage.Room) (*resolution, error) {
	nodes, err := r.db.AuthGraph(ctx, room.Number)
	if err != nil {
		return nil, err
	}
	graph := make(map[int64]stateres.Node, len(nodes))
	for pos, n := range nodes {
		graph[pos] = stateres.Node{Key: n.Key, Auth: n.Auth, Rejected: n.Status == storage.Rejected}
	}
	return &resolution{rooms: r, room: room, graph: graph, extra: map[int64]*authrules.Event{}, keys: map[stateName]int64{}}, nil
}

// add makes an event known that is not stored yet.
func (s *resolution) add(number, key int64, e *authrules.Event, auth []int64) {
	s.graph[number] = stateres.Node{Key: key, Auth: auth}
	s.extra[number] = e
	s.keys[stateName{Type: e.Type, StateKey: *e.StateKey}] = key
}

// resolve makes one state of several, each with all its keys, ordered by them.
func (s *resolution) resolve(ctx context.Context, sets [][]change) ([]change, error) {
	in := stateres.Input{Version: s.room.Version, Room: s.room.ID,
		Graph: func(n int64) stateres.Node { return s.graph[n] },
		Load:  func(numbers []int64) (map[int64]*authrules.Event, error) { return s.load(ctx, numbers) },
		Keys:  func(names []stateName) (map[stateName]int64, error) { return s.keysOf(ctx, names) },
	}
	for _, set := range sets {
		entries := make([]stateres.Entry, len(set))
		for i, c := range set {
			entries[i] = stateres.Entry{Key: c.key, Event: c.pos}
		}
		in.Sets = append(in.Sets, entries)
	}
	resolved, err := stateres.Resolve(in)
	changes := make([]change, len(resolved))
	for i, e := range resolved {
		changes[i] = change{e.Key, e.Event}
	}
	return changes, err
}

func (s *resolution) load(ctx context.Context, numbers []int64) (map[int64]*authrules.Event, error) {
	loaded := make(map[int64]*authrules.Event, len(numbers))
	stored := slices.DeleteFunc(slices.Clone(numbers), func(n int64) bool { return s.extra[n] != nil })
	for _, n := range numbers {
		if e := s.extra[n]; e != nil {
			loaded[n] = e
		}
	}
	events, err := s.rooms.db.EventsByPos(ctx, stored)
	for i := range events {
		loaded[int64(events[i].Pos)] = authrules.New(events[i].Event)
	}
	return loaded, err
}

func (s *resolution) keysOf(ctx context.Context, names []stateName) (map[stateName]int64, error) {
	found, err := s.rooms.keysOf(ctx, s.room.Number, names)
	for _, name := range names {
		if key := s.keys[name]; key != 0 && found[name] == 0 {
			found[name] = key
		}
	}
	return found, err
}

// keysOf are the numbers of types and keys in the room's packed states; what its
// state never had is left out.
func (r *Rooms) keysOf(ctx context.Context, room int64, names []stateName) (map[stateName]int64, error) {
	wanted := make(map[stateName]bool, len(names))
	var types, stateKeys []string
	for _, name := range names {
		wanted[name] = true
		types, stateKeys = append(types, name.Type), append(stateKeys, name.StateKey)
	}
	slices.Sort(types)
	keys, err := r.db.StateKeysAmong(ctx, room, slices.Compact(types), stateKeys)
	found := make(map[stateName]int64, len(names))
	for _, k := range keys {
		if name := (stateName{Type: k.Type, StateKey: k.StateKey}); wanted[name] {
			found[name] = k.Key
		}
	}
	return found, err
}
