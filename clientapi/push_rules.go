package clientapi

import (
	"context"
	"encoding/json"

	"beep/account"
	"beep/matrix"
	"beep/push"
	"beep/web"
)

type pushRulesAnswer struct {
	Global *push.Ruleset `json:"global"`
}

// pushRules is GET /pushrules/.
func (a *API) pushRules(ctx context.Context, who *account.Caller, _ *struct{}) (*pushRulesAnswer, error) {
	rules, err := a.pushRuleSets.Of(ctx, who.UserID)
	return &pushRulesAnswer{rules}, err
}

// globalPushRules is GET /pushrules/global/.
func (a *API) globalPushRules(ctx context.Context, who *account.Caller, _ *struct{}) (*push.Ruleset, error) {
	return a.pushRuleSets.Of(ctx, who.UserID)
}

type pushRuleKindRequest struct {
	Kind string `path:"kind"`
}

// pushRulesOfKind is GET /pushrules/global/{kind}/.
func (a *API) pushRulesOfKind(ctx context.Context, who *account.Caller, req *pushRuleKindRequest) (*[]push.Rule, error) {
	rules, err := a.pushRuleSets.Of(ctx, who.UserID)
	if err != nil {
		return nil, err
	}
	list, ok := rules.Kind(req.Kind)
	if !ok {
		return nil, matrix.InvalidParam.Withf("%q is no kind of push rule", req.Kind)
	}
	return &list, nil
}

type pushRuleRequest struct {
	Kind   string `path:"kind"`
	RuleID string `path:"ruleID"`
}

// pushRule is GET /pushrules/global/{kind}/{ruleId}.
func (a *API) pushRule(ctx context.Context, who *account.Caller, req *pushRuleRequest) (*push.Rule, error) {
	return a.pushRuleSets.Get(ctx, who.UserID, req.Kind, req.RuleID)
}

type putPushRuleRequest struct {
	Kind   string `path:"kind"`
	RuleID string `path:"ruleID"`
	Before string `query:"before"`
	After  string `query:"after"`
	Body   struct {
		Actions    []json.RawMessage `json:"actions"`
		Conditions []json.RawMessage `json:"conditions"`
		Pattern    string            `json:"pattern"`
	}
}

// putPushRule is PUT /pushrules/global/{kind}/{ruleId}.
func (a *API) putPushRule(ctx context.Context, who *account.Caller, req *putPushRuleRequest) (*web.Empty, error) {
	rule := push.Rule{ID: req.RuleID, Conditions: req.Body.Conditions, Pattern: req.Body.Pattern, Actions: req.Body.Actions}
	return nil, a.pushRuleSets.Put(ctx, who.UserID, req.Kind, rule, req.Before, req.After)
}

// deletePushRule is DELETE /pushrules/global/{kind}/{ruleId}.
func (a *API) deletePushRule(ctx context.Context, who *account.Caller, req *pushRuleRequest) (*web.Empty, error) {
	return nil, a.pushRuleSets.Delete(ctx, who.UserID, req.Kind, req.RuleID)
}

type pushRuleEnabled struct {
	Enabled bool `json:"enabled"`
}

// pushRuleEnabled is GET /pushrules/global/{kind}/{ruleId}/enabled.
func (a *API) pushRuleEnabled(ctx context.Context, who *account.Caller, req *pushRuleRequest) (*pushRuleEnabled, error) {
	rule, err := a.pushRuleSets.Get(ctx, who.UserID, req.Kind, req.RuleID)
	if err != nil {
		return nil, err
	}
	return &pushRuleEnabled{rule.Enabled}, nil
}

type enablePushRuleRequest struct {
	Kind   string `path:"kind"`
	RuleID string `path:"ruleID"`
	Body   struct {
		Enabled *bool `json:"enabled"`
	}
}

// enablePushRule is PUT /pushrules/global/{kind}/{ruleId}/enabled.
func (a *API) enablePushRule(ctx context.Context, who *account.Caller, req *enablePushRuleRequest) (*web.Empty, error) {
	if req.Body.Enabled == nil {
		return nil, matrix.MissingParam.With("enabled is missing")
	}
	return nil, a.pushRuleSets.Enable(ctx, who.UserID, req.Kind, req.RuleID, *req.Body.Enabled)
}

type pushRuleActions struct {
	Actions []json.RawMessage `json:"actions"`
}

// pushRuleActions is GET /pushrules/global/{kind}/{ruleId}/actions.
func (a *API) pushRuleActions(ctx context.Context, who *account.Caller, req *pushRuleRequest) (*pushRuleActions, error) {
	rule, err := a.pushRuleSets.Get(ctx, who.UserID, req.Kind, req.RuleID)
	if err != nil {
		return nil, err
	}
	return &pushRuleActions{rule.Actions}, nil
}

type setPushRuleActionsRequest struct {
	Kind   string `path:"kind"`
	RuleID string `path:"ruleID"`
	Body   pushRuleActions
}

// setPushRuleActions is PUT /pushrules/global/{kind}/{ruleId}/actions.
func (a *API) setPushRuleActions(ctx context.Context, who *account.Caller, req *setPushRuleActionsRequest) (*web.Empty, error) {
	return nil, a.pushRuleSets.SetActions(ctx, who.UserID, req.Kind, req.RuleID, req.Body.Actions)
}
