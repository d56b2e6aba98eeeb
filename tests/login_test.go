package tests

import (
	"strings"
	"testing"
	"time"

	"beep/tests/harness"
)

func localpart(c *harness.Client) string {
	local, _, _ := strings.Cut(c.UserID[1:], ":")
	return local
}

func TestLoginFlows(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		flows := srv.Client(t).Get("/v3/login").OK().At("flows")
		for _, want := range []string{"m.login.password", "m.login.token"} {
			if !flows.Find("type", want).Exists() {
				t.Errorf("no flow %s in %s", want, flows)
			}
		}
	})
}

func TestLoginByPassword(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "login")
		local := localpart(user)
		right := harness.DefaultPassword
		for _, test := range []struct {
			name   string
			body   object
			status int
			code   string
		}{
			{"localpart", harness.PasswordLogin(local, right, nil), 200, ""},
			{"user id", harness.PasswordLogin(user.UserID, right, nil), 200, ""},
			{"deprecated user", object{"type": "m.login.password", "user": local, "password": right}, 200, ""},
			{"wrong password", harness.PasswordLogin(local, "wrong password", nil), 403, "M_FORBIDDEN"},
			{"unknown user", harness.PasswordLogin("nobody-here", right, nil), 403, "M_FORBIDDEN"},
			{"user of another server", harness.PasswordLogin("@"+local+":elsewhere.test", right, nil), 403, "M_FORBIDDEN"},
			{"unknown type", object{"type": "m.login.magic"}, 400, "M_UNKNOWN"},
			{"wrong token", object{"type": "m.login.token", "token": "guess"}, 403, "M_FORBIDDEN"},
			{"no body", object{}, 400, "M_MISSING_PARAM"},
		} {
			t.Run(test.name, func(t *testing.T) {
				r := srv.Client(t).Post("/v3/login", test.body)
				if test.status == 200 {
					if got := r.OK().At("user_id").Str(); got != user.UserID {
						t.Errorf("user id %q", got)
					}
					return
				}
				r.Fails(test.status, test.code)
			})
		}
	})
}

func TestLoginAtKnownDevice(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		first := srv.Register(t, "device")
		second := first.Login(object{"device_id": first.DeviceID, "initial_device_display_name": "ignored"})
		if second.DeviceID != first.DeviceID {
			t.Errorf("device id %q", second.DeviceID)
		}
		first.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		second.Get("/v3/account/whoami").OK()
	})
}

func TestWhoami(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "who")
		who := user.Get("/v3/account/whoami").OK()
		if who.At("user_id").Str() != user.UserID || who.At("device_id").Str() != user.DeviceID || who.At("is_guest").Bool() {
			t.Errorf("whoami %s", who.Body)
		}
		srv.Client(t).Get("/v3/account/whoami").Fails(401, "M_MISSING_TOKEN")
		user.AccessToken = "never valid"
		r := user.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		if r.At("soft_logout").Bool() {
			t.Error("a token that never was valid is called a soft logout")
		}
	})
}

func TestLogout(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		first := srv.Register(t, "logout")
		second, third := first.Login(nil), first.Login(nil)
		first.Post("/v3/logout", nil).OK()
		first.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		if n := len(second.Get("/v3/devices").OK().At("devices").List()); n != 2 {
			t.Errorf("%d devices after one of three has logged out", n)
		}
		second.Post("/v3/logout/all", nil).OK()
		second.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		third.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		third.Login(nil)
	})
}

func TestRefresh(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		c := srv.Register(t, "refresh").Login(object{"refresh_token": true})
		if c.RefreshToken == "" {
			t.Fatal("no refresh token")
		}
		refresh := func(token string) *harness.Response {
			t.Helper()
			return srv.Client(t).Post("/v3/refresh", object{"refresh_token": token})
		}
		refresh(c.RefreshToken).OK() // this answer does not arrive
		second := refresh(c.RefreshToken).OK()
		if second.At("expires_in_ms").Int() <= 0 {
			t.Errorf("expires_in_ms in %s", second.Body)
		}
		fresh := c.For(t)
		fresh.AccessToken = second.At("access_token").Str()
		if got := fresh.Get("/v3/account/whoami").OK().At("device_id").Str(); got != c.DeviceID {
			t.Errorf("device id %q after the refresh", got)
		}
		refresh(c.RefreshToken).Fails(401, "M_UNKNOWN_TOKEN")
		refresh("guess").Fails(401, "M_UNKNOWN_TOKEN")
		refresh(second.At("refresh_token").Str()).OK()
	})
}

func TestAccessTokenExpires(t *testing.T) {
	harness.EachOwn(t, harness.Options{Config: "login: {access_token_lifetime: 1s}"}, func(t *testing.T, srv *harness.Server) {
		lasting := srv.Register(t, "lasting")
		c := lasting.Login(object{"refresh_token": true})
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			r := c.Get("/v3/account/whoami")
			if r.Status == 401 {
				if r.Fails(401, "M_UNKNOWN_TOKEN"); !r.At("soft_logout").Bool() {
					t.Errorf("no soft logout: %s", r.Body)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the token does not expire")
			}
		}
		c.AccessToken = srv.Client(t).Post("/v3/refresh", object{"refresh_token": c.RefreshToken}).OK().At("access_token").Str()
		c.Get("/v3/account/whoami").OK()
		lasting.Get("/v3/account/whoami").OK()
	})
}

func TestLoginToken(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "token")
		r := user.Prove("POST", "/v1/login/get_token", object{}).OK()
		if r.At("expires_in_ms").Int() <= 0 {
			t.Errorf("expires_in_ms in %s", r.Body)
		}
		body := object{"type": "m.login.token", "token": r.At("login_token").Str()}
		if got := srv.Client(t).Post("/v3/login", body).OK().At("user_id").Str(); got != user.UserID {
			t.Errorf("user id %q", got)
		}
		srv.Client(t).Post("/v3/login", body).Fails(403, "M_FORBIDDEN")
	})
}
