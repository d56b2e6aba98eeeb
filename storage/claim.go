package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrClaimed is returned when another process has claimed the database.
var ErrClaimed = errors.New("storage: another homeserver uses this database")

// claimWatch is how often it is checked that a claim still holds.
const claimWatch = 10 * time.Second

// Claim makes sure that no other process claims the database while this one has it
// open: positions order what readers see only if one process gives them out.
// [ErrClaimed]: another has. [DB.Run] gives the same when a claim was lost, as with
// a connection that broke, and another process was quicker to renew its own.
func (db *DB) Claim(ctx context.Context) error {
	err := db.engine.claim(ctx)
	db.claimed = err == nil
	return err
}

// keepClaim renews a claim that was lost, until ctx is done.
func (db *DB) keepClaim(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(claimWatch):
		}
		if err := db.engine.claim(ctx); errors.Is(err, ErrClaimed) {
			return err
		} else if err != nil && ctx.Err() == nil {
			db.logger.Warn("could not renew the claim on the database; trying again", "error", err)
		}
	}
}

// claim of SQLite is a lock on a file beside the database. SQLite's own locks are on
// the database file, and closing that anywhere in the process would drop them.
func (s *sqlite) claim(context.Context) error {
	if s.claimed != nil {
		return nil
	}
	file, err := os.OpenFile(s.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("storage: claim the database: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrClaimed
		}
		return errors.Join(err, file.Close())
	}
	s.claimed = file
	return nil
}

// claimKey names the claim among PostgreSQL's advisory locks of the database.
const claimKey = 4224790118

// claim of PostgreSQL is an advisory lock of a connection of its own.
func (p *postgres) claim(ctx context.Context) error {
	if p.claimed != nil {
		if err := p.claimed.PingContext(ctx); err == nil {
			return nil
		}
		_ = p.claimed.Close() // broken: its lock is gone with it
		p.claimed = nil
	}
	p.pool.SetMaxOpenConns(p.size + 1)
	dc, err := p.pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("storage: claim the database: %w", err)
	}
	var ok bool
	err = dc.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, claimKey).Scan(&ok)
	if err == nil && !ok {
		err = ErrClaimed
	}
	if err != nil {
		return errors.Join(err, dc.Close())
	}
	p.claimed = dc
	return nil
}
