package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"beep/matrix"
)

// testLimiter is a limiter with a clock of its own.
func testLimiter(rates map[string]Rate) (*Limiter, *time.Duration) {
	l := NewLimiter(rates, prometheus.NewRegistry())
	clock := new(time.Duration)
	l.now = func() time.Duration { return *clock }
	return l, clock
}

func wait(t *testing.T, err error) time.Duration {
	t.Helper()
	var told *matrix.Error
	if !errors.As(err, &told) || !errors.Is(err, matrix.LimitExceeded) {
		t.Fatalf("not a limit: %v", err)
	}
	return told.RetryAfter
}

func TestLimiter(t *testing.T) {
	l, clock := testLimiter(map[string]Rate{"login": {PerSecond: 0.5, Burst: 3}, "free": {}, "single": {PerSecond: 1}})
	for i := range 3 {
		if err := l.Allow("login", "a"); err != nil {
			t.Fatalf("%d within the burst: %v", i, err)
		}
	}
	if got := wait(t, l.Allow("login", "a")); got != 2*time.Second {
		t.Errorf("told to wait %s", got)
	}
	if err := l.Allow("login", "b"); err != nil {
		t.Errorf("another key: %v", err)
	}
	*clock += 2*time.Second - 1
	if got := wait(t, l.Allow("login", "a")); got != 1 {
		t.Errorf("told to wait %s", got)
	}
	*clock++
	if err := l.Allow("login", "a"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	wait(t, l.Allow("login", "a"))
	l.Forgive("login", "a")
	if err := l.Allow("login", "a"); err != nil {
		t.Errorf("after it was forgiven: %v", err)
	}
	*clock += time.Hour
	for i := range 4 {
		if err := l.Allow("login", "a"); (err != nil) != (i == 3) {
			t.Errorf("%d after an hour: %v", i, err)
		}
	}
	if l.Allow("single", "a") != nil || l.Allow("single", "a") == nil {
		t.Error("a rate without a burst is one at a time")
	}
	for range 1000 {
		if err := l.Allow("free", "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Allow("unknown", "a"); err == nil || errors.Is(err, matrix.LimitExceeded) {
		t.Errorf("an unknown kind: %v", err)
	}
	var none *Limiter
	none.Forgive("login", "a")
	if err := none.Allow("login", "a"); err != nil {
		t.Errorf("no limiter: %v", err)
	}
}

// TestLimiterMemory: a client of many addresses fills the table, not the memory.
func TestLimiterMemory(t *testing.T) {
	l, _ := testLimiter(map[string]Rate{"login": {PerSecond: 1, Burst: 1}})
	for i := range 2 * limitedKeys {
		if err := l.Allow("login", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.full.Len(); got != limitedKeys {
		t.Errorf("%d keys are kept", got)
	}
}

func TestRouteLimit(t *testing.T) {
	l, clock := testLimiter(map[string]Rate{"message": {PerSecond: 1, Burst: 1}})
	rt := NewRouter(Options{Limiter: l, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	byHeader := func(r *http.Request) (*caller, error) {
		if r.Header.Get("User") == "" {
			return nil, nil
		}
		return &caller{user: r.Header.Get("User"), unlimited: r.Header.Get("User") == "@bot:x"}, nil
	}
	GET(rt, "/limited/{id}", byHeader, func(_ context.Context, _ *caller, _ *struct {
		ID string `path:"id"`
	}) (*Empty, error) {
		return &Empty{}, nil
	}, Limit("message"))
	s := serveTest(t, rt)
	for i, tc := range []struct {
		path, user, address string
		status              int
	}{
		{"/limited/1", "@a:x", "192.0.2.1", 200},
		{"/limited/2", "@a:x", "192.0.2.2", 429},
		{"/limited/1", "@b:x", "192.0.2.1", 200},
		{"/limited/1", "", "192.0.2.1", 200},
		{"/limited/1?x=y", "", "192.0.2.1", 429},
		{"/limited/%31", "", "192.0.2.1:99", 429},
		{"/limited/1", "", "192.0.2.2", 200},
		{"/limited/1", "", "2001:db8::1", 200},
		{"/limited/1", "", "2001:db8::ffff:2", 429},
		{"/limited/1", "", "2001:db8:0:1::1", 200},
		{"/limited/1", "@bot:x", "", 200},
		{"/limited/1", "@bot:x", "", 200},
	} {
		resp := send(t, s, "GET", tc.path, "", "User", tc.user, "X-Forwarded-For", tc.address)
		if resp.StatusCode != tc.status || (resp.Header.Get("Retry-After") == "1") != (tc.status == 429) {
			t.Errorf("%d: %+v: %d, Retry-After %q", i, tc, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
	*clock += time.Second
	if resp := send(t, s, "GET", "/limited/1", "", "User", "@a:x"); resp.StatusCode != 200 {
		t.Errorf("after the wait: %d", resp.StatusCode)
	}
}
