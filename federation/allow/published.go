package allow

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"beep/storage"
)

const (
	// setting is where the [record] is kept.
	setting = "federation_list"
	// clockTolerance is how far the authority's clock may be ahead.
	clockTolerance = 5 * time.Minute
)

// published is the signed list: the edition in force, and the file that the next comes from.
type published struct {
	own     string
	path    string
	keys    map[string]ed25519.PublicKey
	db      *storage.DB
	logger  *slog.Logger
	inForce atomic.Pointer[edition] // nil when there is none
	failed  atomic.Bool             // the file, when it was read last

	mu     sync.Mutex // held while a list is read and accepted
	record record
	file   fs.FileInfo // as it was when it was read last

	reminder // of follow alone
}

// edition is a list that was accepted. It is never changed.
type edition struct {
	*Document
	servers map[string]map[string]ed25519.PublicKey // see [Document.index]
	digest  string                                  // of the payload
}

// record is what is kept over restarts.
type record struct {
	// List is the file of the list that was accepted last.
	List string `json:"list"`
	// Newest has for each key of the authority, in base64, the list with the highest
	// serial that it has signed. Serials count by key, so that a thief of a key, who
	// can sign the highest of all, is got rid of together with the key.
	Newest map[string]issue `json:"newest"`
}

// issue names a list.
type issue struct {
	Serial int64  `json:"serial"`
	Digest string `json:"digest"`
}

func newPublished(ctx context.Context, o *Options) (*published, error) {
	p := &published{own: o.ServerName, path: o.Path, keys: o.Keys, db: o.DB, logger: o.Logger, record: record{Newest: map[string]issue{}}}
	kept, err := o.DB.Setting(ctx, setting)
	if err == nil {
		err = json.Unmarshal([]byte(kept), &p.record)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("the federation list that was accepted last: %w", err)
	}
	if err := p.restore(); err != nil {
		p.logger.WarnContext(ctx, "the federation list that was accepted last is not in force any more", "reason", err)
	}
	p.watch(o.Registry)
	p.follow(ctx, time.Now())
	return p, ctx.Err()
}

// restore puts the list in force that was before a restart, unless its key is no longer the
// authority's.
func (p *published) restore() error {
	if p.record.List == "" {
		return nil
	}
	e, err := p.read([]byte(p.record.List))
	if err == nil {
		p.inForce.Store(e)
	}
	return err
}

// admits tells whether the list in force has the name, which is in lower case.
func (p *published) admits(name []byte) bool {
	e := p.inForce.Load()
	if e == nil {
		return false
	}
	_, listed := e.servers[string(name)]
	return listed && !e.expired(time.Now())
}

func (e *edition) expired(now time.Time) bool { return now.UnixMilli() >= e.Expires }

func (p *published) pinned(name []byte) map[string]ed25519.PublicKey {
	if e := p.inForce.Load(); e != nil {
		return e.servers[string(name)]
	}
	return nil
}

// reload reads the file and puts its list in force.
func (p *published) reload(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.load(ctx)
	p.failed.Store(err != nil)
	return err
}

func (p *published) load(ctx context.Context) error {
	text, err := p.readFile()
	if err != nil {
		return err
	}
	e, err := p.read(text)
	if err != nil {
		return err
	}
	before := p.inForce.Load()
	if before != nil && before.digest == e.digest && before.KeyID == e.KeyID {
		return nil
	}
	if err := p.accept(ctx, e, text); err != nil {
		return err
	}
	p.inForce.Store(e)
	p.tell(ctx, before, e)
	return nil
}

// readFile gives the text of the file. It is looked at before it is read: a change in
// between is seen later.
func (p *published) readFile() ([]byte, error) {
	info, err := os.Stat(p.path)
	if err != nil {
		return nil, err
	}
	p.file = info
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", p.path)
	}
	file, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, MaxFile+1))
}

// read checks everything about a list but its age.
func (p *published) read(text []byte) (*edition, error) {
	d, payload, err := read(text, p.keys)
	if err != nil {
		return nil, err
	}
	servers, err := d.index()
	digest := sha256.Sum256(payload)
	return &edition{d, servers, base64.RawStdEncoding.EncodeToString(digest[:])}, err
}

// accept refuses a list that is older than another, and makes sure that the others will be.
func (p *published) accept(ctx context.Context, e *edition, text []byte) error {
	if issued := time.UnixMilli(e.Issued); issued.After(time.Now().Add(clockTolerance)) {
		return fmt.Errorf("the list is of a time to come, %s", show(e.Issued))
	}
	newest := p.newest()
	if e.Serial < newest.Serial {
		return fmt.Errorf("the list has the serial %d, and one with %d was accepted before", e.Serial, newest.Serial)
	}
	if e.Serial == newest.Serial && e.digest != newest.Digest {
		return fmt.Errorf("another list with the serial %d was accepted before", e.Serial)
	}
	next := record{List: string(text), Newest: map[string]issue{}}
	for key, of := range p.record.Newest {
		next.Newest[key] = of
	}
	next.Newest[keyName(p.keys[e.KeyID])] = issue{e.Serial, e.digest}
	kept, err := json.Marshal(next, json.Deterministic(true))
	if err != nil {
		return err
	}
	err = p.db.Write(ctx, func(tx *storage.Tx) error { return tx.SetSetting(ctx, setting, string(kept)) })
	if err == nil {
		p.record = next
	}
	return err
}

// newest is the list with the highest serial that the authority has signed with one of the
// keys that are its own now.
func (p *published) newest() issue {
	var newest issue
	for _, key := range p.keys {
		if of := p.record.Newest[keyName(key)]; of.Serial > newest.Serial {
			newest = of
		}
	}
	return newest
}

func keyName(key ed25519.PublicKey) string { return base64.RawStdEncoding.EncodeToString(key) }

// maxTold bounds the servers that a line of the log names.
const maxTold = 100

// tell logs what is different in the new list.
func (p *published) tell(ctx context.Context, before, e *edition) {
	var old map[string]map[string]ed25519.PublicKey
	if before != nil {
		old = before.servers
	}
	p.logger.InfoContext(ctx, "a new federation list is in force", "serial", e.Serial, "key", e.KeyID, "expires", show(e.Expires),
		"servers", len(e.servers), "added", lacking(old, e.servers), "removed", lacking(e.servers, old))
	if _, listed := e.servers[string(fold(nil, p.own))]; !listed {
		p.logger.WarnContext(ctx, "this server is not in the federation list: the others may refuse it", "serial", e.Serial)
	}
}

// lacking are the first of the servers that the one list lacks and the other has.
func lacking(one, other map[string]map[string]ed25519.PublicKey) []string {
	names := []string{}
	for name := range other {
		if _, found := one[name]; !found {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), maxTold)]
}

// show is a time in ms for people.
func show(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
