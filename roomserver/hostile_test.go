package roomserver_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// chain makes events of a user, each of which follows the one before, that the room does
// not allow. It gives their ids, the latest first, and the events by id.
func (p *peer) chain(roomID, sender string, length int, last []string) (ids []string, byID map[string]*matrix.Event) {
	p.net.t.Helper()
	byID = map[string]*matrix.Event{}
	empty := ""
	for i := range length {
		e := p.forge(roomID, sender, "m.room.topic", &empty, fmt.Sprintf(`{"topic":"%d"}`, i), last...)
		byID[e.ID], last = e, []string{e.ID}
		ids = append(ids, e.ID)
	}
	slices.Reverse(ids)
	return ids, byID
}

// stateIDsOf are the ids of a room's current state and of what authorises it.
func (p *peer) stateIDsOf(roomID string) (state, auth []string) {
	p.net.t.Helper()
	ctx := p.net.t.Context()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(ctx, roomID))
	for _, e := range must[[]storage.StateEntry](p.net.t)(p.db.CurrentState(ctx, room.Number)) {
		state, auth = append(state, e.ID), append(auth, e.AuthEvents()...)
	}
	return state, auth
}

// backwards gives events of a chain as /backfill would; nil for what is not in it.
func backwards(byID map[string]*matrix.Event, from []string, limit int) []*matrix.Event {
	var found []*matrix.Event
	for e := byID[from[0]]; e != nil && len(found) < limit; e = byID[e.PrevEvents()[0]] {
		found = append(found, e)
	}
	return found
}

// However many events of a room's past are refused here, and however few of them come at
// once, users who page back reach what was before them (F37).
func TestPagingPassesRefusedEvents(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("a", "carol")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		a.join(roomID, carol, "a")
		for i := range 20 {
			say(t, a.rooms, roomID, alice, fmt.Sprint("old ", i))
		}
		refused, byID := a.chain(roomID, carol, 40, a.extremities(roomID))
		for i := range refused {
			a.get("a.test", roomID, byID[refused[len(refused)-1-i]])
		}
		last := a.forge(roomID, alice, "m.room.message", nil, `{"body":"last"}`, refused[0])
		if err := a.get("a.test", roomID, last)[0]; err != nil {
			t.Fatal(err)
		}
		a.lies.stateIDs = func(string) (state, auth []string) { return a.stateIDsOf(roomID) }
		a.lies.backfill = func(from []string, limit int) []*matrix.Event { return backwards(byID, from, min(limit, 1)) }
		b.join(roomID, bob, "a")
		want := []string{}
		for i := range 20 {
			want = append(want, fmt.Sprint("old ", i))
		}
		if diff := cmp.Diff(append(want, "last"), bodies(t, b.rooms, roomID, bob)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := b.status(refused[39]); got != storage.Rejected {
			t.Errorf("an event that is not allowed has the status %d", got)
		}
	})
}

// An event that says it follows one of another room leads nobody there, neither on the way
// back nor to the state (F55b).
func TestWalksEndAtTheRoomsWall(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		open := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		secret := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "private_chat"})
		b.join(open, bob, "a")
		net.deliver()
		hidden := say(t, a.rooms, secret, alice, "secret")
		door := b.forge(open, bob, "m.room.message", nil, `{"body":"door"}`, hidden)
		knocker := b.forge(open, bob, "m.room.message", nil, `{"body":"knocker"}`, door.ID)
		b.lies.missing = func([]string) []*matrix.Event { return []*matrix.Event{door} }
		b.lies.stateIDs = func(string) (state, auth []string) { return b.stateIDsOf(open) }
		if err := a.get("b.test", open, knocker)[0]; err != nil || a.status(door.ID) != storage.Accepted {
			t.Fatalf("%v; the event that leads to the other room has the status %d", err, a.status(door.ID))
		}
		back := must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "b.test", open, []string{knocker.ID}, 100))
		missing := must[[]*matrix.Event](t)(a.serving.MissingEvents(t.Context(), "b.test", open, roomserver.MissingQuery{Latest: []string{knocker.ID}, Limit: 50}))
		if diff := cmp.Diff([][]string{{"knocker", "door"}, {"door"}}, [][]string{said(back), said(missing)}); diff != "" {
			t.Errorf("backfill and missing events (-want +got):\n%s", diff)
		}
		state := must[*roomserver.StateBefore](t)(a.serving.StateBefore(t.Context(), "b.test", open, door.ID))
		for _, e := range must[[]*matrix.Event](t)(a.serving.Load(t.Context(), slices.Concat(state.State, state.AuthChain))) {
			if e.RoomID != open {
				t.Errorf("%s of the other room is in the state", e.Type)
			}
		}
		bodies := bodies(t, a.rooms, open, alice)
		if slices.Contains(bodies, "secret") {
			t.Errorf("alice reads %q", bodies)
		}
	})
}

