package storage_test

import (
	"cmp"
	"slices"
	"testing"

	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
)

func TestServerKeys(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		save := func(keys ...matrix.ServerKey) {
			t.Helper()
			if err := db.SaveServerKeys(ctx, keys); err != nil {
				t.Fatal(err)
			}
		}
		load := func(servers ...string) []matrix.ServerKey {
			t.Helper()
			keys, err := db.ServerKeys(ctx, servers)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(keys, func(a, b matrix.ServerKey) int {
				return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.ID, b.ID))
			})
			return keys
		}
		a1 := matrix.ServerKey{Server: "a", ID: "ed25519:1", Key: []byte("key 1"), ValidUntil: 5, Fetched: 3, Response: []byte(`{"a":1}`)}
		a2 := matrix.ServerKey{Server: "a", ID: "ed25519:2", Key: []byte("key 2"), Expired: 4, Fetched: 3, Response: []byte{}}
		b := matrix.ServerKey{Server: "b", ID: "ed25519:1", Key: []byte("key 3"), ValidUntil: 7, Fetched: 3, Response: []byte(`{"b":1}`)}
		save(a1, matrix.ServerKey{Server: "a", ID: "ed25519:2", Key: []byte("key 2"), Expired: 4, Fetched: 3}, b)
		equal(t, "two servers", []matrix.ServerKey{a1, a2, b}, load("a", "b", "c"), nil)
		equal(t, "none", 0, len(load())+len(load("c")), nil)
		a1.Key, a1.ValidUntil, a1.Fetched = []byte("other"), 9, 8
		without := a1
		without.Response = nil
		b.Response, b.Expired = []byte(`{"b":2}`), 6
		save(without, b)
		equal(t, "after changes", []matrix.ServerKey{a1, a2, b}, load("b", "a"), nil)
	})
}
