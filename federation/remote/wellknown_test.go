package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"beep/outbound"
)

// wellKnownServer answers for any name under .wk.test and counts.
type wellKnownServer struct {
	w       *world
	port    string
	handler atomic.Pointer[http.HandlerFunc]
	count   atomic.Int64
}

func newWellKnownServer(t *testing.T, w *world) *wellKnownServer {
	t.Helper()
	s := &wellKnownServer{w: w}
	server := w.serve(t, "127.0.0.1:0", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.count.Add(1)
		(*s.handler.Load())(rw, r)
	}), "*.wk.test")
	s.port = portOf(server)
	w.client.resolver.wellKnownPort = s.port
	return s
}

func (s *wellKnownServer) does(handler http.HandlerFunc) { s.handler.Store(&handler) }

// says makes it answer with a status, a text, and headers in pairs.
func (s *wellKnownServer) says(status int, text string, headers ...string) {
	s.does(func(rw http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			rw.Header().Set(headers[i], headers[i+1])
		}
		rw.WriteHeader(status)
		io.WriteString(rw, text)
	})
}

// delegate asks for a name whose address is the server's.
func (s *wellKnownServer) delegate(t *testing.T, name string) string {
	t.Helper()
	s.w.dns.Address(name, "127.0.0.1")
	server, err := s.w.client.resolver.wellKnown.delegate(t.Context(), name+":"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func TestWellKnownContents(t *testing.T) {
	t.Parallel()
	s := newWellKnownServer(t, newWorld(t))
	padded := func(n int) string {
		text := `{"m.server":"to.test","x":""}`
		return text[:len(text)-2] + strings.Repeat("x", n-len(text)) + text[len(text)-2:]
	}
	for i, c := range []struct {
		status int
		text   string
		want   string
	}{
		{200, `{"m.server":"to.test"}`, "to.test"},
		{200, ` {"m.server":"to.test:443","other":[1,{}]} `, "to.test:443"},
		{200, `{"m.server":"[::1]:443"}`, "[::1]:443"},
		{200, padded(50 << 10), "to.test"},
		{200, padded(50<<10 + 1), ""},
		{404, `{"m.server":"to.test"}`, ""}, {204, ``, ""}, {201, `{"m.server":"to.test"}`, ""},
		{200, ``, ""}, {200, `{}`, ""}, {200, `[]`, ""}, {200, `"to.test"`, ""}, {200, `{"m.server":5}`, ""},
		{200, `{"m.server":null}`, ""}, {200, `{"M.Server":"to.test"}`, ""}, {200, `{"m.server":"to.test"`, ""},
		{200, `{"m.server":"to.test","m.server":"other.test"}`, ""}, {200, `{"m.server":"to.test"} x`, ""},
		{200, `{"m.server":"to.test/path"}`, ""}, {200, `{"m.server":"https://to.test"}`, ""}, {200, `{"m.server":"to.test:0"}`, ""},
		{200, `{"m.server":""}`, ""}, {200, `{"m.server":"to.test:99999"}`, ""}, {200, "{\"m.server\":\"to\xff.test\"}", ""},
		{200, strings.Repeat(`{"m.server":`, 4000), ""},
	} {
		s.says(c.status, c.text)
		if got := s.delegate(t, fmt.Sprintf("c%d.wk.test", i)); got != c.want {
			t.Errorf("%d %.60s: %q, want %q", c.status, c.text, got, c.want)
		}
	}
}

func TestWellKnownRedirects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newWellKnownServer(t, w)
	w.dns.Address("other.wk.test", "127.0.0.1")
	w.dns.Address("private.wk.test", "10.0.0.1")
	s.does(func(rw http.ResponseWriter, r *http.Request) {
		var n int
		if strings.HasPrefix(r.Host, "hops") {
			fmt.Sscanf(r.Host, "hops%d", &n)
			if hop := r.URL.Query().Get("hop"); hop != "" {
				fmt.Sscan(hop, &n)
			}
		}
		switch {
		case n > 0:
			http.Redirect(rw, r, fmt.Sprintf("?hop=%d", n-1), http.StatusFound)
		case strings.HasPrefix(r.Host, "loop"):
			http.Redirect(rw, r, r.URL.Path, http.StatusTemporaryRedirect)
		case strings.HasPrefix(r.Host, "plain"):
			http.Redirect(rw, r, "http://other.wk.test/", http.StatusFound)
		case strings.HasPrefix(r.Host, "inside"):
			http.Redirect(rw, r, "https://10.1.2.3/", http.StatusFound)
		case strings.HasPrefix(r.Host, "named"):
			http.Redirect(rw, r, "https://private.wk.test/", http.StatusFound)
		case strings.HasPrefix(r.Host, "away"):
			http.Redirect(rw, r, "https://other.wk.test:"+s.port+"/elsewhere", http.StatusMovedPermanently)
		default:
			io.WriteString(rw, `{"m.server":"to.test"}`)
		}
	})
	for name, want := range map[string]string{"hops1": "to.test", "hops5": "to.test", "hops6": "", "loop": "", "plain": "", "away": "to.test"} {
		if got := s.delegate(t, name+".wk.test"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"inside.wk.test", "named.wk.test"} {
		w.dns.Address(name, "127.0.0.1")
		_, _, err := w.client.resolver.wellKnown.fetch(t.Context(), name+":"+s.port)
		if _, ok := errors.AsType[*outbound.RefusedError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSlowWellKnown: a byte now and then keeps nobody waiting beyond the deadline.
func TestSlowWellKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newWellKnownServer(t, w)
	w.client.resolver.wellKnown.http.Timeout = 200 * time.Millisecond
	s.does(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, `{"m.server":"to.test"`)
		for r.Context().Err() == nil {
			io.WriteString(rw, " ")
			rw.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	if got := s.delegate(t, "slow.wk.test"); got != "" {
		t.Errorf("%q", got)
	}
	if got := s.delegate(t, "slow.wk.test"); got != "" || s.count.Load() != 1 {
		t.Errorf("%q; asked %d times", got, s.count.Load())
	}
}

func TestWellKnownIsCached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newWellKnownServer(t, w)
	s.says(200, `{"m.server":"one.test"}`, "Cache-Control", "max-age=3600")
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { s.delegate(t, "cached.wk.test") })
	}
	group.Wait()
	s.says(200, `{"m.server":"two.test"}`)
	w.wait(59 * time.Minute)
	if got := s.delegate(t, "cached.wk.test"); got != "one.test" || s.count.Load() != 1 {
		t.Errorf("within the hour: %q; asked %d times", got, s.count.Load())
	}
	w.wait(2 * time.Minute)
	if got := s.delegate(t, "cached.wk.test"); got != "two.test" || s.count.Load() != 2 {
		t.Errorf("after the hour: %q; asked %d times", got, s.count.Load())
	}
}

func TestAbsenceIsCached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newWellKnownServer(t, w)
	s.says(404, "")
	s.delegate(t, "absent.wk.test")
	s.says(200, `{"m.server":"to.test"}`)
	w.wait(59 * time.Minute)
	if got := s.delegate(t, "absent.wk.test"); got != "" {
		t.Errorf("within the hour: %q", got)
	}
	w.wait(2 * time.Minute)
	if got := s.delegate(t, "absent.wk.test"); got != "to.test" {
		t.Errorf("after the hour: %q", got)
	}
}

func TestFailuresBackOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newWellKnownServer(t, w)
	s.says(500, "")
	for i, wait := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour} {
		s.delegate(t, "failing.wk.test")
		w.wait(wait - 20*time.Second)
		s.delegate(t, "failing.wk.test")
		if n := s.count.Load(); n != int64(i+1) {
			t.Fatalf("after %d failures it is asked within %s", n-1, wait)
		}
		w.wait(40 * time.Second)
	}
}

