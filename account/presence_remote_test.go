package account

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/storage"
	"beep/storage/storagetest"
)

// withMembers makes a room with joined members.
func withMembers(t *testing.T, db *storage.DB, userIDs ...string) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *storage.Tx) error {
		room := int64(tx.Reserve())
		if err := tx.InsertRoom(t.Context(), &storage.Room{Number: room, ID: "!r:x.example", Version: "12"}); err != nil {
			return err
		}
		for i, userID := range userIDs {
			k := storage.StateKey{Key: int64(i) + 1, Pos: tx.Reserve(), Type: "m.room.member", StateKey: userID, Membership: "join"}
			if strings.HasPrefix(userID, "@left") {
				k.Membership = "leave"
			}
			if err := tx.SetCurrentState(t.Context(), room, k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// told is what is known of the users, by id.
func told(t *testing.T, db *storage.DB, userIDs ...string) map[string]string {
	t.Helper()
	stored, err := db.PresenceOf(t.Context(), userIDs)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range stored {
		all[s.UserID] = s.State + " " + s.StatusMsg
	}
	return all
}

// A server speaks for its own users alone, and of those that somebody here shares a room
// with (F44).
func TestRemotePresence(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		withMembers(t, db, alice, "@bob:other", "@carol:third", "@left:other", "@bob:other:1")
		p := NewRemotePresence(db, "x.example", true, nil)
		everybody := []string{alice, "@bob:other", "@carol:third", "@left:other", "@stranger:other", "@bob:other:1"}
		take := func(origin string, updates ...PresenceUpdate) {
			t.Helper()
			if err := p.Take(t.Context(), origin, updates); err != nil {
				t.Fatal(err)
			}
		}
		var claims []PresenceUpdate
		for _, userID := range append(everybody, "", "bob:other", "@b\x00:other") {
			claims = append(claims, PresenceUpdate{UserID: userID, State: Online, StatusMsg: "a\x00b"})
		}
		take("other", claims...)
		if diff := cmp.Diff(map[string]string{"@bob:other": "online ab"}, told(t, db, everybody...)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		before := db.Clock.Current()
		take("other", PresenceUpdate{UserID: "@bob:other", State: "busy"}, PresenceUpdate{UserID: "@bob:other", State: Online, StatusMsg: "ab", LastActiveAgo: 1000})
		if db.Clock.Current() != before {
			t.Error("what is known already was written again")
		}
		take("other", PresenceUpdate{UserID: "@bob:other", State: Offline}, PresenceUpdate{UserID: "@bob:other", State: Unavailable, StatusMsg: strings.Repeat("ü", maxStatusMsg)})
		if diff := cmp.Diff(map[string]string{"@bob:other": "unavailable " + strings.Repeat("ü", maxStatusMsg/2)}, told(t, db, everybody...)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		off := NewRemotePresence(db, "x.example", false, nil)
		if err := off.Take(t.Context(), "third", []PresenceUpdate{{UserID: "@carol:third", State: Online}}); err != nil || len(told(t, db, "@carol:third")) != 0 {
			t.Errorf("presence that is off: %v, %v", err, told(t, db, "@carol:third"))
		}
	})
}

// Of whom nothing is heard for half an hour is offline; a message stays.
func TestRemotePresenceEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, db *storage.DB) {
		withMembers(t, db, "@bob:other", "@carol:other")
		p := NewRemotePresence(db, "x.example", true, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		say := func(userID string) {
			if err := p.Take(ctx, "other", []PresenceUpdate{{UserID: userID, State: Online, StatusMsg: "here"}}); err != nil {
				t.Error(err)
			}
		}
		say("@bob:other")
		say("@carol:other")
		time.Sleep(20 * time.Minute)
		say("@carol:other")
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		want := map[string]string{"@bob:other": "offline here", "@carol:other": "online here"}
		if diff := cmp.Diff(want, told(t, db, "@bob:other", "@carol:other")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// After a restart each server's users are those of the part that they belong to: those of
// others stay until nothing was heard of them for long, and are not taken for this server's.
func TestRemotePresenceAfterRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, db *storage.DB) {
		withMembers(t, db, alice, "@bob:other", "@carol:other")
		first := NewRemotePresence(db, "x.example", true, nil)
		updates := []PresenceUpdate{{UserID: "@bob:other", State: Online}, {UserID: "@carol:other", State: Unavailable}}
		if err := first.Take(t.Context(), "other", updates); err != nil {
			t.Fatal(err)
		}
		ours := runPresence(t, db)
		if time.Sleep(time.Second); known(ours) != 0 {
			t.Error("users of another server are taken for ours")
		}
		p := NewRemotePresence(db, "x.example", true, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(20 * time.Minute)
		want := map[string]string{"@bob:other": "online ", "@carol:other": "unavailable "}
		if diff := cmp.Diff(want, told(t, db, "@bob:other", "@carol:other")); diff != "" {
			t.Errorf("soon after the restart (-want +got):\n%s", diff)
		}
		if err := p.Take(ctx, "other", updates[:1]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Minute)
		want["@carol:other"] = "offline "
		if diff := cmp.Diff(want, told(t, db, "@bob:other", "@carol:other")); diff != "" {
			t.Errorf("half an hour after the restart (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
