package push

import (
	"encoding/json"

	"beep/matrix"
)

const (
	masterRule       = ".m.rule.master"
	inviteRule       = ".m.rule.invite_for_me"
	userMentionRule  = ".m.rule.is_user_mention"
	roomMentionLevel = `{"kind":"sender_notification_permission","key":"room"}`
)

func match(key, pattern string) string {
	return condition("event_match", key, "pattern", string(matrix.AppendString(nil, pattern)))
}

func property(key, value string) string {
	return condition("event_property_is", key, "value", value)
}

func condition(kind, key, name, value string) string {
	written := matrix.AppendString(append([]byte(`{"kind":"`+kind+`"`), `,"key":`...), key)
	return string(append(written, `,"`+name+`":`+value+`}`...))
}

func members(is string) string { return `{"kind":"room_member_count","is":"` + is + `"}` }

func raw(list []string) []json.RawMessage {
	all := make([]json.RawMessage, len(list))
	for i, text := range list {
		all[i] = json.RawMessage(text)
	}
	return all
}

func rule(id string, actions []string, conditions ...string) Rule {
	return Rule{ID: id, Default: true, Enabled: true, Conditions: raw(conditions), Actions: raw(actions)}
}

// DefaultRules are the rules that every user has, in the specification's order
// ("Predefined Rules").
func DefaultRules(userID string) *Ruleset {
	const doNotify, highlightIt = `"notify"`, `{"set_tweak":"highlight"}`
	const soundDefault, soundRing = `{"set_tweak":"sound","value":"default"}`, `{"set_tweak":"sound","value":"ring"}`
	silent := []string{}
	notify := []string{doNotify}
	sound := []string{doNotify, soundDefault}
	ring := []string{doNotify, soundRing}
	highlight := []string{doNotify, highlightIt}
	mention := []string{doNotify, soundDefault, highlightIt}

	master := rule(masterRule, silent)
	master.Enabled = false
	return &Ruleset{
		Override: []Rule{
			master,
			rule(".m.rule.suppress_notices", silent, match("content.msgtype", "m.notice")),
			rule(inviteRule, sound,
				match("type", "m.room.member"), match("content.membership", "invite"), match("state_key", userID)),
			rule(".m.rule.member_event", silent, match("type", "m.room.member")),
			rule(userMentionRule, mention,
				condition("event_property_contains", `content.m\.mentions.user_ids`, "value", string(matrix.AppendString(nil, userID)))),
			rule(".m.rule.is_room_mention", highlight, property(`content.m\.mentions.room`, "true"), roomMentionLevel),
			rule(".m.rule.tombstone", highlight, match("type", "m.room.tombstone"), match("state_key", "")),
			rule(".m.rule.reaction", silent, match("type", "m.reaction")),
			rule(".m.rule.room.server_acl", silent, match("type", "m.room.server_acl"), match("state_key", "")),
			rule(".m.rule.suppress_edits", silent, property(`content.m\.relates_to.rel_type`, `"m.replace"`)),
		},
		Content: []Rule{}, Room: []Rule{}, Sender: []Rule{},
		Underride: []Rule{
			rule(".m.rule.call", ring, match("type", "m.call.invite")),
			rule(".m.rule.encrypted_room_one_to_one", sound, members("2"), match("type", "m.room.encrypted")),
			rule(".m.rule.room_one_to_one", sound, members("2"), match("type", "m.room.message")),
			rule(".m.rule.message", notify, match("type", "m.room.message")),
			rule(".m.rule.encrypted", notify, match("type", "m.room.encrypted")),
		},
	}
}
