package keys

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"beep/matrix"
	"beep/storage"
)

const (
	// renewEvery is how often lists are looked for that have to be renewed, if nothing
	// else wakes, and renewAtOnce how many are at the same time.
	renewEvery  = time.Minute
	renewAtOnce = 8
	renewBatch  = 100
	// maxRetry is the longest pause after a server did not answer, and aliveGap the
	// shortest one if it is heard of meanwhile.
	maxRetry = time.Hour
	aliveGap = 5 * time.Second
)

// silences are the servers that did not give lists when they were asked last.
type silences struct {
	mu      sync.Mutex
	servers map[string]silence
}

type silence struct {
	asked time.Time
	heard bool // of the server, since
}

func (s *silences) begin(server string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers[server] = silence{asked: now}
}

// since tells whether the server was asked in vain since then.
func (s *silences) since(server string, then time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, silent := s.servers[server]
	return silent && !of.asked.Before(then)
}

// hear notes that a server was heard of, and tells whether to ask it now.
func (s *silences) hear(server string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, silent := s.servers[server]
	if silent {
		s.servers[server] = silence{of.asked, true}
	}
	return silent && now.Sub(of.asked) >= aliveGap
}

// end gives, and forgets, the servers to be asked again.
func (s *silences) end(now time.Time) (back []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for server, of := range s.servers {
		if of.heard && now.Sub(of.asked) >= aliveGap {
			back = append(back, server)
			delete(s.servers, server)
		}
	}
	return back
}

// Alive says that another server was heard of: lists that it did not give are asked for now.
func (k *Keys) Alive(server string) {
	if k.silent.hear(server, time.Now()) {
		k.wakeRenewal()
	}
}

// wakeRenewal has lists renewed that are stale.
func (k *Keys) wakeRenewal() {
	select {
	case k.renewal <- struct{}{}:
	default:
	}
}

// renew asks other servers for the lists of which updates were missed, until the context
// is done.
func (k *Keys) renew(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	back := func(string) bool { return true } // since this server stopped
	for {
		if err := k.renewAll(ctx, back); err != nil && ctx.Err() == nil {
			k.logger.Warn("could not renew lists of devices; trying again later", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-k.renewal:
		case <-tick.C:
		}
		back = nil
		if servers := k.silent.end(time.Now()); len(servers) > 0 {
			back = func(userID string) bool { return slices.Contains(servers, matrix.ServerOf(userID)) }
		}
	}
}

// renewAll renews the lists whose time has come, and those of users whose servers may be
// back; nil for none.
func (k *Keys) renewAll(ctx context.Context, back func(userID string) bool) error {
	if back != nil {
		if err := k.db.Write(ctx, func(tx *storage.Tx) error { return tx.RetryRenewals(ctx, back) }); err != nil {
			return err
		}
	}
	for {
		n, err := k.renewSome(ctx, time.Now())
		if err != nil || n < renewBatch {
			return err
		}
	}
}

func (k *Keys) renewSome(ctx context.Context, now time.Time) (int, error) {
	lists, err := k.db.StaleLists(ctx, now.UnixMilli(), renewBatch)
	if err != nil {
		return 0, err
	}
	var group errgroup.Group
	group.SetLimit(renewAtOnce)
	for _, list := range lists {
		group.Go(func() error { return k.renewOne(ctx, list, now) })
	}
	return len(lists), group.Wait()
}

// renewOne asks for one list. While its server does not answer, the pauses grow, and it is
// asked for one of its lists at a time.
func (k *Keys) renewOne(ctx context.Context, list storage.RemoteList, now time.Time) error {
	server := matrix.ServerOf(list.UserID)
	if !k.silent.since(server, now) {
		err := k.fetch(ctx, ctx, list.UserID)
		none, ok := errors.AsType[*noAnswer](err)
		if !ok || ctx.Err() != nil {
			return err
		}
		k.logger.Debug("a list of devices could not be renewed", slog.String("user", list.UserID), slog.Any("error", none.cause))
		if none.silent() {
			k.silent.begin(server, time.Now())
		}
	}
	pause := min(time.Minute<<min(list.Failures, 10), maxRetry)
	return k.db.Write(ctx, func(tx *storage.Tx) error {
		return tx.PostponeRenewal(ctx, list.UserID, list.Failures+1, now.Add(pause).UnixMilli())
	})
}
