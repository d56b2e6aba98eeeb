package matrix

import "strings"

// MaxFilterLimit is the largest limit of a filter: a client that asks for more
// gets so many.
const MaxFilterLimit = 1000

// Filter says what a client wants to hear of (client-server API, "Filtering").
// The zero value lets everything pass. A filter is immutable: readers share it.
type Filter struct {
	// Fields are the parts of events that the client wants.
	Fields Fields
	// Federation asks for events as servers exchange them (event_format).
	Federation bool
	// Presence is for m.presence, AccountData for the user's global account data.
	Presence, AccountData EventFilter
	// Room is for everything in rooms.
	Room RoomFilter
}

// RoomFilter says which rooms a client wants to hear of, and what of them.
type RoomFilter struct {
	// IncludeLeave asks for rooms that the user has left as well.
	IncludeLeave bool
	// Ephemeral is for typing notifications and receipts, AccountData for the user's
	// account data of rooms.
	Ephemeral, State, Timeline, AccountData RoomEventFilter

	rooms names
}

// AllowsRoom tells whether the client wants to hear of the room at all.
func (f *RoomFilter) AllowsRoom(roomID string) bool { return f.rooms.allow(roomID) }

// EventFilter chooses events by type and sender.
type EventFilter struct {
	// Limit is how many events the client wants at most, up to [MaxFilterLimit]; 0 when
	// it left that to the server, -1 when it wants none, as some clients do for the
	// timeline though the specification asks for a number above 0.
	Limit int

	types   types
	senders names
}

// Allows tells whether events of the type from the sender pass.
func (f *EventFilter) Allows(eventType, sender string) bool {
	return f.types.allow(eventType) && f.senders.allow(sender)
}

// AllowsType tells whether the type passes. It is for what has no sender.
func (f *EventFilter) AllowsType(eventType string) bool { return f.types.allow(eventType) }

// AllowsNothing tells that no event can pass, so that nobody need look for any.
func (f *EventFilter) AllowsNothing() bool { return f.types.none() || f.senders.none() }

// LimitOr is the limit, or otherwise where the client gave none.
func (f *EventFilter) LimitOr(otherwise int) int {
	if f.Limit == 0 {
		return otherwise
	}
	return max(f.Limit, 0)
}

// RoomEventFilter chooses events of rooms.
type RoomEventFilter struct {
	EventFilter
	// LazyLoadMembers asks for the member events of those only who sent something.
	LazyLoadMembers bool
	// IncludeRedundantMembers asks for them also where the client has had them.
	IncludeRedundantMembers bool
	// UnreadThreadNotifications asks for counts of notifications by thread.
	UnreadThreadNotifications bool

	rooms       names
	containsURL *bool
}

// AllowsRoom tells whether events of the room can pass.
func (f *RoomEventFilter) AllowsRoom(roomID string) bool { return f.rooms.allow(roomID) }

// AllowsNothing tells that no event can pass, so that nobody need look for any.
func (f *RoomEventFilter) AllowsNothing() bool {
	return f.EventFilter.AllowsNothing() || f.rooms.none()
}

// AllowsEvent tells whether the event passes.
func (f *RoomEventFilter) AllowsEvent(e *Event) bool {
	if !f.Allows(e.Type, e.Sender) || !f.rooms.allow(e.RoomID) {
		return false
	}
	return f.containsURL == nil || hasMember(e.Content, "url") == *f.containsURL
}

func hasMember(object []byte, name string) (found bool) {
	eachMember(object, func(key, _ []byte) { found = found || string(key) == name })
	return found
}

// names chooses among names: those that are listed, less the unwanted.
type names struct {
	wanted   map[string]struct{} // nil: all
	unwanted map[string]struct{}
}

func (n *names) allow(name string) bool {
	if _, no := n.unwanted[name]; no {
		return false
	}
	if n.wanted == nil {
		return true
	}
	_, yes := n.wanted[name]
	return yes
}

func (n *names) none() bool { return n.wanted != nil && len(n.wanted) == 0 }

// types chooses among event types, by name or by pattern.
type types struct {
	names
	wantedGlobs, unwantedGlobs []glob
}

func (t *types) allow(eventType string) bool {
	if _, no := t.unwanted[eventType]; no || anyMatch(t.unwantedGlobs, eventType) {
		return false
	}
	if t.wanted == nil {
		return true
	}
	_, yes := t.wanted[eventType]
	return yes || anyMatch(t.wantedGlobs, eventType)
}

func (t *types) none() bool { return t.names.none() && len(t.wantedGlobs) == 0 }

// glob is a pattern taken apart at its `*`: two parts at least.
type glob []string

// match takes time in proportion to the text and the pattern: each part is best
// taken where it first occurs, so there is nothing to try again.
func (g glob) match(text string) bool {
	first, last := g[0], g[len(g)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range g[1 : len(g)-1] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

func anyMatch(globs []glob, text string) bool {
	for _, g := range globs {
		if g.match(text) {
			return true
		}
	}
	return false
}
