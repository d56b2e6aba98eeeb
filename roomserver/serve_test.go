package roomserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"beep/matrix"
	"beep/roomserver"
	"beep/storage"
)

// said are the texts of the messages among events; "" for one that is redacted.
func said(events []*matrix.Event) []string {
	texts := []string{}
	for _, e := range events {
		if e.Type == "m.room.message" {
			texts = append(texts, e.ContentString("body"))
		}
	}
	return texts
}

// forge makes an event in the name of a user of the server, whether the room allows it
// or not. It follows the given events, or the room's latest if there are none.
func (p *peer) forge(roomID, sender, eventType string, stateKey *string, content string, previous ...string) *matrix.Event {
	p.net.t.Helper()
	ctx := p.net.t.Context()
	room := must[storage.Room](p.net.t)(p.db.RoomByID(ctx, roomID))
	if len(previous) == 0 {
		previous = room.Extremities
	}
	proto := &matrix.Proto{Version: room.Version, RoomID: roomID, Type: eventType, StateKey: stateKey, Sender: sender,
		Content: []byte(content), OriginServerTS: 1e12, Depth: room.Depth + 1}
	for _, id := range previous {
		proto.PrevEvents = append(proto.PrevEvents, matrix.Reference{ID: id})
	}
	for _, name := range [][2]string{{"m.room.create", ""}, {"m.room.power_levels", ""}, {"m.room.member", sender}} {
		if name[0] == "m.room.create" && room.Version.CreateWithoutRoom() {
			continue
		}
		e, err := p.db.CurrentStateEvent(ctx, room.Number, name[0], name[1])
		if err != nil {
			p.net.t.Fatal(err)
		}
		proto.AuthEvents = append(proto.AuthEvents, e.Reference())
	}
	return must[*matrix.Event](p.net.t)(p.signer.Build(proto))
}

// get hands events to the server as if the origin had sent them; it gives what became of each.
func (p *peer) get(origin, roomID string, events ...*matrix.Event) []error {
	p.net.t.Helper()
	return must[[]error](p.net.t)(p.rooms.Receive(p.net.t.Context(), origin, roomID, jsonOf(events)))
}

// status is that of an event; -1 if it is not known.
func (p *peer) status(eventID string) storage.Status {
	p.net.t.Helper()
	known := must[map[string]storage.KnownEvent](p.net.t)(p.db.KnownEvents(p.net.t.Context(), []string{eventID}))
	if e, found := known[eventID]; found {
		return e.Status
	}
	return -1
}

func (p *peer) extremities(roomID string) []string {
	p.net.t.Helper()
	return must[storage.Room](p.net.t)(p.db.RoomByID(p.net.t.Context(), roomID)).Extremities
}

// Servers that are not in a room learn nothing of it, nor do such as have left, and rooms
// that are not known look the same (F34, F35, F55d).
func TestServingRefusesOutsiders(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		c.join(roomID, userOf("c", "carol"), "a")
		net.deliver()
		if err := c.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: userOf("c", "carol")}); err != nil {
			t.Fatal(err)
		}
		net.deliver()
		message := say(t, a.rooms, roomID, userOf("a", "alice"), "secret")
		ask := func(server, roomID string) map[string]error {
			_, eventErr := a.serving.Event(t.Context(), server, message)
			_, stateErr := a.serving.StateBefore(t.Context(), server, roomID, message)
			_, authErr := a.serving.AuthChain(t.Context(), server, roomID, message)
			_, backfillErr := a.serving.Backfill(t.Context(), server, roomID, []string{message}, 10)
			_, missingErr := a.serving.MissingEvents(t.Context(), server, roomID, roomserver.MissingQuery{Latest: []string{message}, Limit: 10})
			_, timeErr := a.serving.EventAt(t.Context(), server, roomID, 0, true)
			return map[string]error{"event": eventErr, "state": stateErr, "event_auth": authErr, "backfill": backfillErr,
				"get_missing_events": missingErr, "timestamp_to_event": timeErr}
		}
		for name, err := range ask("b.test", roomID) {
			if err != nil {
				t.Errorf("%s to a member: %v", name, err)
			}
		}
		for _, server := range []string{"c.test", "never.test", "B.test", "b.test:8448"} {
			for name, err := range ask(server, roomID) {
				if !errors.Is(err, matrix.Forbidden) {
					t.Errorf("%s to %s: %v", name, server, err)
				}
			}
		}
		for name, err := range ask("b.test", "!unknown:a.test") {
			if name != "event" && !errors.Is(err, matrix.Forbidden) {
				t.Errorf("%s of an unknown room: %v", name, err)
			}
		}
	})
}