// What is in no timeline here, because it was refused, or is known only as a part of states
// or as an invite, no server gets that is not in the room (F34, F36).
func TestServingHidesWhatIsInNoTimeline(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("c", "carol")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		if err := a.rooms.Invite(t.Context(), roomID, roomserver.MemberChange{Sender: alice, Target: carol}); err != nil {
			t.Fatal(err)
		}
		net.deliver()
		empty := ""
		rejected := b.forge(roomID, bob, "m.room.topic", &empty, `{"topic":"x"}`)
		soft := b.forge(roomID, bob, "m.room.message", nil, `{"body":"x"}`)
		setState(t, a.rooms, roomID, alice, "m.room.power_levels", `{"events_default":50}`)
		a.get("b.test", roomID, rejected, soft)
		create, member := a.stateEvent(roomID, "m.room.create", ""), a.stateEvent(roomID, "m.room.member", carol)
		for _, row := range []struct {
			what   string
			at     *peer
			id     string
			status storage.Status
		}{
			{"rejected", a, rejected.ID, storage.Rejected}, {"failed softly", a, soft.ID, storage.SoftFailed},
			{"a part of the state", b, create, storage.Outlier}, {"an invite", c, member, storage.OutOfBand},
		} {
			if got := row.at.status(row.id); got != row.status {
				t.Fatalf("%s: status %d", row.what, got)
			}
			for _, server := range []string{"c.test", "d.test"} {
				row.at.refuses(server, roomID, row.id)
			}
		}
		c.refuses("a.test", roomID, member) // it is not in the room itself
		for _, e := range must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "b.test", roomID, []string{rejected.ID}, 100)) {
			if e.ID == rejected.ID {
				t.Error("a rejected event is given to a member")
			}
		}
	})
}

// stateEvent is the id of an event of a room's current state.
func (p *peer) stateEvent(roomID, eventType, stateKey string) string {
	p.net.t.Helper()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(p.net.t.Context(), roomID))
	return must[storage.StateEntry](p.net.t)(p.db.CurrentStateEvent(p.net.t.Context(), room.Number, eventType, stateKey)).ID
}

// refuses fails the test if the server gives another one anything about an event.
func (p *peer) refuses(server, roomID, eventID string) {
	p.net.t.Helper()
	ctx := p.net.t.Context()
	_, eventErr := p.serving.Event(ctx, server, eventID)
	_, stateErr := p.serving.StateBefore(ctx, server, roomID, eventID)
	_, authErr := p.serving.AuthChain(ctx, server, roomID, eventID)
	_, backfillErr := p.serving.Backfill(ctx, server, roomID, []string{eventID}, 10)
	_, missingErr := p.serving.MissingEvents(ctx, server, roomID, roomserver.MissingQuery{Latest: []string{eventID}, Limit: 10})
	for name, err := range map[string]error{"event": eventErr, "state": stateErr, "event_auth": authErr, "backfill": backfillErr, "get_missing_events": missingErr} {
		if !errors.Is(err, matrix.Forbidden) {
			p.net.t.Errorf("%s asks %s for %s: %v", server, p.name, name, err)
		}
	}
}

