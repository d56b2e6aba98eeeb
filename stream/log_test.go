package stream_test

import (
	"sync"
	"testing"

	"beep/stream"

	"github.com/google/go-cmp/cmp"
)

// between gives the positions that Range hands out.
func between(l *stream.Log, after, upTo stream.Pos) (got []stream.Pos, ok bool) {
	ok = l.Range(after, upTo, func(e *stream.Entry) bool {
		got = append(got, e.Pos)
		return true
	})
	return got, ok
}

func publish(l *stream.Log, positions ...stream.Pos) {
	for _, pos := range positions {
		l.Publish(stream.Entry{Pos: pos, Kind: stream.Event})
	}
}

func TestRange(t *testing.T) {
	l := stream.NewLog(100, 8, 0)
	publish(l, 103, 101, 106, 104)
	for _, test := range []struct {
		after, upTo stream.Pos
		want        []stream.Pos
		ok          bool
	}{
		{100, 106, []stream.Pos{101, 103, 104, 106}, true},
		{100, 105, []stream.Pos{101, 103, 104}, true},
		{103, 1 << 40, []stream.Pos{104, 106}, true},
		{106, 106, nil, true},
		{200, 300, nil, true},
		{99, 106, nil, false},
		{0, 106, nil, false},
	} {
		got, ok := between(l, test.after, test.upTo)
		if ok != test.ok || !cmp.Equal(got, test.want) {
			t.Errorf("Range(%d, %d) gives %v, %v, want %v, %v", test.after, test.upTo, got, ok, test.want, test.ok)
		}
	}
}

func TestRangeStops(t *testing.T) {
	l := stream.NewLog(0, 8, 0)
	publish(l, 1, 2, 3)
	var got []stream.Pos
	ok := l.Range(0, 3, func(e *stream.Entry) bool {
		got = append(got, e.Pos)
		return len(got) < 2
	})
	if want := []stream.Pos{1, 2}; !ok || !cmp.Equal(got, want) {
		t.Errorf("Range gives %v, %v, want %v, true", got, ok, want)
	}
}

func TestWindowMovesOn(t *testing.T) {
	l := stream.NewLog(0, 8, 0)
	publish(l, 1, 2, 5, 8, 100, 101, 103, 102)
	if floor := l.Floor(); floor != 0 {
		t.Errorf("the floor of a window that has just been filled is %d", floor)
	}
	publish(l, 104) // pushes 1 out
	if floor := l.Floor(); floor != 1 {
		t.Errorf("the floor is %d, want 1", floor)
	}
	if got, ok := between(l, 0, 104); ok {
		t.Errorf("a reader who lost an entry got %v and is told that this is all", got)
	}
	if got, ok := between(l, 1, 104); !ok || !cmp.Equal(got, []stream.Pos{2, 5, 8, 100, 101, 102, 103, 104}) {
		t.Errorf("after the floor: %v, %v", got, ok)
	}
	publish(l, 1) // comes too late
	if _, ok := between(l, 0, 104); ok {
		t.Error("an entry below the floor brought the floor down")
	}
	publish(l, 3) // would itself be pushed out next, and is by itself
	if got, ok := between(l, l.Floor(), 104); !ok || got[len(got)-1] != 104 || len(got) > 8 {
		t.Errorf("after a late entry: %v, %v", got, ok)
	}
	publish(l, 1_000_000) // positions without entries take no room
	if got, ok := between(l, 8, 1_000_000); !ok || !cmp.Equal(got, []stream.Pos{100, 101, 102, 103, 104, 1_000_000}) {
		t.Errorf("after a leap: %v, %v", got, ok)
	}
}

// An entry that is published again takes the place of the first.
func TestPublishAgain(t *testing.T) {
	l := stream.NewLog(0, 8, 0)
	publish(l, 1, 2, 3)
	l.Publish(stream.Entry{Pos: 2, User: "again"})
	var users []string
	l.Range(0, 3, func(e *stream.Entry) bool {
		users = append(users, e.User)
		return true
	})
	if !cmp.Equal(users, []string{"", "again", ""}) {
		t.Errorf("the window has %q", users)
	}
}

