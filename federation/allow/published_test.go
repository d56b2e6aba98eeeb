package allow

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream/bubbletest"
)

const cannotBeUsed = "the file of the federation list cannot be used"

// refuses fails the test unless the file is refused for that reason.
func refuses(t *testing.T, l *List, want string) {
	t.Helper()
	if err := l.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, expected %q", err, want)
	}
}

func reload(t *testing.T, l *List) {
	t.Helper()
	if err := l.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

func expectAdmitted(t *testing.T, l *List, want string) {
	t.Helper()
	if got := admitted(l, "a.pk", "b.pk", "c.pk"); got != want {
		t.Errorf("admitted %q, expected %q", got, want)
	}
}

func TestNewList(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLiteURL(t)))
	w.servers = []string{"c.pk"}
	w.publish(3, "a.pk", "own.gov.pk")
	l := w.start()
	expectAdmitted(t, l, "a.pk c.pk")
	w.log.said(t, "a new federation list is in force")
	w.publish(4, "b.pk")
	expires := time.UnixMilli(l.published.inForce.Load().Expires)
	reload(t, l)
	expectAdmitted(t, l, "b.pk c.pk")
	lines := w.log.lines(t)
	want := []map[string]any{
		{"level": "INFO", "msg": "a new federation list is in force", "serial": 4.0, "key": "list_1", "servers": 1.0,
			"expires": show(l.published.inForce.Load().Expires), "added": []any{"b.pk"}, "removed": []any{"a.pk", "own.gov.pk"}},
		{"level": "WARN", "msg": "this server is not in the federation list: the others may refuse it", "serial": 4.0},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]float64{"federation_list_serial": 4, "federation_list_servers": 1, "federation_list_file_fault": 0} {
		if got := w.figure(name, ""); got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	if got := w.figure("federation_list_expiry_timestamp_seconds", ""); got < float64(expires.Unix()) {
		t.Errorf("the metric of the expiry is %v", got)
	}
	w.publish(5)
	reload(t, l)
	expectAdmitted(t, l, "c.pk")
}

// TestFaultyFile: whatever comes, the good list stays in force, also over a restart.
func TestFaultyFile(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t, db)
		w.publish(3, "a.pk")
		l := w.start()
		good, err := os.ReadFile(w.path)
		if err != nil {
			t.Fatal(err)
		}
		stranger := listOf(4, time.Hour, "b.pk")
		stranger.KeyID = "list_3"
		future := listOf(4, time.Hour, "b.pk")
		future.Issued += time.Hour.Milliseconds() / 2
		for _, test := range []struct {
			name, want string
			make       func()
		}{
			{"half", "not rightly signed", func() { w.place(good[:len(good)-30]) }},
			{"empty", "not a signed list", func() { w.place(nil) }},
			{"huge", "more than 8388608 bytes", func() { w.place(make([]byte, MaxFile+1)) }},
			{"a stranger's", "not one of the authority's", func() { w.place(sign(t, stranger)) }},
			{"of the future", "of a time to come", func() { w.place(sign(t, future)) }},
			{"older", "has the serial 2, and one with 3 was accepted", func() { w.publish(2, "b.pk") }},
			{"same serial", "another list with the serial 3", func() { w.publish(3, "b.pk") }},
			{"gone", "no such file", func() { os.Remove(w.path) }},
			{"a directory", "is not a file", func() { os.Mkdir(w.path, 0o700) }},
			{"a pipe", "is not a file", func() { os.Remove(w.path); syscall.Mkfifo(w.path, 0o600) }},
		} {
			test.make()
			refuses(t, l, test.want)
			expectAdmitted(t, l, "a.pk")
			if !l.published.failed.Load() {
				t.Errorf("%s: the metric does not tell", test.name)
			}
			w.log.lines(t)
			again := w.start()
			if w.figure("federation_list_file_fault", "") != 1 {
				t.Errorf("%s: the metric does not tell after a restart", test.name)
			}
			expectAdmitted(t, again, "a.pk")
			if line := w.log.said(t, cannotBeUsed); line["level"] != "ERROR" || line["serial_in_force"] != 3.0 || !strings.Contains(fmt.Sprint(line["reason"]), test.want) {
				t.Errorf("%s: the log has %v", test.name, line)
			}
		}
		os.Remove(w.path)
		w.place(good)
		reload(t, l)
		if l.published.failed.Load() {
			t.Error("the metric tells of a fault that is mended")
		}
	})
}

