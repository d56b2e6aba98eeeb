package stream

import "sync"

// The window that a Log keeps unless it is told otherwise.
const (
	DefaultSlots  = 4096
	DefaultBudget = 8 << 20
)

// entryOverhead is counted for every entry besides its Size, in bytes.
const entryOverhead = 128

// Kind tells what an Entry is about.
type Kind uint8

// The kinds of entries. What Room, User and Value hold is said for each.
const (
	// Event is an event of Room, sent by User.
	Event Kind = iota + 1
	// Receipt is a change of the read receipts in Room, by User.
	Receipt
	// Typing is a change of the set of users who are typing in Room.
	Typing
	// Presence is a change of the presence of User.
	Presence
	// AccountData is a change of the account data of User, in Room unless 0.
	AccountData
	// ToDevice is a send-to-device message for a device of User.
	ToDevice
	// DeviceList is a change of the devices or keys of User.
	DeviceList
	// Profile is a change of the profile of User.
	Profile
)

// Entry is something that happened, at its position. It is never changed after
// it was published, and neither is what Value points to.
type Entry struct {
	Pos   Pos
	Kind  Kind
	Room  int64  // the storage's number of the room, or 0
	User  string // the user's full ID, or ""
	Value any    // specific to Kind
	Size  int    // bytes that Value keeps in memory, roughly
}

// Log is the window of the newest entries. It is bounded in entries and in
// bytes; the oldest are dropped. Its methods may be called from several
// goroutines.
type Log struct {
	mu     sync.RWMutex
	slots  []*Entry // by position; nil where a position had nothing to say
	floor  Pos      // entries up to this position may be missing
	last   Pos      // the newest position published
	bytes  int
	budget int
}

// NewLog is an empty window for the positions after start, which holds at most
// slots entries (a power of two, or it is rounded up) of together at most budget
// bytes. 0 stands for the default of either.
func NewLog(start Pos, slots, budget int) *Log {
	if slots <= 0 {
		slots = DefaultSlots
	}
	if budget <= 0 {
		budget = DefaultBudget
	}
	size := 1
	for size < slots {
		size *= 2
	}
	return &Log{slots: make([]*Entry, size), floor: start, last: start, budget: budget}
}

// Publish adds an entry, whose position is reserved and not yet done. An entry
// that is older than the window is not kept: whoever wants it is told by Range
// that the window does not reach back so far.
func (l *Log) Publish(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Pos <= l.floor {
		return
	}
	if oldest := e.Pos - Pos(len(l.slots)); oldest > l.floor {
		l.raise(oldest)
	}
	slot := l.slot(e.Pos)
	l.drop(slot)
	*slot = &e
	l.last = max(l.last, e.Pos)
	l.bytes += e.Size + entryOverhead
	for l.bytes > l.budget && l.floor < l.last {
		l.raise(l.floor + 1)
	}
}

// Lose says that entries up to a position may be missing: what happened there is not
// known. Readers have to ask the database for them. Call it before the position is done.
func (l *Log) Lose(pos Pos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pos > l.floor {
		l.raise(pos)
		l.last = max(l.last, pos)
	}
}

func (l *Log) slot(pos Pos) **Entry { return &l.slots[pos&Pos(len(l.slots)-1)] }

// raise drops the entries up to floor.
func (l *Log) raise(floor Pos) {
	for pos := l.floor + 1; pos <= floor && pos <= l.last; pos++ {
		l.drop(l.slot(pos))
	}
	l.floor = floor
}

func (l *Log) drop(slot **Entry) {
	if *slot != nil {
		l.bytes -= (*slot).Size + entryOverhead
		*slot = nil
	}
}

// Floor is the oldest position that a reader may start after and still find
// everything in the window.
func (l *Log) Floor() Pos {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.floor
}

// Range calls fn with the entries of after < position <= upTo in their order,
// until fn returns false. Call it with upTo at most Clock.Current. It returns
// false when the window does not reach back to after, or moved on meanwhile:
// then entries are missing and the reader has to ask the database for all of
// them. No lock is held while fn runs.
func (l *Log) Range(after, upTo Pos, fn func(*Entry) bool) (ok bool) {
	var page [64]*Entry
	for {
		n, next, ok := l.page(&page, after, upTo)
		if !ok {
			return false
		}
		for _, e := range page[:n] {
			if !fn(e) {
				return true
			}
		}
		if next >= upTo {
			return true
		}
		after = next
	}
}

// page copies the next entries after a position, and tells up to where it got.
func (l *Log) page(page *[64]*Entry, after, upTo Pos) (n int, next Pos, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if after < l.floor {
		return 0, 0, false
	}
	end := min(upTo, l.last)
	for pos := after + 1; pos <= end; pos++ {
		e := *l.slot(pos)
		if e == nil {
			continue
		}
		page[n] = e
		if n++; n == len(page) {
			return n, pos, true
		}
	}
	return n, upTo, true
}
