package sender

import (
	"context"
	"maps"
	"slices"
	"time"

	"beep/storage"
)

const (
	// interval is how often it is written how far the servers are.
	interval = time.Second
	// cursorStep is how far the log may be read before that is written though nothing was
	// for another server: so much is looked through after a crash.
	cursorStep = 1000
)

// keep writes how far the servers are, and wakes those whose time has come.
func (s *Sender) keep(ctx context.Context) {
	tick, upkeep := time.NewTicker(interval), time.NewTicker(giveUpEvery)
	defer tick.Stop()
	defer upkeep.Stop()
	s.giveUp(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.poke:
		case <-upkeep.C:
			s.giveUp(ctx)
		case <-tick.C:
			if err := s.flush(ctx, false); err != nil && ctx.Err() == nil {
				s.log.Warn("it could not be written what was sent to other servers; trying again", "error", err)
			}
		}
		s.attend(ctx)
	}
}

// attend starts what is due.
func (s *Sender) attend(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, d := range s.destinations {
		if !d.busy && !d.retry.IsZero() && !now.Before(d.retry) {
			s.start(ctx, d)
		}
	}
	s.remind(ctx, now)
	s.metrics.count(s.destinations)
}

// changes is what a flush writes.
type changes struct {
	set   []storage.Destination
	gone  []string
	acked []string
}

// flush writes what has changed: the destinations that lack something, and that what was
// queued has arrived. The end writes everything.
func (s *Sender) flush(ctx context.Context, last bool) error {
	c := s.changes(last)
	if len(c.set) == 0 {
		return nil
	}
	err := s.db.Write(ctx, func(tx *storage.Tx) error {
		if err := tx.SetDestinations(ctx, c.set); err != nil {
			return err
		}
		if err := tx.DeleteDestinations(ctx, c.gone); err != nil {
			return err
		}
		return tx.DeleteDelivered(ctx, c.acked)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		for _, server := range c.acked {
			s.acked[server] = struct{}{}
		}
		return err
	}
	for _, row := range c.set {
		s.stored[row.Server] = row
	}
	for _, server := range c.gone {
		delete(s.stored, server)
	}
	return nil
}

func (s *Sender) changes(last bool) (c changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.destinations {
		if row := d.row(); row != s.stored[d.server] {
			c.set = append(c.set, row)
		}
	}
	for server := range s.stored {
		if server != "" && s.destinations[server] == nil {
			c.gone = append(c.gone, server)
		}
	}
	c.acked = slices.Collect(maps.Keys(s.acked))
	clear(s.acked)
	others, known := s.stored[""]
	behind := s.read - others.Cursor
	if !known || len(c.set)+len(c.gone)+len(c.acked) > 0 || behind >= cursorStep || last && behind > 0 {
		c.set = append(c.set, storage.Destination{Cursor: s.read})
	}
	return c
}
