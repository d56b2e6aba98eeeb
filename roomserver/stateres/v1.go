package stateres

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"slices"

	"beep/roomserver/authrules"
)

// resolveV1 is the algorithm of room version 1 (section "State resolution" there).
func (r *resolver) resolveV1() ([]Entry, error) {
	agreed, conflicted := split(r.sets, false)
	s := &state{base: agreed, changed: map[int64]int64{}}
	if len(conflicted) == 0 {
		return s.under(agreed), nil
	}
	if err := r.readConflicted(conflicted); err != nil {
		return nil, err
	}
	list := make([]*candidate, len(conflicted))
	for i, entry := range conflicted {
		list[i] = &candidate{Event: r.events[entry.Event], number: entry.Event, key: entry.Key}
	}
	if err := r.findKeys(list); err != nil {
		return nil, err
	}
	var authorising []int64
	for _, c := range list {
		for _, key := range c.needs {
			authorising = append(authorising, find(agreed, key))
		}
	}
	if err := r.read(authorising); err != nil {
		return nil, err
	}
	r.resolveConflicts(s, byDepth(list))
	return s.under(agreed), nil
}

// resolveConflicts settles the conflicts of each key, those first that authorise others.
// Conflicts of one pass do not see each other's results.
func (r *resolver) resolveConflicts(s *state, conflicts map[int64][]*candidate) {
	passes := []struct {
		mine func(*candidate) bool
		pick func(*state, []*candidate) *candidate
	}{
		{func(c *candidate) bool { return c.IsState(authrules.LevelsName.Type, "") }, r.lastInRow},
		{func(c *candidate) bool { return c.Type == authrules.RulesName.Type }, r.lastInRow},
		{func(c *candidate) bool { return c.Type == "m.room.member" }, r.lastInRow},
		{func(*candidate) bool { return true }, r.deepestAllowed},
	}
	for _, pass := range passes {
		settled := map[int64]int64{}
		for key, list := range conflicts {
			if pass.mine(list[0]) {
				settled[key] = pass.pick(s, list).number
				delete(conflicts, key)
			}
		}
		for key, event := range settled {
			s.changed[key] = event
		}
	}
}

// byDepth groups the events by key: the deepest last, of equally deep ones that with the
// smallest SHA-1 of its id.
func byDepth(list []*candidate) map[int64][]*candidate {
	groups := map[int64][]*candidate{}
	for _, c := range list {
		groups[c.key] = append(groups[c.key], c)
	}
	for _, group := range groups {
		slices.SortFunc(group, func(a, b *candidate) int {
			if a.Depth != b.Depth {
				return cmp.Compare(a.Depth, b.Depth)
			}
			x, y := sha1.Sum([]byte(a.ID)), sha1.Sum([]byte(b.ID))
			return bytes.Compare(y[:], x[:])
		})
	}
	return groups
}

// lastInRow takes the events from the shallowest on, each if it is allowed after the one
// before it, and stops at the first that is not. The state is as it was afterwards.
func (r *resolver) lastInRow(s *state, list []*candidate) *candidate {
	last := list[0]
	defer delete(s.changed, last.key)
	for _, c := range list[1:] {
		s.changed[last.key] = last.number
		if !r.allowed(c, s) {
			break
		}
		last = c
	}
	return last
}

// deepestAllowed is the deepest event that the state allows, or the shallowest of all
// if it allows none.
func (r *resolver) deepestAllowed(s *state, list []*candidate) *candidate {
	for _, c := range slices.Backward(list) {
		if r.allowed(c, s) {
			return c
		}
	}
	return list[0]
}
