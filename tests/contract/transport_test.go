package contract

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reports collects what a Transport reports.
type reports struct {
	mu    sync.Mutex
	lines []string
}

func (r *reports) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// serve starts a server and returns its address with a client that goes through a Transport.
func serve(t *testing.T, handler http.HandlerFunc) (string, *http.Client, *reports) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	r := &reports{}
	return server.URL, &http.Client{Transport: &Transport{Spec: load(t), Report: r.add}}, r
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func TestTransportReports(t *testing.T) {
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		answer(w, 200, `{"next_batch":7}`)
	})
	resp, err := c.Get(url + client + "/sync?since=s1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want := []string{"GET /_matrix/client/v3/sync?since=s1 → 200 is not what the specification says:\n" +
		"\tresponse 200 at /next_batch: got number, want string [client-server/sync.yaml /properties/next_batch]"}
	if diff := cmp.Diff(want, r.lines); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestTransportReportsNoMoreThanCanBeRead(t *testing.T) {
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		answer(w, 200, `{"joined_rooms":[`+strings.Repeat("1,", 99)+`1]}`)
	})
	resp, err := c.Get(url + client + "/joined_rooms")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(r.lines) != 1 || strings.Count(r.lines[0], "\n") != shown+1 || !strings.HasSuffix(r.lines[0], "\tand 75 more") {
		t.Errorf("reports: %q", r.lines)
	}
}

// TestTransportKeepsBytes: what the Transport checks, it also passes on, byte for byte.
func TestTransportKeepsBytes(t *testing.T) {
	const sent, got = " {\"name\" :\"a\"}\n", " {\"room_id\" :\"!a:b\"}\n"
	type request struct {
		Body     string
		Length   int64
		Encoding []string
	}
	var seen []request
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		seen = append(seen, request{string(body), req.ContentLength, req.TransferEncoding})
		answer(w, 200, got)
	})
	for _, body := range []io.Reader{strings.NewReader(sent), io.MultiReader(strings.NewReader(sent))} { // with a length, chunked
		resp, err := c.Post(url+client+"/createRoom", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(resp.Body)
		if err != nil || string(back) != got || resp.ContentLength != int64(len(got)) {
			t.Errorf("got %q, length %d, %v", back, resp.ContentLength, err)
		}
	}
	want := []request{{sent, int64(len(sent)), nil}, {sent, -1, []string{"chunked"}}}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if r.lines != nil {
		t.Errorf("reports: %q", r.lines)
	}
}

func TestTransportReadsGzip(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	io.WriteString(w, `{"joined_rooms":[1]}`)
	w.Close()
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		answer(w, 200, packed.String())
	})
	req, err := http.NewRequest("GET", url+client+"/joined_rooms", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip") // asked for by hand, net/http does not unpack
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(back, packed.Bytes()) {
		t.Errorf("got %d bytes, %v", len(back), err)
	}
	if len(r.lines) != 1 || !strings.Contains(r.lines[0], "/joined_rooms/0: got number, want string") {
		t.Errorf("reports: %q", r.lines)
	}
}

// TestTransportPassesErrors: half an answer is no fault of its contents, and its end reaches the client.
func TestTransportPassesErrors(t *testing.T) {
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Length", "100")
		answer(w, 200, `{"joined_`)
	})
	resp, err := c.Get(url + client + "/joined_rooms")
	if err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(resp.Body); string(back) != `{"joined_` || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", back, err)
	}
	if _, err := c.Get("http://127.0.0.1:1/"); err == nil {
		t.Error("no error without a server")
	}
	if r.lines != nil {
		t.Errorf("reports: %q", r.lines)
	}
}

// TestTransportWaits: other requests go through while one waits, and one that waits can be given up.
func TestTransportWaits(t *testing.T) {
	waiting, wake := make(chan struct{}), make(chan struct{})
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "PUT" {
			close(wake)
			answer(w, 200, `{"event_id":"$e"}`)
			return
		}
		waiting <- struct{}{}
		select {
		case <-wake:
			answer(w, 200, `{"next_batch":"s2"}`)
		case <-req.Context().Done():
		}
	})
	get := func(ctx context.Context, result chan<- error) {
		req, err := http.NewRequestWithContext(ctx, "GET", url+client+"/sync?timeout=30000", nil)
		if err == nil {
			_, err = c.Do(req)
		}
		result <- err
	}
	ctx, giveUp := context.WithCancel(context.Background())
	first, second := make(chan error), make(chan error)
	go get(ctx, first)
	<-waiting
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	go get(context.Background(), second)
	<-waiting
	req, err := http.NewRequest("PUT", url+client+"/rooms/!r:b/send/m.room.message/t", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(req); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Errorf("woken: %v", err)
	}
	if r.lines != nil {
		t.Errorf("reports: %q", r.lines)
	}
}

// TestTransportStreams: a stream without end reaches the client while it runs.
func TestTransportStreams(t *testing.T) {
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	})
	resp, err := c.Get(url + "/_synapse/stream")
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 9)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "data: 1\n\n" {
		t.Errorf("got %q, %v", first, err)
	}
	resp.Body.Close()
	if r.lines != nil {
		t.Errorf("reports: %q", r.lines)
	}
}

// TestTransportTogether compiles and counts from many goroutines at once.
func TestTransportTogether(t *testing.T) {
	url, c, r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		answer(w, 404, `{"errcode":"M_NOT_FOUND"}`)
	})
	spec := c.Transport.(*Transport).Spec
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for _, op := range spec.Operations() {
				if op.Method != "GET" {
					continue
				}
				resp, err := c.Get(url + strings.NewReplacer("{", "", "}", "").Replace(op.Path))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		})
	}
	all.Wait()
	total := 0
	for _, n := range spec.Coverage().Seen() {
		total += n
	}
	if total != 4*110 {
		t.Errorf("%d exchanges counted, want 440", total)
	}
	if r.lines != nil {
		t.Errorf("reports: %.1000q", r.lines)
	}
}
