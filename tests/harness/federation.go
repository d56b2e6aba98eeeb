package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"

	"beep/outbound/outboundtest"
)

// EachFederation runs a test with n servers that reach each other, on each engine.
func EachFederation(t *testing.T, n int, o Options, test func(t *testing.T, servers []*Server)) {
	t.Helper()
	t.Parallel()
	for _, engine := range []string{SQLite, Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, StartFederation(t, engine, n, o))
		})
	}
}

// StartFederation starts n servers that reach each other over TLS, with certificates of an
// authority of their own. They are called localhost, by their ports. What they ask of each
// other and answer is held against the specification.
func StartFederation(t testing.TB, engine string, n int, o Options) []*Server {
	t.Helper()
	ca := outboundtest.NewCA(t)
	servers := make([]*Server, n)
	for i := range servers {
		s, err := newFederated(engine, t.TempDir(), ca, o, func(from, to int) error { return watch(t, ca, from, to) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.end(t) })
		servers[i] = s
	}
	return servers
}

// newFederated makes a server that trusts an authority and starts it. watch, if not nil, is
// to listen at a port and to pass on what comes there to another one.
func newFederated(engine, dir string, ca *outboundtest.CA, o Options, watch func(from, to int) error) (*Server, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	certificate, key, err := ca.WriteFiles(dir, "localhost")
	if err != nil {
		return nil, err
	}
	s := &Server{Name: fmt.Sprintf("localhost:%d", port), Engine: engine, Dir: dir, options: o, federates: true}
	if o.Wired {
		known := port
		if port, err = FreePort(); err != nil {
			return nil, err
		}
		if s.wire, err = newWire(known, port); err != nil {
			return nil, err
		}
	}
	if o.Front {
		known := port
		if port, err = FreePort(); err != nil {
			return nil, err
		}
		if s.front, err = newFront(ca, known, port, certificate, key); err != nil {
			return nil, err
		}
	}
	if watch != nil {
		known := port
		if port, err = FreePort(); err != nil {
			return nil, err
		}
		if err := watch(known, port); err != nil {
			return nil, err
		}
	}
	config := fmt.Sprintf(`
server_name: %s
listeners:
  - {address: "127.0.0.1:0"}
  - {address: "127.0.0.1:%d", tls: {certificate: %s, key: %s}}
federation: {ca_file: %s, allowed_networks: [127.0.0.0/8]}
`, s.Name, port, certificate, key, ca.File)
	if s.Database, s.drop, err = newDatabase(engine, o.Cluster, s.Dir); err != nil {
		return nil, err
	}
	if err := errors.Join(writeConfig(s.configFile(), o, config), s.Start()); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return s, nil
}

// FreePort is a port that nobody listens at. It is below those that connections get which are
// made to others: none of them may have it while the server is down.
func FreePort() (int, error) {
	const lowest, ports = 10_000, 20_000
	for {
		port := lowest + rand.IntN(ports)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return 0, err
		}
	}
}

// end stops a server at the end of its test.
func (s *Server) end(t testing.TB) { s.review(t, s.close()) }

// review fails the test for what was wrong with the server, and shows the end of the log of a
// test that has failed.
func (s *Server) review(t testing.TB, err error) {
	if err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the end of the log of %s:\n%s", s.Name, tail(s.Log(), 4<<10))
	}
}
