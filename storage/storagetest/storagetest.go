// Package storagetest gives tests real databases of both engines.
//
// PostgreSQL runs as a throwaway cluster: the one that the environment variable
// BEEP_TEST_POSTGRES names (the URL of a superuser), or one that the test process
// starts when it first needs it and that ends with the process.
package storagetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"beep/storage"
)

// Variable is the environment variable with the URL of a superuser of a
// PostgreSQL cluster that tests may create databases in.
const Variable = "BEEP_TEST_POSTGRES"

// Each runs a test on a fresh database of each engine, as the subtests sqlite and
// postgres.
func Each(t *testing.T, test func(t *testing.T, db *storage.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, Open(t, SQLiteURL(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, Open(t, OpenPostgresURL(t))) })
}

// EachURL is Each for tests that open the database themselves: they get the URL
// of one that is empty.
func EachURL(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLiteURL(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, OpenPostgresURL(t)) })
}

// Open opens a database and runs it until the end of the test.
func Open(t testing.TB, url string) *storage.DB {
	t.Helper()
	db, err := storage.Open(t.Context(), storage.Options{URL: url, AllowUnsafeDurability: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

// SQLiteURL gives the URL of a file that does not exist yet, in a directory that
// the end of the test removes.
func SQLiteURL(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
}

// OpenPostgresURL creates an empty database, which the end of the test drops, and
// gives its URL. It fails the test when PostgreSQL cannot be started.
func OpenPostgresURL(t testing.TB) string {
	t.Helper()
	cluster, err := sharedCluster()
	if err != nil {
		t.Fatal(err)
	}
	name := "beep_" + strings.ToLower(rand.Text())
	administer(t, cluster.URL, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'")
	t.Cleanup(func() { administer(t, cluster.URL, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(cluster.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func administer(t testing.TB, cluster, statement string) {
	t.Helper()
	admin, err := sql.Open("postgres", cluster)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// sharedCluster is the cluster of this process. Nobody stops it: it ends when the
// process does, so the variable keeps it from ending before.
var sharedCluster = sync.OnceValues(func() (*Cluster, error) {
	if u := os.Getenv(Variable); u != "" {
		return &Cluster{URL: u}, nil
	}
	return StartCluster(false)
})
