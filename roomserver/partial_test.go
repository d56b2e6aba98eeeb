package roomserver_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// complete lets the server complete rooms, until p.stop is called or the test ends.
func (p *peer) complete() {
	ctx, cancel := context.WithCancel(p.net.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.rooms.Run(ctx) }()
	for !p.rooms.Completing() {
		runtime.Gosched()
	}
	stopped := false
	p.stop = func() {
		cancel()
		if !stopped {
			stopped = true
			if err := <-ended; err != nil {
				p.net.t.Error(err)
			}
		}
	}
	p.net.t.Cleanup(p.stop)
}

// restart gives the server a new room server on its database.
func (p *peer) restart() {
	p.rooms = roomserver.New(roomserver.Options{DB: p.db, Signer: p.signer, DefaultVersion: "12", Remote: p, Logger: slog.New(slog.DiscardHandler)})
	p.serving = roomserver.NewServing(p.rooms)
}

func (p *peer) room(roomID string) *storage.Room {
	p.net.t.Helper()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(p.net.t.Context(), roomID))
	return &room
}

// settle waits until the server knows all members of the room.
func (p *peer) settle(roomID string) {
	p.net.t.Helper()
	if err := p.rooms.AwaitMembers(p.net.t.Context(), roomID); err != nil {
		p.net.t.Fatal(err)
	}
}

// recent are the texts of the messages that the user finds on the newest page.
func (p *peer) recent(roomID, userID string) []string {
	p.net.t.Helper()
	t := p.net.t
	access := must[roomserver.Access](t)(p.rooms.Access(t.Context(), roomID, userID))
	page := must[roomserver.Page](t)(p.rooms.Messages(t.Context(), access, roomserver.PageQuery{Backwards: true, Limit: 100,
		From: must[roomserver.Token](t)(p.rooms.FirstToken("", true))}))
	texts := []string{}
	for _, e := range page.Events {
		if e.Type == "m.room.message" {
			texts = append(texts, e.ContentString("body"))
		}
	}
	slices.Reverse(texts)
	return texts
}

// around are the states before and after each event of the room's timeline from an event on.
func (p *peer) around(roomID string, join *matrix.Event) map[string][2][]string {
	p.net.t.Helper()
	t, ctx := p.net.t, p.net.t.Context()
	events := must[[]storage.Event](t)(p.db.EventsForward(ctx, p.room(roomID).Number, 0, 1<<62, 10_000))
	at := slices.IndexFunc(events, func(e storage.Event) bool { return e.ID == join.ID })
	found := map[string][2][]string{}
	for _, e := range events[at:] {
		states := must[map[int64][]int64](t)(p.rooms.StatesAt(ctx, []int64{e.StateBefore, e.StateAfter}))
		var both [2][]string
		for i, id := range []int64{e.StateBefore, e.StateAfter} {
			both[i] = must[[]string](t)(p.db.EventIDs(ctx, states[id]))
			slices.Sort(both[i])
		}
		found[e.ID] = both
	}
	return found
}

// same fails the test unless two servers have the same room since an event, as if none of
// them had ever known only a part of it.
func (n *network) same(roomID string, join *matrix.Event, one, other string) {
	n.t.Helper()
	n.agree(roomID, one, other)
	p, q := n.at(one), n.at(other)
	if diff := cmp.Diff(p.around(roomID, join), q.around(roomID, join)); diff != "" {
		n.t.Errorf("the states around the events differ (-%s +%s):\n%s", one, other, diff)
	}
	x, y := p.room(roomID), q.room(roomID)
	slices.Sort(x.Extremities)
	slices.Sort(y.Extremities)
	if x.Joined != y.Joined || x.Invited != y.Invited || x.Depth != y.Depth || !slices.Equal(x.Extremities, y.Extremities) {
		n.t.Errorf("%s has the room %+v, %s %+v", one, x, other, y)
	}
	if diff := cmp.Diff(p.counts(roomID), q.counts(roomID)); diff != "" {
		n.t.Errorf("the servers in the room differ (-%s +%s):\n%s", one, other, diff)
	}
}