// TestSerialOverRestarts: a server that has seen a list never goes back behind it.
func TestSerialOverRestarts(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		w := newWorld(t, nil)
		run := func(fn func(l *List)) {
			t.Helper()
			db, err := storage.Open(t.Context(), storage.Options{URL: url, AllowUnsafeDurability: true})
			if err != nil {
				t.Fatal(err)
			}
			w.db = db
			fn(w.start())
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
		w.publish(5, "a.pk")
		old, err := os.ReadFile(w.path)
		if err != nil {
			t.Fatal(err)
		}
		run(func(l *List) { expectAdmitted(t, l, "a.pk") })
		w.publish(6, "b.pk")
		run(func(l *List) { expectAdmitted(t, l, "b.pk") })
		w.place(old)
		run(func(l *List) {
			expectAdmitted(t, l, "b.pk")
			refuses(t, l, "has the serial 5, and one with 6 was accepted")
		})
		w.publish(7, "c.pk")
		run(func(l *List) { expectAdmitted(t, l, "c.pk") })
	})
}

// TestKeyIsTakenBack: what a stolen key has signed, however high the serial, ends with it.
func TestKeyIsTakenBack(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t, db)
		w.publish(1<<53-1, "a.pk")
		expectAdmitted(t, w.start(), "a.pk")
		delete(w.keys, "list_1")
		l := w.start()
		expectAdmitted(t, l, "")
		w.log.said(t, "the federation list that was accepted last is not in force any more")
		next := listOf(12, time.Hour, "b.pk")
		next.KeyID = "list_2"
		w.place(sign(t, next))
		reload(t, l)
		expectAdmitted(t, l, "b.pk")
		w.keys = authority()
		l = w.start()
		expectAdmitted(t, l, "b.pk")
		w.publish(13, "c.pk")
		refuses(t, l, "9007199254740991 was accepted before")
	})
}

// TestSameListByAnotherKey: the authority changes its key before it has a new list.
func TestSameListByAnotherKey(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLiteURL(t)))
	d := listOf(3, time.Hour, "a.pk")
	w.place(sign(t, d))
	l := w.start()
	d.KeyID = "list_2"
	w.place(sign(t, d))
	reload(t, l)
	delete(w.keys, "list_1")
	os.Remove(w.path)
	expectAdmitted(t, w.start(), "a.pk")
}

func TestDamagedSetting(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLiteURL(t)))
	err := w.db.Write(t.Context(), func(tx *storage.Tx) error { return tx.SetSetting(t.Context(), setting, "{") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Options{ServerName: "own.gov.pk", Path: w.path, Keys: w.keys, DB: w.db}); err == nil {
		t.Error("the serial that was accepted last was forgotten without a word")
	}
}

// TestExpiry follows a list of thirty days to its end and beyond.
func TestExpiry(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		w := newWorld(t, storagetest.Open(t, storagetest.SQLiteURL(t)))
		w.servers = []string{"c.pk"}
		d := listOf(1, 30*24*time.Hour, "a.pk", "own.gov.pk")
		d.Servers[0].Keys = map[string]string{"ed25519:a_1": encoded(testKey("a"))}
		w.place(sign(t, d))
		l := w.start()
		w.log.said(t, "a new federation list is in force")
		expires := time.UnixMilli(d.Expires)
		// until lets time pass, and gives what was logged meanwhile. Looking every hour is
		// enough here.
		until := func(left time.Duration) []map[string]any {
			for end := expires.Add(-left); time.Now().Before(end); {
				time.Sleep(min(time.Hour, time.Until(end)))
				l.published.follow(t.Context(), time.Now())
			}
			return w.log.lines(t)
		}
		const day, instant = 24 * time.Hour, time.Millisecond
		for _, test := range []struct {
			left         time.Duration
			lines        int
			level, alarm string
		}{
			{10*day + instant, 0, "", ""},
			{10 * day, 1, "WARN", "the federation list expires soon"},
			{day + instant, 8, "WARN", "the federation list expires soon"},
			{day, 1, "ERROR", "the federation list expires within a day"},
			{time.Hour, 23, "ERROR", "the federation list expires within a day"},
			{instant, 0, "", ""},
			{0, 1, "ERROR", "the federation list has expired: only servers"},
			{-2 * time.Hour, 2, "ERROR", "the federation list has expired: only servers"},
		} {
			lines := until(test.left)
			if len(lines) != test.lines {
				t.Errorf("%d lines until %s before the end", len(lines), test.left)
			}
			for _, line := range lines {
				if line["level"] != test.level || !strings.HasPrefix(line["msg"].(string), test.alarm) || line["expires"] != show(d.Expires) {
					t.Errorf("%s before the end: %v", test.left, line)
				}
			}
			if test.left > 0 {
				expectAdmitted(t, l, "a.pk c.pk")
			} else {
				expectAdmitted(t, l, "c.pk")
			}
		}
		if len(l.PinnedKeys("a.pk")) != 1 {
			t.Error("the pinned keys went with the expiry: the server may have any now")
		}
		expectAdmitted(t, w.start(), "c.pk")

		w.publish(2, "a.pk", "own.gov.pk")
		l.published.follow(t.Context(), time.Now())
		expectAdmitted(t, l, "a.pk c.pk")
		w.log.lines(t)
		if lines := until(-20 * day); len(lines) > 0 {
			t.Errorf("the new list's log: %v", lines)
		}
	})
}

