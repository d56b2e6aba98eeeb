package syncapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"beep/roomserver"
)

// elementX is about what Element X asks for with its first request.
const elementX = `{"conn_id":"room-list","lists":{"all_rooms":{"ranges":[[0,19]],"timeline_limit":1,"required_state":[["m.room.name",""],
["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],["m.room.avatar",""],["m.room.canonical_alias",""],
["m.room.power_levels",""],["org.matrix.msc3401.call.member","*"],["m.room.join_rules",""],["m.room.tombstone",""],["m.room.create",""],
["m.room.history_visibility",""],["io.element.functional_members",""],["m.space.parent","*"],["m.space.child","*"]],
"filters":{"not_room_types":["m.space"]}}},"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},"typing":{"enabled":true}}}`

// BenchmarkSlidingFirstWindow measures the first request of a client with 20 rooms in its window, for accounts
// with few and with many rooms.
func BenchmarkSlidingFirstWindow(b *testing.B) {
	for _, rooms := range []int{50, 1000} {
		b.Run(fmt.Sprint("rooms ", rooms), func(b *testing.B) {
			eachEngine(b, func(b *testing.B, s *server) {
				s.manyRooms(rooms)
				token := s.token(alice, "PHONE")
				size := 0
				b.ReportAllocs()
				before := cpu()
				for b.Loop() {
					size = len(s.askSliding(b, token, elementX))
				}
				b.ReportMetric((cpu()-before)/float64(b.N)/1e6, "cpu-ms/op")
				b.ReportMetric(float64(size), "bytes")
			})
		})
	}
}

// BenchmarkSlidingAfterRestart measures the same where nothing is known yet of the account's rooms.
func BenchmarkSlidingAfterRestart(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *server) {
		s.manyRooms(1000)
		token := s.token(alice, "PHONE")
		before := cpu()
		for b.Loop() {
			s.api.Forget()
			s.askSliding(b, token, elementX)
		}
		b.ReportMetric((cpu()-before)/float64(b.N)/1e6, "cpu-ms/op")
	})
}

func (s *server) manyRooms(n int) {
	for i := range n {
		room := s.create(roomserver.RoomDraft{Name: fmt.Sprint("Room ", i), InitialState: []roomserver.StateDraft{
			{Type: "m.room.encryption", Content: json.RawMessage(`{"algorithm":"m.megolm.v1.aes-sha2"}`)}}})
		s.join(room, bob)
		s.say(room, bob, "hi")
	}
}

// askSliding makes a request without the checks of the tests' client.
func (s *server) askSliding(b *testing.B, token, body string) []byte {
	r := httptest.NewRequest("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?set_presence=offline", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.router.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}
