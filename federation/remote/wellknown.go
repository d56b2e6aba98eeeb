package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	lru "github.com/hashicorp/golang-lru/v2"

	"beep/outbound"
)

const (
	// maxWellKnown bounds a well-known file, in bytes.
	maxWellKnown = 50 << 10
	// maxRedirects bounds the redirects on the way to it.
	maxRedirects = 5
	// wellKnownTimeout bounds the whole of it: name, connections, redirects, body.
	wellKnownTimeout = 10 * time.Second

	// How long an answer is kept that says nothing of that, at least, and at most.
	wellKnownLifetime    = 24 * time.Hour
	minWellKnownLifetime = 5 * time.Minute
	maxWellKnownLifetime = 48 * time.Hour
	// How long it is kept that there is no such file: after a definite answer, and
	// after the first failure to get one, doubled with each further one.
	noWellKnownLifetime = time.Hour
	firstRetry          = time.Minute
)

// wellKnownCache knows what servers say at /.well-known/matrix/server.
type wellKnownCache struct {
	http    *http.Client
	now     func() time.Time
	turns   *turns
	entries *lru.Cache[string, wellKnown]
}

// wellKnown is what is known of one server's file.
type wellKnown struct {
	server   string    // m.server; "" if there is no file
	fetched  time.Time // when server was read
	until    time.Time // when the file is to be looked at again
	failures int       // in a row
}

func newWellKnownCache(dialer *outbound.Dialer, now func() time.Time) (*wellKnownCache, error) {
	client := dialer.Client(wellKnownTimeout, maxRedirects)
	entries, err := lru.New[string, wellKnown](maxCached)
	return &wellKnownCache{http: client, now: now, turns: newTurns(), entries: entries}, err
}

// delegate gives the server that a host delegates to, "" if there is none. The only error
// is the context's.
func (c *wellKnownCache) delegate(ctx context.Context, address string) (string, error) {
	address = strings.ToLower(address)
	if known, ok := c.fresh(address); ok {
		return known.server, nil
	}
	done, err := c.turns.take(ctx, address)
	if err != nil {
		return "", err
	}
	defer done()
	if known, ok := c.fresh(address); ok {
		return known.server, nil
	}
	known, _ := c.entries.Get(address)
	server, lifetime, err := c.fetch(ctx, address)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	known = known.after(server, lifetime, err, c.now())
	c.entries.Add(address, known)
	return known.server, nil
}

func (c *wellKnownCache) fresh(address string) (wellKnown, bool) {
	known, ok := c.entries.Get(address)
	return known, ok && c.now().Before(known.until)
}

// after is what is known after another look. A delegation outlives failures of the web
// server that tells it, though not for longer than it might have been cached; what
// follows without it would go to the wrong server.
func (w wellKnown) after(server string, lifetime time.Duration, err error, now time.Time) wellKnown {
	if err == nil {
		return wellKnown{server: server, fetched: now, until: now.Add(lifetime)}
	}
	w.failures++
	w.until = now.Add(min(firstRetry<<min(w.failures-1, 10), noWellKnownLifetime))
	if last := w.fetched.Add(maxWellKnownLifetime); !now.Before(last) {
		w.server = ""
	} else if w.server != "" && w.until.After(last) {
		w.until = last
	}
	return w
}

// fetch reads the file. An error means that nobody knows; server "" that there is none,
// or none of use.
func (c *wellKnownCache) fetch(ctx context.Context, address string) (server string, lifetime time.Duration, err error) {
	address = strings.TrimSuffix(address, ":443")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/.well-known/matrix/server", nil)
	if err != nil {
		return "", 0, err
	}
	req.Close = true // one file a day needs no connection of its own
	resp, err := c.http.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return "", 0, fmt.Errorf("status %d", resp.StatusCode)
	}
	if resp.StatusCode == http.StatusOK {
		server, err = readWellKnown(resp)
	}
	if err != nil {
		return "", 0, err
	}
	lifetime = cacheLifetime(resp.Header, c.now())
	if server == "" {
		lifetime = min(lifetime, noWellKnownLifetime)
	}
	return server, lifetime, nil
}

// readWellKnown gives m.server, "" if the file is of no use; the error is the network's.
func readWellKnown(resp *http.Response) (string, error) {
	body := &watched{from: outbound.Limit(resp.Body, maxWellKnown)}
	var file struct {
		Server string `json:"m.server"`
	}
	if err := json.UnmarshalRead(body, &file); err != nil {
		if body.err != nil && !errors.Is(body.err, outbound.ErrTooLarge) {
			return "", body.err
		}
		return "", nil
	}
	if _, _, _, err := splitServerName(file.Server); err != nil {
		return "", nil
	}
	return file.Server, nil
}

// cacheLifetime is how long an answer may be kept: what Cache-Control or else Expires
// says (RFC 9111), within the bounds above.
func cacheLifetime(h http.Header, now time.Time) time.Duration {
	lifetime := wellKnownLifetime
	if expires := h.Get("Expires"); expires != "" {
		lifetime = 0 // what is no time lies in the past (RFC 9111, section 5.3)
		if at, err := http.ParseTime(expires); err == nil {
			lifetime = at.Sub(now)
		}
	}
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				lifetime = time.Duration(seconds) * time.Second
			}
		case "no-store", "no-cache":
			return minWellKnownLifetime
		}
	}
	return max(minWellKnownLifetime, min(lifetime, maxWellKnownLifetime))
}
