package bubbletest

import (
	"sync"
	"testing"
	"time"
)

// With the race detector, timers that fire at once in many goroutines ended the process.
func TestTimersThatAreDue(t *testing.T) {
	for range 100 {
		Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 50 {
						done := make(chan bool)
						time.AfterFunc(0, func() { close(done) })
						<-done
					}
				})
			}
			all.Wait()
		})
	}
}
