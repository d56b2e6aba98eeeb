package stateres

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver/authrules"
)

// resolve resolves states of the room, given and returned as ids.
func (r *room) resolve(states ...[]string) []string {
	r.tb.Helper()
	in := r.input()
	for _, ids := range states {
		in.Sets = append(in.Sets, r.set(ids))
	}
	resolved, err := Resolve(in)
	if err != nil {
		r.tb.Fatal(err)
	}
	return r.ids(resolved)
}

// with is the state base with some events, and without what they replace.
func (r *room) with(ids ...string) []string {
	state := slices.Clone(ids)
	for _, id := range base {
		key := r.nodes[r.numbers[id]].Key
		if !slices.ContainsFunc(ids, func(other string) bool { return r.nodes[r.numbers[other]].Key == key }) {
			state = append(state, id)
		}
	}
	slices.Sort(state)
	return state
}

func TestNothingToResolve(t *testing.T) {
	for _, v := range []matrix.RoomVersion{"1", "2", "12"} {
		r := newBase(t, v)
		whole := r.with()
		for name, states := range map[string][][]string{"none": {}, "empty": {{}, {}}} {
			if got := r.resolve(states...); len(got) != 0 {
				t.Errorf("version %s, %s: got %v", v, name, got)
			}
		}
		for name, states := range map[string][][]string{"one": {whole}, "equal": {whole, whole, whole}} {
			if diff := cmp.Diff(whole, r.resolve(states...)); diff != "" {
				t.Errorf("version %s, %s: %s", v, name, diff)
			}
		}
		if r.loads+r.asked != 0 {
			t.Errorf("version %s: there was nothing to read", v)
		}
	}
}

func TestDamagedStates(t *testing.T) {
	r := newBase(t, "10")
	r.put(draft{id: "$message", eventType: "m.room.message", sender: alice, content: `{}`})
	topic := ""
	r.put(draft{id: "$foreign", eventType: "m.room.topic", stateKey: &topic, sender: alice, content: `{}`, room: "!other:a.test"})
	r.nodes[99] = Node{Key: 99}
	whole := r.set(base)
	for name, set := range map[string][]Entry{
		"not ordered":            {whole[1], whole[0]},
		"a key twice":            {whole[0], {whole[0].Key, whole[1].Event}},
		"no key":                 {{0, whole[0].Event}},
		"no event":               {{whole[0].Key, 0}},
		"an event under another": {{whole[0].Key, whole[1].Event}},
		"not stored":             {{99, 99}},
		"no state":               {{98, r.numbers["$message"]}},
		"another room's":         {{r.keys[authrules.Name{Type: "m.room.topic"}], r.numbers["$foreign"]}},
	} {
		in := r.input()
		in.Sets = [][]Entry{whole, set}
		if got, err := Resolve(in); err == nil {
			t.Errorf("%s: no error, resolved to %v", name, got)
		}
	}
}

func TestErrorsOfTheCaller(t *testing.T) {
	broken := errors.New("broken")
	for _, v := range []matrix.RoomVersion{"1", "6", "12"} {
		for failing := range 3 { // the first Load, the second, Keys
			r := newBase(t, v)
			r.state("$topic", "m.room.topic", "", bob, `{}`, 6, "$bob", "$levels")
			r.state("$other", "m.room.topic", "", bob, `{}`, 7, "$bob", "$levels")
			in := r.input()
			in.Sets = [][]Entry{r.set(r.with("$topic")), r.set(r.with("$other"))}
			load, keys, calls := in.Load, in.Keys, 0
			in.Load = func(events []int64) (map[int64]*authrules.Event, error) {
				if calls++; calls == failing+1 {
					return nil, broken
				}
				return load(events)
			}
			in.Keys = func(names []authrules.Name) (map[authrules.Name]int64, error) {
				if failing == 2 {
					return nil, broken
				}
				return keys(names)
			}
			if _, err := Resolve(in); !errors.Is(err, broken) {
				t.Errorf("version %s, failure %d: got %v", v, failing, err)
			}
		}
	}
}