// counts are the servers in the room with the numbers of their members.
func (p *peer) counts(roomID string) map[string]int64 {
	p.net.t.Helper()
	counts := map[string]int64{}
	for _, s := range must[[]storage.RoomServer](p.net.t)(p.db.ServersIn(p.net.t.Context(), p.room(roomID).Number)) {
		counts[s.Server] = s.Members
	}
	return counts
}

// crowd makes a room at a with members of a and d, and lets bob of b join it, who does not
// get to know the members before b.hold is closed. It gives the join.
func (n *network) crowd(v matrix.RoomVersion) (roomID string, join *matrix.Event) {
	n.t.Helper()
	a, b := n.at("a"), n.at("b")
	roomID = create(n.t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat", Version: v, Name: "Planning"})
	for _, user := range []string{"bob", "carol"} {
		if err := a.rooms.Join(n.t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", user)}); err != nil {
			n.t.Fatal(err)
		}
	}
	for _, user := range []string{"alice", "bob"} {
		n.at("d").join(roomID, userOf("d", user), "a")
	}
	n.deliver()
	if n.prepare != nil {
		n.prepare(roomID)
	}
	say(n.t, a.rooms, roomID, userOf("a", "alice"), "before")
	b.hold = make(chan struct{})
	b.complete()
	b.join(roomID, userOf("b", "bob"), "a")
	if room := b.room(roomID); !room.Partial() || !room.Resident {
		n.t.Fatalf("after the join b has %+v", room)
	}
	if got := b.membership(roomID, userOf("a", "carol")); got != "" {
		n.t.Fatalf("b knows that carol of a is %q", got)
	}
	if n.meanwhile != nil {
		n.meanwhile(roomID)
	}
	n.deliver()
	return roomID, must[storage.StateEntry](n.t)(b.db.CurrentStateEvent(n.t.Context(), b.room(roomID).Number, "m.room.member", userOf("b", "bob"))).Event.Event
}

// eachPartial runs a test with the servers a, b, c and d in rooms of several versions.
func eachPartial(t *testing.T, test func(t *testing.T, net *network, v matrix.RoomVersion)) {
	eachNetwork(t, 4, func(t *testing.T, net *network) {
		for _, v := range []matrix.RoomVersion{"1", "6", "10", "12"} {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				test(t, net, v)
			})
		}
	})
}

