package syncapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/roomserver"
)

// object is a JSON object of a request.
type object = map[string]any

// slid is an answer of sliding sync.
type slid struct {
	Pos   string `json:"pos"`
	TxnID string `json:"txn_id"`
	Lists map[string]struct {
		Count int `json:"count"`
	} `json:"lists"`
	Rooms      map[string]slidRoom `json:"rooms"`
	Extensions struct {
		ToDevice *struct {
			NextBatch string  `json:"next_batch"`
			Events    []event `json:"events"`
		} `json:"to_device"`
		E2EE *struct {
			Lists struct {
				Changed []string `json:"changed"`
				Left    []string `json:"left"`
			} `json:"device_lists"`
			Counts   map[string]int `json:"device_one_time_keys_count"`
			Fallback []string       `json:"device_unused_fallback_key_types"`
		} `json:"e2ee"`
		AccountData struct {
			Global []event            `json:"global"`
			Rooms  map[string][]event `json:"rooms"`
		} `json:"account_data"`
		Receipts struct {
			Rooms map[string]event `json:"rooms"`
		} `json:"receipts"`
		Typing struct {
			Rooms map[string]event `json:"rooms"`
		} `json:"typing"`
	} `json:"extensions"`
}

type slidRoom struct {
	Initial       bool    `json:"initial"`
	Membership    string  `json:"membership"`
	BumpStamp     int     `json:"bump_stamp"`
	IsDM          *bool   `json:"is_dm"`
	Name          *string `json:"name"`
	Avatar        *string `json:"avatar"`
	JoinedCount   *int    `json:"joined_count"`
	InvitedCount  *int    `json:"invited_count"`
	Heroes        []hero  `json:"heroes"`
	Expanded      bool    `json:"unstable_expanded_timeline"`
	RequiredState []event `json:"required_state"`
	Timeline      []event `json:"timeline"`
	NumLive       int     `json:"num_live"`
	PrevBatch     string  `json:"prev_batch"`
	Limited       bool    `json:"limited"`
	InviteState   []event `json:"invite_state"`
}

type hero struct {
	UserID      string `json:"user_id"`
	DisplayName string `json:"displayname"`
	AvatarURL   string `json:"avatar_url"`
}

func (r slidRoom) timeline() []string { return batch{Events: r.Timeline}.briefs() }
func (r slidRoom) state() []string    { return batch{Events: r.RequiredState}.sorted() }

// rooms are the names of the rooms that are told of, in order.
func (a *slid) rooms() []string { return slices.Sorted(maps.Keys(a.Rooms)) }

// slider is a connection of a client.
type slider struct {
	*server
	userID, id, pos string
	body            object
}

// slider is a new connection.
func (s *server) slider(userID string, body object) *slider {
	s.connections++
	return &slider{s, userID, fmt.Sprint(s.connections), "", body}
}

// request is the body of the next request.
func (c *slider) request() object {
	body := maps.Clone(c.body)
	body["conn_id"] = c.id
	return body
}

// all is a request for so many rooms with so many events and the state that is named.
func all(rooms, limit int, required ...[2]string) object {
	return object{"lists": object{"all": list(rooms, limit, required...)}}
}

func list(rooms, limit int, required ...[2]string) object {
	if required == nil {
		required = [][2]string{}
	}
	return object{"ranges": [][2]int{{0, rooms - 1}}, "timeline_limit": limit, "required_state": required}
}

func (s *server) slideAs(ctx context.Context, token, pos, timeout string, body any) (int, []byte) {
	s.Helper()
	var text []byte
	switch body := body.(type) {
	case string:
		text = []byte(body)
	default:
		text = must(json.Marshal(body))(s)
	}
	q := url.Values{"set_presence": {"offline"}}
	if pos != "" {
		q.Set("pos", pos)
	}
	if timeout != "" {
		q.Set("timeout", timeout)
	}
	r := must(http.NewRequestWithContext(ctx, "POST", "http://hs.example/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?"+q.Encode(), bytes.NewReader(text)))(s)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	return resp.StatusCode, must(io.ReadAll(resp.Body))(s)
}

// try is a request from a position.
func (c *slider) try(pos, timeout string) *slid {
	c.Helper()
	status, body := c.slideAs(c.Context(), c.token(c.userID, "PHONE"), pos, timeout, c.request())
	if status != http.StatusOK {
		c.Fatalf("status %d: %s", status, body)
	}
	answer := &slid{}
	if err := json.Unmarshal(body, answer); err != nil {
		c.Fatalf("%v: %s", err, body)
	}
	return answer
}

// next is the next request of the connection.
func (c *slider) next() *slid {
	c.Helper()
	a := c.try(c.pos, "")
	c.pos = a.Pos
	return a
}

