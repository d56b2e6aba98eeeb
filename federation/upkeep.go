package federation

import (
	"context"
	"log/slog"
	"time"

	"beep/storage"
)

const (
	// upkeepEvery is how often it is looked what can be forgotten.
	upkeepEvery = time.Hour
	// repeatable is how long the answer to a transaction is kept. A server that was cut off
	// sends what it has under its old id for hours; what comes later, as it may, is known by
	// the ids of the events and messages in it.
	repeatable = 3 * 24 * time.Hour
	// forgetBatch is how many answers are forgotten in one transaction of the database.
	forgetBatch = 1000
)

// Run forgets the answers to transactions that nobody sends any more, at once and now and
// then, until ctx ends.
func (a *API) Run(ctx context.Context) error {
	ticker := time.NewTicker(upkeepEvery)
	defer ticker.Stop()
	for {
		if err := a.forgetAnswers(ctx); err != nil && ctx.Err() == nil {
			a.Logger.Warn("could not forget old transactions of other servers; trying again later", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (a *API) forgetAnswers(ctx context.Context) error {
	before := time.Now().Add(-repeatable).UnixMilli()
	for n := int64(1); n > 0; {
		err := a.DB.Write(ctx, func(tx *storage.Tx) (err error) {
			n, err = tx.ForgetReceived(ctx, before, forgetBatch)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
