package storage_test

import (
	"errors"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
)

// TestClaim: one process at a time, and the next one after it has closed. So no process has
// in memory what another one has replaced, keys of servers least of all (F55h).
func TestClaim(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		open := func() *storage.DB {
			db, err := storage.Open(t.Context(), storage.Options{URL: url, AllowUnsafeDurability: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			return db
		}
		first, second := open(), open()
		if err := first.Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := first.Claim(t.Context()); err != nil {
			t.Errorf("renewing one's own claim: %v", err)
		}
		if err := second.Claim(t.Context()); !errors.Is(err, storage.ErrClaimed) {
			t.Errorf("a second claim: %v", err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if err := second.Claim(t.Context()); err != nil {
			t.Errorf("after the first has closed: %v", err)
		}
	})
}
