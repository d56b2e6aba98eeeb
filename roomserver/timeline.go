package roomserver

import (
	"context"
	"math"
	"strconv"
	"strings"

	"beep/matrix"
	"beep/storage"
	"beep/stream"
)

// Token is a place between two events of a room: after every event whose order is
// at most the token's value. Clients see it as "t123"; tokens of /sync serve too.
type Token int64

const (
	beforeAll = 0 // what is in no timeline has a negative order
	afterAll  = math.MaxInt64 / 2
)

// ParseToken reads a token of /messages ("t123") or of /sync ("s123", or "s123_45").
func ParseToken(given string) (Token, error) {
	text := given
	if strings.HasPrefix(given, "s") {
		text, _, _ = strings.Cut(given, "_") // what follows is about no room
	}
	n, err := strconv.ParseInt(strings.TrimLeft(text, "ts"), 10, 64)
	if err == nil && strings.HasPrefix(text, "t") {
		return Token(n), nil
	}
	if err == nil && strings.HasPrefix(text, "s") && n >= 0 && n < math.MaxInt64/storage.OrderScale {
		return TokenAt(stream.Pos(n)), nil
	}
	return 0, matrix.InvalidParam.Withf("%q is not a token of this server", given)
}

// FirstToken is the token that a client gave, or for "" the end from which paging
// begins: the newest events backwards, the oldest forwards.
func (r *Rooms) FirstToken(text string, backwards bool) (Token, error) {
	switch {
	case text != "":
		return ParseToken(text)
	case backwards:
		return afterAll, nil
	}
	return beforeAll, nil
}

// lastToken is the place after the room's last event. The clock may not have come so
// far yet, but who sent that event expects to find it.
func (r *Rooms) lastToken(ctx context.Context, room int64) (Token, error) {
	last, err := r.db.EventsBackward(ctx, room, afterAll, beforeAll, 1)
	if err != nil || len(last) == 0 {
		return TokenAt(r.db.Clock.Current()), err
	}
	return Token(last[0].Order), nil
}

// TokenAt is the place after everything that arrived up to the position.
func TokenAt(pos stream.Pos) Token { return Token(int64(pos) * storage.OrderScale) }

// TokenBefore is the place before an event.
func TokenBefore(e *storage.Event) Token { return Token(e.Order - 1) }

// String is the token for clients.
func (t Token) String() string { return "t" + strconv.FormatInt(int64(t), 10) }

// Shown is an event that its reader may see, with the reader's membership at it.
type Shown struct {
	*ClientEvent
	Membership string
}

// Page is a part of a room's timeline.
type Page struct {
	Events     []Shown
	Start, End Token
	More       bool // there may be events beyond End
}

// PageQuery asks for a part of a room's timeline.
type PageQuery struct {
	Backwards bool
	From      Token
	To        Token // where to stop; 0 for nowhere
	Limit     int
	// Keep chooses events; nil keeps all.
	Keep func(*matrix.Event) bool
}

// scanLimit bounds how many events one request looks at when a filter drops most.
const scanLimit = 2000

// Messages pages through the room's timeline (GET /messages).
func (r *Rooms) Messages(ctx context.Context, a Access, q PageQuery) (Page, error) {
	if q.From == afterAll {
		var err error
		if q.From, err = r.lastToken(ctx, a.Room.Number); err != nil {
			return Page{}, err
		}
	}
	page := Page{Start: q.From, End: q.From}
	low, high := int64(beforeAll), int64(afterAll)
	if a.Left != 0 {
		high = int64(TokenAt(a.Left)) + 1 // nothing after the time of leaving
	}
	if q.To != 0 && q.Backwards {
		low = int64(q.To)
	} else if q.To != 0 {
		high = min(high, int64(q.To)+1)
	}
	for scanned := 0; scanned < scanLimit; {
		want := min(max(q.Limit-len(page.Events), 10), 200)
		events, fetching, err := r.pageWithoutGap(ctx, a, q.Backwards, page.End, low, high, want)
		if err != nil {
			return Page{}, err
		}
		full, err := r.show(ctx, a, q, events, &page)
		if err != nil || full {
			return page, err
		}
		if len(events) < want {
			// Whoever pages on finds nothing, and knows then. Some clients throw a page away
			// that says it is the last.
			page.More = fetching || len(page.Events) > 0
			return page, nil
		}
		scanned += len(events)
	}
	page.More = true
	return page, nil
}

