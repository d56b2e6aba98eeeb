package web

import (
	"bufio"
	"context"
	stdjson "encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// table has the shapes of path that the specification uses.
var table = []Route{
	{"GET", "/.well-known/matrix/client"},
	{"GET", "/_matrix/client/versions"},
	{"GET", "/_matrix/client/v3/login"},
	{"POST", "/_matrix/client/v3/login"},
	{"POST", "/_matrix/client/v3/account/3pid/email/requestToken"},
	{"GET", "/_matrix/client/v3/profile/{userID}"},
	{"GET", "/_matrix/client/v3/profile/{userID}/displayname"},
	{"PUT", "/_matrix/client/v3/profile/{userID}/displayname"},
	{"GET", "/_matrix/client/v3/profile/{userID}/{field}"},
	{"DELETE", "/_matrix/client/v3/profile/{userID}/{field}"},
	{"GET", "/_matrix/client/v3/rooms/{roomID}/state"},
	{"PUT", "/_matrix/client/v3/rooms/{roomID}/state/{type}"},
	{"PUT", "/_matrix/client/v3/rooms/{roomID}/state/{type}/{$}"},
	{"PUT", "/_matrix/client/v3/rooms/{roomID}/state/{type}/{stateKey}"},
	{"PUT", "/_matrix/client/v3/rooms/{roomID}/send/{type}/{txnID}"},
	{"GET", "/_matrix/client/v3/pushrules/{$}"},
	{"GET", "/_matrix/client/v3/pushrules/global/{$}"},
	{"GET", "/_matrix/client/v3/pushrules/global/{kind}/{ruleID}"},
	{"DELETE", "/_matrix/client/v3/directory/room/{alias}"},
	{"GET", "/_matrix/client/v1/rooms/{roomID}/relations/{eventID}/{relType}/{eventType}"},
	{"POST", "/_matrix/media/v3/upload"},
	{"POST", "/_matrix/media/v1/create"},
	{"GET", "/_matrix/media/v1/both"},
	{"GET", "/_matrix/media/v3/both"},
	{"GET", "/_matrix/media/v3/both/{$}"},
	{"GET", "/_matrix/media/v1/both/{$}"},
	{"GET", "/_matrix/media/v3/download/{server}/{mediaID}/{name}"},
	{"PUT", "/_matrix/federation/v1/send/{txnID}"},
	{"GET", "/_synapse/admin/v1/register"},
	{"GET", "/health/live"},
}

// recorder tells which pattern answered, and with which wildcards.
type recorder struct {
	mu   sync.Mutex
	runs []string
}

func (c *recorder) ran() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	runs := c.runs
	c.runs = nil
	return runs
}

// register enters a route whose handler does nothing but to be recorded. The handler is
// built below the typed functions, because the table has routes of all shapes.
func (c *recorder) register(rt *Router, line Route) {
	plan := &plan{path: make(map[string]field)}
	for _, name := range wildcards(line.Pattern) {
		plan.path[name] = field{}
	}
	rt.add(&route{
		Route:   line,
		options: routeOptions{maxBody: rt.maxBody},
		metrics: rt.metrics.forRoute(line.Method, line.Pattern),
		plan:    plan,
		serve: func(x *exchange) error {
			values := append([]string{line.Method, line.Pattern}, x.match.values[:x.match.n]...)
			c.mu.Lock()
			c.runs = append(c.runs, strings.Join(values, " "))
			c.mu.Unlock()
			return x.writeJSON(200, Empty{})
		},
	})
}

func tableServer(t *testing.T) (*httptest.Server, *recorder) {
	t.Helper()
	rt := NewRouter(Options{})
	c := &recorder{}
	for _, r := range table {
		c.register(rt, r)
	}
	return serveTest(t, rt), c
}

