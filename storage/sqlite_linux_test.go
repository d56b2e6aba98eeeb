package storage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beep/storage"
	"beep/storage/storagetest"
)

// What was closed keeps no file open.
func TestCloseKeepsNoFiles(t *testing.T) {
	url := storagetest.SQLiteURL(t)
	db, err := storage.Open(t.Context(), storage.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := set(t.Context(), db, "a", "1"); err != nil {
		t.Error(err)
	}
	if _, err := db.RoomByID(t.Context(), "!none:a.test"); err == nil {
		t.Error("there is a room")
	}
	path := strings.TrimPrefix(url, "sqlite:")
	if len(openFiles(t, path)) == 0 {
		t.Error("no file is open before")
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if open := openFiles(t, path); len(open) > 0 {
		t.Errorf("%q are still open", open)
	}
}

// openFiles are the files with this beginning that this process has open.
func openFiles(t *testing.T, beginning string) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// Others may have closed it meanwhile.
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && strings.HasPrefix(name, beginning) {
			open = append(open, name)
		}
	}
	return open
}
