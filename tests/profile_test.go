package tests

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

func profilePath(c *harness.Client, key string) string {
	return harness.Path("/v3/profile/%s/%s", c.UserID, key)
}

func TestProfile(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, reader := srv.Register(t, "profile"), srv.Client(t)
		whole := harness.Path("/v3/profile/%s", user.UserID)
		user.Put(profilePath(user, "displayname"), object{"displayname": "Ану"}).OK()
		user.Put(profilePath(user, "avatar_url"), object{"avatar_url": "mxc://" + srv.Name + "/face"}).OK()
		user.Put(profilePath(user, "m.tz"), object{"m.tz": "Asia/Ulaanbaatar"}).OK()
		user.Put(profilePath(user, "org.example.post"), object{"org.example.post": object{"office": 7}}).OK()
		got := reader.Get(whole).OK().String()
		want := `{"avatar_url":"mxc://` + srv.Name + `/face","displayname":"Ану","m.tz":"Asia/Ulaanbaatar","org.example.post":{"office":7}}`
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := reader.Get(profilePath(user, "displayname")).OK().String(); got != `{"displayname":"Ану"}` {
			t.Errorf("display name %s", got)
		}
		user.Delete(profilePath(user, "org.example.post"), nil).OK()
		user.Delete(profilePath(user, "displayname"), nil).OK()
		reader.Get(profilePath(user, "org.example.post")).Fails(404, "M_NOT_FOUND")
		if diff := cmp.Diff([]string{"avatar_url", "m.tz"}, reader.Get(whole).OK().Keys()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestProfileRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, other := srv.Register(t, "vain"), srv.Register(t, "other")
		long := strings.Repeat("x", 300)
		for _, test := range []struct {
			name   string
			who    *harness.Client
			key    string
			body   any
			status int
			code   string
		}{
			{"of another user", other, "displayname", object{"displayname": "x"}, 403, "M_FORBIDDEN"},
			{"without the key", user, "displayname", object{"other": "x"}, 400, "M_MISSING_PARAM"},
			{"a name that is no text", user, "displayname", object{"displayname": 5}, 400, "M_BAD_JSON"},
			{"an avatar that is no text", user, "avatar_url", object{"avatar_url": list{}}, 400, "M_BAD_JSON"},
			{"a key outside the grammar", user, "Not A Key", object{"Not A Key": "x"}, 400, "M_INVALID_PARAM"},
			{"a long key", user, "a." + long, object{"a." + long: "x"}, 400, "M_KEY_TOO_LARGE"},
			{"a large value", user, "org.example.x", object{"org.example.x": strings.Repeat("x", 65537)}, 400, "M_PROFILE_TOO_LARGE"},
		} {
			t.Run(test.name, func(t *testing.T) {
				test.who.For(t).Put(profilePath(user, test.key), test.body).Fails(test.status, test.code)
			})
		}
		other.Delete(profilePath(user, "displayname"), nil).Fails(403, "M_FORBIDDEN")
		user.Get(harness.Path("/v3/profile/%s", "@nobody-at-all:"+srv.Name)).Fails(404, "M_NOT_FOUND")
	})
}

// A profile's limit is of the whole: many fields that are small enough alone fill it.
func TestProfileHasALimit(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user := srv.Register(t, "wordy")
		text := strings.Repeat("x", 20_000)
		for _, key := range []string{"org.example.a", "org.example.b", "org.example.c"} {
			user.Put(profilePath(user, key), object{key: text}).OK()
		}
		user.Put(profilePath(user, "org.example.d"), object{"org.example.d": text}).Fails(400, "M_PROFILE_TOO_LARGE")
		user.Put(profilePath(user, "org.example.c"), object{"org.example.c": text}).OK()
	})
}

func TestProfileReachesRooms(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		user, friend := srv.Register(t, "renamed"), srv.Register(t, "friend")
		room := friend.PublicRoom(user)
		friend.Sync()
		user.Put(profilePath(user, "displayname"), object{"displayname": "Шинэ нэр"}).OK()
		r := friend.SyncUntil("the member event", func(r *harness.Response) bool {
			return r.Timeline(room).Find("type", "m.room.member", "state_key", user.UserID).Exists()
		})
		e := r.Timeline(room).Find("type", "m.room.member", "state_key", user.UserID)
		if e.At("content", "displayname").Str() != "Шинэ нэр" || e.At("content", "membership").Str() != "join" {
			t.Errorf("member event %s", e)
		}
		second := user.CreateRoom(nil)
		if got := user.State(second, "m.room.member", user.UserID).OK().At("displayname").Str(); got != "Шинэ нэр" {
			t.Errorf("display name %q in a later room", got)
		}
	})
}
