package authrules

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

// A room has one create event, whose form is its room version's (F14, F15, F17).
func TestCreate(t *testing.T) {
	with := func(more string) sketch { return create(`{"creator":"` + alice + `"` + more + `}`) }
	later, elsewhere, foreign := with(""), with(""), with("")
	later.prev = "$event:a.test"
	elsewhere.room = "!room:b.test"
	foreign.sender = bob
	named := with("")
	named.room = "!room:a.test"
	checkRules(t, []rule{
		{name: "first event", allowed: "all", event: with("")},
		{name: "known version", allowed: "all", event: with(`,"room_version":"6"`)},
		{name: "unknown version", allowed: "none", event: with(`,"room_version":"x"`)},
		{name: "version is a number", allowed: "none", event: with(`,"room_version":6`)},
		{name: "after another event", allowed: "none", event: later},
		{name: "another server's room", allowed: "none", event: elsewhere},
		{name: "with a room_id", allowed: "1-11", event: named},
		{name: "by another server", allowed: "12-12", event: foreign},
		{name: "no creator", allowed: "11-12", event: create(`{}`)},
		{name: "more creators", allowed: "all", event: with(`,"additional_creators":["` + bob + `"]`)},
		{name: "more creators, no list", allowed: "1-11", event: with(`,"additional_creators":"` + bob + `"`)},
		{name: "more creators, null", allowed: "1-11", event: with(`,"additional_creators":null`)},
		{name: "more creators, no user", allowed: "1-11", event: with(`,"additional_creators":["bob"]`)},
		{name: "more creators, a number", allowed: "1-11", event: with(`,"additional_creators":[1]`)},
	})
}

func TestRoom(t *testing.T) {
	closed := create(`{"creator":"` + alice + `","m.federate":false}`)
	odd := create(`{"creator":"` + alice + `","m.federate":"false"}`)
	message := sketch{eventType: "m.room.message", key: noKey, sender: bob, content: `{}`}
	elsewhere := message
	elsewhere.room = "!other:a.test"
	unwell := create(`[]`)
	first := member(alice, alice, "join")
	first.prev = createID
	checkRules(t, []rule{
		{name: "message", allowed: "all", event: message},
		{name: "another room's message", allowed: "none", event: elsewhere},
		{name: "other server in a closed room", allowed: "none", event: message, state: []sketch{closed}},
		{name: "own server in a closed room", allowed: "all", event: sketch{eventType: "m.x", key: noKey, sender: alice, content: `{}`}, state: []sketch{closed}},
		{name: "m.federate is a text", allowed: "all", event: message, state: []sketch{odd}},
		{name: "other server invited to a closed room", allowed: "none", event: member(eve, alice, "invite"), state: []sketch{closed}},
		{name: "own server invited to a closed room", allowed: "all", event: member("@x:a.test", alice, "invite"), state: []sketch{closed}},
		{name: "unreadable create event", allowed: "all", event: first, state: []sketch{unwell}},
	})
	if err := Allowed(message.event(t, "10"), nil); err == nil {
		t.Error("a message is allowed without a create event")
	}
	if err := Allowed(message.event(t, "10"), []*Event{nil, member(bob, bob, "join").event(t, "10")}); err == nil {
		t.Error("a message is allowed without a create event")
	}
}