// waiting begins a request that waits, and returns when it does.
func (c *slider) waiting() chan *slid {
	c.Helper()
	answer := make(chan *slid, 1)
	token, pos, request := c.token(c.userID, "PHONE"), c.pos, c.request()
	go func() {
		defer close(answer)
		status, body := c.slideAs(c.Context(), token, pos, long, request)
		a := &slid{}
		if err := json.Unmarshal(body, a); err != nil || status != http.StatusOK {
			c.Errorf("status %d: %s", status, body)
			return
		}
		answer <- a
	}()
	c.until(func() bool { waiting, _ := c.api.Follow(c.userID); return waiting > 0 || len(answer) > 0 })
	return answer
}

func (c *slider) got(answer chan *slid) *slid {
	c.Helper()
	a := <-answer
	if a == nil {
		c.Fatal("no answer")
	}
	c.pos = a.Pos
	return a
}

func same[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

func TestSlidingRoom(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Name: "Hall"})
		s.join(room, bob)
		s.invite(room, alice, carol)
		s.setState(room, alice, "m.room.avatar", "", `{"url":"mxc://hs.example/a"}`)
		for i := range 5 {
			s.say(room, alice, fmt.Sprint(i))
		}
		bump := s.api.Position()
		s.setState(room, alice, "m.room.topic", "", `{"topic":"t"}`)
		c := s.slider(bob, all(20, 3, [2]string{"m.room.create", ""}, [2]string{"m.room.member", "$ME"}))
		a := c.next()
		if a.Lists["all"].Count != 1 || len(a.Rooms) != 1 || a.Pos == "" {
			t.Fatalf("answer %+v", a)
		}
		r := a.Rooms[room]
		same(t, "timeline", r.timeline(), []string{"3", "4", "topic"})
		same(t, "state", r.state(), []string{"bob:join", "create"})
		if !r.Initial || r.Membership != "join" || r.Name == nil || *r.Name != "Hall" || r.Avatar == nil || *r.Avatar != "mxc://hs.example/a" ||
			*r.JoinedCount != 2 || *r.InvitedCount != 1 || r.Heroes != nil || r.NumLive != 0 || !r.Limited || r.PrevBatch == "" || r.IsDM != nil || r.BumpStamp != bump {
			t.Errorf("room %+v, bump stamp %d", r, bump)
		}
		if a := c.next(); len(a.Rooms) != 0 || a.Lists["all"].Count != 1 {
			t.Errorf("nothing is new: %+v", a)
		}
		s.say(room, bob, "hi")
		r = c.next().Rooms[room]
		same(t, "timeline", r.timeline(), []string{"hi"})
		if r.Initial || r.Limited || r.NumLive != 1 || r.Name != nil || r.Avatar != nil || r.JoinedCount != nil || r.RequiredState != nil || r.BumpStamp <= bump {
			t.Errorf("room %+v", r)
		}
		s.setState(room, alice, "m.room.name", "", `{"name":5}`)
		s.setState(room, alice, "m.room.avatar", "", `{}`)
		s.join(room, carol)
		status, body := s.slideAs(t.Context(), s.token(bob, "PHONE"), c.pos, "", c.request())
		if status != 200 || !strings.Contains(string(body), `"name":null,"avatar":null,"joined_count":3,"invited_count":0,"heroes":[`) {
			t.Errorf("status %d: %s", status, body)
		}
	})
}

// names of the rooms that an answer tells of.
func (c *slider) named(a *slid, rooms []string) []int {
	got := []int{}
	for _, id := range a.rooms() {
		got = append(got, slices.Index(rooms, id))
	}
	slices.Sort(got)
	return got
}

func (s *server) hall(n int) []string {
	s.Helper()
	rooms := make([]string, n)
	for i := range rooms {
		rooms[i] = s.create(roomserver.RoomDraft{Name: fmt.Sprint("Room ", i)})
		s.join(rooms[i], bob)
	}
	return rooms
}

