// Package bubbletest runs tests in bubbles of time.
package bubbletest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is [synctest.Test] with one goroutine at a time. In a bubble, whoever sets or looks at a
// timer that is due lets it fire there and then, and all timers of a bubble share one
// context of the race detector: when two goroutines do so at once, the detector crashes
// (Go 1.26; nothing of ours is wrong then). What a test does is also more often the same that way.
func Test(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	defer alone()()
	synctest.Test(t, test)
}

var (
	mu     sync.Mutex
	bubble int // how many there are
	before int // GOMAXPROCS without bubbles
)

// alone lets one goroutine run at a time until the function is called that it gives.
func alone() (end func()) {
	mu.Lock()
	defer mu.Unlock()
	if bubble++; bubble == 1 {
		before = runtime.GOMAXPROCS(1)
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if bubble--; bubble == 0 {
			runtime.GOMAXPROCS(before)
		}
	}
}