// Power levels count for messages as for state (F17, F18).
func TestEvents(t *testing.T) {
	state := func(eventType, key, sender string) sketch {
		return sketch{eventType: eventType, key: key, sender: sender, content: `{}`}
	}
	invite60, quiet := levels(alice, `{USERS,"invite":60}`), levels(alice, `{USERS,"events_default":50,"events":{"m.loud":0,"m.topic":60}}`)
	checkRules(t, []rule{
		{name: "message of who left", allowed: "none", event: state("m.x", noKey, ivan)},
		{name: "message of an invited user", allowed: "none", event: state("m.x", noKey, grace)},
		{name: "message of a stranger", allowed: "none", event: state("m.x", noKey, eve)},
		{name: "message below events_default", allowed: "none", event: state("m.x", noKey, carol), state: []sketch{quiet}},
		{name: "message at events_default", allowed: "all", event: state("m.x", noKey, bob), state: []sketch{quiet}},
		{name: "message with a level of its own", allowed: "all", event: state("m.loud", noKey, carol), state: []sketch{quiet}},
		{name: "state below its level", allowed: "none", event: state("m.topic", "", bob), state: []sketch{quiet}},
		{name: "state at its level", allowed: "all", event: state("m.topic", "", alice), state: []sketch{quiet}},
		{name: "state below state_default", allowed: "none", event: state("m.x", "", carol)},
		{name: "state at state_default", allowed: "all", event: state("m.x", "", bob)},
		{name: "state of one's own", allowed: "all", event: state("m.x", bob, bob)},
		{name: "state of somebody else", allowed: "none", event: state("m.x", alice, bob)},
		{name: "state of a mere @", allowed: "none", event: state("m.x", "@", bob)},
		{name: "invite by mail", allowed: "all", event: state("m.room.third_party_invite", "token", carol)},
		{name: "invite by mail below the level", allowed: "none", event: state("m.room.third_party_invite", "token", bob), state: []sketch{invite60}},
		{name: "aliases of one's server", allowed: "1-5", event: state("m.room.aliases", "e.test", eve)},
		{name: "aliases of another server", allowed: "6-12", event: state("m.room.aliases", "e.test", alice)},
		{name: "aliases without a state key", allowed: "6-12", event: state("m.room.aliases", noKey, alice)},
	})
}

// Up to version 2 the rules say who redacts what (F17, F29).
func TestRedaction(t *testing.T) {
	redaction := func(sender, target string) sketch {
		return sketch{eventType: "m.room.redaction", key: noKey, sender: sender, content: `{}`, redacts: target}
	}
	checkRules(t, []rule{
		{name: "with power", allowed: "all", event: redaction(bob, "$x:c.test")},
		{name: "of the own server's event", allowed: "all", event: redaction(carol, "$x:c.test")},
		{name: "without power", allowed: "3-12", event: redaction(carol, "$x:b.test")},
		{name: "of a stranger", allowed: "none", event: redaction(eve, "$x:e.test")},
	})
}

// TestWithoutPowerLevels leaves the power levels out of the state: the creator has all the
// power then, and nobody else any (F33).
func TestWithoutPowerLevels(t *testing.T) {
	for _, v := range matrix.RoomVersions() {
		var state []*Event
		for _, s := range usual(v) {
			if s.eventType != "m.room.power_levels" {
				state = append(state, s.event(t, v))
			}
		}
		for name, row := range map[string]struct {
			event sketch
			want  bool
		}{
			"message":            {sketch{eventType: "m.x", key: noKey, sender: carol, content: `{}`}, true},
			"state":              {sketch{eventType: "m.x", sender: carol, content: `{}`}, false},
			"state of creator":   {sketch{eventType: "m.x", sender: alice, content: `{}`}, true},
			"invite":             {member(eve, carol, "invite"), true},
			"ban":                {member(carol, bob, "ban"), false},
			"ban by creator":     {member(carol, alice, "ban"), true},
			"levels":             {levels(carol, `{}`), false},
			"levels of creator":  {levels(alice, `{"users":{"`+bob+`":1000},"ban":1000}`), true},
			"levels not numbers": {levels(alice, `{"ban":"x"}`), false},
		} {
			if err := Allowed(row.event.event(t, v), state); (err == nil) != row.want {
				t.Errorf("version %s, %s: %v", v, name, err)
			}
		}
		p := ReadPowerLevels(usual(v)[0].event(t, v), nil)
		if want := v.PrivilegedCreators(); (p.User(alice) == 100) == want || (p.User(alice) > 1<<53) != want || p.User(bob) != 0 {
			t.Errorf("version %s: alice has %d, bob %d", v, p.User(alice), p.User(bob))
		}
	}
}