// Who joins a large room reads and speaks before its members are known, and when they are
// everything is as if they had always been.
func TestPartialJoin(t *testing.T) {
	eachPartial(t, func(t *testing.T, net *network, v matrix.RoomVersion) {
		a, b, d := net.at("a"), net.at("b"), net.at("d")
		roomID, join := net.crowd(v)
		ctx := t.Context()
		say(t, a.rooms, roomID, userOf("a", "carol"), "welcome")
		net.deliver()
		say(t, b.rooms, roomID, userOf("b", "bob"), "thanks")
		net.deliver()
		say(t, d.rooms, roomID, userOf("d", "alice"), "hello")
		net.deliver()
		// Members come, go, change and are removed, those who are not known too.
		net.at("c").join(roomID, userOf("c", "carol"), "d")
		net.deliver()
		for _, err := range []error{
			a.rooms.Leave(ctx, roomID, roomserver.MemberChange{Sender: userOf("a", "carol")}),
			a.rooms.Ban(ctx, roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("d", "bob")}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.topic", `{"topic":"x"}`)
		net.deliver()
		// A second user of b is let in by others.
		b.join(roomID, userOf("b", "carol"), "a")
		net.deliver()
		say(t, b.rooms, roomID, userOf("b", "carol"), "me too")
		net.deliver()
		want := []string{"welcome", "thanks", "hello", "me too"}
		for _, user := range []string{"bob", "carol"} {
			if diff := cmp.Diff(want, b.recent(roomID, userOf("b", user))); diff != "" {
				t.Errorf("while members are not known, %s finds (-want +got):\n%s", user, diff)
			}
		}
		if !b.room(roomID).Partial() {
			t.Error("the room is not partial any more")
		}
		close(b.hold)
		b.settle(roomID)
		net.same(roomID, join, "a", "b")
		say(t, d.rooms, roomID, userOf("d", "alice"), "after")
		say(t, b.rooms, roomID, userOf("b", "bob"), "after that")
		net.deliver()
		net.same(roomID, join, "a", "b")
		want = append(append([]string{"before"}, want...), "after", "after that")
		if got := bodies(t, b.rooms, roomID, userOf("b", "bob")); len(got) != len(want) || !slices.Equal(got[:5], want[:5]) {
			t.Errorf("b has heard %q, want %q", got, want)
		}
	})
}

// Until the members are known, nobody is told that those who are were all.
func TestPartialStateIsNotServed(t *testing.T) {
	eachPartial(t, func(t *testing.T, net *network, v matrix.RoomVersion) {
		a, b := net.at("a"), net.at("b")
		roomID, join := net.crowd(v)
		ctx := t.Context()
		if _, err := b.serving.StateBefore(ctx, "a.test", roomID, join.ID); !errors.Is(err, matrix.NotFound) {
			t.Errorf("another server asks for the state: %v", err)
		}
		if _, err := b.rooms.MakeMember(ctx, roomID, userOf("c", "carol"), "join", nil); !errors.Is(err, matrix.UnableToAuthoriseJoin) {
			t.Errorf("another server asks for a join: %v", err)
		}
		if _, err := b.rooms.AcceptMember(ctx, "c.test", roomID, join.ID, "join", join.JSON); !errors.Is(err, matrix.UnableToAuthoriseJoin) {
			t.Errorf("another server joins: %v", err)
		}
		access := must[roomserver.Access](t)(b.rooms.Access(ctx, roomID, userOf("b", "bob")))
		members, kicked, state := make(chan int), make(chan error), make(chan int)
		go func() {
			list, err := b.rooms.Members(ctx, access, roomserver.MembersQuery{Membership: "join"})
			if err != nil {
				t.Error(err)
			}
			members <- len(list)
		}()
		go func() {
			list, err := b.rooms.State(ctx, access)
			if err != nil {
				t.Error(err)
			}
			state <- len(list)
		}()
		go func() {
			kicked <- b.rooms.Kick(ctx, roomID, roomserver.MemberChange{Sender: userOf("b", "bob"), Target: userOf("a", "carol")})
		}()
		if member := must[*roomserver.ClientEvent](t)(b.rooms.StateEvent(ctx, access, "m.room.member", userOf("b", "bob"))); member.Membership() != "join" {
			t.Errorf("bob is %q", member.Membership())
		}
		select {
		case n := <-members:
			t.Errorf("%d members are all", n)
		case n := <-state:
			t.Errorf("%d state events are all", n)
		case err := <-kicked:
			t.Errorf("somebody who is not known is kicked: %v", err)
		default:
		}
		close(b.hold)
		if n := <-members; n != 6 {
			t.Errorf("there are %d members", n)
		}
		if n, want := <-state, len(a.state(roomID)); n != want {
			t.Errorf("there are %d state events, want %d", n, want)
		}
		if err := <-kicked; !errors.Is(err, matrix.Forbidden) {
			t.Errorf("a user without power kicks: %v", err)
		}
		net.same(roomID, join, "a", "b")
	})
}

// A server that ends while it does not know all members gets to know them when it runs again.
func TestPartialJoinSurvivesRestart(t *testing.T) {
	eachPartial(t, func(t *testing.T, net *network, v matrix.RoomVersion) {
		a, b := net.at("a"), net.at("b")
		roomID, join := net.crowd(v)
		say(t, a.rooms, roomID, userOf("a", "carol"), "welcome")
		net.deliver()
		banned := roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("d", "bob")}
		if err := a.rooms.Ban(t.Context(), roomID, banned); err != nil {
			t.Fatal(err)
		}
		net.deliver()
		b.stop()
		b.restart() // nothing is left of what was in memory
		if err := a.rooms.Unban(t.Context(), roomID, banned); err != nil {
			t.Fatal(err)
		}
		net.deliver()
		packed := must[map[int64][]int64](t)(b.rooms.StatesAt(t.Context(), []int64{b.room(roomID).State}))[b.room(roomID).State]
		if n := len(b.state(roomID)); len(packed) != n {
			t.Errorf("the current state has %d events, the stored one %d", n, len(packed))
		}
		say(t, a.rooms, roomID, userOf("a", "bob"), "are you there?")
		net.deliver()
		say(t, b.rooms, roomID, userOf("b", "bob"), "yes")
		net.deliver()
		if diff := cmp.Diff([]string{"welcome", "are you there?", "yes"}, b.recent(roomID, userOf("b", "bob"))); diff != "" {
			t.Errorf("after the restart (-want +got):\n%s", diff)
		}
		b.complete()
		close(b.hold)
		b.settle(roomID)
		net.same(roomID, join, "a", "b")
	})
}

