package keys

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"beep/storage"
)

const (
	// renewEvery is how often lists are looked for that have to be renewed, if nothing
	// else wakes, and renewAtOnce how many are at the same time.
	renewEvery  = time.Minute
	renewAtOnce = 8
	renewBatch  = 100
	// maxRetry is the longest pause after a server did not answer.
	maxRetry = time.Hour
)

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
	for {
		for more := true; more; {
			n, err := k.renewSome(ctx, time.Now())
			if err != nil && ctx.Err() == nil {
				k.logger.Warn("could not renew lists of devices; trying again later", slog.Any("error", err))
			}
			more = err == nil && n == renewBatch
		}
		select {
		case <-ctx.Done():
			return
		case <-k.renewal:
		case <-tick.C:
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

// renewOne asks for one list. While its server does not answer, the pauses grow.
func (k *Keys) renewOne(ctx context.Context, list storage.RemoteList, now time.Time) error {
	err := k.fetch(ctx, list.UserID)
	if silence, silent := errors.AsType[*noAnswer](err); silent {
		k.logger.Debug("a list of devices could not be renewed", slog.String("user", list.UserID), slog.Any("error", silence.cause))
		pause := min(time.Minute<<min(list.Failures, 10), maxRetry)
		return k.db.Write(ctx, func(tx *storage.Tx) error {
			return tx.PostponeRenewal(ctx, list.UserID, list.Failures+1, now.Add(pause).UnixMilli())
		})
	}
	return err
}
