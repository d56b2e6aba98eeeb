package push

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"beep/matrix"
	"beep/storage"
)

const bob = "@bob:hs.example"

func subject(eventType, content string, stateKey ...string) *Subject {
	e := &storage.Event{Event: &matrix.Event{ID: "$e", RoomID: "!r:x", Type: eventType, Sender: "@sender:x", Content: json.RawMessage(content)}}
	if len(stateKey) > 0 {
		e.StateKey = &stateKey[0]
	}
	return NewSubject(e, 3, func(key string) bool { return key == "room" })
}

func TestConditions(t *testing.T) {
	const content = `{"body":"Hello Wörld, bob!","msgtype":"m.text","n":5,"t":true,"z":null,"list":["a",1,null,{"x":1}],
		"m.dotted":{"a\\b":"yes"},"object":{"x":1},"deep":{"er":{"s":"S"}}}`
	s := subject("m.room.message", content)
	for _, c := range []struct {
		condition string
		want      bool
	}{
		{`{"kind":"event_match","key":"content.body","pattern":"hello"}`, true},
		{`{"kind":"event_match","key":"content.body","pattern":"hell"}`, false},
		{`{"kind":"event_match","key":"content.body","pattern":"HELL*wör?d"}`, true},
		{`{"kind":"event_match","key":"content.msgtype","pattern":"text"}`, false},
		{`{"kind":"event_match","key":"content.msgtype","pattern":"*text"}`, true},
		{`{"kind":"event_match","key":"content.n","pattern":"*"}`, false},
		{`{"kind":"event_match","key":"content.none","pattern":"*"}`, false},
		{`{"kind":"event_match","key":"content.m\\.dotted.a\\\\b","pattern":"yes"}`, true},
		{`{"kind":"event_match","key":"content.m.dotted.a\\\\b","pattern":"yes"}`, false},
		{`{"kind":"event_match","key":"content.deep.er.s","pattern":"s"}`, true},
		{`{"kind":"event_match","key":"room_id","pattern":"!R:X"}`, true},
		{`{"kind":"event_match","key":"sender","pattern":"@s*"}`, true},
		{`{"kind":"event_match","key":"state_key","pattern":""}`, false},
		{`{"kind":"event_property_is","key":"content.n","value":5}`, true},
		{`{"kind":"event_property_is","key":"content.n","value":"5"}`, false},
		{`{"kind":"event_property_is","key":"content.t","value":true}`, true},
		{`{"kind":"event_property_is","key":"content.t","value":"true"}`, false},
		{`{"kind":"event_property_is","key":"content.z","value":null}`, true},
		{`{"kind":"event_property_is","key":"content.none","value":null}`, false},
		{`{"kind":"event_property_is","key":"content.body","value":"hello wörld, bob!"}`, false},
		{`{"kind":"event_property_is","key":"content.object","value":null}`, false},
		{`{"kind":"event_property_contains","key":"content.list","value":"a"}`, true},
		{`{"kind":"event_property_contains","key":"content.list","value":1}`, true},
		{`{"kind":"event_property_contains","key":"content.list","value":null}`, true},
		{`{"kind":"event_property_contains","key":"content.list","value":"b"}`, false},
		{`{"kind":"event_property_contains","key":"content.body","value":"Hello"}`, false},
		{`{"kind":"contains_display_name"}`, true},
		{`{"kind":"room_member_count","is":"3"}`, true},
		{`{"kind":"room_member_count","is":"==3"}`, true},
		{`{"kind":"room_member_count","is":"<3"}`, false},
		{`{"kind":"room_member_count","is":"<=3"}`, true},
		{`{"kind":"room_member_count","is":">2"}`, true},
		{`{"kind":"room_member_count","is":">=4"}`, false},
		{`{"kind":"sender_notification_permission","key":"room"}`, true},
		{`{"kind":"sender_notification_permission","key":"other"}`, false},
		{`{"kind":"device","profile_tag":"x"}`, false},
		{`{"kind":"made_up"}`, false},
	} {
		rules := &Ruleset{Override: []Rule{{ID: "r", Enabled: true, Conditions: raw([]string{c.condition}), Actions: raw([]string{`"notify"`})}}}
		if got := compile(rules).try(s, user{bob, "Bob"}).Notify; got != c.want {
			t.Errorf("%s: %v", c.condition, got)
		}
	}
}