// Who leaves before the members are known has left, and may come back.
func TestLeaveWhilePartial(t *testing.T) {
	eachPartial(t, func(t *testing.T, net *network, v matrix.RoomVersion) {
		a, b := net.at("a"), net.at("b")
		roomID, _ := net.crowd(v)
		if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("b", "bob")}); err != nil {
			t.Fatal(err)
		}
		net.deliver()
		if got := a.membership(roomID, userOf("b", "bob")); got != "leave" {
			t.Errorf("a has bob as %q", got)
		}
		b.settle(roomID) // there is nothing to wait for
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		join := must[storage.StateEntry](t)(b.db.CurrentStateEvent(t.Context(), b.room(roomID).Number, "m.room.member", userOf("b", "bob"))).Event.Event
		close(b.hold)
		b.settle(roomID)
		net.same(roomID, join, "a", "b")
		if rooms := must[[]storage.PartialRoom](t)(b.db.PartialRooms(t.Context())); len(rooms) > 0 {
			t.Errorf("there is something left to complete: %+v", rooms)
		}
	})
}

// The server that let the user in need not be the one that tells who else is in the room.
func TestMembersFromAnotherServer(t *testing.T) {
	eachPartial(t, func(t *testing.T, net *network, v matrix.RoomVersion) {
		roomID, join := net.crowd(v)
		net.at("a").down = true
		close(net.at("b").hold)
		net.at("b").settle(roomID)
		net.at("a").down = false
		net.same(roomID, join, "d", "b")
	})
}

// What a banned user sends is believed while nobody here knows of the ban, and not any more
// when the members are known. What was refused because of it is taken in then.
func TestLiesWhilePartial(t *testing.T) {
	eachPartial(t, func(t *testing.T, net *network, v matrix.RoomVersion) {
		a, b, d := net.at("a"), net.at("b"), net.at("d")
		net.prepare = func(roomID string) {
			d.join(roomID, userOf("d", "carol"), "a")
			levels := `{"users":{"@alice:a.test":100,"@carol:d.test":50}}`
			if v.PrivilegedCreators() {
				levels = `{"users":{"@carol:d.test":50}}`
			}
			setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.power_levels", levels)
			net.deliver()
			d.old = must[storage.StateEntry](t)(d.db.CurrentStateEvent(t.Context(), d.room(roomID).Number, "m.room.member", userOf("d", "carol")))
			if err := a.rooms.Ban(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("a", "alice"), Target: userOf("d", "carol")}); err != nil {
				t.Fatal(err)
			}
			net.deliver()
		}
		roomID, join := net.crowd(v)
		net.prepare = nil
		lie := func(eventType string, stateKey *string, content string) *matrix.Event {
			e := d.forgeOf(roomID, d.old, eventType, stateKey, content, b.extremities(roomID)...)
			d.lies.auth = func(string) []*matrix.Event { return d.chainOf(roomID, d.old.Event.Event) }
			if refused := b.get("d.test", roomID, e); refused[0] != nil {
				t.Fatalf("b refuses %s: %v", eventType, refused[0])
			}
			return e
		}
		message := lie("m.room.message", nil, `{"msgtype":"m.text","body":"I am not banned"}`)
		bob := userOf("a", "bob")
		kick := lie("m.room.member", &bob, `{"membership":"leave"}`)
		still := say(t, a.rooms, roomID, bob, "I am still here")
		net.deliver()
		for id, want := range map[string]storage.Status{message.ID: storage.Accepted, kick.ID: storage.Accepted, still: storage.SoftFailed} {
			if got := b.status(id); got != want {
				t.Fatalf("before the members are known, an event has the status %d, want %d", got, want)
			}
		}
		close(b.hold)
		b.settle(roomID)
		b.stop()
		for id, want := range map[string]storage.Status{message.ID: storage.Rejected, kick.ID: storage.Rejected, still: storage.Accepted} {
			if got := b.status(id); got != want {
				t.Errorf("when the members are known, an event has the status %d, want %d", got, want)
			}
		}
		net.deliver()
		net.same(roomID, join, "a", "b")
		if diff := cmp.Diff([]string{"I am still here"}, b.recent(roomID, userOf("b", "bob"))[1:]); diff != "" {
			t.Errorf("bob of b finds (-want +got):\n%s", diff)
		}
	})
}

