package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"beep/tests/harness"
)

const (
	backups        = "/v3/room_keys/version"
	backupKeys     = "/v3/room_keys/keys"
	megolmBackup   = "m.megolm_backup.v1.curve25519-aes-sha2"
	backedUpRoom   = "!backed:up.test"
	backedUpOther  = "!\"other\\room"
	awkwardSession = "a/b+c%20\"ü"
)

// backup is a backup of a user's keys.
type backup struct {
	*harness.Client
	t       testing.TB
	version string
}

func newBackup(t testing.TB, c *harness.Client) *backup {
	t.Helper()
	info := object{"algorithm": megolmBackup, "auth_data": object{"public_key": "abcdefg"}}
	return &backup{c, t, c.Post(backups, info).OK().At("version").Str()}
}

// at is the path of the keys, of a room, or of a session.
func (b *backup) at(path ...string) string {
	format := backupKeys
	for range path {
		format += "/%s"
	}
	return harness.Path(format, path...) + harness.Query("version", b.version)
}

// backedUp is a key. Its session_data tells it from others.
func backedUp(data string, verified bool, index, forwarded int) object {
	return object{"first_message_index": index, "forwarded_count": forwarded, "is_verified": verified, "session_data": object{"ciphertext": data}}
}

// holds fails unless the answer has the number of keys, and an etag that has changed or not
// since the one before, which it returns.
func (b *backup) holds(r *harness.Response, count int64, before string, changed bool) (etag string) {
	b.t.Helper()
	r.OK()
	etag = r.At("etag").Str()
	if r.At("count").Int() != count || (etag != before) != changed {
		b.t.Errorf("after %q: %s, not %d keys", before, r.Body, count)
	}
	if info := b.Get(backups + "/" + b.version).OK(); info.At("etag").Str() != etag || info.At("count").Int() != count {
		b.t.Errorf("the backup says %s, after %s", info.Body, r.Body)
	}
	return etag
}

func TestBackupVersions(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		alice.Get(backups).Fails(404, "M_NOT_FOUND")
		first := newBackup(t, alice)
		second := newBackup(t, alice)
		r := alice.Get(backups).OK()
		if r.At("version").Str() != second.version || first.version == second.version || r.At("count").Int() != 0 || r.At("algorithm").Str() != megolmBackup {
			t.Errorf("the current one: %s", r.Body)
		}
		path := backups + "/" + first.version
		info := object{"algorithm": megolmBackup, "auth_data": object{"public_key": "hijk"}, "version": first.version}
		alice.Put(path, info).OK()
		if got := alice.Get(path).OK().At("auth_data", "public_key").Str(); got != "hijk" {
			t.Errorf("auth_data after a change: %q", got)
		}
		alice.Put(path, object{"algorithm": "m.other", "auth_data": object{}}).Fails(400, "M_INVALID_PARAM")
		info["version"] = second.version
		alice.Put(path, info).Fails(400, "M_INVALID_PARAM")
		delete(info, "version")
		alice.Put(backups+"/12345", info).Fails(404, "M_NOT_FOUND")

		// Nobody else's.
		bob.Get(path).Fails(404, "M_NOT_FOUND")
		bob.Put(path, info).Fails(404, "M_NOT_FOUND")
		bob.Delete(path, nil).Fails(404, "M_NOT_FOUND")
		newBackup(t, bob)
		theirs := &backup{bob, t, first.version}
		bob.Put(theirs.at(backedUpRoom, "s"), backedUp("x", true, 0, 0)).Fails(404, "M_NOT_FOUND")
		bob.Get(theirs.at()).Fails(404, "M_NOT_FOUND")
		bob.Delete(theirs.at(), nil).Fails(404, "M_NOT_FOUND")

		alice.Put(second.at(backedUpRoom, "s"), backedUp("x", true, 0, 0)).OK()
		gone := backups + "/" + second.version
		alice.Delete(gone, nil).OK()
		alice.Delete(gone, nil).OK() // once more
		alice.Get(gone).Fails(404, "M_NOT_FOUND")
		alice.Get(second.at()).Fails(404, "M_NOT_FOUND")
		alice.Get(second.at(backedUpRoom)).Fails(404, "M_NOT_FOUND")
		alice.Get(second.at(backedUpRoom, "s")).Fails(404, "M_NOT_FOUND")
		alice.Put(gone, info).Fails(404, "M_NOT_FOUND")
		if r := alice.Get(backups).OK(); r.At("version").Str() != first.version {
			t.Errorf("after the current one was deleted: %s", r.Body)
		}
		r = alice.Put(second.at(backedUpRoom, "s"), backedUp("x", true, 0, 0)).Fails(403, "M_WRONG_ROOM_KEYS_VERSION")
		if r.At("current_version").Str() != first.version {
			t.Errorf("the current version: %s", r.Body)
		}
		if third := newBackup(t, alice); third.version == second.version {
			t.Error("a version comes once more")
		}
	})
}

