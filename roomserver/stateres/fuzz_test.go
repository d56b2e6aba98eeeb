package stateres

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

// choices makes decisions out of bytes; when they are used up, always the first.
type choices []byte

func (c *choices) of(n int) int {
	if len(*c) == 0 {
		return 0
	}
	first := int((*c)[0])
	*c = (*c)[1:]
	return first % n
}

// FuzzResolve resolves states of rooms that nobody checked: events cite whatever there is,
// themselves, later ones, other rooms', unknown ones. It must end, without a panic, with a
// state of the right form, that does not depend on any order (F13).
func FuzzResolve(f *testing.F) {
	shuffle := rand.New(rand.NewPCG(7, 7))
	for size := range 48 {
		seed := make([]byte, 16*size)
		for i := range seed {
			seed[i] = byte(shuffle.IntN(256))
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := choices(data)
		versions := matrix.RoomVersions()
		version := versions[c.of(len(versions))]
		drafts := someEvents(&c)
		states := someStates(&c, drafts)
		var want []string
		for seed := range uint64(2) {
			r := newBase(t, version)
			for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(drafts)) {
				r.put(drafts[i])
			}
			for _, order := range permutations(len(states)) {
				var sets [][]string
				for _, i := range order {
					sets = append(sets, states[i])
				}
				got := r.resolve(sets...)
				if want == nil {
					want = got
					r.checkForm(t, states, got)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("the order %v changes the result: %s", order, diff)
				}
			}
		}
	})
}

// someEvents are up to 24 events beside those of the base.
func someEvents(c *choices) []draft {
	users := []string{alice, bob, "@carol:c.test"}
	drafts := make([]draft, c.of(25))
	ids := append([]string{"$unknown"}, base...)
	for i := range drafts {
		ids = append(ids, fmt.Sprintf("$%d", i))
	}
	for i := range drafts {
		d := draft{id: fmt.Sprintf("$%d", i), sender: users[c.of(3)], ts: int64(c.of(4)) + 6}
		stateKey := ""
		switch d.eventType = []string{"m.room.member", "m.room.power_levels", "m.room.join_rules", "m.room.topic", "m.room.create"}[c.of(5)]; d.eventType {
		case "m.room.member":
			stateKey = users[c.of(3)]
			d.content = fmt.Sprintf(`{"membership":%q}`, []string{"join", "leave", "ban", "invite", "knock"}[c.of(5)])
		case "m.room.power_levels":
			d.content = fmt.Sprintf(`{"users":{%q:%d,%q:%d},"users_default":%d}`, alice, c.of(200), bob, c.of(200), c.of(60))
		case "m.room.join_rules":
			d.content = fmt.Sprintf(`{"join_rule":%q}`, []string{"public", "invite", "knock"}[c.of(3)])
		default:
			d.content = `{}`
		}
		if d.stateKey = &stateKey; c.of(20) == 19 {
			d.stateKey = nil
		}
		if c.of(20) == 19 {
			d.room = "!other:c.test"
		}
		for range c.of(6) {
			d.auth = append(d.auth, ids[c.of(len(ids))])
		}
		drafts[i] = d
	}
	return drafts
}

// someStates are two to four states, each with some of the events or of the base.
func someStates(c *choices, drafts []draft) [][]string {
	states := make([][]string, 2+c.of(3))
	for i := range states {
		chosen := map[string]string{}
		for _, d := range drafts {
			if d.stateKey != nil && d.room == "" && c.of(2) == 1 {
				chosen[d.eventType+" "+*d.stateKey] = d.id
			}
		}
		for j, name := range []string{"m.room.create ", "m.room.member " + alice, "m.room.power_levels ", "m.room.join_rules ", "m.room.member " + bob} {
			if _, taken := chosen[name]; !taken && c.of(8) != 7 {
				chosen[name] = base[j]
			}
		}
		for _, id := range chosen {
			states[i] = append(states[i], id)
		}
	}
	return states
}

// checkForm checks that a resolved state has a key once, only events of this room, and
// what all states agree on.
func (r *room) checkForm(t *testing.T, states [][]string, resolved []string) {
	t.Helper()
	if !wellFormed(r.set(resolved)) {
		t.Fatalf("a key occurs twice: %v", resolved)
	}
	for _, id := range states[0] {
		inAll := !slices.ContainsFunc(states, func(other []string) bool { return !slices.Contains(other, id) })
		if inAll && !slices.Contains(resolved, id) {
			t.Fatalf("%s is in all states and not in the result", id)
		}
	}
	for _, id := range resolved {
		if e := r.events[r.numbers[id]]; e.RoomID != r.id || e.StateKey == nil {
			t.Fatalf("%s is no state of the room", id)
		}
	}
}