func serveTest(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// raw sends a request as it stands, which net/http's client would clean up first.
func raw(t *testing.T, s *httptest.Server, text string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func rawPath(t *testing.T, s *httptest.Server, method, path string) *http.Response {
	t.Helper()
	return raw(t, s, method+" "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

func errcode(t *testing.T, resp *http.Response) string {
	t.Helper()
	var body struct{ Errcode, Error string }
	if err := stdjson.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Errorf("%d: not a JSON error: %v", resp.StatusCode, err)
	}
	return body.Errcode
}

func TestDispatch(t *testing.T) {
	s, c := tableServer(t)
	v3 := "/_matrix/client/v3"
	for _, tc := range []struct{ method, path, want string }{
		{"GET", v3 + "/login", "GET " + v3 + "/login"},
		{"HEAD", v3 + "/login", "GET " + v3 + "/login"},
		{"GET", "/_matrix/client/r0/login", "GET " + v3 + "/login"},
		{"GET", "/_matrix/client/api/v1/login?a=b", "GET " + v3 + "/login"},
		{"GET", "http://elsewhere" + v3 + "/login", "GET " + v3 + "/login"},
		{"POST", "/_matrix/media/r0/upload", "POST /_matrix/media/v3/upload"},
		{"POST", "/_matrix/media/v1/upload", "POST /_matrix/media/v3/upload"},
		{"POST", "/_matrix/media/v1/create", "POST /_matrix/media/v1/create"},
		{"GET", "/_matrix/media/v1/both", "GET /_matrix/media/v1/both"},
		{"GET", "/_matrix/media/v3/both", "GET /_matrix/media/v3/both"},
		{"GET", "/_matrix/media/v1/both/", "GET /_matrix/media/v1/both/{$}"},
		{"GET", "/_matrix/media/r0/both/", "GET /_matrix/media/v3/both/{$}"},
		{"GET", v3 + "/profile/@a:b/displayname", "GET " + v3 + "/profile/{userID}/displayname @a:b"},
		{"DELETE", v3 + "/profile/@a:b/displayname", "DELETE " + v3 + "/profile/{userID}/{field} @a:b displayname"},
		{"GET", v3 + "/profile/@a:b/m.tz", "GET " + v3 + "/profile/{userID}/{field} @a:b m.tz"},
		{"PUT", v3 + "/rooms/!r/state/t", "PUT " + v3 + "/rooms/{roomID}/state/{type} !r t"},
		{"PUT", v3 + "/rooms/!r/state/t/", "PUT " + v3 + "/rooms/{roomID}/state/{type}/{$} !r t"},
		{"PUT", v3 + "/rooms/!r/state/t/k", "PUT " + v3 + "/rooms/{roomID}/state/{type}/{stateKey} !r t k"},
		{"PUT", v3 + "/rooms/%21r%2Fs%3Ah/state/t/%2F%2f%23", "PUT " + v3 + "/rooms/{roomID}/state/{type}/{stateKey} !r/s:h t //#"},
		{"DELETE", v3 + "/directory/room/%23a%2Fb:c", "DELETE " + v3 + "/directory/room/{alias} #a/b:c"},
		{"PUT", v3 + "/rooms/!r/send/a+b/%20%252e", "PUT " + v3 + "/rooms/{roomID}/send/{type}/{txnID} !r a+b  %2e"},
		{"PUT", v3 + "/rooms/!r/send/..a/...", "PUT " + v3 + "/rooms/{roomID}/send/{type}/{txnID} !r ..a ..."},
		{"GET", v3 + "/pushrules/", "GET " + v3 + "/pushrules/{$}"},
	} {
		resp := rawPath(t, s, tc.method, tc.path)
		if diff := cmp.Diff([]string{tc.want}, c.ran()); diff != "" || resp.StatusCode != 200 {
			t.Errorf("%s %s: status %d (-want +got)\n%s", tc.method, tc.path, resp.StatusCode, diff)
		}
	}
}

func TestUnknown(t *testing.T) {
	s, c := tableServer(t)
	v3 := "/_matrix/client/v3"
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/nothing", 404, ""},
		{"GET", v3, 404, ""},
		{"GET", v3 + "/pushrules", 404, ""},
		{"GET", v3 + "/rooms//state", 404, ""},
		{"GET", "/" + v3 + "/login", 404, ""},
		{"GET", v3 + "/log%69n", 404, ""},
		{"GET", "/%5fmatrix/client/v3/login", 404, ""},
		{"GET", "/_matrix/x/client/v3/login", 404, ""},
		{"GET", "/_matrix/x/static/..", 404, ""},
		{"GET", "/x/_synapse/admin/v1/register", 404, ""},
		{"GET", "/_matrix/_matrix/client/v3/login", 404, ""},
		{"GET", "/_matrix/client/v3/_matrix/client/v3/login", 404, ""},
		{"GET", v3 + "/x/../login", 404, ""},
		{"GET", v3 + "/./login", 404, ""},
		{"GET", v3 + "/%2e/login", 404, ""},
		{"GET", v3 + "/profile/..", 404, ""},
		{"GET", v3 + "/profile/%2E%2e", 404, ""},
		{"GET", v3 + "/profile/x%2f..%2f..%2f..%2f..%2f_synapse", 404, ""},
		{"GET", strings.Repeat("/x", 20_000), 404, ""},
		{"DELETE", v3 + "/login", 405, "GET, HEAD, OPTIONS, POST"},
		{"PATCH", v3 + "/profile/@a:b/displayname", 405, "DELETE, GET, HEAD, OPTIONS, PUT"},
		{"HEAD", v3 + "/account/3pid/email/requestToken", 405, "OPTIONS, POST"},
		{"BREW", v3 + "/login", 405, "GET, HEAD, OPTIONS, POST"},
		{"POST", "/_matrix/client/r0/profile/@a:b", 405, "GET, HEAD, OPTIONS"},
	} {
		resp := rawPath(t, s, tc.method, tc.path)
		if resp.StatusCode != tc.status || resp.Header.Get("Allow") != tc.allow {
			t.Errorf("%s %.60s: status %d, Allow %q; want %d, %q", tc.method, tc.path, resp.StatusCode, resp.Header.Get("Allow"), tc.status, tc.allow)
		}
		if code := "M_UNRECOGNIZED"; tc.method != "HEAD" && errcode(t, resp) != code {
			t.Errorf("%s %.60s: no %s", tc.method, tc.path, code)
		}
		if ran := c.ran(); ran != nil {
			t.Errorf("%s %.60s ran %v", tc.method, tc.path, ran)
		}
	}
}

// TestRouteEnds sends each route with something more at its end. Nothing may run unless
// the whole is another route or a valid wildcard, as a slow second reading of the
// patterns decides.
func TestRouteEnds(t *testing.T) {
	s, c := tableServer(t)
	suffixes := []string{"/", "/extra", "x", "/../x", "%2f..%2fx", "/%2e%2e/x", ";a=b", "//", "/.", "%00", "/%2F", "?x=/../y"}
	for _, r := range table {
		path := regexp.MustCompile(`\{\$\}`).ReplaceAllString(r.Pattern, "")
		path = regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "!id:host")
		for _, suffix := range suffixes {
			resp := rawPath(t, s, r.Method, path+suffix)
			want := expected(r.Method, path+suffix)
			ran := c.ran()
			if want == "" {
				if len(ran) != 0 || resp.StatusCode != 404 && resp.StatusCode != 405 || resp.Header.Get("Location") != "" {
					t.Errorf("%s %s%s: status %d, ran %q", r.Method, path, suffix, resp.StatusCode, ran)
				}
				continue
			}
			if len(ran) != 1 || !strings.HasPrefix(ran[0], want) {
				t.Errorf("%s %s%s: ran %q, want %q", r.Method, path, suffix, ran, want)
			}
		}
	}
}

// expected is the pattern that stands for a path, if any.
func expected(method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	decoded, _ := url.PathUnescape(path)
	if regexp.MustCompile(`(^|/)\.\.?(/|$)`).MatchString(decoded) {
		return ""
	}
	found := ""
	for _, r := range table {
		if r.Method != method {
			continue
		}
		expr := regexp.QuoteMeta(strings.ReplaceAll(r.Pattern, "{$}", ""))
		expr = regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(expr, `[^/]+`)
		if regexp.MustCompile("^" + expr + "$").MatchString(path) {
			if candidate := method + " " + r.Pattern; found == "" || strings.Count(candidate, "{") < strings.Count(found, "{") {
				found = candidate
			}
		}
	}
	return found
}

func TestCORS(t *testing.T) {
	s, c := tableServer(t)
	want := map[string]string{
		"Access-Control-Allow-Origin":  "*",
		"Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD",
		"Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization, Date",
		"X-Content-Type-Options":       "nosniff",
	}
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"OPTIONS", "/_matrix/client/v3/login", 204},
		{"OPTIONS", "/unknown", 204},
		{"OPTIONS", "/_matrix//x/../login", 204},
		{"GET", "/_matrix/client/v3/login", 200},
		{"PUT", "/_matrix/client/v3/login", 405},
		{"GET", "/unknown", 404},
		{"GET", "//", 404},
	} {
		resp := rawPath(t, s, tc.method, tc.path)
		if resp.StatusCode != tc.status {
			t.Errorf("%s %s: status %d, want %d", tc.method, tc.path, resp.StatusCode, tc.status)
		}
		for name, value := range want {
			if got := resp.Header.Get(name); got != value {
				t.Errorf("%s %s: %s is %q", tc.method, tc.path, name, got)
			}
		}
		if resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: no X-Request-Id", tc.method, tc.path)
		}
		if tc.method == "OPTIONS" && c.ran() != nil {
			t.Errorf("OPTIONS %s ran a handler", tc.path)
		}
	}
}

