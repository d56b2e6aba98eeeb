package crash

import (
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

// check holds what is stored against what was answered.
func (w *world) check() {
	w.t.Helper()
	// The writers are at the servers in turn.
	for _, wr := range w.writers[:w.servers] {
		stored := w.stored(wr.client)
		w.checkEvents(wr.client, stored)
		w.checkReaders(wr.client.Server, stored)
	}
	for _, wr := range w.writers[1:w.servers] {
		if diff := cmp.Diff(w.state(w.writers[0].client), w.state(wr.client)); diff != "" {
			w.t.Errorf("the servers disagree about the state: %s", diff)
		}
	}
	for i, wr := range w.writers {
		w.checkValues(wr, w.readers[i])
	}
}

// checkReaders checks that the readers at a server got what is stored there. What other
// servers have sent late is stored where it belongs, before what was read already.
func (w *world) checkReaders(srv *harness.Server, stored []harness.JSON) {
	w.t.Helper()
	ids := make([]string, len(stored))
	for i, e := range stored {
		ids[i] = e.At("event_id").Str()
	}
	for _, r := range w.readers {
		if r.client.Server != srv {
			continue
		}
		want, got := ids, r.events
		if w.servers > 1 {
			want, got = slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.t.Errorf("the stream of %s is not what is stored: %s", r.client.UserID, diff)
		}
	}
}

// stored are the events of the room after the first, as a user's server has them.
func (w *world) stored(c *harness.Client) []harness.JSON {
	w.t.Helper()
	history := c.History(w.room)
	begin := slices.IndexFunc(history, func(e harness.JSON) bool { return e.At("event_id").Str() == w.first })
	return history[begin+1:]
}

// state is that of the room, as a user's server has it: event ids by type and key.
func (w *world) state(c *harness.Client) map[string]string {
	state := map[string]string{}
	for _, e := range c.Get(harness.Path("/v3/rooms/%s/state", w.room)).OK().List() {
		state[e.At("type").Str()+" "+e.At("state_key").Str()] = e.At("event_id").Str()
	}
	return state
}

// checkEvents checks that each answered event is there once, and that nothing was made
// of one request twice.
func (w *world) checkEvents(c *harness.Client, stored []harness.JSON) {
	w.t.Helper()
	times, works := map[string]int{}, map[string]int{}
	for _, e := range stored {
		times[e.At("event_id").Str()]++
		if work := e.At("content", "work"); work.Exists() {
			works[work.Str()]++
		}
	}
	answered := 0
	for _, wr := range w.writers {
		for _, a := range append(slices.Clone(wr.events), wr.states...) {
			answered++
			if n := times[a.event]; n != 1 {
				w.t.Errorf("event %s was answered and is there %d times at %s", a.event, n, c.Server.Name)
			}
		}
	}
	for work, n := range works {
		if n != 1 {
			w.t.Errorf("%q was done %d times at %s", work, n, c.Server.Name)
		}
	}
	if len(works) != answered {
		w.t.Errorf("%d events were answered, %d are stored at %s", answered, len(works), c.Server.Name)
	}
	w.t.Logf("%d events were answered, %s has them", answered, c.Server.Name)
}

// checkValues checks what only the last value of is kept.
func (w *world) checkValues(wr *writer, r *reader) {
	w.t.Helper()
	c := wr.client
	if wr.data > 0 {
		if n := c.Get(harness.Path("/v3/user/%s/account_data/org.example.data", c.UserID)).OK().At("n").Int(); n != int64(wr.data) || r.data != n {
			w.t.Errorf("account data: %d was answered, %d is stored, %d was the last in sync", wr.data, n, r.data)
		}
	}
	if wr.state > 0 {
		want := fmt.Sprintf("state %d-%d", wr.me, wr.state)
		if got := c.State(w.room, "org.example.state", fmt.Sprint(wr.me)).OK().At("work").Str(); got != want {
			w.t.Errorf("state: %q was answered, %q is stored", want, got)
		}
	}
	if wr.receipt != "" {
		initial := c.Sync("filter", readFilter)
		if !initial.Ephemeral(w.room).Find("type", "m.receipt").At("content", wr.receipt, "m.read", c.UserID).Exists() {
			w.t.Errorf("the receipt at %s is not there: %s", wr.receipt, initial.Ephemeral(w.room))
		}
	}
}
