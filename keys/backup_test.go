package keys_test

import (
	"encoding/json"
	"errors"
	"testing"

	"beep/keys"
	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
)

// room is a room's part of a backup, with a key for each of the sessions.
func room(sessions ...string) keys.BackedUpRooms {
	zero, yes := int64(0), true
	all := keys.BackedUpRoom{Sessions: map[string]keys.BackedUpKey{}}
	for _, id := range sessions {
		all.Sessions[id] = keys.BackedUpKey{FirstMessageIndex: &zero, ForwardedCount: &zero, IsVerified: &yes, SessionData: json.RawMessage(`{}`)}
	}
	return keys.BackedUpRooms{"!room:us.test": all}
}

var info = &keys.BackupInfo{Algorithm: "m.megolm_backup.v1.curve25519-aes-sha2", AuthData: json.RawMessage(`{"public_key":"x"}`)}

// A user can have so many keys and backups and no more, others as many.
func TestBackupsAreBounded(t *testing.T) {
	const most, backups = 500_000, 100
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		k := keys.New(keys.Options{DB: db, ServerName: own})
		old, err := k.NewBackup(ctx, alice, info)
		if err != nil {
			t.Fatal(err)
		}
		oldBackup, err := db.CurrentKeyBackup(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		pretend := func(count int64) {
			t.Helper()
			err := db.Write(ctx, func(tx *storage.Tx) error {
				_, err := tx.ChangeBackup(ctx, oldBackup.Version, count)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		pretend(most - 2)
		version, err := k.NewBackup(ctx, alice, info)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.BackUp(ctx, alice, version, room("1", "2", "3")); !errors.Is(err, matrix.TooLarge) {
			t.Errorf("more keys than are allowed: %v", err)
		}
		if state, err := k.BackUp(ctx, alice, version, room("1", "2")); err != nil || state.Count != 2 {
			t.Errorf("the last keys: %v, %v", state, err)
		}
		if state, err := k.BackUp(ctx, alice, version, room("1", "2")); err != nil || state.Count != 2 {
			t.Errorf("keys that are there: %v, %v", state, err)
		}
		theirs, err := k.NewBackup(ctx, bob, info)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.BackUp(ctx, bob, theirs, room("1", "2", "3")); err != nil {
			t.Errorf("another user: %v", err)
		}
		pretend(0)
		if _, err := k.BackUp(ctx, alice, version, room("3")); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
		for range backups - 2 {
			if _, err := k.NewBackup(ctx, alice, info); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := k.NewBackup(ctx, alice, info); !errors.Is(err, matrix.TooLarge) {
			t.Errorf("one backup more than are allowed: %v", err)
		}
		if err := k.DeleteBackup(ctx, alice, old); err != nil {
			t.Fatal(err)
		}
		if _, err := k.NewBackup(ctx, alice, info); err != nil {
			t.Errorf("after one was deleted: %v", err)
		}
	})
}
