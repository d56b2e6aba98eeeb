// Package harness runs real homeservers, as processes of their own over real HTTP,
// and gives tests clients for them.
//
// A package of tests calls [Main] from its TestMain. Most tests run through [Each]: on
// both database engines, at a server that all tests of the process share, as users
// that no other test has. [Start] gives a test a server of its own.
//
// Every exchange of a [Client] is checked against the specification (package
// contract). A server whose output tells of a data race, a panic or an error of its own,
// or that does not stop cleanly, fails the test.
package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"beep/tests/contract"
)

// The database engines.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Each runs a test at the shared server of each engine, as the subtests sqlite and
// postgres, both in parallel with other tests.
func Each(t *testing.T, test func(t *testing.T, srv *Server)) {
	t.Helper()
	t.Parallel()
	for _, engine := range []string{SQLite, Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, Shared(t, engine))
		})
	}
}

// EachOwn is [Each] with a server for each run of the test alone.
func EachOwn(t *testing.T, o Options, test func(t *testing.T, srv *Server)) {
	t.Helper()
	t.Parallel()
	for _, engine := range []string{SQLite, Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, Start(t, engine, o))
		})
	}
}

// Main runs the tests of a package and ends what they shared. It gives the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if err := errors.Join(stopShared(), saveCoverage(), removeWorkDir()); err != nil {
		fmt.Fprintln(os.Stderr, "after the tests:", err)
		return max(code, 1)
	}
	return code
}

// spec is the specification that all exchanges are checked against.
var spec = sync.OnceValues(func() (*contract.Spec, error) {
	dir, err := contract.DefaultDir()
	if err != nil {
		return nil, err
	}
	return contract.Load(dir)
})

func saveCoverage() error {
	if os.Getenv(contract.CoverageEnv) == "" {
		return nil
	}
	s, err := spec()
	if err != nil {
		return err
	}
	return s.Coverage().Save()
}

// workDir is the directory of this process, for what its tests share.
var workDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "beep-tests-") })

func removeWorkDir() error {
	dir, err := workDir()
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Binary is the path of the homeserver, built once for the process and with the race
// detector if the tests have it.
var Binary = sync.OnceValues(func() (string, error) {
	dir, err := workDir()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "homeserver")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "beep/cmd/homeserver")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the homeserver: %w\n%s", err, out)
	}
	return binary, nil
})
