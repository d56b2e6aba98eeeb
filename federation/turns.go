package federation

import (
	"context"
	"sync"

	"beep/matrix"
)

// maxQueued is how many may have or await a turn for one key.
const maxQueued = 4

// turns lets one at a time do something for a key, and few wait for it.
type turns struct {
	mu    sync.Mutex
	gates map[string]*gate
}

type gate struct {
	item  chan struct{} // whoever has put its one item in has the turn
	users int           // who have or await the turn; guarded by turns.mu
}

func newTurns() *turns { return &turns{gates: map[string]*gate{}} }

// take waits for the caller's turn, which ends with the call of done.
// [matrix.LimitExceeded]: too many wait for it.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	g := t.enter(key)
	if g == nil {
		return nil, matrix.LimitExceeded.With("Send one transaction after the other")
	}
	select {
	case g.item <- struct{}{}:
		return func() { <-g.item; t.leave(key, g) }, nil
	case <-ctx.Done():
		t.leave(key, g)
		return nil, ctx.Err()
	}
}

func (t *turns) enter(key string) *gate {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.gates[key]
	if g == nil {
		g = &gate{item: make(chan struct{}, 1)}
		t.gates[key] = g
	}
	if g.users == maxQueued {
		return nil
	}
	g.users++
	return g
}

func (t *turns) leave(key string, g *gate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(t.gates, key)
	}
}
