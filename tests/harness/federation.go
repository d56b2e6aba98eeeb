package harness

import (
	"errors"
	"fmt"
	"net"
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
// authority of their own. They are called localhost, by their ports.
func StartFederation(t testing.TB, engine string, n int, o Options) []*Server {
	t.Helper()
	ca := outboundtest.NewCA(t)
	servers := make([]*Server, n)
	for i := range servers {
		s, err := newFederated(t, engine, t.TempDir(), ca, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.end(t) })
		servers[i] = s
	}
	return servers
}

// newFederated makes a server that trusts an authority and starts it.
func newFederated(t testing.TB, engine, dir string, ca *outboundtest.CA, o Options) (*Server, error) {
	t.Helper()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	certificate, key := ca.FilesIn(t, dir, "localhost")
	s := &Server{Name: fmt.Sprintf("localhost:%d", port), Engine: engine, Dir: dir, options: o, federates: true}
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

// freePort is a port that nobody listens at.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// end stops a server at the end of its test.
func (s *Server) end(t testing.TB) {
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the end of the log of %s:\n%s", s.Name, tail(s.Log(), 4<<10))
	}
}