func TestRoutes(t *testing.T) {
	rt := NewRouter(Options{})
	h := func(context.Context, Nobody, *Empty) (*Empty, error) { return &Empty{}, nil }
	POST(rt, "/b", Anyone, h)
	GET(rt, "/b", Anyone, h)
	GET(rt, "/_matrix/client/v3/a", Anyone, h, Also("/_matrix/client/unstable/org.x/a"))
	want := []Route{{"GET", "/_matrix/client/unstable/org.x/a"}, {"GET", "/_matrix/client/v3/a"}, {"GET", "/b"}, {"POST", "/b"}}
	if diff := cmp.Diff(want, rt.Routes()); diff != "" {
		t.Error(diff)
	}
	s := serveTest(t, rt)
	for _, path := range []string{"/_matrix/client/unstable/org.x/a", "/_matrix/client/r0/a"} {
		if resp := rawPath(t, s, "GET", path); resp.StatusCode != 200 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// TestBadRegistration: a route that cannot work stops the program when it starts.
func TestBadRegistration(t *testing.T) {
	type withPath struct {
		ID string `path:"id"`
	}
	type withBody struct{ Body struct{} }
	type pointerBody struct{ Body *struct{} }
	type untagged struct{ ID string }
	type channel struct {
		C chan int `query:"c"`
	}
	for name, register := range map[string]func(*Router){
		"no field":      func(rt *Router) { GET(rt, "/{id}", Anyone, nothing[Empty]) },
		"no wildcard":   func(rt *Router) { GET(rt, "/a", Anyone, nothing[withPath]) },
		"GET body":      func(rt *Router) { GET(rt, "/a", Anyone, nothing[withBody]) },
		"pointer body":  func(rt *Router) { PUT(rt, "/a", Anyone, nothing[pointerBody]) },
		"untagged":      func(rt *Router) { GET(rt, "/a", Anyone, nothing[untagged]) },
		"channel":       func(rt *Router) { GET(rt, "/a", Anyone, nothing[channel]) },
		"not a struct":  func(rt *Router) { GET(rt, "/a", Anyone, nothing[int]) },
		"subtree":       func(rt *Router) { GET(rt, "/a/", Anyone, nothing[Empty]) },
		"relative":      func(rt *Router) { GET(rt, "a", Anyone, nothing[Empty]) },
		"partial":       func(rt *Router) { GET(rt, "/a{id}", Anyone, nothing[withPath]) },
		"rest":          func(rt *Router) { GET(rt, "/{id...}", Anyone, nothing[withPath]) },
		"twice":         func(rt *Router) { GET(rt, "/a", Anyone, nothing[Empty]); GET(rt, "/a", Anyone, nothing[Empty]) },
		"unknown limit": func(rt *Router) { GET(rt, "/a", Anyone, nothing[Empty], Limit("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "web: ") {
					t.Errorf("panic: %v", p)
				}
			}()
			register(NewRouter(Options{Limiter: NewLimiter(nil, nil)}))
		})
	}
}

func nothing[Req any](context.Context, Nobody, *Req) (*Empty, error) { return &Empty{}, nil }
