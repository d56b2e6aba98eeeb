package roomserver_test

import (
	"fmt"
	"testing"
	"time"

	"beep/roomserver"
	"beep/storage/storagetest"
)

// BenchmarkRemoteJoin joins a room with 5,000 members of another server: how long the user
// waits, and how long it takes until all members are known.
func BenchmarkRemoteJoin(b *testing.B) {
	const members = 5000
	engines := map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL}
	for engine, url := range engines {
		for _, partial := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/partial=%v", engine, partial), func(b *testing.B) {
				net := newNetwork(b, 2, url)
				room := create(b, net.at("a").rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Name: "Planning"})
				for i := range members {
					err := net.at("a").rooms.Join(b.Context(), room, roomserver.MemberChange{Sender: userOf("a", fmt.Sprint("user", i))})
					if err != nil {
						b.Fatal(err)
					}
				}
				var answered, whole time.Duration
				var used float64
				b.ResetTimer()
				for range b.N {
					b.StopTimer()
					p := newNetwork(b, 2, url).at("b") // which knows nothing yet
					p.net.servers["a.test"] = net.at("a")
					if partial {
						p.complete()
					}
					before := cpu()
					b.StartTimer()
					start := time.Now()
					p.join(room, userOf("b", "bob"), "a")
					answered += time.Since(start)
					p.settle(room)
					whole += time.Since(start)
					used += cpu() - before
				}
				b.ReportMetric(float64(answered.Milliseconds())/float64(b.N), "ms-answered")
				b.ReportMetric(float64(whole.Milliseconds())/float64(b.N), "ms-whole")
				b.ReportMetric(used/1e6/float64(b.N), "cpu-ms")
			})
		}
	}
}