// The room's access control list shuts a server out of everything, though its users are
// still members (F21, F41, F42).
func TestServingHonoursServerACL(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		message := say(t, a.rooms, roomID, userOf("a", "alice"), "x")
		for _, step := range []struct {
			content string
			denied  bool
		}{
			{`{"allow":["*"],"deny":["B.TEST"]}`, true}, {`{"allow":["*"],"deny":["c.test"]}`, false}, {`{"allow":["a.test"]}`, true},
		} {
			setState(t, a.rooms, roomID, userOf("a", "alice"), "m.room.server_acl", step.content)
			_, err := a.serving.Event(t.Context(), "b.test", message)
			if step.denied != errors.Is(err, matrix.Forbidden) || !step.denied && err != nil {
				t.Errorf("%s: %v", step.content, err)
			}
			rooms := must[map[string]*roomserver.ServedRoom](t)(a.serving.Rooms(t.Context(), "b.test:8448", []string{roomID, "!other:a.test", "\x00"}))
			if len(rooms) != 1 || rooms[roomID].Denied != step.denied {
				t.Errorf("%s: rooms %v", step.content, rooms)
			}
			if err := a.serving.Admit(t.Context(), "b.test", roomID); step.denied != errors.Is(err, matrix.Forbidden) {
				t.Errorf("%s: admit %v", step.content, err)
			}
		}
	})
}

// What a server may see of a room's history depends on what the visibility was at each
// event; the rest it gets redacted, in its place (F34).
func TestServingHistoryVisibility(t *testing.T) {
	for _, test := range []struct {
		visibility string
		want       []string
	}{
		{"shared", []string{"before", "invited", "joined"}},
		{"world_readable", []string{"before", "invited", "joined"}},
		{"invited", []string{"", "invited", "joined"}},
		{"joined", []string{"", "", "joined"}},
	} {
		t.Run(test.visibility, func(t *testing.T) { visibilityServed(t, test.visibility, test.want) })
	}
}

func visibilityServed(t *testing.T, visibility string, want []string) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "private_chat", InitialState: []roomserver.StateDraft{
			{Type: "m.room.history_visibility", Content: json.RawMessage(`{"history_visibility":"` + visibility + `"}`)}}})
		ids := []string{say(t, a.rooms, roomID, alice, "before")}
		if err := a.rooms.Invite(t.Context(), roomID, roomserver.MemberChange{Sender: alice, Target: bob}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, say(t, a.rooms, roomID, alice, "invited"))
		net.deliver()
		b.join(roomID, bob, "a")
		ids = append(ids, say(t, a.rooms, roomID, alice, "joined"))
		back := must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "b.test", roomID, []string{ids[2]}, 50))
		got := said(back)
		slices.Reverse(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("backfill (-want +got):\n%s", diff)
		}
		last := say(t, a.rooms, roomID, alice, "last")
		missing := must[[]*matrix.Event](t)(a.serving.MissingEvents(t.Context(), "b.test", roomID, roomserver.MissingQuery{Latest: []string{last}, Limit: 50}))
		if diff := cmp.Diff(want, said(missing)); diff != "" {
			t.Errorf("missing events (-want +got):\n%s", diff)
		}
		for i, id := range ids {
			e := must[*matrix.Event](t)(a.serving.Event(t.Context(), "b.test", id))
			if e.ID != id || e.ContentString("body") != want[i] {
				t.Errorf("event %d is %s %s", i, e.ID, e.Content)
			}
		}
		// What comes before the invite is told to nobody, not even when.
		e, err := a.serving.EventAt(t.Context(), "b.test", roomID, 0, true)
		if err != nil || e.Type == "m.room.message" {
			t.Errorf("first event: %v, %v", e, err)
		}
	})
}

