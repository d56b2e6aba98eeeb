// Package simulation runs several servers on a network and a clock of its own, lets
// everything happen that networks and servers do, and holds the servers to agree in the
// end. SIMULATION_SEEDS is the number of seeds, SIMULATION_FROM the first one, and a file
// named by SIMULATION_TRACE takes what has happened.
package simulation

import (
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

func TestSeeds(t *testing.T) {
	from, seeds := number(t, "SIMULATION_FROM", 1), number(t, "SIMULATION_SEEDS", 10)
	open := sqliteURL(emptyDatabase(t))
	for seed := from; seed < from+seeds; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { tell(t, simulate(t, seed, open)) })
	}
}

func tell(t *testing.T, r *report) {
	t.Logf("%d events, agreed after %d rounds", r.events, r.rounds)
	if len(r.violations) == 0 && os.Getenv("SIMULATION_TRACE") == "" {
		return
	}
	for _, v := range r.violations {
		t.Error(v)
	}
	if path := os.Getenv("SIMULATION_TRACE"); path != "" {
		if err := os.WriteFile(path, []byte(strings.Join(r.trace, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