// The kinds of rules are tried in their order, and of the first that matches the actions count.
func TestOrderOfRules(t *testing.T) {
	s := subject("m.room.message", `{"body":"tea time"}`)
	yes, no, loud := raw([]string{`"notify"`}), raw([]string{`"dont_notify"`}), raw([]string{`"notify"`, `{"set_tweak":"highlight"}`, `"coalesce"`})
	quiet := raw([]string{`"notify"`, `{"set_tweak":"highlight","value":false}`})
	for _, c := range []struct {
		rules Ruleset
		want  Verdict
	}{
		{Ruleset{}, Verdict{Actions: "[]"}},
		{Ruleset{Underride: []Rule{{Enabled: true, Actions: yes}}}, Verdict{Notify: true, Actions: `["notify"]`}},
		{Ruleset{Underride: []Rule{{Enabled: true, Actions: yes}}, Sender: []Rule{{ID: "@sender:x", Enabled: true, Actions: no}}}, Verdict{Actions: "[]"}},
		{Ruleset{Underride: []Rule{{Enabled: true, Actions: yes}}, Sender: []Rule{{ID: "@other:x", Enabled: true, Actions: no}}}, Verdict{Notify: true, Actions: `["notify"]`}},
		{Ruleset{Sender: []Rule{{ID: "@sender:x", Enabled: true, Actions: no}}, Room: []Rule{{ID: "!r:x", Enabled: true, Actions: loud}}},
			Verdict{Notify: true, Highlight: true, Actions: `["notify",{"set_tweak":"highlight"}]`}},
		{Ruleset{Room: []Rule{{ID: "!r:x", Enabled: true, Actions: no}}, Content: []Rule{{Pattern: "time", Enabled: true, Actions: quiet}}},
			Verdict{Notify: true, Actions: `["notify",{"set_tweak":"highlight","value":false}]`}},
		{Ruleset{Content: []Rule{{Pattern: "tea", Actions: no}, {Pattern: "time", Enabled: true, Actions: yes}}}, Verdict{Notify: true, Actions: `["notify"]`}},
		{Ruleset{Override: []Rule{{Enabled: true, Actions: no}}, Content: []Rule{{Pattern: "time", Enabled: true, Actions: yes}}}, Verdict{Actions: "[]"}},
	} {
		if got := compile(&c.rules).try(s, user{id: bob}); got != c.want {
			t.Errorf("%+v: %+v", c.rules, got)
		}
	}
}

