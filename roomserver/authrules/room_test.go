package authrules

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"beep/matrix"
)

// The people of the tests: alice made the room, bob has 50, dave has 50 as well, carol
// has nothing. frank is banned, grace invited, heidi has knocked, ivan left. eve was never there.
const (
	alice, bob, carol, dave = "@alice:a.test", "@bob:b.test", "@carol:c.test", "@dave:b.test"
	eve, frank, grace       = "@eve:e.test", "@frank:e.test", "@grace:e.test"
	heidi, ivan             = "@heidi:e.test", "@ivan:e.test"
)

// sketch is an event of a test.
type sketch struct {
	eventType, key, sender, content string // key "-": no state_key
	prev                            string // the id of its one prev_event, "" for none
	room                            string // "": the room of the tests
	redacts                         string
}

// noKey says that a sketch is no state.
const noKey = "-"

func member(user, sender, membership string) sketch {
	return sketch{eventType: "m.room.member", key: user, sender: sender, content: `{"membership":"` + membership + `"}`}
}

func joinRule(rule string) sketch {
	return sketch{eventType: "m.room.join_rules", sender: alice, content: `{"join_rule":"` + rule + `"}`}
}

func levels(sender, content string) sketch {
	return sketch{eventType: "m.room.power_levels", sender: sender, content: content}
}

func create(content string) sketch {
	return sketch{eventType: "m.room.create", sender: alice, content: content}
}

const createID = "$abc:a.test"

// roomID is the id of the room of the tests.
func roomID(v matrix.RoomVersion) string {
	if v.CreateWithoutRoom() {
		return "!" + createID[1:]
	}
	return "!room:a.test"
}

// event is the sketch as an event of the room version; nil if that has no such event,
// for its content is not canonical there.
func (s sketch) event(t testing.TB, v matrix.RoomVersion) *Event {
	t.Helper()
	fields := map[string]any{
		"type": s.eventType, "sender": s.sender, "content": json.RawMessage(s.content), "origin_server_ts": 1, "depth": 1,
		"prev_events": []any{}, "auth_events": []any{}, "room_id": roomID(v),
	}
	if s.key != noKey {
		fields["state_key"] = s.key
	}
	if s.prev != "" {
		fields["prev_events"] = []any{s.prev}
		if v.EventIDInEvent() {
			fields["prev_events"] = []any{[]any{s.prev, map[string]string{}}}
		}
	}
	if s.redacts != "" {
		fields["redacts"] = s.redacts
	}
	id := "$event:" + matrix.ServerOf(s.sender)
	if s.eventType == "m.room.create" {
		id = createID
		if v.CreateWithoutRoom() {
			delete(fields, "room_id")
		}
	}
	if s.room != "" {
		fields["room_id"] = s.room
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := matrix.CanonicalJSON(raw, v.StrictNumbers())
	if err != nil {
		return nil
	}
	e, err := matrix.ParseTrusted(v, id, canonical)
	if err != nil {
		t.Fatal(err)
	}
	return New(e)
}

// usual is the state that the tests start from.
func usual(v matrix.RoomVersion) []sketch {
	return []sketch{
		create(`{"creator":"` + alice + `","room_version":"` + string(v) + `"}`),
		levels(alice, usersOf(v, "")),
		joinRule("public"),
		member(alice, alice, "join"), member(bob, bob, "join"), member(carol, carol, "join"), member(dave, dave, "join"),
		member(frank, bob, "ban"), member(grace, bob, "invite"), member(heidi, heidi, "knock"), member(ivan, ivan, "leave"),
	}
}

// usersOf is the content of power levels: the usual users, and more of it. Creators are not
// listed in room version 12.
func usersOf(v matrix.RoomVersion, more string) string {
	users := `"` + bob + `":50,"` + dave + `":50`
	if !v.PrivilegedCreators() {
		users += `,"` + alice + `":100`
	}
	return `{"users":{` + users + `}` + more + `}`
}

// stateOf is the usual state with these events in the places of others.
func stateOf(t testing.TB, v matrix.RoomVersion, changes []sketch) []*Event {
	t.Helper()
	var state []*Event
	for _, s := range append(slices.Clone(changes), usual(v)...) {
		s.content = forVersion(v, s.content)
		e := s.event(t, v)
		if s.eventType == "" || slices.ContainsFunc(state, func(other *Event) bool { return other.IsState(e.Type, *e.StateKey) }) {
			continue
		}
		state = append(state, e)
	}
	return state
}

// forVersion replaces USERS by the usual users of power levels.
func forVersion(v matrix.RoomVersion, content string) string {
	if !strings.Contains(content, "USERS") {
		return content
	}
	users := usersOf(v, "")
	return strings.Replace(content, "USERS", users[1:len(users)-1], 1)
}

// includes tells whether the versions, as "all", "none" or "3-10", include this one.
func includes(t testing.TB, versions string, v matrix.RoomVersion) bool {
	t.Helper()
	switch versions {
	case "all":
		return true
	case "none":
		return false
	}
	from, to, _ := strings.Cut(versions, "-")
	first, err := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	n, err3 := strconv.Atoi(string(v))
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	return first <= n && n <= last
}

// rule is a row of a table: in which room versions the event is allowed, in the usual
// state with some changes.
type rule struct {
	name, allowed string
	event         sketch
	state         []sketch
	alone         bool // no library could check it in time
}

func checkRules(t *testing.T, rules []rule) {
	t.Helper()
	for _, row := range rules {
		verdicts := map[matrix.RoomVersion]bool{}
		for _, v := range matrix.RoomVersions() {
			sketch := row.event
			sketch.content = forVersion(v, sketch.content)
			e := sketch.event(t, v)
			if e == nil {
				continue
			}
			err := Allowed(e, stateOf(t, v, row.state))
			verdicts[v] = err == nil
			if want := includes(t, row.allowed, v); want != (err == nil) {
				t.Errorf("version %s, %s: allowed %v, want %v (%v)", v, row.name, err == nil, want, err)
			} else if err != nil && !errors.Is(err, matrix.Forbidden) {
				t.Errorf("version %s, %s: the error is %v", v, row.name, err)
			}
		}
		row.compareWithLibrary(t, verdicts)
	}
}
