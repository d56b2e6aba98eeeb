package crash

import (
	"database/sql"
	"fmt"
	_ "github.com/lib/pq"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"

	"beep/tests/harness"
)

// check holds what is stored against what was answered.
func (w *world) check() {
	w.t.Helper()
	stored := w.stored()
	w.checkEvents(stored)
	ids := make([]string, len(stored))
	for i, e := range stored {
		ids[i] = e.At("event_id").Str()
	}
	db, _ := sql.Open("postgres", w.writers[0].client.Server.Database)
	defer db.Close()
	for _, r := range w.readers {
		for _, e := range stored {
			id := e.At("event_id").Str()
			if r.seen[id] {
				continue
			}
			var pos int64
			rows, err := db.Query("SELECT * FROM events WHERE event_id = $1", id)
			cols := []string{}
			if err == nil {
				cols, _ = rows.Columns()
				_ = cols
				rows.Close()
			}
			err2 := db.QueryRow("SELECT pos FROM events WHERE event_id = $1", id).Scan(&pos)
			w.t.Logf("MISSING %s for %s pos %d %v %v ts %s content %s", id, r.client.UserID, pos, err, err2, e.At("origin_server_ts"), e.At("content"))
			for _, line := range r.trace {
				var a, b int64
				fmt.Sscanf(strings.ReplaceAll(line, "s", " "), " %d -> %d", &a, &b)
				parts := strings.SplitN(line, " ", 4)
				a, _ = strconv.ParseInt(strings.TrimPrefix(parts[0], "s"), 10, 64)
				b, _ = strconv.ParseInt(strings.TrimPrefix(parts[2], "s"), 10, 64)
				if a <= pos+12 && b >= pos-12 {
					w.t.Log("   ", line)
				}
			}
		}
		if diff := cmp.Diff(ids, r.events); diff != "" {
			w.t.Errorf("the stream of %s is not what is stored: %s", r.client.UserID, diff)
		}
	}
	for i, wr := range w.writers {
		w.checkValues(wr, w.readers[i])
	}
}

// stored are the events of the room after the first.
func (w *world) stored() []harness.JSON {
	w.t.Helper()
	history := w.writers[0].client.History(w.room)
	begin := slices.IndexFunc(history, func(e harness.JSON) bool { return e.At("event_id").Str() == w.first })
	return history[begin+1:]
}

// checkEvents checks that each answered event is there once, and that nothing was made
// of one request twice.
func (w *world) checkEvents(stored []harness.JSON) {
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
				w.t.Errorf("event %s was answered and is there %d times", a.event, n)
			}
		}
	}
	for work, n := range works {
		if n != 1 {
			w.t.Errorf("%q was done %d times", work, n)
		}
	}
	if len(works) != answered {
		w.t.Errorf("%d events were answered, %d are stored", answered, len(works))
	}
	w.t.Logf("%d events were answered", answered)
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