// pageWithoutGap is pageOf after events that are missing there were fetched, if they
// are to be had. It tells whether there is more to be fetched than one page may take: then
// that the page is short does not mean that the timeline has come to its end.
func (r *Rooms) pageWithoutGap(ctx context.Context, a Access, backwards bool, from Token, low, high int64, limit int) (events []storage.Event, fetching bool, err error) {
	if !backwards || r.remote == nil || !a.Room.Resident {
		events, err = r.pageOf(ctx, a.Room.Number, backwards, from, low, high, limit)
		return events, false, err
	}
	for round := 0; ; round++ {
		// The gaps are read first: one that is filled after the page was read is in sight.
		missing, err := r.db.MissingEvents(ctx, a.Room.Number)
		if err == nil {
			events, err = r.pageOf(ctx, a.Room.Number, backwards, from, low, high, limit)
		}
		if err != nil || round == backfillRounds {
			return events, round == backfillRounds, err
		}
		if a.Room.Partial() {
			if len(events) > 0 {
				return events, true, nil
			}
			// Older events come with states of their own. These are to be had once all members are known.
			if a, err = r.Settled(ctx, a); err != nil {
				return nil, false, err
			}
		}
		oldest := int64(beforeAll)
		if len(events) == limit {
			oldest = events[limit-1].Order
		}
		gap := gapWithin(missing, oldest, min(high, int64(from)+1))
		if len(gap) == 0 {
			return events, false, nil
		}
		fetched, err := r.backfill(ctx, &a.Room, gap, limit)
		if err != nil || !fetched {
			return events, false, err
		}
	}
}

func (r *Rooms) pageOf(ctx context.Context, room int64, backwards bool, from Token, low, high int64, limit int) ([]storage.Event, error) {
	if backwards {
		return r.db.EventsBackward(ctx, room, min(high, int64(from)+1), low, limit)
	}
	return r.db.EventsForward(ctx, room, max(low, int64(from)), high, limit)
}

// show adds those of the events that the user may see and wants, and moves the
// page's end past all that were looked at. It tells whether the page is full.
func (r *Rooms) show(ctx context.Context, a Access, q PageQuery, events []storage.Event, page *Page) (bool, error) {
	memberships, err := r.Visible(ctx, a.UserID, events)
	if err != nil {
		return false, err
	}
	if err := r.Erase(ctx, events, memberships); err != nil {
		return false, err
	}
	var kept []storage.Event
	var at []string
	for i := range events {
		if len(page.Events)+len(kept) == q.Limit {
			page.More = true
			break
		}
		if memberships[i] != "" && (q.Keep == nil || q.Keep(events[i].Event)) {
			kept, at = append(kept, events[i]), append(at, memberships[i])
		}
		page.End = Token(events[i].Order)
		if q.Backwards {
			page.End = TokenBefore(&events[i])
		}
	}
	rendered, err := r.Render(ctx, kept)
	if err != nil {
		return false, err
	}
	for i, e := range rendered {
		page.Events = append(page.Events, Shown{e, at[i]})
	}
	return page.More, nil
}

// Context are the events around an event (GET /context).
type Context struct {
	Event         Shown
	Before, After []Shown // nearest first
	Start, End    Token
	State         []*ClientEvent
}

// Context gives an event with what was said before and after it, at most limit
// events besides the event itself.
func (r *Rooms) Context(ctx context.Context, roomID, userID, eventID string, limit int, keep func(*matrix.Event) bool) (*Context, error) {
	a, err := r.Access(ctx, roomID, userID)
	if err != nil {
		return nil, err
	}
	e, membership, err := r.Event(ctx, roomID, userID, eventID)
	if err != nil {
		return nil, err
	}
	c := &Context{Event: Shown{e, membership}}
	before, err := r.Messages(ctx, a, PageQuery{Backwards: true, From: TokenBefore(e.Event), Limit: limit / 2, Keep: keep})
	if err != nil {
		return nil, err
	}
	after, err := r.Messages(ctx, a, PageQuery{From: Token(e.Order), Limit: limit - limit/2, Keep: keep})
	if err != nil {
		return nil, err
	}
	c.Before, c.After, c.Start, c.End = before.Events, after.Events, before.End, after.End
	last := e
	if n := len(after.Events); n > 0 {
		last = after.Events[n-1].ClientEvent
	}
	c.State, err = r.stateAt(ctx, last.StateAfter)
	return c, err
}

// MembersAt are the member events of the users in the state after an event.
func (r *Rooms) MembersAt(ctx context.Context, e *storage.Event, userIDs []string) ([]*ClientEvent, error) {
	named, err := r.db.StateKeysByName(ctx, []int64{e.Room}, "m.room.member", userIDs)
	if err != nil {
		return nil, err
	}
	var keys []int64
	for _, k := range named[e.Room] {
		keys = append(keys, k.Key)
	}
	found, err := r.states.lookup(ctx, &r.db.Reader, []int64{e.StateAfter}, keys)
	if err != nil {
		return nil, err
	}
	contents, err := r.stateByPos(ctx, found)
	members := make([]*ClientEvent, 0, len(contents))
	for _, m := range contents {
		if m != nil {
			members = append(members, NewClientEvent(m))
		}
	}
	return members, err
}

// redactsOf is the target that a client names in the content of m.room.redaction
// when it sends one as an ordinary event.
func redactsOf(d Draft) (string, error) {
	if d.Redacts != "" {
		return d.Redacts, nil
	}
	content, err := matrix.CanonicalJSON(d.Content, false)
	if err != nil {
		return "", matrix.BadJSON.With(err.Error())
	}
	target := (&matrix.Event{Content: content}).ContentString("redacts")
	if !matrix.ValidEventID(target) {
		return "", matrix.MissingParam.With("The content's redacts must name the event to redact")
	}
	return target, nil
}
