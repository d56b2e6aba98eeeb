package stateres

import (
	"cmp"
	"slices"
)

func byKey(a, b Entry) int { return cmp.Compare(a.Key, b.Key) }

// wellFormed tells whether the set is ordered, each key once, and without zeros.
func wellFormed(set []Entry) bool {
	last := int64(0)
	for i, entry := range set {
		if entry.Key == 0 || entry.Event == 0 || i > 0 && entry.Key <= last {
			return false
		}
		last = entry.Key
	}
	return true
}

// distinct leaves out sets that occurred before.
func distinct(sets [][]Entry) [][]Entry {
	var different [][]Entry
	for _, set := range sets {
		if !slices.ContainsFunc(different, func(other []Entry) bool { return slices.Equal(set, other) }) {
			different = append(different, set)
		}
	}
	return different
}

// split divides the entries of the sets into those that the sets agree on and those in
// conflict. A set that lacks a key disagrees if lacking says so.
func split(sets [][]Entry, lacking bool) (agreed, conflicted []Entry) {
	rest := slices.Clone(sets)
	var values []Entry
	for {
		values = values[:0]
		key, found := firstKey(rest)
		if !found {
			return agreed, conflicted
		}
		holders := 0
		for i, set := range rest {
			if len(set) == 0 || set[0].Key != key {
				continue
			}
			if holders++; !slices.Contains(values, set[0]) {
				values = append(values, set[0])
			}
			rest[i] = set[1:]
		}
		if len(values) == 1 && (!lacking || holders == len(sets)) {
			agreed = append(agreed, values[0])
		} else {
			conflicted = append(conflicted, values...)
		}
	}
}

// firstKey is the smallest key at the front of the sets.
func firstKey(sets [][]Entry) (key int64, found bool) {
	for _, set := range sets {
		if len(set) > 0 && (!found || set[0].Key < key) {
			key, found = set[0].Key, true
		}
	}
	return key, found
}

// except are the events of the set that are not among the agreed entries.
func except(set, agreed []Entry) []int64 {
	var events []int64
	for _, entry := range set {
		for len(agreed) > 0 && agreed[0].Key < entry.Key {
			agreed = agreed[1:]
		}
		if len(agreed) == 0 || agreed[0] != entry {
			events = append(events, entry.Event)
		}
	}
	return events
}

// state is a state in the making: changes on top of a base.
type state struct {
	base    []Entry // ordered by key
	changed map[int64]int64
}

// get is the event under the key, 0 if there is none.
func (s *state) get(key int64) int64 {
	if event, ok := s.changed[key]; ok {
		return event
	}
	return find(s.base, key)
}

// find is the event that the set has under the key, 0 if it has none.
func find(set []Entry, key int64) int64 {
	i, found := slices.BinarySearchFunc(set, key, func(e Entry, key int64) int { return cmp.Compare(e.Key, key) })
	if !found {
		return 0
	}
	return set[i].Event
}

// under is the whole state where the agreed entries stand above all changes.
func (s *state) under(agreed []Entry) []Entry {
	whole := make([]Entry, 0, len(agreed)+len(s.changed))
	for key, event := range s.changed {
		if find(agreed, key) == 0 {
			whole = append(whole, Entry{key, event})
		}
	}
	whole = append(whole, agreed...)
	slices.SortFunc(whole, byKey)
	return whole
}
