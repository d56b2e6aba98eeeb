package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"beep/matrix"
	"beep/roomserver"
)

// world is one simulation.
type world struct {
	t       *testing.T
	seed    uint64
	random  *rand.Rand // of what is done, and when
	net     *network
	servers []*server
	rooms   []*room
	clients sync.WaitGroup // who have asked for something
	said    int
	absent  map[*server]time.Time // servers that are down, and when they are back
	apart   int                   // servers that are in a room for themselves and a few others only

	mu         sync.Mutex
	start      time.Time
	trace      []string
	violations []string
	acks       map[string]*ack
}

// room is a room of the world.
type room struct {
	id      string
	version matrix.RoomVersion
	home    *server // where it was made
	// outside are servers that were put out by an event that the others have taken back when
	// states were resolved, or whose users have left while the others were not in the room for
	// them, and that the rules do not let in again. They refuse what they are sent, and nothing
	// in the protocol tells the others better.
	outside map[string]bool
}

// ack is an event that was stored for a user of the server, who was told so.
type ack struct {
	event   string
	room    string
	from    *server
	present map[string]int64 // servers in the room then, by their own word: since when
	sent    []string         // to which servers
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf("%12.6f ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

// violated notes that something is not as it has to be.
func (w *world) violated(format string, args ...any) {
	w.note("VIOLATED: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// logs puts what a server logs into the trace.
func (w *world) logs(server string) slog.Handler {
	return &handler{world: w, prefix: server + " logs "}
}

type handler struct {
	world  *world
	prefix string
}

// Enabled serves [slog.Handler].
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle serves [slog.Handler].
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "transaction" { // its number is that of all transactions at the same instant
			fmt.Fprintf(&text, " %s", a)
		}
		return true
	})
	h.world.note("%s%s%s", h.prefix, r.Message, text.String())
	return nil
}

// WithAttrs serves [slog.Handler].
func (h *handler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup serves [slog.Handler].
func (h *handler) WithGroup(string) slog.Handler { return h }

// acknowledged notes an event of a server's own user that was stored, and which servers
// are in the room by their own word.
func (w *world) acknowledged(from *server, e *roomserver.ClientEvent) {
	a := &ack{event: e.ID, room: e.RoomID, from: from, present: map[string]int64{}, sent: e.Servers}
	for _, s := range w.servers {
		if since := s.since(e.RoomID); since != 0 {
			a.present[s.name] = since
		}
	}
	w.acks[e.ID] = a
}

// since is the position since when the server is in a room without a break; 0 if it is
// not, or down.
func (s *server) since(roomID string) int64 {
	p := s.running()
	if p == nil {
		return 0
	}
	rooms, err := p.db.ServedRooms(context.Background(), []string{roomID}, s.name)
	if err != nil {
		s.world.t.Fatal(err)
	}
	if len(rooms) == 0 || !rooms[0].Resident {
		return 0
	}
	return int64(rooms[0].Since)
}

// pass lets time pass, and reads then what is new everywhere.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	for _, s := range w.servers {
		s.follow()
	}
}

// within is a time up to most, to the nanosecond: nothing else happens at that instant.
func (w *world) within(most time.Duration) time.Duration {
	return time.Duration(1 + w.random.Int64N(int64(most)))
}

// chance is true with a probability.
func (w *world) chance(p float64) bool { return w.random.Float64() < p }

// pick is one of some.
func pick[T any](w *world, of []T) T { return of[w.random.IntN(len(of))] }
