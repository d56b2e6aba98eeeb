package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"

	"github.com/google/go-cmp/cmp"
)

const insertSetting = `INSERT INTO settings (name, value) VALUES ($1, $2)`

// set writes a setting and reserves a position for it.
func set(ctx context.Context, db *storage.DB, name, value string) error {
	return db.Write(ctx, func(tx *storage.Tx) error {
		tx.Reserve()
		return tx.Exec(ctx, insertSetting, name, value)
	})
}

// names gives the names of all settings in their order.
func names(t *testing.T, db *storage.DB) []string {
	t.Helper()
	all, err := storage.SelectAll[string](t.Context(), &db.Reader, `SELECT name FROM settings ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// checkReleased fails unless every position that was given out is done.
func checkReleased(t *testing.T, db *storage.DB) {
	t.Helper()
	next := db.Clock.Reserve()
	if current := db.Clock.Current(); current != next-1 {
		t.Errorf("positions up to %d are given out, and only those up to %d are done", next-1, current)
	}
	db.Clock.Done(next)
}

func TestReadAfterWrite(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for i := range 200 {
			name := fmt.Sprint("name", i)
			if err := set(t.Context(), db, name, "value"); err != nil {
				t.Fatal(err)
			}
			got, err := storage.Select[string](t.Context(), &db.Reader, `SELECT value FROM settings WHERE name = $1`, name)
			if err != nil || got != "value" {
				t.Fatalf("after the write of %s: %q, %v", name, got, err)
			}
		}
		checkReleased(t, db)
	})
}

// The arguments go by their numbers, wherever the numbers stand in the text.
func TestArgumentsByNumber(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		err := db.Write(ctx, func(tx *storage.Tx) error {
			if err := tx.Exec(ctx, `INSERT INTO settings (value, name) VALUES ($2, $1)`, "name", "old"); err != nil {
				return err
			}
			return tx.Exec(ctx, `UPDATE settings SET value = $2 || '$1' || $2 WHERE name = $1`, "name", "new")
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = $1 AND $1 <> value`, "name")
		if err != nil || got != "new$1new" {
			t.Errorf("got %q, %v", got, err)
		}
		_, err = storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = $1 AND value = $2`, "name")
		if err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a statement with an argument too few gives %v", err)
		}
	})
}

func TestLists(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		odd := []string{"a", `b"'\,{}`, "", "ü\u2028<&>", "null"}
		for _, name := range odd {
			if err := set(ctx, db, name, "v"); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range []struct {
			list          storage.List
			inside, other int64
		}{
			{storage.List(odd), 5, 0},
			{storage.List{`b"'\,{}`, "ü\u2028<&>", "unknown"}, 2, 3},
			{storage.List{""}, 1, 4},
			{storage.List{}, 0, 5},
			{nil, 0, 5},
		} {
			inside, err := storage.Select[int64](ctx, &db.Reader, `SELECT count(*) FROM settings WHERE name = ANY($1)`, test.list)
			if err != nil || inside != test.inside {
				t.Errorf("%q contains %d names, %v; want %d", test.list, inside, err, test.inside)
			}
			other, err := storage.Select[int64](ctx, &db.Reader, `SELECT count(*) FROM settings WHERE name <> ALL($1)`, test.list)
			if err != nil || other != test.other {
				t.Errorf("%q lacks %d names, %v; want %d", test.list, other, err, test.other)
			}
		}
		for _, list := range []storage.Ints{{1, -5, 1 << 60}, {1}} {
			n, err := storage.Select[int64](ctx, &db.Reader, `SELECT count(*) FROM clock WHERE id = ANY($1)`, list)
			if err != nil || n != 1 {
				t.Errorf("%v contains %d of 1, %v", list, n, err)
			}
		}
	})
}

