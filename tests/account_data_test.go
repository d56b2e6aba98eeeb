package tests

import (
	"testing"

	"beep/tests/harness"
)

func globalData(c *harness.Client, dataType string) string {
	return harness.Path("/v3/user/%s/account_data/%s", c.UserID, dataType)
}

func roomData(c *harness.Client, room, dataType string) string {
	return harness.Path("/v3/user/%s/rooms/%s/account_data/%s", c.UserID, room, dataType)
}

func TestAccountData(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "keeper")
		room := user.CreateRoom(nil)
		user.Sync()
		user.Put(globalData(user, "org.example.x"), object{"n": 1}).OK()
		user.Put(roomData(user, room, "org.example.x"), object{"n": 2}).OK()
		if got := user.Get(globalData(user, "org.example.x")).OK().String(); got != `{"n":1}` {
			t.Errorf("global %s", got)
		}
		if got := user.Get(roomData(user, room, "org.example.x")).OK().String(); got != `{"n":2}` {
			t.Errorf("of the room %s", got)
		}
		r := user.Sync()
		if got := r.At("account_data", "events").Find("type", "org.example.x").At("content", "n").Int(); got != 1 {
			t.Errorf("sync: %s", r.Body)
		}
		if got := r.Joined(room).At("account_data", "events").Find("type", "org.example.x").At("content", "n").Int(); got != 2 {
			t.Errorf("sync: %s", r.Body)
		}
		if again := user.Sync(); again.At("account_data", "events", 0).Exists() || again.Joined(room).Exists() {
			t.Errorf("it came twice: %s", again.Body)
		}
	})
}

func TestAccountDataRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, other := srv.Register(t, "owner"), srv.Register(t, "nosy")
		room := user.CreateRoom(nil)
		global, inRoom := globalData(user, "org.example.x"), roomData(user, room, "org.example.x")
		user.Put(global, object{"n": 1}).OK()
		for _, test := range []struct {
			name         string
			who          *harness.Client
			method, path string
			body         any
			status       int
			code         string
		}{
			{"read by another", other, "GET", global, nil, 403, "M_FORBIDDEN"},
			{"written by another", other, "PUT", global, object{}, 403, "M_FORBIDDEN"},
			{"of a room, read by another", other, "GET", inRoom, nil, 403, "M_FORBIDDEN"},
			{"of a room, written by another", other, "PUT", inRoom, object{}, 403, "M_FORBIDDEN"},
			{"not there", user, "GET", globalData(user, "org.example.y"), nil, 404, "M_NOT_FOUND"},
			{"of a room, not there", user, "GET", inRoom, nil, 404, "M_NOT_FOUND"},
			{"not an object", user, "PUT", global, `[1]`, 400, "M_BAD_JSON"},
			{"not JSON", user, "PUT", global, `{"a":`, 400, "M_NOT_JSON"},
			{"of no room", user, "PUT", roomData(user, "@not-a-room:x", "org.example.x"), object{}, 400, "M_INVALID_PARAM"},
			{"the server's own", user, "PUT", globalData(user, "m.fully_read"), object{}, 405, "M_BAD_JSON"},
			{"push rules", user, "PUT", globalData(user, "m.push_rules"), object{}, 405, "M_BAD_JSON"},
			{"of a room, the server's own", user, "PUT", roomData(user, room, "m.fully_read"), object{}, 405, "M_BAD_JSON"},
		} {
			t.Run(test.name, func(t *testing.T) {
				test.who.For(t).Do(test.method, test.path, test.body).Fails(test.status, test.code)
			})
		}
	})
}

func TestTags(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, other := srv.Register(t, "tagger"), srv.Register(t, "nosy")
		room := user.CreateRoom(nil)
		tags := harness.Path("/v3/user/%s/rooms/%s/tags", user.UserID, room)
		if got := user.Get(tags).OK().At("tags").String(); got != "{}" {
			t.Errorf("tags of a new room: %s", got)
		}
		user.Sync()
		user.Put(tags+"/m.favourite", object{"order": 0.25}).OK()
		user.Put(tags+"/u.work", object{}).OK()
		if got := user.Get(tags).OK().At("tags").String(); got != `{"m.favourite":{"order":0.25},"u.work":{}}` {
			t.Errorf("tags %s", got)
		}
		e := user.Sync().Joined(room).At("account_data", "events").Find("type", "m.tag")
		if len(e.At("content", "tags").Keys()) != 2 {
			t.Errorf("sync: %s", e)
		}
		user.Delete(tags+"/u.work", nil).OK()
		if got := user.Get(tags).OK().At("tags").Keys(); len(got) != 1 {
			t.Errorf("tags %s", got)
		}
		other.Get(tags).Fails(403, "M_FORBIDDEN")
		other.Put(tags+"/u.x", object{}).Fails(403, "M_FORBIDDEN")
		other.Delete(tags+"/m.favourite", nil).Fails(403, "M_FORBIDDEN")
	})
}