// forgeOf is [peer.forge] for a user who cites an old membership.
func (p *peer) forgeOf(roomID string, member storage.StateEntry, eventType string, stateKey *string, content string, previous ...string) *matrix.Event {
	p.net.t.Helper()
	room := p.room(roomID)
	proto := &matrix.Proto{Version: room.Version, RoomID: roomID, Type: eventType, StateKey: stateKey, Sender: *member.StateKey,
		Content: []byte(content), OriginServerTS: 1e12, Depth: room.Depth + 1, AuthEvents: []matrix.Reference{member.Reference()}}
	for _, id := range previous {
		proto.PrevEvents = append(proto.PrevEvents, matrix.Reference{ID: id})
	}
	names := []string{"m.room.create", "m.room.power_levels"}
	if room.Version.CreateWithoutRoom() {
		names = names[1:]
	}
	for _, name := range names {
		e := must[storage.StateEntry](p.net.t)(p.db.CurrentStateEvent(p.net.t.Context(), room.Number, name, ""))
		proto.AuthEvents = append(proto.AuthEvents, e.Reference())
	}
	if eventType == "m.room.member" {
		target := must[storage.StateEntry](p.net.t)(p.db.CurrentStateEvent(p.net.t.Context(), room.Number, eventType, *stateKey))
		proto.AuthEvents = append(proto.AuthEvents, target.Reference())
	}
	return must[*matrix.Event](p.net.t)(p.signer.Build(proto))
}

// chainOf is an event with its auth chain, and all members that the server knows.
func (p *peer) chainOf(roomID string, e *matrix.Event) []*matrix.Event {
	p.net.t.Helper()
	t, ctx := p.net.t, p.net.t.Context()
	chain := must[[]int64](t)(p.serving.AuthChain(ctx, "a.test", roomID, e.ID))
	events := must[[]*matrix.Event](t)(p.serving.Load(ctx, chain))
	for _, m := range must[[]storage.StateEntry](t)(p.db.CurrentStateOfType(ctx, p.room(roomID).Number, "m.room.member")) {
		if m.Membership() == "join" {
			events = append(events, m.Event.Event)
		}
	}
	return append(events, e)
}

// What is said while somebody joins, by servers that have not heard of the join, comes too
// while the members are not known.
func TestEventsBesidePartialJoin(t *testing.T) {
	eachPartial(t, func(t *testing.T, net *network, v matrix.RoomVersion) {
		a, b, d := net.at("a"), net.at("b"), net.at("d")
		net.meanwhile = func(roomID string) {
			say(t, d.rooms, roomID, userOf("d", "alice"), "meanwhile")
			say(t, d.rooms, roomID, userOf("d", "bob"), "and so do I")
			if err := d.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("d", "bob")}); err != nil {
				t.Fatal(err)
			}
		}
		roomID, join := net.crowd(v)
		net.meanwhile = nil
		say(t, a.rooms, roomID, userOf("a", "carol"), "welcome")
		net.deliver()
		want := []string{"meanwhile", "and so do I", "welcome"}
		if diff := cmp.Diff(want, b.recent(roomID, userOf("b", "bob"))); diff != "" {
			t.Errorf("while members are not known, bob finds (-want +got):\n%s", diff)
		}
		close(b.hold)
		b.settle(roomID)
		net.same(roomID, join, "a", "b")
		if diff := cmp.Diff(append([]string{"before"}, want...), bodies(t, b.rooms, roomID, userOf("b", "bob"))); diff != "" {
			t.Errorf("in the end bob finds (-want +got):\n%s", diff)
		}
	})
}
