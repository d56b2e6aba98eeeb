package stateres

import (
	"fmt"
	"strings"

	"beep/roomserver/authrules"
)

// resolveV2 is the algorithm of room versions 2 to 11, and with the changes of room
// version 12 that of 12 (section "State resolution" there).
func (r *resolver) resolveV2() ([]Entry, error) {
	agreed, conflicted := split(r.sets, true)
	s := &state{base: agreed, changed: map[int64]int64{}}
	if len(conflicted) == 0 {
		return s.under(agreed), nil
	}
	if r.isV21() {
		s.base = nil
	}
	list, err := r.candidates(agreed, conflicted)
	if err != nil {
		return nil, err
	}
	power, others := r.withPower(list)
	if err := r.readAuthorising(list, power, s); err != nil {
		return nil, err
	}
	r.apply(s, r.powerOrder(power))
	r.apply(s, r.mainlineOrder(others, s.get(r.levelsKey)))
	return s.under(agreed), nil
}

// isV21 tells whether the algorithm is that of room version 12: it starts from the empty
// state, and the full conflicted set has the conflicted state subgraph in it.
func (r *resolver) isV21() bool { return r.in.Version.CreateWithoutRoom() }

// candidates are the events of the full conflicted set, with the keys that they need.
// Events that are missing from an auth chain, or are no state of this room, are left out.
func (r *resolver) candidates(agreed, conflicted []Entry) ([]*candidate, error) {
	full := r.fullConflicted(agreed, conflicted)
	numbers := make([]int64, 0, len(full))
	for number := range full {
		numbers = append(numbers, number)
	}
	if err := r.readConflicted(conflicted, numbers...); err != nil {
		return nil, err
	}
	for _, entry := range conflicted {
		if key := r.in.Graph(entry.Event).Key; key != entry.Key {
			return nil, fmt.Errorf("event %d has the key %d in a state, %d in the graph", entry.Event, entry.Key, key)
		}
	}
	list := make([]*candidate, 0, len(full))
	for number := range full {
		node := r.in.Graph(number)
		if e := r.events[number]; e != nil && node.Key != 0 {
			list = append(list, &candidate{Event: e, number: number, key: node.Key, auth: node.Auth})
		}
	}
	return list, r.findKeys(list)
}

// withPower divides the events: the power events with what they are based on, and the others.
func (r *resolver) withPower(list []*candidate) (power, others []*candidate) {
	byNumber := make(map[int64]*candidate, len(list))
	chosen := make(map[int64]struct{}, len(list))
	var next []*candidate
	choose := func(c *candidate) {
		if _, ok := chosen[c.number]; !ok {
			chosen[c.number] = struct{}{}
			next = append(next, c)
		}
	}
	for _, c := range list {
		byNumber[c.number] = c
		if isPower(c.Event) {
			choose(c)
		}
	}
	for len(next) > 0 {
		c := next[len(next)-1]
		next = next[:len(next)-1]
		power = append(power, c)
		for _, number := range c.auth {
			if cited := byNumber[number]; cited != nil {
				choose(cited)
			}
		}
	}
	for _, c := range list {
		if _, ok := chosen[c.number]; !ok {
			others = append(others, c)
		}
	}
	return power, others
}

// isPower tells whether the event is a power event: one that may take away somebody's
// ability to do something in the room.
func isPower(e *authrules.Event) bool {
	if e.Type == "m.room.member" {
		m := e.Membership()
		return (m == "leave" || m == "ban") && *e.StateKey != e.Sender
	}
	return e.IsState(authrules.LevelsName.Type, "") || e.IsState(authrules.RulesName.Type, "")
}

// readAuthorising loads what the checks and the ordering will look at.
func (r *resolver) readAuthorising(list, power []*candidate, s *state) error {
	var numbers []int64
	for _, c := range list {
		for _, key := range c.needs {
			if number := s.get(key); number != 0 {
				numbers = append(numbers, number)
			} else {
				numbers = append(numbers, r.cited(c.auth, key))
			}
		}
	}
	for _, c := range power {
		levels := r.cited(c.auth, r.levelsKey)
		if numbers = append(numbers, levels); levels == 0 {
			numbers = append(numbers, r.cited(c.auth, r.createKey))
		}
	}
	if !r.isV21() {
		return r.read(numbers)
	}
	var creates []int64
	for _, set := range r.sets {
		creates = append(creates, find(set, r.createKey))
	}
	if err := r.read(append(numbers, creates...)); err != nil {
		return err
	}
	for _, number := range creates {
		if e := r.events[number]; e != nil && strings.TrimPrefix(e.ID, "$") == strings.TrimPrefix(r.in.Room, "!") {
			r.create = number
		}
	}
	return nil
}

// cited is the first event with the key among the auth_events, 0 if there is none.
func (r *resolver) cited(auth []int64, key int64) int64 {
	for _, number := range auth {
		if key != 0 && r.in.Graph(number).Key == key {
			return number
		}
	}
	return 0
}

// ownAuth is the event's own auth event with the key, 0 if there is none that counts.
func (r *resolver) ownAuth(c *candidate, key int64) int64 {
	if key == r.createKey && r.create != 0 {
		return r.create
	}
	if number := r.cited(c.auth, key); number != 0 && !r.in.Graph(number).Rejected {
		return number
	}
	return 0
}

// apply is the iterative auth checks algorithm.
func (r *resolver) apply(s *state, list []*candidate) {
	for _, c := range list {
		if r.allowed(c, s) {
			s.changed[c.key] = c.number
		}
	}
}