// run runs the list until stop is called.
func (w *world) run(l *List) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	return func() {
		w.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

// TestFileIsFollowed: changes are seen, faults are told once and again after an hour, and a
// fault that is mended is forgotten.
func TestFileIsFollowed(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		w := newWorld(t, storagetest.Open(t, storagetest.SQLiteURL(t)))
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		l := w.start()
		stop := w.run(l)
		if lines := w.log.lines(t); len(lines) != 2 || lines[0]["serial_in_force"] != 0.0 ||
			!strings.HasPrefix(lines[1]["msg"].(string), "there is no valid federation list") || lines[1]["level"] != "ERROR" {
			t.Errorf("got %v", lines)
		}
		w.publish(1, "a.pk", "own.gov.pk")
		pass(pollInterval)
		expectAdmitted(t, l, "a.pk")
		w.log.said(t, "a new federation list is in force")

		w.place([]byte("nonsense"))
		pass(30 * time.Minute)
		expectAdmitted(t, l, "a.pk")
		if lines := w.log.lines(t); len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["serial_in_force"] != 1.0 {
			t.Errorf("got %v", lines)
		}
		pass(2 * time.Hour)
		if lines := w.log.lines(t); len(lines) != 2 {
			t.Errorf("a fault that lasts was told %d times in two hours", len(lines))
		}
		w.publish(2, "b.pk", "own.gov.pk")
		pass(pollInterval)
		expectAdmitted(t, l, "b.pk")
		// The same file with as many bytes, which only its time tells from the old one.
		if err := os.WriteFile(w.path, sign(t, listOf(3, 30*24*time.Hour, "c.pk", "own.gov.pk")), 0o600); err != nil {
			t.Fatal(err)
		}
		pass(pollInterval)
		expectAdmitted(t, l, "c.pk")
		w.publish(4, "b.pk", "own.gov.pk")
		pass(pollInterval)
		w.log.lines(t)

		future := listOf(5, 24*time.Hour, "c.pk", "own.gov.pk")
		future.Issued += time.Hour.Milliseconds()
		w.place(sign(t, future))
		pass(54 * time.Minute)
		expectAdmitted(t, l, "b.pk")
		pass(2 * time.Minute)
		expectAdmitted(t, l, "c.pk")
		w.log.lines(t)

		l.Admit(t.Context(), Origin, "evil.example", About{})
		l.Admit(t.Context(), Origin, "evil.example", About{})
		w.log.said(t, refusedLine)
		pass(auditWindow + pollInterval)
		w.log.said(t, againLine)
		l.Admit(t.Context(), Origin, "evil.example", About{})
		l.Admit(t.Context(), Origin, "evil.example", About{})
		stop()
		if lines := w.log.lines(t); len(lines) != 2 || lines[1]["msg"] != againLine {
			t.Errorf("at the end the log has %v", lines)
		}
	})
}

// TestRaces asks while lists come and go: at any time one whole list is in force.
func TestRaces(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLiteURL(t)))
	publish := func(serial int64) {
		d := listOf(serial, time.Hour, "a.pk", "b.pk")
		d.Servers[serial%2].Keys = map[string]string{fmt.Sprintf("ed25519:%d", serial): encoded(testKey("a"))}
		d.Servers = d.Servers[serial%2 : serial%2+1]
		w.place(sign(t, d))
	}
	publish(1)
	l := w.start()
	defer w.run(l)()
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if keys := l.PinnedKeys("a.pk"); len(keys) > 1 {
					t.Errorf("keys of two lists: %v", keys)
				}
				l.Check("b.pk")
				l.Admit(ctx, Sender, fmt.Sprintf("%d.example", i), About{})
				l.audit.flush(ctx)
			}
		})
	}
	const last = 60
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				l.Reload(ctx) // a list between two renames may be refused
			}
		})
	}
	for serial := int64(2); serial <= last; serial++ {
		publish(serial)
		if err := l.Reload(ctx); err != nil {
			t.Error(err)
		}
		if got := w.figure("federation_list_serial", ""); got != float64(serial) {
			t.Errorf("the serial %v is in force after %d", got, serial)
		}
	}
	cancel()
	readers.Wait()
	if _, err := os.Stat(filepath.Join(filepath.Dir(w.path), "list.jws.new")); err == nil {
		t.Error("the last list was not put in place")
	}
	if got := l.published.record.Newest[keyName(w.keys["list_1"])].Serial; got != last {
		t.Errorf("the serial %d is recorded", got)
	}
}
