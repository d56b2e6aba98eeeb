package syncapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/roomserver"
)

func TestSlidingInvite(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		hall := s.hall(1)
		c := s.slider(bob, all(10, 5, [2]string{"m.room.member", "$ME"}))
		c.next()
		secret := s.create(roomserver.RoomDraft{Name: "Secret", Preset: "private_chat"})
		s.say(secret, alice, "not yet")
		answer := c.waiting()
		s.invite(secret, alice, bob)
		r := c.got(answer).Rooms[secret]
		if !r.Initial || r.Membership != "invite" || r.Name != nil || r.JoinedCount != nil || r.Timeline != nil || r.RequiredState != nil || r.BumpStamp == 0 {
			t.Errorf("room %+v", r)
		}
		if got := (batch{Events: r.InviteState}).briefs(); !slices.Contains(got, "name") || !slices.Contains(got, "bob:invite") {
			t.Errorf("invite state %q", got)
		}
		s.say(secret, alice, "not for the invited")
		if a := c.next(); len(a.Rooms) != 0 || a.Lists["all"].Count != 2 {
			t.Errorf("answer %+v", a)
		}
		if a := s.slider(bob, c.body).next(); len(a.Rooms[secret].InviteState) == 0 || a.Rooms[secret].Timeline != nil {
			t.Errorf("another connection: %+v", a.Rooms[secret])
		}
		c.next()
		s.join(secret, bob)
		r = c.next().Rooms[secret]
		if !r.Initial || r.Membership != "join" || *r.Name != "Secret" || r.InviteState != nil || cmp.Diff(r.state(), []string{"bob:join"}) != "" {
			t.Errorf("room %+v", r)
		}
		s.invite(hall[0], alice, carol)
		d := s.slider(carol, all(10, 5, [2]string{"m.room.member", "$ME"}))
		d.next()
		s.leave(hall[0], carol)
		r = d.next().Rooms[hall[0]]
		if r.Membership != "leave" || cmp.Diff(r.state(), []string{"carol:leave"}) != "" || cmp.Diff(r.timeline(), []string{"carol:leave"}) != "" || r.JoinedCount != nil || r.Name != nil {
			t.Errorf("a refused invite: %+v", r)
		}
		if a := d.next(); len(a.Rooms) != 0 || a.Lists["all"].Count != 0 {
			t.Errorf("answer %+v", a)
		}
	})
}

// The end of a membership is told once, and nothing of what comes after it.
func TestSlidingLeave(t *testing.T) {
	for name, end := range map[string]struct {
		do         func(s *server, room string)
		membership string
		stays      bool // in lists
	}{
		"leave": {func(s *server, room string) { s.leave(room, bob) }, "leave", false},
		"kick":  {func(s *server, room string) { s.kick(room, alice, bob) }, "leave", true},
		"ban":   {func(s *server, room string) { s.ban(room, alice, bob) }, "ban", true},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				room := s.hall(1)[0]
				body := all(10, 5, [2]string{"m.room.member", "$ME"}, [2]string{"m.room.topic", ""})
				body["extensions"] = object{"receipts": object{"enabled": true}, "typing": object{"enabled": true}, "account_data": object{"enabled": true}}
				c := s.slider(bob, body)
				c.next()
				after := func() {
					s.setState(room, alice, "m.room.name", "", `{"name":"Later"}`)
					s.setState(room, alice, "m.room.topic", "", `{"topic":"later"}`)
					s.setState(room, alice, "m.room.encryption", "", `{"algorithm":"m.megolm.v1.aes-sha2"}`)
					later := s.say(room, alice, "later")
					s.join(room, carol)
					s.check(s.rooms.MarkRead(s.Context(), room, alice, roomserver.ReadMarkers{Read: later}))
					s.check(s.typing.Start(s.Context(), room, alice, roomserver.DefaultTyping))
				}
				s.say(room, alice, "before")
				end.do(s, room)
				after()
				a := c.next()
				r := a.Rooms[room]
				same(t, "timeline", r.timeline(), []string{"before", "bob:" + end.membership})
				same(t, "state", r.state(), []string{"bob:" + end.membership})
				if r.Membership != end.membership || r.Name != nil || r.JoinedCount != nil || len(a.Extensions.Receipts.Rooms)+len(a.Extensions.Typing.Rooms) != 0 {
					t.Errorf("answer %+v", a)
				}
				after()
				if a := c.next(); len(a.Rooms)+len(a.Extensions.Receipts.Rooms)+len(a.Extensions.Typing.Rooms) != 0 || (a.Lists["all"].Count == 1) != end.stays {
					t.Errorf("answer %+v", a)
				}
				a = s.slider(bob, body).next()
				if _, told := a.Rooms[room]; told != end.stays {
					t.Errorf("anew: %+v", a)
				}
				if r := a.Rooms[room]; end.stays && (*r.Name != "Room 0" || r.JoinedCount != nil || r.Heroes != nil ||
					cmp.Diff(r.timeline()[len(r.timeline())-2:], []string{"before", "bob:" + end.membership}) != "" || cmp.Diff(r.state(), []string{"bob:" + end.membership}) != "") {
					t.Errorf("anew: %+v", r)
				}
			})
		})
	}
}

