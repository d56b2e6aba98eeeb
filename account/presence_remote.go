package account

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"beep/matrix"
	"beep/storage"
)

const (
	// remoteSilence is how long a user of another server counts as present of whom
	// nothing is heard, and remoteSweep how often that is looked at.
	remoteSilence = 30 * time.Minute
	remoteSweep   = time.Minute
	// remoteRefresh is from which difference on a new time of activity is written for
	// its own sake.
	remoteRefresh = time.Minute
	// maxRemotePresent bounds the users of other servers who count as present.
	maxRemotePresent = 100_000
	// MaxPresenceUpdates is how many updates [RemotePresence.Take] takes at once.
	MaxPresenceUpdates = 500
)

// PresenceUpdate is what another server says of a user (server-server API, "Presence").
type PresenceUpdate struct {
	UserID        string `json:"user_id"`
	State         string `json:"presence"`
	StatusMsg     string `json:"status_msg"`
	LastActiveAgo int64  `json:"last_active_ago"` // ms
}

// RemotePresence keeps what other servers say of the presence of their users, as long as
// they say it now and then.
type RemotePresence struct {
	db      *storage.DB
	own     string // the name of this server
	enabled bool
	logger  *slog.Logger

	// writing is held while presence is written: one at a time may do so for a user.
	writing sync.Mutex
	heard   map[string]time.Time // of those who are not offline; under writing
}

// NewRemotePresence makes the presence of the users of servers other than own. If it is not
// enabled, what is said of them is dropped. Call [RemotePresence.Run] beside it. A nil
// logger discards.
func NewRemotePresence(db *storage.DB, own string, enabled bool, logger *slog.Logger) *RemotePresence {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &RemotePresence{db: db, own: own, enabled: enabled, logger: logger, heard: map[string]time.Time{}}
}

// Take notes what a server says of its users. What it says of others, and of users
// whom nobody here shares a room with, is ignored.
func (p *RemotePresence) Take(ctx context.Context, origin string, updates []PresenceUpdate) error {
	if !p.enabled {
		return nil
	}
	latest := map[string]PresenceUpdate{}
	for _, u := range updates[:min(len(updates), MaxPresenceUpdates)] {
		if u.valid() && matrix.ServerOf(u.UserID) == origin {
			latest[u.UserID] = u
		}
	}
	userIDs := make([]string, 0, len(latest))
	for userID := range latest {
		userIDs = append(userIDs, userID)
	}
	known, err := p.db.JoinedAnywhere(ctx, userIDs)
	if err != nil || len(known) == 0 {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	stored, err := p.db.PresenceOf(ctx, known)
	if err != nil {
		return err
	}
	before := make(map[string]storage.Presence, len(stored))
	for _, s := range stored {
		before[s.UserID] = s
	}
	now := time.Now()
	var changes []storage.Presence
	for _, userID := range known {
		update := latest[userID]
		if !p.note(userID, update.State, now) {
			continue
		}
		old, seen := before[userID]
		if s := update.presence(now); !seen || worthWriting(s, old) {
			changes = append(changes, s)
		}
	}
	return p.write(ctx, changes, false)
}

// note remembers who is present. It tells whether there was room for that.
func (p *RemotePresence) note(userID, state string, now time.Time) bool {
	if state == Offline {
		delete(p.heard, userID)
		return true
	}
	if _, known := p.heard[userID]; !known && len(p.heard) >= maxRemotePresent {
		return false
	}
	p.heard[userID] = now
	return true
}

func (p *RemotePresence) write(ctx context.Context, changes []storage.Presence, keepMessage bool) error {
	if len(changes) == 0 {
		return nil
	}
	return p.db.Write(ctx, func(tx *storage.Tx) error {
		for _, s := range changes {
			if err := tx.PutPresence(ctx, s, keepMessage); err != nil {
				return err
			}
		}
		return nil
	})
}

func (u *PresenceUpdate) valid() bool {
	return matrix.ValidUserID(u.UserID) && (u.State == Online || u.State == Unavailable || u.State == Offline)
}

// presence is the update in the form in which it is kept.
func (u *PresenceUpdate) presence(now time.Time) storage.Presence {
	s := storage.Presence{UserID: u.UserID, State: u.State, StatusMsg: strings.ReplaceAll(u.StatusMsg, "\x00", "")}
	if len(s.StatusMsg) > maxStatusMsg {
		s.StatusMsg = strings.ToValidUTF8(s.StatusMsg[:maxStatusMsg], "")
	}
	if u.LastActiveAgo >= 0 && u.LastActiveAgo < now.UnixMilli() {
		s.LastActive = now.UnixMilli() - u.LastActiveAgo
	}
	return s
}

func worthWriting(s, old storage.Presence) bool {
	return s.State != old.State || s.StatusMsg != old.StatusMsg ||
		s.LastActive-old.LastActive >= remoteRefresh.Milliseconds()
}

// Run makes those offline of whom nothing was heard for long, until the context is done. It
// begins with those who were present before a restart: they are heard of now, as it were.
func (p *RemotePresence) Run(ctx context.Context) error {
	if err := p.restore(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	sweep := time.NewTicker(remoteSweep)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			if err := p.expire(ctx, time.Now().Add(-remoteSilence)); err != nil && ctx.Err() == nil {
				p.logger.Warn("could not write which users of other servers are gone; trying again", slog.Any("error", err))
			}
		}
	}
}

func (p *RemotePresence) restore(ctx context.Context) error {
	now := time.Now()
	return eachPresent(ctx, p.db, func(present []storage.Presence) {
		p.writing.Lock()
		defer p.writing.Unlock()
		for _, s := range present {
			if matrix.ServerOf(s.UserID) != p.own {
				p.note(s.UserID, s.State, now)
			}
		}
	})
}

func (p *RemotePresence) expire(ctx context.Context, before time.Time) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	var silent []string
	for userID, heard := range p.heard {
		if heard.Before(before) && len(silent) < presenceBatch {
			silent = append(silent, userID)
		}
	}
	stored, err := p.db.PresenceOf(ctx, silent)
	if err != nil {
		return err
	}
	for i := range stored {
		stored[i].State = Offline
	}
	if err := p.write(ctx, stored, true); err != nil {
		return err
	}
	for _, userID := range silent {
		delete(p.heard, userID)
	}
	return nil
}