func TestWindowIsBoundedInBytes(t *testing.T) {
	l := stream.NewLog(0, 1024, 10_000)
	for pos := stream.Pos(1); pos <= 50; pos++ {
		l.Publish(stream.Entry{Pos: pos, Size: 1000})
	}
	got, ok := between(l, l.Floor(), 50)
	if !ok || len(got) < 5 || len(got) > 10 || got[len(got)-1] != 50 {
		t.Errorf("10,000 bytes hold the entries %v of 1,000 bytes (%v)", got, ok)
	}
	l.Publish(stream.Entry{Pos: 51, Size: 1 << 30})
	if floor := l.Floor(); floor != 51 {
		t.Errorf("an entry above the budget is kept: the floor is %d", floor)
	}
	publish(l, 52)
	if got, ok := between(l, 51, 52); !ok || !cmp.Equal(got, []stream.Pos{52}) {
		t.Errorf("after an entry above the budget: %v, %v", got, ok)
	}
}

func TestRangeOfManyPages(t *testing.T) {
	l := stream.NewLog(0, 512, 0)
	var want []stream.Pos
	for pos := stream.Pos(2); pos <= 512; pos += 2 {
		publish(l, pos)
		want = append(want, pos)
	}
	got, ok := between(l, 0, 512)
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("ok is %v; %s", ok, diff)
	}
}

// Readers who follow while the window moves get every entry, or are told that
// they do not.
func TestRangeWhileTheWindowMoves(t *testing.T) {
	const last = 50_000
	l := stream.NewLog(0, 128, 0)
	clock := newClock(0)
	var group sync.WaitGroup
	group.Go(func() {
		for range last {
			pos := clock.Reserve()
			publish(l, pos)
			clock.Done(pos)
		}
	})
	for range 3 {
		group.Go(func() {
			for cursor := stream.Pos(0); cursor < last; {
				current, _ := clock.Wait(t.Context(), cursor)
				next := cursor + 1
				ok := l.Range(cursor, current, func(e *stream.Entry) bool {
					if e.Pos != next {
						t.Errorf("got the entry of %d instead of %d", e.Pos, next)
					}
					next = e.Pos + 1
					return true
				})
				if ok && next != current+1 {
					t.Errorf("Range(%d, %d) ended at %d", cursor, current, next-1)
				}
				cursor = current
			}
		})
	}
	group.Wait()
}

func BenchmarkPublish(b *testing.B) {
	l := stream.NewLog(0, 0, 0)
	b.ReportAllocs()
	pos := stream.Pos(0)
	for b.Loop() {
		pos++
		l.Publish(stream.Entry{Pos: pos, Kind: stream.Event, Size: 500})
	}
}

func BenchmarkRangeOfOne(b *testing.B) {
	l := stream.NewLog(0, 0, 0)
	publish(l, 1)
	b.ReportAllocs()
	for b.Loop() {
		l.Range(0, 1, func(e *stream.Entry) bool { return e.Pos == 1 })
	}
}

// TestLose: a reader from before what was lost has to ask the database, one from after does not.
func TestLose(t *testing.T) {
	l := stream.NewLog(0, 8, 0)
	for pos := stream.Pos(1); pos <= 5; pos++ {
		if pos == 3 {
			l.Lose(pos)
			continue
		}
		l.Publish(stream.Entry{Pos: pos, Kind: stream.Event})
	}
	count := func(after stream.Pos) (n int, ok bool) {
		ok = l.Range(after, 5, func(*stream.Entry) bool { n++; return true })
		return n, ok
	}
	if _, ok := count(2); ok {
		t.Error("a reader from before the loss was told that nothing is missing")
	}
	if n, ok := count(3); n != 2 || !ok {
		t.Errorf("from after the loss: %d entries, %v", n, ok)
	}
}

func TestFind(t *testing.T) {
	l := stream.NewLog(0, 4, 0)
	publish(l, 1, 2, 4, 5, 6)
	for pos := stream.Pos(0); pos < 9; pos++ {
		e := l.Find(pos)
		if want := pos == 2 || pos >= 4 && pos <= 6; (e != nil) != want || e != nil && e.Pos != pos {
			t.Errorf("at %d there is %v", pos, e)
		}
	}
}
