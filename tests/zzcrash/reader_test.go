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
	end    atomic.Pointer[string] // the last event, once it is known; "" to stop at once
	events []string
	seen   map[string]bool
	trace  []string
	data   int64 // the last value of the account data
}

const readFilter = `{"room":{"timeline":{"limit":20}},"presence":{"types":[]}}`

func (r *reader) read() {
	for {
		if end := r.end.Load(); end != nil && (*end == "" || r.seen[*end]) {
			return
		}
		query := harness.Query("since", r.client.Since, "timeout", "1000", "filter", readFilter, "set_presence", "offline")
		answer := persist(r.world.t, r.client, http.MethodGet, "/v3/sync"+query, nil)
		if answer == nil {
			return
		}
		ids := ""
		for _, e := range answer.Joined(r.world.room).At("timeline", "events").List() {
			ids += e.At("event_id").Str()[:6] + " "
		}
		r.trace = append(r.trace, r.client.Since+" -> "+answer.At("next_batch").Str()+" limited="+answer.Joined(r.world.room).At("timeline", "limited").String()+" prev="+answer.Joined(r.world.room).At("timeline", "prev_batch").Str()+" n="+ids+" at "+time.Now().Format("15:04:05.000"))
		r.take(answer)
		r.client.Since = answer.At("next_batch").Str()
	}
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
