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