func TestPowerLevelsRule(t *testing.T) {
	by := func(sender, more string) sketch { return levels(sender, `{USERS`+more+`}`) }
	now := func(more string) []sketch { return []sketch{levels(alice, `{USERS`+more+`}`)} }
	users := func(list string) sketch { return levels(bob, `{"users":{`+list+`}}`) }
	list := func(more string) []sketch { return []sketch{levels(alice, `{"users":{"`+bob+`":50`+more+`}}`)} }
	key := users("")
	key.key = "key"
	checkRules(t, []rule{
		{name: "nothing changed", allowed: "all", event: by(bob, "")},
		{name: "below the level", allowed: "none", event: by(carol, "")},
		{name: "single level added", allowed: "all", event: by(bob, `,"ban":30`)},
		{name: "single level added, too high", allowed: "none", event: by(bob, `,"ban":51`)},
		{name: "single level changed", allowed: "all", event: by(bob, `,"ban":30`), state: now(`,"ban":50`)},
		{name: "single level changed from too high", allowed: "none", event: by(bob, `,"ban":30`), state: now(`,"ban":51`)},
		{name: "single level removed", allowed: "all", event: by(bob, ""), state: now(`,"ban":50`)},
		{name: "single level removed, too high", allowed: "none", event: by(bob, ""), state: now(`,"ban":51`)},
		{name: "single level kept, too high", allowed: "all", event: by(bob, `,"ban":51`), state: now(`,"ban":51`)},
		{name: "users_default raised above oneself", allowed: "none", event: by(bob, `,"users_default":100`)},
		{name: "everything else too high", allowed: "none", event: by(bob, `,"redact":51`)},
		{name: "invite too high", allowed: "none", event: by(bob, `,"invite":51`)},
		{name: "kick too high", allowed: "none", event: by(bob, `,"kick":51`)},
		{name: "state_default too high", allowed: "none", event: by(bob, `,"state_default":51`)},
		{name: "events_default too high", allowed: "none", event: by(bob, `,"events_default":51`)},
		{name: "event added", allowed: "all", event: by(bob, `,"events":{"m.x":50}`)},
		{name: "event added below the default", allowed: "all", event: by(carol, `,"events":{"m.room.power_levels":0,"m.x":0}`),
			state: now(`,"events":{"m.room.power_levels":0}`)},
		{name: "event added, too high", allowed: "none", event: by(bob, `,"events":{"m.x":51}`)},
		{name: "event changed from too high", allowed: "none", event: by(bob, `,"events":{"m.x":50}`), state: now(`,"events":{"m.x":51}`)},
		{name: "event removed", allowed: "all", event: by(bob, ""), state: now(`,"events":{"m.x":50}`)},
		{name: "event removed, too high", allowed: "none", event: by(bob, ""), state: now(`,"events":{"m.x":51}`)},
		{name: "notification added", allowed: "all", event: by(bob, `,"notifications":{"room":50}`)},
		{name: "notification added, too high", allowed: "1-5", event: by(bob, `,"notifications":{"room":51}`)},
		{name: "notification lowered", allowed: "all", event: by(bob, `,"notifications":{"room":20}`), state: now(`,"notifications":{"room":50}`)},
		{name: "notification removed, too high", allowed: "1-5", event: by(bob, ""), state: now(`,"notifications":{"room":51}`)},
		{name: "notification set by a creator", allowed: "all", event: by(alice, `,"notifications":{"room":100}`)},
		{name: "user added", allowed: "all", event: users(`"` + bob + `":50,"` + carol + `":50`), state: list("")},
		{name: "user added, too high", allowed: "none", event: users(`"` + bob + `":50,"` + carol + `":51`), state: list("")},
		{name: "user lowered", allowed: "all", event: users(`"` + bob + `":50,"` + carol + `":1`), state: list(`,"` + carol + `":49`)},
		{name: "equal user lowered", allowed: "none", event: users(`"` + bob + `":50,"` + carol + `":1`), state: list(`,"` + carol + `":50`)},
		{name: "equal user removed", allowed: "none", event: users(`"` + bob + `":50`), state: list(`,"` + carol + `":50`)},
		{name: "equal user kept", allowed: "all", event: users(`"` + bob + `":50,"` + carol + `":50`), state: list(`,"` + carol + `":50`)},
		{name: "oneself lowered", allowed: "all", event: users(`"` + bob + `":1`), state: list("")},
		{name: "oneself removed", allowed: "all", event: users(``), state: list("")},
		{name: "oneself raised", allowed: "none", event: users(`"` + bob + `":51`), state: list("")},
		{name: "with a state key", allowed: "all", event: key},
	})
}

