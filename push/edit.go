package push

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"beep/matrix"
	"beep/storage"
)

// RulesType is the type of the account data that has a user's push rules.
const RulesType = "m.push_rules"

// What a user's rules may take: they are read for each event of the user's rooms.
const (
	maxRules     = 10_000  // that the user has made
	maxRuleID    = 300     // bytes
	maxRule      = 1 << 10 // bytes of conditions, pattern and actions
	maxRulesSize = 2 << 20 // bytes of all together
)

var errNoRule = matrix.NotFound.With("There is no such push rule")

func errKind(kind string) error {
	return matrix.InvalidParam.Withf("%q is no kind of push rule", kind)
}

// Rules keeps the push rules of users.
type Rules struct{ db *storage.DB }

// NewRules are the push rules in the database.
func NewRules(db *storage.DB) *Rules { return &Rules{db} }

// Of are the user's rules.
func (r *Rules) Of(ctx context.Context, userID string) (*Ruleset, error) {
	d, err := r.db.AccountData(ctx, userID, 0, RulesType)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	return RulesOf(userID, d.Content), nil
}

// Get is one of the user's rules. M_NOT_FOUND, M_INVALID_PARAM.
func (r *Rules) Get(ctx context.Context, userID, kind, id string) (*Rule, error) {
	rules, err := r.Of(ctx, userID)
	if err != nil {
		return nil, err
	}
	return find(rules, kind, id)
}

func find(rules *Ruleset, kind, id string) (*Rule, error) {
	if rules.list(kind) == nil {
		return nil, errKind(kind)
	}
	if found := rules.Find(kind, id); found != nil {
		return found, nil
	}
	return nil, errNoRule
}

// Put makes a rule of the user, or changes it. It becomes the next more important one than
// that named before, or the next less important one than that named after; with neither, a
// new one is the most important of the user's. Of the rule, the id, the conditions or the
// pattern, and the actions count. M_INVALID_PARAM, M_BAD_JSON, M_MISSING_PARAM, M_TOO_LARGE.
func (r *Rules) Put(ctx context.Context, userID, kind string, rule Rule, before, after string) error {
	if err := checkRule(kind, &rule); err != nil {
		return err
	}
	return r.update(ctx, userID, func(rules *Ruleset) error {
		list := rules.list(kind)
		at := indexOf(*list, rule.ID)
		rule.Enabled = true
		if at >= 0 {
			rule.Enabled = (*list)[at].Enabled
			*list = slices.Delete(*list, at, at+1)
		} else if at = firstOwn(*list); rules.own() >= maxRules {
			return matrix.InvalidParam.Withf("You have %d push rules: there may be no more", maxRules)
		}
		at, err := place(*list, at, before, after)
		if err == nil {
			*list = slices.Insert(*list, at, rule)
		}
		return err
	})
}

// place is where a rule goes that is named relative to another one, or else at.
func place(list []Rule, at int, before, after string) (int, error) {
	relative, shift := before, 0
	if before == "" {
		relative, shift = after, 1
	}
	if relative == "" {
		return at, nil
	}
	i := indexOf(list, relative)
	switch {
	case i < 0:
		return 0, (&matrix.Error{Status: http.StatusBadRequest, Code: "M_UNKNOWN"}).Withf("There is no rule %q to stand before or after", relative)
	case list[i].Default:
		return 0, matrix.InvalidParam.With("A rule cannot stand before or after one of the server's")
	}
	return i + shift, nil
}

// own is the number of the rules that the user has made.
func (s *Ruleset) own() (n int) {
	for _, list := range [][]Rule{s.Override, s.Content, s.Room, s.Sender, s.Underride} {
		for i := range list {
			if !list[i].Default {
				n++
			}
		}
	}
	return n
}

// Delete removes a rule that the user has made. M_NOT_FOUND, M_INVALID_PARAM.
func (r *Rules) Delete(ctx context.Context, userID, kind, id string) error {
	return r.update(ctx, userID, func(rules *Ruleset) error {
		found, err := find(rules, kind, id)
		if err != nil {
			return err
		}
		if found.Default {
			return matrix.InvalidParam.With("The server's own rules cannot be removed; disable it instead")
		}
		list := rules.list(kind)
		*list = slices.DeleteFunc(*list, func(r Rule) bool { return r.ID == id })
		return nil
	})
}

// Enable enables a rule or disables it. M_NOT_FOUND, M_INVALID_PARAM.
func (r *Rules) Enable(ctx context.Context, userID, kind, id string, enabled bool) error {
	return r.change(ctx, userID, kind, id, func(rule *Rule) { rule.Enabled = enabled })
}

