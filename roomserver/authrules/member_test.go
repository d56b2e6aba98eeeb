package authrules

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
)

func TestMember(t *testing.T) {
	odd := func(content string) sketch {
		return sketch{eventType: "m.room.member", key: eve, sender: eve, content: content}
	}
	keyless := odd(`{"membership":"join"}`)
	keyless.key = noKey
	checkRules(t, []rule{
		{name: "join", allowed: "all", event: odd(`{"membership":"join"}`)},
		{name: "no state key", allowed: "none", event: keyless},
		{name: "no membership", allowed: "none", event: odd(`{}`)},
		{name: "unknown membership", allowed: "none", event: odd(`{"membership":"guest"}`)},
		{name: "membership is no text", allowed: "none", event: odd(`{"membership":["join"]}`)},
		{name: "membership in capitals", allowed: "none", event: odd(`{"Membership":"join"}`)},
		{name: "membership with a long s", allowed: "none", event: odd(`{"member\u017fhip":"join"}`)},
		{name: "displayname is no text", allowed: "all", event: odd(`{"membership":"join","displayname":5}`)},
		{name: "content is no object", allowed: "none", event: odd(`[]`)},
	})
}

func TestJoin(t *testing.T) {
	by := func(user string) sketch {
		return sketch{eventType: "m.room.member", key: eve, sender: eve, content: `{"membership":"join","join_authorised_via_users_server":"` + user + `"}`}
	}
	first := func(user string) sketch {
		e := member(user, user, "join")
		e.prev = createID
		return e
	}
	under := func(rule string, more ...sketch) []sketch { return append(more, joinRule(rule)) }
	otherCreator := create(`{"creator":"` + bob + `"}`)
	invite60, noRule := levels(alice, `{USERS,"invite":60}`), sketch{eventType: "m.room.join_rules", sender: alice, content: `{}`}
	checkRules(t, []rule{
		{name: "creator's first", allowed: "all", event: first(alice), state: under("invite", member(alice, alice, "leave"))},
		{name: "another's first", allowed: "none", event: first(eve), state: under("invite")},
		{name: "first of who content.creator names", allowed: "1-10", event: first(bob), state: under("invite", member(bob, bob, "leave"), otherCreator)},
		{name: "creator's later", allowed: "none", event: member(alice, alice, "join"), state: under("invite", member(alice, alice, "leave"))},
		{name: "for another", allowed: "none", event: member(eve, alice, "join")},
		{name: "public, stranger", allowed: "all", event: member(eve, eve, "join")},
		{name: "public, left before", allowed: "all", event: member(ivan, ivan, "join")},
		{name: "public, knocked", allowed: "all", event: member(heidi, heidi, "join")},
		{name: "public, joined", allowed: "all", event: member(bob, bob, "join")},
		{name: "public, banned", allowed: "none", event: member(frank, frank, "join")},
		{name: "invite, stranger", allowed: "none", event: member(eve, eve, "join"), state: under("invite")},
		{name: "invite, invited", allowed: "all", event: member(grace, grace, "join"), state: under("invite")},
		{name: "invite, joined", allowed: "all", event: member(bob, bob, "join"), state: under("invite")},
		{name: "no rule, stranger", allowed: "none", event: member(eve, eve, "join"), state: []sketch{noRule}},
		{name: "no rule, invited", allowed: "all", event: member(grace, grace, "join"), state: []sketch{noRule}},
		{name: "private, joined", allowed: "none", event: member(bob, bob, "join"), state: under("private")},
		{name: "knock, invited", allowed: "7-12", event: member(grace, grace, "join"), state: under("knock")},
		{name: "knock, knocked", allowed: "none", event: member(heidi, heidi, "join"), state: under("knock")},
		{name: "restricted, joined", allowed: "8-12", event: member(bob, bob, "join"), state: under("restricted")},
		{name: "restricted, invited", allowed: "8-12", event: member(grace, grace, "join"), state: under("restricted")},
		{name: "restricted, stranger", allowed: "none", event: member(eve, eve, "join"), state: under("restricted")},
		{name: "restricted, vouched for", allowed: "8-12", event: by(carol), state: under("restricted")},
		{name: "restricted, vouched for without power", allowed: "none", event: by(bob), state: under("restricted", invite60)},
		{name: "restricted, vouched for with power", allowed: "8-12", event: by(alice), state: under("restricted", invite60)},
		{name: "restricted, vouched for by who left", allowed: "none", event: by(ivan), state: under("restricted")},
		{name: "restricted, vouched for by nobody", allowed: "none", event: by(""), state: under("restricted")},
		{name: "invite, vouched for", allowed: "none", event: by(carol), state: under("invite")},
		{name: "knock_restricted, vouched for", allowed: "10-12", event: by(carol), state: under("knock_restricted")},
		{name: "knock_restricted, invited", allowed: "10-12", event: member(grace, grace, "join"), state: under("knock_restricted")},
	})
}

