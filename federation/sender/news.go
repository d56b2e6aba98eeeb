package sender

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"beep/matrix"
	"beep/storage"
)

const (
	// maxNews bounds what is kept of news for a destination.
	maxNews = 1000
	// repeatTyping is after how long a server is told again that somebody still types:
	// servers end by themselves what they hear no more of.
	repeatTyping = 20 * time.Second
)

// news are what a server is told while it can be reached, and only the latest of each.
type news struct {
	typing   map[typist]bool
	receipts map[reading]storage.Receipt
	presence map[string]storage.Presence // by user
}

type typist struct{ roomID, userID string }

type reading struct{ roomID, userID, threadID string }

func (n *news) size() int { return len(n.typing) + len(n.receipts) + len(n.presence) }

// note keeps the value in place of an earlier one.
func note[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

// tell gives servers news.
func (s *Sender) tell(ctx context.Context, servers []string, tell func(n *news)) {
	for _, server := range servers {
		d := s.destination(server)
		if d.failures > 0 || d.news.size() >= maxNews {
			continue
		}
		tell(&d.news)
		if !d.busy {
			s.wake(ctx, d)
		}
	}
}

// typingRoom is a room in which users of this server type.
type typingRoom struct {
	storage.Audience
	users []string
	told  time.Time
}

// takeTyping tells the room's other servers which users of this one type now, or no longer.
func (s *Sender) takeTyping(ctx context.Context, room int64, now []string) {
	now = slices.DeleteFunc(slices.Clone(now), func(userID string) bool { return !s.ours(userID) })
	before := s.typing[room]
	if before == nil {
		before = &typingRoom{}
	}
	a, _ := s.audiences.Get(room)
	if len(a.Servers) == 0 {
		delete(s.typing, room)
		return
	}
	for _, userID := range now {
		if !slices.Contains(before.users, userID) {
			s.tellTyping(ctx, a, userID, true)
		}
	}
	for _, userID := range before.users {
		if !slices.Contains(now, userID) {
			s.tellTyping(ctx, a, userID, false)
		}
	}
	if len(now) == 0 {
		delete(s.typing, room)
		return
	}
	s.typing[room] = &typingRoom{a, now, time.Now()}
}

func (s *Sender) tellTyping(ctx context.Context, a storage.Audience, userID string, typing bool) {
	s.tell(ctx, a.Servers, func(n *news) { note(&n.typing, typist{a.RoomID, userID}, typing) })
}

// remind tells once more who still types.
func (s *Sender) remind(ctx context.Context, now time.Time) {
	for _, room := range s.typing {
		if now.Sub(room.told) < repeatTyping {
			continue
		}
		room.told = now
		for _, userID := range room.users {
			s.tellTyping(ctx, room.Audience, userID, true)
		}
	}
}

// public tells whether other servers get to know of the receipt from this one.
func (s *Sender) public(r storage.Receipt) bool { return r.Type == "m.read" && s.ours(r.UserID) }

func (s *Sender) takeReceipt(ctx context.Context, r storage.Receipt) {
	if !s.public(r) {
		return
	}
	a, _ := s.audiences.Get(r.Room)
	s.tell(ctx, a.Servers, func(n *news) { note(&n.receipts, reading{a.RoomID, r.UserID, r.ThreadID}, r) })
}

func (s *Sender) takePresence(ctx context.Context, p storage.Presence, servers []string) {
	s.tell(ctx, servers, func(n *news) { note(&n.presence, p.UserID, p) })
}

// edu is an EDU with its content.
func edu(eduType string, content []byte) json.RawMessage {
	out := append(append(make([]byte, 0, len(content)+64), `{"content":`...), content...)
	return append(matrix.AppendString(append(out, `,"edu_type":`...), eduType), '}')
}

// take adds the news to the EDUs of a transaction, up to so many; what finds no room stays.
func (n *news) take(edus []json.RawMessage, most int, now time.Time) []json.RawMessage {
	if len(n.presence) > 0 && len(edus) < most {
		edus = append(edus, edu("m.presence", presenceContent(n.presence, now)))
		n.presence = nil
	}
	for len(n.receipts) > 0 && len(edus) < most {
		edus = append(edus, edu("m.receipt", n.takeReceipts()))
	}
	for _, who := range slices.SortedFunc(maps.Keys(n.typing), compareTypists) {
		if len(edus) == most {
			break
		}
		edus = append(edus, edu("m.typing", encode(typingContent{who.roomID, who.userID, n.typing[who]})))
		delete(n.typing, who)
	}
	return edus
}

func compareTypists(a, b typist) int {
	return cmp.Or(cmp.Compare(a.roomID, b.roomID), cmp.Compare(a.userID, b.userID))
}

// encode is the JSON of a value that has one in any case.
func encode(v any) []byte {
	text, _ := json.Marshal(v)
	return text
}

// typingContent is the content of m.typing.
type typingContent struct {
	RoomID string `json:"room_id"`
	UserID string `json:"user_id"`
	Typing bool   `json:"typing"`
}

// userPresence is an element of push of m.presence.
type userPresence struct {
	UserID          string `json:"user_id"`
	Presence        string `json:"presence"`
	StatusMsg       string `json:"status_msg,omitempty"`
	LastActiveAgo   int64  `json:"last_active_ago"` // ms
	CurrentlyActive bool   `json:"currently_active"`
}

func presenceContent(users map[string]storage.Presence, now time.Time) []byte {
	push := make([]userPresence, 0, len(users))
	for _, userID := range slices.Sorted(maps.Keys(users)) {
		p := users[userID]
		push = append(push, userPresence{UserID: userID, Presence: p.State, StatusMsg: p.StatusMsg,
			LastActiveAgo: max(now.UnixMilli()-p.LastActive, 0), CurrentlyActive: p.State == "online"})
	}
	return encode(map[string]any{"push": push})
}

// userReceipt is how far a user has read, in m.receipt.
type userReceipt struct {
	EventIDs []string    `json:"event_ids"`
	Data     receiptData `json:"data"`
}

type receiptData struct {
	TS       int64  `json:"ts"` // ms
	ThreadID string `json:"thread_id,omitempty"`
}

// takeReceipts is the content of an m.receipt with as many receipts as fit into one: of a
// user in a room that is one, and those for other threads have to wait for the next.
func (n *news) takeReceipts() []byte {
	content := map[string]map[string]map[string]userReceipt{}
	for _, of := range slices.SortedFunc(maps.Keys(n.receipts), compareReadings) {
		if content[of.roomID] == nil {
			content[of.roomID] = map[string]map[string]userReceipt{"m.read": {}}
		}
		users := content[of.roomID]["m.read"]
		if _, taken := users[of.userID]; taken {
			continue
		}
		r := n.receipts[of]
		users[of.userID] = userReceipt{[]string{r.EventID}, receiptData{r.TS, r.ThreadID}}
		delete(n.receipts, of)
	}
	return encode(content)
}

func compareReadings(a, b reading) int {
	return cmp.Or(cmp.Compare(a.roomID, b.roomID), cmp.Compare(a.userID, b.userID), cmp.Compare(a.threadID, b.threadID))
}
