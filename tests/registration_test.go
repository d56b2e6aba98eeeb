package tests

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

type (
	object = harness.Object
	list   = harness.List
)

var dummy = object{"type": "m.login.dummy"}

func TestRegisterInStages(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		name := srv.UniqueName("stages")
		body := object{"username": name, "password": harness.DefaultPassword, "device_id": "PHONE", "initial_device_display_name": "my phone"}
		r := c.Post("/v3/register", body)
		if r.Status != 401 || r.At("errcode").Exists() || r.At("flows", 0, "stages", 0).Str() != "m.login.dummy" || !r.At("params").Exists() {
			t.Fatalf("status %d %s", r.Status, r.Body)
		}
		body["auth"] = object{"type": "m.login.dummy", "session": r.At("session").Str()}
		done := c.Post("/v3/register", body).OK()
		if got := done.At("user_id").Str(); got != "@"+name+":"+srv.Name {
			t.Errorf("user id %q", got)
		}
		if got := done.At("device_id").Str(); got != "PHONE" {
			t.Errorf("device id %q", got)
		}
		c.AccessToken = done.At("access_token").Str()
		if got := c.Get("/v3/devices/PHONE").OK().At("display_name").Str(); got != "my phone" {
			t.Errorf("display name %q", got)
		}
	})
}

func TestRegisterRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		taken := srv.Register(t, "taken")
		name := strings.TrimSuffix(strings.TrimPrefix(taken.UserID, "@"), ":"+srv.Name)
		for _, test := range []struct {
			name   string
			body   object
			status int
			code   string
		}{
			{"taken", object{"username": name, "password": "long enough"}, 400, "M_USER_IN_USE"},
			{"space", object{"username": "a b", "password": "long enough"}, 400, "M_INVALID_USERNAME"},
			{"not ASCII", object{"username": "бат", "password": "long enough"}, 400, "M_INVALID_USERNAME"},
			{"colon", object{"username": "a:b", "password": "long enough"}, 400, "M_INVALID_USERNAME"},
			{"at", object{"username": "@a", "password": "long enough"}, 400, "M_INVALID_USERNAME"},
			{"too long", object{"username": strings.Repeat("a", 250), "password": "long enough"}, 400, "M_INVALID_USERNAME"},
			{"weak password", object{"username": srv.UniqueName("weak"), "password": "short"}, 400, "M_WEAK_PASSWORD"},
			{"no text as name", object{"username": 5, "password": "long enough"}, 400, "M_BAD_JSON"},
			{"no password", object{"username": srv.UniqueName("none")}, 400, "M_MISSING_PARAM"},
		} {
			t.Run(test.name, func(t *testing.T) {
				test.body["auth"] = dummy
				srv.Client(t).Post("/v3/register", test.body).Fails(test.status, test.code)
			})
		}
	})
}

func TestRegisterWithoutLogin(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		name := srv.UniqueName("later")
		r := srv.Client(t).Post("/v3/register", object{"username": name, "password": harness.DefaultPassword, "inhibit_login": true, "auth": dummy}).OK()
		if diff := cmp.Diff([]string{"user_id"}, r.Keys()); diff != "" {
			t.Error(diff)
		}
		srv.Client(t).Post("/v3/login", harness.PasswordLogin(name, harness.DefaultPassword, nil)).OK()
	})
}

func TestRegisterChoosesName(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		r := srv.Client(t).Post("/v3/register", object{"password": harness.DefaultPassword, "auth": dummy}).OK()
		if id := r.At("user_id").Str(); !strings.HasPrefix(id, "@") || !strings.HasSuffix(id, ":"+srv.Name) {
			t.Errorf("user id %q", id)
		}
	})
}

func TestUsernameAvailable(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		taken := srv.Register(t, "unavailable")
		c := srv.Client(t)
		local := strings.TrimSuffix(taken.UserID[1:], ":"+srv.Name)
		if !c.Get("/v3/register/available", "username", srv.UniqueName("free")).OK().At("available").Bool() {
			t.Error("a free name is not available")
		}
		c.Get("/v3/register/available", "username", local).Fails(400, "M_USER_IN_USE")
		c.Get("/v3/register/available", "username", "no good").Fails(400, "M_INVALID_USERNAME")
		c.Get("/v3/register/available").Fails(400, "M_MISSING_PARAM")
	})
}

func TestGuests(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		guest := srv.RegisterGuest(t)
		who := guest.Get("/v3/account/whoami").OK()
		if !who.At("is_guest").Bool() || who.At("user_id").Str() != guest.UserID {
			t.Errorf("whoami %s", who.Body)
		}
		guest.Post("/v3/createRoom", nil).Fails(403, "M_GUEST_ACCESS_FORBIDDEN")

		host := srv.Register(t, "host")
		closed := host.CreateRoom(object{"preset": "public_chat"})
		guest.Post(harness.Path("/v3/join/%s", closed), nil).Fails(403, "M_GUEST_ACCESS_FORBIDDEN")
		host.SetState(closed, "m.room.guest_access", "", object{"guest_access": "can_join"}).OK()
		guest.Join(closed)
		guest.Text(closed, "hello")
	})
}

