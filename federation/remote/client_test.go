package remote

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/outbound"
)

const versionPath = "/_matrix/federation/v1/version"

func TestRequestsAreSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "signed.test")
	var failures []string
	var mu sync.Mutex
	p.mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		canonical := body
		if len(body) > 0 {
			canonical, err = matrix.CanonicalJSON(body, true)
		}
		if err != nil || string(canonical) != string(body) || !proven(r, p.name, body) {
			failures = append(failures, r.Method+" "+r.RequestURI)
		}
		if r.Host != p.name || r.Header.Get("User-Agent") != "beep/test" || r.Header.Get("Idempotency-Key") != "" ||
			(len(body) > 0) != (r.Header.Get("Content-Type") == "application/json") {
			failures = append(failures, fmt.Sprint(r.Host, r.Header))
		}
		io.WriteString(rw, `{"pdus":{},"events":[],"room_id":"!x:y.test"}`)
	})
	ctx := t.Context()
	pdus := []json.RawMessage{json.RawMessage(`{"z":1,"a":"<\u00fc&\u2028>"}`)}
	_, sendErr := w.client.SendTransaction(ctx, p.name, &Transaction{ID: "a/b ?%", OriginServerTS: 5, PDUs: pdus})
	_, missingErr := w.client.MissingEvents(ctx, p.name, "!weird/room?#é:signed.test", nil, nil, 3)
	_, _, aliasErr := w.client.ResolveAlias(ctx, "#a b+c&d=é:"+p.name)
	if err := errors.Join(sendErr, missingErr, aliasErr); err != nil {
		t.Error(err)
	}
	if len(failures) > 0 || p.requests.Load() != 3 {
		t.Errorf("%d requests; wrong: %q", p.requests.Load(), failures)
	}
	connections := 0
	p.connections.Range(func(any, any) bool {
		connections++
		return true
	})
	if connections != 1 {
		t.Errorf("%d connections for three requests", connections)
	}
}

// TestServersShareNoConnection: two names that lead to one address keep to themselves.
func TestServersShareNoConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var hosts sync.Map
	server := w.serve(t, "127.0.0.1:0", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		hosts.Store(r.Host, r.TLS.ServerName)
		io.WriteString(rw, `{}`)
	}), "a.test", "b.test")
	for _, host := range []string{"a.test", "b.test"} {
		w.dns.Address(host, "127.0.0.1")
		if _, err := w.client.getVersion(t.Context(), host+":"+portOf(server)); err != nil {
			t.Error(err)
		}
	}
	hosts.Range(func(host, name any) bool {
		if host != name.(string)+":"+portOf(server) {
			t.Errorf("a request to %s went over a connection to %s", host, name)
		}
		return true
	})
}

