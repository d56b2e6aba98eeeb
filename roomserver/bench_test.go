package roomserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"beep/roomserver"
	"beep/storage/storagetest"
)

// eachEngine runs a benchmark on both engines. Besides the time it reports this
// process's CPU time: on SQLite that is all of it, on PostgreSQL the server's is apart.
func eachEngine(b *testing.B, run func(b *testing.B, rooms *roomserver.Rooms)) {
	for engine, url := range map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL} {
		b.Run(engine, func(b *testing.B) {
			rooms := newRooms(b, storagetest.Open(b, url(b)))
			b.ReportAllocs()
			run(b, rooms)
		})
	}
}

func cpu() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkSend(b *testing.B) {
	body := text(strings.Repeat("x", 200))
	eachEngine(b, func(b *testing.B, rooms *roomserver.Rooms) {
		ids := make([]string, 4)
		for i := range ids {
			ids[i] = create(b, rooms, roomserver.RoomDraft{})
		}
		b.ResetTimer()
		var n atomic.Int64
		b.SetParallelism(4)
		before := cpu()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				i := n.Add(1)
				_, err := rooms.Send(b.Context(), ids[i%4], roomserver.Draft{Type: "m.room.message", Sender: alice, Device: "D",
					TxnID: fmt.Sprint(i), Content: body})
				if err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric((cpu()-before)/float64(b.N), "cpu-ns/op")
	})
}

func BenchmarkJoin(b *testing.B) {
	eachEngine(b, func(b *testing.B, rooms *roomserver.Rooms) {
		id := create(b, rooms, roomserver.RoomDraft{Preset: "public_chat"})
		n := 0
		before := cpu()
		for b.Loop() {
			n++
			if err := rooms.Join(b.Context(), id, roomserver.MemberChange{Sender: fmt.Sprintf("@user%d:hs.example", n)}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((cpu()-before)/float64(b.N), "cpu-ns/op")
	})
}

func BenchmarkCreate(b *testing.B) {
	eachEngine(b, func(b *testing.B, rooms *roomserver.Rooms) {
		before := cpu()
		for b.Loop() {
			create(b, rooms, roomserver.RoomDraft{Name: "room", Invite: []string{bob}})
		}
		b.ReportMetric((cpu()-before)/float64(b.N), "cpu-ns/op")
	})
}

// What another server sends after a partition: a branch of the room beside this server's own,
// fifty events at a time, each tenth of them state.
func BenchmarkReceiveBranch(b *testing.B) {
	for engine, open := range map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL} {
		b.Run(engine, func(b *testing.B) {
			net := newNetwork(b, 2, open)
			here, there := net.at("a"), net.at("b")
			roomID := create(b, here.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat",
				PowerLevelsOverride: map[string]json.RawMessage{"events": json.RawMessage(`{"m.room.topic":0}`)}})
			there.join(roomID, userOf("b", "bob"), "a")
			net.deliver()
			used, n := 0.0, 0
			for b.Loop() {
				b.StopTimer()
				setState(b, here.rooms, roomID, userOf("a", "alice"), "m.room.topic", fmt.Sprintf(`{"topic":"a%d"}`, n))
				for range 50 {
					if n++; n%10 == 0 {
						setState(b, there.rooms, roomID, userOf("b", "bob"), "m.room.topic", fmt.Sprintf(`{"topic":"b%d"}`, n))
					} else {
						say(b, there.rooms, roomID, userOf("b", "bob"), "hello")
					}
				}
				raws := there.outgoing(here)
				before := cpu()
				b.StartTimer()
				refused, err := here.rooms.Receive(b.Context(), there.name, roomID, raws)
				b.StopTimer()
				used += cpu() - before
				if err = errors.Join(append(refused, err)...); err != nil {
					b.Fatal(err)
				}
				net.deliver()
				b.StartTimer()
			}
			b.ReportMetric(used/float64(b.N), "cpu-ns/op")
		})
	}
}