// TestOwnAuthEvents is about room version 12, where bob's topic must be authorised by the power
// levels that it cites itself: they are agreed, and so not in the state when it is checked.
func TestOwnAuthEvents(t *testing.T) {
	for name, test := range map[string]struct {
		cites  string
		change func(*room)
		want   string
	}{
		"usable":         {cites: "$levels", want: "$topic"},
		"rejected":       {cites: "$levels", change: reject("$levels")},
		"not cited":      {cites: "$bob"},
		"missing":        {cites: "$unknown"},
		"not stored":     {cites: "$lost", change: func(r *room) { r.nodes[r.number("$lost")] = r.nodes[r.numbers["$levels"]] }},
		"another room's": {cites: "$foreign", change: foreignLevels},
	} {
		r := newBase(t, "12")
		if test.change != nil {
			test.change(r)
		}
		r.state("$topic", "m.room.topic", "", bob, `{}`, 6, "$bob", test.cites)
		want := r.with()
		if test.want != "" {
			want = r.with(test.want)
		}
		if diff := cmp.Diff(want, r.resolve(r.with(), r.with("$topic"))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func reject(id string) func(*room) {
	return func(r *room) {
		node := r.nodes[r.numbers[id]]
		node.Rejected = true
		r.nodes[r.numbers[id]] = node
	}
}

func foreignLevels(r *room) {
	none := ""
	r.put(draft{id: "$foreign", eventType: "m.room.power_levels", stateKey: &none, sender: bob,
		content: `{"users":{"` + bob + `":100}}`, room: "!other"})
}

// TestAgreedRuleAgainstEarlierJoin has a join of the time when anybody could join, in one state of
// two, which agree on a later rule that would not let the user in. Algorithm 2 begins with what is
// agreed, and throws the user out; 2.1 judges the join by the rule of its time (F13).
func TestAgreedRuleAgainstEarlierJoin(t *testing.T) {
	for v, stays := range map[matrix.RoomVersion]bool{"2": false, "6": false, "10": false, "11": false, "12": true} {
		r := newBase(t, v)
		cited, carol := []string{"$levels"}, "@carol:c.test"
		if !v.CreateWithoutRoom() {
			cited = append(cited, "$create")
		}
		r.state("$carol", "m.room.member", carol, carol, `{"membership":"join"}`, 6, append(cited, "$rules")...)
		r.state("$closed", "m.room.join_rules", "", alice, `{"join_rule":"invite"}`, 7, append(cited, "$alice")...)
		got := r.resolve(r.with("$closed"), r.with("$closed", "$carol"))
		if slices.Contains(got, "$carol") != stays || !slices.Contains(got, "$closed") {
			t.Errorf("version %s: got %v", v, got)
		}
	}
}

// TestCircles has events that authorise each other, as ids that a forger chooses allow.
func TestCircles(t *testing.T) {
	for _, v := range []matrix.RoomVersion{"2", "10", "12"} {
		r := newBase(t, v)
		levels := `{"users":{"` + bob + `":50},"ban":%d}`
		r.state("$one", "m.room.power_levels", "", bob, fmt.Sprintf(levels, 1), 6, "$create", "$bob", "$two")
		r.state("$two", "m.room.power_levels", "", bob, fmt.Sprintf(levels, 2), 7, "$create", "$bob", "$one")
		r.state("$self", "m.room.join_rules", "", alice, `{"join_rule":"invite"}`, 8, "$create", "$alice", "$levels", "$self")
		r.state("$topic", "m.room.topic", "", alice, `{}`, 9, "$create", "$alice", "$two")
		r.state("$name", "m.room.name", "", alice, `{}`, 9, "$create", "$alice", "$levels")
		got := r.resolve(r.with("$one", "$name"), r.with("$two", "$topic", "$self"))
		for _, circular := range []string{"$one", "$two", "$self"} {
			if slices.Contains(got, circular) {
				t.Errorf("version %s: %s is in the state", v, circular)
			}
		}
		if !slices.Contains(got, "$name") {
			t.Errorf("version %s: the name is lost: %v", v, got)
		}
	}
}

// TestLongChains has auth chains, and a mainline, of many thousand events (F11).
func TestLongChains(t *testing.T) {
	const length = 20_000
	for _, v := range []matrix.RoomVersion{"10", "12"} {
		r := newBase(t, v)
		last, users := "$levels", `"`+bob+`":50`
		if !v.PrivilegedCreators() {
			users += `,"` + alice + `":100`
		}
		for i := range length {
			id := fmt.Sprintf("$levels%d", i)
			r.state(id, "m.room.power_levels", "", alice, fmt.Sprintf(`{"users":{%s},"ban":%d}`, users, i%50), int64(10+i), "$create", "$alice", last)
			last = id
		}
		r.state("$old", "m.room.topic", "", alice, `{}`, 2*length, "$create", "$alice", "$levels0")
		r.state("$new", "m.room.topic", "", alice, `{}`, length, "$create", "$alice", last)
		if got := r.resolve(r.with("$old"), r.with(last, "$new")); !slices.Contains(got, "$new") || !slices.Contains(got, last) {
			t.Errorf("version %s: got %v", v, got)
		}
	}
}