// Events that are refused, softly or not, and such as follow them, do not take its end from
// a room, and what is said afterwards arrives (F52).
func TestRefusedEventsLeaveTheRoomItsEnd(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		net.deliver()
		var soft []*matrix.Event
		for i := range 10 {
			soft = append(soft, b.forge(roomID, bob, "m.room.message", nil, fmt.Sprintf(`{"body":"soft %d"}`, i)))
		}
		setState(t, a.rooms, roomID, alice, "m.room.power_levels", `{"events_default":50}`)
		before := a.extremities(roomID)
		refused, byID := b.chain(roomID, bob, 20, before)
		slices.Reverse(refused)
		for _, id := range refused {
			a.get("b.test", roomID, byID[id])
		}
		for _, e := range soft {
			a.get("b.test", roomID, e)
			a.get("b.test", roomID, b.forge(roomID, bob, "m.room.message", nil, `{}`, e.ID, refused[len(refused)-1]))
		}
		if got := a.status(soft[9].ID); got != storage.SoftFailed {
			t.Fatalf("the last one has the status %d", got)
		}
		if diff := cmp.Diff(before, a.extremities(roomID)); diff != "" {
			t.Errorf("the end of the room (-before +after):\n%s", diff)
		}
		say(t, a.rooms, roomID, alice, "still here")
		net.deliver()
		net.agree(roomID, "a", "b")
		if got := bodies(t, b.rooms, roomID, bob); !slices.Contains(got, "still here") {
			t.Errorf("b has heard %q", got)
		}
	})
}

// A redaction of what is in another room has no effect, and nobody sees it.
func TestRedactionsReachNoOtherRoom(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		var rooms []string
		for range 2 {
			roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
			b.join(roomID, bob, "a")
			rooms = append(rooms, roomID)
		}
		net.deliver()
		said := say(t, b.rooms, rooms[0], bob, "said in one room")
		net.deliver()
		redaction := b.forgeRedaction(rooms[1], bob, said)
		a.get("b.test", rooms[1], redaction)
		a.get("b.test", rooms[1], b.forge(rooms[1], bob, "m.room.message", nil, `{"body":"said after it"}`, redaction.ID))
		if got := a.status(redaction.ID); got != storage.SoftFailed {
			t.Errorf("the redaction has the status %d", got)
		}
		for i, want := range []string{"said in one room", "said after it"} {
			if got := bodies(t, a.rooms, rooms[i], alice); !slices.Equal(got, []string{want}) {
				t.Errorf("room %d has %q", i, got)
			}
		}
	})
}

// forgeRedaction makes a redaction whatever it redacts, and tells nobody.
func (p *peer) forgeRedaction(roomID, sender, redacts string) *matrix.Event {
	p.net.t.Helper()
	e := p.forge(roomID, sender, "m.room.redaction", nil, `{}`)
	proto := &matrix.Proto{Version: e.Version, RoomID: roomID, Type: e.Type, Sender: sender, Redacts: redacts, Content: e.Content,
		OriginServerTS: e.OriginServerTS, Depth: e.Depth}
	for _, id := range e.PrevEvents() {
		proto.PrevEvents = append(proto.PrevEvents, matrix.Reference{ID: id})
	}
	for _, id := range e.AuthEvents() {
		proto.AuthEvents = append(proto.AuthEvents, matrix.Reference{ID: id})
	}
	return must[*matrix.Event](p.net.t)(p.signer.Build(proto))
}

// An event whose authorising events are not all to be had is not taken in, nor is anything
// that hangs on it: nobody is given an auth chain with a hole (F51).
func TestHolesInAuthChains(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		net.deliver()
		member := func(name string, auth ...string) *matrix.Event {
			return b.cite(b.forge(roomID, bob, "m.room.member", &bob, fmt.Sprintf(`{"membership":"join","displayname":%q}`, name)), bob, auth...)
		}
		first := member("first")
		second := member("second", first.ID)
		third := member("third", second.ID)
		message := b.cite(b.forge(roomID, bob, "m.room.message", nil, `{"body":"x"}`), bob, third.ID)
		given := []*matrix.Event{third, first}
		b.lies.auth = func(string) []*matrix.Event { return given }
		if err := a.get("b.test", roomID, message)[0]; err == nil {
			t.Error("an event is taken in that cites what is not known")
		}
		for _, id := range []string{message.ID, third.ID, second.ID, first.ID} {
			if got := a.status(id); got != -1 {
				t.Errorf("%s has the status %d", id, got)
			}
		}
		given = []*matrix.Event{third, second, first}
		if err := a.get("b.test", roomID, message)[0]; err != nil {
			t.Fatalf("with a whole auth chain: %v", err)
		}
		chain := must[[]*matrix.Event](t)(a.serving.Load(t.Context(), must[[]int64](t)(a.serving.AuthChain(t.Context(), "b.test", roomID, message.ID))))
		closed(t, chain, message)
		ids := []string{}
		for _, e := range chain {
			ids = append(ids, e.ID)
		}
		for _, e := range []*matrix.Event{first, second, third} {
			if !slices.Contains(ids, e.ID) {
				t.Errorf("the chain lacks %s", e.Content)
			}
		}
	})
}

