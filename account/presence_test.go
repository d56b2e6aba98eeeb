package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/stream"
	"beep/stream/bubbletest"
)

const alice, phone, laptop = "@alice:x.example", "PHONE", "LAPTOP"

// presenceTest runs a Presence in a bubble of time.
type presenceTest struct {
	*Presence
	t     *testing.T
	after stream.Pos
}

func inBubble(t *testing.T, test func(t *testing.T, db *storage.DB)) {
	t.Helper()
	bubbletest.Test(t, func(t *testing.T) { test(t, storagetest.Open(t, storagetest.SQLiteURL(t))) })
}

func testPresence(t *testing.T, test func(p *presenceTest)) {
	t.Helper()
	inBubble(t, func(t *testing.T, db *storage.DB) {
		p := &presenceTest{Presence: runPresence(t, db), t: t, after: db.Clock.Current()}
		test(p)
	})
}

// runPresence runs a Presence until the end of the test.
func runPresence(t *testing.T, db *storage.DB) *Presence {
	p := NewPresence(db, "x.example", true, nil)
	stop := startPresence(t, p)
	t.Cleanup(stop)
	return p
}

func startPresence(t *testing.T, p *Presence) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// known is how many users are kept in memory.
func known(p *Presence) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.users)
}

// told waits so long and gives what others have been told since the last call,
// sorted.
func (p *presenceTest) told(wait time.Duration) (told []string) {
	p.t.Helper()
	time.Sleep(wait)
	upTo := p.db.Clock.Current()
	p.db.Log.Range(p.after, upTo, func(e *stream.Entry) bool {
		s := e.Value.(storage.Presence)
		told = append(told, fmt.Sprintf("%s %s %q", s.UserID, s.State, s.StatusMsg))
		return true
	})
	p.after = upTo
	slices.Sort(told)
	return told
}

func (p *presenceTest) expect(wait time.Duration, want ...string) {
	p.t.Helper()
	if diff := cmp.Diff(want, p.told(wait)); diff != "" {
		p.t.Error(diff)
	}
}

func (p *presenceTest) set(device, state, message string) {
	p.t.Helper()
	if err := p.Set(alice, device, state, message); err != nil {
		p.t.Fatal(err)
	}
}

const (
	isOnline      = alice + ` online ""`
	isUnavailable = alice + ` unavailable ""`
	isOffline     = alice + ` offline ""`
)

func TestPresenceFollowsSync(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		ended := p.Seen(alice, phone, "")
		p.expect(time.Second, isOnline)
		p.expect(time.Minute) // a long poll
		ended()
		p.expect(20 * time.Second)
		p.Seen(alice, phone, Online)()
		p.expect(25 * time.Second)
		p.expect(15*time.Second, isOffline)
		p.expect(time.Hour)
		if n := known(p.Presence); n != 0 {
			p.t.Errorf("%d users are still known", n)
		}
	})
}

func TestPresenceOfIdleUsers(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		ended := p.Seen(alice, phone, "")
		p.expect(4*time.Minute, isOnline)
		p.Active(alice, phone)
		p.expect(4 * time.Minute)
		p.expect(2*time.Minute, isUnavailable)
		defer p.Seen(alice, phone, "")() // a sync is not an activity
		ended()
		p.expect(2 * time.Minute)
		p.Active(alice, phone)
		p.expect(time.Second, isOnline)
		p.Active("@bob:x.example", phone)
		p.expect(time.Second)
	})
}

func TestPresenceSetBySync(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		p.Seen(alice, phone, Offline)()
		p.expect(time.Second)
		p.Seen(alice, phone, Unavailable)()
		p.expect(time.Second, isUnavailable)
		p.Seen(alice, phone, Offline)()
		p.expect(time.Second)
		p.Seen(alice, phone, Online)()
		p.expect(time.Second, isOnline)
		p.Seen(alice, phone, Unavailable)()
		p.expect(time.Second, isUnavailable)
		p.Active(alice, phone)
		p.expect(time.Second, isOnline)
	})
}

func TestPresenceSetByUser(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		defer p.Seen(alice, phone, "")()
		p.expect(time.Second, isOnline)
		p.set(phone, Unavailable, "")
		p.expect(time.Second, isUnavailable)
		defer p.Seen(alice, phone, "")() // does not make the user's word undone
		p.expect(time.Second)
		p.set(phone, Offline, "")
		p.expect(time.Second, isOffline)
		p.Active(alice, phone)
		defer p.Seen(alice, phone, "")()
		p.expect(time.Second)
		p.set(phone, Online, "")
		p.expect(time.Second, isOnline)
		p.set(phone, Online, "")
		p.expect(time.Second)
		for _, bad := range []string{"", "busy", "ONLINE"} {
			if err := p.Set(alice, phone, bad, ""); !errors.Is(err, matrix.InvalidParam) {
				p.t.Errorf("%q: %v", bad, err)
			}
		}
		if err := p.Set(alice, phone, Online, string(make([]byte, maxStatusMsg+1))); !errors.Is(err, matrix.InvalidParam) {
			p.t.Errorf("a long message: %v", err)
		}
	})
}