// A server that comes back sees nothing that was said while it was away.
func TestServingAfterAbsence(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", InitialState: []roomserver.StateDraft{
			{Type: "m.room.history_visibility", Content: json.RawMessage(`{"history_visibility":"joined"}`)}}})
		for _, present := range []bool{true, false, true} {
			if present {
				b.join(roomID, bob, "a")
			} else if err := b.rooms.Leave(t.Context(), roomID, roomserver.MemberChange{Sender: bob}); err != nil {
				t.Fatal(err)
			}
			net.deliver()
			say(t, a.rooms, roomID, alice, fmt.Sprint(present))
			net.deliver()
		}
		got := said(must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "b.test", roomID, a.extremities(roomID), 50)))
		if diff := cmp.Diff([]string{"true", "", "true"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// Whatever a server asks for, what a user wrote who asked to be forgotten is not in it.
func TestServingErased(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, eve := userOf("a", "alice"), userOf("a", "eve")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		if err := a.rooms.Join(t.Context(), roomID, roomserver.MemberChange{Sender: eve}); err != nil {
			t.Fatal(err)
		}
		personal := say(t, a.rooms, roomID, eve, "personal")
		last := say(t, a.rooms, roomID, alice, "hello")
		err := a.db.Write(t.Context(), func(tx *storage.Tx) error {
			return errors.Join(tx.InsertUser(t.Context(), &storage.Credentials{User: storage.User{ID: eve}}), tx.DeactivateUser(t.Context(), eve, true))
		})
		if err != nil {
			t.Fatal(err)
		}
		got := said(must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "b.test", roomID, []string{last}, 50)))
		if diff := cmp.Diff([]string{"hello", ""}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if e := must[*matrix.Event](t)(a.serving.Event(t.Context(), "b.test", personal)); e.ID != personal || e.ContentString("body") != "" {
			t.Errorf("%s %s", e.ID, e.Content)
		}
	})
}

// Rejected and soft-failed events are not given to anybody, and neither are outliers as
// part of the timeline; but they do not end the way back (F36, F37).
func TestServingPassesRefusedEvents(t *testing.T) {
	eachNetwork(t, 3, func(t *testing.T, net *network) {
		a, b, c := net.at("a"), net.at("b"), net.at("c")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, bob, "a")
		c.join(roomID, userOf("c", "carol"), "a")
		net.deliver()
		say(t, a.rooms, roomID, alice, "before")
		net.deliver()
		last := a.extremities(roomID)
		var refused []string
		empty := ""
		for i := range 250 {
			e := b.forge(roomID, bob, "m.room.topic", &empty, fmt.Sprintf(`{"topic":"%d"}`, i), last...)
			a.get("b.test", roomID, e)
			if got := a.status(e.ID); got != storage.Rejected {
				t.Fatalf("event %d has the status %d", i, got)
			}
			refused, last = append(refused, e.ID), []string{e.ID}
		}
		after := b.forge(roomID, bob, "m.room.message", nil, `{"body":"after"}`, last...)
		if err := a.get("b.test", roomID, after)[0]; err != nil {
			t.Fatal(err)
		}
		back := must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "c.test", roomID, []string{after.ID}, 2))
		if diff := cmp.Diff([]string{"after", "before"}, said(back)); diff != "" {
			t.Errorf("backfill (-want +got):\n%s", diff)
		}
		missing := must[[]*matrix.Event](t)(a.serving.MissingEvents(t.Context(), "c.test", roomID, roomserver.MissingQuery{Latest: []string{after.ID}, Limit: 1}))
		if diff := cmp.Diff([]string{"before"}, said(missing)); diff != "" {
			t.Errorf("missing events (-want +got):\n%s", diff)
		}
		for _, id := range []string{refused[0], "$unknown"} {
			_, eventErr := a.serving.Event(t.Context(), "c.test", id)
			_, stateErr := a.serving.StateBefore(t.Context(), "c.test", roomID, id)
			_, authErr := a.serving.AuthChain(t.Context(), "c.test", roomID, id)
			for name, err := range map[string]error{"event": eventErr, "state": stateErr, "event_auth": authErr} {
				if !errors.Is(err, matrix.NotFound) {
					t.Errorf("%s of %s: %v", name, id, err)
				}
			}
		}
	})
}

