package roomserver

import (
	"context"
	"sync"
)

// turns lets one at a time do something for a key, whoever comes first.
type turns struct {
	mu    sync.Mutex
	gates map[string]*gate
}

type gate struct {
	item  chan struct{} // whoever has put its one item in has the turn
	users int           // who have or await the turn; guarded by turns.mu
}

func newTurns() *turns { return &turns{gates: map[string]*gate{}} }

// enter waits for the turn; leave ends it.
func (t *turns) enter(ctx context.Context, key string) (leave func(), err error) {
	t.mu.Lock()
	g := t.gates[key]
	if g == nil {
		g = &gate{item: make(chan struct{}, 1)}
		t.gates[key] = g
	}
	g.users++
	t.mu.Unlock()
	select {
	case g.item <- struct{}{}:
		return func() { <-g.item; t.done(key, g) }, nil
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
