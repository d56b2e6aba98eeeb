package web

import (
	"context"
	stdjson "encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// lightWriter takes answers without keeping them.
type lightWriter struct {
	header http.Header
	status int
}

func (w *lightWriter) Header() http.Header         { return w.header }
func (w *lightWriter) WriteHeader(status int)      { w.status = status }
func (w *lightWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *lightWriter) Flush()                      {}

func (w *lightWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *lightWriter) SetWriteDeadline(time.Time) error { return nil }

// reread is a body that can be read again.
type reread struct{ strings.Reader }

func (*reread) Close() error { return nil }

type benchSend struct {
	RoomID string `path:"roomID"`
	Type   string `path:"type"`
	TxnID  string `path:"txnID"`
	Body   stdjson.RawMessage
}

type benchSent struct {
	EventID string `json:"event_id"`
}

type benchSync struct {
	Since   string `query:"since"`
	Timeout int64  `query:"timeout"`
	Filter  string `query:"filter"`
}

func benchRouter() *Router {
	rt := NewRouter(Options{Limiter: NewLimiter(map[string]Rate{"message": {PerSecond: 1e8, Burst: 1e6}}, nil)})
	PUT(rt, "/_matrix/client/v3/rooms/{roomID}/send/{type}/{txnID}", asAlice, func(context.Context, *caller, *benchSend) (*benchSent, error) {
		return &benchSent{"$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"}, nil
	}, Limit("message"))
	page := []byte(`{"next_batch":"s123"}`)
	GET(rt, "/_matrix/client/v3/sync", asAlice, func(context.Context, *caller, *benchSync) (*batch, error) {
		return (*batch)(&page), nil
	}, LongPoll())
	POST(rt, "/_matrix/client/v3/typed", asAlice, func(context.Context, *caller, *struct {
		Body struct {
			Name string `json:"name"`
			Size int    `json:"size"`
		}
	}) (*Empty, error) {
		return nil, nil
	})
	return rt
}

type batch []byte

func (p *batch) AppendJSON(b []byte) []byte { return append(b, *p...) }

func benchRequest(b *testing.B, method, target, body string) {
	rt := benchRouter()
	w := &lightWriter{header: make(http.Header, 16)}
	content := &reread{}
	req := httptest.NewRequest(method, target, nil)
	req.Body, req.ContentLength = content, int64(len(body))
	b.ReportAllocs()
	for b.Loop() {
		content.Reset(body)
		clear(w.header)
		rt.ServeHTTP(w, req)
	}
	if w.status != http.StatusOK {
		b.Fatal(w.status)
	}
}

func BenchmarkSend(b *testing.B) {
	benchRequest(b, "PUT", "/_matrix/client/v3/rooms/!abcdefghijklmnop:example.org/send/m.room.message/m1234567890.1",
		`{"msgtype":"m.text","body":"a message of the usual length, one line or so"}`)
}

func BenchmarkSendEncodedPath(b *testing.B) {
	benchRequest(b, "PUT", "/_matrix/client/v3/rooms/%21abcdefghijklmnop%3Aexample.org/send/m.room.message/m1234567890.1",
		`{"msgtype":"m.text","body":"a message of the usual length, one line or so"}`)
}

func BenchmarkSync(b *testing.B) {
	benchRequest(b, "GET", "/_matrix/client/v3/sync?since=s12345_1&timeout=30000&filter=5", "")
}

func BenchmarkTypedBody(b *testing.B) {
	benchRequest(b, "POST", "/_matrix/client/v3/typed", `{"name":"a name","size":5,"other":[1,2,3]}`)
}

// BenchmarkServed is a send over a real connection: what net/http itself costs.
func BenchmarkServed(b *testing.B) {
	s := httptest.NewServer(benchRouter())
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequest("PUT", s.URL+"/_matrix/client/v3/rooms/!a:b/send/m.room.message/1", strings.NewReader(`{"body":"x"}`))
		if err != nil {
			b.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
