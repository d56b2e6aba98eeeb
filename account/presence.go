package account

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"beep/matrix"
	"beep/storage"
)

// The states of a user (client-server API, "Presence").
const (
	Online      = "online"
	Unavailable = "unavailable"
	Offline     = "offline"
)

const (
	// idleAfter is how long after the last activity somebody who is online becomes
	// unavailable, and offlineAfter how long after its last sync a device counts.
	idleAfter    = 5 * time.Minute
	offlineAfter = 30 * time.Second
	// maxStatusMsg bounds a status message, in bytes.
	maxStatusMsg = 1000
)

// Presence knows who is online. It keeps in memory those who are, or were half a
// minute ago; the database has what others were told last.
//
// A user is what the most present of the user's devices is: each counts while it
// syncs and half a minute longer.
type Presence struct {
	db      *storage.DB
	own     string // the name of this server
	enabled bool
	logger  *slog.Logger
	wake    chan struct{} // has an item when changed may not be empty

	mu      sync.Mutex
	users   map[string]*presentUser // only Run removes some
	changed map[string]struct{}     // users of whom others have to be told
}

// presentUser is somebody with a device that counts, or of whom it has not been
// written yet that there is none left. Everybody else is offline in the database.
type presentUser struct {
	devices    map[string]*presentDevice
	lastActive time.Time
	told       string  // the state that is written
	message    *string // the status message; nil while only the database knows it
	newMessage bool    // it is not written yet
}

type presentDevice struct {
	state   string
	chosen  bool // by the user: syncing does not change it
	syncing int  // syncs under way
	seen    time.Time
}

// NewPresence makes the presence of the users of this server, whose name is own. If it is
// not enabled, everybody is offline. Call [Presence.Run] beside it. A nil logger discards.
func NewPresence(db *storage.DB, own string, enabled bool, logger *slog.Logger) *Presence {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Presence{
		db: db, own: own, enabled: enabled, logger: logger, wake: make(chan struct{}, 1),
		users: map[string]*presentUser{}, changed: map[string]struct{}{},
	}
}

// Enabled tells whether anybody is told of anybody's presence.
func (p *Presence) Enabled() bool { return p.enabled }

// Seen notes that a device syncs, with the set_presence parameter of that; "" is
// online, and offline leaves everything as it is. Call ended once, when the sync
// has ended.
func (p *Presence) Seen(userID, deviceID, setPresence string) (ended func()) {
	if !p.enabled || setPresence == Offline {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u, d := p.device(userID, deviceID)
	d.syncing++
	switch {
	case setPresence == Unavailable:
		d.state, d.chosen = Unavailable, false
	case !d.chosen:
		d.state = Online
	}
	p.check(userID, u)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		d.syncing--
		d.seen = time.Now()
	}
}

// Active notes that a user did something, as sending a message: who was
// unavailable is online again. It makes nobody online who does not sync.
func (p *Presence) Active(userID, deviceID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[userID]
	if u == nil {
		return
	}
	u.lastActive = time.Now()
	if d := u.devices[deviceID]; d != nil && d.state == Unavailable {
		d.state, d.chosen = Online, false
	}
	p.check(userID, u)
}

// Set is a user's own word about the presence at a device, which holds as long as
// the device counts. M_INVALID_PARAM.
func (p *Presence) Set(userID, deviceID, state, message string) error {
	switch {
	case state != Online && state != Unavailable && state != Offline:
		return matrix.InvalidParam.With("presence must be online, unavailable or offline")
	case len(message) > maxStatusMsg:
		return matrix.InvalidParam.Withf("A status message may have at most %d bytes", maxStatusMsg)
	case !p.enabled:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u, d := p.device(userID, deviceID)
	d.state, d.chosen, d.seen = state, state != Online, time.Now()
	u.lastActive = d.seen
	if u.message == nil || *u.message != message {
		u.message, u.newMessage = &message, true
	}
	p.check(userID, u)
	return nil
}

// device finds a device, which counts from now on. Coming online is an activity.
func (p *Presence) device(userID, deviceID string) (*presentUser, *presentDevice) {
	u := p.users[userID]
	if u == nil {
		u = &presentUser{devices: map[string]*presentDevice{}, told: Offline}
		p.users[userID] = u
	}
	now := time.Now()
	if u.state(now) == Offline {
		u.lastActive = now
	}
	d := u.devices[deviceID]
	if d == nil || !d.counts(now) {
		d = &presentDevice{state: Offline, seen: now}
		u.devices[deviceID] = d
	}
	return u, d
}

func (d *presentDevice) counts(now time.Time) bool {
	return d.syncing > 0 || now.Sub(d.seen) < offlineAfter
}

// state is what the devices make of the user.
func (u *presentUser) state(now time.Time) string {
	state := Offline
	for _, d := range u.devices {
		switch {
		case !d.counts(now) || d.state == Offline:
		case d.state == Online && now.Sub(u.lastActive) < idleAfter:
			return Online
		default:
			state = Unavailable
		}
	}
	return state
}

// check notes it when others have to be told of the user.
func (p *Presence) check(userID string, u *presentUser) {
	if u.newMessage || u.told != u.state(time.Now()) {
		p.changed[userID] = struct{}{}
		p.rouse()
	}
}

// rouse lets Run look at what has changed.
func (p *Presence) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Status is a user's presence as the viewer may see it. M_FORBIDDEN for whom the
// viewer shares no room with.
func (p *Presence) Status(ctx context.Context, viewer, userID string) (storage.Presence, error) {
	s := storage.Presence{UserID: userID, State: Offline}
	if viewer != userID {
		share, err := p.db.ShareRoom(ctx, viewer, userID)
		if err != nil {
			return s, err
		}
		if !share {
			return s, matrix.Forbidden.With("You share no room with this user")
		}
	}
	if !p.enabled {
		return s, nil
	}
	stored, err := p.db.PresenceOf(ctx, []string{userID})
	if err != nil {
		return s, err
	}
	if len(stored) > 0 {
		s = stored[0]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.users[userID]; u != nil {
		s.State, s.LastActive = u.state(time.Now()), u.lastActive.UnixMilli()
		if u.message != nil {
			s.StatusMsg = *u.message
		}
	}
	return s, nil
}

// Refresh brings the time of the last activity up to date, which is not written as
// long as somebody stays online.
func (p *Presence) Refresh(s storage.Presence) storage.Presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.users[s.UserID]; u != nil {
		s.LastActive = max(s.LastActive, u.lastActive.UnixMilli())
	}
	return s
}

// AppendPresence appends the content of an m.presence event, which is the answer to
// GET /presence/{userId}/status as well. Now is in ms.
func AppendPresence(dst []byte, s storage.Presence, now int64) []byte {
	dst = matrix.AppendString(append(dst, `{"presence":`...), s.State)
	if s.State == Online {
		// Who is no longer active becomes unavailable.
		dst = append(dst, `,"currently_active":true`...)
	}
	if s.LastActive != 0 {
		dst = strconv.AppendInt(append(dst, `,"last_active_ago":`...), max(now-s.LastActive, 0), 10)
	}
	if s.StatusMsg != "" {
		dst = matrix.AppendString(append(dst, `,"status_msg":`...), s.StatusMsg)
	}
	return append(dst, '}')
}
