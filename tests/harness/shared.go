package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"beep/outbound/outboundtest"
)

// shared are the servers that the tests of this process share, by engine, and federated
// those of them that other servers reach. Each is started when it is first needed.
var (
	shared    = map[string]*sharedServer{SQLite: {}, Postgres: {}}
	federated = map[string]*sharedServer{SQLite: {}, Postgres: {}}
)

type sharedServer struct {
	once   sync.Once
	server *Server
	ca     *outboundtest.CA
	err    error
}

// Shared is the server of an engine that all tests of the process share.
func Shared(t testing.TB, engine string) *Server {
	t.Helper()
	s := shared[engine]
	s.once.Do(func() { s.server, s.err = startShared(engine) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

func startShared(engine string) (*Server, error) {
	dir, err := workDir()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, engine)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return newServer(engine, dir, Options{})
}

// SharedFederated is the server of an engine that all tests of the process share, and that
// other servers reach: those which have a certificate of the authority.
func SharedFederated(t testing.TB, engine string) (*Server, *outboundtest.CA) {
	t.Helper()
	s := federated[engine]
	s.once.Do(func() {
		dir, err := workDir()
		if err != nil {
			s.err = err
			return
		}
		dir = filepath.Join(dir, "federated-"+engine)
		if s.err = os.Mkdir(dir, 0o700); s.err != nil {
			return
		}
		if s.ca, s.err = outboundtest.MakeCA(filepath.Join(dir, "ca.pem")); s.err == nil {
			s.server, s.err = newFederated(engine, dir, s.ca, Options{}, nil)
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server, s.ca
}

// stopShared stops the shared servers. The error tells what was wrong with them.
func stopShared() error {
	var errs []error
	for _, servers := range []map[string]*sharedServer{shared, federated} {
		for engine, s := range servers {
			if s.server == nil {
				continue
			}
			if err := s.server.close(); err != nil {
				errs = append(errs, fmt.Errorf("the shared server on %s: %w", engine, err))
			}
		}
	}
	return errors.Join(errs...)
}
