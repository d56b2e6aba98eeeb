package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	lockName = "homeserver.lock"
	// lockWait is how long a command waits for another one that will soon be done.
	lockWait  = 30 * time.Second
	lockRetry = 50 * time.Millisecond
)

// holder says who uses a data directory. It is the content of the lock file.
type holder struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	// Socket is the path of a running server's control socket; empty before it
	// listens.
	Socket string `json:"socket,omitempty"`
}

// lock is the right to use a data directory, which one process has at a time. The
// kernel takes it back when the process ends, in whatever way.
type lock struct {
	file *os.File
	holder
}

// inUseError says that another process has the data directory.
type inUseError struct {
	dir string
	holder
}

func (e *inUseError) Error() string {
	return fmt.Sprintf("the data directory %s is in use by process %d (%s)", e.dir, e.PID, e.Command)
}

// tryLock takes the lock, or gives *inUseError.
func tryLock(dir, command string) (*lock, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the data directory: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(&inUseError{dir: dir, holder: readHolder(file)}, file.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock the data directory: %w", err), file.Close())
	}
	l := &lock{file: file, holder: holder{PID: os.Getpid(), Command: command}}
	if err := l.write(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

// readHolder reads who has the lock; what the holder is just writing reads as
// nobody in particular.
func readHolder(file *os.File) holder {
	var h holder
	if json.NewDecoder(file).Decode(&h) != nil {
		return holder{}
	}
	return h
}

// awaitLock is tryLock that waits for other commands to end. It gives up at once
// when giveUp says so of the holder.
func awaitLock(ctx context.Context, dir, command string, giveUp func(holder) bool) (*lock, error) {
	deadline := time.Now().Add(lockWait)
	for {
		l, err := tryLock(dir, command)
		taken, isTaken := errors.AsType[*inUseError](err)
		if !isTaken || giveUp(taken.holder) || time.Now().After(deadline) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockRetry):
		}
	}
}

// announce tells other commands where the server's control socket is.
func (l *lock) announce(socket string) error {
	l.Socket = socket
	return l.write()
}

func (l *lock) write() error {
	text, err := json.Marshal(l.holder)
	if err == nil {
		err = l.file.Truncate(0)
	}
	if err == nil {
		_, err = l.file.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		return fmt.Errorf("cannot write the lock file: %w", err)
	}
	return nil
}

// release lets others use the data directory. The file stays: removing it would
// let two processes lock two files of that name.
func (l *lock) release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
