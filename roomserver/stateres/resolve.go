package stateres

import (
	"fmt"
	"slices"

	"beep/matrix"
	"beep/roomserver/authrules"
)

// Entry is one entry of a state: the event that the state has under a key. Both are
// numbers of the caller's: Key stands for a type and a state key, Event for an event of
// the room. Neither is 0.
type Entry struct{ Key, Event int64 }

// Node is what the caller knows of an event without reading it.
type Node struct {
	// Key is the number of its type and state key; 0 for an event that is no state,
	// and for one that is not known.
	Key int64
	// Auth are the numbers of its auth_events, in their order; those that are not
	// known are left out.
	Auth []int64
	// Rejected says that the event failed the checks on its receipt.
	Rejected bool
}

// Input is what a resolution works on.
type Input struct {
	Version matrix.RoomVersion
	Room    string // the room's id
	// Sets are the states to be resolved, each ordered by key. A key occurs once in each,
	// and only with an event.
	Sets [][]Entry
	// Graph is the graph of the room's auth_events, held in memory: it is asked for the
	// events of the states and of their auth chains. Room version 1 does not need it.
	Graph func(event int64) Node
	// Load reads events; those that are not stored are left out. It is called
	// twice at most.
	Load func(events []int64) (map[int64]*authrules.Event, error)
	// Keys gives the numbers of types and state keys; those that no event of the room
	// has are left out. It is called once at most.
	Keys func(names []authrules.Name) (map[authrules.Name]int64, error)
}

// Resolve is the state, ordered by key, that the room's version makes of the states.
// The order of the states does not matter. Errors are those of Load and Keys, and
// complaints about states that are damaged.
func Resolve(in Input) ([]Entry, error) {
	for i, set := range in.Sets {
		if !wellFormed(set) {
			return nil, fmt.Errorf("state %d of those to resolve is not ordered by key, or has an empty entry", i)
		}
	}
	r := &resolver{in: &in, sets: distinct(in.Sets), events: map[int64]*authrules.Event{}}
	if len(r.sets) == 0 {
		return []Entry{}, nil
	}
	if in.Version == "1" {
		return r.resolveV1()
	}
	return r.resolveV2()
}

// resolver is one resolution.
type resolver struct {
	in     *Input
	sets   [][]Entry                  // that differ
	events map[int64]*authrules.Event // read so far: state events of the room, no others

	levelsKey, createKey int64 // 0: the room has no such event
	create               int64 // room version 12: the create event, which no event cites
}

// candidate is an event that may become part of the resolved state.
type candidate struct {
	*authrules.Event
	number, key int64
	auth        []int64 // its auth_events
	needs       []int64 // keys of the state events that authorise it
}

// read loads the events that are not loaded yet.
func (r *resolver) read(numbers []int64) error {
	numbers = slices.DeleteFunc(numbers, func(n int64) bool { return n == 0 || r.events[n] != nil })
	slices.Sort(numbers)
	if numbers = slices.Compact(numbers); len(numbers) == 0 {
		return nil
	}
	loaded, err := r.in.Load(numbers)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if e := loaded[n]; e != nil && e.StateKey != nil && e.RoomID == r.in.Room {
			r.events[n] = e
		}
	}
	return nil
}

// readConflicted loads the events of a state; that they are there is for the caller
// of [Resolve] to keep.
func (r *resolver) readConflicted(conflicted []Entry, others ...int64) error {
	numbers := others
	for _, entry := range conflicted {
		numbers = append(numbers, entry.Event)
	}
	if err := r.read(numbers); err != nil {
		return err
	}
	for _, entry := range conflicted {
		if r.events[entry.Event] == nil {
			return fmt.Errorf("event %d of a state to resolve is no state event of the room", entry.Event)
		}
	}
	return nil
}

// findKeys finds the keys that the candidates need.
func (r *resolver) findKeys(list []*candidate) error {
	wanted := map[authrules.Name]struct{}{authrules.CreateName: {}, authrules.LevelsName: {}}
	for _, c := range list {
		for _, name := range c.Names() {
			wanted[name] = struct{}{}
		}
	}
	names := make([]authrules.Name, 0, len(wanted))
	for name := range wanted {
		names = append(names, name)
	}
	keys, err := r.in.Keys(names)
	if err != nil {
		return err
	}
	r.levelsKey, r.createKey = keys[authrules.LevelsName], keys[authrules.CreateName]
	for _, c := range list {
		for _, name := range c.Names() {
			if key := keys[name]; key != 0 {
				c.needs = append(c.needs, key)
			}
		}
	}
	return nil
}

// allowed is the check of one event against the state, and for what that lacks against
// the event's own auth_events.
func (r *resolver) allowed(c *candidate, s *state) bool {
	var few [8]*authrules.Event
	auth := few[:0]
	for _, key := range c.needs {
		number := s.get(key)
		if number == 0 {
			number = r.ownAuth(c, key)
		}
		if e := r.events[number]; e != nil {
			auth = append(auth, e)
		}
	}
	return authrules.Allowed(c.Event, auth) == nil
}
