package stream

import (
	"context"
	"sync"
	"sync/atomic"
)

// Block is the number of positions that are leased at a time. A restart skips
// what is left of the block, so a position is never given out twice.
const Block = 1 << 20

// Pos is a place in the order of everything that has happened on this server.
// The first position is 1; 0 is before everything.
type Pos int64

// Clock gives out positions and knows up to where all of them are done. Its
// methods may be called from several goroutines.
type Clock struct {
	current atomic.Int64
	lease   func(ctx context.Context, upTo Pos) error
	low     chan struct{} // has an item when the lease should be extended

	mu       sync.Mutex
	last     Pos           // the newest position given out
	limit    Pos           // positions up to this one may be given out
	extended chan struct{} // closed when limit grows; nil when nobody waits for it
	moved    chan struct{} // closed when current grows; nil when nobody waits for it
	done     []bool        // ring, by position: done, but something below it is not
}

// NewClock is a clock whose first position is start+1. The caller has made sure
// that no position above start was ever given out, and that a restart from now
// on will begin at start+Block or later. Lease must make the same true for upTo
// before it returns nil; [Clock.Run] calls it.
func NewClock(start Pos, lease func(ctx context.Context, upTo Pos) error) *Clock {
	c := &Clock{
		lease: lease,
		low:   make(chan struct{}, 1),
		last:  start,
		limit: start + Block,
		done:  make([]bool, 64),
	}
	c.current.Store(int64(start))
	return c
}

// Reserve gives out the next position. Whatever becomes of the work that it is
// for, [Clock.Done] must be called with it, or every reader stands still.
// Reserve blocks only when the leased block is used up before Run extended it.
func (c *Clock) Reserve() Pos {
	c.mu.Lock()
	for c.last == c.limit {
		c.waitForLease()
	}
	c.last++
	pos := c.last
	low := c.limit-pos == Block/2
	c.mu.Unlock()
	if low {
		c.askForLease()
	}
	return pos
}

// waitForLease is called with mu held, and gives it up while it waits.
func (c *Clock) waitForLease() {
	if c.extended == nil {
		c.extended = make(chan struct{})
	}
	extended := c.extended
	c.mu.Unlock()
	c.askForLease()
	<-extended
	c.mu.Lock()
}

func (c *Clock) askForLease() {
	select {
	case c.low <- struct{}{}:
	default:
	}
}

// Done says that the work for these positions has ended, committed or not, and
// that its entries are in the Log. All positions of one transaction belong into
// one call: the readers wake once.
func (c *Clock) Done(positions ...Pos) {
	if len(positions) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	current := Pos(c.current.Load())
	for _, pos := range positions {
		if pos > current && pos <= c.last {
			c.mark(current, pos)
		}
	}
	before := current
	mask := Pos(len(c.done) - 1)
	for current < c.last && c.done[(current+1)&mask] {
		current++
		c.done[current&mask] = false
	}
	if current == before {
		return
	}
	c.current.Store(int64(current))
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

// mark remembers that pos is done, in a ring that grows to the widest distance
// between the oldest work under way and the newest that has ended.
func (c *Clock) mark(current, pos Pos) {
	if int(pos-current) >= len(c.done) {
		c.grow(current, pos)
	}
	c.done[pos&Pos(len(c.done)-1)] = true
}

func (c *Clock) grow(current, pos Pos) {
	size := len(c.done)
	for int(pos-current) >= size {
		size *= 2
	}
	wider := make([]bool, size)
	for i := range len(c.done) {
		p := current + Pos(i)
		wider[p&Pos(size-1)] = c.done[p&Pos(len(c.done)-1)]
	}
	c.done = wider
}

// Current is the highest position such that it and all below it are done. It
// takes no lock.
func (c *Clock) Current() Pos { return Pos(c.current.Load()) }

// Wait returns the current position as soon as it is above after, or the
// context's error. It does not wait for a position from the future to be reached
// by accident: clamp a token with Current before.
func (c *Clock) Wait(ctx context.Context, after Pos) (Pos, error) {
	for {
		if current := c.Current(); current > after {
			return current, nil
		}
		moved := c.register()
		// A Done between the look above and the registration closed an earlier
		// channel: look again.
		if current := c.Current(); current > after {
			return current, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return c.Current(), ctx.Err()
		}
	}
}

// register gives a channel that is closed when Current grows.
func (c *Clock) register() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return c.moved
}

// Run extends the lease whenever half of the block is used. It returns nil when
// the context is done, and the lease's error when that fails.
func (c *Clock) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.low:
		}
		if err := c.extend(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func (c *Clock) extend(ctx context.Context) error {
	c.mu.Lock()
	limit := c.last + Block
	enough := c.limit-c.last > Block/2
	c.mu.Unlock()
	if enough {
		return nil
	}
	if err := c.lease(ctx, limit); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	if c.extended != nil {
		close(c.extended)
		c.extended = nil
	}
	return nil
}
