package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream/bubbletest"
)

// Two servers that were apart for long, while much was said on both sides, have all of it on
// both sides when they are together again, and did not ask for one event after the other.
func TestLongPartition(t *testing.T) {
	const said = 1000
	cryptotest.SetGlobalRandom(t, 1)
	open := sqliteURL(emptyDatabase(t))
	urls := []string{open(t), open(t)}
	bubbletest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a, b := w.add(urls[0]), w.add(urls[1])
		w.meet(a, b)
		r := w.rooms[0]
		want := append(slices.Collect(maps.Keys(w.messages(a))), slices.Collect(maps.Keys(w.messages(b)))...)
		w.net.split(map[string]int{a.name: 0, b.name: 1})
		for i := range said {
			for _, s := range w.servers {
				w.speak(someone{s.now, s.users[0], r})
				if i%100 == 0 {
					w.state(someone{s.now, s.users[0], r}, "m.room.topic", "", encode(map[string]string{"topic": fmt.Sprint(i, " of ", s.name)}))
				}
			}
			w.pass(10 * time.Second)
		}
		for _, s := range w.servers {
			want = append(want, slices.Collect(maps.Keys(w.messages(s)))...)
		}
		w.net.calm()
		clear(w.net.asked)
		w.drain()
		w.readAll() // what is left of the gap is fetched by who reads
		asked, all := maps.Clone(w.net.asked), 0
		for _, n := range asked {
			all += n
		}
		for _, s := range w.servers {
			if diff := cmp.Diff(slices.Compact(slices.Sorted(slices.Values(want))), slices.Sorted(maps.Keys(w.messages(s)))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", s.name, diff)
			}
		}
		t.Logf("%d messages, requests: %v", len(w.messages(a)), asked)
		if most := said / 4; len(w.messages(a)) != 2*said || all > most {
			t.Errorf("%d messages at %s, requests %v; at most %d are needed", len(w.messages(a)), a.name, asked, most)
		}
		w.speak(someone{a.now, a.users[0], r})
		w.drain()
		w.disagreement()
		for _, v := range w.violations {
			t.Error(v)
		}
		for _, s := range w.servers {
			s.stop()
		}
	})
}

// meet makes a room of the first server that the first user of the other is in, with power.
func (w *world) meet(a, b *server) {
	powers := encode(map[string]int{a.users[0]: 100, b.users[0]: 50})
	id, err := a.now.rooms.Create(context.Background(), roomserver.RoomDraft{Creator: a.users[0], Version: "10", Preset: "public_chat",
		PowerLevelsOverride: map[string]jsonText{"users": powers}})
	if err == nil {
		err = b.now.rooms.Join(b.now.ctx, id, roomserver.MemberChange{Sender: b.users[0], Via: []string{a.name}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.rooms = append(w.rooms, &room{id: id, version: matrix.RoomVersion("10"), home: a})
	w.drain()
}

// messages are those that the server has in the timeline of the first room, by id.
func (w *world) messages(s *server) map[string]*storage.Event {
	events := w.view(s, w.rooms[0]).events
	maps.DeleteFunc(events, func(_ string, e *storage.Event) bool {
		return e.Type != "m.room.message" || e.Status != storage.Accepted
	})
	return events
}
