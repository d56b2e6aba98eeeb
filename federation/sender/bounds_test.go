package sender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"beep/federation/remote"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
	"beep/stream/bubbletest"
)

const own = "hs.example"

// publish has an event in the log, which is for these servers.
func publish(db *storage.DB, body []byte, servers ...string) {
	pos := db.Clock.Reserve()
	e := &storage.Event{Event: &matrix.Event{ID: fmt.Sprint("$", pos), Type: "m.room.message", Sender: "@alice:" + own, JSON: body}, Pos: pos}
	db.Log.Publish(stream.Entry{Pos: pos, Kind: stream.Event, Value: &roomserver.ClientEvent{Event: e, Servers: servers}, Size: len(body)})
	db.Clock.Done(pos)
}

func run(t testing.TB, s *Sender) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// store stores an event of a room that the servers are in, and publishes it.
func store(t *testing.T, db *storage.DB, body []byte, servers ...string) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *storage.Tx) error {
		pos := tx.Reserve()
		for _, server := range servers {
			if err := tx.SetRoomServer(t.Context(), storage.RoomServer{Room: 1, Server: server, Members: 1}, 0); err != nil {
				return err
			}
		}
		e := &storage.Event{Event: &matrix.Event{ID: fmt.Sprint("$", pos), Type: "m.room.message", Sender: "@alice:" + own, JSON: body},
			Room: 1, Pos: pos, At: pos, Order: int64(pos) * storage.OrderScale}
		tx.Publish(stream.Entry{Pos: pos, Kind: stream.Event, Value: &roomserver.ClientEvent{Event: e, Servers: servers}, Size: len(body)})
		return tx.InsertEvent(t.Context(), e)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A server that cannot be reached keeps nothing in memory but what its row has, and one
// that is slow no more than the bounds allow (F52).
func TestMemoryIsBounded(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		db := storagetest.Open(t, storagetest.SQLiteURL(t))
		s := New(Options{DB: db, ServerName: own, Send: func(ctx context.Context, server string, _ *remote.Transaction) (*remote.Results, error) {
			if server == "slow" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, errors.New("dead")
		}})
		defer run(t, s)()
		time.Sleep(time.Millisecond)
		body := json.RawMessage(`{"a":"` + strings.Repeat("x", 20_000) + `"}`)
		for range 500 {
			store(t, db, body, "dead", "slow")
			time.Sleep(200 * time.Millisecond)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		dead := s.destinations["dead"]
		if dead.queue != nil || dead.transaction != nil || dead.backlog != nil || dead.news.size() != 0 || dead.failures < patience {
			t.Errorf("of a dead server there is %+v", dead)
		}
		slow := s.destinations["slow"]
		if len(slow.queue) > maxQueue || slow.bytes > maxQueueBytes || !slow.adrift {
			t.Errorf("a slow server has %d events, %d bytes", len(slow.queue), slow.bytes)
		}
		if len(s.destinations) != 2 {
			t.Errorf("%d destinations", len(s.destinations))
		}
	})
}

// Nothing is left in memory of a server that has everything.
func TestIdleServersAreForgotten(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		db := storagetest.Open(t, storagetest.SQLiteURL(t))
		registry := prometheus.NewRegistry()
		var sent atomic.Int64
		s := New(Options{DB: db, ServerName: own, Metrics: registry, Send: func(context.Context, string, *remote.Transaction) (*remote.Results, error) {
			sent.Add(1)
			return &remote.Results{}, nil
		}})
		defer run(t, s)()
		time.Sleep(time.Millisecond)
		for i := range 3000 {
			publish(db, []byte(`{}`), fmt.Sprint("server", i))
		}
		time.Sleep(2 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.destinations) != 0 || len(s.stored) != 1 || sent.Load() != 3000 {
			t.Errorf("%d destinations, %d rows, %d transactions", len(s.destinations), len(s.stored), sent.Load())
		}
		if s.lively.free != maxLively || s.doubtful.free != maxDoubtful || len(s.doubtful.waiting) != 0 {
			t.Errorf("the lanes have %d and %d places free", s.lively.free, s.doubtful.free)
		}
		families, err := registry.Gather()
		if err != nil || len(families) != 5 {
			t.Fatalf("%d families of metrics, %v", len(families), err)
		}
		for _, f := range families {
			if f.GetName() == "federation_sent_total" && f.Metric[1].GetCounter().GetValue() != 3000 {
				t.Errorf("%v", f)
			}
		}
	})
}

