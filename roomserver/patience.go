package roomserver

import (
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"beep/matrix"
)

const (
	// silencePatience is how long a server is asked to send its events again while it does
	// not answer what is asked about them. After that those that cannot be judged are refused:
	// they must not hold up for ever what else it has to send.
	silencePatience = 15 * time.Minute
	// faultPatience is the same while it is this server that fails.
	faultPatience = time.Minute
	// patienceKept bounds what is remembered.
	patienceKept = 10_000
)

// errSilent says that events cannot be judged yet, as their server does not answer.
var errSilent = errors.New("the server does not answer what is asked about its events")

// patience knows since when something fails.
type patience struct {
	mu    sync.Mutex
	since *lru.LRU[string, time.Time]
}

func newPatience() *patience {
	// The constructor fails only for a size that is not positive.
	since, _ := lru.NewLRU[string, time.Time](patienceKept, nil)
	return &patience{since: since}
}

// restore is for what does not fail any more.
func (p *patience) restore(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since.Remove(what)
}

// lasts tells whether it did not fail for too long.
func (p *patience) lasts(what string, most time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, known := p.since.Get(what)
	if !known {
		since = time.Now()
		p.since.Add(what, since)
	}
	return time.Since(since) < most
}

// heard takes in how a question to the origin ended. A refusal is an answer.
func (in *intake) heard(err error) {
	if err != nil && in.rooms.remote.Unavailable(err) {
		in.silent = true
	} else {
		in.answered = true
	}
}

// unjudged tells whether one of the events was refused only because the origin did not
// answer.
func (in *intake) unjudged(events []*matrix.Event) bool {
	for _, e := range events {
		if in.silent && in.verdicts[e.ID] != nil && !in.rejected[e.ID] {
			return true
		}
	}
	return false
}
