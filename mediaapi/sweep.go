package mediaapi

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"beep/storage"
)

const (
	// expireEvery is how often it is looked which URIs have got no file in time.
	expireEvery = time.Hour
	// sweepEvery is how many times that passes until all files are looked at.
	sweepEvery = 24
	// sweepBatch is how many files are looked at in one query.
	sweepBatch = 500
)

// Run removes, at once and now and then, what nobody needs: URIs whose upload did not come,
// and files that the database does not know, as a crash leaves them. It ends with ctx,
// and ends what is being fetched then.
func (a *API) Run(ctx context.Context) error {
	defer a.tasks.end()
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		a.background(ctx, "forget uploads that did not come", a.expire)
		if n%sweepEvery == 0 {
			a.background(ctx, "remove files that nobody needs", a.sweep)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// background does what is tried again later when it fails.
func (a *API) background(ctx context.Context, what string, do func(context.Context) error) {
	if err := do(ctx); err != nil && ctx.Err() == nil {
		a.Logger.Warn("could not "+what+"; trying again later", slog.Any("error", err))
	}
}

func (a *API) expire(ctx context.Context) error {
	return a.DB.Write(ctx, func(tx *storage.Tx) error { return tx.DeleteExpiredMedia(ctx, nowMS()) })
}

// sweep removes the files that the database does not know.
func (a *API) sweep(ctx context.Context) error {
	if err := a.DB.Write(ctx, func(tx *storage.Tx) error { return tx.DeleteStrayThumbnails(ctx) }); err != nil {
		return err
	}
	removed := 0
	err := a.files.each(ctx, sweepBatch, func(hashes []string) error {
		used, err := a.DB.UsedFiles(ctx, hashes)
		if err != nil {
			return err
		}
		slices.Sort(used)
		for _, hash := range hashes {
			if _, found := slices.BinarySearch(used, hash); found {
				continue
			}
			gone, err := a.removeIfUnused(ctx, hash)
			if err != nil {
				return err
			}
			if gone {
				removed++
			}
		}
		return nil
	})
	if removed > 0 {
		a.Logger.Info("files that nobody needs were removed", "files", removed)
	}
	return err
}