// The window has the rooms in which something happened last; what leaves it is told of from where
// it was when it comes back.
func TestSlidingWindow(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		rooms := s.hall(6)
		c := s.slider(bob, all(2, 10))
		a := c.next()
		same(t, "first window", c.named(a, rooms), []int{4, 5})
		if a.Lists["all"].Count != 6 {
			t.Errorf("lists %+v", a.Lists)
		}
		c.body = all(4, 10)
		same(t, "a larger window", c.named(c.next(), rooms), []int{2, 3})
		c.body = all(2, 10)
		same(t, "a smaller window", c.named(c.next(), rooms), []int{})
		for _, room := range rooms[2:] {
			s.say(room, alice, "one")
			s.say(room, alice, "two")
		}
		a = c.next()
		same(t, "what has happened", c.named(a, rooms), []int{4, 5})
		s.say(rooms[0], alice, "up")
		a = c.next()
		same(t, "the oldest moves up", c.named(a, rooms), []int{0})
		if r := a.Rooms[rooms[0]]; !r.Initial || r.NumLive != 1 {
			t.Errorf("a room that is new to the client: %+v", r)
		}
		c.body = all(6, 10)
		a = c.next()
		same(t, "all", c.named(a, rooms), []int{1, 2, 3})
		if r := a.Rooms[rooms[2]]; r.Initial || r.Limited || cmp.Diff(r.timeline(), []string{"one", "two"}) != "" || r.NumLive != 0 {
			t.Errorf("a room that comes back: %+v", r)
		}
		if !a.Rooms[rooms[1]].Initial {
			t.Error("a room that was never told of is not initial")
		}
		s.say(rooms[4], alice, "three")
		same(t, "live rooms", c.next().Rooms[rooms[4]].timeline(), []string{"three"})
	})
}

// An answer that was lost is given again; one that was got is not, and older ones are not known.
func TestSlidingRepeated(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		rooms := s.hall(3)
		c := s.slider(bob, all(1, 10, [2]string{"m.room.member", "$LAZY"}))
		first := c.next()
		c.body = all(3, 10, [2]string{"m.room.member", "$LAZY"})
		s.say(rooms[2], alice, "hi")
		lost := c.try(c.pos, "")
		s.say(rooms[0], alice, "later")
		again := c.try(c.pos, "")
		for _, room := range rooms[:2] {
			if !lost.Rooms[room].Initial || !again.Rooms[room].Initial || cmp.Diff(lost.Rooms[room].state(), again.Rooms[room].state()) != "" {
				t.Errorf("lost %+v\nagain %+v", lost.Rooms[room], again.Rooms[room])
			}
		}
		same(t, "news", again.Rooms[rooms[2]].timeline(), []string{"hi"})
		c.refused(lost.Pos, "M_UNKNOWN_POS") // the client has not come with it, but with the earlier one
		c.pos = again.Pos
		if a := c.next(); len(a.Rooms) != 0 {
			t.Errorf("told again: %+v", a)
		}
		for _, pos := range []string{first.Pos, "s1_x_1", "x", "s" + strings.Repeat("9", 100), "s1__", c.pos + "0"} { // first was got
			c.refused(pos, "M_UNKNOWN_POS")
		}
		other := s.slider(carol, c.body)
		other.refused(c.pos, "M_UNKNOWN_POS")
		if a := c.next(); len(a.Rooms) != 0 {
			t.Errorf("told again: %+v", a)
		}
	})
}

// refused is a request that has to be refused with a code.
func (c *slider) refused(pos, code string) {
	c.Helper()
	status, body := c.slideAs(c.Context(), c.token(c.userID, "PHONE"), pos, "", c.request())
	if status != http.StatusBadRequest || !strings.Contains(string(body), `"`+code+`"`) {
		c.Errorf("pos %q: status %d: %s", pos, status, body)
	}
}

// After a restart, connections begin anew.
func TestSlidingRestart(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		rooms := s.hall(1)
		c := s.slider(bob, all(1, 1))
		c.next()
		later := newServer(t, s.db, 0)
		d := later.slider(bob, c.body)
		d.refused(c.pos, "M_UNKNOWN_POS")
		if a := d.next(); !a.Rooms[rooms[0]].Initial {
			t.Errorf("answer %+v", a)
		}
	})
}

func TestSlidingSubscription(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		rooms := s.hall(2)
		hidden := s.create(roomserver.RoomDraft{Name: "Secret", Preset: "private_chat"})
		for i := range 5 {
			s.say(rooms[0], alice, fmt.Sprint(i))
		}
		s.say(rooms[1], alice, "last")
		subscribe := func(limit int, required ...[2]string) object {
			body := all(1, 1)
			wanted := list(1, limit, required...)
			delete(wanted, "ranges")
			body["room_subscriptions"] = object{rooms[0]: wanted, hidden: wanted, "!unknown:hs.example": wanted}
			return body
		}
		c := s.slider(bob, all(2, 1, [2]string{"m.room.create", ""}))
		c.next()
		c.body = subscribe(3, [2]string{"m.room.create", ""}, [2]string{"m.room.power_levels", ""})
		a := c.next()
		same(t, "rooms", c.named(a, rooms), []int{0})
		r := a.Rooms[rooms[0]]
		same(t, "timeline", r.timeline(), []string{"2", "3", "4"})
		same(t, "state", r.state(), []string{"power_levels"})
		if r.Initial || !r.Expanded || r.NumLive != 0 || !r.Limited {
			t.Errorf("room %+v", r)
		}
		if a := c.next(); len(a.Rooms) != 0 {
			t.Errorf("told again: %+v", a)
		}
		s.say(rooms[0], alice, "5")
		if r := c.next().Rooms[rooms[0]]; r.Expanded || cmp.Diff(r.timeline(), []string{"5"}) != "" {
			t.Errorf("room %+v", r)
		}
		c.body = all(2, 1)
		if a := c.next(); len(a.Rooms) != 0 {
			t.Errorf("less is wanted: %+v", a)
		}
		c.body = subscribe(3)
		if a := c.next(); len(a.Rooms) != 0 {
			t.Errorf("the client has these events: %+v", a)
		}
	})
}

