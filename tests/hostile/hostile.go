// Package hostile attacks a real homeserver from another server, one that is written for the
// purpose: it has keys of its own and can sign anything, answers any endpoint of the
// server-server API as a test wants it to, and remembers what it was asked.
//
// Without a test's wishes a hostile server is honest: it hosts rooms and takes part in
// those of the server under attack ([Room]), and answers questions about them. A test
// changes one thing of that: it sends events that it has built or forged ([Server.Build],
// [Server.Forge], [Server.Send]), signs a request wrongly ([Server.Request]), or takes an
// answer over ([Server.Handle], [Server.Answer], [Server.Change]).
//
// The server under attack ([Victim]) is one for all tests of the process, so a test makes
// users, rooms and hostile servers of its own. Whatever a test sends to it: if it panics
// or logs an error, the package fails.
package hostile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/matrix"
	"beep/outbound/outboundtest"
	"beep/tests/harness"
)

// awaitTime bounds how long a test waits for something of the server under attack.
const awaitTime = 30 * time.Second

// Victim is the server under attack, on SQLite.
func Victim(t testing.TB) *harness.Server {
	t.Helper()
	victim, _ := harness.SharedFederated(t, harness.SQLite)
	return victim
}

// EachVictim runs a test against a server on each engine, for attacks on what is stored.
func EachVictim(t *testing.T, test func(t *testing.T, victim *harness.Server)) {
	t.Helper()
	t.Parallel()
	for _, engine := range []string{harness.SQLite, harness.Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			victim, _ := harness.SharedFederated(t, engine)
			test(t, victim)
		})
	}
}

// Server is a hostile server.
type Server struct {
	// Name is the server's name; it reaches a listener on this machine.
	Name string
	// Signer has the key that the server signs with and publishes.
	Signer *matrix.Signer

	t      testing.TB
	victim *harness.Server
	client *http.Client
	closed chan struct{} // when the test ends

	mu       sync.Mutex
	handlers map[string]http.Handler // of the test, by pattern
	honest   *http.ServeMux
	mux      *http.ServeMux // all handlers
	asked    []Request
	rooms    map[string]*Room
	edus     []harness.JSON // that the victim has sent
	txns     int
}

// Request is what the server under attack has asked.
type Request struct {
	Method string
	URI    string // with the query, escaped
	Body   []byte
}

// New starts a hostile server, which ends with the test.
func New(t testing.TB, victim *harness.Server) *Server {
	t.Helper()
	_, ca := harness.SharedFederated(t, victim.Engine)
	s := &Server{t: t, victim: victim, closed: make(chan struct{}), handlers: map[string]http.Handler{}, rooms: map[string]*Room{}}
	s.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.serveHonestly()
	s.mux = s.honest
	s.listen(ca)
	s.Signer = NewSigner(t, s.Name)
	return s
}

// NewSigner has a new key for a name, which may be a server's that is not ours.
func NewSigner(t testing.TB, name string) *matrix.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &matrix.Signer{ServerName: name, KeyID: "ed25519:" + strings.ToLower(rand.Text()[:6]), Key: key}
}

// taken are the ports of all hostile servers of the process: the server under attack
// remembers them, so that none may be taken for another.
var taken sync.Map

func (s *Server) listen(ca *outboundtest.CA) {
	s.t.Helper()
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		if _, used := taken.LoadOrStore(port, true); used {
			defer listener.Close()
			continue
		}
		s.Name = "localhost:" + port
		server := httptest.NewUnstartedServer(s)
		server.Listener.Close()
		server.Listener = listener
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Certificate(s.t, "localhost")}}
		server.StartTLS()
		s.t.Cleanup(func() {
			close(s.closed)
			server.CloseClientConnections()
			server.Close()
		})
		return
	}
}

// ServeHTTP answers the server under attack.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.asked = append(s.asked, Request{r.Method, r.RequestURI, body})
	mux := s.mux
	s.mu.Unlock()
	mux.ServeHTTP(w, r)
}

