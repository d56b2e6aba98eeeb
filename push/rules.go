// Package push has push rules: who is notified of what (client-server API, "Push
// Notifications").
package push

// Rule is a push rule.
type Rule struct {
	ID         string      `json:"rule_id"`
	Default    bool        `json:"default"`
	Enabled    bool        `json:"enabled"`
	Conditions []Condition `json:"conditions,omitzero"` // of override and underride rules
	Pattern    string      `json:"pattern,omitzero"`    // of content rules
	Actions    []any       `json:"actions"`             // "notify", or a [Tweak]
}

// Condition is a condition of a rule. What of it is set depends on Kind.
type Condition struct {
	Kind    string  `json:"kind"`
	Key     string  `json:"key,omitzero"`
	Pattern *string `json:"pattern,omitzero"` // event_match
	Value   any     `json:"value,omitempty"`  // event_property_is, event_property_contains
	Is      string  `json:"is,omitzero"`      // room_member_count
}

// Tweak is an action that says how to notify.
type Tweak struct {
	Set   string `json:"set_tweak"`
	Value any    `json:"value,omitempty"`
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
	switch kind {
	case "override":
		return s.Override, true
	case "content":
		return s.Content, true
	case "room":
		return s.Room, true
	case "sender":
		return s.Sender, true
	case "underride":
		return s.Underride, true
	}
	return nil, false
}
