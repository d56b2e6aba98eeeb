package tests

import (
	"database/sql"
	"strings"
	"testing"

	"beep/tests/harness"
)

// flag sets a column of a user's row while the server does not run.
func flag(t *testing.T, srv *harness.Server, user *harness.Client, column string) {
	t.Helper()
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	driver, url := "postgres", srv.Database
	if srv.Engine == harness.SQLite {
		driver, url = "sqlite3", "file:"+strings.TrimPrefix(srv.Database, "sqlite:")
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec("UPDATE users SET " + column + " = TRUE WHERE user_id = '" + user.UserID + "'")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		t.Fatalf("%d rows were changed, %v", n, err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
}

func TestAttackC24Locked(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		user, friend := srv.Register(t, "locked"), srv.Register(t, "friend")
		other := user.Login(object{"refresh_token": true})
		room := friend.PublicRoom(user)
		flag(t, srv, user, "locked")
		for _, r := range []*harness.Response{
			user.Get("/v3/account/whoami"), user.Get("/v3/sync"), user.Get("/v3/joined_rooms"), user.Get("/v3/devices"),
			user.SendEvent(room, "m.room.message", "1", object{"msgtype": "m.text", "body": "x"}),
			user.Post("/v3/createRoom", object{}), user.Post(harness.Path("/v3/rooms/%s/leave", room), nil),
			user.Put(profilePath(user, "displayname"), object{"displayname": "x"}),
			user.Put(globalData(user, "org.example.x"), object{}),
		} {
			if r.Fails(401, "M_USER_LOCKED"); !r.At("soft_logout").Bool() {
				t.Errorf("no soft_logout: %s", r.Body)
			}
		}
		if r := srv.Client(t).Post("/v3/login", harness.PasswordLogin(user.UserID, user.Password, nil)); r.Status != 401 && r.Status != 403 {
			t.Errorf("login: status %d %s", r.Status, r.Body)
		}
		if r := srv.Client(t).Post("/v3/refresh", object{"refresh_token": other.RefreshToken}); r.Status != 401 {
			t.Errorf("refresh: status %d %s", r.Status, r.Body)
		}
		user.Post("/v3/logout", nil).OK()
		user.Get("/v3/account/whoami").Fails(401, "M_UNKNOWN_TOKEN")
		other.Post("/v3/logout/all", nil).OK()
	})
}

func TestAttackC24Suspended(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		user, friend := srv.Register(t, "suspended"), srv.Register(t, "friend")
		room, other, inviting := friend.PublicRoom(user), friend.PublicRoom(), friend.CreateRoom(object{"invite": list{user.UserID}})
		knocking := friend.CreateRoom(object{"initial_state": list{joinRule("knock")}})
		friend.SetPower(room, map[*harness.Client]int{user: 50})
		own, foreign := user.Text(room, "mine"), friend.Text(room, "theirs")
		flag(t, srv, user, "suspended")
		for _, r := range []*harness.Response{
			user.SendEvent(room, "m.room.message", "1", object{"msgtype": "m.text", "body": "x"}),
			user.SetState(room, "m.room.topic", "", object{"topic": "x"}),
			user.Post(harness.Path("/v3/join/%s", other), nil),
			user.Post(harness.Path("/v3/join/%s", inviting), nil),
			user.SetState(other, "m.room.member", user.UserID, object{"membership": "join"}),
			user.Post(harness.Path("/v3/knock/%s", knocking), nil),
			user.Change("invite", room, srv.Register(t, "guest")),
			user.Post("/v3/createRoom", object{}),
			user.Put(profilePath(user, "displayname"), object{"displayname": "x"}),
			user.Delete(profilePath(user, "displayname"), nil),
			user.Put(harness.Path("/v3/rooms/%s/redact/%s/1", room, foreign), object{}),
			user.SendEvent(room, "m.room.redaction", "2", object{"redacts": foreign}),
		} {
			if r.Status != 403 || r.At("errcode").Str() != "M_USER_SUSPENDED" {
				t.Errorf("%s: status %d %s", r.Request, r.Status, r.Body)
			}
		}
		user.Get("/v3/account/whoami").OK()
		user.Sync()
		user.History(room)
		user.Redact(room, own)
		user.Leave(inviting)
		user.Leave(room)
		user.Login(nil).Post("/v3/logout", nil).OK()
	})
}
