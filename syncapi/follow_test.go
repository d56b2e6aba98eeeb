package syncapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
	"beep/storage/storagetest"
)

// follower is a client that keeps what /sync tells it, and fills the gaps through
// /messages.
type follower struct {
	*server
	userID     string
	lazy       bool
	stateAfter bool
	since      string
	sections   map[string]string          // by room
	known      map[string]*followedRoom   // by room
	told       map[string]map[string]bool // events by room
}

type followedRoom struct {
	events []string          // ids, in order
	state  map[string]string // ids, by type and state key
	member map[string]string // memberships, by user
}

func newFollower(s *server, userID string) *follower {
	return &follower{server: s, userID: userID, sections: map[string]string{}, known: map[string]*followedRoom{}}
}

// filter is one for at most limit events of each room.
func (f *follower) filter(limit int) string {
	return fmt.Sprintf(`{"room":{"timeline":{"limit":%d},"state":{"lazy_load_members":%v}}}`, limit, f.lazy)
}

// follow asks once what is new.
func (f *follower) follow(limit int, params ...string) {
	f.Helper()
	params = append(params, "since", f.since, "filter", f.filter(limit), "use_state_after", strconv.FormatBool(f.stateAfter))
	a := f.sync(f.userID, params...)
	f.checkPositions(a)
	for room := range a.Rooms.Invite {
		f.sections[room] = "invite"
	}
	for room := range a.Rooms.Knock {
		f.sections[room] = "knock"
	}
	for room, r := range a.Rooms.Join {
		if k := f.known[room]; k != nil && f.sections[room] != "join" {
			k.events = nil // a member may see more than one who peeked, or was away
		}
		f.apply(room, r)
		f.sections[room] = "join"
	}
	for room, r := range a.Rooms.Leave {
		f.apply(room, r)
		f.sections[room] = "leave"
	}
	f.since = a.NextBatch
}

func (f *follower) apply(room string, r syncedRoom) {
	f.Helper()
	k := f.known[room]
	if k == nil {
		k = &followedRoom{state: map[string]string{}, member: map[string]string{}}
		f.known[room] = k
	}
	if f.lazy && f.sections[room] != "join" {
		clear(k.state) // members may have changed while the user was away
	}
	k.set(r.stateEvents().Events)
	if f.stateAfter && r.State != nil {
		f.Error("there is state besides state_after")
	}
	if !f.stateAfter {
		k.set(r.Timeline.Events)
	}
	if r.Timeline.Limited && !f.fill(room, k, r.Timeline) {
		k.events = nil // the next time in the room fills it all
		return
	}
	for _, e := range r.Timeline.Events {
		if f.alone(e) {
			continue
		}
		if slices.Contains(k.events, e.ID) {
			if !r.Timeline.Limited {
				f.Errorf("%s is told twice of %s in %s", f.userID, e.brief(), room)
			}
			continue
		}
		k.events = append(k.events, e.ID)
		f.checkVisible(room, e)
	}
}

// alone tells that an event is the user's own, without what was before: the user
// was not in the room.
func (f *follower) alone(e event) bool {
	var before struct{ Membership string }
	_ = json.Unmarshal(e.Unsigned.PrevContent, &before)
	return e.Type == "m.room.member" && *e.StateKey == f.userID && e.text("membership") != "join" && before.Membership != "join"
}

// set takes in state events.
func (k *followedRoom) set(events []event) {
	for _, e := range events {
		if e.StateKey == nil {
			continue
		}
		k.state[e.Type+"|"+*e.StateKey] = e.ID
		if e.Type == "m.room.member" {
			k.member[*e.StateKey] = e.text("membership")
		}
	}
}

// fill adds what lies before a timeline. It fails when the user may no longer read it.
func (f *follower) fill(room string, k *followedRoom, timeline batch) bool {
	f.Helper()
	access, err := f.rooms.Access(f.Context(), room, f.userID)
	if errors.Is(err, matrix.Forbidden) {
		return false
	}
	f.check(err)
	var missing []string
	q := roomserver.PageQuery{Backwards: true, Limit: 3, From: must(roomserver.ParseToken(timeline.PrevBatch))(f.server)}
	for {
		page := must(f.rooms.Messages(f.Context(), access, q))(f.server)
		for _, e := range page.Events {
			if slices.Contains(k.events, e.ID) {
				slices.Reverse(missing)
				k.events = append(k.events, missing...)
				return true
			}
			missing = append(missing, e.ID)
		}
		if !page.More {
			slices.Reverse(missing)
			k.events = append(k.events, missing...)
			return true
		}
		q.From = page.End
	}
}

// checkPositions makes sure that an answer tells of nothing that comes after its
// token.
func (f *follower) checkPositions(a *synced) {
	f.Helper()
	upTo := must(strconv.ParseInt(a.NextBatch[1:], 10, 64))(f.server)
	for _, rooms := range []map[string]syncedRoom{a.Rooms.Join, a.Rooms.Leave} {
		for _, r := range rooms {
			for _, e := range append(r.Timeline.Events, r.stateEvents().Events...) {
				if told := must(f.db.EventByID(f.Context(), e.ID))(f.server); int64(told.Pos) > upTo {
					f.Errorf("%s is told of %s at %d in an answer up to %d", f.userID, e.brief(), told.Pos, upTo)
				}
			}
		}
	}
}

