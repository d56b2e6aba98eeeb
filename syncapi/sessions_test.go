package syncapi

import (
	"context"
	"errors"
	"testing"
	"time"

	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
)

// changed tells the log of account data of a user: it need not be in the database.
func changed(db *storage.DB, userID, content string) stream.Pos {
	pos := db.Clock.Reserve()
	db.Log.Publish(stream.Entry{Pos: pos, Kind: stream.AccountData, User: userID,
		Value: storage.AccountData{UserID: userID, Type: ignoredUserList, Content: []byte(content), Pos: pos}})
	db.Clock.Done(pos)
	return pos
}

const ignoresBob = `{"ignored_users":{"@bob:hs.example":{}}}`

// What happens while a session is loaded is not lost, though the database was read before.
func TestChangeWhileLoading(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		n := newSessions(db)
		s, isNew := n.enter("@alice:hs.example")
		if !isNew {
			t.Fatal("the session is there already")
		}
		state, err := n.read(t.Context(), s.userID)
		if err != nil {
			t.Fatal(err)
		}
		changed(db, s.userID, ignoresBob)
		n.mu.Lock()
		n.advance()
		n.mu.Unlock()
		n.settle(s, state, nil)
		if v := n.look(s, 0); len(v.ignored) != 1 {
			t.Errorf("the user ignores %v", v.ignored)
		}
	})
}

// What concerns a user while the session is loaded is not taken for nothing.
func TestNewsWhileLoading(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		n := newSessions(db)
		s, _ := n.enter("@alice:hs.example")
		since := db.Clock.Current()
		pos := db.Clock.Reserve()
		db.Log.Publish(stream.Entry{Pos: pos, Kind: stream.Typing, Room: 7, Value: []string{}})
		db.Clock.Done(pos)
		n.mu.Lock()
		n.advance()
		n.mu.Unlock()
		n.settle(s, &snapshot{places: map[int64]place{7: {"!room", "join", 1, 1, 0}}}, nil)
		if v := n.look(s, since); v.quiet || v.upTo != pos {
			t.Errorf("up to %d all is quiet: %v", v.upTo, v.quiet)
		}
		if v := n.look(s, pos); !v.quiet {
			t.Error("after that it is not quiet")
		}
	})
}

// What comes between the look and the waiting ends the waiting at once.
func TestNothingIsMissedBeforeWaiting(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		n := newSessions(db)
		s, err := n.acquire(t.Context(), "@alice:hs.example")
		if err != nil {
			t.Fatal(err)
		}
		v := n.look(s, 0)
		pos := changed(db, s.userID, ignoresBob)
		n.mu.Lock()
		n.advance()
		n.mu.Unlock()
		if first := n.wait(t.Context(), s, v.upTo, make(chan time.Time)); first == 0 || first > pos {
			t.Errorf("waiting ends with %d, and something happened at %d", first, pos)
		}
	})
}

// Sessions that nobody uses make room for others, the longest unused first.
func TestSessionsAreBounded(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		n := newSessions(db)
		n.most = 2
		var held *session
		for _, userID := range []string{"@a:hs", "@b:hs", "@c:hs", "@d:hs"} {
			s, err := n.acquire(t.Context(), userID)
			if err != nil {
				t.Fatal(err)
			}
			if held == nil {
				held = s // in use all the time
			} else {
				n.release(s)
			}
		}
		if len(n.users) != 2 || n.users["@a:hs"] != held || n.users["@d:hs"] == nil || n.idle.Len() != 1 {
			t.Errorf("sessions %v are in memory, %d of them idle", n.users, n.idle.Len())
		}
		n.release(held)
	})
}

// What is read from the database before a change must not outlive the change.
func TestSharedAndChanges(t *testing.T) {
	c := newShared[string, int](10)
	loads := 0
	get := func(during func()) int {
		found, err := c.get(t.Context(), []string{"k"}, func(missing []string) (map[string]int, error) {
			loads++
			during()
			return map[string]int{missing[0]: loads}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found["k"]
	}
	nothing := func() {}
	if first, second := get(func() { c.drop("k", 1) }), get(nothing); first != 1 || second != 2 {
		t.Errorf("values %d and %d: what was read before a change is kept", first, second)
	}
	if again := get(nothing); again != 2 {
		t.Errorf("value %d: what was read is not kept", again)
	}
	c.put("k", 7, 2)
	if told := get(nothing); told != 7 {
		t.Errorf("value %d: what the log told is not kept", told)
	}
	c.put("unknown", 7, 3)
	c.clear(4)
	if after := get(nothing); after != 3 || c.values.Len() != 1 {
		t.Errorf("value %d, and %d values, after all was forgotten", after, c.values.Len())
	}
}

// One asks the database, and the others wait for the answer, unless they go away.
func TestSharedLoadsOnce(t *testing.T) {
	c := newShared[string, int](10)
	begun, release := make(chan struct{}), make(chan struct{})
	results := make(chan int, 2)
	load := func([]string) (map[string]int, error) {
		close(begun)
		<-release
		return map[string]int{"k": 1}, nil
	}
	ask := func() {
		found, err := c.get(t.Context(), []string{"k"}, load)
		if err != nil {
			t.Error(err)
		}
		results <- found["k"]
	}
	go ask()
	<-begun
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.get(gone, []string{"k"}, load); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone away gets %v", err)
	}
	go ask()
	close(release)
	if a, b := <-results, <-results; a != 1 || b != 1 {
		t.Errorf("values %d and %d", a, b)
	}
}

// Who loads members lazily is remembered within bounds.
func TestLazyDevicesAreBounded(t *testing.T) {
	l := newLazyDevices()
	l.most = 3
	first, second := l.device(deviceKey{"@a:hs", "1"}, 0), l.device(deviceKey{"@b:hs", "2"}, 0)
	first.add(1, "@x:hs", 1)
	first.add(1, "@y:hs", 1)
	second.add(1, "@x:hs", 1)
	l.device(deviceKey{"@a:hs", "1"}, 1)
	second.add(1, "@y:hs", 1)
	if second.has(1, "@x:hs") && first.has(1, "@x:hs") && l.members > 3 {
		t.Errorf("%d members are remembered", l.members)
	}
	if len(l.devices) != 1 || l.devices[deviceKey{"@a:hs", "1"}] != first || l.members != 2 {
		t.Errorf("%d devices with %d members are remembered", len(l.devices), l.members)
	}
	second.add(1, "@z:hs", 1) // its device is forgotten
	second.forget(1)
	if l.members != 2 {
		t.Errorf("%d members are remembered", l.members)
	}
}
