package web

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificateCheck is how often the files of a certificate are looked at, at most.
const certificateCheck = time.Second

// certificate is a key pair that follows its files. A new pair that cannot be read
// leaves the old one in use.
type certificate struct {
	files   [2]string // certificate chain, key
	logger  *slog.Logger
	current atomic.Pointer[tls.Certificate]

	mu      sync.Mutex
	seen    [2]fs.FileInfo
	checked time.Time
}

func newCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{files: [2]string{certFile, keyFile}, logger: logger, checked: time.Now()}
	// The files are looked at before they are read: a change in between is seen later.
	if _, err := c.changed(); err != nil {
		return nil, err
	}
	return c, c.load()
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.files[0], c.files[1])
	if err != nil {
		return err
	}
	c.current.Store(&pair)
	return nil
}

// changed compares the files with what was seen last.
func (c *certificate) changed() (bool, error) {
	changed := false
	for i, name := range c.files {
		info, err := os.Stat(name)
		if err != nil {
			return false, err
		}
		old := c.seen[i]
		if old == nil || !os.SameFile(old, info) || !old.ModTime().Equal(info.ModTime()) || old.Size() != info.Size() {
			c.seen[i] = info
			changed = true
		}
	}
	return changed, nil
}

// get serves [tls.Config.GetCertificate]. One handshake at a time looks at the files;
// the others go on with what there is.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		if now := time.Now(); now.Sub(c.checked) >= certificateCheck {
			c.checked = now
			c.reload()
		}
		c.mu.Unlock()
	}
	return c.current.Load(), nil
}

func (c *certificate) reload() {
	changed, err := c.changed()
	if err == nil && changed {
		if err = c.load(); err == nil {
			c.logger.Info("certificate reloaded", "file", c.files[0])
			return
		}
	}
	if err != nil {
		c.logger.Error("certificate not reloaded; the old one stays in use", "error", err)
	}
}
