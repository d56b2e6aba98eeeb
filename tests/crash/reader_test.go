package crash

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"beep/tests/harness"
)

// reader follows the room by sync, from the first event to the last.
type reader struct {
	world  *world
	client *harness.Client
	goal   atomic.Pointer[goal] // once it is known
	events []string
	seen   map[string]bool
	data   int64 // the last value of the account data
}

const readFilter = `{"room":{"timeline":{"limit":20}},"presence":{"types":[]}}`

// goal are the events that a reader has to get.
type goal struct {
	events []string
	by     time.Time
}

func (r *reader) read() {
	for !r.done() {
		query := harness.Query("since", r.client.Since, "timeout", "1000", "filter", readFilter, "set_presence", "offline")
		answer := persist(r.world.t, r.client, http.MethodGet, "/v3/sync"+query, nil)
		if answer == nil {
			return
		}
		r.take(answer)
		r.client.Since = answer.At("next_batch").Str()
	}
}

// done tells whether the reader has got everything, or waits in vain.
func (r *reader) done() bool {
	goal := r.goal.Load()
	if goal == nil {
		return false
	}
	lacking := slices.DeleteFunc(slices.Clone(goal.events), func(id string) bool { return r.seen[id] })
	if len(lacking) > 0 && time.Now().After(goal.by) {
		r.world.t.Errorf("%s does not get %d of %d events: %.3q", r.client.UserID, len(lacking), len(goal.events), lacking)
		return true
	}
	return len(lacking) == 0 || r.world.t.Failed()
}

// take notes the events of an answer, and those of a gap before it.
func (r *reader) take(answer *harness.Response) {
	timeline := answer.Joined(r.world.room).At("timeline")
	if timeline.At("limited").Bool() {
		r.note(r.gap(timeline.At("prev_batch").Str(), r.client.Since))
	}
	r.note(timeline.At("events").List())
	if e := answer.At("account_data", "events").Find("type", "org.example.data"); e.Exists() {
		n := e.At("content", "n").Int()
		if n < r.data { // the same again when a request was repeated whose answer was lost
			r.world.t.Errorf("account data went from %d to %d", r.data, n)
		}
		r.data = n
	}
}

// gap are the events between two tokens, oldest first.
func (r *reader) gap(from, to string) []harness.JSON {
	var all []harness.JSON
	for from != "" {
		query := harness.Query("dir", "b", "from", from, "to", to, "limit", "100")
		page := persist(r.world.t, r.client, http.MethodGet, harness.Path("/v3/rooms/%s/messages", r.world.room)+query, nil)
		if page == nil {
			break
		}
		all = append(all, page.At("chunk").List()...)
		from = page.At("end").Str()
	}
	slices.Reverse(all)
	return all
}

func (r *reader) note(events []harness.JSON) {
	for _, e := range events {
		id := e.At("event_id").Str()
		if r.seen[id] {
			r.world.t.Errorf("%s got event %s twice", r.client.UserID, id)
		}
		r.seen[id] = true
		r.events = append(r.events, id)
	}
}
