package remote

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"beep/federation/xmatrix"
	"beep/matrix"
	"beep/outbound"
	"beep/outbound/outboundtest"
)

const us = "us.test"

// world is what this server sees of the net: a DNS, an authority, other servers, and a clock
// that tests move.
type world struct {
	dns    *outboundtest.DNS
	ca     *outboundtest.CA
	client *Client
	ahead  atomic.Int64 // nanoseconds that the clock is ahead
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dns: outboundtest.NewDNS(t), ca: outboundtest.NewCA(t)}
	w.client = w.newClient(t, Options{})
	return w
}

// newClient makes a client of this world; what o leaves out is filled in.
func (w *world) newClient(t testing.TB, o Options) *Client {
	t.Helper()
	dialer, err := outbound.New(outbound.Options{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CAFiles: []string{w.ca.File}, Resolver: w.dns.Resolver(),
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Signer, o.Dialer, o.UserAgent = newSigner(us, 1), dialer, "beep/test"
	client, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	client.resolver.now, client.resolver.wellKnown.now = w.now, w.now
	client.resolver.wellKnownPort = "1" // nobody listens there
	return client
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) wait(d time.Duration) { w.ahead.Add(int64(d)) }

// newSigner is a server with a key of its own.
func newSigner(name string, seed byte) *matrix.Signer {
	long := make([]byte, ed25519.SeedSize)
	long[0] = seed
	return &matrix.Signer{ServerName: name, KeyID: "ed25519:k" + string('0'+seed%10), Key: ed25519.NewKeyFromSeed(long)}
}

// serve runs an HTTPS server with a certificate for names; it gives the address.
func (w *world) serve(t testing.TB, address string, handler http.Handler, names ...string) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = listener
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{w.ca.Certificate(t, names...)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// peer is another server.
type peer struct {
	name        string // with the port
	server      *httptest.Server
	mux         *http.ServeMux
	requests    atomic.Int64
	connections sync.Map // the client's addresses
}

// newPeer starts another server, whose name is host and a port.
func (w *world) newPeer(t testing.TB, host string) *peer {
	t.Helper()
	p := &peer{mux: http.NewServeMux()}
	p.server = w.serve(t, "127.0.0.1:0", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		p.connections.Store(r.RemoteAddr, true)
		p.mux.ServeHTTP(rw, r)
	}), host)
	w.dns.Address(host, "127.0.0.1")
	p.name = net.JoinHostPort(host, portOf(p.server))
	return p
}

func portOf(server *httptest.Server) string {
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	return port
}

// answer makes the peer answer a path with a status and a text.
func (p *peer) answer(path string, status int, text string) {
	p.mux.HandleFunc(path, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		io.WriteString(rw, text)
	})
}

// proven tells whether a request was signed by this server for that one.
func proven(r *http.Request, destination string, body []byte) bool {
	a, err := xmatrix.Parse(r.Header["Authorization"])
	if err != nil || a.Origin != us || a.Destination != destination || a.Key != "ed25519:k1" {
		return false
	}
	if len(body) == 0 {
		body = nil
	}
	public := newSigner(us, 1).Key.Public().(ed25519.PublicKey)
	return matrix.VerifySignature(public, a.Message(r.Method, r.RequestURI, body), a.Signature)
}

// getVersion is a request like any other.
func (c *Client) getVersion(ctx context.Context, server string) (string, error) {
	name, _, err := c.Version(ctx, server)
	return name, err
}
