package account

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"beep/matrix"
)

func TestHash(t *testing.T) {
	ctx := t.Context()
	h := newHasher(CheapHashing)
	long := strings.Repeat("x", 72)
	for _, password := range []string{"a", "pässwörd", "with\x00nul", long, long + "1", strings.Repeat("y", maxPassword)} {
		hash, err := h.hash(ctx, password)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=1,p=1$") {
			t.Errorf("the hash is %q", hash)
		}
		if ok, err := h.matches(ctx, hash, password); !ok || err != nil {
			t.Errorf("%q: its own hash does not match: %v", password, err)
		}
		for _, wrong := range []string{"", password + "2", long, password[:len(password)-1], strings.ToUpper(password)} {
			if ok, err := h.matches(ctx, hash, wrong); wrong != password && (ok || err != nil) {
				t.Errorf("%q matches the hash of %q: %v", wrong, password, err)
			}
		}
		again, err := h.hash(ctx, password)
		if err != nil || again == hash {
			t.Errorf("two hashes of %q are equal: %v", password, err)
		}
	}
}

func TestHashLimits(t *testing.T) {
	if d := DefaultHashing; d.MemoryKiB < 19<<10 || d.Passes < 2 || d.Threads < 1 {
		t.Errorf("the default costs only %+v", d)
	}
	h := newHasher(CheapHashing)
	long := strings.Repeat("x", maxPassword+1)
	hash, err := h.hash(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.matches(t.Context(), hash, long); ok || err != nil {
		t.Errorf("a password over the limit was hashed to compare it: %v, %v", ok, err)
	}
	if ok, err := h.matches(t.Context(), "", "anything"); ok || err != nil {
		t.Errorf("a user without password: %v, %v", ok, err)
	}
}

func TestBcrypt(t *testing.T) {
	h := newHasher(CheapHashing)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.matches(t.Context(), string(hash), "secret"); !ok || err != nil {
		t.Errorf("the right password: %v, %v", ok, err)
	}
	if ok, err := h.matches(t.Context(), string(hash), "Secret"); ok || err != nil {
		t.Errorf("the wrong password: %v, %v", ok, err)
	}
	if !h.outdated(string(hash)) {
		t.Error("bcrypt is not outdated")
	}
}

func TestOutdated(t *testing.T) {
	cheap, dear := newHasher(CheapHashing), newHasher(Hashing{MemoryKiB: 128, Passes: 2, Threads: 1})
	hash, err := cheap.hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	if cheap.outdated(hash) || !dear.outdated(hash) {
		t.Errorf("outdated: %v where it was made, %v where hashes cost more", cheap.outdated(hash), dear.outdated(hash))
	}
	if hash, err = dear.hash(t.Context(), "secret"); err != nil || cheap.outdated(hash) {
		t.Errorf("a dearer hash would be replaced by a cheaper one: %v", err)
	}
}

func TestMalformedHash(t *testing.T) {
	h := newHasher(CheapHashing)
	for _, hash := range []string{
		"x", "$", "$2b$", "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=64,t=0,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=64,t=1,p=0$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$",
		"$argon2id$v=19$m=64,t=1,p=1$!$aGFzaGhhc2hoYXNoaGFzaA",
	} {
		if ok, err := h.matches(t.Context(), hash, "secret"); ok || err == nil {
			t.Errorf("%q: %v, %v", hash, ok, err)
		}
	}
}

func TestHashQueue(t *testing.T) {
	h := newHasher(CheapHashing)
	for range cap(h.slots) {
		if err := h.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The processors are busy: one who waits gives up, and leaves no trace.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.enter(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("who waits in vain: %v", err)
	}
	if n := len(h.queue); n != cap(h.slots) {
		t.Errorf("%d are in the queue, want %d", n, cap(h.slots))
	}
	for len(h.queue) < cap(h.queue) {
		h.queue <- struct{}{}
	}
	_, err := h.hash(t.Context(), "secret")
	var told *matrix.Error
	if !errors.As(err, &told) || told.Status != 429 || told.RetryAfter == 0 {
		t.Errorf("one too many: %v", err)
	}
}

func BenchmarkHash(b *testing.B) {
	h := newHasher(DefaultHashing)
	for b.Loop() {
		if _, err := h.hash(b.Context(), "correct horse battery staple"); err != nil {
			b.Fatal(err)
		}
	}
}
