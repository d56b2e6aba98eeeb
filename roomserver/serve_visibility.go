package roomserver

import (
	"context"
	"slices"

	"beep/matrix"
	"beep/storage"
)

// membersLooked bounds the users of one server whose memberships in old states are
// looked at. For a server that has been in the room once only, they are those who were
// invited before.
const membersLooked = 1000

// show makes of events of a room what a server that is in the room may see of them
// (client-server API, "Room history visibility", for all of the server's users together):
// what none of them may see is redacted, as servers need every event's place in the
// graph. So are all events of users who asked to be forgotten: a server that asks for one
// does not have it. It works in place.
func (s *Serving) show(ctx context.Context, room *ServedRoom, server string, events []storage.Event) error {
	memberships, err := s.visible(ctx, room, server, events)
	if err != nil {
		return err
	}
	if err := s.rooms.Erase(ctx, events, slices.Repeat([]string{"leave"}, len(events))); err != nil {
		return err
	}
	for i := range events {
		if memberships[i] != "" {
			continue
		}
		redacted, err := events[i].Redacted()
		if err != nil {
			return err
		}
		events[i].Event = redacted
	}
	return nil
}

// visible tells for each event of the room the best membership that users of the server
// had at it, "" for an event that none of them may see.
func (s *Serving) visible(ctx context.Context, room *ServedRoom, server string, events []storage.Event) ([]string, error) {
	memberships := make([]string, len(events))
	var earlier []int
	for i := range events {
		switch e := &events[i]; {
		case room.present(e):
			memberships[i] = "join"
		case e.Status == storage.Outlier:
			memberships[i] = "leave" // a part of states that the server may ask for anyway
		case e.StateBefore != 0 || e.StateAfter != 0:
			earlier = append(earlier, i)
		}
	}
	return memberships, s.judge(ctx, room, server, events, earlier, memberships)
}

// judge fills in the memberships of those of the events that were sent before the server
// came to be in the room without a break.
func (s *Serving) judge(ctx context.Context, room *ServedRoom, server string, events []storage.Event, which []int, memberships []string) error {
	if len(which) == 0 {
		return nil
	}
	name := stateName{Type: "m.room.history_visibility"}
	keys, err := s.rooms.keysOf(ctx, room.Number, []stateName{name})
	if err != nil {
		return err
	}
	states := statesAround(events, which)
	found, err := s.rooms.states.lookup(ctx, &s.rooms.db.Reader, states, []int64{keys[name]})
	if err != nil {
		return err
	}
	contents, err := s.rooms.stateByPos(ctx, found)
	if err != nil {
		return err
	}
	visibility := func(state int64) string { return contents.visibility(found[state][keys[name]]) }
	hidden := slices.DeleteFunc(slices.Clone(states), func(state int64) bool { return maySee(visibility(state), "leave", true) })
	best, err := s.bestMemberships(ctx, room.Number, server, hidden)
	if err != nil {
		return err
	}
	for _, i := range which {
		for _, state := range []int64{events[i].StateBefore, events[i].StateAfter} {
			if membership := best(state); maySee(visibility(state), membership, true) {
				memberships[i] = membership
			}
		}
	}
	return nil
}

// statesAround are the ids of the states before and after the events.
func statesAround(events []storage.Event, which []int) []int64 {
	states := make([]int64, 0, 2*len(which))
	for _, i := range which {
		states = append(states, events[i].StateBefore, events[i].StateAfter)
	}
	slices.Sort(states)
	return slices.Compact(states)
}

// bestMemberships tells for each of the states what the server's users were there: join
// if one was joined, or else invite, or else leave.
func (s *Serving) bestMemberships(ctx context.Context, room int64, server string, states []int64) (func(state int64) string, error) {
	best := map[int64]string{}
	tell := func(state int64) string {
		if best[state] == "" {
			return "leave"
		}
		return best[state]
	}
	if len(states) == 0 {
		return tell, nil
	}
	members, err := s.rooms.db.MemberKeysOf(ctx, room, server, membersLooked)
	if err != nil {
		return nil, err
	}
	var keys []int64
	for _, m := range members {
		if matrix.ServerOf(m.StateKey) == server {
			keys = append(keys, m.Key)
		}
	}
	found, err := s.rooms.states.lookup(ctx, &s.rooms.db.Reader, states, keys)
	if err != nil {
		return nil, err
	}
	contents, err := s.rooms.stateByPos(ctx, found)
	if err != nil {
		return nil, err
	}
	for state, positions := range found {
		for _, pos := range positions {
			switch membership := contents.membership(pos); {
			case membership == "join", membership == "invite" && best[state] == "":
				best[state] = membership
			}
		}
	}
	return tell, nil
}
