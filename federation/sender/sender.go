// Package sender sends other servers what is for them: events, typing, receipts, presence,
// and the EDUs that must not be lost (server-server API, "Transactions").
//
// One reader follows the log and puts what is new to the destinations that it is for. A
// destination has a worker while there is something to send and the server is not to be
// left alone; one transaction at a time is on its way. What does not fit into memory is
// read from the database when its turn comes, by the cursor of the destination. A server
// that cannot be reached for some seconds has nothing in memory but its row.
//
// The table of destinations has those that lack something, written now and then: a crash
// sends some transactions again, under new ids. That is harmless: events have ids, and so
// have the EDUs that are kept.
package sender

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"beep/federation/remote"
	"beep/storage"
	"beep/stream"
)

const (
	// maxLively and maxDoubtful bound the workers for servers that took what they were sent
	// last and for all others: the ones never wait for the others.
	maxLively   = 1024
	maxDoubtful = 256
	// maxReached bounds the servers that are remembered as such.
	maxReached = 10_000
	// maxAudiences bounds the rooms whose servers are remembered.
	maxAudiences = 5000
	// lastFlush is how long the end may take.
	lastFlush = 5 * time.Second
)

// Options are what a [Sender] needs.
type Options struct {
	DB *storage.DB
	// ServerName is that of this server.
	ServerName string
	// Send delivers a transaction, as [remote.Client.SendTransaction] does. It is called from
	// several goroutines, never twice at the same time for the same server.
	Send func(ctx context.Context, server string, t *remote.Transaction) (*remote.Results, error)
	// NoPresence is for a server that tells others of nobody's presence.
	NoPresence bool
	// Metrics takes the counters; nil for none.
	Metrics *prometheus.Registry
	// Logger may be nil.
	Logger *slog.Logger
}

// Sender sends. Call [Sender.Run] once.
type Sender struct {
	db      *storage.DB
	own     string
	send    func(ctx context.Context, server string, t *remote.Transaction) (*remote.Results, error)
	log     *slog.Logger
	metrics *metrics
	id      string        // begins the transaction ids of this run
	poke    chan struct{} // has an item when a destination may be due
	met     chan struct{} // has an item when there are meetings
	workers sync.WaitGroup

	noPresence bool

	audiences *lru.LRU[int64, storage.Audience] // by room; of the reader alone

	mu           sync.Mutex
	read         stream.Pos // the log was read up to here
	destinations map[string]*destination
	reached      *lru.LRU[string, struct{}] // servers that took what they were sent last
	lively       lane
	doubtful     lane
	typing       map[int64]*typingRoom // where users of this server type, by room
	meetings     []meeting             // joins that servers are to be told of
	sent         int64                 // transactions
	early        map[string]struct{}   // servers heard from before the rows were read; nil since then

	stored map[string]storage.Destination // the table, as far as it is known
	acked  map[string]struct{}            // servers that have got what was queued
}

// New makes a sender. It sends nothing before [Sender.Run].
func New(o Options) *Sender {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// The constructor fails only for a size that is not positive.
	reached, _ := lru.NewLRU[string, struct{}](maxReached, nil)
	audiences, _ := lru.NewLRU[int64, storage.Audience](maxAudiences, nil)
	return &Sender{
		db: o.DB, own: o.ServerName, send: o.Send, log: o.Logger, metrics: newMetrics(o.Metrics),
		id: rand.Text()[:10], poke: make(chan struct{}, 1), met: make(chan struct{}, 1), noPresence: o.NoPresence, audiences: audiences,
		destinations: map[string]*destination{}, reached: reached, lively: lane{free: maxLively}, doubtful: lane{free: maxDoubtful},
		typing: map[int64]*typingRoom{}, early: map[string]struct{}{}, stored: map[string]storage.Destination{}, acked: map[string]struct{}{},
	}
}

// Run sends until the context is done. It returns an error when the database cannot be
// read at the beginning, or not be written at the end.
func (s *Sender) Run(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	var parts sync.WaitGroup
	parts.Go(func() { s.follow(ctx) })
	parts.Go(func() { s.keep(ctx) })
	parts.Go(func() { s.greet(ctx) })
	parts.Wait()
	s.workers.Wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	return s.flush(end, true)
}

// load finds what is left to be sent from before.
func (s *Sender) load(ctx context.Context) error {
	rows, err := s.db.Destinations(ctx)
	if err != nil {
		return err
	}
	upTo := s.db.Clock.Current()
	var others stream.Pos
	for _, row := range rows {
		if row.Server == "" {
			others = row.Cursor
		}
	}
	servers, err := s.db.PendingServers(ctx, s.own, others, upTo)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, row := range rows {
		s.stored[row.Server] = row
		if row.Server != "" {
			s.destinations[row.Server] = restored(row, now)
		}
	}
	s.read = others
	for _, server := range servers {
		if s.destinations[server] == nil && server != s.own {
			s.destination(server).retry = now
		}
	}
	for _, d := range s.destinations {
		d.forget()
	}
	s.read = upTo
	for server := range s.early {
		s.alive(server)
	}
	s.early = nil
	s.rouse()
	return nil
}

// Alive says that a server was heard from: what waits for it is sent now. The inbound side
// calls it for every request of a server that has proven its name.
func (s *Sender) Alive(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.early == nil {
		s.alive(server)
	} else if len(s.early) < maxReached {
		s.early[server] = struct{}{}
	}
}

func (s *Sender) alive(server string) {
	d := s.destinations[server]
	if d == nil || d.busy || d.retry.IsZero() {
		return
	}
	now := time.Now()
	due := d.tried.Add(aliveGap)
	if due.Before(now) {
		due, d.failures, d.next = now, 0, time.Time{}
	}
	if due.Before(d.retry) {
		d.retry = due
		s.rouse()
	}
}

// rouse lets the keeper look whose time has come.
func (s *Sender) rouse() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}