// cite is an event that cites others in the place of its sender's membership.
func (p *peer) cite(e *matrix.Event, sender string, auth ...string) *matrix.Event {
	p.net.t.Helper()
	if len(auth) == 0 {
		return e
	}
	member := p.stateEvent(e.RoomID, "m.room.member", sender)
	proto := &matrix.Proto{Version: e.Version, RoomID: e.RoomID, Type: e.Type, StateKey: e.StateKey, Sender: e.Sender,
		Content: e.Content, OriginServerTS: e.OriginServerTS, Depth: e.Depth}
	for _, id := range e.PrevEvents() {
		proto.PrevEvents = append(proto.PrevEvents, matrix.Reference{ID: id})
	}
	for _, id := range append(slices.DeleteFunc(e.AuthEvents(), func(id string) bool { return id == member }), auth...) {
		proto.AuthEvents = append(proto.AuthEvents, matrix.Reference{ID: id})
	}
	return must[*matrix.Event](p.net.t)(p.signer.Build(proto))
}

// A state of which the other server keeps something back counts for nothing, as nobody knows
// what a part of a state is like (F51).
func TestHolesInStates(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		net.deliver()
		lost := b.forge(roomID, bob, "m.room.message", nil, `{"body":"lost"}`)
		kept := b.forge(roomID, bob, "m.room.message", nil, `{"body":"kept"}`, lost.ID)
		last := b.forge(roomID, bob, "m.room.message", nil, `{"body":"last"}`, kept.ID)
		b.lies.missing = func([]string) []*matrix.Event { return []*matrix.Event{kept} }
		state, auth := b.stateIDsOf(roomID)
		create := b.stateEvent(roomID, "m.room.create", "")
		for name, given := range map[string][]string{
			"an event that nobody has": append(slices.Clone(state), "$nobodyhasthisevent"),
			"nothing":                  {},
			"all but the create event": slices.DeleteFunc(slices.Clone(state), func(id string) bool { return id == create }),
		} {
			b.lies.stateIDs = func(string) ([]string, []string) { return given, auth }
			if err := a.get("b.test", roomID, last)[0]; err == nil || a.status(last.ID) != -1 || a.status(kept.ID) != -1 {
				t.Errorf("%s: %v; the events have the status %d and %d", name, err, a.status(kept.ID), a.status(last.ID))
			}
		}
		b.lies.stateIDs = func(string) ([]string, []string) { return state, auth }
		if err := a.get("b.test", roomID, last)[0]; err != nil || a.status(last.ID) != storage.Accepted {
			t.Errorf("with the whole state: %v", err)
		}
		net.agree(roomID, "a", "b")
	})
}

// The id of a room of version 12 names no server, and nobody takes it for a name: the server
// of whoever invited the user is asked, or none (F55i).
func TestRoomIDsWithoutServer(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("b", "carol")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Version: "12", Invite: []string{carol}})
		net.deliver()
		stranger := roomserver.MemberChange{Sender: bob}
		for name, do := range map[string]func() error{
			"join":                          func() error { return b.rooms.Join(t.Context(), "!stranger", stranger) },
			"knock":                         func() error { return b.rooms.Knock(t.Context(), "!stranger", stranger) },
			"leave":                         func() error { return b.rooms.Leave(t.Context(), "!stranger", stranger) },
			"join where another is invited": func() error { return b.rooms.Join(t.Context(), roomID, stranger) },
			"join via nobody": func() error {
				return b.rooms.Join(t.Context(), "!stranger", roomserver.MemberChange{Sender: bob, Via: []string{"", "!stranger", "stranger/", "b.test"}})
			},
		} {
			net.dialed = nil
			if err := do(); !errors.Is(err, matrix.NotFound) && !errors.Is(err, matrix.Forbidden) || len(net.dialed) > 0 {
				t.Errorf("%s: %v; asked are %q", name, err, net.dialed)
			}
		}
		net.dialed = nil
		if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: carol}); err != nil {
			t.Fatal(err)
		}
		if len(net.dialed) == 0 || slices.ContainsFunc(net.dialed, func(server string) bool { return server != "a.test" }) {
			t.Errorf("to decline an invite %v were asked", net.dialed)
		}
	})
}

