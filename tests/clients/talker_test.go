package clients

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// talker is a user of mautrix-go who is logged in and syncs.
type talker struct {
	*mautrix.Client
	t    *testing.T
	stop func() // ends the sync loop; may be called twice

	mu    sync.Mutex
	heard []*event.Event // what the syncer has passed on
	more  chan struct{}  // closed when there is more
}

// newTalker registers a user, who syncs until the end of the test.
func newTalker(t *testing.T, w *wire, name string) *talker {
	t.Helper()
	k := quietTalker(t, w, name)
	k.start()
	return k
}

// quietTalker registers a user, who does not sync yet.
func quietTalker(t *testing.T, w *wire, name string) *talker {
	t.Helper()
	cli, err := client(w)
	if err != nil {
		t.Fatal(err)
	}
	if err := login(t.Context(), cli, name); err != nil {
		t.Fatal(err)
	}
	k := &talker{Client: cli, t: t, more: make(chan struct{})}
	k.listen()
	return k
}

// listen gives the client a syncer, which passes on what it hears.
func (k *talker) listen() {
	syncer := mautrix.NewDefaultSyncer()
	syncer.ParseErrorHandler = func(e *event.Event, err error) bool {
		if !errors.Is(err, event.ErrUnsupportedContentType) && !errors.Is(err, event.ErrContentAlreadyParsed) {
			k.t.Errorf("%s cannot be parsed: %v", e.Type.Type, err)
		}
		return true
	}
	syncer.OnEvent(k.hear)
	k.Syncer = retrySoon{syncer}
}

func (k *talker) start() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := k.SyncWithContext(ctx); !errors.Is(err, context.Canceled) {
			k.t.Errorf("the sync loop of %s ended: %v", k.UserID, err)
		}
	}()
	k.stop = func() {
		cancel()
		<-ended
	}
	k.t.Cleanup(k.stop)
}

func (k *talker) hear(_ context.Context, e *event.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heard = append(k.heard, e)
	close(k.more)
	k.more = make(chan struct{})
}

// await waits for an event and gives it. It may have been heard before.
func (k *talker) await(what string, is func(*event.Event) bool) *event.Event {
	k.t.Helper()
	return k.awaitIn(what, func(heard []*event.Event) *event.Event {
		for _, e := range heard {
			if is(e) {
				return e
			}
		}
		return nil
	})
}

// awaitLast waits until the last event of a type is as it should be.
func (k *talker) awaitLast(what string, of event.Type, is func(*event.Event) bool) *event.Event {
	k.t.Helper()
	return k.awaitIn(what, func(heard []*event.Event) *event.Event {
		var last *event.Event
		for _, e := range heard {
			if e.Type == of {
				last = e
			}
		}
		if last == nil || !is(last) {
			return nil
		}
		return last
	})
}

// awaitIn waits until find finds something in what was heard.
func (k *talker) awaitIn(what string, find func(heard []*event.Event) *event.Event) *event.Event {
	k.t.Helper()
	for deadline := time.After(patience); ; {
		k.mu.Lock()
		heard, more := k.heard, k.more
		k.mu.Unlock()
		if e := find(heard); e != nil {
			return e
		}
		select {
		case <-more:
		case <-deadline:
			k.t.Fatalf("%s did not hear of %s, but of:\n%s", k.UserID, what, k.story())
		}
	}
}

// awaitEvent waits for an event of a timeline.
func (k *talker) awaitEvent(eventID id.EventID) *event.Event {
	k.t.Helper()
	return k.await(string(eventID), func(e *event.Event) bool { return e.ID == eventID })
}

// awaitMember waits until a user has a membership.
func (k *talker) awaitMember(room id.RoomID, user id.UserID, membership event.Membership) *event.Event {
	k.t.Helper()
	return k.await(fmt.Sprintf("%s: %s", user, membership), func(e *event.Event) bool {
		return e.RoomID == room && e.Type == event.StateMember && e.GetStateKey() == user.String() &&
			e.Content.AsMember().Membership == membership
	})
}

// texts are the messages of a room as they were heard.
func (k *talker) texts(room id.RoomID) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for _, e := range k.heard {
		if e.RoomID == room && e.Type == event.EventMessage {
			all = append(all, e.Content.AsMessage().Body)
		}
	}
	return all
}

// story is what was heard, for who has to find out why a test fails.
func (k *talker) story() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b strings.Builder
	for _, e := range k.heard {
		fmt.Fprintf(&b, "%v %s %s %s %s %.200s\n", e.Mautrix.EventSource, e.Type.Type, e.ID, e.Sender, e.GetStateKey(), e.Content.VeryRaw)
	}
	return b.String()
}
