package syncapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/roomserver"
)

// streamEvent is an event of the stream or of an initial sync.
type streamEvent struct {
	event
	RoomID   string `json:"room_id"`
	Unsigned struct {
		Membership string            `json:"membership"`
		Invite     []json.RawMessage `json:"invite_room_state"`
		Knock      []json.RawMessage `json:"knock_room_state"`
	} `json:"unsigned"`
}

func briefsOf(events []streamEvent) []string {
	list := []string{}
	for _, e := range events {
		list = append(list, e.brief())
	}
	return list
}

type streamAnswer struct {
	Start, End string
	Chunk      []streamEvent
}

// briefs are the events in a few words, but for presence.
func (a *streamAnswer) briefs() []string {
	return briefsOf(slices.DeleteFunc(slices.Clone(a.Chunk), func(e streamEvent) bool { return e.Type == "m.presence" }))
}

type roomInfo struct {
	RoomID     string `json:"room_id"`
	Membership string
	Visibility string
	Invite     *streamEvent
	Messages   struct {
		Start, End string
		Chunk      []streamEvent
	}
	State       []streamEvent
	AccountData []streamEvent `json:"account_data"`
}

// String is the room in a few words.
func (r *roomInfo) String() string {
	return fmt.Sprintf("%s %s: %v, end %s, account data %v, state %v", r.Membership, r.Visibility,
		briefsOf(r.Messages.Chunk), r.Messages.End, briefsOf(r.AccountData), briefsOf(r.State))
}

type initialAnswer struct {
	End         string
	Presence    []streamEvent
	AccountData []streamEvent `json:"account_data"`
	Rooms       []roomInfo
}

func (a *initialAnswer) room(id string) *roomInfo {
	for i := range a.Rooms {
		if a.Rooms[i].RoomID == id {
			return &a.Rooms[i]
		}
	}
	return &roomInfo{}
}

// read asks for a path below /_matrix/client/v3. It gives the status; answer takes the body.
func (s *server) read(ctx context.Context, userID, path string, answer any, params ...string) int {
	s.Helper()
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	r := must(http.NewRequestWithContext(ctx, "GET", "http://hs.example/_matrix/client/v3"+path+"?"+q.Encode(), nil))(s)
	r.Header.Set("Authorization", "Bearer "+s.token(userID, "PHONE"))
	resp := must(s.client.Do(r))(s)
	body := must(io.ReadAll(resp.Body))(s)
	if err := json.Unmarshal(body, answer); err != nil {
		s.Errorf("%s: %v: %s", path, err, body)
	}
	return resp.StatusCode
}

// stream is GET /events, which has to succeed.
func (s *server) stream(userID, from string, params ...string) *streamAnswer {
	s.Helper()
	a := &streamAnswer{}
	if from != "" {
		params = append(params, "from", from)
	}
	if status := s.read(s.Context(), userID, "/events", a, append([]string{"timeout", "0"}, params...)...); status != http.StatusOK {
		s.Fatalf("GET /events: status %d", status)
	}
	return a
}

func (s *server) initial(userID string, params ...string) *initialAnswer {
	s.Helper()
	a := &initialAnswer{}
	if status := s.read(s.Context(), userID, "/initialSync", a, params...); status != http.StatusOK {
		s.Fatalf("GET /initialSync: status %d", status)
	}
	return a
}

func roomPath(room string) string { return "/rooms/" + url.PathEscape(room) + "/initialSync" }

func (s *server) initialRoom(userID, room string, params ...string) *roomInfo {
	s.Helper()
	a := &roomInfo{}
	if status := s.read(s.Context(), userID, roomPath(room), a, params...); status != http.StatusOK {
		s.Fatalf("GET %s: status %d", roomPath(room), status)
	}
	return a
}

