package syncapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
	"beep/web"
)

const long = "300000" // ms

// poll is a request that waits.
type poll struct {
	s      *server
	answer chan *synced
}

// wait begins to wait for what is new after the token, and returns when the
// request waits.
func (s *server) wait(userID, since string, params ...string) *poll {
	s.Helper()
	p := &poll{s, make(chan *synced, 1)}
	token := s.token(userID, "PHONE")
	go func() {
		defer close(p.answer)
		resp, body := s.getAs(s.Context(), token, append(params, "since", since, "timeout", long)...)
		if resp.StatusCode != http.StatusOK {
			s.Errorf("status %d: %s", resp.StatusCode, body)
			return
		}
		answer := &synced{}
		if err := json.Unmarshal(body, answer); err != nil {
			s.Error(err)
		}
		p.answer <- answer
	}()
	s.until(func() bool { waiting, _ := s.api.Follow(userID); return waiting > 0 || len(p.answer) > 0 })
	return p
}

// until lets others run until something is so.
func (s *server) until(so func() bool) {
	s.Helper()
	for !so() {
		if s.Context().Err() != nil {
			s.Fatal("the test has ended")
		}
		runtime.Gosched()
	}
}

// get is the answer, when it comes.
func (p *poll) get() *synced {
	p.s.Helper()
	answer := <-p.answer
	if answer == nil {
		p.s.Fatal("no answer")
	}
	return answer
}

func TestWait(t *testing.T) {
	invited := roomserver.RoomDraft{Creator: carol, Preset: "private_chat", Invite: []string{bob}}
	for name, test := range map[string]struct {
		do   func(s *server, room string)
		told func(a *synced, room string) bool
	}{
		"event": {func(s *server, room string) { s.say(room, alice, "hi") },
			func(a *synced, room string) bool {
				return slices.Equal(a.Rooms.Join[room].Timeline.briefs(), []string{"hi"})
			}},
		"own event": {func(s *server, room string) { s.say(room, bob, "hi") },
			func(a *synced, room string) bool {
				return slices.Equal(a.Rooms.Join[room].Timeline.briefs(), []string{"hi"})
			}},
		"typing": {func(s *server, room string) {
			s.check(s.typing.Start(s.Context(), room, alice, roomserver.DefaultTyping))
		}, func(a *synced, room string) bool { return len(a.Rooms.Join[room].ephemeral("m.typing")) == 1 }},
		"receipt": {func(s *server, room string) {
			s.check(s.rooms.MarkRead(s.Context(), room, alice, roomserver.ReadMarkers{Read: s.first}))
		}, func(a *synced, room string) bool { return len(a.Rooms.Join[room].ephemeral("m.receipt")) == 1 }},
		"private receipt": {func(s *server, room string) {
			s.check(s.rooms.MarkRead(s.Context(), room, bob, roomserver.ReadMarkers{ReadPrivate: s.first}))
		}, func(a *synced, room string) bool { return len(a.Rooms.Join[room].ephemeral("m.receipt")) == 1 }},
		"account data": {func(s *server, room string) { s.setAccountData(bob, "", "org.x", map[string]int{}) },
			func(a *synced, room string) bool { return len(a.AccountData.Events) == 1 }},
		"room account data": {func(s *server, room string) { s.setAccountData(bob, room, "org.x", map[string]int{}) },
			func(a *synced, room string) bool { return len(a.Rooms.Join[room].AccountData.Events) == 1 }},
		"presence": {func(s *server, room string) { s.present(alice, "online") },
			func(a *synced, room string) bool { return a.presences()["alice"] == "online" }},
		"invite": {func(s *server, room string) { s.create(invited) },
			func(a *synced, room string) bool { return len(a.Rooms.Invite) == 1 }},
		"leave": {func(s *server, room string) { s.leave(room, bob) },
			func(a *synced, room string) bool { return slices.Equal(a.sections(room), []string{"leave"}) }},
		"kick": {func(s *server, room string) { s.kick(room, alice, bob) },
			func(a *synced, room string) bool { return slices.Equal(a.sections(room), []string{"leave"}) }},
		"join": {func(s *server, room string) { s.join(s.create(roomserver.RoomDraft{Creator: dave}), bob) },
			func(a *synced, room string) bool { return len(a.Rooms.Join) == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				room := s.create(roomserver.RoomDraft{})
				s.join(room, bob)
				s.first = s.say(room, alice, "first")
				p := s.wait(bob, s.sync(bob).NextBatch)
				test.do(s, room)
				if a := p.get(); !test.told(a, room) {
					t.Errorf("answer %+v", a)
				}
			})
		})
	}
}

