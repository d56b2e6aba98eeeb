package storage

import (
	"context"
	"log/slog"
	"time"

	"beep/stream"
)

// startClock leases a block that no start before this one has leased, so that no
// position is given out twice.
func (db *DB) startClock(ctx context.Context) error {
	var leased stream.Pos
	err := db.Write(ctx, func(tx *Tx) (err error) {
		leased, err = selectOne(ctx, &tx.Reader, `
			INSERT INTO clock (id, lease) VALUES (1, $1)
			ON CONFLICT (id) DO UPDATE SET lease = clock.lease + excluded.lease
			RETURNING lease`, scanValue[stream.Pos], stream.Block)
		return err
	})
	if err != nil {
		return err
	}
	start := leased - stream.Block
	db.Clock = stream.NewClock(start, db.lease)
	db.Log = stream.NewLog(start, stream.DefaultSlots, stream.DefaultBudget)
	return nil
}

// lease makes sure that a restart begins at upTo or later. It tries again until
// the database allows it: without a lease nothing can be written anyway.
func (db *DB) lease(ctx context.Context, upTo stream.Pos) error {
	for {
		err := db.Write(ctx, func(tx *Tx) error {
			return tx.exec(ctx, `UPDATE clock SET lease = $1 WHERE lease < $1`, upTo)
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		db.logger.Warn("could not lease more positions; trying again", slog.Any("error", err))
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