func TestEvents(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		one, two := s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{})
		s.join(one, bob)
		s.join(two, bob)
		first := s.stream(bob, "")
		if len(first.briefs()) != 0 || first.Start == "" || first.Start > first.End {
			t.Errorf("without from: %+v", first)
		}
		a := s.say(one, alice, "a")
		s.say(two, alice, "b")
		s.setState(one, alice, "m.room.topic", "", `{"topic":"t"}`)
		s.join(one, carol)
		hidden := s.create(roomserver.RoomDraft{Creator: carol})
		s.say(hidden, carol, "not for bob")
		s.invite(hidden, carol, bob)
		s.check(s.rooms.MarkRead(s.Context(), one, alice, roomserver.ReadMarkers{Read: a}))
		s.check(s.typing.Start(s.Context(), one, alice, time.Minute))
		s.setAccountData(bob, "", "org.example.own", map[string]int{})
		s.setAccountData(bob, two, "org.example.room", map[string]int{})
		next := s.stream(bob, first.End)
		want := []string{"a", "b", "topic", "carol:join", "bob:invite", "m.receipt", "m.typing", "org.example.own", "org.example.room"}
		briefs := next.briefs()
		if len(briefs) == len(want) {
			slices.Sort(briefs[5:]) // the rooms' order is that of their ids
		}
		if diff := cmp.Diff(want, briefs); diff != "" {
			t.Error(diff)
		}
		rooms := map[string]string{"a": one, "b": two, "bob:invite": hidden, "m.typing": one, "m.receipt": one, "org.example.room": two, "org.example.own": ""}
		for _, e := range next.Chunk {
			if room, listed := rooms[e.brief()]; listed && e.RoomID != room {
				t.Errorf("%s is of room %q", e.brief(), e.RoomID)
			}
			if e.brief() == "bob:invite" && (len(e.Unsigned.Invite) == 0 || e.Unsigned.Membership != "invite") {
				t.Errorf("an invite without state of the room: %+v", e)
			}
		}
		if next.Start != first.End {
			t.Errorf("from %s, start %s", first.End, next.Start)
		}
		if again := s.stream(bob, next.End); len(again.briefs()) != 0 {
			t.Errorf("twice: %v", again.briefs())
		}
		s.leave(one, bob)
		s.say(one, alice, "after")
		if got := s.stream(bob, next.End).briefs(); !cmp.Equal(got, []string{"bob:leave"}) {
			t.Errorf("after leaving: %v", got)
		}
		if status := s.read(t.Context(), bob, "/events", &streamAnswer{}, "from", "x"); status != http.StatusBadRequest {
			t.Errorf("a bad token: status %d", status)
		}
	})
}

// Who comes into a room gets no events from before, but all that came with the join.
func TestEventsOfNewRoom(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.say(room, alice, "before")
		from := s.stream(bob, "").End
		s.join(room, bob)
		s.say(room, alice, "after")
		if got := s.stream(bob, from).briefs(); !cmp.Equal(got, []string{"bob:join", "after"}) {
			t.Errorf("events %v", got)
		}
	})
}

func TestEventsWait(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{InitialState: []roomserver.StateDraft{
			{Type: "m.room.history_visibility", Content: json.RawMessage(`{"history_visibility":"world_readable"}`)}}})
		s.join(room, bob)
		for _, test := range []struct{ name, userID, room string }{{"a member", bob, ""}, {"a member, of one room", bob, room}, {"a stranger", carol, room}} {
			params := []string{"timeout", long, "from", s.stream(test.userID, "").End}
			if test.room != "" {
				params = append(params, "room_id", test.room)
			}
			answers := make(chan *streamAnswer, 1)
			token := test.userID
			s.token(token, "PHONE")
			go func() {
				a := &streamAnswer{}
				s.read(s.Context(), token, "/events", a, params...)
				answers <- a
			}()
			s.until(func() bool { waiting, _ := s.api.Follow(test.userID); return waiting > 0 })
			s.say(room, alice, test.name)
			if a := <-answers; !cmp.Equal(a.briefs(), []string{test.name}) {
				t.Errorf("%s: %v", test.name, a.briefs())
			}
		}
	})
}

// A stranger reads along in rooms that everybody may read: the events, nothing besides.
func TestPeek(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room, other := s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{})
		s.join(other, carol)
		start := s.stream(carol, "").End
		for _, path := range []string{"/events", roomPath(room)} {
			if status := s.read(t.Context(), carol, path, &roomInfo{}, "room_id", room, "timeout", "0"); status != http.StatusForbidden {
				t.Errorf("%s of a room that carol may not read: status %d", path, status)
			}
		}
		hidden := s.say(room, alice, "secret")
		s.setState(room, alice, "m.room.history_visibility", "", `{"history_visibility":"world_readable"}`)
		said := s.say(room, alice, "open")
		s.say(other, alice, "elsewhere")
		s.check(s.rooms.MarkRead(s.Context(), room, alice, roomserver.ReadMarkers{Read: said}))
		s.check(s.typing.Start(s.Context(), room, alice, time.Minute))
		if got := s.stream(carol, start, "room_id", room).briefs(); !cmp.Equal(got, []string{"history_visibility", "open"}) {
			t.Errorf("events %v", got)
		}
		if got := s.stream(carol, start).briefs(); !cmp.Equal(got, []string{"elsewhere"}) {
			t.Errorf("without the room: %v", got)
		}
		info := s.initialRoom(carol, room)
		if got := briefsOf(info.Messages.Chunk); !cmp.Equal(got, []string{"history_visibility", "open"}) || info.Membership != "" || info.RoomID != room {
			t.Errorf("initial sync: %s", info)
		}
		if got := briefsOf(info.State); !slices.Contains(got, "create") || !slices.Contains(got, "alice:join") {
			t.Errorf("state %v", got)
		}
		s.say(room, alice, "more")
		if got := s.stream(carol, info.Messages.End, "room_id", room).briefs(); !cmp.Equal(got, []string{"more"}) {
			t.Errorf("after the initial sync: %v", got)
		}
		if status := s.read(t.Context(), carol, "/events/"+url.PathEscape(hidden), &event{}); status != http.StatusNotFound {
			t.Errorf("an event that carol may not see: status %d", status)
		}
		e := &streamEvent{}
		if status := s.read(t.Context(), carol, "/events/"+url.PathEscape(said), e); status != http.StatusOK || e.ID != said || e.RoomID != room {
			t.Errorf("an event: status %d %+v", status, e)
		}
		if status := s.read(t.Context(), carol, "/events/$unknown", e); status != http.StatusNotFound {
			t.Errorf("an unknown event: status %d", status)
		}
		if _, _, rooms := s.api.Sessions(); rooms != 1 {
			t.Errorf("%d rooms are followed", rooms)
		}
	})
}

