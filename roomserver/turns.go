package roomserver

import (
	"context"
	"sync"
	"time"
)

// turns lets one at a time do something for a key, or a few, whoever comes first.
type turns struct {
	atOnce int
	mu     sync.Mutex
	gates  map[string]*gate
}

type gate struct {
	item  chan struct{} // whoever has put an item in has the turn
	users int           // who have or await the turn; guarded by turns.mu
}

func newTurns(atOnce int) *turns { return &turns{atOnce: atOnce, gates: map[string]*gate{}} }

// enter waits for the turn; leave ends it. Whoever has waited for as long as patience goes
// on without it; 0 is forever.
func (t *turns) enter(ctx context.Context, key string, patience time.Duration) (leave func(), err error) {
	var enough <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		enough = timer.C
	}
	t.mu.Lock()
	g := t.gates[key]
	if g == nil {
		g = &gate{item: make(chan struct{}, t.atOnce)}
		t.gates[key] = g
	}
	g.users++
	t.mu.Unlock()
	select {
	case g.item <- struct{}{}:
		return func() { <-g.item; t.done(key, g) }, nil
	case <-enough:
		t.done(key, g)
		return func() {}, nil
	case <-ctx.Done():
		t.done(key, g)
		return nil, ctx.Err()
	}
}

func (t *turns) done(key string, g *gate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(t.gates, key)
	}
}
