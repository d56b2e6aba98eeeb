package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"beep/federation/remote"
	"beep/matrix"
)

// weather is how bad the network is, each as a probability of a request.
type weather struct {
	lost       float64 // the request does not arrive
	unanswered float64 // it is worked on, and the answer does not arrive
	slow       float64 // request or answer take longer than anybody waits
	again      float64 // the request arrives a second time
}

// network carries requests between the servers of a world. What becomes of a request is
// drawn from a source of its link and its kind, so that it does not depend on what other
// links carry at the same time.
type network struct {
	seed    uint64
	servers map[string]*server
	flying  atomic.Int64 // requests that are under way, or still worked on

	mu      sync.Mutex
	weather weather
	cut     map[link]bool  // nobody at the one reaches the other
	asked   map[string]int // requests, by kind
	last    time.Time      // when the last one was
	sources map[string]*rand.Rand
}

// link is the way of requests from one server to another.
type link struct{ from, to string }

func newNetwork(seed uint64) *network {
	return &network{seed: seed, servers: map[string]*server{}, cut: map[link]bool{}, asked: map[string]int{}, sources: map[string]*rand.Rand{}}
}

// fate is what becomes of a request.
type fate struct {
	there, back      time.Duration
	refused          bool // the way is cut, and the request fails at once
	lost, unanswered bool
	again            time.Duration // after which the request arrives a second time; 0: never
	noticed          bool          // the other server notices that nobody waits any more
}

// String is what is out of the ordinary.
func (f fate) String() string {
	text := ""
	if f.lost {
		text += ", is lost"
	}
	if f.unanswered {
		text += ", gets no answer"
	}
	if f.there+f.back > time.Second {
		text += ", takes long"
	}
	if f.again != 0 {
		text += ", arrives twice"
	}
	return text
}

// longest is how long a request or an answer may be on its way.
const longest = 4 * time.Minute

func (n *network) fate(l link, kind string) fate {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[kind]++
	n.last = time.Now()
	name := l.from + " " + l.to + " " + kind
	source := n.sources[name]
	if source == nil {
		h := fnv.New64a()
		h.Write([]byte(name))
		source = rand.New(rand.NewPCG(n.seed, h.Sum64()))
		n.sources[name] = source
	}
	within := func(most time.Duration) time.Duration { return time.Duration(1 + source.Int64N(int64(most))) }
	// As many draws for each request, so that the next ones do not depend on the weather.
	f := fate{there: within(40 * time.Millisecond), back: within(40 * time.Millisecond),
		refused: source.Float64() < 0.5, lost: source.Float64() < n.weather.lost,
		unanswered: source.Float64() < n.weather.unanswered, noticed: source.Float64() < 0.5}
	slow, which, long := source.Float64() < n.weather.slow, source.IntN(2), within(longest)
	again, later := source.Float64() < n.weather.again, within(10*time.Second)
	if slow && which == 0 {
		f.there = long
	} else if slow {
		f.back = long
	}
	if again {
		f.again = later
	}
	return f
}

// silent tells whether nobody has asked anything for so long.
func (n *network) silent(d time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Since(n.last) > d
}

// reaches tells whether requests of the one server come to the other.
func (n *network) reaches(l link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[l]
}

// split cuts the servers into groups, each of which reaches itself only.
func (n *network) split(groups map[string]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for from := range n.servers {
		for to := range n.servers {
			n.cut[link{from, to}] = groups[from] != groups[to]
		}
	}
}

// block cuts one way between two servers, or mends it.
func (n *network) block(l link, blocked bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[l] = blocked
}

// calm ends bad weather and mends all ways.
func (n *network) calm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = weather{}
	clear(n.cut)
}

func (n *network) turn(w weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = w
}

var (
	errCut     = errors.New("no route to the server")
	errDown    = errors.New("nobody listens there")
	errReset   = errors.New("the connection broke")
	errTimeout = errors.New("no answer in time")
)

// request is what one server asks of another.
type request[T any] struct {
	kind    string
	timeout time.Duration
	// lasting requests are worked on when nobody waits any more, too.
	lasting bool
	handle  func(ctx context.Context, at *process) (T, error)
}

// ask sends a request and waits for the answer, as a client of HTTP does.
func ask[T any](ctx context.Context, p *process, to string, r request[T]) (T, error) {
	n := p.world.net
	n.flying.Add(1)
	defer n.flying.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	l := link{p.name, to}
	f := n.fate(l, r.kind)
	p.world.note("%s asks %s: %s%s", p.name, to, r.kind, f)
	answer := make(chan result[T], 2)
	if !n.reaches(l) && !f.refused {
		f.lost = true
	} else if !n.reaches(l) {
		return fail[T](ctx, to, f.back, errCut)
	}
	if !f.lost {
		n.deliver(func() { arrive(ctx, l, r, f, answer, n) })
		if f.again != 0 {
			again := f
			again.there, again.unanswered = f.there+f.again, true
			n.deliver(func() { arrive(ctx, l, r, again, answer, n) })
		}
	}
	select {
	case a := <-answer:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, &remote.UnreachableError{Server: to, Cause: errors.Join(errTimeout, ctx.Err())}
	}
}

type result[T any] struct {
	value T
	err   error
}

// deliver runs what happens to a request out of its sender's sight.
func (n *network) deliver(fn func()) {
	n.flying.Add(1)
	go func() {
		defer n.flying.Add(-1)
		fn()
	}()
}

func fail[T any](ctx context.Context, server string, after time.Duration, cause error) (none T, err error) {
	sleep(ctx, after)
	return none, &remote.UnreachableError{Server: server, Cause: cause}
}

// arrive lets the other server work on a request and carries the answer back.
func arrive[T any](ctx context.Context, l link, r request[T], f fate, answer chan<- result[T], n *network) {
	time.Sleep(f.there)
	at := n.servers[l.to].running()
	if at == nil {
		_, err := fail[T](ctx, l.to, f.back, errDown)
		answer <- result[T]{err: err}
		return
	}
	inner, cancel := context.WithCancel(at.ctx)
	defer cancel()
	if f.noticed && !r.lasting {
		defer context.AfterFunc(ctx, cancel)()
	}
	value, err := r.handle(inner, at)
	switch {
	case f.unanswered:
		return
	case at.ctx.Err() != nil:
		answer <- result[T]{err: &remote.UnreachableError{Server: l.to, Cause: errReset}}
		return
	case err != nil:
		err = refusal(l.to, err)
	}
	time.Sleep(f.back)
	answer <- result[T]{value, err}
}

// refusal is a server's error as the one that asked sees it.
func refusal(server string, err error) error {
	var told *matrix.Error
	if errors.As(err, &told) {
		return &remote.PeerError{Server: server, Status: told.Status, Code: told.Code, Message: told.Message}
	}
	return &remote.PeerError{Server: server, Status: 500, Code: "M_UNKNOWN", Message: fmt.Sprint("an inner fault: ", err)}
}

// sleep passes time unless the context ends before.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
