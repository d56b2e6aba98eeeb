package federation

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

const (
	// apart is how many events each side of a partition writes for itself.
	apart = 1000
	// hands is how many of them are on their way at the same time.
	hands = 4
)

// The network between two servers is cut while both go on writing in a room that they
// share. When it is mended both have everything, and the same state.
func TestPartition(t *testing.T) {
	harness.EachFederation(t, 2, harness.Options{Wired: true}, func(t *testing.T, servers []*harness.Server) {
		alice, bob, carol := servers[0].Register(t, "alice"), servers[1].Register(t, "bob"), servers[1].Register(t, "carol")
		room := alice.CreateRoom(harness.Object{"invite": []string{bob.UserID, carol.UserID}})
		bob.Join(room)
		carol.Join(room)
		alice.SetPower(room, map[*harness.Client]int{bob: 99})
		await(t, room, bob, alice.Text(room, "before"))
		await(t, room, alice, bob.Text(room, "before"))

		for _, s := range servers {
			s.Cut()
		}
		alice.Change("ban", room, carol).OK()
		written := slices.Concat(writeApart(t, room, alice, bob)...)
		last := []string{alice.Text(room, "the last"), bob.Text(room, "the last")}
		mended := time.Now()
		for _, s := range servers {
			s.Mend()
		}
		await(t, room, bob, last[0])
		await(t, room, alice, last[1])
		t.Logf("together again after %v", time.Since(mended).Round(time.Millisecond))

		var states [2]map[string]string
		for i, c := range []*harness.Client{alice, bob} {
			holds(t, room, c, append(last, written...))
			states[i] = stateOf(room, c)
		}
		if diff := cmp.Diff(states[0], states[1]); diff != "" {
			t.Errorf("the servers disagree about the state: %s", diff)
		}
	})
}

// writeApart lets users write in a room, all at the same time, and gives the ids of each
// one's events.
func writeApart(t *testing.T, room string, users ...*harness.Client) [][]string {
	t.Helper()
	ids := make([][]string, len(users))
	var work sync.WaitGroup
	for side, c := range users {
		ids[side] = make([]string, apart)
		for hand := range hands {
			work.Go(func() {
				for n := hand; n < apart && !t.Failed(); n += hands {
					ids[side][n] = write(t, room, c.Unchecked(), side, n)
				}
			})
		}
	}
	if work.Wait(); t.Failed() {
		t.FailNow()
	}
	return ids
}

// write writes the n-th event of a side: each tenth is state, under a key of the side's own
// or one that both sides write.
func write(t *testing.T, room string, c *harness.Client, side, n int) string {
	path := harness.Path("/v3/rooms/%s/send/m.room.message/%s", room, fmt.Sprint(n))
	switch {
	case n%20 == 10:
		path = harness.Path("/v3/rooms/%s/state/org.example.side/%s", room, fmt.Sprint(side, n%50))
	case n%20 == 0:
		path = harness.Path("/v3/rooms/%s/state/org.example.shared/%s", room, fmt.Sprint(n%50))
	}
	r, err := c.Try(t.Context(), http.MethodPut, path, harness.Object{"msgtype": "m.text", "body": fmt.Sprint(side, n)})
	if err != nil || r.Status != http.StatusOK {
		t.Errorf("%s: %v, %v", path, r, err)
		return ""
	}
	return r.At("event_id").Str()
}

// await waits until an event has come to a user's server.
func await(t *testing.T, room string, c *harness.Client, event string) {
	t.Helper()
	harness.Await(t, c.UserID+" sees "+event, func() bool {
		return c.Get(harness.Path("/v3/rooms/%s/event/%s", room, event)).Status == http.StatusOK
	})
}

// holds checks that a user finds each of the events in the room's history, once.
func holds(t *testing.T, room string, c *harness.Client, events []string) {
	t.Helper()
	times := map[string]int{}
	for _, e := range c.Unchecked().History(room) {
		times[e.At("event_id").Str()]++
	}
	for _, id := range events {
		if times[id] != 1 {
			t.Errorf("%s finds event %s %d times", c.UserID, id, times[id])
		}
	}
}

// stateOf is the room's state, as a user's server has it: event ids by type and key.
func stateOf(room string, c *harness.Client) map[string]string {
	state := map[string]string{}
	for _, e := range c.Get(harness.Path("/v3/rooms/%s/state", room)).OK().List() {
		state[e.At("type").Str()+" "+e.At("state_key").Str()] = e.At("event_id").Str()
	}
	return state
}
