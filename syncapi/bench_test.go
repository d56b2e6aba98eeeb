package syncapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"beep/roomserver"
	"beep/storage/storagetest"
	"beep/stream"
)

// eachEngine runs a benchmark on both engines. Besides the time it reports this
// process's CPU time: on SQLite that is all of it, on PostgreSQL the server's is apart.
func eachEngine(b *testing.B, run func(b *testing.B, s *server)) {
	for engine, url := range map[string]func(testing.TB) string{"sqlite": storagetest.SQLiteURL, "postgres": storagetest.OpenPostgresURL} {
		b.Run(engine, func(b *testing.B) { run(b, newServer(b, storagetest.Open(b, url(b)), 0)) })
	}
}

func cpu() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

// ask makes a request without the checks of the tests' client, and gives the
// answer's body.
func (s *server) ask(token, query string) []byte {
	r := httptest.NewRequest("GET", "/_matrix/client/v3/sync?set_presence=offline&"+query, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	s.router.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		s.Errorf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func nextBatch(body []byte) string {
	_, text, _ := strings.Cut(string(body[:min(64, len(body))]), `"next_batch":"`)
	text, _, _ = strings.Cut(text, `"`)
	return text
}

// BenchmarkDeliver measures what it costs to bring an event to users who wait, the
// sending included; cpu-ns/delivery is per user.
func BenchmarkDeliver(b *testing.B) {
	for _, users := range []int{40, 1000} {
		b.Run(fmt.Sprint("users ", users), func(b *testing.B) {
			eachEngine(b, func(b *testing.B, s *server) { benchDeliver(b, s, users) })
		})
	}
}

func benchDeliver(b *testing.B, s *server, users int) {
	room := s.create(roomserver.RoomDraft{Name: "Hall"})
	var got sync.WaitGroup
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for i := range users {
		id := fmt.Sprintf("@user%d:hs.example", i)
		s.register(id)
		s.join(room, id)
	}
	for i := range users {
		id := fmt.Sprintf("@user%d:hs.example", i)
		token := s.token(id, "PHONE")
		since := nextBatch(s.ask(token, ""))
		clients.Go(func() {
			for {
				body := s.ask(token, "timeout=300000&since="+since)
				since = nextBatch(body)
				got.Done()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		s.until(func() bool { waiting, _ := s.api.Follow(id); return waiting > 0 })
	}
	content := json.RawMessage(fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, strings.Repeat("x", 300)))
	b.ResetTimer()
	before := cpu()
	for range b.N {
		got.Add(users)
		s.send(room, roomserver.Draft{Type: "m.room.message", Sender: alice, Content: content})
		got.Wait()
	}
	b.ReportMetric((cpu()-before)/float64(b.N*users), "cpu-ns/delivery")
	b.StopTimer()
	close(stop)
	got.Add(users)
	s.send(room, roomserver.Draft{Type: "m.room.message", Sender: alice, Content: content})
	clients.Wait()
}

// BenchmarkFirstSync measures the first sync of a user in rooms of four members
// and ten messages.
func BenchmarkFirstSync(b *testing.B) {
	for _, rooms := range []int{40, 200} {
		b.Run(fmt.Sprint("rooms ", rooms), func(b *testing.B) {
			eachEngine(b, func(b *testing.B, s *server) {
				s.fill(rooms)
				token := s.token(alice, "PHONE")
				for name, filter := range map[string]string{
					"full": "", "lazy": `filter={"room":{"state":{"lazy_load_members":true},"timeline":{"limit":20}}}`,
				} {
					b.Run(name, func(b *testing.B) {
						b.ReportAllocs()
						size := 0
						before := cpu()
						for b.Loop() {
							size = len(s.ask(token, filter))
						}
						b.ReportMetric((cpu()-before)/float64(b.N)/1e6, "cpu-ms/op")
						b.ReportMetric(float64(size), "bytes")
					})
				}
			})
		})
	}
}

// fill makes rooms with four members and ten encrypted messages each.
func (s *server) fill(rooms int) {
	members := []string{alice, bob, carol, dave}
	for i := range rooms {
		room := s.create(roomserver.RoomDraft{Name: fmt.Sprint("Room ", i), InitialState: []roomserver.StateDraft{
			{Type: "m.room.encryption", Content: json.RawMessage(`{"algorithm":"m.megolm.v1.aes-sha2"}`)}}})
		s.join(room, members[1:]...)
		for n := range 10 {
			s.send(room, roomserver.Draft{Type: "m.room.encrypted", Sender: members[n%4], Content: json.RawMessage(fmt.Sprintf(
				`{"algorithm":"m.megolm.v1.aes-sha2","sender_key":%q,"device_id":"ABCDEFGHIJ","session_id":%q,"ciphertext":%q}`,
				strings.Repeat("k", 43), strings.Repeat("s", 43), strings.Repeat("c", 454)))})
		}
	}
}

// BenchmarkPoll measures a poll that finds nothing: where nothing has happened,
// and where something has happened that is no concern of the user.
func BenchmarkPoll(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *server) {
		s.fill(40)
		token := s.token(alice, "PHONE")
		since := nextBatch(s.ask(token, ""))
		other := s.create(roomserver.RoomDraft{Creator: bob, Preset: "private_chat"})
		b.Run("quiet", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.ask(token, "since="+since)
			}
		})
		b.Run("busy", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s.say(other, bob, "hi")
				b.StartTimer()
				since = nextBatch(s.ask(token, "since="+since))
			}
		})
	})
}

// BenchmarkCatchUp measures a poll of who has missed one message in each of 40
// rooms, from the database.
func BenchmarkCatchUp(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *server) {
		s.fill(40)
		token := s.token(alice, "PHONE")
		first := s.parse(s.get(alice))
		for room := range first.Rooms.Join {
			s.say(room, bob, "missed")
		}
		s.db.Log = stream.NewLog(s.db.Clock.Current(), 0, 0)
		before := cpu()
		for b.Loop() {
			s.ask(token, "since="+first.NextBatch)
		}
		b.ReportMetric((cpu()-before)/float64(b.N)/1e6, "cpu-ms/op")
	})
}
