package main

import (
	"errors"
	"testing"
)

func TestLockIsExclusive(t *testing.T) {
	dir := t.TempDir()
	first, err := tryLock(dir, serving)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.announce("/the/socket"); err != nil {
		t.Fatal(err)
	}
	_, err = tryLock(dir, "user list")
	taken, ok := errors.AsType[*inUseError](err)
	if !ok || taken.holder != first.holder {
		t.Fatalf("got %v, expected that %+v has it", err, first.holder)
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	second, err := tryLock(dir, "user list")
	if err != nil {
		t.Fatalf("after it was released: %v", err)
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockWaitsForCommands(t *testing.T) {
	dir := t.TempDir()
	first, err := tryLock(dir, "user list")
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	second, err := awaitLock(t.Context(), dir, serving, func(h holder) bool {
		if tries++; tries == 1 {
			if err := first.release(); err != nil {
				t.Error(err)
			}
		}
		return h.Command == serving
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := awaitLock(t.Context(), dir, serving, func(h holder) bool { return h.Command == serving }); err == nil {
		t.Error("a second server got the lock")
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
}
