package mediaapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// files are a directory of files, each under the hash of what it contains. A file has its
// name only when all of it is on the disk, and never changes then.
//
// Whoever needs a file writes that into the database, and whoever removes one looks there,
// both while they hold the lock of its hash.
type files struct {
	dir   string
	locks [256]sync.Mutex // by the first byte of the hash; nobody holds two
}

const (
	// incoming is the directory of files that are not whole.
	incoming = "incoming"
	hexHash  = 2 * sha256.Size
)

// openFiles makes the directory, and removes what a crash has left half.
func openFiles(dir string) (*files, error) {
	if err := os.RemoveAll(filepath.Join(dir, incoming)); err != nil {
		return nil, err
	}
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, incoming), 0o700); err != nil {
		return nil, err
	}
	return &files{dir: dir}, errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// piece is how much of a file is in memory while it comes. Smaller ones cost more.
const piece = 128 << 10

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

// received is a file that is whole and on the disk, but has no name yet.
type received struct {
	path string
	hash string
	size int64
}

// receive writes all that comes to the disk. The result is to be kept or discarded.
func (f *files) receive(from io.Reader) (*received, error) {
	file, err := os.CreateTemp(filepath.Join(f.dir, incoming), "")
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	buffer := pieces.Get().(*[piece]byte)
	defer pieces.Put(buffer)
	size, err := io.CopyBuffer(io.MultiWriter(file, hash), from, buffer[:])
	if err == nil {
		err = file.Sync()
	}
	r := &received{path: file.Name(), hash: hex.EncodeToString(hash.Sum(nil)), size: size}
	if err := errors.Join(err, file.Close()); err != nil {
		r.discard()
		return nil, err
	}
	return r, nil
}

// hashOf names a file of this content.
func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// discard removes what was not kept. What cannot be removed goes with the next start.
func (r *received) discard() { _ = os.Remove(r.path) }

// lock keeps a file from being removed, or somebody from needing it.
func (f *files) lock(hash string) (unlock func()) {
	var first [1]byte
	_, _ = hex.Decode(first[:], []byte(hash[:2]))
	f.locks[first[0]].Lock()
	return f.locks[first[0]].Unlock
}

// keep gives a file its name, in place of one of the same contents. The caller holds its lock.
func (f *files) keep(r *received) error {
	path := f.path(r.hash)
	if err := os.Rename(r.path, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// open opens a file. [os.ErrNotExist]: there is none.
func (f *files) open(hash string) (*os.File, error) { return os.Open(f.path(hash)) }

// remove removes a file, if it is there. The caller holds its lock, and knows that nobody
// needs it.
func (f *files) remove(hash string) error {
	if err := os.Remove(f.path(hash)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// path is where a file lies. Hashes come from the database and from receive alone.
func (f *files) path(hash string) string { return filepath.Join(f.dir, hash[:2], hash) }

// each gives the hashes of all files, batch by batch.
func (f *files) each(ctx context.Context, batch int, do func(hashes []string) error) error {
	for i := range 256 {
		if err := eachName(ctx, filepath.Join(f.dir, fmt.Sprintf("%02x", i)), batch, do); err != nil {
			return err
		}
	}
	return nil
}

func eachName(ctx context.Context, path string, batch int, do func(hashes []string) error) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	for ctx.Err() == nil {
		names, err := dir.Readdirnames(batch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if hashes := onlyHashes(names); len(hashes) > 0 {
			if err := do(hashes); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// onlyHashes leaves out what somebody else has put there.
func onlyHashes(names []string) []string {
	hashes := names[:0]
	for _, name := range names {
		if _, err := hex.DecodeString(name); err == nil && len(name) == hexHash {
			hashes = append(hashes, name)
		}
	}
	return hashes
}

// syncDir makes the names in a directory last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