// SetActions sets what a rule does. M_NOT_FOUND, M_INVALID_PARAM, M_BAD_JSON, M_TOO_LARGE.
func (r *Rules) SetActions(ctx context.Context, userID, kind, id string, actions []json.RawMessage) error {
	if err := checkActions(actions); err != nil {
		return err
	}
	return r.change(ctx, userID, kind, id, func(rule *Rule) { rule.Actions = actions })
}

func (r *Rules) change(ctx context.Context, userID, kind, id string, fn func(*Rule)) error {
	return r.update(ctx, userID, func(rules *Ruleset) error {
		found, err := find(rules, kind, id)
		if err != nil {
			return err
		}
		size := found.size()
		fn(found)
		if found.size() > maxRule && found.size() > size {
			return errRuleSize
		}
		return nil
	})
}

// update has fn change the user's rules. The last error of fn is given as it is.
func (r *Rules) update(ctx context.Context, userID string, fn func(*Ruleset) error) error {
	return r.db.Write(ctx, func(tx *storage.Tx) error {
		return tx.UpdateAccountData(ctx, userID, 0, RulesType, func(old json.RawMessage) (json.RawMessage, error) {
			rules := RulesOf(userID, old)
			if err := fn(rules); err != nil {
				return nil, err
			}
			now, err := ContentOf(rules)
			if err == nil && len(now) > maxRulesSize && len(now) > len(old) {
				return nil, matrix.TooLarge.Withf("All push rules together may have at most %d bytes", maxRulesSize)
			}
			return now, err
		})
	})
}

var errRuleSize = matrix.TooLarge.Withf("Conditions, pattern and actions of a push rule may have at most %d bytes together", maxRule)

func (r *Rule) size() int {
	n := len(r.Pattern)
	for _, list := range [][]json.RawMessage{r.Conditions, r.Actions} {
		for _, part := range list {
			n += len(part)
		}
	}
	return n
}

// checkRule refuses a rule that no client should want, and drops what is not of its kind.
func checkRule(kind string, rule *Rule) error {
	switch {
	case (&Ruleset{}).list(kind) == nil:
		return errKind(kind)
	case rule.ID == "" || strings.HasPrefix(rule.ID, "."):
		return matrix.InvalidParam.With("The id of a rule does not begin with a dot; such are the server's own")
	case strings.ContainsAny(rule.ID, `/\`):
		return matrix.InvalidParam.With("The id of a rule has no slashes and backslashes")
	case len(rule.ID) > maxRuleID:
		return matrix.TooLarge.Withf("The id of a push rule may have at most %d bytes", maxRuleID)
	}
	rule.Default = false
	if kind != Override && kind != Underride {
		rule.Conditions = nil
	} else if rule.Conditions == nil {
		rule.Conditions = []json.RawMessage{}
	}
	if kind != Content {
		rule.Pattern = ""
	} else if rule.Pattern == "" {
		return matrix.MissingParam.With("A content rule needs a pattern")
	}
	if rule.size() > maxRule {
		return errRuleSize
	}
	for _, written := range rule.Conditions {
		if _, err := readCondition(written); err != nil {
			return err
		}
	}
	return checkActions(rule.Actions)
}

func checkActions(actions []json.RawMessage) error {
	if actions == nil {
		return matrix.MissingParam.With("A push rule needs actions, which may be an empty list")
	}
	for _, written := range actions {
		a, err := readAction(written)
		if err != nil {
			return err
		}
		switch {
		case a.tweak != "", a.name == "notify", a.name == "dont_notify", a.name == "coalesce":
		default:
			return matrix.InvalidParam.Withf("%.50q is no action; there are notify and set_tweak", a.name)
		}
	}
	return nil
}

// action is an item of a rule's actions: a name, or a tweak that is set.
type action struct {
	name, tweak string
	value       json.RawMessage // of the tweak; nil for none
}

func readAction(written json.RawMessage) (action, error) {
	var a action
	if len(written) > 0 && written[0] == '"' {
		return a, json.Unmarshal(written, &a.name)
	}
	var tweak struct {
		Set   *string         `json:"set_tweak"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(written, &tweak); err != nil || tweak.Set == nil || *tweak.Set == "" {
		return a, matrix.BadJSON.With("An action is a string, or an object with set_tweak").Because(err)
	}
	return action{tweak: *tweak.Set, value: tweak.Value}, nil
}
