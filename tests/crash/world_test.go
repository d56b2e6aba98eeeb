package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"beep/tests/harness"
)

const (
	writers = 4
	// patience is how long a request may go unanswered, over restarts and all.
	patience = 60 * time.Second
	// arrival is how long it may take until everybody has everything.
	arrival = 5 * time.Minute
)

// world is a room with users who write and read, at one server or at several.
type world struct {
	t       *testing.T
	room    string
	servers int
	first   string // the event before all others
	writers []*writer
	readers []*reader
	stop    chan struct{}
	writing sync.WaitGroup
	reading sync.WaitGroup
}

func newWorld(t *testing.T, seed uint64, servers ...*harness.Server) *world {
	w := &world{t: t, stop: make(chan struct{}), servers: len(servers)}
	owner := servers[0].Register(t, "owner")
	w.room = owner.CreateRoom(harness.Object{"preset": "public_chat", "power_level_content_override": harness.Object{"state_default": 0}})
	for i := range writers {
		c := owner
		if i > 0 {
			c = servers[i%len(servers)].Register(t, "writer")
			owner.Change("invite", w.room, c).OK() // so that its server knows whom to ask
			c.Join(w.room)
			harness.Await(t, c.UserID+" is in the room", func() bool {
				return owner.State(w.room, "m.room.member", c.UserID).OK().At("membership").Str() == "join"
			})
		}
		w.writers = append(w.writers, &writer{world: w, me: i, client: c.Unchecked(), random: rand.New(rand.NewPCG(seed, uint64(i)))})
		w.readers = append(w.readers, &reader{world: w, client: c.Login(nil).Unchecked(), seen: map[string]bool{}})
	}
	w.first = owner.Text(w.room, "first")
	return w
}

// begin starts the work, once every reader has begun to read.
func (w *world) begin() {
	w.t.Helper()
	for _, r := range w.readers {
		r.client.SyncUntilEvent(w.room, w.first)
	}
	for _, r := range w.readers {
		w.reading.Go(r.read)
	}
	for _, wr := range w.writers {
		w.writing.Go(wr.write)
	}
}

// end lets all requests be answered, and all readers come to the end.
func (w *world) end() {
	close(w.stop)
	w.writing.Wait()
	all := &goal{by: time.Now().Add(arrival)}
	for _, wr := range w.writers {
		for _, a := range append(wr.events, wr.states...) {
			all.events = append(all.events, a.event)
		}
	}
	for _, reader := range w.readers {
		reader.goal.Store(all)
	}
	w.reading.Wait()
}

// resend repeats what was answered before, and expects the same answers.
func (w *world) resend() {
	for _, wr := range w.writers {
		answered := wr.recent()
		for _, a := range answered {
			r := wr.persist(http.MethodPut, a.path, a.content)
			if r != nil && r.At("event_id").Str() != a.event {
				w.t.Errorf("%s: the same transaction gave %s and then %s", a.path, a.event, r.At("event_id").Str())
			}
		}
	}
}

// answer is an event that the server has answered for.
type answer struct {
	path    string
	content harness.Object
	event   string
}

// writer sends one thing after the other, each until it is answered.
type writer struct {
	world  *world
	me     int
	client *harness.Client
	random *rand.Rand

	mu      sync.Mutex
	n       int
	events  []answer // with transaction ids
	states  []answer
	state   int    // the last value of the state
	data    int    // the last value of the account data
	receipt string // the last event that was read
}

func (w *writer) write() {
	for {
		select {
		case <-w.world.stop:
			return
		default:
		}
		w.n++
		switch dice := w.random.IntN(10); {
		case dice == 0:
			w.setState()
		case dice == 1:
			w.setData()
		case dice == 2:
			w.sendReceipt()
		default:
			w.send()
		}
		if w.world.t.Failed() {
			return
		}
	}
}

func (w *writer) send() {
	txn := fmt.Sprintf("%d-%d", w.me, w.n)
	a := answer{path: harness.Path("/v3/rooms/%s/send/org.example.work/%s", w.world.room, txn), content: harness.Object{"work": txn}}
	r := w.persist(http.MethodPut, a.path, a.content)
	if r == nil {
		return
	}
	a.event = r.At("event_id").Str()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, a)
}

// recent are the events that were answered last.
func (w *writer) recent() []answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events[max(0, len(w.events)-20):])
}

func (w *writer) setState() {
	a := answer{path: harness.Path("/v3/rooms/%s/state/org.example.state/%s", w.world.room, fmt.Sprint(w.me)),
		content: harness.Object{"work": fmt.Sprintf("state %d-%d", w.me, w.n)}}
	r := w.persist(http.MethodPut, a.path, a.content)
	if r == nil {
		return
	}
	a.event = r.At("event_id").Str()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states = append(w.states, a)
	w.state = w.n
}

func (w *writer) setData() {
	path := harness.Path("/v3/user/%s/account_data/org.example.data", w.client.UserID)
	if w.persist(http.MethodPut, path, harness.Object{"n": w.n}) != nil {
		w.data = w.n
	}
}

func (w *writer) sendReceipt() {
	w.mu.Lock()
	event := w.world.first
	if len(w.events) > 0 {
		event = w.events[len(w.events)-1].event
	}
	w.mu.Unlock()
	path := harness.Path("/v3/rooms/%s/receipt/m.read/%s", w.world.room, event)
	if w.persist(http.MethodPost, path, harness.Object{}) != nil {
		w.receipt = event
	}
}

// persist sends a request until it is answered, however often the server goes away.
func (w *writer) persist(method, path string, body any) *harness.Response {
	return persist(w.world.t, w.client, method, path, body)
}

// persist gives nil, and fails the test, for a refusal or when there is no answer at all.
func persist(t *testing.T, c *harness.Client, method, path string, body any) *harness.Response {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		r, err := c.Try(ctx, method, path, body)
		switch {
		case err == nil && r.Status == http.StatusOK:
			return r
		case err == nil && r.Status < 500:
			t.Errorf("%s %s: status %d %s", method, path, r.Status, r.Body)
			return nil
		case ctx.Err() != nil:
			t.Errorf("%s %s: no answer for %v: %v", method, path, patience, err)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}
