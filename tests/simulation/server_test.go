package simulation

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"sync"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"beep/federation/sender"
	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/stream"
)

const keyID = "ed25519:k"

// usersEach is how many users a server has.
const usersEach = 3

// server is a server of the world, which may be down.
type server struct {
	world  *world
	name   string
	url    string // of its database
	signer *matrix.Signer
	users  []string
	skew   int64 // of its clock, in ms

	mu  sync.Mutex
	now *process // nil while it is down

	read      stream.Pos                // the log was read up to here
	published map[string]storage.Status // events that were published as new, by id
}

// process is a server while it runs.
type process struct {
	*server
	ctx     context.Context
	cancel  context.CancelFunc
	db      *storage.DB
	rooms   *roomserver.Rooms
	serving *roomserver.Serving
	metrics *prometheus.Registry
	parts   sync.WaitGroup
	ended   error // of the parts, once they have ended
}

func newServer(w *world, number int, url string) *server {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = byte(number)
	s := &server{world: w, name: string(rune('a'+number)) + ".test", url: url, published: map[string]storage.Status{}}
	s.signer = &matrix.Signer{ServerName: s.name, KeyID: keyID, Key: ed25519.NewKeyFromSeed(seed)}
	for _, name := range []string{"ada", "bea", "cleo", "dora"}[:usersEach] {
		s.users = append(s.users, "@"+name+":"+s.name)
	}
	return s
}

// running is the server's process; nil while it is down.
func (s *server) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// start opens the database and runs the server on it.
func (s *server) start() {
	w := s.world
	db, err := storage.Open(context.Background(), storage.Options{URL: s.url, AllowUnsafeDurability: true})
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{server: s, db: db, metrics: prometheus.NewRegistry()}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.rooms = roomserver.New(roomserver.Options{DB: db, Signer: s.signer, DefaultVersion: "12", Remote: peers{p}, Logger: slog.New(w.logs(s.name))})
	p.serving = roomserver.NewServing(p.rooms)
	queues := sender.New(sender.Options{DB: db, ServerName: s.name, Send: p.transact, Metrics: p.metrics, Logger: slog.New(w.logs(s.name))})
	s.read = db.Clock.Current()
	p.parts.Go(func() { p.failed(db.Run(p.ctx)) })
	p.parts.Go(func() { p.failed(queues.Run(p.ctx)) })
	s.mu.Lock()
	s.now = p
	s.mu.Unlock()
}

func (p *process) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = errors.Join(p.ended, err)
}

// register makes the server's users.
func (p *process) register() {
	err := p.db.Write(p.ctx, func(tx *storage.Tx) error {
		for _, id := range p.users {
			if err := tx.InsertUser(p.ctx, &storage.Credentials{User: storage.User{ID: id}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		p.world.t.Fatal(err)
	}
}

// kill ends the server in the middle of whatever it does: nothing is written any more.
// It is called while everything in the world waits for time to pass.
func (s *server) kill() {
	p := s.gone()
	if err := p.db.Close(); err != nil {
		s.world.t.Error(err)
	}
	p.cancel()
	p.parts.Wait()
	synctest.Wait()
}

// stop ends the server as an operator does.
func (s *server) stop() {
	p := s.gone()
	p.cancel()
	p.parts.Wait()
	if p.ended != nil {
		s.world.t.Errorf("%s: %v", s.name, p.ended)
	}
	synctest.Wait()
	if err := p.db.Close(); err != nil {
		s.world.t.Error(err)
	}
}

// gone takes the server off the network.
func (s *server) gone() *process {
	s.follow()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.now
	s.now = nil
	return p
}

// follow reads what is new in the server's log, and holds it to bring nothing twice.
func (s *server) follow() {
	p := s.running()
	if p == nil {
		return
	}
	upTo := p.db.Clock.Current()
	whole := p.db.Log.Range(s.read, upTo, func(e *stream.Entry) bool {
		if event, ok := e.Value.(*roomserver.ClientEvent); ok {
			s.publishes(event)
		}
		return true
	})
	if !whole {
		s.world.t.Errorf("%s: the window of the log is too small", s.name)
	}
	s.read = upTo
}

func (s *server) publishes(e *roomserver.ClientEvent) {
	what := e.Type
	if e.StateKey != nil {
		what += " " + *e.StateKey + " " + e.Membership()
	}
	s.world.note("%s has %s: %s of %s after %v, status %d, for %v", s.name, e.ID, what, e.Sender, e.PrevEvents(), e.Status, e.Servers)
	before, again := s.published[e.ID]
	if again && before != storage.OutOfBand {
		s.world.violated("%s: %s comes twice in the log", s.name, e.ID)
	}
	s.published[e.ID] = e.Status
	if e.Status == storage.Accepted && matrix.ServerOf(e.Sender) == s.name {
		s.world.acknowledged(s, e)
	}
}

// pending is how many servers the queues have something for.
func (p *process) pending() int {
	families, err := p.metrics.Gather()
	if err != nil {
		p.world.t.Fatal(err)
	}
	n := 0
	for _, family := range families {
		if family.GetName() == "federation_destinations" {
			for _, m := range family.GetMetric() {
				n += int(m.GetGauge().GetValue())
			}
		}
	}
	return n
}