// checkVisible makes sure that the user may see a message.
func (f *follower) checkVisible(room string, e event) {
	f.Helper()
	if e.StateKey != nil {
		return
	}
	if _, _, err := f.rooms.Event(f.Context(), room, f.userID, e.ID); err != nil {
		f.Errorf("%s is told of %s: %v", f.userID, e.brief(), err)
	}
}

// compare makes sure that the follower knows what a client that begins now knows.
func (f *follower) compare() {
	f.Helper()
	memberships := must(f.db.Memberships(f.Context(), f.userID))(f.server)
	for _, m := range memberships {
		want := m.Membership
		if want == "ban" {
			want = "leave"
		}
		if got := f.sections[m.RoomID]; got != want && !(want == "leave" && (got == "" || m.Forgotten)) {
			f.Errorf("%s is in %q of %s, and is told %q", f.userID, want, m.RoomID, got)
		}
	}
	fresh := newFollower(f.server, f.userID)
	fresh.follow(200)
	for room, want := range fresh.known {
		got := f.known[room]
		if got == nil {
			f.Errorf("%s is not told of %s", f.userID, room)
			continue
		}
		f.compareRoom(room, got, want)
	}
}

func (f *follower) compareRoom(room string, got, want *followedRoom) {
	f.Helper()
	if f.lazy {
		for name, id := range got.state {
			if want.state[name] != id {
				f.Errorf("%s: of the state of %s %s is wrong", f.userID, room, name)
			}
		}
	} else {
		if diff := cmp.Diff(want.state, got.state); diff != "" {
			f.Errorf("%s: state of %s (-want +got)\n%s", f.userID, room, diff)
		}
		if diff := cmp.Diff(want.member, got.member); diff != "" {
			f.Errorf("%s: members of %s (-want +got)\n%s", f.userID, room, diff)
		}
	}
	// A timeline may have the room's state that /messages hides.
	visible := map[string]bool{}
	for _, id := range want.events {
		_, _, err := f.rooms.Event(f.Context(), room, f.userID, id)
		visible[id] = err == nil
	}
	hidden := func(id string) bool { return !visible[id] }
	all, events := slices.DeleteFunc(slices.Clone(want.events), hidden), slices.DeleteFunc(slices.Clone(got.events), hidden)
	if diff := cmp.Diff(f.describe(all), f.describe(events)); diff != "" {
		f.Errorf("%s: events of %s (-want +got)\n%s", f.userID, room, diff)
	}
}

// describe shows events in a few words.
func (f *follower) describe(ids []string) (briefs []string) {
	f.Helper()
	for _, id := range ids {
		e := must(f.db.EventByID(f.Context(), id))(f.server)
		short := event{Type: e.Type, StateKey: e.StateKey, Content: e.Content}
		briefs = append(briefs, fmt.Sprint(e.Pos, " ", short.brief()))
	}
	return briefs
}

// checkLazy makes sure that a lazy client knows everybody who has spoken.
func (f *follower) checkLazy() {
	f.Helper()
	for room, k := range f.known {
		if !f.lazy || f.sections[room] != "join" {
			continue
		}
		for _, id := range k.events {
			e := must(f.db.EventByID(f.Context(), id))(f.server)
			if k.state["m.room.member|"+e.Sender] == "" && f.recent(k, id) {
				f.Errorf("%s does not know %s, who speaks in %s", f.userID, e.Sender, room)
			}
		}
	}
}

// recent tells whether an event is the last of a room: what came through /messages
// comes with members of its own.
func (f *follower) recent(k *followedRoom, id string) bool { return k.events[len(k.events)-1] == id }

