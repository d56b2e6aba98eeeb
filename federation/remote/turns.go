package remote

import (
	"context"
	"sync"
)

// turns is a lock for each key, which waits as long as the context allows. Whoever gets
// it looks first whether the work has been done meanwhile.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the turn is over
}

func newTurns() *turns { return &turns{busy: map[string]chan struct{}{}} }

// take waits for the caller's turn. The turn ends with the call of done.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	for {
		t.mu.Lock()
		over, taken := t.busy[key]
		if !taken {
			over = make(chan struct{})
			t.busy[key] = over
			t.mu.Unlock()
			return func() { t.end(key, over) }, nil
		}
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *turns) end(key string, over chan struct{}) {
	t.mu.Lock()
	delete(t.busy, key)
	t.mu.Unlock()
	close(over)
}
