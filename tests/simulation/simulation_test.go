// Package simulation runs several servers on a network and a clock of its own, lets
// everything happen that networks and servers do, and holds the servers to agree in the
// end. See README.md.
package simulation

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
)

// number is the value of a variable of the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s is no number", name, text)
	}
	return n
}

// sqliteURL gives the URL of a copy of an empty database.
func sqliteURL(empty string) func(t *testing.T) string {
	return func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "server.db")
		content, err := os.ReadFile(empty)
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return "sqlite:" + path
	}
}

// emptyDatabase makes a database with nothing in it. To copy it is faster than to make
// another.
func emptyDatabase(t *testing.T) (path string) {
	t.Helper()
	url := storagetest.SQLiteURL(t)
	db, err := storage.Open(t.Context(), storage.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(url, "sqlite:")
}

// TestSeeds: whatever happens to the network and to servers, for however long, in the end they
// agree about every room (F53).
func TestSeeds(t *testing.T) {
	from, seeds := number(t, "SIMULATION_FROM", 1), number(t, "SIMULATION_SEEDS", 5)
	part, parts := number(t, "SIMULATION_PART", 1), number(t, "SIMULATION_PARTS", 1)
	open := sqliteURL(emptyDatabase(t))
	for seed := from + part - 1; seed < from+seeds; seed += parts {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { tell(t, seed, simulate(t, seed, open), seeds == 1) })
	}
}

// tell reports what a simulation came to. The trace is kept of a seed that failed, or that
// was asked for alone.
func tell(t *testing.T, seed uint64, r *report, alone bool) {
	t.Logf("%d events, agreed after %d rounds, %d servers apart", r.events, r.rounds, r.apart)
	for _, v := range r.violations {
		t.Error(v)
	}
	if dir := os.Getenv("SIMULATION_TRACE"); dir != "" && (alone || len(r.violations) > 0) {
		keep(t, filepath.Join(dir, fmt.Sprint("seed-", seed, ".txt")), r)
	}
}

func keep(t *testing.T, path string, r *report) {
	if err := os.WriteFile(path, []byte(strings.Join(r.trace, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Log("the trace is in ", path)
}

// A seed does the same each time.
func TestSeedReproduces(t *testing.T) {
	open := sqliteURL(emptyDatabase(t))
	for seed := uint64(1); seed <= 3; seed++ {
		first, second := simulate(t, seed, open).sorted(), simulate(t, seed, open).sorted()
		for i := range max(len(first), len(second)) {
			if i >= len(first) || i >= len(second) || first[i] != second[i] {
				t.Errorf("seed %d does something else each time:\n%q\n%q", seed, first[min(i, len(first)-1)], second[min(i, len(second)-1)])
				break
			}
		}
	}
}