// What concerns others wakes nobody, and is in no answer.
func TestWaitForOthers(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db, 0)
		room, other := s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{Creator: carol})
		s.join(room, bob)
		s.first = s.say(room, alice, "first")
		s.sync(carol) // her presence concerns those in her rooms only, as long as these are known
		p := s.wait(bob, s.sync(bob).NextBatch)
		_, before := s.api.Follow(bob)
		s.say(other, carol, "secret")
		s.setAccountData(alice, "", "org.x", map[string]int{})
		s.check(s.typing.Start(s.Context(), other, carol, roomserver.DefaultTyping))
		s.check(s.rooms.MarkRead(s.Context(), room, alice, roomserver.ReadMarkers{ReadPrivate: s.first}))
		s.present(carol, "online")
		s.leave(other, carol)
		waiting, after := s.api.Follow(bob)
		if waiting != 1 || before != after {
			t.Errorf("%d requests wait; position %d woke bob, who was last woken by %d", waiting, after, before)
		}
		// What his filter drops does not end the waiting either.
		filter := `{"room":{"timeline":{"not_types":["org.filler"]}}}`
		alices := s.wait(alice, s.sync(alice).NextBatch, "filter", filter)
		s.send(room, roomserver.Draft{Type: "org.filler", Sender: bob, Content: json.RawMessage(`{}`)})
		equal(t, "bob's timeline", p.get().Rooms.Join[room].Timeline.briefs(), []string{"org.filler"})
		s.until(func() bool { waiting, _ := s.api.Follow(alice); return waiting == 1 })
		s.say(room, bob, "hi")
		equal(t, "alice's timeline", alices.get().Rooms.Join[room].Timeline.briefs(), []string{"hi"})
	})
}

// A kick ends what an open poll tells of the room.
func TestKickedWhileWaiting(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		p := s.wait(bob, s.sync(bob).NextBatch)
		s.kick(room, alice, bob)
		a := p.get()
		equal(t, "sections", a.sections(room), []string{"leave"})
		p = s.wait(bob, a.NextBatch)
		s.say(room, alice, "secret")
		s.setState(room, alice, "m.room.topic", "", `{"topic":"secret"}`)
		s.invite(room, alice, bob)
		a = p.get()
		equal(t, "sections", a.sections(room), []string{"invite"})
	})
}

// A client that goes away frees everything that it waited with.
func TestClientGoesAway(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		since := s.sync(alice).NextBatch
		ctx, cancel := context.WithCancel(t.Context())
		r := must(http.NewRequestWithContext(ctx, "GET", "http://hs.example/_matrix/client/v3/sync?timeout="+long+"&since="+since, nil))(s)
		r.Header.Set("Authorization", "Bearer "+s.token(alice, "PHONE"))
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = s.RoundTrip(r)
		}()
		s.until(func() bool { waiting, _ := s.api.Follow(alice); return waiting == 1 })
		cancel()
		<-gone
		if waiting, _ := s.api.Follow(alice); waiting != 0 {
			t.Errorf("%d requests wait", waiting)
		}
		s.say(room, alice, "hi")
		equal(t, "timeline afterwards", s.sync(alice, "since", since).Rooms.Join[room].Timeline.briefs(), []string{"hi"})
	})
}

// A server that stops answers those who wait with what they have.
func TestShutdown(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db, 0)
		s.create(roomserver.RoomDraft{})
		since := s.sync(alice).NextBatch
		front := must(web.Listen(t.Context(), web.ServerOptions{Listeners: []web.Listener{{Address: "127.0.0.1:0", Handler: s.router}}}))(s)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- front.Run(ctx) }()
		s.client = &http.Client{Transport: rewritten(front.Addrs()[0].String())}
		p := s.wait(alice, since)
		stop()
		equal(t, "next_batch", p.get().NextBatch, since)
		s.check(<-ended)
	})
}

// rewritten sends requests to another address.
type rewritten string

func (to rewritten) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = string(to)
	return http.DefaultTransport.RoundTrip(r)
}

// A token goes on where it was after a restart, and nothing is missing or told twice.
func TestRestart(t *testing.T) {
	storagetest.EachURL(t, func(t *testing.T, url string) {
		options := storage.Options{URL: url, AllowUnsafeDurability: true}
		var room, since, token string
		run := func(t *testing.T, do func(s *server)) {
			db, err := storage.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			do(newServer(t, db, 0))
		}
		t.Run("first", func(t *testing.T) {
			run(t, func(s *server) {
				room = s.create(roomserver.RoomDraft{})
				since = s.sync(alice).NextBatch
				token = s.token(alice, "PHONE")
				s.say(room, alice, "1")
				s.setState(room, alice, "m.room.topic", "", `{"topic":"t"}`)
			})
		})
		t.Run("second", func(t *testing.T) {
			run(t, func(s *server) {
				s.tokens[alice+" PHONE"] = token
				s.say(room, alice, "2")
				a := s.sync(alice, "since", since)
				equal(t, "timeline", a.Rooms.Join[room].Timeline.briefs(), []string{"1", "topic", "2"})
				equal(t, "limited", a.Rooms.Join[room].Timeline.Limited, false)
				p := s.wait(alice, a.NextBatch)
				s.say(room, alice, "3")
				equal(t, "timeline of one who waits", p.get().Rooms.Join[room].Timeline.briefs(), []string{"3"})
			})
		})
	})
}

// Memory of users does not grow with what they leave behind.
func TestSessions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db, 0)
		rooms := []string{}
		for range 3 {
			rooms = append(rooms, s.create(roomserver.RoomDraft{}))
		}
		s.join(rooms[0], bob)
		s.sync(alice)
		s.sync(bob)
		check := func(wantUsers, wantPlaces, wantRooms int) {
			t.Helper()
			s.api.Follow(alice)
			users, places, listed := s.api.Sessions()
			equal(t, "users, places, rooms", []int{users, places, listed}, []int{wantUsers, wantPlaces, wantRooms})
		}
		check(2, 4, 3)
		s.leave(rooms[0], bob)
		s.leave(rooms[1], alice)
		check(2, 2, 2)
		s.invite(rooms[2], alice, bob)
		check(2, 3, 2)
		s.join(rooms[2], bob)
		check(2, 3, 2)
	})
}