// TestDelegationOutlivesFailures: a web server that is down for a while does not send everybody to
// another port. What it says when it is there counts at once.
func TestDelegationOutlivesFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newWellKnownServer(t, w)
	s.says(200, `{"m.server":"to.test"}`, "Cache-Control", "max-age=3600")
	for _, name := range []string{"down.wk.test", "gone.wk.test"} {
		s.delegate(t, name)
	}
	s.says(503, "")
	w.wait(2 * time.Hour)
	if got := s.delegate(t, "down.wk.test"); got != "to.test" {
		t.Errorf("after two hours: %q", got)
	}
	w.wait(45*time.Hour + 30*time.Minute)
	if got := s.delegate(t, "down.wk.test"); got != "to.test" {
		t.Errorf("after 47.5 hours: %q", got)
	}
	w.wait(31 * time.Minute)
	if got := s.delegate(t, "down.wk.test"); got != "" {
		t.Errorf("after 48 hours: %q", got)
	}
	s.says(404, "")
	if got := s.delegate(t, "gone.wk.test"); got != "" {
		t.Errorf("a file that is gone: %q", got)
	}
}

// TestWaitingForAnother: whoever waits for another's look takes over if that one gives up.
func TestWaitingForAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newWellKnownServer(t, w)
	w.dns.Address("taken.wk.test", "127.0.0.1")
	arrived := make(chan struct{}, 1)
	var first atomic.Bool
	s.does(func(rw http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			arrived <- struct{}{}
			<-r.Context().Done()
			return
		}
		io.WriteString(rw, `{"m.server":"to.test"}`)
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := w.client.resolver.wellKnown.delegate(ctx, "taken.wk.test:"+s.port)
		ended <- err
	}()
	<-arrived
	got := make(chan string)
	go func() { got <- s.delegate(t, "taken.wk.test") }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	if server := <-got; server != "to.test" {
		t.Errorf("the second: %q", server)
	}
}

