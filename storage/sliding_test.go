package storage_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

// insert stores an event of a room as it would have come, and gives its position.
func insert(t *testing.T, db *storage.DB, room int64, replaces stream.Pos, eventType string, stateKey *string, sender, content string) stream.Pos {
	t.Helper()
	var pos stream.Pos
	write(t, db, func(tx *storage.Tx) error {
		pos = tx.Reserve()
		text := fmt.Sprintf(`{"type":%q,"sender":%q,"content":%s,"room_id":"!r:x","origin_server_ts":1`, eventType, sender, content)
		if stateKey != nil {
			text += fmt.Sprintf(`,"state_key":%q`, *stateKey)
		}
		e, err := matrix.ParseTrusted("11", fmt.Sprintf("$%d", pos), []byte(text+"}"))
		if err != nil {
			return err
		}
		if err := tx.InsertEvent(t.Context(), &storage.Event{Event: e, Pos: pos, Order: int64(pos) * storage.OrderScale, Room: room, Replaces: replaces}); err != nil || stateKey == nil {
			return err
		}
		return tx.SetCurrentState(t.Context(), room, storage.StateKey{Key: int64(pos), Type: eventType, StateKey: *stateKey, Pos: pos, Changed: pos, Membership: e.Membership()})
	})
	return pos
}

func TestActivities(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		key := ""
		write(t, db, func(tx *storage.Tx) error {
			for _, number := range []int64{1, 2} {
				if err := tx.InsertRoom(t.Context(), &storage.Room{Number: number, ID: fmt.Sprintf("!%d:x", number), Version: "11"}); err != nil {
					return err
				}
			}
			return nil
		})
		insert(t, db, 1, 0, "m.room.create", &key, "@a:x", `{"type":"m.space"}`)
		bump := insert(t, db, 1, 0, "m.room.message", nil, "@a:x", `{}`)
		insert(t, db, 1, 0, "m.room.encryption", &key, "@a:x", `{}`)
		last := insert(t, db, 1, 0, "m.reaction", nil, "@a:x", `{}`)
		found, err := db.Activities(t.Context(), []int64{1, 2, 3})
		want := map[int64]storage.Activity{1: {Last: last, Bump: bump, Encrypted: true, Type: "m.space"}, 2: {}}
		if diff := cmp.Diff(want, found); diff != "" || err != nil {
			t.Error(diff, err)
		}
		for eventType, bumps := range map[string]bool{"m.room.message": true, "m.reaction": false, "m.room.create', 'm.room.message": false, "": false} {
			if storage.Bumps(eventType) != bumps {
				t.Errorf("%q bumps: %v", eventType, !bumps)
			}
		}
		infos := map[int64]storage.RoomInfo{1: {ID: "!1:x", Version: "11"}}
		states, err := db.CurrentStatesOf(t.Context(), infos, []string{"m.room.create", "m.room.topic"})
		if err != nil || len(states) != 1 || states[0].Type != "m.room.create" {
			t.Errorf("states %v, %v", states, err)
		}
	})
}

func TestRemovals(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx, bob := t.Context(), "@b:x"
		write(t, db, func(tx *storage.Tx) error {
			for number := range int64(5) {
				if err := tx.InsertRoom(ctx, &storage.Room{Number: number + 1, ID: fmt.Sprintf("!%d:x", number+1), Version: "11"}); err != nil {
					return err
				}
			}
			return nil
		})
		member := func(room int64, replaces stream.Pos, sender, membership string) stream.Pos {
			return insert(t, db, room, replaces, "m.room.member", &bob, sender, `{"membership":"`+membership+`"}`)
		}
		member(1, member(1, 0, bob, "join"), "@a:x", "leave")       // kicked
		member(2, member(2, 0, bob, "join"), bob, "leave")          // left
		member(3, member(3, 0, "@a:x", "invite"), "@a:x", "ban")    // was never in it
		member(4, member(4, 0, bob, "join"), "@a:x", "ban")         // banned
		gone := member(5, member(5, 0, bob, "join"), "@a:x", "ban") // and forgotten
		write(t, db, func(tx *storage.Tx) error { return tx.ForgetRoom(ctx, bob, 5, gone) })
		removed, err := db.Removals(ctx, bob)
		var got []string
		for _, m := range removed {
			got = append(got, m.RoomID+" "+m.Membership)
		}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"!1:x leave", "!4:x ban"}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}

func TestAccountDataChosen(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		put := func(userID string, room int64, dataType, content string) {
			t.Helper()
			write(t, db, func(tx *storage.Tx) error {
				return tx.PutAccountData(ctx, userID, room, dataType, json.RawMessage(content))
			})
		}
		put("@a:x", 0, "m.direct", `{}`)
		put("@a:x", 0, "org.x", `{}`)
		put("@a:x", 7, "m.direct", `{}`)
		put("@a:x", 7, "m.tag", `{"tags":{"u.a":{},"u.b":5}}`)
		put("@a:x", 8, "m.tag", `{"tags":5}`)
		put("@b:x", 0, "m.direct", `{}`)
		names := func(list []storage.AccountData, err error) (got []string) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
			for _, d := range list {
				got = append(got, fmt.Sprint(d.UserID, d.Room, d.Type))
			}
			slices.Sort(got)
			return got
		}
		if diff := cmp.Diff([]string{"@a:x0m.direct"}, names(db.AccountDataOf(ctx, "@a:x", []string{"m.direct", "m.none"}))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"@a:x7m.direct", "@a:x7m.tag"}, names(db.AccountDataIn(ctx, "@a:x", []int64{7, 9}))); diff != "" {
			t.Error(diff)
		}
		tags, err := db.Tags(ctx, "@a:x")
		slices.Sort(tags[7])
		if diff := cmp.Diff(map[int64][]string{7: {"u.a", "u.b"}}, tags); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}