// A member of one room reads no other through it (F55b, F55c).
func TestServingStaysInTheRoom(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice := userOf("a", "alice")
		open := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		secret := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "private_chat"})
		b.join(open, userOf("b", "bob"), "a")
		net.deliver()
		first := say(t, a.rooms, open, alice, "open")
		say(t, a.rooms, secret, alice, "secret")
		hidden := say(t, a.rooms, secret, alice, "more")
		last := say(t, a.rooms, open, alice, "last")
		for name, q := range map[string]roomserver.MissingQuery{
			"alone":   {Latest: []string{hidden}},
			"beside":  {Latest: []string{hidden, last}},
			"as stop": {Latest: []string{last}, Earliest: []string{hidden}},
		} {
			q.Limit = 1
			events := must[[]*matrix.Event](t)(a.serving.MissingEvents(t.Context(), "b.test", open, q))
			want := []string{"open"}
			if name == "alone" {
				want = []string{}
			}
			if diff := cmp.Diff(want, said(events)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		// An event of the room that says it follows one of another room.
		liar := b.forge(open, userOf("b", "bob"), "m.room.message", nil, `{"body":"liar"}`, hidden, first)
		if _, err := a.rooms.Receive(t.Context(), "b.test", open, jsonOf([]*matrix.Event{liar})); err != nil {
			t.Log(err) // whatever becomes of it
		}
		for _, from := range [][]string{{hidden}, {liar.ID}} {
			for _, e := range must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "b.test", open, from, 100)) {
				if e.RoomID != open {
					t.Errorf("from %v: %s of the other room", from, e.ID)
				}
			}
		}
		_, stateErr := a.serving.StateBefore(t.Context(), "b.test", open, hidden)
		_, authErr := a.serving.AuthChain(t.Context(), "b.test", open, hidden)
		_, unknownErr := a.serving.AuthChain(t.Context(), "b.test", open, "$unknown")
		if !errors.Is(stateErr, matrix.NotFound) || authErr == nil || authErr.Error() != unknownErr.Error() {
			t.Errorf("state: %v; event_auth: %v, of an unknown event: %v", stateErr, authErr, unknownErr)
		}
	})
}

// The state before an event comes with all that authorises it, in every room version.
func TestServingState(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice, bob := userOf("a", "alice"), userOf("b", "bob")
		for _, v := range matrix.RoomVersions() {
			t.Run(string(v), func(t *testing.T) {
				net.t = t
				roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat", Version: v, Name: "old"})
				b.join(roomID, bob, "a")
				net.deliver()
				message := say(t, a.rooms, roomID, alice, "x")
				setState(t, a.rooms, roomID, alice, "m.room.name", `{"name":"new"}`)
				before := must[*roomserver.StateBefore](t)(a.serving.StateBefore(t.Context(), "b.test", roomID, message))
				state := must[[]*matrix.Event](t)(a.serving.Load(t.Context(), before.State))
				found := map[string]bool{}
				for _, e := range state {
					found[e.Type+"|"+*e.StateKey+"|"+e.ContentString("name")] = true
				}
				for _, name := range []string{"m.room.name||old", "m.room.create||", "m.room.power_levels||", "m.room.member|" + alice + "|", "m.room.member|" + bob + "|"} {
					if !found[name] {
						t.Errorf("the state has no %s: %v", name, found)
					}
				}
				chain := must[[]*matrix.Event](t)(a.serving.Load(t.Context(), before.AuthChain))
				closed(t, append(slices.Clone(chain), state...), nil)
				auth := must[[]int64](t)(a.serving.AuthChain(t.Context(), "b.test", roomID, message))
				e := must[*matrix.Event](t)(a.serving.Event(t.Context(), "b.test", message))
				closed(t, must[[]*matrix.Event](t)(a.serving.Load(t.Context(), auth)), e)
				ids := must[[]string](t)(a.serving.IDs(t.Context(), before.State))
				if len(ids) != len(state) || !slices.Contains(ids, state[0].ID) {
					t.Errorf("ids %v", ids)
				}
				for _, id := range ids { // what /state_ids tells can be asked for
					if _, err := a.serving.Event(t.Context(), "b.test", id); err != nil {
						t.Errorf("%s of the state: %v", id, err)
					}
				}
				b.outliersServed(roomID)
			})
		}
	})
}

// closed fails the test unless the events that authorise some events, and one more, are
// among them.
func closed(t *testing.T, events []*matrix.Event, of *matrix.Event) {
	t.Helper()
	known, create := map[string]bool{}, false
	for _, e := range events {
		known[e.ID] = true
		create = create || e.IsState("m.room.create", "")
	}
	if of != nil {
		events = append(slices.Clone(events), of)
	}
	for _, e := range events {
		for _, id := range e.AuthEvents() {
			if !known[id] {
				t.Errorf("%s cites %s, which is not there", e.Type, id)
			}
		}
	}
	if !create {
		t.Error("there is no create event")
	}
}