func TestInvite(t *testing.T) {
	invite60 := levels(alice, `{USERS,"invite":60}`)
	checkRules(t, []rule{
		{name: "stranger", allowed: "all", event: member(eve, carol, "invite")},
		{name: "left", allowed: "all", event: member(ivan, carol, "invite")},
		{name: "knocked", allowed: "all", event: member(heidi, carol, "invite")},
		{name: "invited", allowed: "all", event: member(grace, carol, "invite")},
		{name: "joined", allowed: "none", event: member(bob, carol, "invite")},
		{name: "banned", allowed: "none", event: member(frank, alice, "invite")},
		{name: "oneself", allowed: "none", event: member(carol, carol, "invite")},
		{name: "by who is not in the room", allowed: "none", event: member(eve, ivan, "invite")},
		{name: "below the level", allowed: "none", event: member(eve, bob, "invite"), state: []sketch{invite60}},
		{name: "at the level", allowed: "all", event: member(eve, alice, "invite"), state: []sketch{invite60}},
	})
}

func TestLeaveAndBan(t *testing.T) {
	set := func(more string) []sketch { return []sketch{levels(alice, `{USERS,`+more+`}`)} }
	equal := []sketch{levels(alice, `{"users":{"`+bob+`":50,"`+frank+`":50}}`)}
	checkRules(t, []rule{
		{name: "joined leaves", allowed: "all", event: member(carol, carol, "leave")},
		{name: "invited refuses", allowed: "all", event: member(grace, grace, "leave")},
		{name: "knocked withdraws", allowed: "7-12", event: member(heidi, heidi, "leave")},
		{name: "left leaves again", allowed: "none", event: member(ivan, ivan, "leave")},
		{name: "stranger leaves", allowed: "none", event: member(eve, eve, "leave")},
		{name: "banned leaves", allowed: "none", event: member(frank, frank, "leave")},
		{name: "kick", allowed: "all", event: member(carol, bob, "leave")},
		{name: "kick of a stranger", allowed: "all", event: member(eve, bob, "leave")},
		{name: "kick of an equal", allowed: "none", event: member(dave, bob, "leave")},
		{name: "kick of a greater", allowed: "none", event: member(alice, bob, "leave")},
		{name: "kick below the level", allowed: "none", event: member(carol, bob, "leave"), state: set(`"kick":51`)},
		{name: "kick by who is not in the room", allowed: "none", event: member(carol, ivan, "leave"), state: set(`"kick":-1`)},
		{name: "ban lifted", allowed: "all", event: member(frank, bob, "leave")},
		{name: "ban lifted below its level", allowed: "none", event: member(frank, bob, "leave"), state: set(`"ban":51`)},
		{name: "ban lifted below the level to kick", allowed: "none", event: member(frank, bob, "leave"), state: set(`"kick":51`)},
		{name: "ban of an equal lifted", allowed: "none", event: member(frank, bob, "leave"), state: equal},
		{name: "ban", allowed: "all", event: member(carol, bob, "ban")},
		{name: "ban of a stranger", allowed: "all", event: member(eve, bob, "ban")},
		{name: "ban of an equal", allowed: "none", event: member(dave, bob, "ban")},
		{name: "ban of oneself", allowed: "none", event: member(bob, bob, "ban")},
		{name: "ban below the level", allowed: "none", event: member(carol, bob, "ban"), state: set(`"ban":51`)},
		{name: "ban by who is not in the room", allowed: "none", event: member(carol, ivan, "ban"), state: set(`"ban":-1`)},
	})
}

