package storage_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
)

// withParameter adds a parameter to a database's URL.
func withParameter(t *testing.T, base, name, value string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

func TestSettingsOfEverySession(t *testing.T) {
	const connections = 3
	db := open(t, storage.Options{URL: storagetest.OpenPostgresURL(t), MaxConnections: connections})
	var group, all sync.WaitGroup
	all.Add(connections)
	for range connections {
		group.Go(func() {
			// Each holds a connection until all have one.
			err := db.Write(t.Context(), func(tx *storage.Tx) error {
				all.Done()
				all.Wait()
				for setting, want := range map[string]string{
					"statement_timeout":                   "1min",
					"lock_timeout":                        "20s",
					"idle_in_transaction_session_timeout": "1min",
					"jit":                                 "off",
					"enable_seqscan":                      "off",
					"transaction_isolation":               "read committed",
				} {
					got, err := storage.Select[string](t.Context(), &tx.Reader, "SHOW "+setting)
					if err != nil {
						return err
					}
					if got != want {
						t.Errorf("%s is %s, want %s", setting, got, want)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestServerIsRefused(t *testing.T) {
	base := storagetest.OpenPostgresURL(t)
	for _, test := range []struct {
		name, value string
		allow       bool
		want        string
	}{
		{"synchronous_commit", "off", false, "synchronous_commit"},
		{"statement_timeout", "0", true, "statement_timeout"},
		{"lock_timeout", "0", true, "lock_timeout"},
		{"idle_in_transaction_session_timeout", "0", true, "idle_in_transaction_session_timeout"},
		{"application_name", "x", true, ""},
		{"synchronous_commit", "off", true, ""},
	} {
		db, err := storage.Open(t.Context(), storage.Options{URL: withParameter(t, base, test.name, test.value), AllowUnsafeDurability: test.allow})
		if err == nil {
			err = db.Close()
		}
		if test.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%s is answered with: %v", test.name, test.value, err)
		}
	}
}

func TestFsyncOffIsRefused(t *testing.T) {
	base := storagetest.OpenPostgresURL(t)
	server, err := sql.Open("postgres", base)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var fsync string
	if err := server.QueryRow("SHOW fsync").Scan(&fsync); err != nil {
		t.Fatal(err)
	}
	db, err := storage.Open(t.Context(), storage.Options{URL: withParameter(t, base, "synchronous_commit", "on")})
	if err == nil {
		err = db.Close()
	}
	if refused := err != nil && strings.Contains(err.Error(), "fsync = off"); refused != (fsync == "off") {
		t.Errorf("fsync = %s is answered with: %v", fsync, err)
	}
}

func TestOtherEncodingIsRefused(t *testing.T) {
	base := storagetest.OpenPostgresURL(t)
	server, err := sql.Open("postgres", base)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.Path += "_latin1"
	name := strings.TrimPrefix(u.Path, "/")
	if _, err := server.Exec("CREATE DATABASE " + name + " ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	defer server.Exec("DROP DATABASE " + name)
	_, err = storage.Open(t.Context(), storage.Options{URL: u.String(), AllowUnsafeDurability: true})
	if err == nil || !strings.Contains(err.Error(), "LATIN1") || !strings.Contains(err.Error(), "UTF8") {
		t.Errorf("LATIN1 is answered with: %v", err)
	}
}

// Of two transactions that wait for each other PostgreSQL undoes one. It is run
// again, with positions of its own.
func TestDeadlock(t *testing.T) {
	db := storagetest.Open(t, storagetest.OpenPostgresURL(t))
	ctx := t.Context()
	for _, name := range []string{"a", "b"} {
		if err := set(ctx, db, name, ""); err != nil {
			t.Fatal(err)
		}
	}
	var runs atomic.Int64
	var group, both sync.WaitGroup
	both.Add(2)
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		group.Go(func() {
			err := db.Write(ctx, func(tx *storage.Tx) error {
				run := runs.Add(1)
				tx.Reserve()
				if err := tx.Exec(ctx, `SET LOCAL deadlock_timeout = '10ms'`); err != nil {
					return err
				}
				for _, name := range order {
					if err := tx.Exec(ctx, `UPDATE settings SET value = value || $2 WHERE name = $1`, name, order[0]); err != nil {
						// A cause of its own does not hide the collision.
						return fmt.Errorf("no wrapping: %v", err)
					}
					if run <= 2 && name == order[0] {
						both.Done()
						both.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	// More often than three times when the one that was undone is back before the
	// other has woken up, and they collide again.
	if runs.Load() < 3 {
		t.Errorf("the closures ran %d times, want 3 or more", runs.Load())
	}
	for _, name := range []string{"a", "b"} {
		value, err := storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = $1`, name)
		if err != nil || len(value) != 2 {
			t.Errorf("%s is %q (%v), want one letter of each transaction", name, value, err)
		}
	}
	checkReleased(t, db)
}

// A session that is stuck in a transaction does not hold its locks for ever.
func TestStuckTransactionIsAborted(t *testing.T) {
	db := storagetest.Open(t, withParameter(t, storagetest.OpenPostgresURL(t), "idle_in_transaction_session_timeout", "100ms"))
	ctx := t.Context()
	if err := set(ctx, db, "a", "old"); err != nil {
		t.Fatal(err)
	}
	locked, next := make(chan struct{}), make(chan struct{})
	stuck := make(chan error)
	go func() {
		stuck <- db.Write(ctx, func(tx *storage.Tx) error {
			tx.Reserve()
			err := tx.Exec(ctx, `UPDATE settings SET value = 'stuck' WHERE name = 'a'`)
			close(locked)
			<-next
			return err
		})
	}()
	<-locked
	err := db.Write(ctx, func(tx *storage.Tx) error {
		return tx.Exec(ctx, `UPDATE settings SET value = 'new' WHERE name = 'a'`)
	})
	if err != nil {
		t.Errorf("who waited for the lock got %v", err)
	}
	close(next)
	if err := <-stuck; err == nil {
		t.Error("the stuck transaction is told that it was committed")
	}
	value, err := storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = 'a'`)
	if err != nil || value != "new" {
		t.Errorf("the value is %q, %v", value, err)
	}
	checkReleased(t, db)
}

// Connections that the server has closed, as by a restart, are replaced.
func TestLostConnections(t *testing.T) {
	db := storagetest.Open(t, storagetest.OpenPostgresURL(t))
	ctx := t.Context()
	for round := range 5 {
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				if err := set(ctx, db, fmt.Sprint(round, "-", i), "v"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		_, err := storage.SelectAll[bool](ctx, &db.Reader, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := storage.Select[string](ctx, &db.Reader, `SELECT value FROM settings WHERE name = '0-0'`); err != nil {
		t.Error(err)
	}
	checkReleased(t, db)
}

// When the connection goes in the middle, the transaction is not repeated behind
// the closure's back unless nothing of it can have been committed.
func TestConnectionLostInTransaction(t *testing.T) {
	db := storagetest.Open(t, storagetest.OpenPostgresURL(t))
	ctx := t.Context()
	err := db.Write(ctx, func(tx *storage.Tx) error {
		tx.Reserve()
		if err := tx.Exec(ctx, insertSetting, "a", "v"); err != nil {
			return err
		}
		pid, err := storage.Select[int](ctx, &tx.Reader, `SELECT pg_backend_pid()`)
		if err != nil {
			return err
		}
		_, err = storage.Select[bool](ctx, &db.Reader, `SELECT pg_terminate_backend($1)`, pid)
		return err
	})
	if err == nil {
		t.Error("the commit of a session that was ended succeeds")
	}
	if found := names(t, db); len(found) != 0 {
		t.Errorf("%v are there", found)
	}
	checkReleased(t, db)
}

func TestPoolIsBounded(t *testing.T) {
	db := open(t, storage.Options{URL: storagetest.OpenPostgresURL(t), MaxConnections: 2})
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if err := set(t.Context(), db, fmt.Sprint(i), "v"); err != nil {
				t.Error(err)
			}
			n, err := storage.Select[int](t.Context(), &db.Reader, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()`)
			if err != nil || n > 2 {
				t.Errorf("%d connections, %v", n, err)
			}
		})
	}
	group.Wait()
}

// TestNewRoomIsNotReadAgainForEachEvent has a room grow that the planner knows nothing of.
func TestNewRoomIsNotReadAgainForEachEvent(t *testing.T) {
	const size = 200
	db := storagetest.Open(t, storagetest.OpenPostgresURL(t))
	grow := func(tx *storage.Tx, room, size int) {
		t.Helper()
		for _, text := range []string{
			`INSERT INTO current_state (room, type, state_key, key, pos, changed, membership)
				SELECT %[1]d, 'm.room.member', k::text, k, %[1]d + k, 0, 'join' FROM generate_series(1, %[2]d) k`,
			`INSERT INTO events (pos, ord, room, event_id, type, state_key, sender, ts, state_before, state_after, auth, json)
				SELECT %[1]d + k, k, %[1]d, '$' || %[1]d + k, 'm.room.member', k::text, '@a:one', 0, 0, 0, '', '' FROM generate_series(1, %[2]d) k`,
		} {
			if err := tx.Exec(t.Context(), fmt.Sprintf(text, room, size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, db, func(tx *storage.Tx) error {
		grow(tx, 1000, 7)
		return tx.Exec(t.Context(), `ANALYZE events, current_state`)
	})
	write(t, db, func(tx *storage.Tx) error {
		grow(tx, 2000, size)
		graph, err := tx.AuthGraph(t.Context(), 2000)
		if err != nil || len(graph) != size || graph[2001].Key != 1 {
			t.Errorf("graph of %d events: %v, %v", len(graph), graph[2001], err)
		}
		ids := []string{"$1001"}
		for i := range size {
			ids = append(ids, fmt.Sprint("$", 2001+i))
		}
		places, err := tx.StatePlaces(t.Context(), 2000, ids)
		if err != nil || len(places) != size || places["$2001"].Key != 1 {
			t.Errorf("%d places: %v, %v", len(places), places["$2001"], err)
		}
		read, err := storage.Select[int](t.Context(), &tx.Reader,
			`SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'current_state'`)
		if read > 3*size {
			t.Errorf("read %d rows of the current state of %d events", read, size)
		}
		return err
	})
}
