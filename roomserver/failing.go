package roomserver

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// failingTime is how long a server that did not answer is asked after all others.
	failingTime = 10 * time.Minute
	// failingKept bounds the servers that are remembered.
	failingKept = 1000
)

// failing are servers that did not answer lately. Whoever reads what one server may give as
// well as another asks them last: one that leaves requests without an answer, and has many
// members in a room, would have everybody there wait for every page.
type failing struct {
	servers *lru.Cache[string, time.Time] // when they failed
}

func newFailing() *failing {
	// The constructor fails only for a size that is not positive.
	servers, _ := lru.New[string, time.Time](failingKept)
	return &failing{servers}
}

// note remembers whether a server failed.
func (f *failing) note(server string, failed bool) {
	if failed {
		f.servers.Add(server, time.Now())
	}
}

// last gives the servers with those that failed lately at the end.
func (f *failing) last(servers []string) []string {
	var well, failed []string
	for _, server := range servers {
		if at, known := f.servers.Peek(server); known && time.Since(at) < failingTime {
			failed = append(failed, server)
		} else {
			well = append(well, server)
		}
	}
	return append(well, failed...)
}
