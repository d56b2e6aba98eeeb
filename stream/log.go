package stream

import (
	"sort"
	"sync"
)

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
	// ToDevice is a send-to-device message for devices that Value names.
	ToDevice
	// DeviceList is a change of the devices or keys of User, or, if Value says so, of how
	// User alone sees those of others.
	DeviceList
	// Profile is a change of the profile of User.
	Profile
	// State is a change of the state of Room that no event brought: forks of its
	// history were resolved.
	State
	// QueuedEDU is an EDU that other servers have to get. Clients hear nothing of it.
	QueuedEDU
	// Whole says that all of the state of Room is known from now on, where a part of its
	// members was not.
	Whole
	// KeyCounts is a change of the one-time and fallback keys of devices that Value names.
	KeyCounts
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
	ring   []*Entry // in order of position, the oldest at head
	head   int
	n      int // how many there are
	floor  Pos // entries up to this position may be missing
	bytes  int
	budget int
}

// NewLog is an empty window for the positions after start, which holds at most
// slots entries (a power of two, or it is rounded up) of together at most budget
// bytes. Positions without an entry take no room. 0 stands for the default of either.
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
	return &Log{ring: make([]*Entry, size), floor: start, budget: budget}
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
	i := l.search(e.Pos)
	if i < l.n && (*l.at(i)).Pos == e.Pos {
		l.bytes -= (*l.at(i)).Size + entryOverhead
		*l.at(i) = &e
	} else {
		if l.n == len(l.ring) {
			l.raise((*l.at(0)).Pos)
			i--
		}
		if i < 0 {
			return // it would itself be the oldest
		}
		l.insert(i, &e)
	}
	l.bytes += e.Size + entryOverhead
	for l.bytes > l.budget && l.n > 0 {
		l.raise((*l.at(0)).Pos)
	}
}

// at is the place of the i-th oldest entry.
func (l *Log) at(i int) **Entry { return &l.ring[(l.head+i)&(len(l.ring)-1)] }

// search is the number of the entries before a position.
func (l *Log) search(pos Pos) int {
	if l.n == 0 || (*l.at(l.n - 1)).Pos < pos {
		return l.n // as most of the time
	}
	return sort.Search(l.n, func(i int) bool { return (*l.at(i)).Pos >= pos })
}

// insert makes an entry the i-th oldest. It goes near the end: positions are
// published nearly in their order.
func (l *Log) insert(i int, e *Entry) {
	for j := l.n; j > i; j-- {
		*l.at(j) = *l.at(j - 1)
	}
	*l.at(i) = e
	l.n++
}

// Lose says that entries up to a position may be missing: what happened there is not
// known. Readers have to ask the database for them. Call it before the position is done.
func (l *Log) Lose(pos Pos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pos > l.floor {
		l.raise(pos)
	}
}

// raise drops the entries up to floor.
func (l *Log) raise(floor Pos) {
	for l.n > 0 && (*l.at(0)).Pos <= floor {
		l.bytes -= (*l.at(0)).Size + entryOverhead
		*l.at(0) = nil
		l.head = (l.head + 1) & (len(l.ring) - 1)
		l.n--
	}
	l.floor = floor
}

// Find is the entry at a position; nil if the window has none.
func (l *Log) Find(pos Pos) *Entry {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if i := l.search(pos); i < l.n && (*l.at(i)).Pos == pos {
		return *l.at(i)
	}
	return nil
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
	for i := l.search(after + 1); i < l.n && (*l.at(i)).Pos <= upTo; i++ {
		page[n] = *l.at(i)
		if n++; n == len(page) {
			return n, page[n-1].Pos, true
		}
	}
	return n, upTo, true
}
