package stream_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"beep/stream"
	"beep/stream/bubbletest"
)

func newClock(start stream.Pos) *stream.Clock {
	return stream.NewClock(start, func(context.Context, stream.Pos) error { return nil })
}

// rows stands for a table: a row is seen by others from its commit on.
type rows struct {
	mu   sync.Mutex
	seen map[stream.Pos]bool
}

func (r *rows) commit(pos stream.Pos) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[pos] = true
}

// missing gives the rows of after < pos <= upTo that are not committed.
func (r *rows) missing(after, upTo stream.Pos) (missing []stream.Pos) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pos := after + 1; pos <= upTo; pos++ {
		if !r.seen[pos] {
			missing = append(missing, pos)
		}
	}
	return missing
}

func TestFollowerLosesNothing(t *testing.T) {
	const writers, each = 16, 500
	clock := newClock(7)
	table := &rows{seen: map[stream.Pos]bool{}}
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				pos := clock.Reserve()
				for range rand.N(5) {
					runtime.Gosched()
				}
				table.commit(pos)
				clock.Done(pos)
			}
		})
	}
	cursor := stream.Pos(7)
	for cursor < 7+writers*each {
		current, err := clock.Wait(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		if missing := table.missing(cursor, current); missing != nil {
			t.Fatalf("told that all is done up to %d, but %v are not", current, missing)
		}
		cursor = current
	}
	group.Wait()
	if clock.Current() != cursor {
		t.Errorf("Current is %d, want %d", clock.Current(), cursor)
	}
}

func TestDoneOutOfOrder(t *testing.T) {
	clock := newClock(0)
	for range 6 {
		clock.Reserve()
	}
	for _, step := range []struct {
		done []stream.Pos
		want stream.Pos
	}{
		{[]stream.Pos{2}, 0},
		{[]stream.Pos{4, 3}, 0},
		{nil, 0},
		{[]stream.Pos{1}, 4},
		{[]stream.Pos{1, 4}, 4},  // again
		{[]stream.Pos{7, 99}, 4}, // never given out
		{[]stream.Pos{6, 5}, 6},
	} {
		clock.Done(step.done...)
		if got := clock.Current(); got != step.want {
			t.Fatalf("after Done(%v) Current is %d, want %d", step.done, got, step.want)
		}
	}
	if pos := clock.Reserve(); pos != 7 || clock.Current() != 6 {
		t.Errorf("Reserve gives %d with Current %d, want 7 and 6", pos, clock.Current())
	}
}

func TestDoneInRandomOrder(t *testing.T) {
	clock := newClock(1000)
	done := map[stream.Pos]bool{}
	var open []stream.Pos
	want := stream.Pos(1000)
	for range 20000 {
		if len(open) == 0 || rand.N(100) < 55 {
			open = append(open, clock.Reserve())
			continue
		}
		i := rand.N(len(open))
		clock.Done(open[i])
		done[open[i]] = true
		open[i] = open[len(open)-1]
		open = open[:len(open)-1]
		for done[want+1] {
			want++
		}
		if got := clock.Current(); got != want {
			t.Fatalf("Current is %d, want %d", got, want)
		}
	}
}

func TestReserveWaitsForTheLease(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		granted := make(chan struct{})
		var asked atomic.Int64
		clock := stream.NewClock(5, func(_ context.Context, upTo stream.Pos) error {
			asked.Store(int64(upTo))
			<-granted
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- clock.Run(ctx) }()

		for range stream.Block {
			clock.Reserve()
		}
		var more atomic.Int64
		go func() { more.Store(int64(clock.Reserve())) }()
		synctest.Wait()
		if got := more.Load(); got != 0 {
			t.Errorf("Reserve gave out %d, which is not leased", got)
		}
		close(granted)
		synctest.Wait()
		if got := more.Load(); got != 5+stream.Block+1 {
			t.Errorf("Reserve gave out %d after the lease, want %d", got, 5+stream.Block+1)
		}
		if more.Load() > asked.Load() {
			t.Errorf("Reserve gave out %d with a lease up to %d", more.Load(), asked.Load())
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRunExtendsAtHalf(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var leased atomic.Int64
		clock := stream.NewClock(0, func(_ context.Context, upTo stream.Pos) error {
			leased.Store(int64(upTo))
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go clock.Run(ctx)
		for range stream.Block/2 - 1 {
			clock.Reserve()
		}
		synctest.Wait()
		if leased.Load() != 0 {
			t.Errorf("leased up to %d before half of the block was used", leased.Load())
		}
		clock.Reserve()
		synctest.Wait()
		if leased.Load() < stream.Block+stream.Block/2 {
			t.Errorf("leased up to %d at half of the block", leased.Load())
		}
	})
}

func TestRunReturnsTheLeasesError(t *testing.T) {
	broken := errors.New("broken")
	clock := stream.NewClock(0, func(context.Context, stream.Pos) error { return broken })
	for range stream.Block / 2 {
		clock.Reserve()
	}
	if err := clock.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Run returned %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		clock := newClock(3)
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error)
		go func() {
			_, err := clock.Wait(ctx, 3)
			waited <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-waited; !errors.Is(err, context.Canceled) {
			t.Errorf("Wait returned %v", err)
		}
		if got, err := clock.Wait(ctx, 2); err != nil || got != 3 {
			t.Errorf("Wait for what has been is %d, %v", got, err)
		}
	})
}

// A waiter that looks before it registers sleeps through a Done between the two.
// Nothing else would wake it: this test would not end.
func TestWaitMissesNoDone(t *testing.T) {
	const rounds = 100_000
	clock := newClock(0)
	var waiting atomic.Int64
	go func() {
		for round := int64(1); round <= rounds; round++ {
			pos := clock.Reserve()
			for waiting.Load() != round {
				runtime.Gosched()
			}
			clock.Done(pos)
		}
	}()
	for round := range stream.Pos(rounds) {
		waiting.Store(int64(round) + 1)
		if _, err := clock.Wait(t.Context(), round); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkReserveDone(b *testing.B) {
	clock := newLeasedClock(b)
	for b.Loop() {
		clock.Done(clock.Reserve())
	}
}

func BenchmarkReserveDoneParallel(b *testing.B) {
	clock := newLeasedClock(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			clock.Done(clock.Reserve())
		}
	})
}

func newLeasedClock(b *testing.B) *stream.Clock {
	clock := newClock(0)
	go clock.Run(b.Context())
	b.ReportAllocs()
	return clock
}