func TestBackupKeys(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		old := newBackup(t, alice)
		b := newBackup(t, alice)
		for _, path := range []string{b.at(), b.at(backedUpRoom)} {
			if r := alice.Get(path).OK(); string(r.Body) != `{"rooms":{}}` && string(r.Body) != `{"sessions":{}}` {
				t.Errorf("an empty backup: %s", r.Body)
			}
		}
		alice.Get(b.at(backedUpRoom, "s")).Fails(404, "M_NOT_FOUND")
		empty := alice.Get(backups).OK().At("etag").Str()
		etag := b.holds(alice.Put(b.at(backedUpRoom, awkwardSession), backedUp("one", false, 3, 2)), 1, empty, true)
		etag = b.holds(alice.Put(b.at(backedUpRoom), object{"sessions": object{"s2": backedUp("two", true, 0, 0), "s3": backedUp("three", true, 0, 0)}}), 3, etag, true)
		etag = b.holds(alice.Put(b.at(), object{"rooms": object{
			backedUpRoom:  object{"sessions": object{"s3": backedUp("no better", true, 0, 0)}},
			backedUpOther: object{"sessions": object{"s3": backedUp("of another room", true, 0, 0), "s1": backedUp("x", true, 0, 0)}},
		}}), 5, etag, true)
		etag = b.holds(alice.Put(b.at(), object{"rooms": object{}}), 5, etag, false)

		r := alice.Get(b.at()).OK()
		room := r.At("rooms", backedUpRoom, "sessions")
		if len(r.At("rooms").Keys()) != 2 || len(room.Keys()) != 3 || len(r.At("rooms", backedUpOther, "sessions").Keys()) != 2 ||
			room.At("s3", "session_data", "ciphertext").Str() != "three" {
			t.Errorf("all keys: %s", r.Body)
		}
		r = alice.Get(b.at(backedUpOther)).OK()
		if len(r.At("sessions").Keys()) != 2 || r.At("sessions", "s3", "session_data", "ciphertext").Str() != "of another room" {
			t.Errorf("the keys of a room: %s", r.Body)
		}
		for _, key := range []harness.JSON{room.At(awkwardSession), alice.Get(b.at(backedUpRoom, awkwardSession)).OK().At()} {
			if key.At("first_message_index").Int() != 3 || key.At("forwarded_count").Int() != 2 || key.At("is_verified").Bool() ||
				key.At("session_data", "ciphertext").Str() != "one" {
				t.Errorf("one key: %s", key)
			}
		}
		alice.Put(old.at(backedUpRoom, "s"), backedUp("x", true, 0, 0)).Fails(403, "M_WRONG_ROOM_KEYS_VERSION")

		etag = b.holds(alice.Delete(b.at(backedUpOther, "s3"), nil), 4, etag, true)
		etag = b.holds(alice.Delete(b.at(backedUpOther, "s3"), nil), 4, etag, false)
		etag = b.holds(alice.Delete(b.at(backedUpRoom), nil), 1, etag, true)
		etag = b.holds(alice.Delete(b.at("!unknown:x"), nil), 1, etag, false)
		b.holds(alice.Delete(b.at(), nil), 0, etag, true)
		if r := alice.Get(b.at()).OK(); string(r.Body) != `{"rooms":{}}` {
			t.Errorf("after all were deleted: %s", r.Body)
		}
	})
}

