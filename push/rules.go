// Package push has push rules, what they make of events, and what comes of that: counts
// of unread notifications, and calls to the push gateways of users (client-server API,
// "Push Notifications").
package push

import (
	"bytes"
	"encoding/json"
	"slices"
)

// The kinds of rules, in order of priority.
const (
	Override  = "override"
	Content   = "content"
	Room      = "room"
	Sender    = "sender"
	Underride = "underride"
)

// Rule is a push rule.
type Rule struct {
	ID         string            `json:"rule_id"`
	Default    bool              `json:"default"`
	Enabled    bool              `json:"enabled"`
	Conditions []json.RawMessage `json:"conditions,omitzero"` // of override and underride rules
	Pattern    string            `json:"pattern,omitzero"`    // of content rules
	Actions    []json.RawMessage `json:"actions"`             // as the client has set them
}

// Ruleset are rules by kind, each kind in order of priority.
type Ruleset struct {
	Override  []Rule `json:"override"`
	Content   []Rule `json:"content"`
	Room      []Rule `json:"room"`
	Sender    []Rule `json:"sender"`
	Underride []Rule `json:"underride"`
}

// Kind are the rules of one kind; ok is false for an unknown kind.
func (s *Ruleset) Kind(kind string) (rules []Rule, ok bool) {
	if list := s.list(kind); list != nil {
		return *list, true
	}
	return nil, false
}

func (s *Ruleset) list(kind string) *[]Rule {
	switch kind {
	case Override:
		return &s.Override
	case Content:
		return &s.Content
	case Room:
		return &s.Room
	case Sender:
		return &s.Sender
	case Underride:
		return &s.Underride
	}
	return nil
}

// Find is the rule of the kind with the id; nil if there is none.
func (s *Ruleset) Find(kind, id string) *Rule {
	list := s.list(kind)
	if list == nil {
		return nil
	}
	if i := indexOf(*list, id); i >= 0 {
		return &(*list)[i]
	}
	return nil
}

func indexOf(rules []Rule, id string) int {
	return slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
}

// content is the content of m.push_rules.
type content struct {
	Global *Ruleset `json:"global"`
}

// RulesOf are the rules of a user whose m.push_rules has this content, nil if there is
// none: the default rules of today, as the user has changed them, and those that the user
// has made.
func RulesOf(userID string, stored json.RawMessage) *Ruleset {
	rules := DefaultRules(userID)
	var old content
	if stored == nil || json.Unmarshal(stored, &old) != nil || old.Global == nil {
		return rules
	}
	for _, kind := range []string{Override, Content, Room, Sender, Underride} {
		list := rules.list(kind)
		*list = merge(*list, *old.Global.list(kind))
	}
	return rules
}

// merge puts the user's rules before the default ones, all but the master rule, and takes
// over what the user has changed of these.
func merge(defaults, stored []Rule) []Rule {
	var own []Rule
	for _, r := range stored {
		if !r.Default {
			own = append(own, r)
		} else if i := indexOf(defaults, r.ID); i >= 0 {
			defaults[i].Enabled, defaults[i].Actions = r.Enabled, r.Actions
		}
	}
	return slices.Insert(defaults, firstOwn(defaults), own...)
}

// firstOwn is the place of the most important rule of the user.
func firstOwn(rules []Rule) int {
	if len(rules) > 0 && rules[0].ID == masterRule {
		return 1
	}
	return 0
}

// ContentOf is the content of m.push_rules.
func ContentOf(rules *Ruleset) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(content{rules})
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// DefaultContent is the content of m.push_rules of a user who has changed nothing.
func DefaultContent(userID string) (json.RawMessage, error) { return ContentOf(DefaultRules(userID)) }
