package authrules

import (
	"encoding/json"
	"errors"
	"testing"

	"beep/matrix"
)

// FuzzAllowed checks an event with any content, and events of all kinds in a room
// that has it in its state.
func FuzzAllowed(f *testing.F) {
	types := []string{"m.room.create", "m.room.member", "m.room.join_rules", "m.room.power_levels", "m.room.third_party_invite", "m.room.aliases"}
	for i, content := range []string{
		`{"membership":"join","join_authorised_via_users_server":"@alice:a.test"}`, `{"join_rule":"restricted"}`, `null`, `[]`, `{}`,
		`{"users":{"@bob:b.test":"50"},"ban":1e3,"events":{"m.x":null},"notifications":[]}`, `{"users":{"\u0000":1},"ban":{}}`,
		`{"creator":"@alice:a.test","additional_creators":["@bob:b.test"],"m.federate":false}`, `{"additional_creators":[[]]}`,
		newInvites(1).sign(`"mxid":"@eve:e.test","token":"t"`), `{"public_key":"AA","public_keys":[{"public_key":5}]}`,
	} {
		for kind := range types {
			f.Add(uint8(kind), uint8(i), uint8(i), content)
		}
	}
	f.Fuzz(func(t *testing.T, kind, version, key uint8, content string) {
		if !json.Valid([]byte(content)) {
			return
		}
		versions := matrix.RoomVersions()
		v := versions[int(version)%len(versions)]
		s := sketch{eventType: types[int(kind)%len(types)], key: []string{"", "t", bob, eve, noKey}[key%5], sender: bob, content: content}
		e := s.event(t, v)
		if e == nil {
			return
		}
		state := append([]*Event{e, nil}, stateOf(t, v, nil)...)
		others := []sketch{s, member(eve, eve, "join"), member(eve, bob, "invite"), member(eve, eve, "knock"), member(bob, bob, "leave"),
			levels(bob, `{}`), {eventType: "m.x", key: noKey, sender: bob, content: `{}`}}
		for _, other := range others {
			checked := other.event(t, v)
			first, second := Allowed(checked, state), Allowed(checked, state)
			if first != nil && !errors.Is(first, matrix.Forbidden) || (first == nil) != (second == nil) {
				t.Fatalf("%s: %v, then %v", other.eventType, first, second)
			}
		}
	})
}
