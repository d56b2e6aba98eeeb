package clientapi

import (
	"context"

	"beep/account"
	"beep/matrix"
	"beep/push"
)

type pushRulesAnswer struct {
	Global *push.Ruleset `json:"global"`
}

// pushRules is GET /pushrules/.
func (a *API) pushRules(_ context.Context, who *account.Caller, _ *struct{}) (*pushRulesAnswer, error) {
	return &pushRulesAnswer{push.DefaultRules(who.UserID)}, nil
}

// globalPushRules is GET /pushrules/global/.
func (a *API) globalPushRules(_ context.Context, who *account.Caller, _ *struct{}) (*push.Ruleset, error) {
	return push.DefaultRules(who.UserID), nil
}

type pushRuleRequest struct {
	Kind   string `path:"kind"`
	RuleID string `path:"ruleID"`
}

func (req *pushRuleRequest) find(who *account.Caller) (*push.Rule, error) {
	rules, ok := push.DefaultRules(who.UserID).Kind(req.Kind)
	if !ok {
		return nil, matrix.InvalidParam.Withf("%q is no kind of push rule", req.Kind)
	}
	for i := range rules {
		if rules[i].ID == req.RuleID {
			return &rules[i], nil
		}
	}
	return nil, matrix.NotFound.With("There is no such push rule")
}

// pushRule is GET /pushrules/global/{kind}/{ruleId}.
func (a *API) pushRule(_ context.Context, who *account.Caller, req *pushRuleRequest) (*push.Rule, error) {
	return req.find(who)
}

type pushRuleEnabled struct {
	Enabled bool `json:"enabled"`
}

// pushRuleEnabled is GET /pushrules/global/{kind}/{ruleId}/enabled.
func (a *API) pushRuleEnabled(_ context.Context, who *account.Caller, req *pushRuleRequest) (*pushRuleEnabled, error) {
	rule, err := req.find(who)
	if err != nil {
		return nil, err
	}
	return &pushRuleEnabled{rule.Enabled}, nil
}

type pushRuleActions struct {
	Actions []any `json:"actions"`
}

// pushRuleActions is GET /pushrules/global/{kind}/{ruleId}/actions.
func (a *API) pushRuleActions(_ context.Context, who *account.Caller, req *pushRuleRequest) (*pushRuleActions, error) {
	rule, err := req.find(who)
	if err != nil {
		return nil, err
	}
	return &pushRuleActions{rule.Actions}, nil
}
