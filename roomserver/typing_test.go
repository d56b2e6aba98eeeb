package roomserver_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage/storagetest"
	"beep/stream"
	"beep/stream/bubbletest"
)

// TestTyping is about the time at which typing ends, in a bubble of time.
func TestTyping(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		db := storagetest.Open(t, storagetest.SQLiteURL(t))
		rooms := newRooms(t, db)
		typing := roomserver.NewTyping(rooms)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- typing.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		roomID := create(t, rooms, roomserver.RoomDraft{Preset: "public_chat"})
		if err := rooms.Join(ctx, roomID, roomserver.MemberChange{Sender: bob}); err != nil {
			t.Fatal(err)
		}
		number := must[int64](t)(rooms.Joined(ctx, roomID, alice))
		after := db.Clock.Current()
		// expect waits so long and compares what the log has got since.
		expect := func(wait time.Duration, want ...[]string) {
			t.Helper()
			time.Sleep(wait)
			upTo := db.Clock.Current()
			var told [][]string
			var last stream.Entry
			db.Log.Range(after, upTo, func(e *stream.Entry) bool {
				if e.Kind != stream.Typing || e.Room != number {
					t.Errorf("entry %+v", e)
				}
				told, last = append(told, e.Value.([]string)), *e
				return true
			})
			after = upTo
			if diff := cmp.Diff(want, told); diff != "" {
				t.Error(diff)
			}
			users, since := typing.In(roomID)
			if len(told) > 0 && (since != last.Pos || cmp.Diff(last.Value, users) != "") {
				t.Errorf("typing are %v since %d, the log says %v at %d", users, since, last.Value, last.Pos)
			}
		}
		start := func(userID string, timeout time.Duration) {
			t.Helper()
			if err := typing.Start(ctx, roomID, userID, timeout); err != nil {
				t.Fatal(err)
			}
		}
		nobody := []string{}

		if users, since := typing.In(roomID); len(users) != 0 || since != 0 {
			t.Errorf("at first: %v since %d", users, since)
		}
		start(bob, 30*time.Second)
		expect(20*time.Second, []string{bob})
		start(bob, 30*time.Second) // goes on
		expect(20 * time.Second)
		start(alice, 5*time.Second)
		expect(4*time.Second, []string{alice, bob})
		expect(2*time.Second, []string{bob})
		expect(5*time.Second, nobody)
		typing.Stop(ctx, roomID, bob)
		expect(time.Hour)

		start(alice, time.Hour) // two minutes are the most
		expect(119*time.Second, []string{alice})
		expect(2*time.Second, nobody)

		start(alice, time.Minute)
		start(bob, time.Minute)
		typing.Stop(ctx, roomID, alice)
		typing.Stop(ctx, "!unknown:hs.example", bob)
		expect(time.Second, []string{alice}, []string{alice, bob}, []string{bob})
		start(bob, time.Second) // shorter than before
		expect(2*time.Second, nobody)

		start(alice, time.Minute)
		start(bob, time.Minute)
		expect(2*time.Minute, []string{alice}, []string{alice, bob}, nobody) // both end at once
		start(alice, -time.Second)
		expect(time.Second, []string{alice}, nobody)

		for _, refused := range [][2]string{{roomID, carol}, {"!unknown:hs.example", alice}} {
			if err := typing.Start(ctx, refused[0], refused[1], time.Minute); !errors.Is(err, matrix.Forbidden) {
				t.Errorf("%v: %v", refused, err)
			}
		}
		expect(time.Second)
	})
}

func BenchmarkTyping(b *testing.B) {
	db := storagetest.Open(b, storagetest.SQLiteURL(b))
	rooms := newRooms(b, db)
	roomID := create(b, rooms, roomserver.RoomDraft{})
	typing := roomserver.NewTyping(rooms)
	b.ReportAllocs()
	for b.Loop() {
		if err := typing.Start(b.Context(), roomID, alice, time.Minute); err != nil {
			b.Fatal(err)
		}
		typing.Stop(b.Context(), roomID, alice)
	}
}
