package harness

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/lib/pq" // for administer

	"beep/storage/storagetest"
)

// cluster is the URL of a superuser of the PostgreSQL cluster that the tests use. One
// that this process starts ends with it: the variable keeps it from ending before.
var cluster = sync.OnceValues(func() (*storagetest.Cluster, error) {
	if u := os.Getenv(storagetest.Variable); u != "" {
		return &storagetest.Cluster{URL: u}, nil
	}
	return storagetest.StartCluster(false)
})

// DurableCluster is a PostgreSQL server that loses nothing when it is killed. It goes with
// the test.
func DurableCluster(t testing.TB) *storagetest.Cluster {
	t.Helper()
	c, err := storagetest.StartCluster(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// PostgresDatabase is the URL of an empty database of a cluster.
func PostgresDatabase(t testing.TB, c *storagetest.Cluster) string {
	t.Helper()
	url, _, err := newDatabase(Postgres, c.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// newDatabase is the URL of an empty database; dir is where files may be. Drop removes it.
func newDatabase(engine, clusterURL, dir string) (databaseURL string, drop func() error, err error) {
	if engine == SQLite {
		return "sqlite:" + filepath.Join(dir, "homeserver.db"), func() error { return nil }, nil
	}
	if clusterURL == "" {
		c, err := cluster()
		if err != nil {
			return "", nil, err
		}
		clusterURL = c.URL
	}
	u, err := url.Parse(clusterURL)
	if err != nil {
		return "", nil, err
	}
	name := "beep_" + strings.ToLower(rand.Text())
	u.Path = "/" + name
	drop = func() error { return administer(clusterURL, "DROP DATABASE "+name+" WITH (FORCE)") }
	return u.String(), drop, administer(clusterURL, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'")
}

func administer(clusterURL, statement string) error {
	admin, err := sql.Open("postgres", clusterURL)
	if err != nil {
		return err
	}
	_, err = admin.Exec(statement)
	return errors.Join(err, admin.Close())
}
