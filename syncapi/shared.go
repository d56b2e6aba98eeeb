package syncapi

import (
	"context"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"beep/stream"
)

// shared remembers what many readers of one event need: the first asks the
// database for all. The log keeps it true: it drops or sets what changes.
type shared[K comparable, V any] struct {
	loading chan struct{} // whoever asks the database holds its one item

	mu      sync.Mutex
	values  *lru.Cache[K, V]
	changed stream.Pos // of the last change that the log told of
}

func newShared[K comparable, V any](size int) *shared[K, V] {
	// The constructor fails only for a size that is not positive.
	values, _ := lru.New[K, V](size)
	return &shared[K, V]{loading: make(chan struct{}, 1), values: values}
}

// get gives the values of the keys, less those that load does not find. Load may
// find what is newer than the cache, but nothing that is older than now.
func (c *shared[K, V]) get(ctx context.Context, keys []K, load func(missing []K) (map[K]V, error)) (map[K]V, error) {
	found, missing, _ := c.lookup(keys)
	if len(missing) == 0 {
		return found, nil
	}
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	found, missing, changed := c.lookup(keys)
	if len(missing) == 0 {
		return found, nil
	}
	loaded, err := load(missing)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, value := range loaded {
		found[key] = value
		if c.changed == changed { // else it may have been read before the change
			c.values.Add(key, value)
		}
	}
	return found, nil
}

func (c *shared[K, V]) lookup(keys []K) (found map[K]V, missing []K, changed stream.Pos) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found = make(map[K]V, len(keys))
	for _, key := range keys {
		if value, ok := c.values.Get(key); ok {
			found[key] = value
		} else {
			missing = append(missing, key)
		}
	}
	return found, missing, c.changed
}

// put sets a value that the log tells, if the value is remembered at all.
func (c *shared[K, V]) put(key K, value V, pos stream.Pos) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = pos
	if c.values.Contains(key) {
		c.values.Add(key, value)
	}
}

// drop forgets a value that has changed.
func (c *shared[K, V]) drop(key K, pos stream.Pos) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = pos
	c.values.Remove(key)
}

// clear forgets everything.
func (c *shared[K, V]) clear(pos stream.Pos) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = pos
	c.values.Purge()
}