// Creators of rooms of version 12 stand above all levels, and have none (F15, F17).
func TestCreators(t *testing.T) {
	more := create(`{"creator":"` + alice + `","additional_creators":["` + carol + `"]}`)
	most := levels(alice, `{"users":{"`+bob+`":9007199254740991},"ban":0}`)
	checkRules(t, []rule{
		{name: "creator listed", allowed: "1-11", event: levels(alice, `{"users":{"`+alice+`":100}}`), state: []sketch{levels(alice, `{"users":{"`+alice+`":100}}`)}},
		{name: "another creator listed", allowed: "1-11", event: levels(alice, `{"users":{"`+carol+`":1},"users_default":100}`),
			state: []sketch{more, levels(alice, `{"users_default":100}`)}},
		{name: "another creator's power", allowed: "12-12", event: member(bob, carol, "ban"), state: []sketch{more}},
		{name: "creator against creator", allowed: "none", event: member(alice, carol, "ban"), state: []sketch{more}},
		{name: "creator against the greatest level", allowed: "12-12", event: member(bob, alice, "ban"), state: []sketch{most}},
		{name: "the greatest level against a creator", allowed: "1-11", event: member(alice, bob, "ban"), state: []sketch{most}},
	})
}

// TestLevelForms is about how levels may be written (F17, F18).
func TestLevelForms(t *testing.T) {
	checkRules(t, []rule{
		{name: "text", allowed: "1-9", event: levels(alice, `{USERS,"ban":"30"}`)},
		{name: "text with a sign, zeros, blanks", allowed: "1-9", event: levels(alice, `{USERS,"ban":" +0030 "}`)},
		{name: "text in events", allowed: "1-9", event: levels(alice, `{USERS,"events":{"m.x":"30"}}`)},
		{name: "text in users", allowed: "1-9", event: levels(alice, `{"users":{"`+bob+`":"50"}}`)},
		{name: "text in notifications", allowed: "1-9", event: levels(alice, `{USERS,"notifications":{"room":"30"}}`)},
		{name: "text beyond all numbers", allowed: "none", event: levels(bob, `{USERS,"users_default":"99999999999999999999"}`)},
		{name: "text that is no number", allowed: "none", event: levels(alice, `{USERS,"ban":"30x"}`)},
		{name: "text of a fraction", allowed: "none", event: levels(alice, `{USERS,"ban":"30.0"}`)},
		{name: "empty text", allowed: "none", event: levels(alice, `{USERS,"ban":""}`)},
		{name: "fraction", allowed: "1-5", event: levels(alice, `{USERS,"ban":30.9}`)},
		{name: "exponent", allowed: "1-5", event: levels(alice, `{USERS,"ban":3.09E1}`)},
		{name: "beyond all numbers", allowed: "none", event: levels(alice, `{USERS,"ban":1E999}`)},
		{name: "null", allowed: "none", event: levels(alice, `{USERS,"ban":null}`)},
		{name: "true", allowed: "none", event: levels(alice, `{USERS,"ban":true}`)},
		{name: "null in events", allowed: "none", event: levels(alice, `{USERS,"events":{"m.x":null}}`)},
		{name: "events is a list", allowed: "none", event: levels(alice, `{USERS,"events":[]}`)},
		{name: "events is null", allowed: "none", event: levels(alice, `{USERS,"events":null}`)},
		{name: "users is null", allowed: "none", event: levels(alice, `{"users":null}`)},
		{name: "users is a list", allowed: "none", event: levels(alice, `{"users":[]}`)},
		{name: "users has no user id", allowed: "none", event: levels(alice, `{"users":{"bob":1}}`)},
		{name: "notifications is a list", allowed: "1-5", event: levels(alice, `{USERS,"notifications":[]}`)},
		{name: "content is no object", allowed: "none", event: levels(alice, `[]`)},
	})
	e := levels(alice, `{"Ban":1,"ban":" +070 ","users_default":2.9,"u\u017fers":{"`+eve+`":100},"USERS":{"`+eve+`":100},"kick":-1e30}`).event(t, "1")
	got := ReadPowerLevels(usual("1")[0].event(t, "1"), e)
	want := &PowerLevels{Ban: 70, Kick: -maxLevel, Redact: 50, StateDefault: 50, UsersDefault: 2,
		Users: map[string]int64{}, Events: map[string]int64{}, Notifications: map[string]int64{}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(PowerLevels{})); diff != "" {
		t.Error(diff)
	}
}