// outliersServed looks whether a server that has joined by way of another one gives the
// state that it got there.
func (p *peer) outliersServed(roomID string) {
	p.net.t.Helper()
	ctx := p.net.t.Context()
	before := must[*roomserver.StateBefore](p.net.t)(p.serving.StateBefore(ctx, "a.test", roomID, p.extremities(roomID)[0]))
	for _, id := range must[[]string](p.net.t)(p.serving.IDs(ctx, before.State)) {
		if _, err := p.serving.Event(ctx, "a.test", id); err != nil {
			p.net.t.Errorf("%s of the state at %s: %v", id, p.name, err)
		}
	}
}

// The nearest event of the timeline is found in both directions.
func TestServingEventAt(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: userOf("a", "alice"), Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		ids := map[int64]string{}
		for _, ts := range []int64{3e15, 1e15, 2e15} {
			ids[ts] = must[string](t)(a.rooms.Send(t.Context(), roomID, roomserver.Draft{Type: "m.room.message", Sender: userOf("a", "alice"), Content: text("x"), OriginServerTS: ts}))
		}
		for _, test := range []struct {
			ts      int64
			forward bool
			want    int64
		}{{1e15, true, 1e15}, {1e15 + 1, true, 2e15}, {2e15, false, 2e15}, {3e15 - 1, false, 2e15}, {9e15, false, 3e15}} {
			e, err := a.serving.EventAt(t.Context(), "b.test", roomID, test.ts, test.forward)
			if err != nil || e.ID != ids[test.want] {
				t.Errorf("%+v: %v, %v", test, e, err)
			}
		}
		for ts, forward := range map[int64]bool{3e15 + 1: true, 0: false} {
			if _, err := a.serving.EventAt(t.Context(), "b.test", roomID, ts, forward); !errors.Is(err, matrix.NotFound) {
				t.Errorf("from %d: %v", ts, err)
			}
		}
	})
}

// A walk has a limit, ends where it is told to, and needs few queries for many events.
func TestServingWalkLimits(t *testing.T) {
	eachNetwork(t, 2, func(t *testing.T, net *network) {
		a, b := net.at("a"), net.at("b")
		alice := userOf("a", "alice")
		roomID := create(t, a.rooms, roomserver.RoomDraft{Creator: alice, Preset: "public_chat"})
		b.join(roomID, userOf("b", "bob"), "a")
		net.deliver()
		var ids, texts []string
		for i := range 130 {
			texts = append(texts, fmt.Sprint(i))
			ids = append(ids, say(t, a.rooms, roomID, alice, texts[i]))
		}
		back := said(must[[]*matrix.Event](t)(a.serving.Backfill(t.Context(), "b.test", roomID, ids[129:], 1000)))
		slices.Reverse(back)
		if diff := cmp.Diff(texts[30:], back); diff != "" {
			t.Errorf("backfill (-want +got):\n%s", diff)
		}
		missing := func(q roomserver.MissingQuery) []string {
			return said(must[[]*matrix.Event](t)(a.serving.MissingEvents(t.Context(), "b.test", roomID, q)))
		}
		if diff := cmp.Diff(texts[79:129], missing(roomserver.MissingQuery{Latest: ids[129:], Limit: 1000})); diff != "" {
			t.Errorf("missing events (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(texts[101:110], missing(roomserver.MissingQuery{Latest: ids[110:111], Earliest: ids[100:101], Limit: 50})); diff != "" {
			t.Errorf("missing events up to one (-want +got):\n%s", diff)
		}
		depth := must[*matrix.Event](t)(a.serving.Event(t.Context(), "b.test", ids[105])).Depth
		if diff := cmp.Diff(texts[105:110], missing(roomserver.MissingQuery{Latest: ids[110:111], MinDepth: depth, Limit: 50})); diff != "" {
			t.Errorf("missing events down to a depth (-want +got):\n%s", diff)
		}
		if got := missing(roomserver.MissingQuery{Latest: []string{"$unknown", "\x00", ""}, Limit: 50}); len(got) != 0 {
			t.Errorf("before what is not known: %v", got)
		}
		for _, limit := range []int{0, -1} {
			if _, err := a.serving.Backfill(t.Context(), "b.test", roomID, ids, limit); !errors.Is(err, matrix.InvalidParam) {
				t.Errorf("backfill of %d: %v", limit, err)
			}
		}
		if _, err := a.serving.Backfill(t.Context(), "b.test", roomID, slices.Repeat(ids, 5), 10); !errors.Is(err, matrix.InvalidParam) {
			t.Errorf("backfill from %d events: %v", 5*len(ids), err)
		}
	})
}
