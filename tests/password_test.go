package tests

import (
	"testing"

	"beep/tests/harness"
)

func TestChangePassword(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		for _, test := range []struct {
			name   string
			logout any
			others int
		}{{"logging others out is the default", nil, 401}, {"logging others out", true, 401}, {"keeping others", false, 200}} {
			t.Run(test.name, func(t *testing.T) {
				user := srv.Register(t, "password")
				other := user.Login(nil)
				body := object{"new_password": "another password"}
				if test.logout != nil {
					body["logout_devices"] = test.logout
				}
				user.Prove("POST", "/v3/account/password", body).OK()
				if got := other.Get("/v3/account/whoami").Status; got != test.others {
					t.Errorf("the other device: status %d", got)
				}
				user.Get("/v3/account/whoami").OK()
				old := harness.PasswordLogin(user.UserID, harness.DefaultPassword, nil)
				srv.Client(t).Post("/v3/login", old).Fails(403, "M_FORBIDDEN")
				user.Password = "another password"
				user.Login(nil)
			})
		}
	})
}

func TestChangePasswordRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "stubborn")
		auth := user.PasswordAuth("")
		user.Post("/v3/account/password", object{"new_password": "short", "auth": auth}).Fails(400, "M_WEAK_PASSWORD")
		user.Post("/v3/account/password", object{"auth": auth}).Fails(400, "M_MISSING_PARAM")
		auth["password"] = "wrong password"
		if r := user.Post("/v3/account/password", object{"new_password": "another password", "auth": auth}); r.Status != 401 {
			t.Errorf("status %d %s", r.Status, r.Body)
		}
		user.Login(nil)
	})
}

func TestDeactivate(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, friend := srv.Register(t, "leaver"), srv.Register(t, "friend")
		room := friend.PublicRoom(user)
		inviting := friend.CreateRoom(object{"invite": list{user.UserID}})
		other := user.Login(nil)
		r := user.Prove("POST", "/v3/account/deactivate", object{}).OK()
		if got := r.At("id_server_unbind_result").Str(); got != "success" && got != "no-support" {
			t.Errorf("id_server_unbind_result %q", got)
		}
		user.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		other.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		for _, id := range []string{room, inviting} {
			friend.SyncUntil("the leave", func(*harness.Response) bool {
				return friend.State(id, "m.room.member", user.UserID).OK().At("membership").Str() == "leave"
			})
		}
		srv.Client(t).Post("/v3/register", object{"username": localpart(user), "password": harness.DefaultPassword, "auth": dummy}).
			Fails(400, "M_USER_IN_USE")
	})
}

func TestUserCommands(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "managed")
		srv.Command(t, "user", "reset-password", localpart(user), "--password", "from the command line")
		user.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		user.Password = "from the command line"
		user = user.Login(nil)
		srv.Command(t, "user", "deactivate", localpart(user))
		user.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
	})
}
