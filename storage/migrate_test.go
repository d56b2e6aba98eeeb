package storage_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
)

func TestMigrationsAreNumbered(t *testing.T) {
	names, err := storage.MigrationNames()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if prefix := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(name, prefix) {
			t.Errorf("migration %s should begin with %s", name, prefix)
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		db := open(t, storage.Options{URL: url})
		known, err := storage.Select[int](t.Context(), &db.Reader, `SELECT max(version) FROM schema_version`)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.MigrateFurther(t.Context(), "CREATE TABLE later (\n    a BIGINT\n);"); err != nil {
			t.Fatal(err)
		}
		_, err = storage.Open(t.Context(), storage.Options{URL: url, AllowUnsafeDurability: true})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d", known+1)) ||
			!strings.Contains(err.Error(), fmt.Sprintf("up to %d", known)) {
			t.Errorf("a schema of version %d is answered with: %v", known+1, err)
		}
	})
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		db := open(t, storage.Options{URL: url})
		const bad = "CREATE TABLE half (\n    a BIGINT\n);\nCREATE TABLE half (\n    a BIGINT\n);"
		if err := db.MigrateFurther(t.Context(), bad); err == nil {
			t.Fatal("a migration with an error succeeds")
		}
		if _, err := storage.Select[int](t.Context(), &db.Reader, `SELECT count(*) FROM half`); err == nil {
			t.Error("half of a migration is there")
		}
		const good = "CREATE TABLE half (\n    a BIGINT\n);"
		if err := db.MigrateFurther(t.Context(), good, "DROP TABLE half;"); err != nil {
			t.Errorf("the corrected migration fails: %v", err)
		}
		if err := db.MigrateFurther(t.Context(), good, "DROP TABLE half;"); err != nil {
			t.Errorf("migrations that are applied already: %v", err)
		}
	})
}

func TestStartsAtOnce(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				db, err := storage.Open(t.Context(), storage.Options{URL: url, AllowUnsafeDurability: true})
				if err != nil {
					t.Error(err)
					return
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

// The rules of sql.go about types reach every table.
func TestSchemaIsStrict(t *testing.T) {
	for name, test := range map[string]struct{ url, violations string }{
		"sqlite": {storagetest.SQLiteURL(t),
			`SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%) STRICT%' AND name NOT LIKE 'sqlite_%'`},
		"postgres": {storagetest.OpenPostgresURL(t),
			`SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public' AND
				(data_type = 'text' AND collation_name IS DISTINCT FROM 'C' OR data_type NOT IN ('text', 'bigint', 'boolean', 'bytea', 'double precision'))`},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, storage.Options{URL: test.url})
			found, err := storage.SelectAll[string](t.Context(), &db.Reader, test.violations)
			if err != nil || len(found) > 0 {
				t.Errorf("%v do not follow the rules (%v)", found, err)
			}
		})
	}
}
