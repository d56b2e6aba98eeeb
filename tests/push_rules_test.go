package tests

import (
	"strings"
	"testing"

	"beep/tests/harness"
)

// TestDefaultPushRules: every user has the specification's rules, with the own id
// where they speak of the user.
func TestDefaultPushRules(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "rules")
		all := c.Get("/v3/pushrules/").OK()
		if n := strings.Count(string(all.Body), `"rule_id"`); n != 15 {
			t.Errorf("%d rules: %s", n, all.Body)
		}
		if n := strings.Count(string(all.Body), c.UserID); n != 2 {
			t.Errorf("the user is named %d times: %s", n, all.Body)
		}
		c.Get("/v3/pushrules/global/").OK()
		c.Get("/v3/pushrules/global/underride/.m.rule.message").OK()
		if c.Get("/v3/pushrules/global/override/.m.rule.master/enabled").OK().At("enabled").Bool() {
			t.Error(".m.rule.master is enabled")
		}
		c.Get("/v3/pushrules/global/underride/.m.rule.call/actions").OK()
		c.Get("/v3/pushrules/global/override/.m.rule.message").Fails(404, "M_NOT_FOUND")
		c.Get("/v3/pushrules/global/other/.m.rule.message").Fails(400, "M_INVALID_PARAM")
	})
}

// ruleIDs are the ids of the user's rules of a kind, in order.
func ruleIDs(c *harness.Client, kind string) (ids []string) {
	for _, rule := range c.Get("/v3/pushrules/").OK().At("global", kind).List() {
		ids = append(ids, rule.At("rule_id").Str())
	}
	return ids
}

// TestOwnPushRules: users make rules, order them, switch them off and remove them, and
// their clients hear of it.
func TestOwnPushRules(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "rules")
		c.Sync()
		body := map[string]any{"actions": []any{"notify"}}
		put := func(id, query string) *harness.Response { return c.Put("/v3/pushrules/global/room/"+id+query, body) }
		put("!a:x", "").OK()
		put("!b:x", "").OK()
		put("!c:x", "?before=!a:x").OK()
		put("!d:x", "?after=!b:x").OK()
		put("!e:x", "?before=!b:x&after=!a:x").OK()
		put("!a:x", "").OK()
		if got, want := strings.Join(ruleIDs(c, "room"), " "), "!e:x !b:x !d:x !c:x !a:x"; got != want {
			t.Errorf("the rules are %s, not %s", got, want)
		}
		put("!a:x", "?before=!e:x").OK()
		if got := ruleIDs(c, "room")[0]; got != "!a:x" {
			t.Errorf("the first rule is %s", got)
		}
		put("!f:x", "?after=!z:x").Fails(400, "M_UNKNOWN")
		c.Put("/v3/pushrules/global/override/mine?before=.m.rule.reaction", map[string]any{"actions": []any{}, "conditions": []any{}}).Fails(400, "M_INVALID_PARAM")

		c.Put("/v3/pushrules/global/override/mine", map[string]any{"actions": []any{}, "conditions": []any{map[string]any{"kind": "x.unknown"}}}).OK()
		c.Put("/v3/pushrules/global/underride/mine", map[string]any{"actions": []any{"dont_notify"}}).OK()
		c.Put("/v3/pushrules/global/content/mine", map[string]any{"actions": []any{}, "pattern": "тест*"}).OK()
		c.Put("/v3/pushrules/global/sender/@bob:x", body).OK()
		if got := strings.Join(ruleIDs(c, "override")[:3], " "); got != ".m.rule.master mine .m.rule.suppress_notices" {
			t.Errorf("overrides begin with %s", got)
		}
		if got := ruleIDs(c, "underride")[0]; got != "mine" {
			t.Errorf("underrides begin with %s", got)
		}
		c.Put("/v3/pushrules/global/room/!b:x/enabled", map[string]any{"enabled": false}).OK()
		put("!b:x", "").OK() // which leaves it disabled
		if c.Get("/v3/pushrules/global/room/!b:x").OK().At("enabled").Bool() {
			t.Error("the rule is enabled")
		}
		c.Put("/v3/pushrules/global/underride/.m.rule.message/actions", map[string]any{"actions": []any{"notify", map[string]any{"set_tweak": "sound", "value": "bing"}}}).OK()
		if got := c.Get("/v3/pushrules/global/underride/.m.rule.message/actions").OK().At("actions", 1, "value").Str(); got != "bing" {
			t.Errorf("the sound is %q", got)
		}
		c.Put("/v3/pushrules/global/override/.m.rule.master/enabled", map[string]any{"enabled": true}).OK()
		news := c.Sync()
		told := false
		for _, data := range news.At("account_data", "events").List() {
			if data.At("type").Str() == "m.push_rules" {
				told = data.At("content", "global", "override", 0, "enabled").Bool()
			}
		}
		if !told {
			t.Errorf("sync does not tell of the rules: %s", news.Body)
		}
		c.Delete("/v3/pushrules/global/room/!b:x", nil).OK()
		c.Delete("/v3/pushrules/global/room/!b:x", nil).Fails(404, "M_NOT_FOUND")
		c.Delete("/v3/pushrules/global/override/.m.rule.master", nil).Fails(400, "M_INVALID_PARAM")
		c.Get("/v3/pushrules/global/room/!b:x").Fails(404, "M_NOT_FOUND")
		c.Put("/v3/pushrules/global/room/!b:x/enabled", map[string]any{"enabled": true}).Fails(404, "M_NOT_FOUND")
		c.Put("/v3/pushrules/global/room/!b:x/actions", body).Fails(404, "M_NOT_FOUND")
		c.Unchecked().Get("/v3/pushrules/global/room/").OK() // as clients ask, though no specification has it
	})
}