// Of two keys of a session the better one stays, in whatever order they come.
func TestBetterBackupKeys(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		b := newBackup(t, alice)
		etag, sessions := alice.Get(backups).OK().At("etag").Str(), int64(0)
		put := func(session string, key object, changed bool) {
			t.Helper()
			etag = b.holds(alice.Put(b.at(backedUpRoom, session), key), sessions, etag, changed)
		}
		for name, pair := range map[string]struct{ better, worse object }{
			"verified":        {backedUp("better", true, 9, 9), backedUp("worse", false, 0, 0)},
			"earlier":         {backedUp("better", false, 1, 9), backedUp("worse", false, 2, 0)},
			"less forwarded":  {backedUp("better", true, 1, 1), backedUp("worse", true, 1, 2)},
			"all of the same": {backedUp("better", true, 1, 1), backedUp("worse", true, 1, 1)},
		} {
			sessions++
			put(name, pair.better, true)
			put(name, pair.worse, false)
			if name != "all of the same" {
				sessions++
				put(name+" comes later", pair.worse, true)
				put(name+" comes later", pair.better, true)
			}
		}
		r := alice.Get(b.at(backedUpRoom)).OK().At("sessions")
		for _, session := range r.Keys() {
			if got := r.At(session, "session_data", "ciphertext").Str(); got != "better" {
				t.Errorf("%s: %s stays", session, got)
			}
		}
	})
}

func TestBackupRefusals(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		b := newBackup(t, alice)
		long := string(make([]byte, 5000))
		lax := alice.Unchecked()
		with := func(key string, value any) object {
			o := backedUp("x", true, 0, 0)
			if o[key] = value; value == nil {
				delete(o, key)
			}
			return o
		}
		many := object{}
		for i := range 10_001 {
			many[fmt.Sprint(i)] = backedUp("x", true, 0, 0)
		}
		for name, tc := range map[string]struct {
			method, path string
			body         any
			status       int
			code         string
		}{
			"no version":        {"PUT", backupKeys, object{"rooms": object{}}, 400, "M_MISSING_PARAM"},
			"no version read":   {"GET", backupKeys, nil, 400, "M_MISSING_PARAM"},
			"no version delete": {"DELETE", backupKeys, nil, 400, "M_MISSING_PARAM"},
			"odd version":       {"GET", backupKeys + "?version=%2B" + b.version, nil, 404, "M_NOT_FOUND"},
			"word as version":   {"PUT", backupKeys + "?version=bogus", object{"rooms": object{}}, 404, "M_NOT_FOUND"},
			"unknown version":   {"PUT", backupKeys + "?version=12345", object{"rooms": object{}}, 404, "M_NOT_FOUND"},
			"no rooms":          {"PUT", b.at(), object{}, 400, "M_MISSING_PARAM"},
			"no sessions":       {"PUT", b.at(backedUpRoom), object{}, 400, "M_MISSING_PARAM"},
			"rooms a list":      {"PUT", b.at(), object{"rooms": list{}}, 400, "M_BAD_JSON"},
			"no room":           {"PUT", b.at("room", "s"), backedUp("x", true, 0, 0), 400, "M_INVALID_PARAM"},
			"a long session":    {"PUT", b.at(backedUpRoom, fmt.Sprintf("%0300d", 1)), backedUp("x", true, 0, 0), 400, "M_INVALID_PARAM"},
			"NUL":               {"PUT", b.at(backedUpRoom, "a\x00"), backedUp("x", true, 0, 0), 400, "M_INVALID_PARAM"},
			"no data":           {"PUT", b.at(backedUpRoom, "s"), with("session_data", nil), 400, "M_BAD_JSON"},
			"no index":          {"PUT", b.at(backedUpRoom, "s"), with("first_message_index", nil), 400, "M_BAD_JSON"},
			"no count":          {"PUT", b.at(backedUpRoom, "s"), with("forwarded_count", nil), 400, "M_BAD_JSON"},
			"not verified":      {"PUT", b.at(backedUpRoom, "s"), with("is_verified", nil), 400, "M_BAD_JSON"},
			"verified a text":   {"PUT", b.at(backedUpRoom, "s"), with("is_verified", "yes"), 400, "M_BAD_JSON"},
			"below zero":        {"PUT", b.at(backedUpRoom, "s"), with("first_message_index", -1), 400, "M_BAD_JSON"},
			"a fraction":        {"PUT", b.at(backedUpRoom, "s"), with("forwarded_count", 1.5), 400, "M_BAD_JSON"},
			"large data":        {"PUT", b.at(backedUpRoom, "s"), with("session_data", object{"x": long}), 413, "M_TOO_LARGE"},
			"many keys":         {"PUT", b.at(backedUpRoom), object{"sessions": many}, 413, "M_TOO_LARGE"},
			"no algorithm":      {"POST", backups, object{"auth_data": object{}}, 400, "M_MISSING_PARAM"},
			"no auth_data":      {"POST", backups, object{"algorithm": "x"}, 400, "M_MISSING_PARAM"},
			"long algorithm":    {"POST", backups, object{"algorithm": long, "auth_data": object{}}, 400, "M_INVALID_PARAM"},
			"large auth_data":   {"POST", backups, object{"algorithm": "x", "auth_data": object{"x": long + long + long + long}}, 413, "M_TOO_LARGE"},
		} {
			t.Run(name, func(t *testing.T) {
				lax.For(t).Unchecked().Do(tc.method, tc.path, tc.body).Fails(tc.status, tc.code)
			})
		}
		if r := alice.Get(b.at()).OK(); string(r.Body) != `{"rooms":{}}` {
			t.Errorf("something of it was stored: %.200s", r.Body)
		}
		srv.RegisterGuest(t).Unchecked().Get(backups).Fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	})
}