// TestRefusals: of another server's error a client gets a code of a list, with the status that
// belongs to it, and nothing that speaks of the client's own session (F55e).
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "refusing.test")
	type told struct {
		Status      int
		Code        string
		RoomVersion any
	}
	for i, c := range []struct {
		status int
		body   string
		header string // Retry-After
		want   PeerError
		told   told
	}{
		{403, `{"errcode":"M_FORBIDDEN","error":"no"}`, "", PeerError{Code: "M_FORBIDDEN", Message: "no"}, told{403, "M_FORBIDDEN", nil}},
		{418, `{"errcode":"M_NOT_FOUND","error":"no"}`, "", PeerError{Code: "M_NOT_FOUND", Message: "no"}, told{404, "M_NOT_FOUND", nil}},
		{400, `{"errcode":"M_INCOMPATIBLE_ROOM_VERSION","error":"x","room_version":"7","soft_logout":true}`, "",
			PeerError{Code: "M_INCOMPATIBLE_ROOM_VERSION", Message: "x", RoomVersion: "7"}, told{400, "M_INCOMPATIBLE_ROOM_VERSION", "7"}},
		{400, `{"errcode":"M_INCOMPATIBLE_ROOM_VERSION","room_version":7}`, "", PeerError{Code: "M_INCOMPATIBLE_ROOM_VERSION"}, told{400, "M_INCOMPATIBLE_ROOM_VERSION", nil}},
		{401, `{"errcode":"M_UNKNOWN_TOKEN","error":"out","soft_logout":true}`, "", PeerError{Code: "M_UNKNOWN_TOKEN", Message: "out"}, told{502, "M_UNKNOWN", nil}},
		{403, `{"errcode":"M_UNKNOWN_TOKEN"}`, "", PeerError{Code: "M_UNKNOWN_TOKEN"}, told{502, "M_UNKNOWN", nil}},
		{401, `{"errcode":"M_USER_LOCKED"}`, "", PeerError{Code: "M_USER_LOCKED"}, told{502, "M_UNKNOWN", nil}},
		{400, `{"errcode":"M_MISSING_PARAM"}`, "", PeerError{Code: "M_MISSING_PARAM"}, told{502, "M_UNKNOWN", nil}},
		{401, `{"errcode":5,"error":{}}`, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{404, `[]`, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{404, `<html>`, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{404, "{\"errcode\":\"M_NOT_FOUND\",\"error\":\"\xff\"}", "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{500, ``, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{400, `{"errcode":"M_X\nY"}`, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{429, `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}`, "", PeerError{Code: "M_LIMIT_EXCEEDED", RetryAfter: 2500 * time.Millisecond}, told{502, "M_UNKNOWN", nil}},
		{503, `{"retry_after_ms":2500}`, "7", PeerError{RetryAfter: 7 * time.Second}, told{502, "M_UNKNOWN", nil}},
		{503, `{"retry_after_ms":-1e99}`, "-3", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{503, ``, "2000000000", PeerError{RetryAfter: 24 * time.Hour}, told{502, "M_UNKNOWN", nil}},
		{301, ``, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{204, ``, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
		{404, `{"errcode":"M_NOT_FOUND","error":"` + strings.Repeat("é", 400) + `"}`, "",
			PeerError{Code: "M_NOT_FOUND", Message: strings.Repeat("é", 250)}, told{404, "M_NOT_FOUND", nil}},
		{404, `{"errcode":"M_NOT_FOUND","error":"` + strings.Repeat("x", 1<<20) + `"}`, "", PeerError{}, told{502, "M_UNKNOWN", nil}},
	} {
		id := fmt.Sprintf("$%d", i)
		p.mux.HandleFunc("/_matrix/federation/v1/event/"+id, func(rw http.ResponseWriter, _ *http.Request) {
			if c.header != "" {
				rw.Header().Set("Retry-After", c.header)
			}
			rw.Header().Set("Location", "https://127.0.0.1:1/")
			rw.WriteHeader(c.status)
			io.WriteString(rw, c.body)
		})
		_, err := w.client.Event(t.Context(), p.name, id)
		got, ok := errors.AsType[*PeerError](err)
		if !ok {
			t.Errorf("%d %.60s: %v", c.status, c.body, err)
			continue
		}
		c.want.Server, c.want.Status = p.name, c.status
		if diff := cmp.Diff(c.want, *got); diff != "" {
			t.Errorf("%d %.60s: %s", c.status, c.body, diff)
		}
		client, ok := errors.AsType[*matrix.Error](err)
		if !ok {
			t.Fatalf("nothing for a client in %v", err)
		}
		if diff := cmp.Diff(c.told, told{client.Status, client.Code, client.Fields["room_version"]}); diff != "" || len(client.Fields) > 1 {
			t.Errorf("%d %.60s, a client is told: %s %v", c.status, c.body, diff, client.Fields)
		}
		if got, want := Unavailable(err), c.status >= 500 || c.status == 429; got != want {
			t.Errorf("%d: unavailable %v", c.status, got)
		}
	}
}

// TestExplainedRefusals: what another server has against a join, a knock or an invite is passed
// through to the client, but not what a client would take for a word about its session (F55e).
func TestExplainedRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "refusing.test")
	status, code := 400, ""
	p.mux.HandleFunc("/_matrix/federation/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		fmt.Fprintf(rw, `{"errcode":%q,"error":"no","soft_logout":true}`, code)
	})
	event := &matrix.Event{RoomID: "!r:" + p.name, ID: "$1", JSON: []byte(`{}`)}
	requests := map[string]func() error{
		"send_join": func() error { _, err := w.client.SendJoin(t.Context(), p.name, event, false); return err },
		"invite":    func() error { _, err := w.client.SendInvite(t.Context(), p.name, event, nil); return err },
	}
	for _, membership := range []string{"join", "knock", "leave"} {
		requests["make_"+membership] = func() error {
			_, err := w.client.MakeMember(t.Context(), p.name, membership, event.RoomID, "@a:us.test", nil)
			return err
		}
	}
	for what, request := range requests {
		for _, c := range []struct {
			status int
			code   string
			want   bool
		}{
			{400, "M_TEST_ERROR_CODE", what != "make_leave"}, {400, "M_FORBIDDEN", true},
			{401, "M_TEST_ERROR_CODE", false}, {403, "M_TEST_ERROR_CODE", false}, {400, "", false}, {400, "ORG_EXAMPLE_EXPIRED", false},
			{400, "M_UNKNOWN_TOKEN", false}, {400, "M_USER_LOCKED", false}, {400, "M_LIMIT_EXCEEDED", false}, {400, "M_MISSING_PARAM", false},
		} {
			status, code = c.status, c.code
			err := request()
			told, ok := errors.AsType[*matrix.Error](err)
			if !ok || len(told.Fields) != 0 {
				t.Fatalf("%s, %d %s: %v", what, c.status, c.code, err)
			}
			if passed := told.Code == c.code && told.Status < 500 && told.Message == "no"; passed != c.want || !passed && told.Status != 502 {
				t.Errorf("%s, %d %s: a client is told %d %s %q", what, c.status, c.code, told.Status, told.Code, told.Message)
			}
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "broken.test")
	p.mux.HandleFunc("/_matrix/federation/v1/event/$cut", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "1000")
		io.WriteString(rw, `{"pdus":[`)
	})
	p.mux.HandleFunc("/_matrix/federation/v1/event/$closed", func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	})
	p.mux.HandleFunc("/_matrix/federation/v1/event/$header", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Long", strings.Repeat("x", 2*maxAnswerHeader))
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	plain := http.Server{Handler: http.NotFoundHandler()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go plain.Serve(listener)
	defer plain.Close()
	for _, c := range []struct{ server, event string }{
		{p.name, "$cut"}, {p.name, "$closed"}, {p.name, "$header"}, {"unknown.test:1", "$x"}, {closed.Addr().String(), "$x"}, {listener.Addr().String(), "$x"},
	} {
		_, err := w.client.Event(t.Context(), c.server, c.event)
		if _, ok := errors.AsType[*UnreachableError](err); !ok || !Unavailable(err) {
			t.Errorf("%s %s: %v", c.server, c.event, err)
		}
		if told, ok := errors.AsType[*matrix.Error](err); !ok || told.Status != http.StatusBadGateway || strings.Contains(told.Message, "127.0.0.1:1 ") {
			t.Errorf("%s %s: a client is told %v", c.server, c.event, told)
		}
	}
}

// TestPolicySignRefusals: a policy server may have this server's name, and its limits are
// told to whoever is to wait for them.
func TestPolicySignRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "policy.test")
	p.answer("/_matrix/policy/v1/sign", 429, `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}`)
	var told *matrix.Error
	if _, err := w.client.PolicySign(t.Context(), p.name, []byte(`{}`)); !errors.As(err, &told) || told.Code != "M_LIMIT_EXCEEDED" || told.RetryAfter != 2500*time.Millisecond {
		t.Errorf("%+v", err)
	}
	self := w.newPeer(t, us)
	port, err := strconv.ParseUint(portOf(self.server), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	w.dns.Service("_matrix-fed._tcp."+us, us, uint16(port), 10, 0)
	self.answer("/_matrix/policy/v1/sign", 200, `{"`+us+`":{"ed25519:policy_server":"c2ln"}}`)
	if signature, err := w.client.PolicySign(t.Context(), us, []byte(`{}`)); err != nil || signature != "c2ln" {
		t.Errorf("of this server's name: %q, %v", signature, err)
	}
}

// TestNotEvenAsked: no DNS question and no connection comes of what is no server name (F55i).
func TestNotEvenAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, server := range []string{"", "a b", "x/y", us, "[::1", "host:99999", "AbCdEfGhIjKlMnOpQrStUvWxYz_0123456789-abcdefg"} {
		if _, err := w.client.getVersion(t.Context(), server); err == nil || Unavailable(err) {
			t.Errorf("%q: %v", server, err)
		}
	}
	if _, _, err := w.client.ResolveAlias(t.Context(), "#noserver"); err == nil {
		t.Error("an alias without a server")
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "flooding.test")
	var sent, compressed atomic.Int64
	flood := func(to io.Writer, count *atomic.Int64) {
		io.WriteString(to, `{"x":"`)
		chunk := []byte(strings.Repeat("x", 64<<10))
		for range 10_000 { // 640 MB, if anybody takes them
			n, err := to.Write(chunk)
			if err != nil {
				return
			}
			count.Add(int64(n))
		}
	}
	p.mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { flood(rw, &sent) })
	p.mux.HandleFunc("/_matrix/federation/v1/event/$bomb", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(rw)
		flood(zip, &compressed)
		zip.Close()
	})
	p.answer("/_matrix/federation/v1/event/$deep", 200, `{"pdus":`+strings.Repeat("[", 20_000))
	p.answer("/_matrix/federation/v1/event/$text", 200, `hello`)
	p.answer("/_matrix/federation/v1/event/$nothing", 200, ``)
	p.answer("/_matrix/federation/v1/event/$two", 200, `{"pdus":[{}]}{}`)
	ctx := t.Context()
	event := func(id string) func() error {
		return func() error { _, err := w.client.Event(ctx, p.name, id); return err }
	}
	for _, c := range []struct {
		name     string
		call     func() error
		tooLarge bool
	}{
		{"version", func() error { _, err := w.client.getVersion(ctx, p.name); return err }, true},
		{"leave", func() error {
			return w.client.SendLeave(ctx, p.name, &matrix.Event{RoomID: "!r", ID: "$e", JSON: []byte(`{}`)})
		}, true},
		{"backfill", func() error {
			_, err := w.client.Backfill(ctx, p.name, "!x:y", []string{"$x"}, 5)
			return err
		}, true},
		{"event", event("$x"), true}, {"a compressed event", event("$bomb"), true},
		{"nesting", event("$deep"), false}, {"text", event("$text"), false}, {"nothing", event("$nothing"), false}, {"two", event("$two"), false},
	} {
		err := c.call()
		if _, ok := errors.AsType[*AnswerError](err); !ok || Unavailable(err) || errors.Is(err, outbound.ErrTooLarge) != c.tooLarge {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// 640 MB were on offer, four times. What the buffers of the system hold was taken as well.
	if n := sent.Load(); n > 100<<20 {
		t.Errorf("%d bytes were taken", n)
	}
}

// TestLargeAnswersAreBoundedTogether: what many servers send at the same time is no more than
// memory has room for; small answers come in all the same, and large ones again afterwards.
func TestLargeAnswersAreBoundedTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client.large.most = 1 << 20
	slow, quick := w.newPeer(t, "slow.test"), w.newPeer(t, "quick.test")
	sent, release := make(chan bool), make(chan bool)
	slow.mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"auth_chain":["`+strings.Repeat("x", 700<<10))
		rw.(http.Flusher).Flush()
		sent <- true
		<-release
		io.WriteString(rw, `"]}`)
	})
	quick.answer("/_matrix/federation/v1/event_auth/", 200, `{"auth_chain":["`+strings.Repeat("x", 700<<10)+`"]}`)
	quick.answer(versionPath, 200, `{}`)
	done := make(chan error)
	go func() {
		_, err := w.client.EventAuth(t.Context(), slow.name, "!r", "$e")
		done <- err
	}()
	<-sent
	for deadline := time.Now().Add(time.Minute); w.client.large.used.Load() < 600<<10 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if _, err := w.client.EventAuth(t.Context(), quick.name, "!r", "$e"); !errors.Is(err, errBusy) || !Unavailable(err) {
		t.Errorf("a second large answer: %v", err)
	}
	if _, err := w.client.getVersion(t.Context(), quick.name); err != nil {
		t.Errorf("a small one: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the first one: %v", err)
	}
	if _, err := w.client.EventAuth(t.Context(), quick.name, "!r", "$e"); err != nil || w.client.large.used.Load() != 0 {
		t.Errorf("afterwards: %v, %d bytes are counted", err, w.client.large.used.Load())
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "hanging.test")
	p.mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	var told atomic.Int64
	client := w.newClient(t, Options{Done: func(string, error) { told.Add(1) }})
	err := client.do(t.Context(), p.name, call{method: "GET", target: "/", limit: 10, timeout: 100 * time.Millisecond}, new(json.RawMessage))
	if _, ok := errors.AsType[*UnreachableError](err); !ok || !errors.Is(err, context.DeadlineExceeded) || told.Load() != 1 {
		t.Errorf("the server's time: %v, told %d times", err, told.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = client.getVersion(ctx, p.name)
	if _, ok := errors.AsType[*UnreachableError](err); ok || !errors.Is(err, context.DeadlineExceeded) || told.Load() != 1 {
		t.Errorf("the caller's time: %v, told %d times", err, told.Load())
	}
}

func TestGateAndDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "good.test")
	p.answer(versionPath, 200, `{}`)
	bad := w.newPeer(t, "bad.test")
	bad.answer(versionPath, 403, `{}`)
	shut := errors.New("not on the list")
	var told []string
	client := w.newClient(t, Options{
		Gate: func(_ context.Context, server string) error {
			if strings.HasPrefix(server, "closed") {
				return shut
			}
			return nil
		},
		Done: func(server string, err error) { told = append(told, fmt.Sprintf("%s %T", server, err)) },
	})
	if _, err := client.getVersion(t.Context(), "closed.test"); !errors.Is(err, shut) || w.dns.Asked("closed.test") != 0 {
		t.Errorf("%v", err)
	}
	for _, server := range []string{p.name, bad.name, "nowhere.test:1"} {
		client.getVersion(t.Context(), server)
	}
	want := []string{p.name + " <nil>", bad.name + " *remote.PeerError", "nowhere.test:1 *remote.UnreachableError"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

// TestStaleConnection: a kept connection that the other side has closed costs no request.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newPeer(t, "restarting.test")
	p.mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"pdus":{}}`)
	})
	for range 5 {
		if _, err := w.client.SendTransaction(t.Context(), p.name, &Transaction{ID: "1"}); err != nil {
			t.Error(err)
		}
		p.server.CloseClientConnections()
	}
}

// BenchmarkDecodeJoin is the state of a room with 10,000 members, 10 MB.
func BenchmarkDecodeJoin(b *testing.B) {
	event := `{"content":{"membership":"join","displayname":"` + strings.Repeat("x", 500) + `"},"auth_events":["` + strings.Repeat("y", 200) + `"],"type":"m.room.member","depth":12,"signatures":{"a":{"b":"` + strings.Repeat("z", 86) + `"}}}`
	text := `{"state":[` + event + strings.Repeat(`,`+event, 9999) + `],"auth_chain":[]}`
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var answer struct {
			State []json.RawMessage `json:"state"`
		}
		if err := decode("x", strings.NewReader(text), &call{limit: maxState, events: true}, &answer); err != nil || len(answer.State) != 10_000 {
			b.Fatal(err)
		}
	}
}
