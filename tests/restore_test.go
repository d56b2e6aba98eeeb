package tests

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"beep/tests/harness"
)

// After docs/restore.md was followed, no one-time key is given out, devices hear that they
// have none, and new ones are given out.
func TestOneTimeKeysAfterRestore(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		keys := object{"device_keys": deviceKeys(alice, "x"), "one_time_keys": oneTimeKeys(alice, "1", "2"), "fallback_keys": oneTimeKeys(alice, "F")}
		upload(alice, keys).OK()
		if n := alice.Sync().At("device_one_time_keys_count", curve).Int(); n != 2 {
			t.Errorf("at first, %d keys", n)
		}
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
		_, err = db.Exec(`DELETE FROM one_time_keys`)
		if err := errors.Join(err, db.Close(), srv.Start()); err != nil {
			t.Fatal(err)
		}
		if key := claimOf(bob, alice); key != "F" {
			t.Errorf("given out is %q", key)
		}
		if r := alice.Sync(); r.At("device_one_time_keys_count", curve).Int() != 0 {
			t.Errorf("the device hears %s", r.Body)
		}
		upload(alice, object{"one_time_keys": oneTimeKeys(alice, "3")}).OK()
		if key := claimOf(bob, alice); key != "3" {
			t.Errorf("given out is %q", key)
		}
	})
}
