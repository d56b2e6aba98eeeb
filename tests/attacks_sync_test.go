package tests

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/tests/harness"
)

// However wrong a filter, a token or a limit is, the answer is 200 or 400.
func TestAttackC20Garbage(t *testing.T) {
	filters := []string{
		`{}`, `[]`, `5`, `"x"`, `null`, `true`, `{`, ``, ` `, "\x00", `{"room":null}`, `{"room":[]}`, `{"room":{"timeline":null}}`,
		`{"room":{"timeline":{"limit":-1}}}`, `{"room":{"timeline":{"limit":0}}}`, `{"room":{"timeline":{"limit":1e9}}}`,
		`{"room":{"timeline":{"limit":9223372036854775807}}}`, `{"room":{"timeline":{"limit":99999999999999999999}}}`,
		`{"room":{"timeline":{"limit":1.5}}}`, `{"room":{"timeline":{"types":"m.room.message"}}}`, `{"room":{"timeline":{"types":[5]}}}`,
		`{"room":{"timeline":{"types":["` + strings.Repeat("*", 5000) + `"]}}}`, `{"room":{"rooms":["not a room"]}}`,
		`{"room":{"state":{"lazy_load_members":"yes"}}}`, `{"event_fields":["", ".", "a..b", "\\", "a\\."]}`, `{"event_format":"other"}`,
		`{"presence":5}`, `{"unknown":{"deeply":[1,2,3]}}`, `0`, `-1`, `9223372036854775808`, `../../etc/passwd`, `%00`, `' OR 1=1`,
	}
	tokens := []string{"s", "s-1", "s0", "s1", "s9223372036854775807", "s9223372036854775808", "s99999999999999999999999", "t1", "1", "s1_2_3", "s 1", "s1\x00", "ѕ1", "null", "-", strings.Repeat("s", 10_000), "s1.5", "s0x10", "S1"}
	limits := []string{"-1", "0", "1", "1000000", "9223372036854775807", "99999999999999999999", "1.5", "1e3", "x", "", " 1", "+1", "0x10"}
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice").Unchecked()
		room := alice.CreateRoom(nil)
		event := numbered(alice, room, 120)[60]
		messages := harness.Path("/v3/rooms/%s/messages", room)
		contextOf := harness.Path("/v3/rooms/%s/context/%s", room, event)
		check := func(path string, query ...string) *harness.Response {
			t.Helper()
			r := alice.Get(path, query...)
			if r.Status != 200 && r.Status != 400 && r.Status != 404 || r.Status != 200 && !strings.HasPrefix(r.At("errcode").Str(), "M_") {
				t.Errorf("%s %.100q: status %d %.200s", path, query, r.Status, r.Body)
			}
			return r
		}
		for _, filter := range filters {
			check("/v3/sync", "filter", filter)
			check(messages, "dir", "b", "filter", filter)
			check(contextOf, "filter", filter)
			r := alice.Post(harness.Path("/v3/user/%s/filter", alice.UserID), filter)
			if r.Status != 200 && r.Status != 400 {
				t.Errorf("filter %.100q: status %d %.200s", filter, r.Status, r.Body)
			}
		}
		for _, token := range tokens {
			check("/v3/sync", "since", token, "timeout", "0")
			for _, dir := range []string{"b", "f"} {
				check(messages, "dir", dir, "from", token)
				check(messages, "dir", dir, "to", token)
			}
			check(harness.Path("/v3/rooms/%s/members", room), "at", token)
		}
		for _, limit := range limits {
			if n := len(check(messages, "dir", "b", "limit", limit).At("chunk").List()); n > 1000 {
				t.Errorf("limit %q: %d events", limit, n)
			}
			check(contextOf, "limit", limit)
			check("/v3/sync", "timeout", limit, "set_presence", "offline")
		}
	})
}

// A token from the future, as after a restored backup, is answered and not waited for.
func TestFutureToken(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		alice.Sync()
		alice.Since = "s" + fmt.Sprint(int64(1)<<50)
		r := alice.Get("/v3/sync", "since", alice.Since)
		if r.Status != 200 {
			return // refused at once is as good
		}
		alice.Since = r.At("next_batch").Str()
		event := alice.Text(room, "after")
		alice.SyncUntilEvent(room, event)
	})
}

