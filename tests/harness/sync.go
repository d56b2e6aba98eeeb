package harness

import (
	"testing"
	"time"
)

const (
	// pollTime is the timeout of a long poll, in ms, as text.
	pollTime = "5000"
	// untilTime bounds how long a test waits for something to arrive.
	untilTime = 30 * time.Second
	// awaitTime bounds how long it waits for servers to find each other again.
	awaitTime = 5 * time.Minute
)

// Sync asks for what has happened since the last time, without waiting, and remembers
// where it ends. The query are pairs of key and value.
func (c *Client) Sync(query ...string) *Response {
	c.t.Helper()
	c.Settle()
	return c.sync(query)
}

// Settle waits until everybody can hear of all that the server has answered so far.
func (c *Client) Settle() {
	c.t.Helper()
	if err := c.Server.settle(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *Client) sync(query []string) *Response {
	c.t.Helper()
	r := c.Get("/v3/sync", c.sinceQuery(query)...).OK()
	c.Since = r.At("next_batch").Str()
	if c.Since == "" {
		c.t.Fatalf("sync without next_batch: %s", r.Body)
	}
	return r
}

func (c *Client) sinceQuery(query []string) []string {
	if c.Since != "" {
		query = append([]string{"since", c.Since}, query...)
	}
	return query
}

// SyncUntil syncs again and again until an answer satisfies arrived, and gives that answer.
func (c *Client) SyncUntil(what string, arrived func(*Response) bool, query ...string) *Response {
	c.t.Helper()
	for deadline := time.Now().Add(untilTime); time.Now().Before(deadline); {
		r := c.sync(append([]string{"timeout", pollTime}, query...))
		if arrived(r) {
			return r
		}
	}
	c.t.Fatalf("this did not arrive in sync within %v: %s", untilTime, what)
	return nil
}

// SyncUntilEvent syncs until the timeline of a room that the user is in has the event.
func (c *Client) SyncUntilEvent(room, event string) *Response {
	c.t.Helper()
	return c.SyncUntil("event "+event, func(r *Response) bool { return r.Timeline(room).Find("event_id", event).Exists() })
}

// Joined is a room's part of a sync answer, of those that the user is in.
func (r *Response) Joined(room string) JSON { return r.At("rooms", "join", room) }

// Timeline are the events of a joined room in a sync answer.
func (r *Response) Timeline(room string) JSON { return r.Joined(room).At("timeline", "events") }

// StateEvents are the state events of a joined room in a sync answer.
func (r *Response) StateEvents(room string) JSON { return r.Joined(room).At("state", "events") }

// Ephemeral are the ephemeral events of a joined room in a sync answer.
func (r *Response) Ephemeral(room string) JSON { return r.Joined(room).At("ephemeral", "events") }

// Await waits until something is so.
func Await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(awaitTime); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this did not happen within %v: %s", awaitTime, what)
		}
	}
}
