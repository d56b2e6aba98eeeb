package tests

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"beep/tests/harness"
)

func TestVersions(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		r := srv.Client(t).Get("/versions").OK()
		var got []string
		for _, v := range r.At("versions").List() {
			got = append(got, v.Str())
		}
		for n := 1; n <= 11; n++ {
			if !slices.Contains(got, fmt.Sprintf("v1.%d", n)) {
				t.Errorf("v1.%d is missing in %v", n, got)
			}
		}
	})
}

func TestCapabilities(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		all := srv.Register(t, "capable").Get("/v3/capabilities").OK().At("capabilities")
		versions := all.At("m.room_versions")
		if versions.At("default").Str() != "12" || len(versions.At("available").Keys()) != 12 || versions.At("available", "12").Str() != "stable" {
			t.Errorf("m.room_versions %s", versions)
		}
		for _, capability := range []string{"m.change_password", "m.profile_fields", "m.get_login_token"} {
			if !all.At(capability, "enabled").Bool() {
				t.Errorf("%s: %s", capability, all.At(capability))
			}
		}
		if enabled := all.At("m.3pid_changes", "enabled"); !enabled.Exists() || enabled.Bool() {
			t.Errorf("m.3pid_changes: %s", all.At("m.3pid_changes"))
		}
		srv.Client(t).Get("/v3/capabilities").Fails(401, "M_MISSING_TOKEN")
	})
}

func TestWellKnown(t *testing.T) {
	config := `
public_base_url: https://matrix.example.org
well_known:
  client: {org.example.feature: {enabled: true}}
  server: matrix.example.org:443
  support: {contacts: [{role: m.role.admin, email_address: admin@example.org}], page: https://example.org/help}
`
	harness.EachOwn(t, harness.Options{Config: config}, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		client := c.Get("/.well-known/matrix/client").OK()
		if client.At("m.homeserver", "base_url").Str() != "https://matrix.example.org" || !client.At("org.example.feature", "enabled").Bool() {
			t.Errorf("client %s", client.Body)
		}
		if got := c.Get("/.well-known/matrix/server").OK().At("m.server").Str(); got != "matrix.example.org:443" {
			t.Errorf("m.server %q", got)
		}
		support := c.Get("/.well-known/matrix/support").OK()
		if support.At("contacts", 0, "email_address").Str() != "admin@example.org" || support.At("support_page").Str() != "https://example.org/help" {
			t.Errorf("support %s", support.Body)
		}
	})
}

func TestWellKnownWithoutConfiguration(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		if c.Get("/.well-known/matrix/client").OK().At("m.homeserver", "base_url").Str() == "" {
			t.Error("the client is told no address")
		}
		for _, path := range []string{"/.well-known/matrix/server", "/.well-known/matrix/support"} {
			if got := c.Get(path).Status; got != 404 {
				t.Errorf("%s: status %d", path, got)
			}
		}
	})
}

func TestOpenID(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, other := srv.Register(t, "identified"), srv.Register(t, "other")
		path := harness.Path("/v3/user/%s/openid/request_token", user.UserID)
		token := user.Post(path, nil).OK()
		if token.At("token_type").Str() != "Bearer" || token.At("matrix_server_name").Str() != srv.Name || token.At("expires_in").Int() <= 0 {
			t.Errorf("token %s", token.Body)
		}
		const userinfo = "/_matrix/federation/v1/openid/userinfo"
		anyone := srv.Client(t)
		if got := anyone.Get(userinfo, "access_token", token.At("access_token").Str()).OK().At("sub").Str(); got != user.UserID {
			t.Errorf("sub %q", got)
		}
		anyone.Get(userinfo, "access_token", "guess").Fails(401, "M_UNKNOWN_TOKEN")
		if r := anyone.Get(userinfo); r.Status != 401 {
			t.Errorf("without a token: status %d %s", r.Status, r.Body)
		}
		other.Post(path, nil).Fails(403, "M_FORBIDDEN")
		user.AccessToken = token.At("access_token").Str()
		user.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
	})
}

// Browsers may use every path, whatever the answer.
func TestCORS(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		for _, path := range []string{"/versions", "/v3/sync", "/v3/unknown", "/.well-known/matrix/client"} {
			for _, method := range []string{http.MethodOptions, http.MethodGet} {
				h := c.Do(method, path, nil).Header
				if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") == "" || h.Get("Access-Control-Allow-Headers") == "" {
					t.Errorf("%s %s: %v", method, path, h)
				}
			}
		}
		if r := c.Do(http.MethodOptions, "/v3/login", nil); r.Status != 200 && r.Status != 204 {
			t.Errorf("OPTIONS: status %d", r.Status)
		}
	})
}

func TestHead(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		r := srv.Client(t).Do(http.MethodHead, "/versions", nil)
		if r.Status != 200 || len(r.Body) > 0 {
			t.Errorf("status %d, body %q", r.Status, r.Body)
		}
	})
}
