package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"beep/matrix"
)

type answer struct {
	Chunk []string       `json:"chunk"`
	Map   map[string]any `json:"map"`
	Text  string         `json:"text,omitempty"`
	Flag  bool           `json:"flag,omitzero"`
}

type rendered struct{ text string }

func (r *rendered) AppendJSON(b []byte) []byte { return append(b, r.text...) }

func answers[Resp any](resp *Resp, err error) Handler[Nobody, Empty, Resp] {
	return func(context.Context, Nobody, *Empty) (*Resp, error) { return resp, err }
}

type closing struct {
	io.Reader
	closed chan struct{}
}

func (c *closing) Close() error {
	c.closed <- struct{}{}
	return nil
}

func TestAnswers(t *testing.T) {
	long := `{"x":"` + strings.Repeat("y", 100_000) + `"}`
	content := &closing{Reader: strings.NewReader("streamed"), closed: make(chan struct{}, 2)}
	rt := NewRouter(Options{})
	GET(rt, "/value", Anyone, answers(&answer{Text: "<&>\u2028é"}, nil))
	GET(rt, "/nil", Anyone, answers[answer](nil, nil))
	GET(rt, "/created", Anyone, answers(&Empty{}, nil), Status(201))
	GET(rt, "/rendered", Anyone, answers(&rendered{`{"a": 1}`}, nil))
	GET(rt, "/long", Anyone, answers(&rendered{long}, nil))
	GET(rt, "/raw", Anyone, answers(&Raw{Status: 302, ContentType: "text/plain", Body: []byte("hi"), Header: http.Header{"Location": {"/x"}}}, nil))
	GET(rt, "/nothing", Anyone, answers(&Raw{Status: 204}, nil))
	GET(rt, "/content", Anyone, answers(&Raw{ContentType: "image/png", Content: content, Size: 8}, nil))
	s := serveTest(t, rt)
	for _, tc := range []struct {
		path, contentType, body string
		status                  int
	}{
		{"/value", "application/json", "{\"chunk\":[],\"map\":{},\"text\":\"<&>\u2028é\"}", 200},
		{"/nil", "application/json", "{}", 200},
		{"/created", "application/json", "{}", 201},
		{"/rendered", "application/json", `{"a": 1}`, 200},
		{"/long", "application/json", long, 200},
		{"/raw", "text/plain", "hi", 302},
		{"/nothing", "", "", 204},
		{"/content", "image/png", "streamed", 200},
	} {
		resp := rawPath(t, s, "GET", tc.path)
		if body := text(t, resp); body != tc.body || resp.StatusCode != tc.status || resp.Header.Get("Content-Type") != tc.contentType {
			t.Errorf("%s: %d %s %.100s", tc.path, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		if resp.ContentLength != int64(len(tc.body)) {
			t.Errorf("%s: Content-Length %d, want %d", tc.path, resp.ContentLength, len(tc.body))
		}
		cache := resp.Header.Get("Cache-Control")
		if isJSON := tc.contentType == "application/json"; (cache == "no-store") != isJSON || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: Cache-Control %q", tc.path, cache)
		}
		head := rawPath(t, s, "HEAD", tc.path)
		if head.StatusCode != tc.status || text(t, head) != "" || head.Header.Get("Content-Length") != resp.Header.Get("Content-Length") {
			t.Errorf("HEAD %s: %d, Content-Length %q", tc.path, head.StatusCode, head.Header.Get("Content-Length"))
		}
	}
	for range 2 { // by GET and by HEAD; the client may hear the end before
		<-content.closed
	}
}

func TestHTML(t *testing.T) {
	rt := NewRouter(Options{})
	GET(rt, "/page", Anyone, answers(HTML(200, []byte("<p>"), "style-src "+HashSource("p {}")), nil))
	resp := rawPath(t, serveTest(t, rt), "GET", "/page")
	got := map[string]string{}
	for _, name := range []string{"Content-Type", "X-Frame-Options", "X-Content-Type-Options", "Cache-Control", "Content-Security-Policy"} {
		got[name] = resp.Header.Get(name)
	}
	want := map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"X-Frame-Options":         "DENY",
		"X-Content-Type-Options":  "nosniff",
		"Cache-Control":           "no-store",
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src 'sha256-SNJDlN1Iy2mnt7DOjQIyDb2LQE6O5PQiSZomcdzawQ4='",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	rt := NewRouter(Options{})
	for path, err := range map[string]error{
		"/told":    fmt.Errorf("wrapped: %w", matrix.Forbidden.With("No <entry>").Because(errors.New("secret cause"))),
		"/fields":  matrix.UnknownToken.Field("soft_logout", true).Field("list", []string(nil)),
		"/limited": matrix.LimitExceeded.After(1500 * time.Millisecond),
		"/uia":     &matrix.Error{Status: 401, Fields: map[string]any{"session": "s"}},
		"/plain":   errors.New("secret cause"),
		"/bad":     matrix.Forbidden.Field("f", func() {}),
	} {
		GET(rt, path, Anyone, answers[Empty](nil, err))
	}
	GET(rt, "/broken", Anyone, answers(&struct{ F func() }{}, nil))
	GET(rt, "/panic", Anyone, func(context.Context, Nobody, *Empty) (*Empty, error) { panic("secret cause") })
	GET(rt, "/auth", func(*http.Request) (Nobody, error) { return Nobody{}, matrix.MissingToken }, answers(&Empty{}, nil))
	s := serveTest(t, rt)
	unknown := `{"errcode":"M_UNKNOWN","error":"The server failed to do this; its log says why"}`
	for _, tc := range []struct {
		path, body, retry string
		status            int
	}{
		{"/told", `{"errcode":"M_FORBIDDEN","error":"No <entry>"}`, "", 403},
		{"/fields", `{"errcode":"M_UNKNOWN_TOKEN","error":"The access token is not known, or is no longer valid","list":[],"soft_logout":true}`, "", 401},
		{"/limited", `{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests","retry_after_ms":1500}`, "2", 429},
		{"/uia", `{"session":"s"}`, "", 401},
		{"/auth", `{"errcode":"M_MISSING_TOKEN","error":"No access token was given"}`, "", 401},
		{"/plain", unknown, "", 500},
		{"/bad", unknown, "", 500},
		{"/broken", unknown, "", 500},
		{"/panic", unknown, "", 500},
	} {
		resp := rawPath(t, s, "GET", tc.path)
		if body := text(t, resp); body != tc.body || resp.StatusCode != tc.status || resp.Header.Get("Retry-After") != tc.retry {
			t.Errorf("%s: %d %s, Retry-After %q", tc.path, resp.StatusCode, body, resp.Header.Get("Retry-After"))
		}
		if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: headers %v", tc.path, resp.Header)
		}
	}
}

