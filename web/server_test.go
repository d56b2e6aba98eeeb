package web

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// start runs a server until the test ends or stop is called; stop gives Run's error.
func start(t *testing.T, o ServerOptions) (s *Server, stop func() error) {
	t.Helper()
	s, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-result
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, stop
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, text+" "+r.Proto)
	})
}

// fetch gives the answer's body, or the error as text.
func fetch(c *http.Client, url string) string {
	resp, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func freshClient(t *testing.T, transport *http.Transport) *http.Client {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// writeCertificate makes a key pair for localhost that is recognised by its name.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", pkcs8)
	return certFile, keyFile
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestListeners(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	certFile, keyFile := writeCertificate(t, dir, "first")
	s, _ := start(t, ServerOptions{Listeners: []Listener{
		{Address: "127.0.0.1:0", Handler: says("plain")},
		{Address: "localhost:0", Handler: says("tls"), CertFile: certFile, KeyFile: keyFile},
		{Address: "unix:" + socket, Handler: says("unix"), SocketMode: 0o600},
	}})
	addrs := s.Addrs()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	c := freshClient(t, &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	})
	overUnix := freshClient(t, &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", addrs[2].String())
	}})
	for _, tc := range []struct{ got, want string }{
		{fetch(c, "http://"+addrs[0].String()), "plain HTTP/1.1"},
		{fetch(c, "https://"+addrs[1].String()), "tls HTTP/2.0"},
		{fetch(overUnix, "http://x"), "unix HTTP/1.1"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", addrs[1].String(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, _ := start(t, ServerOptions{Listeners: []Listener{
		{Address: "127.0.0.1:0", Handler: says("")}, {Address: "unix:" + filepath.Join(dir, "taken"), Handler: says("")},
	}})
	certFile, goodKey := writeCertificate(t, dir, "x")
	for _, l := range []Listener{
		{Address: taken.Addrs()[0].String()},
		{Address: "unix:" + taken.Addrs()[1].String()},
		{Address: "unix:" + file},
		{Address: "unix:" + filepath.Join(dir, "none", "s")},
		{Address: "127.0.0.1:0", CertFile: certFile},
		{Address: "127.0.0.1:0", CertFile: certFile, KeyFile: file},
		{Address: "127.0.0.1:0", CertFile: certFile, KeyFile: goodKey, ClientCAFile: file},
		{Address: "127.0.0.1:0", CertFile: certFile, KeyFile: goodKey, ClientCAFile: filepath.Join(dir, "none")},
		{Address: "127.0.0.1:0", ClientCAFile: certFile},
		{Address: "nonsense"},
	} {
		free := Listener{Address: "127.0.0.1:0"}
		if s, err := Listen(t.Context(), ServerOptions{Listeners: []Listener{free, l}}); err == nil {
			t.Errorf("%+v: no error", l)
			s.Close()
		} else if !strings.Contains(err.Error(), l.Address) {
			t.Errorf("%+v: the error names no address: %v", l, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

// TestSocketLife: what a killed server left is taken over, and an ended one leaves
// nothing.
func TestSocketLife(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	for _, path := range []string{socket, socket + ".new"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	_, stop := start(t, ServerOptions{Listeners: []Listener{{Address: "unix:" + socket, Handler: says("unix")}}})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	log := &syncBuffer{}
	certFile, keyFile := writeCertificate(t, dir, "first")
	c, err := newCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	// serves is the name on the certificate that the next look at the files leads to.
	serves := func() string {
		t.Helper()
		c.checked = time.Time{}
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.Subject.CommonName
	}
	steps := []struct {
		name, want string
		change     func()
	}{
		{"nothing", "first", func() {}},
		{"new files", "second", func() { writeCertificate(t, dir, "second") }},
		{"bad key", "second", func() { writePEM(t, keyFile, "PRIVATE KEY", []byte("junk")) }},
		{"repaired", "third", func() { writeCertificate(t, dir, "third") }},
		{"gone", "third", func() { os.Remove(certFile) }},
		{"back", "fourth", func() { writeCertificate(t, dir, "fourth") }},
		{"moved into place", "fifth", func() {
			other := t.TempDir()
			newCert, newKey := writeCertificate(t, other, "fifth")
			os.Rename(newCert, certFile)
			os.Rename(newKey, keyFile)
		}},
	}
	for _, step := range steps {
		step.change()
		if got := serves(); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	if got := strings.Count(log.String(), "level=ERROR"); got != 2 {
		t.Errorf("%d errors in the log:\n%s", got, log)
	}
	writeCertificate(t, dir, "sixth")
	c.checked = time.Now().Add(time.Hour)
	if pair, _ := c.get(nil); pair.Leaf.Subject.CommonName != "fifth" {
		t.Error("the files are looked at for each handshake")
	}
}

// TestClientCA: only who shows a certificate of the authorities gets in, and who they are
// follows the file. The log says who was turned away.
func TestClientCA(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), "server")
	dir, other, log := t.TempDir(), t.TempDir(), &syncBuffer{}
	ours, ourKey := writeCertificate(t, dir, "ours")
	theirs, theirKey := writeCertificate(t, other, "theirs")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	trust := func(file string) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(ca, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	trust(ours)
	s, _ := start(t, ServerOptions{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Listeners: []Listener{{Address: "127.0.0.1:0", Handler: says("in"), CertFile: certFile, KeyFile: keyFile, ClientCAFile: ca}}})
	answer := func(files ...string) string {
		t.Helper()
		config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		if len(files) > 0 {
			pair, err := tls.LoadX509KeyPair(files[0], files[1])
			if err != nil {
				t.Fatal(err)
			}
			// It is shown whatever authorities the server asks for.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return fetch(freshClient(t, &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}), "https://"+s.Addrs()[0].String())
	}
	expect := func(in bool, files ...string) {
		t.Helper()
		if got := answer(files...); (got == "in HTTP/2.0") != in {
			t.Errorf("%v: %q, expected to be in: %v", files, got, in)
		}
	}
	expect(true, ours, ourKey)
	expect(false)
	expect(false, theirs, theirKey)
	trust(theirs)
	for deadline := time.Now().Add(time.Minute); answer(theirs, theirKey) != "in HTTP/2.0"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new authorities are not those of the listener")
		}
	}
	expect(false, ours, ourKey)
	for _, part := range []string{"client didn't provide a certificate", "failed to verify certificate"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q:\n%s", part, log)
		}
	}
}

// TestDrain: at the end a waiting request is told and answers, a working one finishes,
// a stuck one is cut off, and nobody new gets in.
func TestDrain(t *testing.T) {
	rt := NewRouter(Options{})
	began := make(chan struct{}, 2)
	work := make(chan struct{})
	GET(rt, "/poll", Anyone, func(ctx context.Context, _ Nobody, _ *Empty) (*Empty, error) {
		began <- struct{}{}
		select {
		case <-ShuttingDown(ctx):
			return &Empty{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	GET(rt, "/work", Anyone, func(ctx context.Context, _ Nobody, _ *Empty) (*Empty, error) {
		began <- struct{}{}
		<-work
		return &Empty{}, ctx.Err()
	})
	s, stop := start(t, ServerOptions{Listeners: []Listener{{Address: "127.0.0.1:0", Handler: rt}}, DrainTime: time.Hour})
	base := "http://" + s.Addrs()[0].String()
	answers := make(chan string, 2)
	for _, path := range []string{"/poll", "/work"} {
		go func() { answers <- fetch(freshClient(t, &http.Transport{}), base+path) }()
		<-began
	}
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	if got := <-answers; got != "{}" {
		t.Errorf("the poll was answered with %s", got)
	}
	close(work)
	if got := <-answers; got != "{}" {
		t.Errorf("the work was answered with %s", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", s.Addrs()[0].String()); err == nil {
		conn.Close()
		t.Error("a stopped server takes connections")
	}
}

func TestCutOff(t *testing.T) {
	began := make(chan struct{})
	cut := make(chan struct{})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(cut)
	})
	s, stop := start(t, ServerOptions{Listeners: []Listener{{Address: "127.0.0.1:0", Handler: h}}, DrainTime: time.Millisecond})
	go fetch(freshClient(t, &http.Transport{}), "http://"+s.Addrs()[0].String())
	<-began
	if err := stop(); err != nil {
		t.Error(err)
	}
	<-cut
}

// TestFailedListener: a listener that breaks ends the whole server, with its error.
func TestFailedListener(t *testing.T) {
	s, err := Listen(t.Context(), ServerOptions{Listeners: []Listener{
		{Address: "127.0.0.1:0", Handler: says("")}, {Address: "127.0.0.1:0", Handler: says("")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.bound[1].Close()
	if err := s.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

// TestConnectionCap: the connections above the cap are closed, a place that was left is
// free again, and proxies have no cap.
func TestConnectionCap(t *testing.T) {
	for _, tc := range []struct {
		name     string
		uncapped []netip.Prefix
		want     int
	}{
		{"capped", nil, 2},
		{"proxy", []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := start(t, ServerOptions{
				Listeners:     []Listener{{Address: "127.0.0.1:0", Handler: says("hello")}},
				MaxConnsPerIP: 2, Uncapped: tc.uncapped,
			})
			var served []net.Conn
			for range 4 {
				if conn, ok := greet(t, s.Addrs()[0]); ok {
					served = append(served, conn)
				}
			}
			if len(served) != tc.want {
				t.Fatalf("%d connections were served, want %d", len(served), tc.want)
			}
			served[0].Close()
			for {
				// The server learns of the close when it gets to it.
				if _, ok := greet(t, s.Addrs()[0]); ok {
					return
				}
			}
		})
	}
}

// greet opens a connection, keeps it, and tells whether it was served.
func greet(t *testing.T, addr net.Addr) (net.Conn, bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return conn, false
	}
	return conn, resp.StatusCode == 200
}

// TestSlowClients: two thousand connections that stand still in the middle of their
// headers or bodies keep nobody else from an answer.
func TestSlowClients(t *testing.T) {
	type object struct{ Body map[string]any }
	rt := NewRouter(Options{})
	POST(rt, "/object", Anyone, echoing[object])
	s, _ := start(t, ServerOptions{Listeners: []Listener{{Address: "127.0.0.1:0", Handler: rt}}, DrainTime: time.Millisecond})
	for i := range 2000 {
		conn, err := net.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		piece := "POST /object HTTP/1.1\r\nHost: x\r\nX-"
		if i%2 == 1 {
			piece = "POST /object HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
		}
		if _, err := io.WriteString(conn, piece); err != nil {
			t.Fatal(err)
		}
	}
	c := freshClient(t, &http.Transport{})
	for range 20 {
		resp, err := c.Post("http://"+s.Addrs()[0].String()+"/object", "", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
	}
}

// TestSlowBodyEnds: a body that stands still is given up, read or not.
func TestSlowBodyEnds(t *testing.T) {
	type object struct{ Body map[string]any }
	rt := NewRouter(Options{})
	POST(rt, "/object", Anyone, echoing[object])
	POST(rt, "/none", Anyone, echoing[Empty])
	deadlines := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
	for _, path := range []string{"/object", "/none"} {
		deadlines.read = nil
		req := httptest.NewRequest("POST", path, strings.NewReader("{}"))
		rt.ServeHTTP(deadlines, req)
		if len(deadlines.read) == 0 || deadlines.read[0].IsZero() {
			t.Errorf("%s: the body may take for ever", path)
		}
		if last := deadlines.read[len(deadlines.read)-1]; last.IsZero() != (path == "/object") {
			t.Errorf("%s: deadline %s after the body", path, last)
		}
	}
}

type deadlineWriter struct {
	*httptest.ResponseRecorder
	read []time.Time
}

func (w *deadlineWriter) SetReadDeadline(d time.Time) error {
	w.read = append(w.read, d)
	return nil
}

// TestSmuggling: what two parsers could read differently has one reading, or none.
func TestSmuggling(t *testing.T) {
	s, c := tableServer(t)
	const login = "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\n"
	const smuggled = "GET /_synapse/admin/v1/register HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"two lengths":        login + "Content-Length: 0\r\nContent-Length: 54\r\n\r\n" + smuggled,
		"length list":        login + "Content-Length: 0, 54\r\n\r\n" + smuggled,
		"signed length":      login + "Content-Length: +0\r\n\r\n" + smuggled,
		"unknown coding":     login + "Transfer-Encoding: xchunked\r\n\r\n" + smuggled,
		"two codings":        login + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"space before colon": login + "Content-Length : 54\r\n\r\n" + smuggled,
		"no host":            "POST /_matrix/client/v3/login HTTP/1.1\r\n\r\n" + smuggled,
		"bare CR":            login + "X: a\rContent-Length: 54\r\n\r\n" + smuggled,
	} {
		resp := raw(t, s, request)
		if ran := c.ran(); resp.StatusCode/100 != 4 && resp.StatusCode != 501 || len(ran) != 0 {
			t.Errorf("%s: %d, ran %q", name, resp.StatusCode, ran)
		}
	}
}

// TestChunkedIsLast: after a chunked request nothing more is read from its connection,
// so a request with two lengths cannot carry a second one.
func TestChunkedIsLast(t *testing.T) {
	s, c := tableServer(t)
	for _, method := range []string{"POST", "OPTIONS", "GET"} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, err = io.WriteString(conn, method+" /_matrix/client/v3/account/3pid/email/requestToken HTTP/1.1\r\nHost: x\r\n"+
			"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+
			"GET /_synapse/admin/v1/register HTTP/1.1\r\nHost: x\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(conn)
		ran := strings.Join(c.ran(), ",")
		if strings.Count(string(all), "HTTP/1.1 ") != 1 || strings.Contains(ran, "_synapse") {
			t.Errorf("%s: ran %s, answers %q", method, ran, all)
		}
	}
}

func TestOperations(t *testing.T) {
	log := &syncBuffer{}
	registry := prometheus.NewRegistry()
	newMetrics(registry).panics.Inc()
	notReady := errors.New("the database is away")
	var state error = notReady
	h := Operations(registry, slog.New(slog.NewTextHandler(log, nil)), func(context.Context) error { return state })
	s := serveTest(t, h)
	status := func() string {
		got := ""
		for _, check := range []string{"live", "ready", "startup"} {
			got += fmt.Sprint(rawPath(t, s, "GET", "/health/"+check).StatusCode, " ")
		}
		return got
	}
	for _, step := range []struct {
		state error
		want  string
	}{
		{notReady, "200 503 503 "}, {nil, "200 200 200 "}, {notReady, "200 503 200 "},
	} {
		state = step.state
		if got := status(); got != step.want {
			t.Errorf("%v: %s, want %s", step.state, got, step.want)
		}
	}
	if !strings.Contains(log.String(), "the database is away") {
		t.Error("the log does not tell why")
	}
	if got := text(t, rawPath(t, s, "GET", "/metrics")); !strings.Contains(got, "http_handler_panics_total 1\n") {
		t.Errorf("metrics: %s", got)
	}
	stopping := make(chan struct{})
	close(stopping)
	state = nil
	ctx := context.WithValue(t.Context(), stoppingKey{}, (<-chan struct{})(stopping))
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/health/ready", nil).WithContext(ctx))
	if rec.Code != 503 {
		t.Errorf("a stopping server is ready: %d", rec.Code)
	}
}