// All keys of a user who has many are stored at once, and come back, in more than one page.
func TestBackupOfMany(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		b := newBackup(t, alice)
		rooms := object{}
		for i := range 100 {
			sessions := object{}
			for j := range 100 {
				sessions[fmt.Sprintf("session%d", j)] = backedUp(fmt.Sprintf("%d.%d", i, j), true, 0, 0)
			}
			rooms[fmt.Sprintf("!room%d", i)] = object{"sessions": sessions}
		}
		etag := b.holds(alice.Put(b.at(), object{"rooms": rooms}), 10_000, "", true)
		b.holds(alice.Put(b.at(), object{"rooms": rooms}), 10_000, etag, false)
		r := alice.Get(b.at()).OK().At("rooms")
		for i := range 100 {
			room := r.At(fmt.Sprintf("!room%d", i), "sessions")
			for j := range 100 {
				if got := room.At(fmt.Sprintf("session%d", j), "session_data", "ciphertext").Str(); got != fmt.Sprintf("%d.%d", i, j) {
					t.Fatalf("room %d, session %d: %q", i, j, got)
				}
			}
		}
		alice.Delete(backups+"/"+b.version, nil).OK()
	})
}

// Devices that store at the same time all find their keys, and every answer's count is one
// that there was.
func TestBackupsAtTheSameTime(t *testing.T) {
	const devices, each = 8, 10
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		b := newBackup(t, alice)
		var mu sync.Mutex
		etags := map[string]int64{}
		var group sync.WaitGroup
		for d := range devices {
			group.Go(func() {
				for i := range each {
					r := alice.Put(b.at(backedUpRoom, fmt.Sprintf("%d.%d", d, i)), backedUp("x", true, 0, 0)).OK()
					mu.Lock()
					etags[r.At("etag").Str()] = r.At("count").Int()
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if r := alice.Get(backups).OK(); r.At("count").Int() != devices*each || len(etags) != devices*each {
			t.Errorf("%d etags, and then %s", len(etags), r.Body)
		}
		counts := map[int64]bool{}
		for _, count := range etags {
			counts[count] = true
		}
		if len(counts) != devices*each {
			t.Errorf("%d counts, not each once", len(counts))
		}
	})
}

// What a user has backed up goes with the account.
func TestBackupOfDeactivated(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		b := newBackup(t, alice)
		alice.Put(b.at(backedUpRoom, "s"), backedUp("remains of alice", true, 0, 0)).OK()
		alice.Prove("POST", "/v3/account/deactivate", object{}).OK()
		if strings.Contains(dump(t, srv), "remains of alice") {
			t.Error("the keys stay")
		}
	})
}
