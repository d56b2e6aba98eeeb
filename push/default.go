package push

func match(key, pattern string) Condition {
	return Condition{Kind: "event_match", Key: key, Pattern: &pattern}
}

func property(key string, value any) Condition {
	return Condition{Kind: "event_property_is", Key: key, Value: value}
}

func members(is string) Condition { return Condition{Kind: "room_member_count", Is: is} }

func rule(id string, actions []any, conditions ...Condition) Rule {
	return Rule{ID: id, Default: true, Enabled: true, Conditions: conditions, Actions: actions}
}

// DefaultRules are the rules that every user has, in the specification's order
// ("Predefined Rules").
func DefaultRules(userID string) *Ruleset {
	silent := []any{}
	notify := []any{"notify"}
	sound := []any{"notify", Tweak{Set: "sound", Value: "default"}}
	ring := []any{"notify", Tweak{Set: "sound", Value: "ring"}}
	highlight := []any{"notify", Tweak{Set: "highlight"}}
	mention := []any{"notify", Tweak{Set: "sound", Value: "default"}, Tweak{Set: "highlight"}}

	master := rule(".m.rule.master", silent)
	master.Enabled, master.Conditions = false, []Condition{}
	return &Ruleset{
		Override: []Rule{
			master,
			rule(".m.rule.suppress_notices", silent, match("content.msgtype", "m.notice")),
			rule(".m.rule.invite_for_me", sound,
				match("type", "m.room.member"), match("content.membership", "invite"), match("state_key", userID)),
			rule(".m.rule.member_event", silent, match("type", "m.room.member")),
			rule(".m.rule.is_user_mention", mention,
				Condition{Kind: "event_property_contains", Key: `content.m\.mentions.user_ids`, Value: userID}),
			rule(".m.rule.is_room_mention", highlight,
				property(`content.m\.mentions.room`, true), Condition{Kind: "sender_notification_permission", Key: "room"}),
			rule(".m.rule.tombstone", highlight, match("type", "m.room.tombstone"), match("state_key", "")),
			rule(".m.rule.reaction", silent, match("type", "m.reaction")),
			rule(".m.rule.room.server_acl", silent, match("type", "m.room.server_acl"), match("state_key", "")),
			rule(".m.rule.suppress_edits", silent, property(`content.m\.relates_to.rel_type`, "m.replace")),
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