func TestCacheLifetime(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		cacheControl, expires string
		want                  time.Duration
	}{
		{"", "", 24 * time.Hour},
		{"max-age=3600", "", time.Hour}, {"public, Max-Age=\"3600\"", "", time.Hour}, {"max-age=3600", at(2 * time.Hour), time.Hour},
		{"max-age=1", "", 5 * time.Minute}, {"max-age=0", "", 5 * time.Minute}, {"no-store", "", 5 * time.Minute},
		{"max-age=9999999", "", 48 * time.Hour}, {"max-age=99999999999999999999", "", 24 * time.Hour}, {"max-age=-5", "", 24 * time.Hour},
		{"max-age=3600, no-cache", "", 5 * time.Minute},
		{"", at(2 * time.Hour), 2 * time.Hour}, {"", at(-time.Hour), 5 * time.Minute}, {"", "0", 5 * time.Minute}, {"", at(1000 * time.Hour), 48 * time.Hour},
	} {
		h := http.Header{}
		if c.cacheControl != "" {
			h.Set("Cache-Control", c.cacheControl)
		}
		if c.expires != "" {
			h.Set("Expires", c.expires)
		}
		if got := cacheLifetime(h, now); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.cacheControl, c.expires, got, c.want)
		}
	}
}

func FuzzWellKnown(f *testing.F) {
	f.Add(`{"m.server":"to.test:443"}`, "max-age=5")
	f.Add(`{"m.server":"[::1]:443","m.server":"x"}`, "no-store,,max-age=\"")
	f.Fuzz(func(t *testing.T, text, cacheControl string) {
		resp := &http.Response{Body: io.NopCloser(strings.NewReader(text))}
		server, err := readWellKnown(resp)
		if err != nil {
			t.Fatal(err)
		}
		if server != "" {
			if _, _, _, err := splitServerName(server); err != nil {
				t.Error(err)
			}
		}
		lifetime := cacheLifetime(http.Header{"Cache-Control": {cacheControl}}, time.Now())
		if lifetime < minWellKnownLifetime || lifetime > maxWellKnownLifetime {
			t.Error(lifetime)
		}
	})
}