func TestRowsInOneGo(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		for _, n := range []int{0, 1, 3, 200} {
			var rows [][]any
			for i := range n {
				rows = append(rows, []any{fmt.Sprint(n, "-", i), fmt.Sprint("value ", i)})
			}
			err := db.Write(ctx, func(tx *storage.Tx) error { return tx.ExecEach(ctx, insertSetting, rows) })
			if err != nil {
				t.Fatalf("%d rows: %v", n, err)
			}
			for _, row := range rows {
				got, err := storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = $1`, row[0])
				if err != nil || got != row[1] {
					t.Fatalf("%v is %q, %v, want %q", row[0], got, err, row[1])
				}
			}
		}
	})
}

func TestExistsAndNotFound(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		if err := set(ctx, db, "a", "1"); err != nil {
			t.Fatal(err)
		}
		if err := set(ctx, db, "a", "2"); !errors.Is(err, storage.ErrExists) {
			t.Errorf("a second row with the key gives %v", err)
		}
		returning := func(tx *storage.Tx) error {
			_, err := storage.Select[string](ctx, &tx.Reader, insertSetting+` RETURNING value`, "a", "3")
			return err
		}
		if err := db.Write(ctx, returning); !errors.Is(err, storage.ErrExists) {
			t.Errorf("a second row with RETURNING gives %v", err)
		}
		_, err := storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = $1`, "b")
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("no row gives %v", err)
		}
		all, err := storage.SelectAll[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = $1`, "b")
		if err != nil || all == nil || len(all) != 0 {
			t.Errorf("no rows give %#v, %v", all, err)
		}
		if err := db.Write(ctx, func(tx *storage.Tx) error { return tx.Exec(ctx, `UPDATE clock SET id = 2`) }); err == nil || errors.Is(err, storage.ErrExists) {
			t.Errorf("a violated CHECK gives %v", err)
		}
		checkReleased(t, db)
	})
}

// An error ends the transaction on both engines, also when the closure does not
// care.
func TestErrorEndsTheTransaction(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		if err := set(ctx, db, "a", "1"); err != nil {
			t.Fatal(err)
		}
		var later error
		err := db.Write(ctx, func(tx *storage.Tx) error {
			if err := tx.Exec(ctx, insertSetting, "b", "1"); err != nil {
				return err
			}
			if err := tx.Exec(ctx, insertSetting, "a", "2"); !errors.Is(err, storage.ErrExists) {
				t.Errorf("a second row with the key gives %v", err)
			}
			_, later = storage.Select[string](ctx, &tx.Reader, `SELECT value FROM settings WHERE name = 'b'`)
			return nil
		})
		if !errors.Is(err, storage.ErrExists) || later == nil {
			t.Errorf("Write gives %v, and the statement after the error %v", err, later)
		}
		if diff := cmp.Diff([]string{"a"}, names(t, db)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNotFoundEndsNoTransaction(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		err := db.Write(ctx, func(tx *storage.Tx) error {
			_, err := storage.Select[string](ctx, &tx.Reader, `SELECT value FROM settings WHERE name = 'b'`)
			if !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("no row gives %v", err)
			}
			return tx.Exec(ctx, insertSetting, "a", "1")
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// What concurrent writers were told to be written is there, also for who opens
// the database anew, and nothing else.
func TestConcurrentWriters(t *testing.T) {
	refused := errors.New("refused")
	storagetest.EachURL(t, func(t *testing.T, url string) {
		db := open(t, storage.Options{URL: url})
		ctx := t.Context()
		var mu sync.Mutex
		var acknowledged []string
		var group sync.WaitGroup
		for writer := range 16 {
			group.Go(func() {
				for i := range 25 {
					name := fmt.Sprintf("%02d-%02d", writer, i)
					err := db.Write(ctx, func(tx *storage.Tx) error {
						tx.Reserve()
						if err := tx.Exec(ctx, insertSetting, name, "v"); err != nil {
							return err
						}
						if i%5 == 0 {
							return refused
						}
						return nil
					})
					if i%5 == 0 != errors.Is(err, refused) {
						t.Errorf("%s: %v", name, err)
					}
					if err == nil {
						mu.Lock()
						acknowledged = append(acknowledged, name)
						mu.Unlock()
					}
				}
			})
		}
		group.Wait()
		checkReleased(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, storage.Options{URL: url})
		if diff := cmp.Diff(len(acknowledged), len(names(t, again))); diff != "" {
			t.Error(diff)
		}
		left, err := storage.Select[int](ctx, &again.Reader, `SELECT count(*) FROM settings WHERE name <> ALL($1)`, storage.List(acknowledged))
		if err != nil || left != 0 {
			t.Errorf("%d rows are there that were refused, %v", left, err)
		}
	})
}

func TestPanic(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		err := db.Write(ctx, func(tx *storage.Tx) error {
			tx.Reserve()
			if err := tx.Exec(ctx, insertSetting, "a", "1"); err != nil {
				return err
			}
			panic("at the disco")
		})
		if err == nil || !strings.Contains(err.Error(), "at the disco") || !strings.Contains(err.Error(), "storage_test.go:") {
			t.Errorf("a panic gives %v", err)
		}
		if err := set(ctx, db, "b", "1"); err != nil {
			t.Errorf("after a panic: %v", err)
		}
		if diff := cmp.Diff([]string{"b"}, names(t, db)); diff != "" {
			t.Error(diff)
		}
		checkReleased(t, db)
	})
}

// occupy holds the only connection that writes until release is called.
func occupy(t *testing.T, db *storage.DB) (release func()) {
	t.Helper()
	started, end, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- db.Write(t.Context(), func(*storage.Tx) error {
			close(started)
			<-end
			return nil
		})
	}()
	<-started
	return func() {
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestCancelledBeforeTheStart(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		db := open(t, storage.Options{URL: url, MaxConnections: 1})
		never := func(*storage.Tx) error {
			t.Error("the closure of a caller who has gone was run")
			return nil
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Write(gone, never); !errors.Is(err, context.Canceled) {
			t.Errorf("Write gives %v", err)
		}

		release := occupy(t, db)
		waiting, cancel := context.WithCancel(t.Context())
		answer := make(chan error)
		go func() { answer <- db.Write(waiting, never) }()
		for db.Waiting() != 1 {
			runtime.Gosched()
		}
		cancel()
		release()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Errorf("Write gives %v", err)
		}
	})
}

func TestCancelledAfterTheStart(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for i := range 50 {
			name := fmt.Sprintf("%02d", i)
			ctx, cancel := context.WithCancel(t.Context())
			err := db.Write(ctx, func(tx *storage.Tx) error {
				tx.Reserve()
				cancel()
				if err := tx.Exec(ctx, insertSetting, name, "v"); err != nil {
					return err
				}
				_, err := storage.Select[string](ctx, &tx.Reader, `SELECT value FROM settings WHERE name = $1`, name)
				return err
			})
			if err != nil {
				t.Fatalf("a caller who left after the start undid the transaction: %v", err)
			}
		}
		if n := len(names(t, db)); n != 50 {
			t.Errorf("%d of 50 rows are there", n)
		}
		checkReleased(t, db)
	})
}

// A thousand callers who leave at any moment leave no position open.
func TestCancelledAtAnyMoment(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		var group sync.WaitGroup
		for worker := range 10 {
			group.Go(func() {
				for i := range 100 {
					ctx, cancel := context.WithCancel(t.Context())
					go cancel()
					err := set(ctx, db, fmt.Sprint(worker, "-", i), "v")
					if err != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("Write gives %v", err)
					}
				}
			})
		}
		group.Wait()
		checkReleased(t, db)
	})
}

func TestReadIsCancelled(t *testing.T) {
	const endless = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT (x + 1) % 1000 FROM c) SELECT max(x) FROM c`
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := storage.Select[int](gone, &db.Reader, `SELECT 1`); !errors.Is(err, context.Canceled) {
			t.Errorf("a read whose caller has gone gives %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := storage.Select[int](short, &db.Reader, endless); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an endless read gives %v", err)
		}
		for range 20 {
			if _, err := storage.Select[int](t.Context(), &db.Reader, `SELECT 1`); err != nil {
				t.Errorf("a read afterwards gives %v", err)
			}
		}
	})
}