// Handle takes over the answers to requests, by a pattern of [http.ServeMux]. The handler
// runs in another goroutine than the test, which it must not end. With nil the server is
// honest again there.
func (s *Server) Handle(pattern string, handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[pattern] = handler
	if handler == nil {
		delete(s.handlers, pattern)
	}
	s.mux = http.NewServeMux()
	for pattern, handler := range s.handlers {
		s.mux.Handle(pattern, handler)
	}
	if s.handlers["/"] == nil {
		s.mux.Handle("/", s.honest)
	}
}

// Answer gives requests this answer: text and bytes are sent as they are, everything else
// becomes JSON.
func (s *Server) Answer(pattern string, status int, body any) {
	s.Handle(pattern, func(w http.ResponseWriter, _ *http.Request) { s.respond(w, status, body) })
}

// Change gives requests the honest answer after a change, which runs in another goroutine
// than the test.
func (s *Server) Change(pattern string, change func(r *http.Request, answer harness.Object)) {
	s.Handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		recorded := httptest.NewRecorder()
		s.honest.ServeHTTP(recorded, r)
		parsed, err := harness.ParseJSON(recorded.Body.Bytes())
		answer, _ := parsed.Value().(harness.Object)
		if err != nil || answer == nil {
			s.t.Errorf("%s: no answer to change: %d %.300s", r.RequestURI, recorded.Code, recorded.Body)
			return
		}
		change(r, answer)
		s.respond(w, recorded.Code, answer)
	})
}

// Hang leaves requests without an answer until the test ends or who asks has had enough.
func (s *Server) Hang(pattern string) {
	s.Handle(pattern, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-s.closed:
		case <-r.Context().Done():
		}
	})
}

func (s *Server) respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(jsonOf(s.t, body)) // whether anybody reads it is not our business
}

func (s *Server) refuse(w http.ResponseWriter, status int, code string) {
	s.respond(w, status, harness.Object{"errcode": code, "error": "no"})
}

// jsonOf is a value as JSON; text and bytes are taken for JSON, or what is to pass for it.
func jsonOf(t testing.TB, value any) []byte {
	switch value := value.(type) {
	case string:
		return []byte(value)
	case []byte:
		return value
	case json.RawMessage:
		return value
	case *matrix.Event:
		return value.JSON
	case *Forged:
		return value.JSON
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Error(err)
	}
	return text
}

// Keys is the answer to who asks for the server's keys; fields are changed in it before it
// is signed. Let [Server.Answer] give it at [KeysPattern].
func (s *Server) Keys(fields harness.Object) []byte {
	s.t.Helper()
	public := base64.RawStdEncoding.EncodeToString(s.Signer.Key.Public().(ed25519.PublicKey))
	keys := harness.Object{
		"server_name": s.Name, "verify_keys": harness.Object{s.Signer.KeyID: harness.Object{"key": public}},
		"old_verify_keys": harness.Object{}, "valid_until_ts": time.Now().Add(24 * time.Hour).UnixMilli(),
	}
	for name, value := range fields {
		keys[name] = value
	}
	signed, err := s.Signer.SignJSON(jsonOf(s.t, keys))
	if err != nil {
		s.t.Error(err)
	}
	return signed
}

// KeysPattern is where a server publishes its keys.
const KeysPattern = "GET /_matrix/key/v2/server"

// User is the id of a user of the server.
func (s *Server) User(name string) string { return "@" + name + ":" + s.Name }

// Asked are the requests so far whose method and URI, as "GET /x", have this in them.
func (s *Server) Asked(part string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Request
	for _, r := range s.asked {
		if strings.Contains(r.Method+" "+r.URI, part) {
			found = append(found, r)
		}
	}
	return found
}

// AwaitAsked waits until there is a request that has this in it, and gives the first.
func (s *Server) AwaitAsked(part string) Request {
	s.t.Helper()
	Await(s.t, "a request with "+part, func() bool { return len(s.Asked(part)) > 0 })
	return s.Asked(part)[0]
}

// Await waits until something is so.
func Await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(awaitTime); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this did not happen within %v: %s", awaitTime, what)
		}
	}
}