// TestBrokenContent: an answer that cannot be finished is cut off, so that nobody takes
// it for a whole one.
func TestBrokenContent(t *testing.T) {
	rt := NewRouter(Options{})
	broken := io.MultiReader(strings.NewReader(strings.Repeat("x", 10_000)), failing{})
	GET(rt, "/content", Anyone, answers(&Raw{Content: broken, Size: -1}, nil))
	resp := rawPath(t, serveTest(t, rt), "GET", "/content")
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the answer looks complete")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk error") }

// syncBuffer is a log that handlers write to while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type caller struct {
	user      string
	unlimited bool
}

func (c *caller) LogUser() string { return c.user }

func (c *caller) Unlimited() bool { return c.unlimited }

func asAlice(*http.Request) (*caller, error) { return &caller{user: "@alice:x"}, nil }

// TestLogAndMetrics: a failure is one line that names request, route and user; secrets
// and raw paths are in neither logs nor metrics.
func TestLogAndMetrics(t *testing.T) {
	log := &syncBuffer{}
	registry := prometheus.NewRegistry()
	rt := NewRouter(Options{
		Logger:  slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: registry,
	})
	type request struct {
		ID   string `path:"id"`
		Body struct {
			Password string `json:"password"`
		}
	}
	POST(rt, "/do/{id}", asAlice, func(ctx context.Context, _ *caller, req *request) (*Empty, error) {
		Logger(ctx).Warn("from the handler", "same id", RequestID(ctx))
		switch req.ID {
		case "fail":
			return nil, errors.New("the cause")
		case "told":
			return nil, matrix.Forbidden
		case "panic":
			panic("the panic")
		}
		return &Empty{}, nil
	})
	s := serveTest(t, rt)
	const canary = "CANARY"
	for _, id := range []string{"ok", "fail", "told", "panic", canary} {
		resp := send(t, s, "POST", "/do/"+id+"?access_token="+canary, `{"password":"`+canary+`"}`, "Authorization", "Bearer "+canary, "Cookie", canary)
		if request := resp.Header.Get("X-Request-Id"); request == "" || !strings.Contains(log.String(), `"same id"=`+request) {
			t.Errorf("%s: request %q is not in the log", id, request)
		}
	}
	for i := range 20 {
		rawPath(t, s, "GET", fmt.Sprintf("/%s/%d", canary, i))
		rawPath(t, s, fmt.Sprintf("%s%d", canary, i), "/do/x")
	}
	lines := log.String()
	for substring, count := range map[string]int{
		"the cause": 1, "the panic": 1, "level=ERROR": 2, "stack=": 1, canary: 0, "msg=request ": 45, "user=@alice:x": 12,
		"route=/do/{id}": 12,
	} {
		if got := strings.Count(lines, substring); got != count {
			t.Errorf("%q is %d times in the log, want %d\n%s", substring, got, count, lines)
		}
	}
	for _, line := range strings.Split(lines, "\n") {
		if strings.Contains(line, "ERROR") && !(strings.Contains(line, "request=") && strings.Contains(line, "route=/do/{id}") && strings.Contains(line, "user=@alice:x")) {
			t.Errorf("not all is told: %s", line)
		}
	}
	checkMetrics(t, registry, canary)
}

