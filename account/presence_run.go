package account

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"beep/matrix"
	"beep/storage"
)

const (
	// presenceSweep is how often it is looked who is past a time.
	presenceSweep = 5 * time.Second
	// presencePause is the least time between two writes, presenceRetry that after
	// one that failed, and presenceBatch the most users in one.
	presencePause = 200 * time.Millisecond
	presenceRetry = 5 * time.Second
	presenceBatch = 500
	// beforeStart stands for the devices that were there before a restart; it can be
	// no device id.
	beforeStart = "\x00"
)

// Run follows the time and writes what changes, until the context is done. It
// begins with those who were present before a restart: they have as long to come
// back as anybody whose sync has ended.
func (p *Presence) Run(ctx context.Context) error {
	if !p.enabled {
		<-ctx.Done()
		return nil
	}
	if err := p.restore(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	sweep := time.NewTicker(presenceSweep)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			return p.flush(end)
		case <-sweep.C:
			p.sweep()
			continue
		case <-p.wake:
		}
		pause := presencePause
		if err := p.flush(ctx); err != nil && ctx.Err() == nil {
			p.logger.Warn("could not write who is online; trying again", slog.Any("error", err))
			pause = presenceRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (p *Presence) restore(ctx context.Context) error {
	return eachPresent(ctx, p.db, func(present []storage.Presence) {
		p.add(slices.DeleteFunc(present, func(s storage.Presence) bool { return matrix.ServerOf(s.UserID) != p.own }))
	})
}

// eachPresent hands out the users of all servers who are not offline, in batches.
func eachPresent(ctx context.Context, db *storage.DB, take func([]storage.Presence)) error {
	for after := ""; ; {
		present, err := db.PresentUsers(ctx, after, presenceBatch)
		if err != nil {
			return err
		}
		if len(present) == 0 {
			return nil
		}
		after = present[len(present)-1].UserID
		take(present)
	}
}

func (p *Presence) add(present []storage.Presence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range present {
		u, d := p.device(s.UserID, beforeStart)
		d.state, u.told = s.State, s.State
		p.check(s.UserID, u)
	}
}

// sweep looks who is past a time, and forgets who need not be known any longer.
func (p *Presence) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for userID, u := range p.users {
		for id, d := range u.devices {
			if !d.counts(now) {
				delete(u.devices, id)
			}
		}
		p.check(userID, u)
		if _, changed := p.changed[userID]; !changed && len(u.devices) == 0 {
			delete(p.users, userID)
		}
	}
}

// presenceChange is what is written of a user.
type presenceChange struct {
	storage.Presence
	keepMessage bool
}

// flush writes a batch of what has changed.
func (p *Presence) flush(ctx context.Context) error {
	batch := p.take()
	if len(batch) == 0 {
		return nil
	}
	err := p.db.Write(ctx, func(tx *storage.Tx) error {
		for _, c := range batch {
			if err := tx.PutPresence(ctx, c.Presence, c.keepMessage); err != nil {
				return err
			}
		}
		return nil
	})
	p.flushed(batch, err == nil)
	return err
}

func (p *Presence) take() (batch []presenceChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for userID := range p.changed {
		if len(batch) == presenceBatch {
			p.rouse()
			break
		}
		delete(p.changed, userID)
		u := p.users[userID]
		c := presenceChange{
			Presence:    storage.Presence{UserID: userID, State: u.state(now), LastActive: u.lastActive.UnixMilli()},
			keepMessage: !u.newMessage,
		}
		if u.newMessage {
			c.StatusMsg = *u.message
		}
		if u.newMessage || c.State != u.told {
			batch = append(batch, c)
		}
	}
	return batch
}

// flushed notes what has been written, and what has changed again since it was taken.
func (p *Presence) flushed(batch []presenceChange, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range batch {
		u := p.users[c.UserID]
		if ok {
			u.told = c.State
			u.newMessage = u.newMessage && (c.keepMessage || *u.message != c.StatusMsg)
		}
		p.check(c.UserID, u)
	}
}
