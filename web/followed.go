package web

import (
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often followed files are looked at, at most.
const lookEvery = time.Second

// followed are files that are read again when they have changed. What cannot be read
// leaves in use what was read last.
type followed struct {
	what   string // for the log
	files  []string
	load   func() error
	logger *slog.Logger

	mu      sync.Mutex
	seen    []fs.FileInfo
	checked time.Time
}

// follow reads the files for the first time.
func follow(what string, logger *slog.Logger, load func() error, files ...string) (*followed, error) {
	f := &followed{what: what, files: files, load: load, logger: logger, seen: make([]fs.FileInfo, len(files)), checked: time.Now()}
	// The files are looked at before they are read: a change in between is seen later.
	if _, err := f.changed(); err != nil {
		return nil, err
	}
	return f, load()
}

// changed compares the files with what was seen last.
func (f *followed) changed() (bool, error) {
	changed := false
	for i, name := range f.files {
		info, err := os.Stat(name)
		if err != nil {
			return false, err
		}
		old := f.seen[i]
		if old == nil || !os.SameFile(old, info) || !old.ModTime().Equal(info.ModTime()) || old.Size() != info.Size() {
			f.seen[i] = info
			changed = true
		}
	}
	return changed, nil
}

// look reads the files again if they have changed. One handshake at a time looks at them;
// the others go on with what there is.
func (f *followed) look() {
	if !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.checked) < lookEvery {
		return
	}
	f.checked = now
	changed, err := f.changed()
	if err == nil && changed {
		if err = f.load(); err == nil {
			f.logger.Info(f.what+" reloaded", "file", f.files[0])
		}
	}
	if err != nil {
		f.logger.Error(f.what+" not reloaded; the old one stays in use", "error", err)
	}
}
