package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"

	"github.com/mattn/go-sqlite3"
)

const (
	// sqliteReaders is the number of connections that read.
	sqliteReaders = 4
	// maxBatch is the number of closures that share a transaction at most.
	maxBatch = 64
)

// Every connection keeps 2 MB of pages; the operating system keeps more.
const sqliteReaderPragmas = `
	PRAGMA busy_timeout = 10000;
	PRAGMA cache_size = -2000;
	PRAGMA temp_store = MEMORY;`

// A commit is on the disk when it returns.
const sqliteWriterPragmas = sqliteReaderPragmas + `
	PRAGMA journal_mode = WAL;
	PRAGMA synchronous = FULL;
	PRAGMA foreign_keys = ON;
	PRAGMA journal_size_limit = 67108864;`

// sqlite is a database file with one connection that writes and some that read.
// Closures that wait for the writer together share a transaction and its commit.
type sqlite struct {
	writers *sql.DB // has one connection, writer
	readers *sql.DB
	writer  *sql.Conn
	queue   chan *job
	stopped chan struct{} // closed when the writer's goroutine has ended
	path    string
	claimed *os.File // locked; nil without a claim
}

// job is a closure that waits for the writer.
type job struct {
	ctx    context.Context
	tx     *Tx
	fn     func(*Tx) error
	err    error
	answer chan struct{} // closed when err is final
}