func TestKnock(t *testing.T) {
	knock := []sketch{joinRule("knock")}
	checkRules(t, []rule{
		{name: "stranger", allowed: "7-12", event: member(eve, eve, "knock"), state: knock},
		{name: "left", allowed: "7-12", event: member(ivan, ivan, "knock"), state: knock},
		{name: "knocked", allowed: "7-12", event: member(heidi, heidi, "knock"), state: knock},
		{name: "banned", allowed: "none", event: member(frank, frank, "knock"), state: knock},
		{name: "invited", allowed: "none", event: member(grace, grace, "knock"), state: knock},
		{name: "joined", allowed: "none", event: member(carol, carol, "knock"), state: knock},
		{name: "for another", allowed: "none", event: member(eve, alice, "knock"), state: knock},
		{name: "public", allowed: "none", event: member(eve, eve, "knock")},
		{name: "restricted", allowed: "none", event: member(eve, eve, "knock"), state: []sketch{joinRule("restricted")}},
		{name: "knock_restricted", allowed: "10-12", event: member(eve, eve, "knock"), state: []sketch{joinRule("knock_restricted")}},
	})
}

func TestNames(t *testing.T) {
	key, other := eve, bob
	usual := []Name{CreateName, LevelsName, {"m.room.member", eve}}
	with := func(more ...Name) []Name { return append(usual[:3:3], more...) }
	for name, test := range map[string]struct {
		version   matrix.RoomVersion
		eventType string
		stateKey  *string
		content   string
		want      []Name
	}{
		"create":               {"10", "m.room.create", new(string), `{}`, nil},
		"message":              {"10", "m.room.message", nil, `{"membership":"join"}`, usual},
		"join":                 {"10", "m.room.member", &key, `{"membership":"join"}`, with(RulesName)},
		"leave":                {"10", "m.room.member", &key, `{"membership":"leave"}`, usual},
		"kick":                 {"10", "m.room.member", &other, `{"membership":"leave"}`, with(Name{"m.room.member", bob})},
		"invite":               {"10", "m.room.member", &other, `{"membership":"invite"}`, with(Name{"m.room.member", bob}, RulesName)},
		"knock":                {"10", "m.room.member", &key, `{"membership":"knock"}`, with(RulesName)},
		"vouched for":          {"8", "m.room.member", &key, `{"membership":"join","join_authorised_via_users_server":"@x:y"}`, with(RulesName, Name{"m.room.member", "@x:y"})},
		"vouched for, too old": {"7", "m.room.member", &key, `{"membership":"join","join_authorised_via_users_server":"@x:y"}`, with(RulesName)},
		"by oneself":           {"8", "m.room.member", &key, `{"membership":"join","join_authorised_via_users_server":"` + eve + `"}`, with(RulesName)},
		"by mail": {"10", "m.room.member", &other, `{"membership":"invite","third_party_invite":{"signed":{"mxid":"@x:y","token":"t"}}}`,
			with(Name{"m.room.member", bob}, RulesName, Name{"m.room.third_party_invite", "t"})},
		"join with an old invite": {"10", "m.room.member", &key, `{"membership":"join","third_party_invite":{"signed":{"mxid":"@x:y","token":"t"}}}`, with(RulesName)},
		"unreadable":              {"10", "m.room.member", &key, `{"membership":5}`, usual},
		"no state":                {"10", "m.room.member", nil, `{"membership":"join"}`, usual},
	} {
		p := &matrix.Proto{Version: test.version, Type: test.eventType, StateKey: test.stateKey, Sender: eve, Content: []byte(test.content)}
		if diff := cmp.Diff(test.want, NamesOf(p)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		s := sketch{eventType: test.eventType, key: noKey, sender: eve, content: test.content}
		if test.stateKey != nil {
			s.key = *test.stateKey
		}
		if diff := cmp.Diff(test.want, s.event(t, test.version).Names()); diff != "" {
			t.Errorf("%s, made: %s", name, diff)
		}
	}
}
