package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"beep/stream"
)

const (
	// maxAttempts is how often a transaction is run that PostgreSQL undid
	// because it collided with another.
	maxAttempts = 8
	// maxPositions bounds what one transaction reserves. The clock's lease is
	// extended by a transaction, so those that wait or run may not use it up.
	maxPositions = 4096
)

// Tx is a transaction under way: it has the write methods of all subjects, and
// the read methods of [Reader], which see its changes. It is of use only inside
// the closure given to [DB.Write], in the goroutine that runs it.
//
// The first error of a statement ends the transaction: everything after fails,
// and Write undoes it even if the closure returns nil.
type Tx struct {
	Reader
	clock     *stream.Clock
	dialect   *dialect
	failed    error
	positions []stream.Pos
	entries   []stream.Entry
	after     []func()
}

// errUncertain is the failure of a commit: the transaction may have been committed
// all the same, as when the connection broke before the answer came.
var errUncertain = errors.New("storage: commit")

// whole runs statements to their end: a caller that has gone must not cut a
// transaction short, least of all one that other callers share.
type whole struct{ querier }

func (w whole) QueryContext(_ context.Context, text string, args ...any) (*sql.Rows, error) {
	return w.querier.QueryContext(context.Background(), text, args...)
}

func (w whole) ExecContext(_ context.Context, text string, args ...any) (sql.Result, error) {
	return w.querier.ExecContext(context.Background(), text, args...)
}

// Write runs fn in a transaction and returns when that is durable, or undone and
// then with the reason, which is fn's error if that returned one. Ctx is looked
// at until fn starts; from then on fn runs, and is committed or undone, no matter
// who still waits. On PostgreSQL fn may run again from its beginning, so it has
// to assign its results, not add to them. On SQLite all writers take turns:
// do slow work before.
func (db *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.writeOnce(ctx, fn)
		if err == nil || attempt == maxAttempts || !isCollision(err) {
			return err
		}
		if pause(ctx, attempt) != nil {
			return err
		}
	}
}

func (db *DB) writeOnce(ctx context.Context, fn func(tx *Tx) error) error {
	tx := &Tx{clock: db.Clock, dialect: db.engine.dialect()}
	defer tx.release()
	if err := db.transact(ctx, tx, fn); err != nil {
		if errors.Is(err, errUncertain) && !isCollision(err) && len(tx.positions) > 0 {
			// What readers find in the database decides, as soon as it has.
			db.engine.settle()
			db.Log.Lose(tx.positions[len(tx.positions)-1])
		}
		return err
	}
	for _, e := range tx.entries {
		db.Log.Publish(e)
	}
	for _, f := range tx.after {
		f()
	}
	return nil
}

func (db *DB) transact(ctx context.Context, tx *Tx, fn func(tx *Tx) error) error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return db.engine.write(ctx, tx, fn)
}

// pause waits a little longer after each attempt, and not equally long for all.
func pause(ctx context.Context, attempt int) error {
	wait := time.NewTimer(rand.N(time.Millisecond << attempt))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call runs the closure on a connection that has begun a transaction for it, and
// tells whether the transaction may be committed.
func (tx *Tx) call(on querier, fn func(*Tx) error) (err error) {
	tx.Reader = Reader{on: whole{on}, failed: &tx.failed}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("storage: panic in a transaction: %v\n%s", r, debug.Stack())
		}
	}()
	if err = fn(tx); err != nil && isCollision(tx.failed) && !isCollision(err) {
		return errors.Join(err, tx.failed)
	}
	if err == nil {
		err = tx.failed
	}
	return err
}

// Reserve gives out the position of something that readers will follow. It is
// done when Write returns, whatever the outcome.
func (tx *Tx) Reserve() stream.Pos {
	if len(tx.positions) == maxPositions && tx.failed == nil {
		tx.failed = fmt.Errorf("storage: more than %d positions in one transaction", maxPositions)
	}
	if tx.failed != nil {
		return 0
	}
	pos := tx.clock.Reserve()
	tx.positions = append(tx.positions, pos)
	return pos
}

// Publish puts an entry into the log after the commit and before its position,
// which Reserve gave, is done.
func (tx *Tx) Publish(e stream.Entry) { tx.entries = append(tx.entries, e) }

// AfterCommit runs f after the commit, in the goroutine that called Write and
// before the transaction's positions are done: readers that wake up find what f
// changed in memory. Several run in their order.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

func (tx *Tx) release() {
	if len(tx.positions) > 0 {
		tx.clock.Done(tx.positions...)
	}
}

// exec runs a statement that returns no rows.
func (tx *Tx) exec(ctx context.Context, text string, args ...any) error {
	_, err := tx.change(ctx, text, args)
	return err
}

// execCount is exec for whom it matters how many rows were changed.
func (tx *Tx) execCount(ctx context.Context, text string, args ...any) (int64, error) {
	return tx.change(ctx, text, args)
}

// execEach runs an `INSERT … VALUES ($1, $2) …` for each row of arguments, all of
// the same number, with few round trips. With ON CONFLICT DO UPDATE no two rows
// may have the same key.
func (tx *Tx) execEach(ctx context.Context, text string, rows [][]any) error {
	for len(rows) > 0 {
		n := 1
		if tx.dialect.multiRow != nil {
			// Powers of two keep the number of prepared texts small.
			n = 1 << min(bits.Len(uint(len(rows)))-1, 6)
		}
		if err := tx.execRows(ctx, text, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (tx *Tx) execRows(ctx context.Context, text string, rows [][]any) error {
	if len(rows) == 1 {
		return tx.exec(ctx, text, rows[0]...)
	}
	many, ok := tx.dialect.multiRow(text, len(rows[0]), len(rows))
	if !ok {
		return fmt.Errorf("storage: %s: not an INSERT of one row of arguments", summary(text))
	}
	return tx.exec(ctx, many, slices.Concat(rows...)...)
}