func TestRegisterBySharedSecret(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		const path = "/_synapse/admin/v1/register"
		secret := sharedSecret(t, srv)
		name := srv.UniqueName("scripted")
		nonce := c.Get(path).OK().At("nonce").Str()
		mac := registrationMAC(secret, nonce, name, harness.DefaultPassword, true)
		body := object{"nonce": nonce, "username": name, "password": harness.DefaultPassword, "admin": true, "mac": mac}
		done := c.Post(path, body).OK()
		if done.At("user_id").Str() != "@"+name+":"+srv.Name {
			t.Errorf("user id %q", done.At("user_id").Str())
		}
		admin := srv.Client(t)
		admin.AccessToken = done.At("access_token").Str()
		admin.Get("/_synapse/admin/v1/registration_tokens").OK()

		if r := c.Post(path, body); r.Status < 400 || r.Status > 403 {
			t.Errorf("a nonce was good for two: status %d %s", r.Status, r.Body)
		}
		body["nonce"] = c.Get(path).OK().At("nonce").Str()
		for _, wrong := range []any{mac, "", strings.Repeat("0", 40), mac[:39], mac + "0"} {
			body["mac"] = wrong
			if r := c.Post(path, body); r.Status < 400 || r.Status > 403 {
				t.Errorf("MAC %v: status %d %s", wrong, r.Status, r.Body)
			}
		}
	})
}

func sharedSecret(t *testing.T, srv *harness.Server) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(srv.Data(), "secrets", "registration_shared_secret"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func registrationMAC(secret, nonce, name, password string, admin bool) string {
	role := "notadmin"
	if admin {
		role = "admin"
	}
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(strings.Join([]string{nonce, name, password, role}, "\x00")))
	return hex.EncodeToString(mac.Sum(nil))
}

// admin is a client of a new administrator.
func admin(t *testing.T, srv *harness.Server) *harness.Client {
	t.Helper()
	name := srv.UniqueName("admin")
	srv.Command(t, "user", "create", name, "--password", harness.DefaultPassword, "--admin")
	c := srv.Client(t)
	c.UserID, c.Password = "@"+name+":"+srv.Name, harness.DefaultPassword
	return c.Login(nil)
}

func TestRegistrationTokens(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "registration: {token_required: true}"}, func(t *testing.T, srv *harness.Server) {
		boss, c := admin(t, srv), srv.Client(t)
		const tokens = "/_synapse/admin/v1/registration_tokens"
		boss.Post(tokens+"/new", object{"token": "once", "uses_allowed": 1}).OK()
		valid := func(token string, want bool) {
			t.Helper()
			if got := c.Get("/v1/register/m.login.registration_token/validity", "token", token).OK().At("valid").Bool(); got != want {
				t.Errorf("token %s: valid %v", token, got)
			}
		}
		valid("once", true)
		valid("other", false)
		register := func(name, token string) *harness.Response {
			t.Helper()
			body := object{"username": name, "password": harness.DefaultPassword}
			challenge := c.Post("/v3/register", body)
			if challenge.At("flows", 0, "stages", 0).Str() != "m.login.registration_token" {
				t.Fatalf("status %d %s", challenge.Status, challenge.Body)
			}
			body["auth"] = object{"type": "m.login.registration_token", "token": token, "session": challenge.At("session").Str()}
			return c.Post("/v3/register", body)
		}
		if r := register("nobody", "other"); r.Status != 401 || r.At("errcode").Str() != "M_FORBIDDEN" {
			t.Errorf("a wrong token: status %d %s", r.Status, r.Body)
		}
		register("somebody", "once").OK()
		valid("once", false)
		if r := register("second", "once"); r.Status != 401 {
			t.Errorf("a token was good for two: status %d %s", r.Status, r.Body)
		}
		if got := boss.Get(tokens + "/once").OK().At("completed").Int(); got != 1 {
			t.Errorf("completed %d", got)
		}
		boss.Put(tokens+"/once", object{"uses_allowed": 2}).OK()
		register("second", "once").OK()
		boss.Delete(tokens+"/once", nil).OK()
		boss.Get(tokens+"/once").Fails(404, "M_NOT_FOUND")
		c.Post("/v3/login", harness.PasswordLogin("second", harness.DefaultPassword, nil)).OK()
	})
}

func TestAdministratorsOnly(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		srv.Register(t, "ordinary").Get("/_synapse/admin/v1/registration_tokens").Fails(403, "M_FORBIDDEN")
		srv.Client(t).Get("/_synapse/admin/v1/registration_tokens").Fails(401, "M_MISSING_TOKEN")
	})
}

func TestTerms(t *testing.T) {
	config := `registration: {terms: [{name: privacy_policy, version: "1.0", languages: {en: {name: Privacy, url: "https://example.org/privacy"}}}]}`
	harness.EachOwn(t, harness.Options{Config: config}, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		body := object{"username": "reader", "password": harness.DefaultPassword}
		challenge := c.Post("/v3/register", body)
		policy := challenge.At("params", "m.login.terms", "policies", "privacy_policy")
		if policy.At("version").Str() != "1.0" || policy.At("en", "url").Str() != "https://example.org/privacy" {
			t.Fatalf("status %d %s", challenge.Status, challenge.Body)
		}
		session := challenge.At("session").Str()
		page := c.Unchecked().Get("/v3/auth/m.login.terms/fallback/web", "session", session).OK()
		if !strings.Contains(string(page.Body), "https://example.org/privacy") {
			t.Errorf("the page does not name the document: %s", page.Body)
		}
		body["auth"] = object{"type": "m.login.terms", "session": session}
		c.Post("/v3/register", body).OK()
	})
}

func TestRegistrationClosed(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "registration: {open: false, guests: false}"}, func(t *testing.T, srv *harness.Server) {
		c := srv.Client(t)
		c.Post("/v3/register", object{"username": "a", "password": harness.DefaultPassword, "auth": dummy}).Fails(403, "M_FORBIDDEN")
		c.Post("/v3/register?kind=guest", nil).Fails(403, "M_FORBIDDEN")
		admin(t, srv)
	})
}