func checkMetrics(t *testing.T, registry *prometheus.Registry, canary string) {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	metrics := rec.Body.String()
	for _, want := range []string{
		`http_requests_total{method="POST",route="/do/{id}",status="2xx"} 2`,
		`http_requests_total{method="POST",route="/do/{id}",status="4xx"} 1`,
		`http_requests_total{method="POST",route="/do/{id}",status="5xx"} 2`,
		`http_requests_total{method="other",route="unknown",status="4xx"} 40`,
		`http_request_duration_seconds_count{method="POST",route="/do/{id}"} 5`,
		"http_handler_panics_total 1",
		"http_requests_in_flight 0",
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(metrics, canary) || strings.Count(metrics, "\nhttp_requests_total{") != 4 {
		t.Errorf("labels out of requests:\n%s", metrics)
	}
}

// TestClientGone: a client that hangs up is no failure of the server.
func TestClientGone(t *testing.T) {
	log := &syncBuffer{}
	rt := NewRouter(Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	started, ended := make(chan struct{}), make(chan struct{})
	GET(rt, "/wait", Anyone, func(ctx context.Context, _ Nobody, _ *Empty) (*Empty, error) {
		close(started)
		<-ctx.Done()
		return nil, fmt.Errorf("waiting: %w", ctx.Err())
	})
	s := serveTest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		rt.ServeHTTP(w, r)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-started; cancel() }()
	if resp, err := s.Client().Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("answered with %d", resp.StatusCode)
	}
	<-ended
	if log.String() != "" {
		t.Errorf("logged: %s", log.String())
	}
}

// TestCutShort: what the stop of the server cuts short is no failure of the server, and may
// be asked of it again.
func TestCutShort(t *testing.T) {
	log := &syncBuffer{}
	rt := NewRouter(Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	began := make(chan struct{})
	GET(rt, "/work", Anyone, func(ctx context.Context, _ Nobody, _ *Empty) (*Empty, error) {
		close(began)
		<-ShuttingDown(ctx)
		return nil, fmt.Errorf("working: %w", context.Canceled)
	})
	s, stop := start(t, ServerOptions{Listeners: []Listener{{Address: "127.0.0.1:0", Handler: rt}}, DrainTime: time.Hour})
	status := make(chan int)
	go func() {
		resp, err := freshClient(t, &http.Transport{}).Get("http://" + s.Addrs()[0].String() + "/work")
		if err != nil {
			t.Error(err)
			close(status)
			return
		}
		defer resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-began
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	if got := <-status; got != http.StatusServiceUnavailable {
		t.Errorf("answered with %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("logged: %s", log.String())
	}
}

// TestOutsideOfRequests: what a context may tell has a harmless value without a request.
func TestOutsideOfRequests(t *testing.T) {
	ctx := t.Context()
	if Logger(ctx) != slog.Default() || RequestID(ctx) != "" || ClientAddr(ctx).IsValid() || ShuttingDown(ctx) != nil {
		t.Error("a context without a request tells something")
	}
}

// TestSlowRequest: what took long is worth a line, unless to wait was the request.
func TestSlowRequest(t *testing.T) {
	for _, tc := range []struct {
		took     time.Duration
		longPoll bool
		want     bool
	}{
		{slowRequest, false, false}, {slowRequest + 1, false, true}, {slowRequest + 1, true, false},
	} {
		log := &syncBuffer{}
		rt := NewRouter(Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		l := &leaf{route: &route{options: routeOptions{longPoll: tc.longPoll}}}
		x := &exchange{Context: t.Context(), router: rt, leaf: l}
		x.logDone(tc.took)
		if got := log.String() != ""; got != tc.want {
			t.Errorf("%+v: logged %q", tc, log)
		}
	}
}
