package sender_test

import (
	"fmt"
	"testing"
	"time"

	"beep/storage"
)

// A server that was away for less than 90 days gets everything that was queued for it; one
// that was away for longer gets what was queued since, and the events of its rooms.
func TestGiveUp(t *testing.T) {
	for days, first := range map[int]int{89: 0, 91: 5} {
		t.Run(fmt.Sprint(days, " days"), func(t *testing.T) {
			eachWorld(t, func(t *testing.T, w *world) {
				p := w.net.peer(near)
				p.behave(0, unreachable)
				w.say(w.room(near), 1, 3)
				for i := range 5 {
					w.queue(i, near)
				}
				time.Sleep(time.Minute)
				w.stop()
				rows := w.destinations()
				for i := range rows {
					if rows[i].Server == near {
						if rows[i].Failing == 0 {
							t.Error("it is not stored since when it fails")
						}
						rows[i].Failing = time.Now().Add(-time.Duration(days) * 24 * time.Hour).UnixMilli()
					}
				}
				w.write(func(tx *storage.Tx) error { return tx.SetDestinations(t.Context(), rows) })
				w.start()
				time.Sleep(time.Minute)
				equal(t, "rows", 5-first, w.left(near))
				w.queue(5, near)
				p.behave(0, nil)
				time.Sleep(30 * time.Minute)
				equal(t, "EDUs", queuedEDUs(first, 5), p.edus())
				equal(t, "texts", texts(1, 3), p.said())
				w.stop()
				for _, row := range w.destinations() {
					if row.Server == near {
						t.Errorf("it counts as away still: %v", row)
					}
				}
				w.start()
			})
		})
	}
}

// Of a server that was away for too long and lacks nothing, nothing is known.
func TestLostServerIsForgotten(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.net.peer(near).behave(0, unreachable)
		w.stop()
		w.write(func(tx *storage.Tx) error {
			return tx.SetDestinations(t.Context(), []storage.Destination{{Server: near, Failures: 3000, Cursor: w.db.Clock.Current(),
				Failing: time.Now().Add(-100 * 24 * time.Hour).UnixMilli()}})
		})
		w.start()
		time.Sleep(time.Minute)
		for _, row := range w.destinations() {
			if row.Server == near {
				t.Errorf("its row is there: %v", row)
			}
		}
		equal(t, "transactions", 0, len(w.net.peer(near).tries()))
	})
}
