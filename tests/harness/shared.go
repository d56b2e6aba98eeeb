package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// shared are the servers that the tests of this process share, by engine. Each is
// started when it is first needed.
var shared = map[string]*sharedServer{SQLite: {}, Postgres: {}}

type sharedServer struct {
	once   sync.Once
	server *Server
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

// stopShared stops the shared servers. The error tells what was wrong with them.
func stopShared() error {
	var errs []error
	for engine, s := range shared {
		if s.server == nil {
			continue
		}
		if err := s.server.close(); err != nil {
			errs = append(errs, fmt.Errorf("the shared server on %s: %w", engine, err))
		}
	}
	return errors.Join(errs...)
}
