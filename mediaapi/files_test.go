package mediaapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func newFiles(t *testing.T, dir string) *files {
	t.Helper()
	f, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// put stores a text and gives its hash.
func (f *files) put(t *testing.T, text string) string {
	t.Helper()
	r, err := f.receive(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer f.lock(r.hash)()
	if err := f.keep(r); err != nil {
		t.Fatal(err)
	}
	return r.hash
}

func (f *files) read(t *testing.T, hash string) string {
	t.Helper()
	file, err := f.open(hash)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (f *files) all(t *testing.T) []string {
	t.Helper()
	var all []string
	if err := f.each(t.Context(), 2, func(hashes []string) error {
		all = append(all, hashes...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func TestFiles(t *testing.T) {
	f := newFiles(t, filepath.Join(t.TempDir(), "media"))
	sum := sha256.Sum256([]byte("one"))
	one := f.put(t, "one")
	if one != hex.EncodeToString(sum[:]) {
		t.Errorf("the hash is %s", one)
	}
	if again := f.put(t, "one"); again != one {
		t.Errorf("the same contents have the hash %s", again)
	}
	want := []string{one, f.put(t, ""), f.put(t, "two")}
	slices.Sort(want)
	if got := f.all(t); !slices.Equal(got, want) {
		t.Errorf("there are %q, not %q", got, want)
	}
	if got := f.read(t, one); got != "one" {
		t.Errorf("the file contains %q", got)
	}
	if err := errors.Join(f.remove(one), f.remove(one)); err != nil {
		t.Error(err)
	}
	if _, err := f.open(one); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening a removed file: %v", err)
	}
}

// A crash while a file comes leaves nothing that is served, and nothing at all after the
// next start.
func TestHalfFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "media")
	f := newFiles(t, dir)
	whole := f.put(t, "whole")
	broken := errors.New("broken")
	if _, err := f.receive(io.MultiReader(strings.NewReader("half"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a broken upload: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, incoming)); err != nil || len(left) > 0 {
		t.Errorf("left by a broken upload: %v, %v", left, err)
	}
	if _, err := f.receive(strings.NewReader("not kept, as before a crash")); err != nil {
		t.Fatal(err)
	}
	f = newFiles(t, dir)
	if left, err := os.ReadDir(filepath.Join(dir, incoming)); err != nil || len(left) > 0 {
		t.Errorf("left after a start: %v, %v", left, err)
	}
	if got := f.all(t); !slices.Equal(got, []string{whole}) {
		t.Errorf("there are %q", got)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// A large file does not come into memory.
func TestLargeFile(t *testing.T) {
	f := newFiles(t, filepath.Join(t.TempDir(), "media"))
	const size = 64 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := f.receive(io.LimitReader(zeros{}, size))
	runtime.ReadMemStats(&after)
	if err != nil || r.size != size {
		t.Fatalf("%+v, %v", r, err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("a file of 64 MiB took %d bytes of memory", took)
	}
}