// What is wanted of the state: by type, by key, all, and members as they are needed.
func TestSlidingRequiredState(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Name: "Hall"})
		s.join(room, bob, carol, dave)
		s.setState(room, alice, "org.x", "a", `{}`)
		s.setState(room, alice, "org.x", "b", `{}`)
		s.setState(room, alice, "org.y", "a", `{}`)
		s.say(room, carol, "hi")
		base := []string{"create", "history_visibility", "join_rules", "name", "org.x/a", "org.x/b", "org.y/a", "power_levels"}
		for name, test := range map[string]struct {
			required [][2]string
			want     []string
		}{
			"nothing":         {nil, []string{}},
			"type and key":    {[][2]string{{"org.x", "a"}, {"org.z", "a"}}, []string{"org.x/a"}},
			"type":            {[][2]string{{"org.x", "*"}}, []string{"org.x/a", "org.x/b"}},
			"key":             {[][2]string{{"*", "a"}}, []string{"org.x/a", "org.y/a"}},
			"me":              {[][2]string{{"m.room.member", "$ME"}}, []string{"bob:join"}},
			"lazy":            {[][2]string{{"m.room.member", "$LAZY"}}, []string{"carol:join"}},
			"by name":         {[][2]string{{"m.room.member", dave}}, []string{"dave:join"}},
			"lazy and by key": {[][2]string{{"m.room.member", "$LAZY"}, {"m.room.member", dave}, {"org.x", "b"}}, []string{"carol:join", "dave:join", "org.x/b"}},
			"all members":     {[][2]string{{"m.room.member", "*"}}, []string{"alice:join", "bob:join", "carol:join", "dave:join"}},
			"all":             {[][2]string{{"*", "*"}}, append([]string{"alice:join", "bob:join", "carol:join", "dave:join"}, base...)},
			"all, lazy":       {[][2]string{{"*", "*"}, {"m.room.member", "$LAZY"}}, append([]string{"carol:join"}, base...)},
			"all, me":         {[][2]string{{"*", "*"}, {"m.room.member", "$ME"}}, append([]string{"bob:join"}, base...)},
		} {
			c := s.slider(bob, all(1, 1, test.required...))
			slices.Sort(test.want)
			same(t, name, c.next().Rooms[room].state(), test.want)
		}
		c := s.slider(bob, all(1, 1, [2]string{"m.room.member", "$LAZY"}, [2]string{"org.x", "*"}))
		c.next()
		s.say(room, carol, "again")
		same(t, "carol was told", c.next().Rooms[room].state(), []string{})
		s.say(room, dave, "hi")
		s.setState(room, alice, "org.x", "a", `{"v":2}`)
		s.setState(room, alice, "org.y", "a", `{"v":2}`)
		if r := c.next().Rooms[room]; !r.Limited || cmp.Diff(r.state(), []string{"alice:join", "org.x/a"}) != "" {
			t.Errorf("room %+v", r)
		}
		s.say(room, dave, "again")
		same(t, "dave", c.next().Rooms[room].state(), []string{"dave:join"})
	})
}

func TestSlidingHeroes(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{})
		s.join(room, bob)
		s.invite(room, alice, carol)
		c := s.slider(bob, all(1, 1))
		same(t, "heroes", c.next().Rooms[room].Heroes, []hero{{UserID: alice}, {UserID: carol}})
		s.setState(room, alice, "m.room.member", alice, `{"membership":"join","displayname":"Alice","avatar_url":{}}`)
		same(t, "heroes", c.next().Rooms[room].Heroes, []hero{{UserID: carol}, {UserID: alice, DisplayName: "Alice"}})
		s.setState(room, alice, "m.room.name", "", `{"name":"Hall"}`)
		if r := c.next().Rooms[room]; r.Heroes != nil || r.Name == nil || *r.Name != "Hall" {
			t.Errorf("room %+v", r)
		}
	})
}
