package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"beep/tests/harness"
)

const (
	claimers = 16
	// of a device: uploads one after the other, and keys in each.
	keyUploads, keysEach = 10, 50
	keyAlgorithm         = "signed_curve25519"
)

// claims is how many keys are claimed.
func claims(t *testing.T) int {
	t.Helper()
	return number(t, "CRASH_CLAIMS", 1000)
}

// One-time keys are claimed by many at the same time, and the server is killed at random
// moments. No key is given out twice, and none before one that was there earlier.
func TestKill9Claims(t *testing.T) {
	for _, engine := range []string{harness.SQLite, harness.Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			o := harness.Options{Durable: true}
			if engine == harness.Postgres {
				o.Cluster = harness.DurableCluster(t).URL
			}
			srv := harness.Start(t, engine, o)
			owner := srv.Register(t, "owner")
			var devices []*harness.Client
			for left := claims(t); left > 0; left -= keyUploads * keysEach {
				devices = append(devices, owner.Login(nil).Unchecked())
			}
			stop := make(chan struct{})
			var killing sync.WaitGroup
			killing.Go(func() { killNowAndThen(t, srv, stop) })
			for _, device := range devices {
				if !t.Failed() {
					claimAll(t, device)
				}
			}
			close(stop)
			killing.Wait()
		})
	}
}

// killNowAndThen kills the server and starts it again, at random moments, until stop.
func killNowAndThen(t *testing.T, srv *harness.Server, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(200*time.Millisecond + rand.N(time.Second)):
		}
		if err := errors.Join(srv.Kill(), srv.Start()); err != nil {
			t.Error(err)
			return
		}
	}
}

// try asks until there is an answer, and tells how often there was none.
func try(t *testing.T, c *harness.Client, path string, body any) (r *harness.Response, failed int) {
	for end := time.Now().Add(patience); ; failed++ {
		r, err := c.Try(t.Context(), "POST", path, body)
		if err == nil && r.Status == 200 {
			return r, failed
		}
		if time.Now().After(end) {
			t.Errorf("%s is not answered: %v", path, err)
			return nil, failed
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// claimAll gives a device one-time keys, and lets them be claimed until none is left.
func claimAll(t *testing.T, device *harness.Client) {
	for upload := range keyUploads {
		keys := harness.Object{}
		for i := range keysEach {
			signatures := harness.Object{device.UserID: harness.Object{"ed25519:" + device.DeviceID: "signature"}}
			keys[fmt.Sprintf("%s:%02d-%02d", keyAlgorithm, upload, i)] = harness.Object{"key": "k", "signatures": signatures}
		}
		try(t, device, "/v3/keys/upload", harness.Object{"one_time_keys": keys})
	}
	wanted := harness.Object{"one_time_keys": harness.Object{device.UserID: harness.Object{device.DeviceID: keyAlgorithm}}}
	var mu sync.Mutex
	var unanswered int
	given := map[string]int{}
	var all sync.WaitGroup
	for range claimers {
		all.Go(func() {
			last := ""
			for {
				r, failed := try(t, device, "/v3/keys/claim", wanted)
				mu.Lock()
				unanswered += failed
				mu.Unlock()
				if r == nil {
					return
				}
				names := r.At("one_time_keys", device.UserID, device.DeviceID).Keys()
				if len(names) == 0 {
					return
				}
				upload := names[0][len(keyAlgorithm)+1:][:2]
				if upload < last {
					t.Errorf("a key of upload %s was given out after one of upload %s", upload, last)
				}
				last = upload
				mu.Lock()
				given[names[0]]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for name, times := range given {
		if times > 1 {
			t.Errorf("%s of %s was given out %d times", name, device.DeviceID, times)
		}
	}
	if lost := keyUploads*keysEach - len(given); lost > unanswered {
		t.Errorf("%d keys were given to nobody, but only %d claims were not answered", lost, unanswered)
	}
}
