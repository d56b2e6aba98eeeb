package mediaapi

import (
	"context"
	"sync"
	"time"

	"beep/matrix"
)

// tasks are what goes on although the request that began it may have ended: others wait
// for it too. They end with [API.Run].
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool
	group sync.WaitGroup
}

func newTasks() *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// begin gives a task its context, which lasts for some time at most, and what it calls when
// it is done.
func (t *tasks) begin(longest time.Duration) (ctx context.Context, done func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, nil, matrix.ServiceUnavailable
	}
	t.group.Add(1)
	ctx, cancel := context.WithTimeout(t.ctx, longest)
	return ctx, func() { cancel(); t.group.Done() }, nil
}

// end lets no more tasks begin, and waits until all have ended.
func (t *tasks) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.cancel()
	t.group.Wait()
}
