// Package storage is the database: SQLite or PostgreSQL, one SQL text for both.
//
// Every subject (events, users, devices …) has one file with its read methods on
// [Reader] and its write methods on [Tx]. Reads go through [DB], which is a
// Reader, at any time; writes happen in the closure given to [DB.Write], which
// returns when they are durable.
//
// How to write SQL here:
//   - PostgreSQL's dialect, with $1, $2 … and constant text: every text is
//     prepared once per connection and kept.
//   - A list is one argument: `room = ANY($1)` with [List] or [Ints].
//   - A string belongs into a TEXT column and a []byte into a BYTEA column, never
//     across; times are BIGINT milliseconds.
//   - An error ends a transaction: to allow for a row that is there already, say
//     ON CONFLICT.
package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"

	"golang.org/x/sync/errgroup"

	"beep/stream"
)

var (
	// ErrNotFound is returned when the row asked for does not exist.
	ErrNotFound = errors.New("storage: not found")
	// ErrExists is returned when a row with the same key exists already.
	ErrExists = errors.New("storage: exists already")
	// ErrClosed is returned by DB.Write after DB.Close.
	ErrClosed = errors.New("storage: closed")
)

// DefaultConnections is the size of the pool of PostgreSQL connections.
const DefaultConnections = 10

// Options say which database to open and how.
type Options struct {
	// URL is sqlite:/path/of/file.db, sqlite:file.db (from the working
	// directory), or a PostgreSQL URL, postgres://user:password@host/database.
	URL string
	// MaxConnections bounds the PostgreSQL pool; 0 is DefaultConnections.
	MaxConnections int
	// Logger takes what happens in the background; nil discards it.
	Logger *slog.Logger
	// AllowUnsafeDurability accepts a PostgreSQL server that may lose committed
	// transactions in a crash (fsync or synchronous_commit off). For tests.
	AllowUnsafeDurability bool
}

// DB is an open database with its clock and the log of what is new. The read
// methods of [Reader] see everything that Write has acknowledged.
type DB struct {
	Reader
	// Clock gives out the positions of everything that readers follow.
	Clock *stream.Clock
	// Log holds the newest entries in memory.
	Log *stream.Log

	engine engine
	logger *slog.Logger

	mu     sync.RWMutex // held by every transaction; locked to close
	closed bool

	claimed bool // set before Run
}

// engine is what a database does in its own way: SQLite or PostgreSQL.
type engine interface {
	// write runs fn in a transaction and returns when that is durable or undone.
	// Ctx counts until fn starts. It fills in tx.Reader.
	write(ctx context.Context, tx *Tx, fn func(*Tx) error) error
	// reader is where statements outside of transactions run.
	reader() querier
	dialect() *dialect
	// settle returns when it is certain what became of every transaction that had
	// begun: whoever reads afterwards sees it or never will.
	settle()
	// claim takes or renews the claim on the database.
	claim(ctx context.Context) error
	close() error
}

// Open connects, brings the schema up to date, and leases the first positions.
// It refuses a schema that is newer than this program. Close the DB when done.
func Open(ctx context.Context, options Options) (*DB, error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	e, err := openEngine(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("storage: open the database: %w", err)
	}
	db := &DB{Reader: Reader{on: e.reader()}, engine: e, logger: options.Logger}
	if err := db.start(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return db, nil
}

func openEngine(ctx context.Context, options Options) (engine, error) {
	u, err := url.Parse(options.URL)
	if err != nil {
		// The URL may hold a password: url.Error would repeat it.
		return nil, errors.New("the database URL cannot be read as a URL")
	}
	switch u.Scheme {
	case "sqlite":
		return openSQLite(ctx, u)
	case "postgres", "postgresql":
		return openPostgres(ctx, options)
	}
	return nil, fmt.Errorf("the database URL begins with %q; sqlite: and postgres: are known", u.Scheme+":")
}

func (db *DB) start(ctx context.Context) error {
	all, err := embeddedMigrations()
	if err != nil {
		return err
	}
	if err := db.migrate(ctx, all); err != nil {
		return fmt.Errorf("storage: bring the schema up to date: %w", err)
	}
	if err := db.startClock(ctx); err != nil {
		return fmt.Errorf("storage: start the clock: %w", err)
	}
	return nil
}

// Run keeps positions leased, and a claim, until the context is done. Writes work without it
// as long as the first block of positions lasts.
func (db *DB) Run(ctx context.Context) error {
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return db.Clock.Run(ctx) })
	if db.claimed {
		parts.Go(func() error { return db.keepClaim(ctx) })
	}
	return parts.Wait()
}

// Close waits for the transactions under way and closes the connections.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil
	}
	db.closed = true
	if err := db.engine.close(); err != nil {
		return fmt.Errorf("storage: close the database: %w", err)
	}
	return nil
}
