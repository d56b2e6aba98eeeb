package account

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"beep/storage"
)

// cachedTokens bounds the memory of the cache: about 10 MB when it is full.
const cachedTokens = 20_000

// cachedSession is an access token that was looked up.
type cachedSession struct {
	caller  Caller
	expires int64 // ms; 0: never
	locked  bool
	seen    atomic.Int64 // ms: when it was noted last that the device was seen
}

// tokenCache keeps the access tokens that were used last.
//
// What is read from the database while a token is dropped must not come in
// afterwards: a reader takes the epoch first, and put refuses what was read in
// an epoch that has ended.
type tokenCache struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[storage.Hash, *cachedSession]
	epoch uint64
}

func newTokenCache() *tokenCache {
	// The constructor fails only for a size that is not positive.
	lru, _ := simplelru.NewLRU[storage.Hash, *cachedSession](cachedTokens, nil)
	return &tokenCache{lru: lru}
}

// get finds a token; without it, s is nil and epoch is for put.
func (c *tokenCache) get(hash storage.Hash) (s *cachedSession, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, _ = c.lru.Get(hash)
	return s, c.epoch
}

// put keeps what was read since get, unless tokens have been dropped meanwhile.
func (c *tokenCache) put(hash storage.Hash, s *cachedSession, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch == c.epoch {
		c.lru.Add(hash, s)
	}
}

// drop forgets tokens that are gone or have changed in the database. Call it
// after the commit and before anybody is told.
func (c *tokenCache) drop(hashes []storage.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	for _, hash := range hashes {
		c.lru.Remove(hash)
	}
}