// What the default rules make of events, the same whether they are tried for all who have
// no others or as a user's own.
func TestDefaultRulesOnEvents(t *testing.T) {
	mention := `["notify",{"set_tweak":"sound","value":"default"},{"set_tweak":"highlight"}]`
	for _, c := range []struct {
		subject       *Subject
		forAll, forMe string
	}{
		{subject("m.room.message", `{"body":"hi","msgtype":"m.text"}`), `["notify"]`, `["notify"]`},
		{subject("m.room.encrypted", `{}`), `["notify"]`, `["notify"]`},
		{subject("m.room.message", `{"body":"hi","msgtype":"m.notice"}`), `[]`, `[]`},
		{subject("m.room.message", `{"body":"hi","m.mentions":{"user_ids":["@bob:hs.example"]}}`), `["notify"]`, mention},
		{subject("m.room.message", `{"body":"hi","m.mentions":{"user_ids":[""]}}`), `["notify"]`, `["notify"]`},
		{subject("m.room.message", `{"body":"hi","m.mentions":{"room":true}}`), `["notify",{"set_tweak":"highlight"}]`, `["notify",{"set_tweak":"highlight"}]`},
		{subject("m.room.message", `{"body":"hi","m.relates_to":{"rel_type":"m.replace"}}`), `[]`, `[]`},
		{subject("m.reaction", `{}`), `[]`, `[]`},
		{subject("m.room.tombstone", `{}`, ""), `["notify",{"set_tweak":"highlight"}]`, `["notify",{"set_tweak":"highlight"}]`},
		{subject("m.room.member", `{"membership":"invite"}`, bob), `[]`, `["notify",{"set_tweak":"sound","value":"default"}]`},
		{subject("m.room.member", `{"membership":"invite"}`, ""), `[]`, `[]`},
		{subject("m.call.invite", `{}`), `["notify",{"set_tweak":"sound","value":"ring"}]`, `["notify",{"set_tweak":"sound","value":"ring"}]`},
		{subject("m.room.name", `{}`, ""), `[]`, `[]`},
	} {
		if got := defaultRules.try(c.subject, user{}).Actions; got != c.forAll {
			t.Errorf("%s %s: for all %s", c.subject.event.Type, c.subject.event.Content, got)
		}
		for name, rules := range map[string]*compiled{"shared": defaultRules, "own": compile(DefaultRules(bob))} {
			if got := rules.try(c.subject, user{id: bob}).Actions; got != c.forMe {
				t.Errorf("%s %s: %s %s", c.subject.event.Type, c.subject.event.Content, name, got)
			}
		}
	}
}

// Patterns that were made to be slow are as quick as others, and what is left of a user's
// rules is not tried once they have cost too much (C11).
func TestHostilePatterns(t *testing.T) {
	body := strings.Repeat("a", 60_000)
	s := subject("m.room.message", `{"body":"`+body+`"}`)
	for _, pattern := range []string{strings.Repeat("a*", 500), strings.Repeat("a?*", 300) + "b", strings.Repeat("?", 900) + "b", strings.Repeat("a", 1000) + "b", "*" + strings.Repeat("*a", 500) + "!"} {
		newGlob(pattern).matchWords(s.event.ContentString("body"))
		newGlob(pattern).matchAll(s.event.ContentString("body"))
	}
	rules := &Ruleset{}
	for i := range 10_000 {
		rules.Content = append(rules.Content, Rule{ID: fmt.Sprint(i), Enabled: true, Pattern: strings.Repeat("?", 100) + "b" + fmt.Sprint(i), Actions: raw([]string{`"notify"`})})
	}
	rules.Content = append(rules.Content, Rule{ID: "last", Enabled: true, Pattern: "*", Actions: raw([]string{`"notify"`})})
	rules.Underride = []Rule{{ID: "none", Enabled: true, Actions: raw([]string{`"notify"`})}}
	work := 0
	c := compile(rules)
	for i := range c.rules[:len(c.rules)-1] {
		if s.matches(c.rules[i].conditions, user{id: bob}, &work) {
			t.Fatal("a rule matches")
		}
	}
	if work < maxWork {
		t.Errorf("the work is %d", work)
	}
	if v := c.try(s, user{id: bob}); !v.Notify {
		t.Error("what costs nothing is not tried any more")
	}
}

func FuzzCondition(f *testing.F) {
	f.Add(`{"kind":"event_match","key":"content.body","pattern":"a*"}`, `{"body":"abc"}`)
	f.Add(`{"kind":"room_member_count","is":">=2"}`, `{}`)
	f.Add(`{"kind":"event_property_contains","key":"content.a\\.b","value":1}`, `{"a.b":[1]}`)
	f.Fuzz(func(t *testing.T, condition, content string) {
		if c, err := readCondition(json.RawMessage(condition)); err == nil {
			work := 0
			subject("t", content).matches([]*cond{c}, user{bob, "Bob"}, &work)
		}
	})
}