func TestInitialSyncOfAll(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room, left := s.create(roomserver.RoomDraft{Published: true}), s.create(roomserver.RoomDraft{})
		invited := s.create(roomserver.RoomDraft{Creator: carol, Preset: "private_chat", Invite: []string{bob}})
		s.join(room, bob)
		s.join(left, bob)
		s.setState(left, alice, "m.room.topic", "", `{"topic":"then"}`)
		s.leave(left, bob)
		s.setState(left, alice, "m.room.topic", "", `{"topic":"later"}`)
		s.setState(room, alice, "m.room.topic", "", `{"topic":"now"}`)
		s.say(room, alice, "hello")
		s.setAccountData(bob, "", "org.example.own", map[string]int{})
		s.setAccountData(bob, room, "org.example.room", map[string]int{})
		all := s.initial(bob, "limit", "2", "archived", "true")
		if len(all.Rooms) != 3 || !cmp.Equal(briefsOf(all.AccountData), []string{"org.example.own", "m.push_rules"}) {
			t.Errorf("%d rooms, account data %v", len(all.Rooms), briefsOf(all.AccountData))
		}
		r := all.room(room)
		if r.Membership != "join" || r.Visibility != "public" || !cmp.Equal(briefsOf(r.AccountData), []string{"org.example.room"}) ||
			!cmp.Equal(briefsOf(r.Messages.Chunk), []string{"topic", "hello"}) || r.Messages.End != all.End {
			t.Errorf("room: %s", r)
		}
		if got := briefsOf(r.State); !slices.Contains(got, "bob:join") || !slices.Contains(got, "topic") {
			t.Errorf("state %v", got)
		}
		r = all.room(left)
		topic := r.State[slices.IndexFunc(r.State, func(e streamEvent) bool { return e.Type == "m.room.topic" })]
		if r.Membership != "leave" || topic.text("topic") != "then" || !cmp.Equal(briefsOf(r.Messages.Chunk), []string{"topic", "bob:leave"}) {
			t.Errorf("the room that bob has left: topic %q, %s", topic.text("topic"), r)
		}
		if got := s.initialRoom(bob, left, "limit", "2"); got.Membership != "leave" || !cmp.Equal(got.Messages.Chunk, r.Messages.Chunk, cmp.Comparer(sameID)) {
			t.Errorf("that room alone: %s", got)
		}
		r = all.room(invited)
		if r.Membership != "invite" || r.Invite == nil || r.Invite.brief() != "bob:invite" || len(r.Invite.Unsigned.Invite) == 0 {
			t.Errorf("invite: %s", r)
		}
		if all = s.initial(bob, "limit", "0"); len(all.Rooms) != 2 || len(all.room(room).Messages.Chunk) != 0 || len(all.room(room).State) == 0 {
			t.Errorf("without messages and rooms that were left: %d rooms, %s", len(all.Rooms), all.room(room))
		}
		s.say(room, alice, "more")
		if got := s.stream(bob, all.End).briefs(); !cmp.Equal(got, []string{"more"}) {
			t.Errorf("after the initial sync: %v", got)
		}
		for _, params := range [][]string{{"limit", "-1"}, {"limit", "x"}} {
			if status := s.read(t.Context(), bob, "/initialSync", all, params...); status != http.StatusBadRequest {
				t.Errorf("%s: status %d", strings.Join(params, "="), status)
			}
		}
	})
}

func sameID(a, b streamEvent) bool { return a.ID == b.ID }