// cutting is a transport whose connections break after a random number of bytes of the
// request, or a random time.
func cutting(random func(n int) int) http.RoundTripper {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &cutConn{Conn: conn, left: random(700)}, nil
	}}
}

type cutConn struct {
	net.Conn
	left int
}

// Write breaks the connection in the middle of a request, or when it is whole.
func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) < c.left {
		c.left -= len(b)
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:min(c.left, len(b))])
	if err == nil {
		err = c.Close()
	}
	return n, err
}

// Clients that hang up in the middle of a request leave no position open: everybody else
// goes on hearing of what happens.
func TestAttackC29HangingUp(t *testing.T) {
	harness.Each(t, func(t *testing.T, srv *harness.Server) {
		alice, bob := srv.Register(t, "alice"), srv.Register(t, "bob")
		room := alice.PublicRoom(bob)
		target := alice.Text(room, "x")
		bob.Sync()
		paths := []struct {
			method, path string
			body         object
		}{
			{"PUT", "/v3/rooms/" + room + "/send/org.example.x/%d", object{"n": 1}},
			{"PUT", "/v3/rooms/" + room + "/state/org.example.x/%d", object{"n": 1}},
			{"POST", "/v3/rooms/" + room + "/receipt/m.read/" + target + "?n=%d", object{}},
			{"PUT", "/v3/user/" + alice.UserID + "/account_data/org.example.x%d", object{"n": 1}},
			{"PUT", "/v3/presence/" + alice.UserID + "/status?n=%d", object{"presence": "online", "status_msg": "x"}},
			{"PUT", "/v3/rooms/" + room + "/typing/" + alice.UserID + "?n=%d", object{"typing": true, "timeout": 1000}},
			{"PUT", "/v3/profile/" + alice.UserID + "/displayname?n=%d", object{"displayname": "x"}},
		}
		random := rand.New(rand.NewPCG(29, 29))
		var mu sync.Mutex
		draw := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(n)
		}
		cut, cancelled := alice.Over(cutting(draw)), alice.Unchecked()
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := range 50 {
					p := paths[draw(len(paths))]
					path := fmt.Sprintf(p.path, worker*1000+i)
					if i%2 == 0 {
						_, _ = cut.Try(t.Context(), p.method, path, p.body) // it may fail at any point
						continue
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(draw(5000))*time.Microsecond)
					_, _ = cancelled.Try(ctx, p.method, path, p.body)
					cancel()
				}
			})
		}
		all.Wait()
		event := alice.Text(room, "after all that")
		bob.SyncUntilEvent(room, event)
		sendReceipt(alice, room, "m.read", event, object{}).OK()
		bob.SyncUntil("the receipt", func(r *harness.Response) bool { return receipt(r, room, event, "m.read", alice.UserID).Exists() })
		bob.Put(globalData(bob, "org.example.after"), object{"n": 1}).OK()
		bob.SyncUntil("the account data", func(r *harness.Response) bool {
			return r.At("account_data", "events").Find("type", "org.example.after").Exists()
		})
	})
}

func TestAttackC22ResentAfterKill(t *testing.T) {
	harness.EachOwn(t, harness.Options{}, func(t *testing.T, srv *harness.Server) {
		alice := srv.Register(t, "alice")
		room := alice.CreateRoom(nil)
		target := alice.Text(room, "to be redacted")
		message := harness.Path("/v3/rooms/%s/send/m.room.message/txn", room)
		redaction := harness.Path("/v3/rooms/%s/redact/%s/txn", room, target)
		content := object{"msgtype": "m.text", "body": "once"}
		first, second := alice.Put(message, content).OK().At("event_id").Str(), alice.Put(redaction, object{}).OK().At("event_id").Str()
		for range 3 {
			if err := errors.Join(srv.Kill(), srv.Start()); err != nil {
				t.Fatal(err)
			}
			if got := alice.Put(message, content).OK().At("event_id").Str(); got != first {
				t.Errorf("the message became %s, it was %s", got, first)
			}
			if got := alice.Put(redaction, object{}).OK().At("event_id").Str(); got != second {
				t.Errorf("the redaction became %s, it was %s", got, second)
			}
		}
		if n := len(bodies(alice.History(room))); n != 1 {
			t.Errorf("%d messages", n)
		}
	})
}
