package sender

import (
	"context"
	"slices"
	"time"

	"beep/storage"
	"beep/stream"
)

const (
	// lostAfter is how long a server may be away and still get everything that was queued for
	// it. What it gets after that are the newest events of its rooms: they need no queue.
	lostAfter = 90 * 24 * time.Hour
	// giveUpEvery is how often it is looked who is away for so long, and giveUpBatch how many
	// rows are removed at once.
	giveUpEvery = time.Hour
	giveUpBatch = 1000
)

// lost tells whether the destination has been away for so long that nothing is queued for it
// any more.
func (d *destination) lost(now time.Time) bool {
	return !d.failing.IsZero() && now.Sub(d.failing) > lostAfter
}

// giveUp removes what is queued for servers that have been away for too long.
func (s *Sender) giveUp(ctx context.Context) {
	servers, upTo := s.lostServers()
	if len(servers) == 0 {
		return
	}
	var all int64
	for n := int64(1); n > 0; {
		err := s.db.Write(ctx, func(tx *storage.Tx) (err error) {
			n, err = tx.GiveUp(ctx, servers, upTo, giveUpBatch)
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("what is queued for servers that do not come back could not be removed; trying again later", "error", err)
			}
			break
		}
		all += n
	}
	if all > 0 {
		s.metrics.givenUp.Add(float64(all))
		s.log.Warn("servers could not be reached for 90 days; what was queued for them is removed", "servers", len(servers),
			"first", servers[0], "removed", all)
	}
}

// lostServers are the servers that have been away for too long, and how far what is queued
// for them counts as lost: one that comes back now gets what comes now.
func (s *Sender) lostServers() (servers []string, upTo stream.Pos) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for server, d := range s.destinations {
		if !d.busy && d.lost(now) {
			servers = append(servers, server)
		}
	}
	slices.Sort(servers)
	return servers, s.read
}
