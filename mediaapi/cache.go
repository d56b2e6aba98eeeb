package mediaapi

import (
	"context"
	"sync"

	"beep/matrix"
	"beep/storage"
)

// evictBatch is how many files are looked at that may have to make room.
const evictBatch = 100

// cache counts the bytes of what is kept of other servers. It may count more than there is,
// never less.
type cache struct {
	mu       sync.Mutex
	bytes    int64
	evicting sync.Mutex // one at a time makes room
}

func (c *cache) add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += n
}

func (c *cache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

var errNoRoom = matrix.ServiceUnavailable.With("Too many files of other servers are being fetched")

// makeRoom counts size bytes more. As much as it takes of what nobody has wanted for the
// longest time makes room for them, and a little more, so that this is not for every byte.
func (a *API) makeRoom(ctx context.Context, size int64) error {
	a.cache.evicting.Lock()
	defer a.cache.evicting.Unlock()
	budget := int64(a.Config.RemoteCache)
	for {
		missing := a.cache.size() + size - budget
		if missing <= 0 {
			a.cache.add(size)
			return nil
		}
		evicted, err := a.evict(ctx, missing+budget/64)
		if err != nil {
			return err
		}
		if !evicted {
			return errNoRoom
		}
	}
}

// evict removes what nobody has wanted for the longest time, about so many bytes. It tells
// whether there was anything.
func (a *API) evict(ctx context.Context, bytes int64) (bool, error) {
	oldest, err := a.DB.OldestRemoteMedia(ctx, evictBatch)
	if err != nil {
		return false, err
	}
	n := 0
	for ; n < len(oldest) && bytes > 0; n++ {
		bytes -= oldest[n].Size
	}
	var gone []storage.Media
	err = a.DB.Write(ctx, func(tx *storage.Tx) (err error) {
		gone, err = tx.DeleteOldestRemoteMedia(ctx, n)
		return err
	})
	if err != nil {
		return false, err
	}
	for _, m := range gone {
		a.cache.add(-m.Size)
	}
	for _, m := range gone {
		if err := a.release(ctx, m.Hash); err != nil {
			return false, err
		}
	}
	return len(gone) > 0, nil
}

// release removes a file that may be needed no more, and then its thumbnails.
func (a *API) release(ctx context.Context, hash string) error {
	gone, err := a.removeIfUnused(ctx, hash)
	if err != nil || !gone {
		return err
	}
	var thumbnails []string
	err = a.DB.Write(ctx, func(tx *storage.Tx) (err error) {
		thumbnails, err = tx.DeleteThumbnails(ctx, hash)
		return err
	})
	if err != nil {
		return err
	}
	for _, thumbnail := range thumbnails {
		if thumbnail == "" || thumbnail == hash {
			continue
		}
		if _, err := a.removeIfUnused(ctx, thumbnail); err != nil {
			return err
		}
	}
	return nil
}