// A server that does not answer holds up none of the others in its room; and when it answers
// after all, what it gives is taken in as if nothing had been (F52).
func TestHangingServerHoldsNobodyUp(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("c", "carol")
		a.rooms.SetTurnWait(time.Millisecond)
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		net.deliver()
		c.join(roomID, carol, "a")
		net.deliver()
		// Both have events that follow on what a does not know.
		missing := []*matrix.Event{b.forge(roomID, bob, "m.room.message", nil, `{"body":"missing 0"}`)}
		for i := 1; i < 5; i++ {
			missing = append(missing, b.forge(roomID, bob, "m.room.message", nil, fmt.Sprintf(`{"body":"missing %d"}`, i), missing[i-1].ID))
		}
		member := b.forge(roomID, bob, "m.room.member", &bob, `{"membership":"join","displayname":"B"}`, missing[4].ID)
		missing = append(missing, member)
		ofB := b.forge(roomID, bob, "m.room.message", nil, `{"body":"of b"}`, member.ID)
		ofC := c.forge(roomID, carol, "m.room.message", nil, `{"body":"of c"}`, member.ID)
		asked, release := make(chan bool), make(chan bool)
		b.lies.missing = func([]string) []*matrix.Event {
			asked <- true
			<-release
			return missing
		}
		c.lies.missing = func([]string) []*matrix.Event { return missing }
		done := make(chan error)
		go func() {
			refused, err := a.rooms.Receive(t.Context(), "b.test", roomID, jsonOf([]*matrix.Event{ofB}))
			done <- errors.Join(append(refused, err)...)
		}()
		<-asked
		if err := a.get("c.test", roomID, ofC)[0]; err != nil {
			t.Errorf("while b hangs: %v", err)
		}
		say(t, a.rooms, roomID, alice, "of a")
		close(release)
		if err := <-done; err != nil {
			t.Errorf("when b answers: %v", err)
		}
		want := []string{"missing 0", "missing 1", "missing 2", "missing 3", "missing 4", "of c", "of a", "of b"}
		if diff := cmp.Diff(want, bodies(t, a.rooms, roomID, alice)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		net.deliver()
		say(t, a.rooms, roomID, alice, "after that")
		if n := len(a.extremities(roomID)); n != 1 {
			t.Errorf("the room has %d ends", n)
		}
	})
}

// Two who read the same gap at the same time find the same, in the same order.
func TestReadersFillAGapAtOnce(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob, carol := userOf("a", "alice"), userOf("b", "bob"), userOf("b", "carol")
		b.rooms.SetTurnWait(time.Millisecond)
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		var want []string
		for i := range 60 {
			want = append(want, fmt.Sprint(i))
			say(t, a.rooms, roomID, alice, want[i])
		}
		b.join(roomID, bob, "a")
		net.deliver()
		b.join(roomID, carol, "a")
		var readers sync.WaitGroup
		for _, user := range []string{bob, carol, bob, carol} {
			readers.Go(func() {
				if diff := cmp.Diff(want, bodies(t, b.rooms, roomID, user)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", user, diff)
				}
			})
		}
		readers.Wait()
	})
}

// A server that does not answer is asked for older events once, and not for every page, though
// most of the room's members are its own (F52).
func TestReadersAskFailingServersLast(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		var want []string
		for i := range 40 {
			want = append(want, fmt.Sprint(i))
			say(t, a.rooms, roomID, alice, want[i])
		}
		for _, user := range []string{"alice", "bob", "carol"} {
			c.join(roomID, userOf("c", user), "a")
			net.deliver()
		}
		b.join(roomID, bob, "a")
		net.deliver()
		c.down, net.dialed = true, nil
		if diff := cmp.Diff(want, bodies(t, b.rooms, roomID, bob)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		asked := map[string]int{}
		for _, server := range net.dialed {
			asked[server]++
		}
		if asked["c.test"] != 1 || asked["a.test"] < 3 {
			t.Errorf("asked: %v", asked)
		}
	})
}
