package web

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"beep/matrix"
)

// Rate is how often something may happen in the long run, and how many times at once.
// The zero Rate is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// limitedKeys bounds the memory of a Limiter. Beyond it the key that was quiet for the
// longest starts afresh.
const limitedKeys = 50_000

// Limiter counts requests by kind and key. A nil Limiter allows everything.
//
// For each key it keeps one number, the time at which its allowance will be whole
// again (the generic cell rate algorithm).
type Limiter struct {
	kinds  map[string]limit
	denied *prometheus.CounterVec
	now    func() time.Duration

	mu   sync.Mutex
	full *simplelru.LRU[limitKey, time.Duration]
}

type limit struct {
	interval time.Duration // between requests in the long run
	slack    time.Duration // how far the burst may run ahead
}

type limitKey struct {
	kind, key string
}

// NewLimiter is a limiter for these kinds; registry may be nil.
func NewLimiter(rates map[string]Rate, registry *prometheus.Registry) *Limiter {
	start := time.Now()
	l := &Limiter{
		kinds: make(map[string]limit, len(rates)),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rate_limited_total",
			Help: "Requests refused by a rate limit, by its kind.",
		}, []string{"kind"}),
		now: func() time.Duration { return time.Since(start) },
	}
	for kind, rate := range rates {
		l.kinds[kind] = newLimit(rate)
	}
	// The constructor fails only for a size that is not positive.
	l.full, _ = simplelru.NewLRU[limitKey, time.Duration](limitedKeys, nil)
	if registry != nil {
		registry.MustRegister(l.denied)
	}
	return l
}

func newLimit(r Rate) limit {
	if r.PerSecond <= 0 {
		return limit{}
	}
	interval := time.Duration(float64(time.Second) / r.PerSecond)
	return limit{interval: interval, slack: interval * time.Duration(max(r.Burst, 1)-1)}
}

func (l *Limiter) knows(kind string) bool {
	if l == nil || kind == "" {
		return true
	}
	_, ok := l.kinds[kind]
	return ok
}

// Allow takes one from the allowance of key, which is a user id, an [AddrKey] or
// whatever else is counted. It fails with M_LIMIT_EXCEEDED, or with a plain error for
// a kind that was not configured.
func (l *Limiter) Allow(kind, key string) error {
	if l == nil {
		return nil
	}
	lim, ok := l.kinds[kind]
	if !ok {
		return fmt.Errorf("web: no rate limit is named %q", kind)
	}
	if lim.interval == 0 {
		return nil
	}
	if wait := l.take(lim, limitKey{kind, key}); wait > 0 {
		l.denied.WithLabelValues(kind).Inc()
		return matrix.LimitExceeded.After(wait)
	}
	return nil
}

func (l *Limiter) take(lim limit, key limitKey) (wait time.Duration) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	full, _ := l.full.Get(key)
	full = max(full, now)
	if wait := full - now - lim.slack; wait > 0 {
		return wait
	}
	l.full.Add(key, full+lim.interval)
	return 0
}

// Forgive gives one back that [Limiter.Allow] took: a right password is not counted
// among the guesses, and guesses made at the same time are still all counted.
func (l *Limiter) Forgive(kind, key string) {
	if l == nil {
		return
	}
	lim := l.kinds[kind]
	l.mu.Lock()
	defer l.mu.Unlock()
	if full, ok := l.full.Get(limitKey{kind, key}); ok {
		l.full.Add(limitKey{kind, key}, full-lim.interval)
	}
}