func TestPresenceOfSeveralDevices(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		defer p.Seen(alice, laptop, "")()
		p.expect(time.Second, isOnline)
		endPhone := p.Seen(alice, phone, Unavailable)
		p.expect(time.Second)
		p.set(laptop, Unavailable, "")
		p.expect(time.Second, isUnavailable)
		p.Active(alice, phone)
		p.expect(time.Second, isOnline)
		endPhone()
		p.expect(time.Minute, isUnavailable)
	})
}

func TestPresenceStatusMessage(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		p.set(phone, Online, "lunch")
		p.expect(time.Second, alice+` online "lunch"`)
		p.set(phone, Online, "lunch")
		p.expect(time.Second)
		p.expect(time.Hour, alice+` offline "lunch"`)
		p.Seen(alice, phone, "")()
		p.expect(time.Second, alice+` online "lunch"`)
		p.set(phone, Online, "back")
		p.expect(time.Second, alice+` online "back"`)
		p.set(phone, Unavailable, "")
		p.expect(time.Second, isUnavailable)
	})
}

func TestPresenceCoalesces(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		for range 100 {
			p.set(phone, Unavailable, "")
			p.set(phone, Online, "")
		}
		// One write may have begun in between.
		if told := p.told(time.Second); len(told) > 2 || !slices.Contains(told, isOnline) {
			p.t.Errorf("told %v", told)
		}
		const users = presenceBatch*2 + 1
		for n := range users {
			defer p.Seen(fmt.Sprintf("@user%d:x.example", n), phone, "")()
		}
		if told := p.told(time.Second); len(told) != users {
			p.t.Errorf("%d of %d users", len(told), users)
		}
	})
}

func TestPresenceAfterRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, db *storage.DB) {
		first := NewPresence(db, "x.example", true, nil)
		stop := startPresence(t, first)
		first.Seen(alice, phone, "")
		first.Seen("@bob:x.example", phone, Unavailable)
		time.Sleep(time.Second)
		if err := first.Set("@carol:x.example", phone, Online, ""); err != nil {
			t.Fatal(err)
		}
		stop() // writes what is left
		time.Sleep(time.Hour)
		p := &presenceTest{Presence: runPresence(t, db), t: t, after: db.Clock.Current()}
		p.expect(20 * time.Second)
		defer p.Seen(alice, phone, "")()
		p.expect(time.Minute, `@bob:x.example offline ""`, `@carol:x.example offline ""`)
	})
}

func TestPresenceStatus(t *testing.T) {
	testPresence(t, func(p *presenceTest) {
		ctx, t := p.t.Context(), p.t
		status := func() string {
			t.Helper()
			s, err := p.Status(ctx, alice, alice)
			if err != nil {
				t.Fatal(err)
			}
			return string(AppendPresence(nil, p.Refresh(s), time.Now().UnixMilli()))
		}
		expect := func(want string) {
			t.Helper()
			if got := status(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		expect(`{"presence":"offline"}`)
		p.set(phone, Online, "hi")
		expect(`{"presence":"online","currently_active":true,"last_active_ago":0,"status_msg":"hi"}`)
		p.told(time.Minute)
		expect(`{"presence":"offline","last_active_ago":60000,"status_msg":"hi"}`)
		defer p.Seen(alice, phone, "")()
		p.told(2 * time.Second)
		expect(`{"presence":"online","currently_active":true,"last_active_ago":2000,"status_msg":"hi"}`)
		p.told(10 * time.Minute)
		expect(`{"presence":"unavailable","last_active_ago":602000,"status_msg":"hi"}`)
		if _, err := p.Status(ctx, "@bob:x.example", alice); !errors.Is(err, matrix.Forbidden) {
			t.Errorf("to somebody in no common room: %v", err)
		}
	})
}

func TestPresenceSwitchedOff(t *testing.T) {
	inBubble(t, func(t *testing.T, db *storage.DB) {
		start := db.Clock.Current()
		p := NewPresence(db, "x.example", false, nil)
		stop := startPresence(t, p)
		p.Seen(alice, phone, "")()
		if err := p.Set(alice, phone, Online, "hi"); err != nil {
			t.Error(err)
		}
		s, err := p.Status(t.Context(), alice, alice)
		if err != nil || s.State != Offline || s.StatusMsg != "" {
			t.Errorf("%+v, %v", s, err)
		}
		time.Sleep(time.Hour)
		if p.Enabled() || known(p) != 0 || db.Clock.Current() != start {
			t.Error("something is kept or told")
		}
		stop()
	})
}