// A server that cannot be reached is not tried more often for news, though none of them is
// kept for it.
func TestNewsDoNotWakeTheDead(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		db := storagetest.Open(t, storagetest.SQLiteURL(t))
		var tries atomic.Int64
		var well atomic.Bool
		s := New(Options{DB: db, ServerName: own, Send: func(context.Context, string, *remote.Transaction) (*remote.Results, error) {
			tries.Add(1)
			if !well.Load() {
				return nil, errors.New("dead")
			}
			return &remote.Results{}, nil
		}})
		defer run(t, s)()
		time.Sleep(time.Millisecond)
		well.Store(true)
		store(t, db, []byte(`{}`), "dead")
		time.Sleep(time.Second)
		well.Store(false)
		for range 6 * 720 {
			s.mu.Lock()
			s.tell(t.Context(), []string{"dead"}, func(n *news) { note(&n.typing, typist{"!room", "@alice:" + own}, true) })
			s.mu.Unlock()
			time.Sleep(5 * time.Second)
		}
		if n := tries.Load(); n > 30 {
			t.Errorf("%d attempts in 6 hours", n)
		}
		well.Store(true)
		s.Alive("dead")
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.destinations) != 0 {
			t.Errorf("a server that is back and needs nothing is still here: %+v", s.destinations["dead"])
		}
	})
}

// The delays grow with the time that a server is away, up to some hours (F52).
func TestDelay(t *testing.T) {
	s := New(Options{ServerName: own})
	away, longest := time.Duration(0), time.Duration(0)
	for failures := int64(1); failures < 2000; failures++ {
		d := s.delay("far.example", failures)
		if d < firstDelay/2 || d > 2*maxDelay {
			t.Fatalf("after %d failures: %v", failures, d)
		}
		if d > 2*time.Second && d > away/2 {
			t.Errorf("after %v the delay is %v", away, d)
		}
		if away < 48*time.Hour && d > 10*time.Minute {
			t.Errorf("after %v the delay is %v", away, d)
		}
		if failures == longAway && (away < 30*time.Minute || away > 2*time.Hour) {
			t.Errorf("a server is away for long after %v", away)
		}
		away, longest = away+d, max(longest, d)
	}
	if longest < 3*time.Hour {
		t.Errorf("the longest delay is %v", longest)
	}
	if s.delay("far.example", 30) == s.delay("near.example", 30) {
		t.Error("two servers are tried at the same time")
	}
	if d := s.delay("far.example", 1<<62); d > 2*maxDelay || d <= 0 {
		t.Errorf("at last: %v", d)
	}
}

// BenchmarkEvent is an event for three servers, from the log to their answers, with what
// else is there: the reader and the workers. The servers are quick, or so slow that
// what is for them has to be queued.
func BenchmarkEvent(b *testing.B) {
	for name, takes := range map[string]time.Duration{"quick": 0, "slow": time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			db := storagetest.Open(b, storagetest.SQLiteURL(b))
			var taken atomic.Int64
			s := New(Options{DB: db, ServerName: own, Send: func(_ context.Context, _ string, sent *remote.Transaction) (*remote.Results, error) {
				time.Sleep(takes)
				taken.Add(int64(len(sent.PDUs)))
				return &remote.Results{}, nil
			}})
			defer run(b, s)()
			body := []byte(`{"a":"` + strings.Repeat("x", 500) + `"}`)
			for taken.Load() == 0 { // until it runs
				publish(db, body, "a.example")
				time.Sleep(time.Millisecond)
			}
			time.Sleep(10 * time.Millisecond)
			n := taken.Load()
			b.ReportAllocs()
			for b.Loop() {
				publish(db, body, "a.example", "b.example", "c.example")
				// No more ahead than memory has room for: these events are not in the database.
				for n += 3; taken.Load() < n-maxQueue/2; {
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
	}
}

// BenchmarkTake is the reader alone: an event for three servers that have a transaction
// under way, and one for none.
func BenchmarkTake(b *testing.B) {
	for name, servers := range map[string][]string{"three": {"a.example", "b.example", "c.example"}, "none": nil} {
		b.Run(name, func(b *testing.B) {
			db := storagetest.Open(b, storagetest.SQLiteURL(b))
			s := New(Options{DB: db, ServerName: own, Logger: slog.New(slog.DiscardHandler)})
			e := &roomserver.ClientEvent{Event: &storage.Event{Event: &matrix.Event{Type: "m.room.message", Sender: "@alice:" + own, JSON: make([]byte, 500)}}, Servers: servers}
			for _, server := range servers {
				s.destination(server).busy = true
			}
			batch := []*stream.Entry{{Kind: stream.Event, Value: e}}
			pos := stream.Pos(0)
			b.ReportAllocs()
			for b.Loop() {
				pos++
				batch[0].Pos = pos
				s.take(b.Context(), batch, pos)
				if pos%(maxQueue/2) == 0 {
					for _, d := range s.destinations {
						clear(d.queue)
						d.queue, d.bytes = d.queue[:0], 0
					}
				}
			}
		})
	}
}
