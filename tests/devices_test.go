package tests

import (
	"testing"

	"beep/tests/harness"
)

func TestDevices(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		first := srv.Register(t, "devices")
		second := first.Login(object{"initial_device_display_name": "tablet"})
		stranger := srv.Register(t, "stranger")
		path := harness.Path("/v3/devices/%s", second.DeviceID)

		devices := first.Get("/v3/devices").OK().At("devices")
		if len(devices.List()) != 2 || devices.Find("device_id", second.DeviceID).At("display_name").Str() != "tablet" {
			t.Errorf("devices %s", devices)
		}
		first.Put(path, object{"display_name": "phone"}).OK()
		if got := first.Get(path).OK().At("display_name").Str(); got != "phone" {
			t.Errorf("display name %q", got)
		}
		stranger.Get(path).Fails(404, "M_NOT_FOUND")
		stranger.Put(path, object{"display_name": "mine"}).Fails(404, "M_NOT_FOUND")
		first.Get("/v3/devices/UNKNOWN").Fails(404, "M_NOT_FOUND")
		first.Put("/v3/devices/UNKNOWN", object{"display_name": "x"}).Fails(404, "M_NOT_FOUND")

		first.Prove("DELETE", path, object{}).OK()
		first.Get(path).Fails(404, "M_NOT_FOUND")
		second.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
	})
}

func TestDeleteDevices(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		first := srv.Register(t, "delete")
		second, third := first.Login(nil), first.Login(nil)
		first.Prove("POST", "/v3/delete_devices", object{"devices": list{second.DeviceID, third.DeviceID, "UNKNOWN"}}).OK()
		second.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		third.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		if n := len(first.Get("/v3/devices").OK().At("devices").List()); n != 1 {
			t.Errorf("%d devices are left", n)
		}
	})
}

func TestInteractiveAuthentication(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, mallory := srv.Register(t, "careful"), srv.Register(t, "mallory")
		one, two := user.Login(nil), user.Login(nil)
		onePath, twoPath := harness.Path("/v3/devices/%s", one.DeviceID), harness.Path("/v3/devices/%s", two.DeviceID)

		challenge := user.Delete(onePath, nil)
		session := challenge.At("session").Str()
		if challenge.Status != 401 || session == "" || challenge.At("flows", 0, "stages", 0).Str() != "m.login.password" {
			t.Fatalf("status %d %s", challenge.Status, challenge.Body)
		}
		wrong := user.PasswordAuth(session)
		wrong["password"] = "wrong password"
		r := user.Delete(onePath, object{"auth": wrong}).Fails(401, "M_FORBIDDEN")
		if r.At("session").Str() != session || len(r.At("completed").List()) != 0 {
			t.Errorf("after a wrong password: %s", r.Body)
		}
		if r := user.Delete(onePath, object{"auth": mallory.PasswordAuth(session)}); r.Status != 401 && r.Status != 403 {
			t.Errorf("with the password of another user: status %d", r.Status)
		}
		if r := user.Delete(twoPath, object{"auth": user.PasswordAuth(session)}); r.Status != 401 && r.Status != 403 {
			t.Errorf("with the session for another device: status %d", r.Status)
		}
		if r := user.Delete(onePath, object{"auth": user.PasswordAuth("guess")}); r.Status != 401 {
			t.Errorf("with an unknown session: status %d", r.Status)
		}
		one.Get("/v3/account/whoami").OK()
		two.Get("/v3/account/whoami").OK()
		user.Delete(onePath, object{"auth": user.PasswordAuth(session)}).OK()
		if r := user.Delete(twoPath, object{"auth": object{"session": session}}); r.Status != 401 && r.Status != 403 {
			t.Errorf("with a session that was used: status %d", r.Status)
		}
	})
}