// A reader that wakes up for a position finds its entry in the log, its row in
// the database, and what AfterCommit did.
func TestOrderOfPublication(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		const writes = 100
		ctx := t.Context()
		var memory sync.Map
		cursor := db.Clock.Current()
		go func() {
			for i := range writes {
				err := db.Write(ctx, func(tx *storage.Tx) error {
					pos := tx.Reserve()
					tx.Publish(stream.Entry{Pos: pos, Kind: stream.Profile, User: fmt.Sprint(i)})
					tx.AfterCommit(func() { memory.Store(pos, true) })
					return tx.Exec(ctx, insertSetting, fmt.Sprint(i), "v")
				})
				if err != nil {
					t.Error(err)
				}
			}
		}()
		for seen := 0; seen < writes; {
			current, err := db.Clock.Wait(ctx, cursor)
			if err != nil {
				t.Fatal(err)
			}
			ok := db.Log.Range(cursor, current, func(e *stream.Entry) bool {
				seen++
				if _, ok := memory.Load(e.Pos); !ok {
					t.Errorf("position %d is done before AfterCommit", e.Pos)
				}
				if _, err := storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = $1`, e.User); err != nil {
					t.Errorf("position %d is done before its row is there: %v", e.Pos, err)
				}
				return true
			})
			if !ok {
				t.Fatal("the window is too small for this test")
			}
			cursor = current
		}
	})
}

func TestNothingIsPublishedOfAFailure(t *testing.T) {
	refused := errors.New("refused")
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		before := db.Clock.Current()
		err := db.Write(t.Context(), func(tx *storage.Tx) error {
			tx.Publish(stream.Entry{Pos: tx.Reserve(), Kind: stream.Profile})
			tx.AfterCommit(func() { t.Error("AfterCommit ran after a rollback") })
			return refused
		})
		if !errors.Is(err, refused) {
			t.Errorf("Write gives %v", err)
		}
		checkReleased(t, db)
		db.Log.Range(before, db.Clock.Current(), func(e *stream.Entry) bool {
			t.Errorf("the log has %v of a transaction that was undone", e)
			return true
		})
	})
}

func TestTooManyPositions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		err := db.Write(t.Context(), func(tx *storage.Tx) error {
			for range 10_000 {
				tx.Reserve()
			}
			return nil
		})
		if err == nil {
			t.Error("a transaction may use up the lease")
		}
		checkReleased(t, db)
	})
}

// No start gives out a position that one before it gave out.
func TestRestartNeverGoesBack(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		var last stream.Pos
		for range 3 {
			db := open(t, storage.Options{URL: url})
			if current := db.Clock.Current(); current < last {
				t.Errorf("the clock starts at %d, and %d was given out", current, last)
			}
			if floor := db.Log.Floor(); floor != db.Clock.Current() {
				t.Errorf("the log of a new start claims to know what is after %d, and the clock is at %d", floor, db.Clock.Current())
			}
			for range stream.Block / 2 {
				last = db.Clock.Reserve()
				db.Clock.Done(last)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestRunLeasesMore(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for range stream.Block + 10 { // Reserve waits for Run here
			db.Clock.Done(db.Clock.Reserve())
		}
		lease, err := storage.Select[stream.Pos](t.Context(), &db.Reader, `SELECT lease FROM clock`)
		if err != nil || lease < db.Clock.Current() {
			t.Errorf("the lease is %d (%v), and %d is given out", lease, err, db.Clock.Current())
		}
	})
}

func TestBytesAndNulls(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := t.Context()
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		err := db.Write(ctx, func(tx *storage.Tx) error {
			create := `CREATE TABLE b (id BIGINT PRIMARY KEY, v BYTEA)`
			if strings.HasPrefix(t.Name(), "TestBytesAndNulls/sqlite") {
				create = `CREATE TABLE b (id INTEGER PRIMARY KEY, v BLOB) STRICT`
			}
			if err := tx.Exec(ctx, create); err != nil {
				return err
			}
			return tx.ExecEach(ctx, `INSERT INTO b (id, v) VALUES ($1, $2)`, [][]any{{1, every}, {2, []byte{}}, {3, nil}, {4, every[:1]}})
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := storage.SelectAll[[]byte](ctx, &db.Reader, `SELECT v FROM b ORDER BY id`)
		if err != nil || len(got) != 4 || !bytes.Equal(got[0], every) || got[1] == nil || len(got[1]) != 0 || got[2] != nil || len(got[3]) != 1 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// A row that is left unread would keep SQLite's writer in an old snapshot.
func TestExecOfRowsIsRefused(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, text := range []string{`SELECT 1`, ` SELECT lease FROM clock`, `UPDATE clock SET lease = lease RETURNING lease`} {
			if err := db.Write(t.Context(), func(tx *storage.Tx) error { return tx.Exec(t.Context(), text) }); err == nil {
				t.Errorf("%s was executed", text)
			}
		}
		if err := set(t.Context(), db, "a", "1"); err != nil {
			t.Error(err)
		}
	})
}

func TestClose(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		db, err := storage.Open(t.Context(), storage.Options{URL: url, AllowUnsafeDurability: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := set(t.Context(), db, "a", "1"); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("a write after Close gives %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct{ url, want string }{
		{"", "sqlite:"},
		{"mysql://localhost/x", "mysql:"},
		{"sqlite:", "path"},
		{"sqlite:" + filepath.Join(dir, "a.db") + "?mode=memory", "path"},
		{"sqlite:" + filepath.Join(dir, "none", "a.db"), "a.db"},
		{"postgres://u:secret@127.0.0.1:1/x?sslmode=disable", "refused"},
		{"postgres://u:secret@host:port/x", "URL"},
	} {
		db, err := storage.Open(t.Context(), storage.Options{URL: test.url})
		if err == nil {
			t.Errorf("%s was opened", test.url)
			db.Close()
			continue
		}
		if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", test.url, err)
		}
	}
}

// open opens a database without storagetest's options.
func open(t *testing.T, options storage.Options) *storage.DB {
	t.Helper()
	options.AllowUnsafeDurability = true
	db, err := storage.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