func openSQLite(ctx context.Context, u *url.URL) (engine, error) {
	path := u.Path
	if u.Opaque != "" {
		unescaped, err := url.PathUnescape(u.Opaque)
		if err != nil {
			return nil, errors.New("the path in the database URL is not escaped properly")
		}
		path = unescaped
	}
	if path == "" || u.Host != "" || u.RawQuery != "" {
		return nil, errors.New("the database URL has to be sqlite: and a path, as sqlite:/var/lib/homeserver.db")
	}
	if err := createPrivately(path); err != nil {
		return nil, err
	}
	s := &sqlite{
		writers: sqlitePool(path, "rw", sqliteWriterPragmas, 1),
		readers: sqlitePool(path, "ro", sqliteReaderPragmas, sqliteReaders),
		queue:   make(chan *job, maxBatch),
		stopped: make(chan struct{}),
		path:    path,
	}
	// The writer comes first: it makes the files beside the database, which the
	// readers may not.
	var err error
	if s.writer, err = s.writers.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), s.writers.Close(), s.readers.Close())
	}
	go s.run()
	mode, err := selectOne(ctx, &Reader{on: s.writer}, `PRAGMA journal_mode`, scanValue[string])
	if err == nil && mode != "wal" {
		err = fmt.Errorf("%s: the file system does not allow for a write-ahead log (journal_mode is %s); use a local one", path, mode)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// createPrivately makes the file, unless it exists, for this user only: it holds
// what other users of the machine must not read. SQLite gives the files beside
// it the same mode.
func createPrivately(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

func sqlitePool(path, mode, pragmas string, size int) *sql.DB {
	file := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	name := file.String() + "?_mutex=no&mode=" + mode
	pool := sql.OpenDB(&connector{
		dialect: &sqliteDialect,
		open: func(context.Context) (driver.Conn, error) {
			return openSQLiteConn(name, pragmas)
		},
	})
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	return pool
}

func openSQLiteConn(name, pragmas string) (driver.Conn, error) {
	dc, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return nil, err
	}
	if _, err := dc.(driver.ExecerContext).ExecContext(context.Background(), pragmas, nil); err != nil {
		return nil, errors.Join(err, dc.Close())
	}
	return dc, nil
}

var sqliteDialect = dialect{
	statement: sqliteStatement,
	schema:    sqliteSchema,
	list:      jsonList,
	closes:    true,
	hasTable:  `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1`,
}

func (s *sqlite) dialect() *dialect { return &sqliteDialect }

func (s *sqlite) reader() querier { return s.readers }

// settle has nothing to wait for: when a commit returns, it has happened or not.
func (s *sqlite) settle() {}

func (s *sqlite) close() error {
	close(s.queue)
	<-s.stopped
	// The writer closes last, so that it can merge the log into the file.
	err := errors.Join(s.readers.Close(), s.writer.Close(), s.writers.Close())
	if s.claimed != nil {
		err = errors.Join(err, s.claimed.Close())
	}
	return err
}

func (s *sqlite) write(ctx context.Context, tx *Tx, fn func(*Tx) error) error {
	j := &job{ctx: ctx, tx: tx, fn: fn, answer: make(chan struct{})}
	select {
	case s.queue <- j:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-j.answer
	return j.err
}

// run is the writer: it takes whoever waits, and commits for all of them.
func (s *sqlite) run() {
	batch := make([]*job, 0, maxBatch)
	defer func() {
		if len(batch) == 0 {
			close(s.stopped)
			return
		}
		// A closure has ended the goroutine (runtime.Goexit).
		s.answer(batch, s.undo(errors.New("storage: a closure of the transaction has ended its goroutine")))
		go s.run()
	}()
	for first := range s.queue {
		batch = s.take(append(batch, first))
		s.answer(batch, s.commit(batch))
		clear(batch)
		batch = batch[:0]
	}
}

// take adds the jobs that wait already.
func (s *sqlite) take(batch []*job) []*job {
	// Those whom the last commit has answered may be about to ask again.
	runtime.Gosched()
	for len(batch) < maxBatch {
		select {
		case j, ok := <-s.queue:
			if !ok {
				return batch
			}
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// answer ends the jobs. Those without an error of their own get err.
func (s *sqlite) answer(batch []*job, err error) {
	for _, j := range batch {
		if j.err == nil {
			j.err = err
		}
		close(j.answer)
	}
}

// commit runs the closures of a batch in one transaction. It returns the error
// that undid all of them; a closure's own error is in its job.
func (s *sqlite) commit(batch []*job) error {
	var last *job
	live := 0
	for _, j := range batch {
		if j.err = j.ctx.Err(); j.err == nil {
			last = j
			live++
		}
	}
	if live == 0 {
		return nil
	}
	if err := s.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if live == 1 {
		if last.err = last.tx.call(s.writer, last.fn); last.err != nil {
			return s.undo(nil)
		}
	} else if err := s.savepoints(batch); err != nil {
		return s.undo(err)
	}
	if err := s.exec("COMMIT"); err != nil {
		return s.undo(fmt.Errorf("%w: %w", errUncertain, err))
	}
	return nil
}

func (s *sqlite) savepoints(batch []*job) error {
	for _, j := range batch {
		if j.err != nil {
			continue
		}
		if err := s.savepoint(j); err != nil {
			return err
		}
	}
	return nil
}

// savepoint runs one closure of several; only what that closure did is undone
// when it fails.
func (s *sqlite) savepoint(j *job) error {
	if err := s.exec("SAVEPOINT closure"); err != nil {
		return err
	}
	if j.err = j.tx.call(s.writer, j.fn); j.err != nil {
		if err := s.exec("ROLLBACK TO closure"); err != nil {
			return err
		}
	}
	return s.exec("RELEASE closure")
}

// undo ends the transaction, if SQLite has not done that by itself (it does when
// the disk is full, for one), and returns why.
func (s *sqlite) undo(cause error) error {
	err := s.exec("ROLLBACK")
	var open bool
	raw := s.writer.Raw(func(dc any) error {
		open = !dc.(*conn).driverConn.(*sqlite3.SQLiteConn).AutoCommit()
		return nil
	})
	if open || raw != nil {
		return errors.Join(cause, err, raw)
	}
	return cause
}

func (s *sqlite) exec(text string) error {
	if _, err := s.writer.ExecContext(context.Background(), text); err != nil {
		return fmt.Errorf("storage: %s: %w", text, err)
	}
	return nil
}