// The same for a room that had left the window, and for one that the user comes back to.
func TestSlidingLeaveStale(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		rooms := s.hall(2)
		c := s.slider(bob, all(2, 5, [2]string{"m.room.member", "$ME"}))
		c.next()
		c.body = all(1, 5, [2]string{"m.room.member", "$ME"})
		c.next()
		s.say(rooms[0], alice, "before")
		s.say(rooms[1], alice, "top")
		c.next()
		s.leave(rooms[0], bob)
		s.say(rooms[0], alice, "after")
		r := c.next().Rooms[rooms[0]]
		same(t, "timeline", r.timeline(), []string{"before", "bob:leave"})
		same(t, "state", r.state(), []string{"bob:leave"})
		s.join(rooms[0], bob)
		if r := c.next().Rooms[rooms[0]]; !r.Initial || r.Membership != "join" {
			t.Errorf("room %+v", r)
		}
	})
}

// What came before a join is shown only if the room's history is.
func TestSlidingVisibility(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.create(roomserver.RoomDraft{Name: "Hall"})
		s.setState(room, alice, "m.room.history_visibility", "", `{"history_visibility":"joined"}`)
		s.say(room, alice, "hidden")
		s.join(room, bob)
		s.say(room, alice, "seen")
		same(t, "timeline", s.slider(bob, all(1, 3)).next().Rooms[room].timeline(), []string{"history_visibility", "bob:join", "seen"})
		c := s.slider(bob, all(1, 3))
		c.next()
		s.leave(room, bob)
		s.say(room, alice, "away")
		s.join(room, bob)
		if got := c.next().Rooms[room].timeline(); slices.Contains(got, "away") || !slices.Contains(got, "bob:join") {
			t.Errorf("timeline %q", got)
		}
	})
}

func TestSlidingFilters(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		plain := s.create(roomserver.RoomDraft{Name: "plain"})
		secret := s.create(roomserver.RoomDraft{Name: "secret", InitialState: []roomserver.StateDraft{
			{Type: "m.room.encryption", Content: json.RawMessage(`{"algorithm":"m.megolm.v1.aes-sha2"}`)}}})
		space := s.create(roomserver.RoomDraft{Name: "space", CreationContent: map[string]json.RawMessage{"type": json.RawMessage(`"m.space"`)}})
		other := s.create(roomserver.RoomDraft{Name: "other", CreationContent: map[string]json.RawMessage{"type": json.RawMessage(`"m.space"`)}})
		for _, room := range []string{plain, secret, space} {
			s.join(room, bob)
		}
		invited := s.create(roomserver.RoomDraft{Name: "invited", Preset: "private_chat", Invite: []string{bob}})
		s.setState(space, alice, "m.space.child", plain, `{"via":["hs.example"]}`)
		s.setState(space, alice, "m.space.child", secret, `{}`)
		s.setState(other, alice, "m.space.child", secret, `{"via":["hs.example"]}`)
		s.setAccountData(bob, "", "m.direct", object{alice: []string{secret}, carol: 5})
		s.setAccountData(bob, plain, "m.tag", object{"tags": object{"m.favourite": object{}, "u.x": object{}}})
		names := map[string]string{plain: "plain", secret: "secret", space: "space", invited: "invited"}
		for filter, want := range map[string]string{
			`{}`:                                    "invited plain secret space",
			`{"is_dm":true}`:                        "secret",
			`{"is_dm":false}`:                       "invited plain space",
			`{"is_encrypted":true}`:                 "secret",
			`{"is_encrypted":false}`:                "invited plain space",
			`{"is_invite":true}`:                    "invited",
			`{"is_invite":false,"is_dm":null}`:      "plain secret space",
			`{"room_types":["m.space"]}`:            "space",
			`{"room_types":[null]}`:                 "invited plain secret",
			`{"room_types":[]}`:                     "",
			`{"not_room_types":["m.space"]}`:        "invited plain secret",
			`{"not_room_types":[null]}`:             "space",
			`{"not_room_types":[]}`:                 "invited plain secret space",
			`{"spaces":["` + space + `"]}`:          "plain",
			`{"spaces":["` + other + `","!x:y.z"]}`: "",
			`{"tags":["m.favourite","m.x"]}`:        "plain",
			`{"tags":["u.x"],"not_tags":["u.x"]}`:   "",
			`{"not_tags":["m.favourite"]}`:          "invited secret space",
			`{"is_dm":false,"is_invite":false,"not_room_types":["m.space"]}`: "plain",
		} {
			body := all(10, 0)
			body["lists"].(object)["all"].(object)["filters"] = json.RawMessage(filter)
			a := s.slider(bob, body).next()
			var got []string
			for id := range a.Rooms {
				got = append(got, names[id])
			}
			slices.Sort(got)
			if strings.Join(got, " ") != want || a.Lists["all"].Count != len(got) {
				t.Errorf("%s: %q, count %d; want %q", filter, got, a.Lists["all"].Count, want)
			}
		}
	})
}

