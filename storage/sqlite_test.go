package storage_test

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"

	"github.com/google/go-cmp/cmp"
)

func openSQLite(t *testing.T) *storage.DB {
	return storagetest.Open(t, storagetest.SQLiteURL(t))
}

// together makes the closures share a transaction, and gives their errors.
func together(t *testing.T, db *storage.DB, closures ...func(tx *storage.Tx) error) []error {
	t.Helper()
	release := occupy(t, db)
	results := make([]error, len(closures))
	var group sync.WaitGroup
	for i, fn := range closures {
		group.Go(func() { results[i] = db.Write(t.Context(), fn) })
		for db.Waiting() != i+1 {
			runtime.Gosched()
		}
	}
	release()
	group.Wait()
	return results
}

func TestSharedTransaction(t *testing.T) {
	db := openSQLite(t)
	ctx := t.Context()
	refused := errors.New("refused")
	insert := func(name string, result error) func(tx *storage.Tx) error {
		return func(tx *storage.Tx) error {
			tx.Reserve()
			if err := tx.Exec(ctx, insertSetting, name, "v"); err != nil {
				return err
			}
			return result
		}
	}
	got := together(t, db,
		insert("a", nil),
		insert("b", refused),
		insert("c", nil),
		func(tx *storage.Tx) error {
			if err := insert("d", nil)(tx); err != nil {
				return err
			}
			panic("at the disco")
		},
		insert("a", nil), // is there already, in the same transaction
		insert("b", nil), // was undone
	)
	for i, ok := range []bool{true, false, true, false, false, true} {
		if ok != (got[i] == nil) {
			t.Errorf("closure %d: %v", i, got[i])
		}
	}
	if !errors.Is(got[1], refused) || !errors.Is(got[4], storage.ErrExists) {
		t.Errorf("the closures' own errors became %v and %v", got[1], got[4])
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names(t, db)); diff != "" {
		t.Error(diff)
	}
	checkReleased(t, db)
}

// Some failures make SQLite undo the whole transaction. Then nobody may be told
// that it was committed.
func TestSharedTransactionIsUndone(t *testing.T) {
	db := openSQLite(t)
	ctx := t.Context()
	insert := func(name string) func(tx *storage.Tx) error {
		return func(tx *storage.Tx) error {
			tx.Reserve()
			return tx.Exec(ctx, insertSetting, name, "v")
		}
	}
	got := together(t, db, insert("a"),
		func(tx *storage.Tx) error {
			return tx.Exec(ctx, `INSERT OR ROLLBACK INTO settings (name, value) VALUES ('a', 'v')`)
		},
		insert("b"))
	for i, err := range got {
		if err == nil {
			t.Errorf("closure %d is told that it was committed", i)
		}
	}
	if found := names(t, db); len(found) != 0 {
		t.Errorf("%v are there", found)
	}
	if err := db.Write(ctx, insert("c")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	checkReleased(t, db)
}

// A closure that ends its goroutine, as a failing test does, does not take the
// writer with it.
func TestGoexit(t *testing.T) {
	db := openSQLite(t)
	err := db.Write(t.Context(), func(tx *storage.Tx) error {
		tx.Reserve()
		if err := tx.Exec(t.Context(), insertSetting, "a", "v"); err != nil {
			return err
		}
		runtime.Goexit()
		return nil
	})
	if err == nil {
		t.Error("Write is told that all is well")
	}
	if err := set(t.Context(), db, "b", "v"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"b"}, names(t, db)); diff != "" {
		t.Error(diff)
	}
	checkReleased(t, db)
}

func TestSQLiteSettings(t *testing.T) {
	db := openSQLite(t)
	settings := []struct{ pragma, writer, reader string }{
		{"journal_mode", "wal", "wal"},
		{"synchronous", "2", ""},
		{"foreign_keys", "1", ""},
		{"busy_timeout", "10000", "10000"},
		{"cache_size", "-2000", "-2000"},
	}
	for _, s := range settings {
		var writer string
		err := db.Write(t.Context(), func(tx *storage.Tx) (err error) {
			writer, err = storage.Select[string](t.Context(), &tx.Reader, "PRAGMA "+s.pragma)
			return err
		})
		if err != nil || writer != s.writer {
			t.Errorf("%s of the writer is %s (%v), want %s", s.pragma, writer, err, s.writer)
		}
		reader, err := storage.Select[string](t.Context(), &db.Reader, "PRAGMA "+s.pragma)
		if s.reader != "" && (err != nil || reader != s.reader) {
			t.Errorf("%s of a reader is %s (%v), want %s", s.pragma, reader, err, s.reader)
		}
	}
	_, err := storage.SelectAll[string](t.Context(), &db.Reader, `DELETE FROM settings RETURNING name`)
	if err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("a reader that writes gets %v", err)
	}
}

func TestPathIsTakenLiterally(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for url, file := range map[string]string{
		"sqlite:relative.db":                    "relative.db",
		"sqlite:" + dir + "/a%20b%3Fc%23d.db":   "a b?c#d.db",
		"sqlite:with%2525percent.db":            "with%25percent.db",
		"sqlite://" + dir + "/three-slashes.db": "three-slashes.db",
	} {
		db := open(t, storage.Options{URL: url})
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has the mode %v", file, mode)
		}
	}
}