// chance does something random in one of the rooms. What the rules forbid is not done.
func (s *server) chance(r *rand.Rand, rooms *[]string) {
	s.Helper()
	users := []string{alice, bob, carol, dave}
	who, whom := users[r.IntN(len(users))], users[r.IntN(len(users))]
	if len(*rooms) == 0 || r.IntN(60) == 0 {
		preset := []string{"public_chat", "private_chat"}[r.IntN(2)]
		d := roomserver.RoomDraft{Creator: who, Preset: preset, PowerLevelsOverride: map[string]json.RawMessage{
			"users_default": json.RawMessage("50"), "state_default": json.RawMessage("0")}}
		if r.IntN(2) == 0 {
			d.Invite = []string{whom}
		}
		if r.IntN(3) == 0 {
			d.Name = "named"
		}
		*rooms = append(*rooms, must(s.rooms.Create(s.Context(), d))(s))
		return
	}
	room := (*rooms)[r.IntN(len(*rooms))]
	change := roomserver.MemberChange{Sender: who, Target: whom}
	empty := ""
	var err error
	switch n := r.IntN(40); {
	case n < 14:
		_, err = s.rooms.Send(s.Context(), room, roomserver.Draft{Type: "m.room.message", Sender: who, Content: json.RawMessage(fmt.Sprintf(`{"body":"%d"}`, r.Int()))})
	case n < 18:
		key := fmt.Sprint("k", r.IntN(3))
		_, err = s.rooms.SendState(s.Context(), room, roomserver.Draft{Type: "org.state", StateKey: &key, Sender: who, Content: json.RawMessage(fmt.Sprintf(`{"n":%d}`, r.Int32()))})
	case n < 20:
		_, err = s.rooms.SendState(s.Context(), room, roomserver.Draft{Type: "m.room.name", StateKey: &empty, Sender: who, Content: json.RawMessage(fmt.Sprintf(`{"name":"%d"}`, r.IntN(2)))})
	case n < 22:
		visibility := []string{"shared", "invited", "joined", "world_readable"}[r.IntN(4)]
		_, err = s.rooms.SendState(s.Context(), room, roomserver.Draft{Type: "m.room.history_visibility", StateKey: &empty, Sender: who, Content: json.RawMessage(`{"history_visibility":"` + visibility + `"}`)})
	case n < 28:
		err = s.rooms.Join(s.Context(), room, roomserver.MemberChange{Sender: who})
	case n < 30:
		err = s.rooms.Join(s.Context(), room, roomserver.MemberChange{Sender: who, Content: json.RawMessage(fmt.Sprintf(`{"displayname":"%d"}`, r.IntN(100)))})
	case n < 33:
		err = s.rooms.Leave(s.Context(), room, roomserver.MemberChange{Sender: who})
	case n < 36:
		err = s.rooms.Invite(s.Context(), room, change)
	case n < 37:
		err = s.rooms.Kick(s.Context(), room, change)
	case n < 38:
		err = s.rooms.Ban(s.Context(), room, change)
	case n < 39:
		err = s.rooms.Unban(s.Context(), room, change)
	default:
		err = s.rooms.Knock(s.Context(), room, roomserver.MemberChange{Sender: who})
	}
	var told *matrix.Error
	if err != nil && (!errors.As(err, &told) || told.Status >= 500) {
		s.Fatal(err)
	}
}

// Whoever follows knows in the end what a new client gets, whatever happens in
// between, however often and with whatever limits one asks.
func TestFollowersKnowEverything(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				r := rand.New(rand.NewPCG(seed, 1))
				followers := []*follower{newFollower(s, bob), newFollower(s, carol), newFollower(s, dave)}
				followers[1].lazy, followers[2].stateAfter = true, true
				var rooms []string
				for range 400 {
					s.chance(r, &rooms)
					if r.IntN(8) == 0 {
						f := followers[r.IntN(len(followers))]
						f.follow(1 + r.IntN(5))
						f.checkLazy()
					}
				}
				for _, f := range followers {
					f.follow(3)
					f.compare()
				}
			})
		})
	}
}

// Many write at once, and everybody who follows hears everything once, with a
// window of many events and with one of few.
func TestFollowWhileManyWrite(t *testing.T) {
	for _, budget := range []int{0, 10_000} {
		t.Run(fmt.Sprint("budget ", budget), func(t *testing.T) {
			storagetest.Each(t, func(t *testing.T, db *storage.DB) { followWhileManyWrite(t, newServer(t, db, budget)) })
		})
	}
}

func followWhileManyWrite(t *testing.T, s *server) {
	const writers, messages = 4, 40
	rooms := []string{s.create(roomserver.RoomDraft{}), s.create(roomserver.RoomDraft{})}
	for _, room := range rooms {
		s.join(room, bob, carol)
	}
	followers := []*follower{newFollower(s, bob), newFollower(s, carol)}
	for _, f := range followers {
		f.follow(10)
	}
	var writing, following sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range messages {
				if i%4 == 0 {
					s.setState(rooms[i%2], alice, "org.state", fmt.Sprint(w), fmt.Sprintf(`{"n":%d}`, i))
				} else {
					s.say(rooms[i%2], alice, fmt.Sprint(w, " ", i))
				}
			}
		})
	}
	writing.Go(func() {
		for i := range messages {
			id := fmt.Sprintf("@user%d:hs.example", i)
			s.register(id)
			s.join(rooms[i%2], id)
		}
	})
	done := make(chan struct{})
	for _, f := range followers {
		following.Go(func() {
			for {
				select {
				case <-done:
					f.follow(5)
					return
				default:
					f.follow(5, "timeout", "20")
					newFollower(s, f.userID).follow(1)
				}
			}
		})
	}
	writing.Wait()
	close(done)
	following.Wait()
	for _, f := range followers {
		f.compare()
		told := 0
		for _, k := range f.known {
			told += len(k.events)
		}
		if told < writers*messages {
			t.Errorf("%s is told of %d events", f.userID, told)
		}
	}
}