// A room becomes a direct chat and is none any more.
func TestSlidingDirect(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.hall(1)[0]
		c := s.slider(bob, all(10, 0))
		c.next()
		for _, direct := range []bool{true, false} {
			answer := c.waiting()
			s.setAccountData(bob, "", "org.x", object{})
			rooms := []string{}
			if direct {
				rooms = append(rooms, room)
			}
			s.setAccountData(bob, "", "m.direct", object{alice: rooms})
			if r := c.got(answer).Rooms[room]; r.Initial || r.IsDM == nil || *r.IsDM != direct {
				t.Errorf("room %+v", r)
			}
		}
		s.setAccountData(bob, "", "m.direct", object{alice: []string{room}})
		if r := s.slider(bob, all(10, 0)).next().Rooms[room]; !r.Initial || r.IsDM == nil || !*r.IsDM {
			t.Errorf("room %+v", r)
		}
	})
}

// A client that waits is woken by nothing that it is not told of.
func TestSlidingWait(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		rooms := s.hall(2)
		filtered := all(1, 1)
		filtered["lists"].(object)["all"].(object)["filters"] = object{"is_dm": true}
		filtered["room_subscriptions"] = object{rooms[0]: object{"timeline_limit": 1, "required_state": []any{}}}
		read := s.say(rooms[0], alice, "first")
		c := s.slider(bob, filtered)
		c.next()
		answer := c.waiting()
		s.say(rooms[1], alice, "elsewhere")
		s.say(rooms[1], alice, "more")
		s.check(s.rooms.MarkRead(s.Context(), rooms[0], alice, roomserver.ReadMarkers{Read: read}))
		s.check(s.typing.Start(s.Context(), rooms[0], alice, roomserver.DefaultTyping))
		s.setAccountData(bob, rooms[0], "org.x", object{})
		s.present(alice, "online")
		s.present(bob, "online")
		s.say(rooms[0], alice, "here")
		a := c.got(answer)
		same(t, "rooms", c.named(a, rooms), []int{0})
		same(t, "timeline", a.Rooms[rooms[0]].timeline(), []string{"here"})
		if len(a.Extensions.Receipts.Rooms) != 0 {
			t.Errorf("answer %+v", a)
		}
		c.body = all(2, 1)
		same(t, "what was outside", c.next().Rooms[rooms[1]].timeline(), []string{"more"})
	})
}

// A second request on a connection ends the first, which changes nothing.
func TestSlidingSuperseded(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		room := s.hall(1)[0]
		c := s.slider(bob, all(1, 1))
		c.next()
		first := c.waiting()
		pos := c.pos
		if a := c.next(); len(a.Rooms) != 0 {
			t.Errorf("answer %+v", a)
		}
		if a := <-first; a == nil || a.Pos != pos || len(a.Rooms) != 0 {
			t.Errorf("the first request: %+v", a)
		}
		s.say(room, alice, "hi")
		same(t, "timeline", c.next().Rooms[room].timeline(), []string{"hi"})
	})
}

// Many requests at once on a connection end well, and none of them loses anything.
func TestSlidingAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		rooms := s.hall(3)
		c := s.slider(bob, all(3, 5))
		c.next()
		for round := range 5 {
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					if i == 0 {
						s.say(rooms[round%3], alice, fmt.Sprint(round))
					}
					timeout := []string{"", "5"}[i%2]
					if status, body := s.slideAs(s.Context(), s.token(bob, "PHONE"), c.pos, timeout, c.request()); status != http.StatusOK && !strings.Contains(string(body), "M_UNKNOWN_POS") {
						s.Errorf("status %d: %s", status, body)
					}
				})
			}
			all.Wait()
			same(t, "timeline", c.next().Rooms[rooms[round%3]].timeline(), []string{fmt.Sprint(round)})
		}
	})
}