// A first sync tells the rules of one who has changed none.
func TestDefaultPushRulesAreInSync(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "rules")
		if first := c.Sync(); !strings.Contains(string(first.Body), `"type":"m.push_rules"`) {
			t.Errorf("%s", first.Body)
		}
		if n := len(c.Get("/v3/user/"+c.UserID+"/account_data/m.push_rules").OK().At("global", "override").List()); n != 10 {
			t.Errorf("%d override rules", n)
		}
	})
}

// TestRefusedPushRules: what makes no sense as a rule, and what is too large (C12, C26).
func TestRefusedPushRules(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "rules")
		long := strings.Repeat("x", 1025)
		event := func(key, pattern any) []any {
			return []any{map[string]any{"kind": "event_match", "key": key, "pattern": pattern}}
		}
		for _, r := range []struct {
			path   string
			body   any
			status int
			code   string
		}{
			{"override/.mine", map[string]any{"actions": []any{}}, 400, "M_INVALID_PARAM"},
			{"override/a%2Fb", map[string]any{"actions": []any{}}, 400, "M_INVALID_PARAM"},
			{"override/a%5Cb", map[string]any{"actions": []any{}}, 400, "M_INVALID_PARAM"},
			{"other/a", map[string]any{"actions": []any{}}, 400, "M_INVALID_PARAM"},
			{"override/a", `{}`, 400, "M_MISSING_PARAM"},
			{"override/a", `{"actions":"notify"}`, 400, "M_BAD_JSON"},
			{"override/a", `{"actions":["shout"]}`, 400, "M_INVALID_PARAM"},
			{"override/a", `{"actions":[5]}`, 400, "M_BAD_JSON"},
			{"override/a", `{"actions":[{"value":"x"}]}`, 400, "M_BAD_JSON"},
			{"content/a", map[string]any{"actions": []any{}}, 400, "M_MISSING_PARAM"},
			{"override/a", map[string]any{"actions": []any{}, "conditions": event("content.body", 5)}, 400, "M_BAD_JSON"},
			{"override/a", map[string]any{"actions": []any{}, "conditions": event(nil, "x")}, 400, "M_MISSING_PARAM"},
			{"override/a", `{"actions":[],"conditions":[{"kind":"event_property_is","key":"a"}]}`, 400, "M_BAD_JSON"},
			{"override/a", `{"actions":[],"conditions":[{"kind":"event_property_is","key":"a","value":{}}]}`, 400, "M_BAD_JSON"},
			{"override/a", `{"actions":[],"conditions":[{"kind":"room_member_count","is":"=2"}]}`, 400, "M_INVALID_PARAM"},
			{"override/a", `{"actions":[],"conditions":[{"kind":"room_member_count","is":"<-2"}]}`, 400, "M_INVALID_PARAM"},
			{"override/a", `{"actions":[],"conditions":["x"]}`, 400, "M_BAD_JSON"},
			{"override/" + strings.Repeat("%C3%A4", 150) + "x", map[string]any{"actions": []any{}}, 413, "M_TOO_LARGE"},
			{"override/a", map[string]any{"actions": []any{}, "conditions": event("content.body", long)}, 413, "M_TOO_LARGE"},
			{"content/a", map[string]any{"actions": []any{}, "pattern": long}, 413, "M_TOO_LARGE"},
			{"underride/.m.rule.message/actions", map[string]any{"actions": []any{map[string]any{"set_tweak": "sound", "value": long}}}, 413, "M_TOO_LARGE"},
		} {
			c.Lax().Put("/v3/pushrules/global/"+r.path, r.body).Fails(r.status, r.code)
		}
		if n := len(ruleIDs(c, "override")); n != 10 {
			t.Errorf("%d override rules", n)
		}
	})
}
