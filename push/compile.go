package push

import (
	"encoding/json"
	"slices"

	"beep/matrix"
)

// Verdict is what the rules of a user make of an event.
type Verdict struct {
	Notify    bool
	Highlight bool   // only with Notify
	Actions   string // a JSON list, as the rule has it
}

// compiled are rules that are ready to be tried, those that are enabled, in order.
type compiled struct {
	rules []compiledRule
	named bool // a rule wants to know the user's display name
}

type compiledRule struct {
	verdict    Verdict
	conditions []*cond
}

// kindOrder is the order in which the kinds of rules are tried.
var kindOrder = []string{Override, Content, Room, Sender, Underride}

// compile makes rules ready. Rules that can never match are left out.
func compile(rules *Ruleset) *compiled {
	c := &compiled{}
	for _, kind := range kindOrder {
		for i := range *rules.list(kind) {
			r := &(*rules.list(kind))[i]
			if !r.Enabled {
				continue
			}
			conditions, ok := conditionsOf(kind, r)
			if !ok {
				continue
			}
			c.rules = append(c.rules, compiledRule{verdictOf(r.Actions), conditions})
			c.named = c.named || slices.ContainsFunc(conditions, func(c *cond) bool { return c.kind == displayName })
		}
	}
	return c
}

// defaultRules are the rules of all users who have changed none. What stands for the
// user's own id is tried with the id of whoever it is, or with nobody's.
var defaultRules = compileDefaults()

func compileDefaults() *compiled {
	const nobody = "@:"
	c := compile(DefaultRules(nobody))
	for _, r := range c.rules {
		for _, condition := range r.conditions {
			condition.self = condition.value == nobody || condition.pattern != nil && condition.pattern.parts[0].literal == nobody
		}
	}
	return c
}

func conditionsOf(kind string, r *Rule) (conditions []*cond, ok bool) {
	exactly := func(path, value string) []*cond {
		return []*cond{{kind: propertyIs, path: []string{path}, value: value}}
	}
	switch kind {
	case Content:
		return []*cond{{kind: eventMatch, key: bodyKey, path: splitPath(bodyKey), pattern: newGlob(r.Pattern)}}, true
	case Room:
		return exactly("room_id", r.ID), true
	case Sender:
		return exactly("sender", r.ID), true
	}
	for _, written := range r.Conditions {
		c, err := readCondition(written)
		if err != nil || !knownKind(c.kind) {
			return nil, false
		}
		conditions = append(conditions, c)
	}
	return conditions, true
}

func knownKind(kind string) bool {
	return slices.Contains([]string{eventMatch, propertyIs, propertyContains, displayName, memberCount, senderPermission}, kind)
}

// verdictOf is what a rule with these actions says. Actions from older specifications do
// not count.
func verdictOf(actions []json.RawMessage) Verdict {
	v := Verdict{}
	list := []byte{'['}
	for _, written := range actions {
		a, err := readAction(written)
		if err != nil || a.name == "dont_notify" || a.name == "coalesce" {
			continue
		}
		v.Notify = v.Notify || a.name == "notify"
		if a.tweak == "highlight" {
			v.Highlight = a.value == nil || string(a.value) == "true"
		}
		if len(list) > 1 {
			list = append(list, ',')
		}
		list = append(list, written...)
	}
	v.Highlight = v.Highlight && v.Notify
	canonical, err := matrix.CanonicalJSON(append(list, ']'), false)
	if err != nil {
		canonical = []byte("[]")
	}
	v.Actions = string(canonical)
	return v
}
